"""What risk is left: hard samples that are still there, by the thresholds that were set, with texts or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.audit.config import RiskConfig
from analysis.audit.risk import risk_of
from analysis.redaction import LEFT_OUT
from cli.door import door
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.runs.directory import read_config, write_config
from mrd_core.samples import ForgetSet
from mrd_core.unlearning.files import UnlearningFiles
from tests.support.attacked import write_attacked
from tests.support.evaluations import write_evaluation
from tests.support.scored_demo import copied
from tests.support.unlearning_runs import N_FORGET, Place, scored_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short unlearning run."""
    scored = scored_tiny(tmp_path_factory.getbasetemp())
    return Place.of(tmp_path_factory.mktemp("risk")).carried_out(scored.config()).run.directory


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it in which MRD grows from sample to sample, and MA and NLL after unlearning are planted."""
    directory = copied(made, tmp_path / "run")
    files = UnlearningFiles(directory)
    curriculum, outcome = pd.read_parquet(files.curriculum), pd.read_parquet(files.outcome)
    curriculum.assign(mrd_answer_mean=np.arange(1.0, N_FORGET + 1)).to_parquet(files.curriculum)
    accuracy = [0.9, 0.2, 0.7, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]
    outcome.assign(accuracy_after=accuracy, nll_after=np.arange(N_FORGET) / 10).to_parquet(files.outcome)
    return directory


def evaluation(directory: Path, run: Path, ids: list[str]) -> Path:
    """An evaluation of a run with extraction strengths 0.0, 0.1, …"""
    strengths = np.arange(len(ids)) / 10
    write_evaluation(directory, {("forget", "extraction_strength"): strengths}, method="ga", ids={"forget": ids})
    write_config(directory, read_config(directory, EvaluateConfig).model_copy(update={"unlearn_run": run}))
    return directory


@pytest.mark.parametrize(
    ("settings", "at_risk", "rule"),
    [
        ({"accuracy": 0.7}, ["f0", "f2"], "MA ≥ 0.7"),
        ({"accuracy": 0.71}, ["f0"], "MA ≥ 0.71"),
        ({"accuracy": 0.7, "hard": 0.4}, ["f0", "f2", "f3"], "MA ≥ 0.7"),
        ({"nll": 0.1}, ["f0", "f1"], "NLL ≤ 0.1"),
        ({"nll": 0.1, "accuracy": 0.7}, ["f0", "f1", "f2"], "MA ≥ 0.7 or NLL ≤ 0.1"),
        ({"accuracy": 1.0}, [], "MA ≥ 1"),
    ],
)
def test_hard_samples_beyond_a_threshold_are_listed(
    run: Path, settings: dict[str, Any], at_risk: list[str], rule: str
) -> None:
    risk = risk_of(RiskConfig(run=run, **settings))
    assert list(risk.listed["sample_id"]) == at_risk
    hard = 4 if "hard" in settings else 3
    there = int((~risk.table["hard"] & (risk.table["still_there"] != "")).sum())
    others = f"{there} of the {N_FORGET - hard} others"
    assert risk.sentence == f"{len(at_risk)} of the {hard} hard samples are still there ({rule}), {others}."
    assert len(risk.table) == N_FORGET


def test_without_a_threshold_that_of_the_run_is_used(run: Path) -> None:
    threshold = UnlearningFiles(run).read_summary()["thresholds"]["accuracy"]
    assert [each.value for each in risk_of(RiskConfig(run=run)).thresholds] == [threshold]


def test_extraction_strength_comes_from_an_evaluation_of_the_run(run: Path, tmp_path: Path) -> None:
    ids = list(ForgetSet.load(UnlearningFiles(run).samples).frame["sample_id"])
    of_run = evaluation(tmp_path / "evaluation", run, ids[:9])
    risk = risk_of(RiskConfig(run=run, extraction=0.2, hard=0.5, evaluation=of_run))
    assert list(risk.listed["sample_id"]) == ["f2", "f3", "f4"]
    assert "1 samples have no extraction strength in the evaluation." in risk.notes
    with pytest.raises(UserError, match="is a threshold of what the run itself does not measure"):
        risk_of(RiskConfig(run=run, extraction=0.2))
    other = evaluation(tmp_path / "other", tmp_path / "another run", ids)
    with pytest.raises(UserError, match="is not of the result of this run, but of"):
        risk_of(RiskConfig(run=run, extraction=0.2, evaluation=other))
    write_evaluation(tmp_path / "bare", {("forget", "probability"): np.zeros(N_FORGET)}, method="ga")
    write_config(tmp_path / "bare", read_config(of_run, EvaluateConfig))
    with pytest.raises(UserError, match="has no extraction strength of the forget set"):
        risk_of(RiskConfig(run=run, extraction=0.2, evaluation=tmp_path / "bare"))


def test_what_is_not_known_is_said(run: Path) -> None:
    files = UnlearningFiles(run)
    curriculum = pd.read_parquet(files.curriculum)
    curriculum.loc[0, "mrd_answer_mean"] = np.nan
    curriculum.to_parquet(files.curriculum)
    risk = risk_of(RiskConfig(run=run, accuracy=0.7))
    assert list(risk.listed["sample_id"]) == ["f2", "f3"]
    assert risk.notes[0] == "1 samples have no MRD, and count as not hard."
    assert risk.notes[1].startswith("What is left of the rest was not measured")


def test_a_run_that_lost_its_outcome_is_named(run: Path) -> None:
    UnlearningFiles(run).summary.unlink()
    with pytest.raises(UserError, match=r"has no summary\.json"):
        risk_of(RiskConfig(run=run))


@pytest.mark.parametrize("hidden", [False, True])
def test_the_command_lists_texts_or_ids_alone_and_writes_files(run: Path, tmp_path: Path, hidden: bool) -> None:
    words = ["audit", "risk", str(run), "--accuracy", "0.7", "--out", str(tmp_path / "out")]
    words += ["--without-texts"] if hidden else []
    printed, as_json = (CliRunner().invoke(door, [*words, *more]) for more in ([], ["--json"]))
    assert (printed.exit_code, as_json.exit_code) == (0, 0), printed.output
    samples = ForgetSet.load(UnlearningFiles(run).samples).frame.set_index("sample_id")
    written = "".join((tmp_path / "out" / name).read_text() for name in ("risk.json", "risk.csv", "risk.md"))
    result = json.loads(as_json.stdout)
    assert [row["sample_id"] for row in result["samples"]] == ["f0", "f2"]
    assert result["samples"][0]["answer"] == (LEFT_OUT if hidden else samples.loc["f0", "answer"])
    for place in (printed.output.replace("\n", " "), written):
        assert (samples.loc["f0", "answer"].split()[0] in place) is not hidden
        assert "f2" in place


def test_what_came_back_is_a_risk_hard_or_not(run: Path, tmp_path: Path) -> None:
    ends = {
        "benign": {"f1": (0.2, 0.3), "f4": (0.1, 0.6), "f5": (0.9, 0.9), "f9": (0.1, 0.2)},
        "jogging": {"f1": (0.2, 0.8), "f4": (0.1, 0.7), "f5": (0.9, 1.0), "f9": (0.1, 0.2)},
        "control": {"f9": (0.1, 0.9)},
    }
    attacked = write_attacked(tmp_path / "attacked", run, ends)
    risk = risk_of(RiskConfig(run=run, accuracy=0.7, durability=attacked))
    table = risk.table.set_index("sample_id")
    back = {"f1": "jogging", "f4": "benign, jogging", "f9": ""}
    assert table["comes_back"].dropna().to_dict() == back
    assert set(risk.listed["sample_id"]) == {"f0", "f2", "f1", "f4"}
    assert not table.loc["f4", "hard"]
    assert risk.sentence.endswith("Of 3 that look forgotten, to the attacks too, 2 came back.")
    # Too few came back for a probability.
    assert table["probability"].isna().all()
    assert "others may bring back more" in risk.notes[-1]
    bare = risk_of(RiskConfig(run=run, accuracy=0.7))
    assert set(bare.listed["sample_id"]) == {"f0", "f2"}
    assert "comes_back" not in bare.table


def test_what_was_not_attacked_neither_came_back_nor_stayed_away(run: Path, tmp_path: Path) -> None:
    # Jogging trained on f1 each time; f9 was not studied at all.
    ends = {
        "jogging": {f"f{i}": (0.2, 0.3) for i in range(N_FORGET) if i not in (1, 9)},
        "benign": {f"f{i}": (0.2, 0.3) for i in range(N_FORGET) if i != 9},
    }
    risk = risk_of(RiskConfig(run=run, accuracy=0.0001, durability=write_attacked(tmp_path / "a", run, ends)))
    back = risk.table.set_index("sample_id")["comes_back"]
    assert back["f1"] == ""
    assert np.isnan(back["f9"])
    assert "to the attacks too, 0 came back" in risk.sentence


def test_what_no_attack_found_forgotten_did_not_stay_away(run: Path, tmp_path: Path) -> None:
    # To the run, by a high threshold, they are forgotten; to the attacks they have been known all along.
    ends = {"benign": {f"f{i}": (0.6 if i else 0.2, 0.7 if i else 0.3) for i in range(N_FORGET)}}
    risk = risk_of(RiskConfig(run=run, accuracy=0.99, durability=write_attacked(tmp_path / "a", run, ends)))
    back = risk.table.set_index("sample_id")["comes_back"]
    assert back.dropna().to_dict() == {"f0": ""}
    assert "that look forgotten, to the attacks too, 0 came back" in risk.sentence or "f0" in set(
        risk.table.loc[risk.table["still_there"] != "", "sample_id"]
    )


def test_an_experiment_on_another_run_is_refused(run: Path, made: Path, tmp_path: Path) -> None:
    attacked = write_attacked(tmp_path / "attacked", made, {"jogging": {"f1": (0.2, 0.8)}})
    with pytest.raises(UserError, match="did not attack the result of this run") as error:
        risk_of(RiskConfig(run=run, durability=attacked))
    assert f"--run {run}" in error.value.fix


def test_a_run_that_was_judged_by_a_margin_is_said_to_be(run: Path) -> None:
    files = UnlearningFiles(run)
    summary = files.read_summary()
    thresholds = summary["thresholds"] | {"margin": -2.0}
    files.summary.write_text(json.dumps(summary | {"thresholds": thresholds}), encoding="utf-8")
    notes = risk_of(RiskConfig(run=run, accuracy=0.7)).notes
    assert any("only where it leads by more than -2 logits" in note for note in notes)
