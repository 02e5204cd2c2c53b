"""The cost of unlearning before the launch, held against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mrd_core.runs import Run
from mrd_core.scoring.cost import OPERATIONS_PER_SECOND_AND_CORE, START_UP_SECONDS
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.cost import UnlearningCost, estimate, forward_flops, update_flops
from tests.unit.test_cost import past_run

# Ten samples of 40 tokens, half of them scored, on a model of a thousand weights.
SCORED = {
    "n_samples": 10,
    "tokens": 400,
    "scored_tokens": 200,
    "model_parameters": 1000,
    "evaluations": 44,
    "seconds": 10.0,
    "device": "cuda:7",
}
# Operations of one sample's forward pass.
F = 2 * 1000 * 40
UNLEARNED = {"flops_training": 1e6, "seconds_training": 4.0, "model_parameters": 5}
MRD = {"sampler": "mrd"}


def configured(**changes: Any) -> UnlearnConfig:
    """Return gradient ascent in batches of four, without own answers, for up to 20 epochs."""
    settings = {"score_run": "run", "model": {"device": "cpu"}, "method": "ga", "answers": 0}
    return UnlearnConfig.model_validate(settings | changes)


def summary(**changes: Any) -> ScoreSummary:
    return ScoreSummary.model_validate(SCORED | changes)


def cost(*, kept: bool = False, past: Any = (), scored: Any = None, n: int = 10, **changes: Any) -> UnlearningCost:
    kept_too = {"retain": changes.pop("retain", {}) | {"samples": {"source": "demo"}}} if kept else {}
    return estimate(configured(**changes, **kept_too), summary(**(scored or {})), n, 1000, past)


def unlearned(summary: dict[str, Any] | None = None) -> Run:
    return replace(past_run(UNLEARNED | (summary or {})), kind="unlearn", id="before")


def test_a_forward_pass_is_two_operations_and_an_update_six() -> None:
    assert forward_flops(7, 11) == 154
    assert update_flops(7, 11) == 3 * 154
    assert update_flops(7, 11, adapter=True) == 2 * 154
    assert update_flops(7, 11, checkpointing=True) == 4 * 154
    assert update_flops(7, 11, adapter=True, checkpointing=True) == 3 * 154


def test_gradient_ascent_as_worked_out_by_hand() -> None:
    found = cost()
    # Ten updates a sample and one draw more that finds it forgotten: 110 draws in batches of four.
    assert (found.updates, found.steps) == (100, 28)
    # Twenty epochs of ten draws.
    assert (found.max_updates, found.max_steps) == (200, 50)
    # Updates, forgotten draws, and all samples before and after.
    assert found.flops == 100 * 3 * F + 10 * F + 20 * F
    assert found.max_flops == 200 * 3 * F + 20 * F
    assert found.looks_share == pytest.approx(10 / 330)
    assert (found.mrd_evaluations, found.mrd_flops) == (0, 0)
    assert "10 updates a sample, which is a guess" in found.basis


@pytest.mark.parametrize(
    ("limits", "most", "steps"),
    [
        ({"max_steps": 7}, 28, 7),
        ({"max_steps": 7, "max_epochs": 20}, 28, 7),
        ({"max_steps": 1000, "max_epochs": 0.5}, 8, 2),
        ({"max_steps": 1000}, 4000, 1000),
    ],
)
def test_the_nearest_limit_holds_for_both_ends(limits: dict[str, float], most: int, steps: int) -> None:
    found = cost(limits=limits)
    assert (found.max_updates, found.max_steps) == (most, steps)
    assert found.updates == min(100, most)
    assert found.steps == min(28, steps)


def test_a_batch_is_no_larger_than_the_forget_set() -> None:
    found = cost(n=3, optimiser={"batch_size": 8})
    assert (found.updates, found.steps, found.max_steps) == (30, 11, 20)


def test_retain_partners_cost_an_update_each_and_kl_a_forward_pass_more() -> None:
    probes = {"stopping": {"probe_steps": 14, "probe_samples": 5}}
    bare = cost(**probes).flops
    # The retain set is looked at before the first of 28 steps, at the 14th and at the last.
    assert cost(kept=True, **probes).flops == bare + 15 * F
    assert cost(kept=True, method="graddiff", **probes).flops == bare + 15 * F + 100 * 3 * F
    kl = {"retain": {"term": "kl"}, "method": "graddiff"}
    assert cost(kept=True, **kl, **probes).flops == bare + 15 * F + 100 * 4 * F
    unweighted = {"retain": {"weight": 0}, "method": "graddiff"}
    assert cost(kept=True, **unweighted, **probes).flops == bare + 15 * F
    assert cost(kept=False, method="graddiff", **probes).flops == bare


def test_own_answers_are_written_twice_of_at_most_all_samples() -> None:
    assert cost(answers=4).flops == cost().flops + 8 * F
    assert cost(answers=200).flops == cost().flops + 20 * F


def test_extraction_costs_a_pass_for_each_answer_token() -> None:
    with_extraction = cost(stopping={"extraction": True})
    assert with_extraction.flops == cost().flops + 200 * F
    assert with_extraction.looks_share == pytest.approx((10 + 200) / (330 + 200))


def test_refusals_need_looks_of_their_own_at_the_samples() -> None:
    # After each of nine updates, and then after the eleventh, which is one too many.
    found = cost(method="po")
    assert found.flops == 100 * 3 * F + 9 * 10 * F + 20 * F
    rarely = cost(method="po", stopping={"checks": {"spacing": "fixed", "interval": 5}})
    assert rarely.flops == found.flops - 7 * 10 * F


def test_adapters_and_checkpointing_change_what_an_update_costs() -> None:
    assert cost(optimiser={"lora_rank": 4}).flops == cost().flops - 100 * F
    assert cost(optimiser={"gradient_checkpointing": True}).flops == cost().flops + 100 * F


def test_a_curriculum_by_mrd_bears_what_mrd_has_cost() -> None:
    found = cost(curriculum=MRD)
    assert found.mrd_evaluations == 44
    assert found.mrd_flops == 44 * 10 * F
    assert found.flops == cost().flops
    assert cost(curriculum={"sampler": "column", "column": "mean_log_prob"}).mrd_evaluations == 0
    assert cost(curriculum={"sampler": "column", "column": "mean_absolute_answer_sum"}).mrd_evaluations == 44
    assert cost(curriculum={"sampler": "easy-to-hard"}).mrd_evaluations == 44


def test_mrd_measured_anew_adds_to_the_run() -> None:
    # 110 draws are eleven epochs, and every fifth measures three pairs.
    found = cost(curriculum=MRD | {"recompute_epochs": 5, "recompute_pairs": 3})
    assert found.mrd_evaluations == 44 + 12
    assert found.mrd_flops == 56 * 10 * F
    assert found.flops == cost().flops + 12 * 10 * F


def test_evaluations_go_over_every_text_and_prompt_and_all_that_may_be_written() -> None:
    # Before the first of 28 steps, after the 10th, the 20th and the last; of fifty steps at most, six times.
    evaluation = {"every_steps": 10, "samples": 6, "max_new_tokens": 20}
    found, each = cost(evaluation=evaluation), 6 * (2 * F + F // 2)
    assert (found.evaluations, found.evaluation_flops) == (4, 4 * each)
    assert found.flops == cost().flops + 4 * each
    assert found.max_flops == cost().max_flops + 6 * each
    both = cost(kept=True, evaluation=evaluation)
    assert both.evaluation_flops == 2 * found.evaluation_flops
    # There are no more forget samples than ten.
    assert cost(evaluation=evaluation | {"samples": 24}).evaluation_flops == 4 * 10 * (2 * F + F // 2)
    assert (cost().evaluations, cost().evaluation_flops) == (0, 0)
    # A limit of time does not count them.
    soon = {"past": [unlearned()], "limits": {"max_epochs": 20, "max_seconds": 3}}
    assert cost(evaluation=evaluation, **soon).max_seconds == pytest.approx(
        cost(**soon).max_seconds + 6 * each / 250_000
    )


def test_a_stratum_bears_the_scoring_of_the_whole_forget_set() -> None:
    assert cost(n=5, curriculum=MRD).mrd_flops == 44 * 10 * F


def test_the_newest_unlearning_run_on_the_device_gives_the_pace() -> None:
    runs = [
        past_run(UNLEARNED),
        replace(unlearned(), summary=None),
        unlearned({"seconds_training": 0}),
        replace(unlearned({"seconds_training": 1e9}), device="cuda:0"),
        unlearned(),
        unlearned({"seconds_training": 1e9}),
    ]
    found = cost(past=iter(runs))
    assert found.seconds == pytest.approx(START_UP_SECONDS + 330 * F / (1e6 / 4))
    assert found.max_seconds == pytest.approx(START_UP_SECONDS + 620 * F / (1e6 / 4))
    assert "the pace of run before" in found.basis


def test_without_one_the_score_run_gives_the_pace_where_it_ran_on_the_device() -> None:
    found = cost(scored={"device": "cpu"})
    # The planning of a score run counts for six evaluations.
    assert found.seconds == pytest.approx(START_UP_SECONDS + 330 * F / (50 * 10 * F / 10.0))
    assert "score run" in found.basis


def test_without_any_the_estimate_says_that_it_is_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    found = cost()
    assert found.seconds == pytest.approx(START_UP_SECONDS + 330 * F / (3 * OPERATIONS_PER_SECOND_AND_CORE))
    assert "a usual laptop's pace on 3 core(s)" in found.basis


def test_a_limit_of_time_bounds_both_times() -> None:
    found = cost(past=[unlearned()], limits={"max_epochs": 20, "max_seconds": 150})
    assert found.max_seconds == START_UP_SECONDS + 150
    assert found.seconds == pytest.approx(START_UP_SECONDS + 330 * F / 250_000)
    soon = cost(past=[unlearned()], limits={"max_epochs": 20, "max_seconds": 3})
    assert soon.seconds == soon.max_seconds == START_UP_SECONDS + 3


ALIKE = {"method": "ga", "model_parameters": 1000, "stop_reason": "all-forgotten", "n_samples": 4, "updates": 18}


@pytest.mark.parametrize(
    "other", [{"method": "npo"}, {"model_parameters": 999}, {"stop_reason": "max-steps"}, {"n_samples": 0}]
)
def test_a_run_of_the_same_method_and_model_tells_how_many_updates_it_takes(other: dict[str, Any]) -> None:
    found = cost(past=[unlearned(ALIKE | other), unlearned(ALIKE)])
    # 4.5 updates for each of ten samples, and one draw more.
    assert (found.updates, found.steps) == (45, 14)
    assert "4.5 updates a sample, as in run before" in found.basis
    assert cost(past=[unlearned(ALIKE | other)]).updates == 100


def test_a_model_of_unknown_size_is_taken_to_be_as_large_as_the_scored_one() -> None:
    found = estimate(configured(), summary(), 10, None, [])
    assert found.flops == cost().flops
    assert "as large as the scored one" in found.basis
    assert "as large" not in cost().basis


def test_memory_names_the_copies_of_the_weights() -> None:
    gigabyte = 2**30
    large = {"scored": {"model_parameters": 3}, "retain": True, "method": "graddiff"}

    def memory(**changes: Any) -> str:
        how = large | changes
        retain, scored = how.pop("retain"), summary(**how.pop("scored"))
        kept: dict[str, Any] = {"term": how.pop("term", "nll")}
        kept |= {"samples": {"source": "demo"}} if retain else {}
        # Not on this machine, so that its sizes are unknown.
        how["model"] = {"source": "some/model", "device": "cpu"} | how.get("model", {})
        return estimate(configured(**how, retain=kept), scored, 10, gigabyte, []).memory

    beside = "beside weights and activations"
    assert memory() == f"{beside}, three copies of the weights (4 GiB each): gradients, and AdamW's two moments"
    assert memory(optimiser={"name": "sgd"}) == f"{beside}, one copy of the weights (4 GiB each): gradients"
    assert "(2 GiB each)" in memory(model={"device": "cpu", "dtype": "bfloat16"})
    assert "one more for the starting model" in memory(term="kl")
    assert "one more" not in memory(term="kl", retain=False)
    assert memory(term="kl", optimiser={"lora_rank": 4}).endswith("of the adapter alone")
