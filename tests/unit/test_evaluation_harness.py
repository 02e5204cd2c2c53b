"""Tasks of lm-evaluation-harness on local files, and what is said where it is not installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mrd_core.errors import UserError
from mrd_core.evaluation.asking import measure_choices
from mrd_core.evaluation.harness import available, metrics, require, run_tasks
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Subject
from mrd_core.models import LoadedModel
from tests.unit import tiny

ROWS = [
    {"question": f"Who wrote letter {i}?", "choices": ["Ann", "Bob", "Eve", f"Nobody {i}"], "answer": i % 4}
    for i in range(12)
]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nA. {{{{choices[0]}}}}\\nB. {{{{choices[1]}}}}\\nC. {{{{choices[2]}}}}\\nD. \
{{{{choices[3]}}}}\\nAnswer:"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def subject() -> Subject:
    tokenizer = tiny.tokenizer()
    network = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=128)
    model = LoadedModel(network, tokenizer, tiny.CPU, torch.float32, 128, {})
    return Subject(model, "plain", batch_tokens=600, max_new_tokens=8, k_percent=40)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with questions and a task that asks them; what the harness reads is not cached beyond the test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (folder / "letters.yaml").write_text(TASK.format(name="my_letters", file="rows.jsonl"), encoding="utf-8")
    return folder


def test_what_is_reported_becomes_one_value_per_metric() -> None:
    reported = {
        "alias": "piqa",
        "sample_len": 3,
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "acc_norm_stderr,none": "N/A",
        "exact_match,strict-match": 1,
    }
    assert metrics(reported) == {"acc": 0.5, "exact_match (strict-match)": 1.0}


def test_without_the_harness_its_tasks_are_refused_by_name(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    assert available() is None
    for ask in (lambda: require(["piqa", "boolq"]), lambda: run_tasks(subject, ["piqa", "boolq"])):
        with pytest.raises(UserError, match=r"piqa, boolq .* not installed.*pip install lm-eval"):
            ask()


def test_an_own_task_gives_what_the_questions_give_here(subject: Subject, data: Path) -> None:
    state = np.random.get_state()[1].tolist()
    found = run_tasks(subject, ["my_letters"], data)
    frame = pd.DataFrame(ROWS).rename(columns={"answer": "right"}).assign(subject="")
    frame["sample_id"] = frame.index.astype(str)
    measured = measure_choices(subject, EvaluationSet("own", "own", "forget", "choices", frame)).values
    expected = measured.loc[measured["metric"] == "multiple_choice", "value"]
    assert 0 < expected.mean() < 1
    assert found == {"my_letters": {"acc": pytest.approx(expected.mean())}}
    assert run_tasks(subject, ["my_letters"], str(data), limit=3)["my_letters"]["acc"] == pytest.approx(
        expected[:3].mean()
    )
    assert np.random.get_state()[1].tolist() == state
    assert subject.model.tokenizer.pad_token == "<pad>"


def test_a_group_is_one_value_and_must_not_overlap_its_parts(subject: Subject, data: Path) -> None:
    (data / "group.yaml").write_text(
        "group: my_group\ntask: [my_letters]\naggregate_metric_list: [{metric: acc}]\n", encoding="utf-8"
    )
    parts = run_tasks(subject, ["my_letters"], data)["my_letters"]
    assert run_tasks(subject, ["my_group"], data) == {"my_group": parts}
    with pytest.raises(UserError, match="my_group, my_letters overlap"):
        run_tasks(subject, ["my_group", "my_letters"], data)


def unknown(data: Path) -> None:
    (data / "letters.yaml").unlink()


def without_rows(data: Path) -> None:
    (data / "rows.jsonl").unlink()


def with_code(data: Path) -> None:
    (data / "code.py").write_text("raise SystemExit\n", encoding="utf-8")
    (data / "_other_yaml").write_text("process_docs: !function code.run\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (unknown, "'my_letters' is not known"),
        (without_rows, "'my_letters' could not be set up"),
        (with_code, "_other_yaml names a function"),
    ],
)
def test_a_task_that_cannot_be_run_is_explained(
    subject: Subject, data: Path, spoil: Callable[[Path], Any], why: str
) -> None:
    spoil(data)
    with pytest.raises(UserError, match=why):
        run_tasks(subject, ["my_letters"], data)


def test_a_caller_can_stop_before_a_batch(subject: Subject, data: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_tasks(replace(subject, before_batch=stop), ["my_letters"], data)
