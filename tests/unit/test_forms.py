"""Tokens that stay with their run, and a word where a model knows its texts in another form."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.model.encoder import choose_template
from mrd_core.model.encoding import EncodedSample
from mrd_core.runs.directory import write_config
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.encoded import digest_of_words, keep_encoded, stored_samples
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.forms import likelier_form
from mrd_core.scoring.records import Plan
from tests.support import tiny
from tests.support.unlearning_runs import scored_tiny

ROWS = (("Who wrote it?", "Ann wrote the old letter."), ("", "A text of its own."), ("Who hums?", "A <s>bee</s>."))


def test_tokens_come_back_as_they_were_kept_whatever_the_template_says_by_then(tmp_path: Path) -> None:
    samples, files = tiny.forget_set(*ROWS), ScoreFiles(tmp_path)
    encoded = tiny.encode(samples, tiny.tokenizer(), 64, "plain")
    samples.save(files.samples)
    tokenizer, model = tiny.tokenizer(), ModelConfig()
    assert stored_samples(tmp_path, tokenizer, model) == stored_samples(None, tokenizer, model) == {}
    keep_encoded(files, encoded)
    write_config(tmp_path, ScoreConfig(forget_set=ForgetSetConfig(source="demo"), model=model))
    files.plan.write_text(plan(digest_of_words(tokenizer)), encoding="utf-8")
    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    stored = stored_samples(tmp_path, tokenizer, model)
    later = tiny.encoder(tokenizer, 64, "chat", stored=stored).encode(samples)
    for kept, back in zip(encoded.samples, later.samples, strict=True):
        for field in fields(EncodedSample):
            value = getattr(back, field.name)
            np.testing.assert_array_equal(value, getattr(kept, field.name))
            assert type(value) is type(getattr(kept, field.name))
    tomorrow = model.model_copy(update={"date": model.date + timedelta(days=1)})
    assert stored_samples(tmp_path, tokenizer, tomorrow) == {}
    files.plan.write_text(plan("of another tokenizer"), encoding="utf-8")
    assert stored_samples(tmp_path, tokenizer, model) == {}


def plan(vocabulary: str) -> str:
    """Return the plan of a run whose tokenizer has these words."""
    numbers = {"sigma": 1e-3, "batch_tokens": 8, "threads": 1, "workers": 1}
    verdict = {"streamed": False, "gate_passed": True, "gate": {}, "pilot": {}, "reasons": {}}
    words = {"device": "cpu", "dtype": "float32", "template": "plain", "vocabulary": vocabulary}
    return Plan.model_validate(numbers | verdict | words).model_dump_json()


@pytest.fixture
def known(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a model that knows its forget set in the plain template, and that forget set."""
    scored = scored_tiny(tmp_path_factory.getbasetemp())
    model = models.load(ModelConfig(source=str(scored.model), device="cpu"))
    model.tokenizer.chat_template = tiny.CHAT_TEMPLATE
    return model, read(ForgetSetConfig(source=str(scored.forget)))


def test_a_form_in_which_the_answers_are_much_likelier_is_named(known: Any) -> None:
    model, forget_set = known
    plain = replace(model.encoder(ModelConfig()), template=choose_template(model.tokenizer, "plain"))
    assert likelier_form(model.reader(), plain, forget_set) is None
    chat = replace(plain, template=choose_template(model.tokenizer, "chat"))
    assert "much likelier as plain text (--template plain)" in str(likelier_form(model.reader(), chat, forget_set))


def test_texts_without_a_prompt_have_one_form(known: Any) -> None:
    model, _ = known
    assert likelier_form(model.reader(), model.encoder(ModelConfig()), tiny.forget_set(("", "a text"))) is None
