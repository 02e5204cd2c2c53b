"""`mrd-lens compare` by its front door: directories and files in, tables, JSON and files out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cli.door import main
from tests.support.commands import Outcome
from tests.support.evaluations import answers_of, write_evaluation


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that compares in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mrd-lens", "compare", *map(str, arguments)])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        return Outcome(int(code or 0), *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("judged")
    values = [answers_of(np.random.default_rng(seed), level, 15) for seed, level in enumerate((0.5, 0.9))]
    mrd = np.arange(15.0)
    by_index = {str(at): {"rougeL_recall": 0.2} for at in range(15)}
    file = base / "theirs.json"
    file.write_text(json.dumps({"forget_Q_A_ROUGE": {"agg_value": 0.2, "value_by_index": by_index}}))
    return {
        "ga": write_evaluation(base / "ga", values[0], method="ga", mrd=mrd),
        "original": write_evaluation(base / "original", values[1], mrd=mrd),
        "wmdp": write_evaluation(base / "wmdp", {("bio", "multiple_choice"): [1, 0, 1, 1]}, suite="wmdp"),
        "file": file,
    }


def test_the_original_is_the_baseline_and_everything_is_said_as_json(
    judge: Callable[..., Outcome], evaluations: dict[str, Path], tmp_path: Path
) -> None:
    sources = [evaluations[name] for name in ("ga", "original", "file")]
    outcome = judge(*sources, "--json", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["baseline"] == "Original"
    assert [group["label"] for group in found["groups"]] == ["Original", "GA", "theirs"]
    assert {each["part"] for each in found["strata"]} == {"value", "difference", "interaction"}
    # By probability, which leads, and which the file does not have.
    assert len(found["change"]) == 15
    written = {path.name for path in (tmp_path / "out").iterdir()}
    data = {"comparison.csv", "comparison.parquet"}
    assert data | {"table.md", "table.tex", "strata.csv", "change.csv"} < written
    assert "table.tex" in outcome.err


def test_columns_and_intervals_are_for_tables_and_the_data_have_all(
    judge: Callable[..., Outcome], evaluations: dict[str, Path], tmp_path: Path
) -> None:
    sources = [evaluations[name] for name in ("original", "ga")]
    outcome = judge(*sources, "--columns", "rr, utility", "--intervals", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "Completeness" not in outcome.out
    assert "[95 % over samples]" in outcome.said
    head = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()[0]
    assert head == "| Setting | Runs | RR | Utility |"
    data = pd.read_parquet(tmp_path / "comparison.parquet")
    assert {"ua", "rr", "utility", "completeness"} < set(data["column"])


def test_tables_say_what_a_terminal_has_room_for(
    judge: Callable[..., Outcome], evaluations: dict[str, Path]
) -> None:
    outcome = judge(evaluations["original"], evaluations["ga"], "--baseline", evaluations["ga"])
    assert outcome.code == 0, outcome.err
    assert "differs from GA by more than the noise" in outcome.said
    assert "Completeness" in outcome.out
    assert "Mind: One seed: GA." in outcome.said
    assert "hard − easy" in outcome.out


def test_an_evaluation_alone_is_shown_with_its_intervals(
    judge: Callable[..., Outcome], evaluations: dict[str, Path]
) -> None:
    outcome = judge(evaluations["wmdp"])
    assert outcome.code == 0, outcome.err
    assert "95 % over samples" in outcome.out
    assert "1 − Bio" in outcome.out
    assert "No run has MRD beside its values" in outcome.said


def test_what_may_be_guessed_is_marked_where_an_evaluation_stands_alone(
    judge: Callable[..., Outcome], tmp_path: Path
) -> None:
    right = {("bio", "multiple_choice"): [1] * 10 + [0] * 30}
    outcome = judge(write_evaluation(tmp_path / "wmdp", right, suite="wmdp", options=4))
    assert outcome.code == 0, outcome.err
    assert "1 − Bio†" in outcome.out


def test_what_cannot_be_judged_is_said_without_a_traceback(
    judge: Callable[..., Outcome], evaluations: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("[1, 2]")
    original = evaluations["original"]
    for arguments, said in (
        ([original, evaluations["wmdp"]], "different suites"),
        ([original, "--baseline", evaluations["ga"]], "is none of the evaluations"),
        ([original, "--column", "mrd_full"], "is not in the scores"),
        ([original, "--columns", "nothing"], "is none of this comparison"),
        ([original, "--json", "--columns", "nothing"], "is none of this comparison"),
        ([original, broken], "Expected an object with an entry for each metric"),
        ([original, "--out", evaluations["ga"]], "is the directory of a run"),
        ([tmp_path / "nowhere"], "nowhere"),
    ):
        outcome = judge(*arguments)
        assert outcome.code == 2
        assert said in outcome.said
        assert "Traceback" not in outcome.said
