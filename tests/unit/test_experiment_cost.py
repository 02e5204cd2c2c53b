"""The cost of an experiment before the launch, held against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mrd_core.experiments.cost import ExperimentCost, estimate
from mrd_core.experiments.kinds import experiments
from mrd_core.runs import Run
from mrd_core.runs.directory import write_config
from mrd_core.scoring.cost import OPERATIONS_PER_SECOND_AND_CORE, START_UP_SECONDS
from mrd_core.scoring.records import ScoreSummary
from tests.unit.test_cost import past_run

# Ten samples of 40 tokens on a model of a thousand weights; with the planning, 50 evaluations in a second.
SCORED = {"tokens": 400, "model_parameters": 1000, "evaluations": 44, "seconds": 1.0, "device": "cpu"}
PER_SECOND = 50 * 10 / 1.0
KEPT = {"retain": {"source": "demo"}}
# An update is three forward passes, and there are about thirty of them.
UNLEARNING = 90
ALONE = 4
SMALL = {"methods": ("ga", "graddiff"), "samples": 4, "repeats": 2, "learning_rate": 1e-4} | KEPT
SMALL |= {"retain_samples": 0}
# And a pass forward and back of the four, and of 64 retain samples.
SMALL_PASSES = ALONE * (4 * UNLEARNING + 4 * 2 * 2 * UNLEARNING + 3 * (4 + 64))


def configured(name: str, **changes: Any) -> Any:
    settings = {"score_run": "run", "forget_set": {"source": "demo"}, "model": {"device": "cpu"}}
    return experiments()[name].config.model_validate(settings | changes)


def cost(
    name: str = "validity", *, past: Any = (), n: int = 10, scored: Any = None, **changes: Any
) -> ExperimentCost:
    return estimate(configured(name, **changes), ScoreSummary.model_validate(SCORED | (scored or {})), n, past)


@pytest.fixture
def earlier(tmp_path: Path) -> Run:
    """An experiment that took 100 seconds for 8,016 passes."""
    write_config(tmp_path, configured("validity", **SMALL))
    summary = {"seconds": 100.0, "n_samples": 10, "scored": {"model_parameters": 1000}}
    return replace(past_run(summary), kind="validity", id="before", directory=tmp_path)


def test_predictive_validity_as_worked_out_by_hand() -> None:
    found = cost(**SMALL)
    # Nothing is random about GA; GradDiff has a retain partner beside each sample, and two repeats.
    assert found.passes == SMALL_PASSES == 8016
    assert found.seconds == pytest.approx(START_UP_SECONDS + 8016 / PER_SECOND)
    assert "the pace of the score run" in found.basis


def test_a_large_model_has_little_overhead_in_passes_over_one_text() -> None:
    # A pass of the score run takes 0.4 s; alone as long as 1.5375 of them, where the passes count it as four.
    scored = {"seconds": 0.4 * 50 * 10}
    found = cost(**SMALL, scored=scored)
    assert found.passes == SMALL_PASSES
    assert found.seconds == pytest.approx(START_UP_SECONDS + SMALL_PASSES / ALONE * 0.4 * 1.5375)


def test_gradients_of_the_retain_set_and_looks_at_it_are_paid_for() -> None:
    kept = 12
    # Both sets pass forward and backward once; a sample is unlearned once by GA and twice by GradDiff.
    extra = 3 * (kept + 4) + 4 * (1 + 2) * kept
    assert cost(**SMALL | {"retain_samples": kept}).passes == SMALL_PASSES + extra
    assert (
        cost(**SMALL | {"retain_samples": kept, "methods": ("ga",), "retain": None}).passes
        == ALONE * 4 * UNLEARNING
    )


def test_a_learning_rate_that_is_searched_costs_three_tries_of_five_samples_each() -> None:
    found = cost(**SMALL | {"learning_rate": "auto"})
    assert found.passes == SMALL_PASSES + ALONE * 3 * 5 * (UNLEARNING + 2 * UNLEARNING)


def test_parameter_change_as_worked_out_by_hand() -> None:
    sizes: dict[str, Any] = {"composites": 5, "size": 3}
    assert cost("parameter-change", **sizes, learning_rate=1e-4).passes == 5 * 3 * UNLEARNING
    assert cost("parameter-change", **sizes).passes == (5 + 3 * 2) * 3 * UNLEARNING


def test_selection_as_worked_out_by_hand() -> None:
    sizes: dict[str, Any] = {"selections": 2, "size": 3, "learning_rate": 1e-4}
    # Two selections of each of two schemes, alone and in groups of three.
    by_each = UNLEARNING * (4 * ALONE + 4 * 3)
    assert cost("selection", **sizes).passes == 2 * by_each
    # With a retain set SimNPO has partners, and 200 samples of it are looked at after each unlearning.
    assert cost("selection", **sizes, **KEPT).passes == 3 * by_each + 2 * 8 * 200
    # No group is of more than half of the samples.
    assert cost("selection", **sizes | {"size": 9}).passes == cost("selection", **sizes | {"size": 5}).passes


def test_sensitivity_and_theorem_as_worked_out_by_hand() -> None:
    sizes = {"samples": 4, "sigmas": (1e-4, 1e-3, 1e-2), "dtypes": ("float32",), "pairs": 2, "draws": 8}
    assert cost("sensitivity", **sizes).passes == 4 * (3 * 2 * 2 + 2 * 3 + 2 * 8)
    # A product with the Hessian is 32 passes of a score run, a pair in double precision four.
    assert cost("theorem", samples=4, probes=8, pairs=5).passes == 4 * (32 * 8 + 4 * 5)


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("validity", {"samples": 4}, {"samples": 5}),
        ("validity", {"methods": ("ga",)}, {"methods": ("ga", "wga")}),
        ("validity", {"methods": ("wga",)}, {"methods": ("wga",), "optimisers": ("adamw", "sgd")}),
        ("validity", KEPT | {"methods": ("npo",), "repeats": 1}, KEPT | {"methods": ("npo",), "repeats": 2}),
        ("validity", {"methods": ("wga",)}, KEPT | {"methods": ("wga",)}),
        ("parameter-change", {"composites": 4}, {"composites": 5}),
        ("parameter-change", {"size": 4}, {"size": 5}),
        ("parameter-change", {}, {"optimisers": ("adamw", "sgd")}),
        ("selection", {"selections": 2}, {"selections": 3}),
        ("selection", {"size": 3}, {"size": 4}),
        ("selection", {}, {"methods": ("ga", "wga", "simnpo")}),
        ("sensitivity", {"samples": 4}, {"samples": 5}),
        ("sensitivity", {"sigmas": (1e-4, 1e-3)}, {"sigmas": (1e-4, 1e-3, 1e-2)}),
        ("sensitivity", {"dtypes": ("float32",)}, {}),
        ("sensitivity", {"pairs": 2}, {"pairs": 3}),
        ("sensitivity", {"draws": 8}, {"draws": 10}),
        ("theorem", {"samples": 4}, {"samples": 5}),
        ("theorem", {"probes": 4}, {"probes": 5}),
        ("theorem", {"pairs": 4}, {"pairs": 5}),
    ],
)
def test_more_of_anything_takes_longer(name: str, less: dict[str, Any], more: dict[str, Any]) -> None:
    few, many = cost(name, **less), cost(name, **more)
    assert few.passes < many.passes
    assert few.seconds < many.seconds


@pytest.mark.parametrize("name", ["validity", "sensitivity", "theorem"])
def test_no_more_samples_are_studied_than_there_are(name: str) -> None:
    assert cost(name, samples=10).passes == cost(name, samples=60).passes < cost(name, samples=60, n=11).passes


def test_repeats_cost_nothing_where_nothing_is_random() -> None:
    assert cost(methods=("ga",), repeats=9).passes == cost(methods=("ga",), repeats=1).passes


def test_an_experiment_of_the_same_kind_gives_the_pace(earlier: Run) -> None:
    found = cost(past=iter([earlier, replace(earlier, id="older")]), **SMALL | {"samples": 8})
    # Twice the samples, and the retain samples once.
    assert found.seconds == pytest.approx(START_UP_SECONDS + (2 - ALONE * 3 * 64 / SMALL_PASSES) * 100.0)
    assert found.basis == "the pace of run before"


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("another kind", {"kind": "parameter-change"}),
        ("another device", {"device": "cuda:0"}),
        ("another size of model", {"summary": {"scored": {"model_parameters": 999}}}),
        ("no time", {"summary": {"seconds": 0.0}}),
        ("not finished", {"summary": None}),
        ("its time is that of its last attempt", {"attempt": 2}),
        ("removed by hand", {"directory": Path("/no/such/run")}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others_do_not(why: str, changes: dict[str, Any], earlier: Run) -> None:
    if changes.get("summary"):
        changes = {"summary": (earlier.summary or {}) | changes["summary"]}
    found = cost(past=[replace(earlier, **changes)], **SMALL)
    assert found == cost(**SMALL), why
    assert cost(past=[replace(earlier, **changes), earlier], **SMALL).basis == "the pace of run before"


@pytest.mark.parametrize("scored", [{"device": "cuda:0"}, {"seconds": 0.0}])
def test_without_any_pace_it_is_that_of_a_usual_laptop(scored: dict[str, Any]) -> None:
    found = cost(scored=scored, **SMALL)
    passes_a_second = OPERATIONS_PER_SECOND_AND_CORE / (2 * 1000 * 40)
    assert found.seconds == pytest.approx(START_UP_SECONDS + 8016 / passes_a_second)
    assert "a usual laptop's pace" in found.basis
