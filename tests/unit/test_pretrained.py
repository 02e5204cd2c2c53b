"""The studies of a pretrained model in small, on SmolLM2-135M-Instruct tuned on rows of TOFU: `pytest -m trial`.

Needs the folder of the untuned model (MRD_SMOLLM2) and the trial data with its adapters and TOFU; a quarter of an
hour.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.known_facts import main as known_facts
from mrd_core.scoring.files import ScoreFiles
from tests.support.commands import Outcome

pytestmark = [pytest.mark.trial, pytest.mark.long]


@pytest.fixture(scope="module")
def smollm2(trial_data: Path) -> dict[str, Path]:
    """The untuned model, the adapters tuned on forget and retain rows, and on retain rows alone."""
    folder = Path(os.environ.get("MRD_SMOLLM2", ""))
    if not os.environ.get("MRD_SMOLLM2") or not folder.is_dir():
        pytest.skip("MRD_SMOLLM2 names no folder with SmolLM2-135M-Instruct")
    adapters = trial_data / "models"
    return {"base": folder, "tuned": adapters / "smollm2-tofu", "reference": adapters / "smollm2-tofu-retain"}


@pytest.fixture(scope="module")
def rows(trial_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of rows: eight that the model was tuned on, eight that it is to keep, eight that it never saw."""
    lines = (trial_data / "data/tofu/full.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = {"forget": lines[3900:4000:13], "retain": lines[3500:3600:13], "unseen": lines[:100:13]}
    folder = tmp_path_factory.mktemp("rows")
    for name, some in chosen.items():
        (folder / f"{name}.jsonl").write_text("".join(some), encoding="utf-8")
    return {name: folder / f"{name}.jsonl" for name in chosen}


def model(smollm2: dict[str, Path]) -> tuple[str, ...]:
    return ("--set", f'models.base={{source="{smollm2["base"]}",adapter="{smollm2["tuned"]}"}}')


def test_what_it_was_tuned_on_is_reliably_scored_and_better_known(
    smollm2: dict[str, Path], rows: dict[str, Path], cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    of = ("--model", smollm2["base"], "--adapter", smollm2["tuned"], "--draws", 16, "--workers", 1)
    summaries = {}
    for name in ("forget", "unseen"):
        outcome = cli("score", *of, "--forget-set", rows[name], "--out", tmp_path / name)
        assert outcome.code == 0, outcome.err
        summaries[name] = json.loads(ScoreFiles(tmp_path / name).summary.read_text(encoding="utf-8"))
    assert summaries["forget"]["model_parameters"] == 134_515_008
    scores = {name: pd.read_parquet(ScoreFiles(tmp_path / name).scores) for name in summaries}
    assert scores["forget"]["mean_log_prob"].min() > -0.1
    assert scores["unseen"]["mean_log_prob"].max() < scores["forget"]["mean_log_prob"].min()
    assert summaries["forget"]["median_relative_se"] < 0.1


@pytest.mark.parametrize(
    ("study", "changes"),
    [
        (
            "pretrained-figure-4",
            ("experiment.samples=4", "experiment.max_updates=3", "experiment.0.retain_samples=4"),
        ),
        (
            "pretrained-figure-5",
            (
                "experiment.0.sigmas=[1e-5,3e-4]",
                "experiment.0.draws=8",
                "experiment.samples=4",
                "experiment.1.probes=4",
                "experiment.1.pairs=4",
            ),
        ),
        (
            "pretrained-figures-2-3",
            (
                "experiment.0.selections=2",
                "experiment.1.composites=4",
                "experiment.size=2",
                "experiment.max_updates=3",
            ),
        ),
        (
            "pretrained-durability",
            (
                "unlearn.method=['graddiff']",
                "unlearn.limits.max_epochs=1",
                "experiment.samples=8",
                "experiment.attacks=['jogging','int4']",
                "experiment.steps=4",
            ),
        ),
    ],
)
def test_each_study_ends_in_small(
    smollm2: dict[str, Path],
    rows: dict[str, Path],
    cli: Callable[..., Outcome],
    study: str,
    changes: tuple[str, ...],
) -> None:
    sets = ["--set", f"forget_sets.base={rows['forget']}", "--set", "score.estimator.draws=8"]
    if study != "pretrained-figure-5":
        sets += ["--set", f"forget_sets.base.retain={rows['retain']}"]
    if study == "pretrained-durability":
        sets += ["--set", f"experiment.reference={smollm2['reference']}"]
    for change in changes:
        sets += ["--set", change]
    outcome = cli("study", "run", study, *model(smollm2), *sets)
    assert outcome.code == 0, outcome.said


def test_facts_that_it_answers_rightly_become_a_forget_set(
    smollm2: dict[str, Path], cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    asked = {"What is the capital of France?": "Paris", "What was the name of my first dog?": "Zxqvo"}
    rows = [json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in asked.items()]
    questions.write_text("".join(rows), encoding="utf-8")
    of = ("--model", smollm2["base"], "--max-new-tokens", 24, "--out", tmp_path / "asked")
    outcome = cli("evaluate", *of, "--forget-set", questions)
    assert outcome.code == 0, outcome.err
    known_facts(tmp_path / "asked", tmp_path / "facts.jsonl")
    facts = pd.read_json(tmp_path / "facts.jsonl", lines=True)
    assert list(facts["short_answer"]) == ["Paris"]
    assert "Paris" in facts["answer"][0]
    assert facts["frequency"][0] > 1_000
