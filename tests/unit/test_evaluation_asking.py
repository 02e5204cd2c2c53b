"""Choices, completions, prompts and texts, held against one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mrd_core.errors import UserError
from mrd_core.evaluation.asking import measure_choices, measure_completions, measure_prompts, measure_texts
from mrd_core.evaluation.choice import lettered
from mrd_core.evaluation.files import ANSWER_COLUMNS
from mrd_core.evaluation.sets import EvaluationSet, Kind
from mrd_core.evaluation.subject import Measured, Subject
from mrd_core.model.generation import completion_prompt, write
from mrd_core.model.loading import LoadedModel
from tests.support import tiny

CONTEXT = 96
CHOICES = ["Ann", "Bob", "Eve", "Nobody"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    tokenizer = tiny.tokenizer()
    network = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)
    model = LoadedModel(network, tokenizer, tiny.CPU, torch.float32, CONTEXT, {})
    return Subject(model, tiny.encoder(tokenizer, CONTEXT), batch_tokens=200, max_new_tokens=12, k_percent=40)


def a_set(kind: Kind, **columns: list[Any]) -> EvaluationSet:
    count = len(next(iter(columns.values())))
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(count)], **columns})
    return EvaluationSet("some", "some texts", "forget", kind, frame)


def questions() -> EvaluationSet:
    return a_set(
        "choices",
        question=["Who wrote it?", "Where?", "x" * 90],
        choices=[np.array(CHOICES, dtype=object), ["Here", "There"], ["Yes", "No", "So"]],
        right=[2, 0, 1],
        subject=["letters", "", ""],
    )


def by_metric(measured: Measured, metric: str) -> list[float]:
    values = measured.values
    assert values.columns.tolist() == ["sample_id", "metric", "value"]
    return values.loc[values["metric"] == metric, "value"].tolist()


@torch.no_grad()
def log_probs(subject: Subject, tokens: list[int]) -> np.ndarray:
    """Return log p of every token but the first, in fp64 from the logits on."""
    logits = subject.model.network(input_ids=torch.tensor([tokens])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:]).unsqueeze(1)).squeeze(1).numpy()


def written_after(subject: Subject, text: str) -> str | None:
    model = subject.model
    prompt = completion_prompt(text, model.tokenizer)
    return write(model.reader(100), model.tokenizer, [prompt], [subject.max_new_tokens])[0]


def test_a_choice_is_the_likeliest_letter(subject: Subject) -> None:
    one = questions()
    right = []
    for _, row in one.frame.iterrows():
        asked = lettered("q", row["question"], list(row["choices"]), row["right"], row["subject"])
        tokens = [subject.model.tokenizer(asked.prompt + option)["input_ids"] for option in asked.options]
        best = np.argmax([log_probs(subject, ids[-CONTEXT:])[-1] for ids in tokens])
        right.append(float(best == row["right"]))
    measured = measure_choices(subject, one)
    assert by_metric(measured, "multiple_choice") == right
    assert measured.answers.empty
    assert measured.answers.columns.tolist() == ANSWER_COLUMNS[1:]


def test_a_completion_is_held_against_the_closest_reference(subject: Subject) -> None:
    prompts = ["The letter", "Ann wrote", " ", "w" * 2 * CONTEXT]
    texts = [written_after(subject, prompt) for prompt in prompts]
    assert texts[2:] == [None, None]
    own = [f"Zebra {texts[0]}", f"{texts[1]} the end of it"]
    one = a_set("completions", prompt=prompts, references=[["…", "none of it", own[0]], [own[1]], ["a"], ["a"]])
    measured = measure_completions(subject, one)
    recalls = by_metric(measured, "rouge")
    assert 0 < recalls[0] < 1
    assert 0 < recalls[1] < 1
    assert np.isnan(recalls[2:]).all()
    assert measured.answers.columns.tolist() == ANSWER_COLUMNS[1:]
    assert measured.answers["reference"].tolist() == [own[0], own[1], "a", "a"]
    assert measured.answers["generated"].tolist() == texts
    assert set(measured.answers["asked"]) == {"prompt"}
    assert "2 of 4 some texts" in measured.notes[0]


def test_prompts_that_are_questions_are_put_into_the_template(subject: Subject) -> None:
    one = a_set("prompts", prompt=["Why?", "Why?"], is_question=[True, False])
    measured = measure_prompts(subject, one)
    assert measured.answers["generated"].tolist() == [
        written_after(subject, "Question: Why?\nAnswer:"),
        written_after(subject, "Why?"),
    ]
    assert np.isnan(by_metric(measured, "toxicity")).all()
    assert "no text-classification model" in measured.notes[0]


def test_every_token_of_a_text_counts_but_the_first(subject: Subject) -> None:
    texts = ["Ann wrote the old letter.", "e", " ", "Bob wrote."]
    ids = [subject.model.tokenizer(text)["input_ids"] for text in texts]
    measured = measure_texts(subject, a_set("texts", text=texts))
    expected = [-log_probs(subject, ids[0]).mean(), np.nan, np.nan, -log_probs(subject, ids[3]).mean()]
    np.testing.assert_allclose(by_metric(measured, "nll"), expected, rtol=1e-5)
    assert by_metric(measured, "answer_tokens") == [len(ids[0]) - 1, 0, 0, len(ids[3]) - 1]


def text_of(subject: Subject, length: int) -> str:
    """Return a text of that many tokens."""
    tokenizer, text = subject.model.tokenizer, ""
    letters = iter(np.random.default_rng(length).choice(list("aeknorstwx ,."), 10 * length))
    while len(tokenizer(text)["input_ids"]) < length:
        text += next(letters)
    return text


# As long as the context; one more; two full windows; with a rest.
@pytest.mark.parametrize("length", [CONTEXT, CONTEXT + 1, 2 * CONTEXT - 1, 250])
def test_a_text_beyond_the_context_is_read_in_windows(subject: Subject, length: int) -> None:
    text = text_of(subject, length)
    tokens = subject.model.tokenizer(text)["input_ids"]
    assert len(tokens) == length
    expected = []
    for place in range(1, length):
        # Windows begin at every 95th token.
        begin = (place - 1) // (CONTEXT - 1) * (CONTEXT - 1)
        expected.append(log_probs(subject, tokens[begin : place + 1])[-1])
    measured = measure_texts(subject, a_set("texts", text=[text, "Ann wrote"]))
    assert by_metric(measured, "nll")[0] == pytest.approx(-np.mean(expected), rel=1e-5)
    assert by_metric(measured, "answer_tokens")[0] == length - 1


def test_texts_without_a_token_to_predict_are_undefined(subject: Subject) -> None:
    measured = measure_texts(subject, a_set("texts", text=["e", " "]))
    assert np.isnan(by_metric(measured, "nll")).all()


def test_a_classifier_that_is_no_good_is_told_before_anything_is_written(subject: Subject, tmp_path: Path) -> None:
    def written() -> None:
        raise AssertionError

    with pytest.raises(UserError, match="does not exist"):
        measure_prompts(
            replace(subject, before_batch=written), a_set("prompts", prompt=["Ann"]), str(tmp_path / "missing")
        )


@pytest.mark.parametrize(
    ("measure", "one"),
    [
        (measure_choices, questions()),
        (measure_completions, a_set("completions", prompt=["Ann"], references=[["x"]])),
        (measure_prompts, a_set("prompts", prompt=["Ann"])),
        (measure_texts, a_set("texts", text=["Ann wrote"])),
    ],
)
def test_a_caller_can_stop_before_a_batch(
    subject: Subject, measure: Callable[..., Measured], one: EvaluationSet
) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        measure(replace(subject, before_batch=stop), one)


def test_values_are_one_row_each() -> None:
    frame = pd.DataFrame({"sample_id": ["x", "y"]})
    table = Measured.of(frame, pd.DataFrame({"a": [1, 2], "b": [3.0, np.nan]})).values
    assert table["value"].dtype == np.float64
    assert table.dropna().to_numpy().tolist() == [["x", "a", 1], ["y", "a", 2], ["x", "b", 3]]
