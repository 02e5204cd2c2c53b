"""Whole unlearning runs: what they leave behind fits together, and an interrupted one ends as if it was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mrd_core.model.encoding import Encoded
from mrd_core.model.memorization import Memorized, measure_memorization
from mrd_core.runs import RunState
from mrd_core.runs import context as run_context
from mrd_core.runs.directory import write_config
from mrd_core.runs.files import read_json
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.command import process as process_of
from mrd_core.unlearning import checkpoints, job, recorder
from mrd_core.unlearning.config import CurriculumConfig
from mrd_core.unlearning.curriculum_export import json_lines, planned, realised
from mrd_core.unlearning.trainer import Trainer
from tests.conftest import REPOSITORY
from tests.support import tiny
from tests.support.runs import lost
from tests.support.tiny import encode, encode_one
from tests.support.unlearning_runs import DRAWS, N_FORGET, RATE, Place, Scored, Unlearned, scored_tiny, texts_of
from tests.unit.conftest import CONTEXT

pytestmark = pytest.mark.slow

PATIENCE = 60.0
EVALUATION = {"every_steps": 3, "samples": 4, "max_new_tokens": 12}
PROMISED = [
    "n_samples",
    "updates",
    "draws",
    "steps",
    "epochs",
    "forgotten",
    "forgotten_at_end",
    "stop_reason",
    "method",
    "label",
    "sampler",
    "column",
    "seed",
    "study",
    "forget_nll",
    "forget_accuracy",
    "retain_nll",
    "retain_accuracy",
    "forget_nll_before",
    "forget_accuracy_before",
    "retain_nll_before",
    "retain_accuracy_before",
    "seconds",
    "seconds_training",
    "seconds_checks",
    "mrd_forward_evaluations",
    "mrd_seconds",
    "flops_training",
    "flops_checks",
    "flops_mrd",
    "tokens_trained",
    "tokens_retained",
    "tokens_checked",
    "learning_rate",
    "model_parameters",
    "trainable_parameters",
    "device",
    "dtype",
    "thresholds",
    "effective_share",
    "nearly_uniform",
    "peak_memory_mb",
    "warnings",
    "reasons",
    "adapter",
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module", params=["ga", "graddiff"])
def done(request: pytest.FixtureRequest, scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> Unlearned:
    """A run with a retain set; GA measures it and does not train on it."""
    # Such that neither forgets all samples in 40 steps, on whichever processor.
    sampler, learning_rate = {"ga": ("uniform", 9e-4), "graddiff": ("mrd", RATE)}[request.param]
    config = scored.config(
        method=request.param,
        optimiser={"learning_rate": learning_rate},
        retain=scored.kept,
        curriculum={"sampler": sampler},
        limits={"max_steps": 40},
        checkpoint_steps=15,
        study="a study",
    )
    return Place.of(tmp_path_factory.mktemp("done")).carried_out(config)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def encoded(path: Path) -> Encoded:
    tokenizer = tiny.tokenizer()
    return encode(read(ForgetSetConfig(source=str(path))), tokenizer, CONTEXT, "plain")


def measured(folder: Path, samples: Path) -> Memorized:
    network = AutoModelForCausalLM.from_pretrained(folder)
    return measure_memorization(tiny.reader(network, 1000), encoded(samples))


# What a run leaves behind


def test_a_run_succeeds_with_all_the_figures_that_are_promised(done: Unlearned) -> None:
    assert done.run.state is RunState.SUCCEEDED, done.run.error
    assert set(done.summary) >= set(PROMISED)
    assert done.run.summary == done.summary
    assert (done.summary["study"], done.summary["stop_reason"], done.summary["steps"]) == (
        "a study",
        "max-steps",
        40,
    )
    # The run is long enough for samples to be found forgotten, and too short for all of them.
    assert 0 < done.summary["forgotten"] < N_FORGET
    assert done.summary["forget_accuracy"] < done.summary["forget_accuracy_before"]


def test_the_model_that_is_left_gives_the_measures_that_the_summary_has(done: Unlearned, scored: Scored) -> None:
    for folder, suffix in ((done.files.model, ""), (scored.model, "_before")):
        for name, path in (("forget", scored.forget), ("retain", scored.retain)):
            found = measured(folder, path)
            assert found.accuracy.mean() == pytest.approx(done.summary[f"{name}_accuracy{suffix}"], abs=1e-6)
            assert found.nll.mean() == pytest.approx(done.summary[f"{name}_nll{suffix}"], rel=1e-4)
    # The tokenizer lies beside it.
    text = "Who wrote it?"
    assert (
        AutoTokenizer.from_pretrained(done.files.model)(text)["input_ids"] == tiny.tokenizer()(text)["input_ids"]
    )


def test_the_card_is_there_and_holds_no_text_of_a_sample(done: Unlearned, scored: Scored) -> None:
    card = (done.files.model / "README.md").read_text(encoding="utf-8")
    assert f"{done.summary['forgotten']} of {N_FORGET} were found forgotten" in card
    # Single words, such as "the", are no secret.
    secrets = [text for text in texts_of(scored.forget, scored.retain) if len(text.split()) > 2]
    assert len(secrets) > 15
    assert not [text for text in secrets if text in card]


def test_nothing_is_left_but_what_belongs_to_a_run(done: Unlearned) -> None:
    assert {path.name for path in done.run.directory.iterdir()} <= {
        artifact.path for artifact in done.files.artifacts().values()
    }
    assert not done.files.checkpoints.exists()


def test_updates_are_the_same_in_the_log_the_store_the_outcome_and_the_summary(done: Unlearned) -> None:
    logged = [
        (step["step"], sample, trained)
        for step in done.steps
        for sample, trained in zip(step["forget"], step["trained"], strict=True)
    ]
    rows = done.updates[["step", "sample_id", "trained"]].itertuples(index=False, name=None)
    assert list(rows) == logged
    trained = Counter(sample for _step, sample, was_trained in logged if was_trained)
    assert done.outcome["updates"].to_dict() == {sample: trained[sample] for sample in done.outcome.index}
    drawn = Counter(sample for _step, sample, _trained in logged)
    assert done.outcome["draws"].to_dict() == {sample: drawn[sample] for sample in done.outcome.index}
    assert sum(trained.values()) == done.summary["updates"] == done.metric("updates")[40]
    assert sum(drawn.values()) == done.summary["draws"] == done.summary["epochs"] * N_FORGET
    assert [step["step"] for step in done.steps] == list(range(1, 41))


def test_the_exported_curriculum_is_the_order_that_was_drawn(done: Unlearned) -> None:
    rows = [json.loads(line) for line in json_lines(realised(done.files)).splitlines()]
    drawn = done.updates[["step", "sample_id", "trained"]].itertuples(index=False, name=None)
    assert [(row["step"], row["sample_id"], row["trained"]) for row in rows] == list(drawn)
    assert [row["position"] for row in rows] == list(range(1, done.summary["draws"] + 1))
    weights = pd.read_parquet(done.files.curriculum).set_index("sample_id")["weight"]
    assert all(row["weight"] == weights[row["sample_id"]] for row in rows)


def test_an_epoch_is_planned_as_a_run_draws_it_while_no_sample_has_left(done: Unlearned, scored: Scored) -> None:
    curriculum = CurriculumConfig(sampler=done.summary["sampler"])
    rows = list(planned(scored.directory, curriculum, seed=done.summary["seed"]))
    first = next(step["step"] for step in done.steps if step["forgotten"])
    drawn = [sample for step in done.steps[:first] for sample in step["forget"]][:N_FORGET]
    assert len(rows) == N_FORGET >= len(drawn) > 3
    assert [row["sample_id"] for row in rows][: len(drawn)] == drawn
    shares = pd.read_parquet(done.files.curriculum).set_index("sample_id")["share"]
    assert [row["share"] for row in rows] == pytest.approx([shares[row["sample_id"]] for row in rows])


def test_a_planned_strict_order_has_every_sample_once_hardest_last(scored: Scored) -> None:
    rows = list(planned(scored.directory, CurriculumConfig(sampler="easy-to-hard"), seed=3))
    scores = pd.read_parquet(ScoreFiles(scored.directory).scores).set_index("sample_id")["mrd_answer_mean"]
    assert [(row["sample_id"], row["weight"]) for row in rows] == list(scores.sort_values(ascending=False).items())
    assert {row["share"] for row in rows} == {1 / N_FORGET}


def test_a_sample_is_forgotten_in_one_step_and_not_drawn_after_it(done: Unlearned) -> None:
    found = {sample: step["step"] for step in done.steps for sample in step["forgotten"]}
    stored = done.outcome["forgotten_step"].dropna().astype(int).to_dict()
    assert stored == found
    assert len(found) == done.summary["forgotten"] == done.metric("forgotten")[40]
    drawn = done.updates.groupby("sample_id")["step"].max()
    assert {sample: int(drawn[sample]) for sample in found} == found
    first = done.updates[done.updates["forgotten"]].groupby("sample_id")["step"].min()
    assert first.to_dict() == found
    assert done.summary["forgotten_at_end"] == done.outcome["forgotten_at_end"].sum()
    threshold = done.summary["thresholds"]["accuracy"]
    assert (done.outcome["forgotten_at_end"] == (done.outcome["accuracy_after"] < threshold)).all()


def test_the_curves_in_the_store_are_those_of_the_log(done: Unlearned) -> None:
    for name in ("forget_loss", "forget_nll", "learning_rate", "retain_loss"):
        logged = {step["step"]: step[name] for step in done.steps if step[name] is not None}
        assert done.metric(name) == pytest.approx(logged)
    # Under GA the retain set is looked at and not trained on.
    assert bool(done.metric("retain_loss")) == (done.summary["method"] == "graddiff")
    means = {step["step"]: np.mean(step["accuracy"]) for step in done.steps}
    assert done.metric("forget_accuracy") == pytest.approx(means)
    assert set(done.metric("retain_nll")) == set(done.metric("retain_accuracy")) == {0, 25}
    assert done.metric("retain_nll")[0] == pytest.approx(done.summary["retain_nll_before"], rel=1e-5)
    assert set(done.metric("memory_mb")) == set(range(1, 41))


def test_the_curve_of_accuracy_is_the_mean_of_what_was_last_seen_of_each_sample(done: Unlearned) -> None:
    last = pd.read_parquet(done.files.before).set_index("sample_id")["accuracy"].to_dict()
    expected = {0: np.mean(list(last.values()))}
    for step in done.steps:
        last |= dict(zip(step["forget"], step["accuracy"], strict=True))
        expected[step["step"]] = np.mean(list(last.values()))
    assert done.metric("accuracy") == pytest.approx(expected)


def test_the_tables_of_samples_and_of_tokens_say_the_same(done: Unlearned, scored: Scored) -> None:
    tokens = pd.read_parquet(done.files.tokens)
    for when in ("before", "after"):
        nll = -tokens.groupby("sample_id")[f"log_prob_{when}"].mean()
        np.testing.assert_allclose(done.outcome[f"nll_{when}"], nll[done.outcome.index], rtol=1e-5, atol=1e-7)
    assert done.outcome["nll_after"].mean() == pytest.approx(done.summary["forget_nll"])
    curriculum = pd.read_parquet(done.files.curriculum).set_index("sample_id")
    assert list(curriculum.index) == list(done.outcome.index) == [f"f{i}" for i in range(N_FORGET)]
    assert curriculum["n_tokens"].to_dict() == tokens.groupby("sample_id").size().to_dict()
    scores = pd.read_parquet(ScoreFiles(scored.directory).scores).set_index("sample_id")
    np.testing.assert_array_equal(curriculum["weight"], scores.loc[curriculum.index, "mrd_answer_mean"])
    assert curriculum["share"].sum() == pytest.approx(1)
    start = read_json(done.files.start)
    assert start["thresholds"] == done.summary["thresholds"]
    assert start["forget_nll"] == done.summary["forget_nll_before"]
    assert done.outcome["own_answer_after"].notna().sum() == 2


def test_the_cost_of_mrd_is_that_of_scoring_where_the_order_depends_on_it_and_nothing_else(
    done: Unlearned,
) -> None:
    uses_mrd = done.summary["sampler"] == "mrd"
    assert done.summary["mrd_forward_evaluations"] == (DRAWS if uses_mrd else 0)
    assert (done.summary["mrd_seconds"] > 0) == (done.summary["flops_mrd"] > 0) == uses_mrd


def test_the_tokens_of_training_are_those_of_the_samples_that_were_trained_on(
    done: Unlearned, scored: Scored
) -> None:
    lengths = {}
    for name, path in (("forget", scored.forget), ("retain", scored.retain)):
        texts = encoded(path)
        lengths[name] = dict(zip(texts.sample_ids, texts.lengths.tolist(), strict=True))
    trained = [[place for place, was in enumerate(step["trained"]) if was] for step in done.steps]
    for name, figure in (("forget", "tokens_trained"), ("retain", "tokens_retained")):
        found = sum(
            lengths[name][step[name][place]]
            for step, places in zip(done.steps, trained, strict=True)
            for place in places
            if step[name]
        )
        assert done.summary[figure] == found


def test_a_deleted_run_leaves_no_file_and_no_row(place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config())
    assert len(run.updates) > 0
    place.store.delete(run.run.id)
    assert not run.run.directory.exists()
    assert place.store.list() == []
    for rows in (place.store.metrics, place.store.sample_updates, place.store.events):
        assert rows(run.run.id).empty
    assert ScoreFiles(scored.directory).scores.exists()


# The same once more


def test_the_same_seed_gives_the_same_run_and_another_seed_another_order(place: Place, scored: Scored) -> None:
    first, again, other = (place.carried_out(scored.config(seed=seed)) for seed in (1, 1, 2))
    assert first.order == again.order != other.order
    assert_same_end(again, first)


def test_a_copied_configuration_makes_its_own_samples_and_gives_the_same_run(place: Place, scored: Scored) -> None:
    config = scored.config(method="graddiff", retain=scored.kept)
    first = place.carried_out(config)
    directory = place.settings.home / "copied"
    directory.mkdir()
    write_config(directory, config)
    run = place.store.create("unlearn", config.title, "cpu", directory)
    assert_same_end(Unlearned(run, place.store).carried_out(), first)


def assert_same_end(run: Unlearned, expected: Unlearned) -> None:
    """Both took the same steps and ended on the same weights and figures."""
    assert run.run.state is expected.run.state is RunState.SUCCEEDED, run.run.error
    assert run.order == expected.order
    np.testing.assert_allclose(run.losses, expected.losses, rtol=1e-6, atol=1e-6)
    columns = ["step", "sample_id", "trained", "forgotten"]
    pd.testing.assert_frame_equal(run.updates[columns], expected.updates[columns])
    for name in ("forget_loss", "updates", "accuracy", "retain_nll"):
        assert run.metric(name) == pytest.approx(expected.metric(name), rel=1e-6, abs=1e-6)
    for name, weight in expected.weights().items():
        torch.testing.assert_close(run.weights()[name], weight, rtol=0, atol=1e-6)
    timed = {name for name in PROMISED if "seconds" in name} | {"peak_memory_mb"}
    for name in set(PROMISED) - timed:
        known = expected.summary[name]
        assert run.summary[name] == (pytest.approx(known, rel=1e-6) if isinstance(known, float) else known), name
    assert not run.files.checkpoints.exists()


# Interrupted runs


def long_config(scored: Scored, **changes: Any) -> Any:
    """Return a run whose samples are forgotten little by little."""
    settings = {"method": "graddiff", "retain": scored.kept, "curriculum": {"sampler": "mrd"}}
    return scored.config(**settings | {"optimiser": {"learning_rate": 5e-4}} | changes)


def nine_steps(scored: Scored, checkpoint_steps: int = 100, **changes: Any) -> Any:
    return long_config(scored, limits={"max_steps": 9}, checkpoint_steps=checkpoint_steps, **changes)


@pytest.fixture(scope="module")
def whole(scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> Unlearned:
    """Nine steps without an interruption, evaluated on the way."""
    return Place.of(tmp_path_factory.mktemp("whole")).carried_out(nine_steps(scored, evaluation=EVALUATION))


# Evaluations on the way


def test_evaluations_change_no_step_no_weight_and_no_setting(
    place: Place, scored: Scored, whole: Unlearned
) -> None:
    plain = place.carried_out(nine_steps(scored))
    assert not plain.files.evaluations.exists()
    assert (plain.summary["evaluations"], plain.summary["flops_evaluations"]) == (0, 0)
    assert plain.order == whole.order
    assert plain.losses == whole.losses
    assert all(torch.equal(weight, whole.weights()[name]) for name, weight in plain.weights().items())
    assert plain.summary["setting"] == whole.summary["setting"]


def test_the_last_evaluation_is_what_the_final_model_gives_by_hand(scored: Scored, whole: Unlearned) -> None:
    line = whole.files.read_evaluations()[-1]
    by_hand = {
        name: [asked_by_hand(whole.files.model, row) for row in spaced(read_rows(path), EVALUATION["samples"])]
        for name, path in (("forget", scored.forget), ("retain", scored.retain))
    }
    expected = {
        f"{name}_{metric}": np.mean([row[metric] for row in rows])
        for name, rows in by_hand.items()
        for metric in ("probability", "exact_memorization", "extraction_strength", "rouge", "answer_match")
    }
    pairs = [(one["surprise"], other["surprise"]) for one in by_hand["forget"] for other in by_hand["retain"]]
    mia = np.mean([(one > other) + (one == other) / 2 for one, other in pairs])
    ua, rr = 1 - expected["forget_answer_match"], 1 - expected["forget_rouge"]
    expected |= {
        "forget_mia_min_k_retain": mia,
        "completeness": np.mean([ua, mia, rr]),
        "utility": np.mean([expected["retain_answer_match"], expected["retain_rouge"]]),
        "step": 9,
        "updates": whole.summary["updates"],
        "tokens": sum(row["tokens"] for rows in by_hand.values() for row in rows),
        "seconds": line["seconds"],
    }
    assert line == pytest.approx(expected, rel=1e-4)
    # Neither everything nor nothing is forgotten, or these numbers would say little.
    assert 0 < line["forget_rouge"] < 1


def test_evaluations_come_before_the_first_step_every_n_and_after_the_last_and_their_cost_is_told(
    whole: Unlearned,
) -> None:
    lines = whole.files.read_evaluations()
    assert [line["step"] for line in lines] == [0, 3, 6, 9]
    assert [line["updates"] for line in lines] == [whole.metric("updates")[line["step"]] for line in lines]
    for name in ("completeness", "utility", "forget_rouge", "forget_mia_min_k_retain"):
        assert whole.metric(f"evaluation_{name}") == {line["step"]: line[name] for line in lines}
    summary = whole.summary
    assert summary["evaluations"] == 4
    assert summary["seconds_evaluations"] == pytest.approx(sum(line["seconds"] for line in lines), abs=0.01)
    tokens = sum(line["tokens"] for line in lines)
    assert summary["flops_evaluations"] == 2 * summary["model_parameters"] * tokens
    assert 0 < summary["seconds_training"] < summary["seconds"] - summary["seconds_evaluations"]


def asked_by_hand(folder: Path, row: dict[str, str]) -> dict[str, float]:
    """Return the metrics of one row, a token at a time."""
    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), tiny.tokenizer()
    sample = encode_one(row["question"], row["answer"], tokenizer, CONTEXT, "plain")
    begin = int(np.flatnonzero(sample.answer)[0]) + 1
    tokens = sample.tokens.tolist()
    log_probs, hits = [], []
    for place in range(begin, len(tokens)):
        said = next_token(network, tokens[:place])
        log_probs.append(float(said[tokens[place]]))
        hits.append(int(said.argmax()) == tokens[place])
    text = tokens[:begin]
    while len(text) < begin + EVALUATION["max_new_tokens"]:
        text.append(int(next_token(network, text).argmax()))
        if text[-1] == tokenizer.eos_token_id:
            break
    own = tokenizer.decode(text[begin:], skip_special_tokens=True).strip()
    lowest = sorted(log_probs)[: max(1, int(0.4 * len(log_probs)))]
    return {
        "probability": np.exp(np.mean(log_probs)),
        "exact_memorization": np.mean(hits),
        "extraction_strength": 1 - next((k for k in range(len(hits)) if all(hits[k:])), len(hits) - 1) / len(hits),
        "rouge": common(own.lower().split(), row["answer"].lower().split()) / len(row["answer"].split()),
        "answer_match": float(row["answer"].lower() in own.lower()),
        "surprise": -np.mean(lowest),
        "tokens": len(tokens) + begin + len(tokenizer(own, add_special_tokens=False)["input_ids"]),
    }


def next_token(network: Any, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.tensor([tokens])).logits[0, -1].log_softmax(0)


def common(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    if not first or not second:
        return 0
    if first[0] == second[0]:
        return 1 + common(first[1:], second[1:])
    return max(common(first[1:], second), common(first, second[1:]))


def spaced(rows: list[Any], count: int) -> list[Any]:
    """Return as many rows, evenly spaced, the ends among them."""
    return [rows[round(place * (len(rows) - 1) / (count - 1))] for place in range(count)]


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Return a function that has something happen right before a step is taken (the first is 0)."""

    def arrange(step: int, happens: Callable[[], None]) -> None:
        original = Trainer.step

        def step_of(self: Trainer, *arguments: Any, **named: Any) -> bool:
            if self.steps == step:
                happens()
            return original(self, *arguments, **named)

        monkeypatch.setattr(Trainer, "step", step_of)

    return arrange


def interrupt(*_arguments: Any) -> None:
    """Leave as a kill would: nothing gets written on the way out."""
    raise KeyboardInterrupt


def test_a_worker_that_is_killed_is_taken_up_and_ends_as_if_it_had_not_been(place: Place, scored: Scored) -> None:
    config = long_config(scored, limits={"max_steps": 40}, checkpoint_steps=5)
    run = place.submitted(config)
    environment = os.environ | {
        "MRD_HOME": str(place.settings.home),
        "MRD_STORE_URL": place.settings.store_url,
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        process_of("run", run.run.directory),
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while len(place.store.sample_updates(run.run.id)) < 24:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 6 <= len(run.files.read_steps()) < 40
    (gone,) = lost(place.store)
    assert gone.state is RunState.LOST
    resumed = run.resumed()
    assert "Goes on after step" in " ".join(place.store.events(run.run.id)["message"])
    assert_same_end(resumed, place.carried_out(config))


def test_what_a_checkpoint_has_behind_it_is_in_the_store_however_the_worker_dies(
    place: Place, scored: Scored, whole: Unlearned, at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is held back for a moment is lost with the process.
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", float("inf"))
    at_step(7, interrupt)
    run = place.carried_out(nine_steps(scored, checkpoint_steps=5, evaluation=EVALUATION))
    assert run.run.state is RunState.CANCELLED
    assert [path.name for path in checkpoints.existing(run.files.checkpoints)] == ["checkpoint-5"]
    assert len(run.steps) == 7
    assert [line["step"] for line in run.files.read_evaluations()] == [0, 3, 6]
    monkeypatch.undo()
    resumed = run.resumed()
    assert_same_end(resumed, whole)
    # What was evaluated beyond the checkpoint is evaluated once more and stands there once.
    for line, expected in zip(resumed.files.read_evaluations(), whole.files.read_evaluations(), strict=True):
        assert line == pytest.approx(expected | {"seconds": line["seconds"]}, abs=1e-6)
    for name in ("evaluations", "flops_evaluations"):
        assert resumed.summary[name] == whole.summary[name]
    assert set(resumed.metric("evaluation_utility")) == {0, 3, 6, 9}


def test_a_run_that_dies_before_its_first_checkpoint_begins_anew(
    place: Place, scored: Scored, whole: Unlearned, at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)
    at_step(4, interrupt)
    run = place.carried_out(nine_steps(scored))
    assert set(run.updates["step"]) == {1, 2, 3, 4}
    assert not checkpoints.existing(run.files.checkpoints)
    # A line that was cut short does not count.
    with run.files.steps.open("a") as stream:
        stream.write('{"step": 5, "for')
    monkeypatch.undo()
    assert_same_end(run.resumed(), whole)


@pytest.mark.parametrize("piece", ["conclude", "save_model", "after the model", "after the summary"])
def test_a_run_that_dies_between_its_last_step_and_its_result_has_the_same_result(
    place: Place, scored: Scored, whole: Unlearned, monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    def after(original: Callable[..., Any]) -> Callable[..., Any]:
        def both(*arguments: Any) -> None:
            original(*arguments)
            interrupt()

        return both

    if piece == "after the model":
        monkeypatch.setattr(job, "save_model", after(job.save_model))
    elif piece == "after the summary":
        monkeypatch.setattr(job.UnlearningFiles, "remove_scaffolding", interrupt)
    else:
        monkeypatch.setattr(job, piece, interrupt)
    run = place.carried_out(nine_steps(scored))
    assert run.run.state is RunState.CANCELLED
    assert run.files.checkpoints.exists()
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "step", interrupt)
    assert_same_end(run.resumed(), whole)


def test_a_cancelled_run_keeps_a_checkpoint_and_goes_on_from_it(
    place: Place, scored: Scored, whole: Unlearned, at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_context, "CANCEL_POLL_INTERVAL", 0.0)
    run = place.submitted(nine_steps(scored))
    at_step(6, lambda: place.store.request_cancel(run.run.id))
    cancelled = run.carried_out()
    assert cancelled.run.state is RunState.CANCELLED
    assert cancelled.run.error is None
    assert [path.name for path in checkpoints.existing(run.files.checkpoints)] == ["checkpoint-7"]
    assert set(cancelled.updates["step"]) == set(range(1, 8))
    assert not run.files.model.exists()
    assert not run.files.summary.exists()
    assert cancelled.run.progress["done"] == cancelled.updates["trained"].sum()
    at_step(0, interrupt)
    assert_same_end(run.resumed(), whole)


def test_the_time_of_earlier_attempts_counts(
    place: Place, scored: Scored, at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It counts up to the checkpoint that the run goes on from.
    at_step(1, lambda: time.sleep(0.3))
    at_step(3, interrupt)
    run = place.carried_out(long_config(scored, limits={"max_steps": 4}, checkpoint_steps=2))
    assert run.run.state is RunState.CANCELLED
    monkeypatch.undo()
    resumed = run.resumed()
    assert resumed.summary["seconds"] > resumed.summary["seconds_training"] > 0.3
