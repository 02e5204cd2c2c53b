"""The cost of a run before it is launched."""

from __future__ import annotations

import json
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from mrd_core.errors import UserError
from mrd_core.model.weights import parameter_count
from mrd_core.runs import Run, RunState
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.cost import MOST_WORKERS, START_UP_SECONDS, TEMPLATE_TOKENS, estimate, in_turn, passes_of
from tests.support import tiny

SAMPLES = tiny.forget_set(("Who wrote it?", "Ann wrote it."), ("Where?", "In a house by the sea."))
SUMMARY = {"n_samples": 2, "tokens": 1000, "model_parameters": 2000, "evaluations": 44, "seconds": 10.0}


def past_run(summary: dict[str, Any] | None) -> Run:
    now = datetime.now(UTC)
    return Run(
        id="20261121-074655-ab12",
        seq=1,
        kind="score",
        title="demo",
        state=RunState.SUCCEEDED,
        attempt=1,
        device="cpu",
        directory=Path("run"),
        created_at=now,
        queued_at=now,
        started_at=now,
        finished_at=now,
        host=None,
        pid=None,
        pid_started=None,
        heartbeat_at=None,
        progress={},
        error=None,
        summary=summary,
    )


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, int]:
    """A saved model and the number of its weights."""
    network = tiny.llama()
    network.save_pretrained(tmp_path)
    return tmp_path, sum(parameter.numel() for parameter in network.parameters())


def test_weights_are_counted_from_the_headers(model: tuple[Path, int]) -> None:
    folder, count = model
    assert parameter_count(folder) == count


def test_shards_add_up(tmp_path: Path) -> None:
    network = tiny.llama()
    network.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert parameter_count(tmp_path) == sum(parameter.numel() for parameter in network.parameters())


def test_a_second_format_beside_the_model_is_not_counted(model: tuple[Path, int]) -> None:
    folder, count = model
    save_file(dict(tiny.llama().state_dict()), folder / "consolidated.safetensors")
    assert parameter_count(folder) == count


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        struct.pack("<Q", 5) + b"{oops",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 10) + json.dumps({"w": 1}).encode().ljust(10),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
    ],
    ids=["empty", "pointer", "broken", "list", "no shape", "endless", "not text"],
)
def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError) as caught:
        parameter_count(tmp_path)
    assert caught.value.what == str(tmp_path / "model.safetensors")
    assert "git lfs pull" in caught.value.fix


def test_a_model_of_unknown_size_has_evaluations_but_no_time() -> None:
    cost = estimate(SAMPLES, None, EstimatorConfig(), [past_run(SUMMARY)])
    assert cost.seconds is None
    assert 0 < cost.evaluations <= cost.cap == 192


@pytest.mark.parametrize(
    ("config", "evaluations"),
    [
        (EstimatorConfig(draws=10), 10),
        (EstimatorConfig(draws=5000), 24),
        (EstimatorConfig(draws=5000, stop="precision"), 24),
        (EstimatorConfig(draws=5000, probes=False), 48),
        (EstimatorConfig(draws=5000, stop="never"), 5000),
        (EstimatorConfig(draws=5000, stop="reliability"), 5000),
        (EstimatorConfig.paper(), 200),
    ],
)
def test_only_errors_are_expected_to_stop_a_run_early(config: EstimatorConfig, evaluations: int) -> None:
    cost = estimate(SAMPLES, None, config, [])
    assert cost.evaluations == evaluations
    assert cost.cap == config.draws


def test_the_newest_finished_run_gives_the_pace(model: tuple[Path, int]) -> None:
    folder, count = model
    config = EstimatorConfig(draws=44, stop="never", gradient_norms="no", workers=1, probes=False)
    runs = [past_run(None), past_run({"n_samples": 3}), past_run(SUMMARY), past_run(SUMMARY | {"seconds": 1e9})]
    cost = estimate(SAMPLES, folder, config, runs)
    # And a blank between prompt and answer.
    characters = SAMPLES.frame[["prompt", "answer"]].sum(axis=1).str.len().sum() + len(SAMPLES)
    # The same number of evaluations, so time is in proportion to weights × tokens, but for one pass of measuring.
    expected = SUMMARY["seconds"] * (characters / 4 * count) / (SUMMARY["tokens"] * SUMMARY["model_parameters"])
    passes = passes_of(config, 2, 44)
    # Nothing was measured beside MRD by the earlier run.
    expected *= in_turn(passes, 1) / (in_turn(passes, 1) - passes["measures"])
    start_up = estimate(SAMPLES, folder, config, [past_run(SUMMARY | {"seconds": 1e-9})]).seconds
    assert start_up is not None
    assert cost.seconds == pytest.approx(start_up + expected)
    assert "20261121-074655-ab12" in cost.basis


def test_of_earlier_runs_the_one_with_the_most_similar_model_gives_the_pace(model: tuple[Path, int]) -> None:
    folder, count = model
    large = past_run(SUMMARY | {"model_parameters": 1000 * count, "seconds": 1e-9})
    alike = past_run(SUMMARY | {"model_parameters": 2 * count})
    config = EstimatorConfig(workers=1)
    costs = [estimate(SAMPLES, folder, config, runs).seconds for runs in ([large, alike], [alike], [large])]
    assert costs[0] == costs[1] != costs[2]


def test_the_pace_is_that_of_everything_that_the_earlier_run_did(model: tuple[Path, int]) -> None:
    config = EstimatorConfig(draws=44, stop="never", workers=1, probes=False)
    alone, measuring = (
        estimate(SAMPLES, model[0], config, [past_run(SUMMARY | {"seconds": 100.0, "seconds_measures": seconds})])
        for seconds in (0.0, 10.0)
    )
    passes = passes_of(config, 2, 44)
    of_mrd = in_turn(passes, 1) - passes["measures"] - passes["gradients"]
    assert alone.seconds is not None
    assert measuring.seconds is not None
    ratio = (measuring.seconds - START_UP_SECONDS) / (alone.seconds - START_UP_SECONDS)
    assert ratio == pytest.approx(110 / 100 * of_mrd / in_turn(passes, 1))


def test_draws_and_probes_are_shared_out_to_processes_and_nothing_else_is(model: tuple[Path, int]) -> None:
    passes = passes_of(EstimatorConfig(), 240, 48)
    assert passes["probes"] == pytest.approx(20)
    assert in_turn(passes, 1) == pytest.approx(sum(passes.values()))
    assert in_turn(passes, 4) == pytest.approx(sum(passes.values()) - 36 - 15)
    # A process more takes its own copy of the weights.
    one, two = (estimate(SAMPLES, model[0], EstimatorConfig(workers=workers), []).memory for workers in (1, 2))
    assert one is not None
    assert two == 2 * one > 16 * model[1]
    assert estimate(SAMPLES, None, EstimatorConfig(), []).memory is None
    automatic = estimate(SAMPLES, model[0], EstimatorConfig(), []).memory
    assert automatic == min(os.cpu_count() or 1, MOST_WORKERS) * one


@pytest.mark.parametrize(
    ("config", "probes"),
    [
        # Two units: a forward pass each, and backward passes that cost two.
        ({}, 2 * (1 + 2 * 2)),
        ({"scope": "full"}, 2 * (1 + 4 * 2)),
        ({"preview": True}, 2 * (1 + 4 * 2)),
        ({"preview": True, "scope": "full"}, 2 * (1 + 8 * 2)),
        ({"probes": False}, 0),
    ],
)
def test_probes_of_prompts_are_paid_for_too(config: dict[str, Any], probes: int) -> None:
    assert passes_of(EstimatorConfig.model_validate(config), 32, 24)["probes"] == probes


@pytest.mark.parametrize(
    ("config", "samples", "pilot"),
    [
        # Two pairs at σ and at half of it, on 32 samples at most.
        ({}, 8, 8.0),
        ({}, 32, 8.0),
        ({}, 320, 0.8),
        ({"probes": False, "sigma": 1e-3}, 32, 8.0),
        # As many at each larger one, until one is too large.
        ({"probes": False}, 320, 2.4),
        ({"preview": True}, 320, 0.0),
    ],
)
def test_the_pilot_costs_what_it_looks_at(config: dict[str, Any], samples: int, pilot: float) -> None:
    assert passes_of(EstimatorConfig.model_validate(config), samples, 48)["pilot"] == pytest.approx(pilot)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe"], ids=repr)
def test_an_estimate_without_a_readable_tokenizer_says_that_it_counts_characters(
    model: tuple[Path, int], content: bytes | None
) -> None:
    folder, _ = model
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    assert estimate(SAMPLES, folder, EstimatorConfig(), []).basis.endswith("4 characters taken for a token")
    tiny.tokenizer().save_pretrained(folder)
    assert "characters" not in estimate(SAMPLES, folder, EstimatorConfig(), []).basis


def test_tokens_are_counted_by_the_tokenizer_of_the_model(model: tuple[Path, int]) -> None:
    folder, _ = model
    run, config = [past_run(SUMMARY | {"seconds": 1e6})], EstimatorConfig(workers=1)
    guessed = estimate(SAMPLES, folder, config, run).seconds
    tokenizer = tiny.tokenizer()
    tokenizer.save_pretrained(folder)
    counted = estimate(SAMPLES, folder, config, run).seconds
    assert guessed is not None
    assert counted is not None
    texts = list(SAMPLES.frame["prompt"] + " " + SAMPLES.frame["answer"])
    tokens = sum(len(tokenizer(text)["input_ids"]) + TEMPLATE_TOKENS for text in texts)
    assert (counted - START_UP_SECONDS) / (guessed - START_UP_SECONDS) == pytest.approx(
        tokens / (sum(map(len, texts)) / 4)
    )


def test_without_a_past_the_estimate_says_that_it_is_a_guess(model: tuple[Path, int]) -> None:
    cost = estimate(SAMPLES, model[0], EstimatorConfig(), [])
    assert cost.seconds is not None
    assert cost.seconds > 0
    assert "laptop" in cost.basis


def test_more_evaluations_take_longer(model: tuple[Path, int]) -> None:
    few, many = (
        estimate(SAMPLES, model[0], EstimatorConfig(draws=draws, stop="never"), [past_run(SUMMARY)]).seconds
        for draws in (20, 20_000)
    )
    assert few is not None
    assert many is not None
    assert many > few


@pytest.mark.parametrize(("gradient_norms", "forwards"), [("yes", 3.2), ("auto", 3.2), ("no", 1)])
def test_measuring_counts_as_passes(model: tuple[Path, int], gradient_norms: str, forwards: float) -> None:
    def seconds(draws: int, wish: str) -> float:
        config = EstimatorConfig(draws=draws, stop="never", probes=False, gradient_norms=wish, workers=1)
        found = estimate(SAMPLES, model[0], config, [past_run(SUMMARY)]).seconds
        assert found is not None
        return found

    a_pass = seconds(11, "no") - seconds(10, "no")
    measured = seconds(10, gradient_norms) - seconds(10, "no")
    assert measured == pytest.approx((forwards - 1) * a_pass)
