"""Durability: unlearned models under attack, held against plain loops and carried out through the front door."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis.evidence.kinds import evidence_of
from analysis.evidence.measurements import read_measurements
from mrd_core.errors import UserError
from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.job import experiment_job
from mrd_core.experiments.kinds.durability import REFERENCE, DurabilityConfig, chosen_rate
from mrd_core.experiments.relearning import MAX_GRAD_NORM, Relearner
from mrd_core.experiments.request import prepare
from mrd_core.model.round_trip import round_weights
from mrd_core.runs import RunStore
from mrd_core.runs.directory import write_config
from mrd_core.runs.files import read_json, write_json
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from tests.support.commands import PATIENCE, read_back, started
from tests.support.experiment_runs import Quiet, killed_after
from tests.support.tiny import encode
from tests.support.unlearning_runs import N_FORGET, Place, Scored, Unlearned, forget_rows, scored_tiny
from tests.unit.conftest import CONTEXT, write_rows

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]

STEPS, SEEDS, RATE, BATCH = 5, 2, 3e-3, 2
SIZES = {
    "samples": str(N_FORGET),
    "steps": str(STEPS),
    "seeds": str(SEEDS),
    "share": "0.3",
    "batch-size": str(BATCH),
    "draws": "3",
    "sampled": "4",
    "given": "1,2",
}
FAST = SIZES | {"learning-rate": str(RATE)}
COURSES = ("accuracy_course", "nll_course", "extraction_course", "rouge_course")


@dataclass(frozen=True)
class Attacked:
    """A durability experiment on the tiny model, and what was attacked."""

    files: ExperimentFiles
    run: Unlearned
    scored: Scored
    rows: pd.DataFrame
    summary: dict[str, Any]

    def part(self, name: str) -> pd.DataFrame:
        return self.rows[self.rows["part"] == name].reset_index(drop=True)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def unlearned(scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> Unlearned:
    """A model that has lost most of the forget set, and knows its retain set."""
    place = Place.of(tmp_path_factory.mktemp("unlearned"))
    config = scored.config(method="graddiff", retain=scored.kept, limits={"max_steps": 30})
    return place.carried_out(config)


@pytest.fixture(scope="module")
def paraphrases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the samples asked otherwise, by their answers, and a row that is nobody's."""
    asked = [
        {"question": row["question"], "paraphrased_question": f"Say: {row['question']}", "answer": row["answer"]}
        for row in forget_rows()[2:5]
    ]
    nobody = {"question": "x", "paraphrased_question": "y", "answer": "of no sample"}
    return write_rows(tmp_path_factory.mktemp("asked") / "paraphrases.jsonl", [*asked, nobody])


@pytest.fixture(scope="module")
def attacked(
    unlearned: Unlearned, scored: Scored, paraphrases: Path, tmp_path_factory: pytest.TempPathFactory
) -> Attacked:
    """The starting model stands for the reference: it knows all from the beginning."""
    out = tmp_path_factory.mktemp("attacked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRD_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("OMP_NUM_THREADS", "1")
        options = {"reference": str(scored.model), "paraphrases": str(paraphrases), **FAST, "out": str(out)}
        carried_out(unlearned, options)
    files = ExperimentFiles(out)
    return Attacked(files, unlearned, scored, files.read_rows(), files.read_summary())


def words(unlearned: Unlearned, options: dict[str, str]) -> list[object]:
    typed = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["experiment", "durability", "--run", unlearned.run.directory, *typed]


def carried_out(unlearned: Unlearned, options: dict[str, str]) -> None:
    process = started(*words(unlearned, options))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (out, err)


def texts(scored: Scored, folder: Path) -> tuple[Any, Any, list[Any], list[Any]]:
    """Return model, tokenizer, forget samples and retain samples as tokens."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sets = [read(ForgetSetConfig(source=str(path))) for path in (scored.forget, scored.retain)]
    forget, retain = (encode(each, tokenizer, CONTEXT, "plain") for each in sets)
    return model, tokenizer, list(forget.samples), list(retain.samples)


def recall(model: Any, sample: Any) -> tuple[float, float]:
    """Return MA and NLL of a sample, by a loop over its answer tokens."""
    ids = torch.from_numpy(sample.tokens).unsqueeze(0)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double()
    places = np.flatnonzero(sample.answer)
    hits = [int(logits[place].argmax()) == int(ids[0, place + 1]) for place in places]
    nll = [-float(logits[place].log_softmax(0)[ids[0, place + 1]]) for place in places]
    return float(np.mean(hits)), float(np.mean(nll))


def relearned(model: Any, batches: list[list[Any]]) -> Any:
    """Train on these batches by a plain loop: mean NLL over the answer tokens, clipped, AdamW."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for batch in batches:
        optimiser.zero_grad()
        losses = []
        for sample in batch:
            ids = torch.from_numpy(sample.tokens).unsqueeze(0)
            log_probs = model(input_ids=ids).logits[0].log_softmax(1)
            losses += [-log_probs[place, ids[0, place + 1]] for place in np.flatnonzero(sample.answer)]
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimiser.step()
    return model


def test_every_model_goes_through_every_attack(attacked: Attacked) -> None:
    name = attacked.run.run.directory.name
    courses = attacked.part("course")
    assert set(zip(courses["model"], courses["attack"], courses["seed"], strict=True)) == {
        (model, attack, seed)
        for model in (name, REFERENCE)
        for attack in ("jogging", "benign", "control")
        for seed in range(SEEDS)
    }
    assert set(attacked.part("round trip")["bits"]) == {8, 4}
    assert set(attacked.part("start")["model"]) == {name, REFERENCE}
    assert attacked.summary["looks"] == [0, 1, 2, 4, 5]
    assert {model["model"] for model in attacked.summary["models"]} == {name, REFERENCE}
    for column in COURSES:
        assert {len(values) for values in courses[column]} == {5}


def test_what_is_trained_on_is_a_share_of_the_forget_set_and_leaves_the_outcome(attacked: Attacked) -> None:
    courses = attacked.part("course")
    trained = courses.groupby(["attack", "seed", "model"])["trained"].sum()
    assert set(trained.loc["jogging"]) == {3}
    assert set(trained.loc[["benign", "control"]]) == {0}
    jogged = courses[courses["trained"].astype(bool)].groupby(["seed", "model"])["sample_id"].agg(tuple)
    assert jogged.groupby("seed").nunique().eq(1).all(), "the same rows in all models"
    assert len(set(jogged)) == SEEDS, "other rows with another seed"


@pytest.mark.parametrize("attack", ["jogging", "benign"])
def test_relearning_is_that_of_a_plain_loop(
    attack: str, attacked: Attacked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The batches are the product's; what they do to the weights is a loop's of its own."""
    model, _tokenizer, forget, retain = texts(attacked.scored, attacked.run.files.model)
    pool = forget if attack == "jogging" else retain
    by_tokens = {sample.tokens.tobytes(): sample for sample in pool}
    drawn: list[list[Any]] = []
    step = Relearner._step

    def noted(self: Relearner, victim: Any, batch: Any, optimiser: Any) -> float:
        drawn.append([by_tokens[sample.tokens.tobytes()] for sample in batch])
        return step(self, victim, batch, optimiser)

    monkeypatch.setattr(Relearner, "_step", noted)
    rows = again(attacked, tmp_path, attack)
    relearned(model, drawn[:STEPS])
    courses = rows[(rows["part"] == "course") & (rows["seed"] == 0) & (rows["attack"] == attack)]
    of_run = courses[courses["model"] != REFERENCE].set_index("sample_id")
    assert len(drawn[0]) == BATCH
    for number, sample in enumerate(forget):
        accuracy, nll = recall(model, sample)
        assert of_run.loc[f"f{number}", "nll_course"][-1] == pytest.approx(nll, rel=2e-3, abs=1e-4)
        assert abs(of_run.loc[f"f{number}", "accuracy_course"][-1] - accuracy) <= 1 / sample.answer.sum() + 1e-6


def again(attacked: Attacked, folder: Path, attack: str) -> pd.DataFrame:
    """Carry out one attack anew in this process and return its rows; they are those of the run."""
    typed: dict[str, Any] = {"run": [str(attacked.run.run.directory)], "attacks": [attack]}
    config = COMMANDS["durability"].read(FAST | {"given": ["1"]} | typed)
    directory = folder / "again"
    directory.mkdir()
    prepare(config, directory)
    experiment_job(config, Quiet(directory))
    rows = ExperimentFiles(directory).read_rows()
    mine = rows[rows["part"] == "course"].reset_index(drop=True)
    theirs = attacked.part("course")
    theirs = theirs[(theirs["attack"] == attack) & (theirs["model"] != REFERENCE)].reset_index(drop=True)
    for column in COURSES:
        assert [list(values) for values in mine[column]] == [list(values) for values in theirs[column]]
    return rows


@pytest.fixture(scope="module")
def caught(attacked: Attacked, tmp_path_factory: pytest.TempPathFactory) -> tuple[Relearner, Any, list[Any]]:
    """What carried out an attack, the model that it attacked, and a batch of it."""
    held: list[tuple[Relearner, Any, list[Any]]] = []
    step = Relearner._step

    def noted(self: Relearner, victim: Any, batch: Any, optimiser: Any) -> float:
        held.append((self, victim, batch))
        return step(self, victim, batch, optimiser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Relearner, "_step", noted)
        again(attacked, tmp_path_factory.mktemp("caught"), "benign")
    return held[0]


def test_a_model_that_cannot_read_a_row_trains_on_the_others(caught: tuple[Relearner, Any, list[Any]]) -> None:
    relearner, victim, _ = caught
    ids = np.array(victim.forget.sample_ids)
    chosen = ids[relearner._places(victim.forget, "jogging", 0)]
    without_one = victim.forget.subset(np.flatnonzero(ids != chosen[0]))
    places = relearner._places(without_one, "jogging", 0)
    assert [without_one.sample_ids[place] for place in places] == list(chosen[1:])
    with pytest.raises(UserError, match="nothing to train on"):
        relearner._places(victim.forget.subset(np.flatnonzero(~np.isin(ids, chosen))), "jogging", 0)


def test_what_becomes_of_the_rest_is_told_by_rows_that_are_not_trained_on(
    caught: tuple[Relearner, Any, list[Any]],
) -> None:
    relearner, victim, _ = caught
    trained = {victim.retain.sample_ids[place] for place in relearner._places(victim.retain, "benign", 0)}
    looked = set(relearner._looked_at(victim, "benign", 0).sample_ids)
    assert looked == set(victim.retain.sample_ids) - trained
    assert set(relearner._looked_at(victim, "jogging", 0).sample_ids) == set(victim.retain.sample_ids)


def test_a_gradient_that_is_no_number_moves_nothing(caught: tuple[Relearner, Any, list[Any]]) -> None:
    relearner, victim, batch = caught
    victim.restore()
    network = victim.model.network
    before = [weight.detach().clone() for weight in network.parameters()]
    hook = next(network.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    loss = relearner._step(victim, batch, torch.optim.AdamW(network.parameters(), lr=RATE))
    hook.remove()
    assert not np.isfinite(loss)
    for weight, old in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(weight, old, rtol=0, atol=0)


def test_rounded_models_are_read_as_such_and_the_weights_come_back(attacked: Attacked) -> None:
    model, _tokenizer, forget, _retain = texts(attacked.scored, attacked.run.files.model)
    name, trips = attacked.run.run.directory.name, attacked.part("round trip")
    for bits in (8, 4):
        rounded = copy.deepcopy(model)
        round_weights(rounded, bits)
        of_bits = trips[(trips["bits"] == bits) & (trips["model"] == name)].set_index("sample_id")
        for number, sample in enumerate(forget):
            assert of_bits.loc[f"f{number}", "nll"] == pytest.approx(
                recall(rounded, sample)[1], rel=1e-3, abs=1e-4
            )
    start = attacked.part("start")
    of_run = start[start["model"] == name].set_index("sample_id")
    # What came after the rounding began from the weights of the run: paraphrases and samples did, see below.
    for number, sample in enumerate(forget):
        assert of_run.loc[f"f{number}", "nll"] == pytest.approx(recall(model, sample)[1], rel=1e-3, abs=1e-4)
    courses = attacked.part("course")
    firsts = (
        courses[courses["model"] == name].groupby("sample_id")["nll_course"].agg(lambda all_: {v[0] for v in all_})
    )
    assert all(values == {of_run.loc[sample_id, "nll"]} for sample_id, values in firsts.items())


def test_answers_are_begun_drawn_and_asked_for_otherwise(attacked: Attacked) -> None:
    prompted, sampled = attacked.part("prompted"), attacked.part("sampled")
    assert set(prompted["given"].dropna()) == {1, 2}
    asked = prompted[prompted["given"].isna()]
    assert set(asked["sample_id"]) == {"f2", "f3", "f4"}
    assert sampled.groupby("model")["draw"].nunique().eq(3).all()
    assert sampled.groupby(["model", "draw"])["sample_id"].nunique().eq(4).all()
    # The model that knows everything writes the rest of what is begun.
    known = prompted[(prompted["model"] == REFERENCE) & prompted["given"].notna()]["rouge"].dropna()
    assert known.mean() > 0.9
    assert sampled["rouge"].dropna().between(0, 1).all()


def test_the_run_says_what_it_needs_once_its_sources_are_gone(attacked: Attacked) -> None:
    told = read_json(attacked.files.unlearned)
    assert [entry["model"] for entry in told] == [attacked.run.run.directory.name]
    assert told[0]["summary"]["method"] == "graddiff"
    outcomes = pd.read_parquet(attacked.files.outcomes)
    assert {"model", "sample_id", "updates", "draws", "accuracy_after", "nll_after"} <= set(outcomes.columns)
    assert attacked.files.retain.exists()
    assert attacked.files.unrelated.exists()


@pytest.mark.long
def test_a_killed_relearning_goes_on_to_the_very_same_rows(
    attacked: Attacked, paraphrases: Path, tmp_path: Path, cli: Any
) -> None:
    files = ExperimentFiles(tmp_path / "run")
    options = {
        "reference": str(attacked.scored.model),
        "paraphrases": str(paraphrases),
        **FAST,
        "out": str(files.directory),
    }
    killed_after(files, 4, *words(attacked.run, options))
    (run,) = RunStore.open().list()
    assert cli("runs", "resume", run.id).code == 0
    assert files.rows.read_bytes() == attacked.files.rows.read_bytes()


@pytest.mark.parametrize(
    ("tries", "rate"),
    [
        ([(1e-4, 0.0, True), (3e-4, 0.3, True), (1e-3, 0.9, True)], 3e-4),
        ([(1e-4, 0.05, True), (3e-4, 0.1, True), (1e-3, 0.0, False)], 3e-4),
        ([(1e-4, 0.0, True), (3e-4, 0.0, False)], 1e-4),
    ],
)
def test_the_weakest_attack_that_is_strong_enough_is_made(tries: list[Any], rate: float) -> None:
    names = ("learning_rate", "returned", "finite")
    assert chosen_rate([dict(zip(names, each, strict=True)) for each in tries]) == rate


def test_without_a_rate_that_stays_finite_there_is_no_experiment() -> None:
    with pytest.raises(UserError, match="diverged at every learning rate"):
        chosen_rate([{"learning_rate": 1e-4, "returned": 0.0, "finite": False}])


def test_an_experiment_whose_relearning_diverges_says_so(attacked: Attacked, tmp_path: Path) -> None:
    typed: dict[str, Any] = {"run": [str(attacked.run.run.directory)], "attacks": ["benign"]}
    config = COMMANDS["durability"].read(SIZES | {"given": ["1"]} | typed)
    prepare(config, tmp_path)
    files = ExperimentFiles(tmp_path)
    (told,) = read_json(files.unlearned)
    # An adapter's rate is ten times that of all weights, which the attack trains.
    told["summary"] |= {"learning_rate": 1e31, "adapter": True}
    write_json(files.unlearned, [told])
    with pytest.raises(UserError, match="diverged at every learning rate"):
        experiment_job(config, Quiet(tmp_path))
    (row,) = files.finished_units()["rate"]
    assert (row["finite"], row["returned"], row["learning_rate"]) == (False, 0.0, pytest.approx(1e30))


def test_repeats_that_diverge_are_left_out_and_told(attacked: Attacked, tmp_path: Path) -> None:
    typed: dict[str, Any] = {"run": [str(attacked.run.run.directory)], "attacks": ["benign", "int4"]}
    config = COMMANDS["durability"].read(SIZES | {"given": ["1"], "learning-rate": "1e30"} | typed)
    write_config(tmp_path, config)
    prepare(config, tmp_path)
    summary = experiment_job(config, Quiet(tmp_path))
    assert f"{SEEDS} of {SEEDS} repeats on benign rows diverged" in " ".join(summary["warnings"])
    assert set(ExperimentFiles(tmp_path).read_rows()["part"]) == {"start", "round trip"}
    assert evidence_of(read_measurements(tmp_path)).verdict


def test_after_sgd_an_attack_begins_at_a_rate_of_its_own_optimiser(attacked: Attacked, tmp_path: Path) -> None:
    typed: dict[str, Any] = {"run": [str(attacked.run.run.directory)], "attacks": ["benign"]}
    config = COMMANDS["durability"].read(SIZES | {"given": ["1"], "steps": "1"} | typed)
    prepare(config, tmp_path)
    files = ExperimentFiles(tmp_path)
    (told,) = read_json(files.unlearned)
    told["config"]["optimiser"] |= {"name": "sgd"}
    told["summary"] |= {"learning_rate": 1e31}
    write_json(files.unlearned, [told])
    experiment_job(config, Quiet(tmp_path))
    assert files.finished_units()["rate"][0]["learning_rate"] == 1e-4


@pytest.mark.parametrize(("steps", "looks"), [(1, (0, 1)), (5, (0, 1, 2, 4, 5)), (16, (0, 1, 2, 4, 8, 16))])
def test_looks_grow_apart_and_end_at_the_end(steps: int, looks: tuple[int, ...], scored: Scored) -> None:
    assert config(scored, Path("run"), steps=steps).looks == looks


def config(scored: Scored, *runs: Path, **changes: Any) -> DurabilityConfig:
    settings = {"runs": runs, "forget_set": {"source": str(scored.forget)}, "model": {"source": str(scored.model)}}
    return DurabilityConfig.model_validate(settings | changes)


def test_the_command_that_is_shown_is_read_back(unlearned: Unlearned, scored: Scored) -> None:
    typed = {"run": [str(unlearned.run.directory)], "attacks": ["jogging,int4"], "steps": "7"}
    asked = COMMANDS["durability"].read(typed)
    shown = COMMANDS["durability"].shown(asked)
    assert shown.startswith(f"mrd-lens experiment durability --run {unlearned.run.directory}")
    assert "--scores" not in shown
    assert read_back(shown) == asked
    assert asked.retain is not None
    assert asked.score_run == scored.directory


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "needs an unlearning run"),
        (("--run", "/no/such/run"), "/no/such/run"),
        (("--run", "{scored}"), "{scored}"),
        (("--run", "{run},{run}"), "One is named twice"),
        (("--run", "{run}", "--attacks", "magic"), "--attacks magic"),
        (("--run", "{run}", "--paraphrases", "{forget}"), "have no row with the id or the answer"),
        (("--run", "{run}", "--paraphrases", "/no/such.csv"), "/no/such.csv"),
        (("--run", "{run}", "--steps", "0"), "--steps 0"),
    ],
)
def test_bad_options_are_explained_and_leave_nothing_behind(
    options: tuple[str, ...], reason: str, cli: Any, unlearned: Unlearned, scored: Scored
) -> None:
    places = {"run": unlearned.run.directory, "scored": scored.directory, "forget": scored.forget}
    outcome = cli("experiment", "durability", *(option.format(**places) for option in options))
    assert (outcome.code, outcome.out) == (2, "")
    assert reason.format(**places) in outcome.said
    assert "Traceback" not in outcome.err
    assert RunStore.open().list() == []


def test_units_are_written_as_they_are_done(attacked: Attacked) -> None:
    names = [json.loads(line)["unit"] for line in attacked.files.units.read_text().splitlines()]
    assert names == list(dict.fromkeys(names))
    name = attacked.run.run.directory.name
    assert names.index(f"start {name}") < names.index(f"jogging {name} 0") < names.index(f"start {REFERENCE}")
