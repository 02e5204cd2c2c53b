"""Toxicity by a text-classification model, held against one text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

from mrd_core.errors import UserError
from mrd_core.evaluation.toxicity import load, score, toxic_label
from tests.support import tiny

MOST = 24
TEXTS = ("You are so kind.", None, "x" * 3 * MOST, "Ann", "Bob wrote the letter", "")
TOXIC_BERT = ("toxic", "severe_toxic", "insult")


def save(folder: Path, labels: Sequence[str], problem_type: str | None = None) -> Path:
    """Write a random BERT that classifies."""
    tokenizer = tiny.tokenizer(model_max_length=MOST)
    sizes = {name: size for name, size in tiny.settings().items() if "key_value" not in name}
    config = BertConfig(
        **sizes | {"vocab_size": len(tokenizer)},
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type=problem_type,
    )
    tiny.seeded(lambda: BertForSequenceClassification(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def alone(network: Any, text: str) -> torch.Tensor:
    tokens = tiny.tokenizer()(text)["input_ids"][:MOST]
    return network(input_ids=torch.tensor([tokens])).logits[0].double()


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_labels_beside_each_other_have_a_sigmoid_each(tmp_path: Path, batch_tokens: int) -> None:
    folder = save(tmp_path / "model", TOXIC_BERT)
    classifier = load(str(folder), tiny.CPU)
    found = score(classifier, TEXTS, batch_tokens)
    expected = [float(alone(classifier.network, text)[0].sigmoid()) if text else np.nan for text in TEXTS]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(found[~np.isnan(found)])) == 4


def test_labels_that_exclude_each_other_share_a_softmax(tmp_path: Path) -> None:
    classifier = load(str(save(tmp_path / "model", ("non-toxic", "toxic"))), tiny.CPU)
    expected = float(alone(classifier.network, "Ann").softmax(-1)[1])
    assert score(classifier, ["Ann"], 100)[0] == pytest.approx(expected, rel=1e-5)


def test_the_settings_of_a_model_say_whether_labels_exclude_each_other(tmp_path: Path) -> None:
    kinds = {"multi_label_classification": True, "single_label_classification": False}
    for name, is_multi_label in kinds.items():
        folder = save(tmp_path / name, TOXIC_BERT, name)
        assert load(str(folder), tiny.CPU).is_multi_label is is_multi_label


def test_a_model_without_padding_is_asked_text_by_text(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(pad_token=None)
    labels = {"id2label": {0: "neutral", 1: "toxic"}, "label2id": {"neutral": 0, "toxic": 1}}
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=MOST, **labels)
    tiny.seeded(lambda: GPT2ForSequenceClassification(config)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    classifier = load(str(tmp_path), tiny.CPU)
    found = score(classifier, ["Ann", "Bob wrote"], 10_000)
    expected = [float(alone(classifier.network, text).softmax(-1)[1]) for text in ("Ann", "Bob wrote")]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("severe_toxic", "toxic"), (1, True)),
        (("Non-Toxic", "TOXICITY"), (1, False)),
        (("not_toxic", "toxic"), (1, False)),
        (("neutral", "toxic"), (1, False)),
    ],
)
def test_the_label_for_toxic_is_found(labels: Sequence[str], expected: tuple[int, bool]) -> None:
    assert toxic_label("m", dict(enumerate(labels))) == expected


def test_a_model_without_a_label_for_toxic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LABEL_0, nontoxic"):
        load(str(save(tmp_path, ("LABEL_0", "nontoxic"))), tiny.CPU)


def test_a_language_model_and_a_folder_without_safetensors_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lacks 1 of its weights, such as score"):
        load(str(tiny_model), tiny.CPU)
    with pytest.raises(UserError, match="has no"):
        load(str(tmp_path), tiny.CPU)
    with pytest.raises(UserError, match="does not exist"):
        load(str(tmp_path / "missing"), tiny.CPU)


def test_a_caller_can_stop_before_a_batch(tmp_path: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    classifier = load(str(save(tmp_path, TOXIC_BERT)), tiny.CPU)
    with pytest.raises(InterruptedError):
        score(classifier, ["Ann"], 100, stop)
    assert np.isnan(score(classifier, [None], 100, stop)).all()
