"""Evaluations as logs of Inspect: what its own reader finds in them, and what is said where it is not there."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.export.inspect_log import available, inspect_logs
from analysis.redaction import LEFT_OUT
from cli.door import main
from mrd_core.errors import UserError
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.files import write_frame
from tests.support.evaluations import write_evaluation

with_inspect = pytest.mark.skipif(not available(), reason="inspect_ai (requirements-inspect.txt) is not installed")
VALUES = {
    ("forget", "rouge"): [0.5, 1.0, np.nan],
    ("forget", "probability"): [0.1, 0.2, 0.3],
    ("retain", "rouge"): [0.9, 0.7],
}
AGGREGATES = {("forget", "rouge"): 0.75, ("retain", "rouge"): 0.8, ("forget", "mia_loss_unseen"): None}
MRD = [0.3, 0.1, np.nan]


def write(directory: Path, **changes: Any) -> Path:
    settings = {"method": "ga", "seed": 3, "mrd": MRD, "aggregates": AGGREGATES, "notes": ["Mind this."]}
    return write_evaluation(directory, VALUES, **(settings | changes))


def opened(directory: Path, folder: Path, **options: Any) -> Any:
    """Return what Inspect's reader makes of the log of an evaluation."""
    from inspect_ai.log import read_eval_log

    ((name, content),) = inspect_logs([directory], **options).items()
    path = folder / name
    path.write_bytes(content())
    return read_eval_log(path)


@with_inspect
def test_the_reader_finds_every_sample_with_its_texts_values_and_difficulty(tmp_path: Path) -> None:
    log = opened(write(tmp_path / "after"), tmp_path)
    assert (log.status, log.eval.task, log.eval.model) == ("success", "custom", "full, GA, seed 3")
    assert log.eval.metadata["notes"] == ["Mind this."]
    assert [sample.id for sample in log.samples] == [
        *(f"forget-forget-{at}" for at in range(3)),
        *(f"retain-retain-{at}" for at in range(2)),
    ]
    easy, hard, unknown, *kept = log.samples
    assert (easy.input, easy.target, easy.output.completion) == ("Who is forget-0?", "forget-0", "It is forget-0.")
    assert {name: score.value for name, score in hard.scores.items()} == {"rouge": 1.0, "probability": 0.2}
    assert np.isnan(unknown.scores["rouge"].value)
    assert {score.answer for score in unknown.scores.values()} == {"It is forget-2."}
    assert [sample.metadata.get("difficulty") for sample in log.samples] == ["middle", "hard", None, None, None]
    assert (hard.metadata["sample_id"], hard.metadata["mrd_answer_mean"]) == ("forget-1", 0.1)
    assert unknown.metadata["mrd_answer_mean"] is None
    assert {sample.metadata["role"] for sample in kept} == {"retain"}


@with_inspect
def test_the_results_are_the_aggregates_of_each_set(tmp_path: Path) -> None:
    scores = {score.name: score for score in opened(write(tmp_path / "after"), tmp_path).results.scores}
    rouge = {name: metric.value for name, metric in scores["rouge"].metrics.items()}
    assert rouge == {"forget": 0.75, "retain": 0.8}
    assert (scores["rouge"].scored_samples, scores["rouge"].unscored_samples) == (4, 1)
    assert scores["rouge"].metadata["forgotten"] == "low"
    assert np.isnan(scores["mia_loss_unseen"].metrics["forget"].value)


@with_inspect
@pytest.mark.parametrize(
    ("row", "input_text", "target", "choices"),
    [
        ({"question": "Which?", "choices": ["a", "b"], "right": 1, "subject": "x"}, "Which?", "B", ["a", "b"]),
        ({"prompt": "Go on", "references": ["so", "or so"]}, "Go on", ["so", "or so"], None),
        ({"prompt": "Go on", "is_question": True}, "Go on", "", None),
        ({"text": "A whole text."}, "A whole text.", "", None),
    ],
    ids=["choices", "completions", "prompts", "texts"],
)
def test_every_kind_of_set_has_its_input_and_target(
    tmp_path: Path, row: dict[str, Any], input_text: str, target: str | list[str], choices: list[str] | None
) -> None:
    directory = write_evaluation(tmp_path / "asked", {("forget", "nll"): [1.0]})
    files = EvaluationFiles(directory)
    write_frame(files.sets / "forget.parquet", pd.DataFrame([{"sample_id": "forget-0"} | row]))
    write_frame(files.answers, pd.read_parquet(files.answers).head(0))
    (sample,) = opened(directory, tmp_path).samples
    assert (sample.input, sample.target, sample.choices) == (input_text, target, choices)
    assert sample.output.completion == ""


@with_inspect
def test_what_a_further_way_of_asking_gave_stands_beside_the_first(tmp_path: Path) -> None:
    directory = write(tmp_path / "after")
    files = EvaluationFiles(directory)
    answers = pd.read_parquet(files.answers)
    again = answers.assign(asked="paraphrased question", prompt="Or who?", generated=None)
    write_frame(files.answers, pd.concat([answers, again]))
    sample = opened(directory, tmp_path).samples[0]
    assert sample.output.completion == "It is forget-0."
    assert sample.metadata["paraphrased question"] == {
        "prompt": "Or who?",
        "reference": "forget-0",
        "generated": None,
    }


@with_inspect
def test_ids_of_strangers_name_no_file_out_of_the_log(tmp_path: Path) -> None:
    ids = {"forget": ["../../out", "/etc/x", "fine"]}
    directory = write(tmp_path / "after", ids=ids)
    log = opened(directory, tmp_path)
    assert [sample.metadata["sample_id"] for sample in log.samples][:3] == ids["forget"]
    with zipfile.ZipFile(next(tmp_path.glob("*.eval"))) as archive:
        names = [name for name in archive.namelist() if name.startswith("samples/")]
    assert names[:3] == [f"samples/forget-{place}_epoch_1.json" for place in (1, 2, 3)]


@with_inspect
def test_without_texts_there_are_ids_and_figures(tmp_path: Path) -> None:
    directory = write(tmp_path / "after")
    log = opened(directory, tmp_path, texts=False)
    with zipfile.ZipFile(next(tmp_path.glob("*.eval"))) as archive:
        everything = "".join(archive.read(name).decode() for name in archive.namelist())
    assert "Who is" not in everything
    assert "It is" not in everything
    assert {log.samples[0].input, log.samples[0].target, log.samples[0].output.completion} == {LEFT_OUT}
    assert log.samples[0].metadata["sample_id"] == "forget-0"
    assert log.samples[0].scores["rouge"].value == 0.5


@with_inspect
def test_the_command_writes_a_log_for_each_evaluation_that_inspect_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    directories = [write(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "second"))]
    monkeypatch.setattr(sys, "argv", ["mrd-lens", "export", "inspect", *map(str, directories), "--out", "logs"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    logs = list_eval_logs(str(tmp_path / "logs"))
    assert {log.task for log in logs} == {"custom"}
    assert {read_eval_log(log, header_only=True).eval.metadata["seed"] for log in logs} == {0, 1}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "logs").iterdir()} == {0o600}


def test_without_inspect_the_way_to_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "inspect_ai" else find(name, *rest)
    )
    arguments = ["mrd-lens", "export", "inspect", str(write(tmp_path / "after")), "--out", str(tmp_path / "logs")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install inspect-ai" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "logs").exists()


@with_inspect
def test_an_evaluation_that_has_not_ended_or_lost_its_rows_is_named(tmp_path: Path) -> None:
    directory = write(tmp_path / "after")
    (EvaluationFiles(directory).sets / "retain.parquet").unlink()
    ((_, content),) = inspect_logs([directory]).items()
    with pytest.raises(UserError, match="rows of its set retain no longer"):
        content()
    EvaluationFiles(directory).summary.unlink()
    with pytest.raises(UserError, match=r"has no summary\.json"):
        inspect_logs([directory])
