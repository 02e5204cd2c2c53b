"""Whatever its kind, a run whose worker is killed with -9 is resumed to the bits of one that nobody disturbed."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from benchmarks.every_kind import Workplace
from benchmarks.fingerprints import Fingerprint, differences, fingerprint
from mrd_core.runs import Run, RunState, RunStore
from mrd_core.runs.kind import kinds
from tests.support.kills import killed_at, moments_of
from tests.support.marks import few_in_the_gate
from tests.support.runs import settings_in
from tests.support.scored_demo import copied
from tests.support.unlearning_runs import scored_tiny

pytestmark = pytest.mark.slow

# Of a run in one process; what is shared out to several has tests of its own.
ALONE = {"estimator": {"draws": 8, "stop": "never", "workers": 1, "sigma": 1e-3, "time_floor": True}}
FEW_UPDATES = {"learning_rate": 2e-3, "max_updates": 4}
LESS: dict[str, dict[str, Any]] = {
    "score": ALONE,
    "unlearn": {"limits": {"max_steps": 8}, "checkpoint_steps": 3},
    "theorem": ALONE | {"probes": 4, "pairs": 4},
    "evaluate": {"max_new_tokens": 4},
    "sensitivity": {"samples": 4, "sigmas": (1e-4, 1e-3), "dtypes": ("float32",), "pairs": 2, "draws": 8},
    "validity": FEW_UPDATES,
    "parameter-change": FEW_UPDATES | {"composites": 4},
    "selection": FEW_UPDATES,
}
KILLS = {"score": 3}
# What a kind does otherwise under one of its settings, by a name of its own.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "preview": ("score", {"estimator": {"preview": True, "workers": 1}}),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A data root of its own, on the tiny model and its score run."""
    scored = scored_tiny(tmp_path_factory.getbasetemp())
    settings = settings_in(tmp_path_factory.mktemp("kills"))
    texts = {"forget": scored.forget, "retain": scored.retain, "held_out": scored.retain}
    # A reading lies in the directory of its score run.
    score_run = copied(scored.directory, settings.home / "scored")
    return Workplace(settings, RunStore.open(settings), score_run, texts, str(scored.model))


@pytest.fixture(scope="module")
def undisturbed(place: Workplace) -> Callable[[str], tuple[int, Fingerprint]]:
    """Return, for a variant, how many moments a run has to die at, and what it leaves behind."""

    @cache
    def made(variant: str) -> tuple[int, Fingerprint]:
        run = submitted(place, variant)
        moments = moments_of(run, place.settings)
        left = fingerprint(run, place.store)
        place.store.delete(run.id)
        return moments, left

    return made


def submitted(place: Workplace, variant: str) -> Run:
    """Submit a run of a kind with little to do, or of one of its variants."""
    kind, settings = VARIANTS.get(variant, (variant, LESS.get(variant, {})))
    return place.submitted(kind, **settings)


# Unlearning has a test of its own in the gate, and all experiments one job.
@pytest.mark.parametrize(
    "variant",
    few_in_the_gate([*kinds(), *VARIANTS], "score", "characteristics", "validity"),
)
def test_a_killed_run_is_resumed_to_the_very_same_bits(
    variant: str, place: Workplace, undisturbed: Callable[[str], tuple[int, Fingerprint]]
) -> None:
    moments, expected = undisturbed(variant)
    chance = random.Random(variant)
    for moment in chance.sample(range(moments), KILLS.get(variant, 1)):
        run = submitted(place, variant)
        killed_at(run, place.settings, moment)
        moments_of(place.store.resume(run.id), place.settings)
        assert place.store.get(run.id).state is RunState.SUCCEEDED
        assert differences(fingerprint(run, place.store), expected) == [], f"killed at {moment} of {moments}"
        place.store.delete(run.id)
