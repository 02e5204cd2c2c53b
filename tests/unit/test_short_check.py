"""The short check after a score run: its size, its cost, and that it is made whichever door the run came in by."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from mrd_core.demo import MODEL_DIR
from mrd_core.experiments import short_check
from mrd_core.experiments.kinds.validity import passes
from mrd_core.model.config import ModelConfig
from mrd_core.runs import ACTIVE, LocalLauncher, Run, RunState, RunStore, submit, worker
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.cost import START_UP_SECONDS, estimate
from mrd_core.settings.installation import Settings

PATIENCE_SECONDS = 120


@pytest.fixture
def settings(home: Path) -> Settings:  # noqa: ARG001  (it sets the environment)
    return Settings.from_environment()


@pytest.fixture
def config(tiny_model: Path, tiny_forget_set: Path) -> ScoreConfig:
    return ScoreConfig(
        forget_set=ForgetSetConfig(source=str(tiny_forget_set)),
        model=ModelConfig(source=str(tiny_model)),
        estimator=EstimatorConfig(sigma=1e-2, draws=8, workers=1),
        check=True,
    )


def checks(store: RunStore, run: Run) -> list[Run]:
    return list(store.list(kinds=("validity",), score_run=run))


def test_so_many_samples_tell_the_stated_correlation_from_none() -> None:
    width = (1.959964 + 0.841621) / math.atanh(short_check.TELLS_RHO)
    assert round(3 + width**2) == short_check.SAMPLES
    assert short_check.POWER == 0.8


def test_its_time_is_that_of_its_passes_at_the_pace_of_the_score_run(config: ScoreConfig) -> None:
    forget_set = read(config.forget_set)
    cost = estimate(forget_set, MODEL_DIR, config.estimator, [])
    assert cost.seconds_per_pass is not None
    one_sample = cost.seconds_per_pass / len(forget_set)
    expected = START_UP_SECONDS + passes(short_check.of(config), len(forget_set)) * one_sample
    assert short_check.seconds(config, cost, len(forget_set)) == pytest.approx(expected)
    unknown = estimate(forget_set, None, config.estimator, [])
    assert short_check.seconds(config, unknown, len(forget_set)) is None


@pytest.mark.parametrize("changes", [{"check": False}, {}])
def test_a_run_in_the_foreground_goes_on_with_the_check_that_was_asked_for(
    config: ScoreConfig, store: RunStore, settings: Settings, changes: dict[str, Any]
) -> None:
    run = submit(config.model_copy(update=changes), store=store, settings=settings)
    assert worker.run(run.directory, store=store, foreground=True) is RunState.SUCCEEDED
    made = checks(store, run)
    assert [check.state for check in made] == ([RunState.SUCCEEDED] if not changes else [])


def test_a_check_that_cannot_start_leaves_the_ranking_and_says_so(
    config: ScoreConfig, store: RunStore, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = submit(config, store=store, settings=settings)
    # The check's place is taken by a file.
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "taken"))
    assert worker.run(run.directory, store=store, foreground=True) is RunState.SUCCEEDED
    assert not checks(store, run)
    warnings = store.events(run.id).query("level == 'warning'")["message"]
    assert any(message.startswith("What was to follow could not start: ") for message in warnings)


@pytest.mark.slow
def test_a_run_in_the_background_starts_its_check_there(
    config: ScoreConfig, store: RunStore, settings: Settings
) -> None:
    run = submit(config, store=store, settings=settings, launcher=LocalLauncher(settings))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while store.get(run.id).state in ACTIVE or not checks(store, run) or checks(store, run)[0].state in ACTIVE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [check.state for check in checks(store, run)] == [RunState.SUCCEEDED]


def test_a_preview_has_nothing_that_could_be_checked(config: ScoreConfig) -> None:
    with pytest.raises(ValueError, match="a preview has no MRD that could be checked"):
        ScoreConfig.model_validate(config.model_dump() | {"estimator": EstimatorConfig(preview=True)})
