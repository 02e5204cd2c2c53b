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
from mrd_core.model.loading import LoadedModel
from tests.support import tiny

pytestmark = pytest.mark.slow

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
    return Subject(model, tiny.encoder(tokenizer, 128), batch_tokens=600, max_new_tokens=8, k_percent=40)


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


def test_an_own_task_gives_what_the_questions_give_here(
    subject: Subject, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state = np.random.get_state()[1].tolist()
    found = run_tasks(subject, ["my_letters"], data)
    said = capfd.readouterr()
    # The harness asks git for a commit, which says so where there is none.
    assert (said.out, [line for line in said.err.splitlines() if "not a git repository" not in line]) == ("", [])
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


def changed(data: Path, old: str, new: str) -> None:
    file = data / "letters.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def with_a_function(data: Path) -> None:
    (data / "code.py").write_text(f"open({str(data / 'made')!r}, 'w')\n", encoding="utf-8")
    (data / "_other_yaml").write_text("process_docs: !function code.run\n", encoding="utf-8")


def with_a_disguised_function(data: Path) -> None:
    with_a_function(data)
    (data / "_other_yaml").unlink()
    changed(data, "test_split", "process_docs: !%66unction code.run\ntest_split")


def with_a_template_that_reaches_out(data: Path) -> None:
    reaching = f"{{{{ cycler.__init__.__globals__.os.popen('touch {data / 'made'}').read() }}}}"
    changed(data, 'doc_to_text: "', f'doc_to_text: "{reaching}')


def with_a_template_that_does_so_later(data: Path) -> None:
    reaching = f"cycler.__init__.__globals__.os.popen('touch {data / 'made'}').read()"
    changed(data, 'doc_to_text: "', f"doc_to_text: \"{{{{ {reaching} if question[-2] == '7' else '' }}}}")


def with_a_script_for_a_metric(data: Path) -> None:
    script = data / "evil.py"
    script.write_text(f"open({str(data / 'made')!r}, 'w')\n", encoding="utf-8")
    changed(data, "metric: acc", f"metric: {script}")


def with_a_metric_of_another_library(data: Path) -> None:
    changed(data, "metric: acc", "metric: f1\n    hf_evaluate: true")


def with_a_metric_in_a_group(data: Path) -> None:
    inner = "{task: my_letters, metric_list: [{metric: elsewhere}]}"
    (data / "group.yaml").write_text(f"group: g\ntask: [{inner}]\n", encoding="utf-8")


def including_what_lies_elsewhere(data: Path) -> None:
    (data.parent / "template").write_text("num_fewshot: 0\n", encoding="utf-8")
    changed(data, "test_split", "include: ../template\ntest_split")


def including_a_function(data: Path) -> None:
    with_a_function(data)
    (data / "_other_yaml").rename(data / "template")
    changed(data, "test_split", "include: template\ntest_split")


def without_an_include(data: Path) -> None:
    changed(data, "test_split", "include: template\ntest_split")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (unknown, "'my_letters' is not known"),
        (without_rows, "'my_letters' could not be set up"),
        (without_an_include, r"template cannot be read"),
        (with_a_function, "_other_yaml names a function"),
        (with_a_disguised_function, "letters.yaml names a function"),
        (with_a_template_that_reaches_out, "'my_letters' could not be set up .*unsafe"),
        (with_a_template_that_does_so_later, "my_letters could not be evaluated .*SecurityError.*unsafe"),
        (with_a_script_for_a_metric, "asks for the metric '.*evil.py' from outside"),
        (with_a_metric_of_another_library, "asks for the metric 'f1' from outside"),
        (with_a_metric_in_a_group, "group.yaml asks for the metric 'elsewhere' from outside"),
        (including_what_lies_elsewhere, r"includes \.\./template, which lies outside"),
        (including_a_function, "template names a function"),
    ],
)
def test_a_task_that_cannot_be_run_is_explained_and_no_code_of_it_is_run(
    subject: Subject, data: Path, spoil: Callable[[Path], Any], why: str
) -> None:
    spoil(data)
    with pytest.raises(UserError, match=why):
        run_tasks(subject, ["my_letters"], data)
    assert not (data / "made").exists()


def test_a_value_beyond_all_numbers_is_explained(subject: Subject, data: Path) -> None:
    (data / "words.yaml").write_text(
        "task: my_words\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: \"{{'x' * 3000}}\"\n"
        "metric_list: [{metric: word_perplexity}]\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r"my_words could not be evaluated .*OverflowError"):
        run_tasks(subject, ["my_words"], data, limit=1)


def test_a_caller_can_stop_before_a_batch(subject: Subject, data: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_tasks(replace(subject, before_batch=stop), ["my_letters"], data)
