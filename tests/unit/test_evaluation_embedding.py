"""Closeness in meaning by a sentence-embedding model, held against means of token vectors, one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertModel

from mrd_core.errors import UserError
from mrd_core.evaluation import embedding
from mrd_core.evaluation.answering import measure_answers
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Subject
from mrd_core.model.loading import LoadedModel
from tests.support import tiny

pytest.importorskip(
    "sentence_transformers",
    reason="sentence-transformers is not installed: pip install -r requirements-embeddings.txt",
)
CONTEXT, MOST = 96, 24
QUESTIONS = ("Where does Ann live?", "Who wrote the letter?")
ANSWERS = (["Ann lives in Paris.", "Ann lives in Rome."], ["Bob wrote it.", "Ann wrote it.", "Nobody did."])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT whose text vector is the mean of its tokens' vectors."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    base, folder = (tmp_path_factory.mktemp(name) for name in ("bert", "embedding"))
    tokenizer = tiny.tokenizer(model_max_length=MOST)
    sizes = {name: size for name, size in tiny.settings().items() if "key_value" not in name}
    config = BertConfig(**sizes | {"vocab_size": len(tokenizer)})
    tiny.seeded(lambda: BertModel(config)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    words = Transformer(str(base), max_seq_length=MOST)
    SentenceTransformer(modules=[words, Pooling(config.hidden_size), Normalize()], device="cpu").save(str(folder))
    return folder


@torch.no_grad()
def vector(folder: Path, text: str) -> np.ndarray[Any, Any]:
    """Return the vector of one text, by the network alone."""
    ids = torch.tensor([tiny.tokenizer()(text)["input_ids"][:MOST]])
    mean = BertModel.from_pretrained(folder)(input_ids=ids).last_hidden_state[0].double().mean(0)
    return (mean / mean.norm()).numpy()


def test_closeness_is_the_cosine_of_mean_token_vectors(folder: Path) -> None:
    model = embedding.load(str(folder), tiny.CPU)
    written = ["Ann is in Paris", "The letter"]
    found = embedding.closeness(model, written, ANSWERS)
    for text, row, near in zip(written, ANSWERS, found, strict=True):
        expected = [vector(folder, text) @ vector(folder, answer) for answer in row]
        np.testing.assert_allclose(near, expected, rtol=1e-5)


def test_what_was_not_written_is_close_to_nothing(folder: Path) -> None:
    model = embedding.load(str(folder), tiny.CPU)
    unwritten, empty = embedding.closeness(model, [None, ""], ANSWERS)
    assert np.isnan(unwritten).all()
    assert list(empty) == [0, 0, 0]


def test_texts_go_in_batches_and_can_be_cancelled_between(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, looks = embedding.load(str(folder), tiny.CPU), []
    whole = embedding.closeness(model, QUESTIONS, ANSWERS)
    monkeypatch.setattr(embedding, "TEXTS", 2)
    found = embedding.closeness(model, QUESTIONS, ANSWERS, lambda: looks.append(1))
    assert len(looks) == 4
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_accuracy_is_told_both_ways(folder: Path) -> None:
    tokenizer = tiny.tokenizer()
    network = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)
    model = LoadedModel(network, tokenizer, tiny.CPU, torch.float32, CONTEXT, {})
    asks = Subject(model, tiny.encoder(tokenizer, CONTEXT), batch_tokens=200, max_new_tokens=12, k_percent=40)
    rows = pd.DataFrame(
        {
            "sample_id": ["a", "b"],
            "prompt": QUESTIONS,
            "answer": [answers[0] for answers in ANSWERS],
            "paraphrased_question": QUESTIONS,
            "paraphrased_answer": [answers[0] for answers in ANSWERS],
            "perturbed_answer": [answers[1:] for answers in ANSWERS],
        }
    )
    asked = EvaluationSet("forget", "forget set", "forget", "answers", rows)
    measured = measure_answers(asks, asked, embedding_model=str(folder))
    wide = measured.values.pivot(index="sample_id", columns="metric", values="value")
    written = measured.answers[measured.answers["asked"] == "paraphrased question"]["generated"]
    for text, answers, found in zip(written, ANSWERS, wide["accuracy_embedding"], strict=True):
        near = [vector(folder, text) @ vector(folder, answer) for answer in answers] if text else [0.0, 0.0]
        assert found == float(near[0] > max(near[1:]))
    assert "by ROUGE-L and by the embeddings of" in measured.notes[0]
    without = measure_answers(asks, asked)
    assert "accuracy_embedding" not in set(without.values["metric"])
    assert without.notes[0].endswith("there is no embedding model.")


def test_a_model_that_was_not_trained_to_compare_is_refused(folder: Path, tmp_path: Path) -> None:
    BertModel.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no modules\.json"):
        embedding.load(str(tmp_path), tiny.CPU)
    with pytest.raises(UserError, match="does not exist"):
        embedding.load(str(tmp_path / "nowhere"), tiny.CPU)
