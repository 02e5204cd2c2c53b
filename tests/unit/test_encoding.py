"""Samples become tokens: the answer and its end are marked exactly, and the pieces are the text."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.model.encoder import Encoder, choose_template, special_ids
from mrd_core.model.encoding import Encoded, EncodedSample, length_buckets
from mrd_core.model.generation import end_tokens
from mrd_core.samples.conversation import prompt_of
from tests.support import tiny
from tests.support.tiny import encode

PROMPT, ANSWER = "Who wrote it?", "Ann wrote the old letter."


def encode_one(
    tokenizer: Any, prompt: str, answer: str, template: str = "plain", context: int = 500
) -> EncodedSample:
    """Return one sample as tokens."""
    return encode(tiny.forget_set((prompt, answer)), tokenizer, context, template).samples[0]


def marked(sample: EncodedSample) -> str:
    """Return the pieces that are marked as answer, joined."""
    return "".join(piece for piece, inside in zip(sample.pieces[1:], sample.answer, strict=True) if inside)


def chat_tokenizer(template: str = tiny.CHAT_TEMPLATE, **special: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer with a chat template; <|end|> closes a turn."""
    tokenizer = tiny.tokenizer(**special)
    tokenizer.chat_template = template
    return tokenizer


def with_ends(single: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer that adds special tokens around a text by itself."""
    tokenizer = tiny.tokenizer()
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def test_the_plain_template_marks_the_answer_and_eos() -> None:
    sample = encode_one(tiny.tokenizer(), PROMPT, ANSWER)
    assert "".join(sample.pieces) == f"Question: {PROMPT}\nAnswer: {ANSWER}</s>"
    assert marked(sample) == f" {ANSWER}</s>"
    assert not sample.truncated
    assert len(sample.pieces) == len(sample.tokens) == len(sample.answer) + 1


@pytest.mark.parametrize("answer", ["1987", " with a blank", "two\nlines", "trailing \n", "{braces}", "?", "🎉"])
@pytest.mark.parametrize("template", ["plain", "chat"])
def test_any_answer_is_marked_and_closed(answer: str, template: str) -> None:
    sample = encode_one(chat_tokenizer(), "What {then}?", answer, template)
    # The plain template puts a blank before the answer; this chat template trims what it is given.
    expected = f" {answer}</s>" if template == "plain" else f"{answer.strip()}<|end|>"
    assert marked(sample) == expected
    assert "".join(sample.pieces).endswith(expected)


def test_the_chat_template_marks_the_answer_and_the_end_of_its_turn() -> None:
    sample = encode_one(chat_tokenizer(eos_token="<|end|>"), PROMPT, ANSWER, "chat")
    assert "".join(sample.pieces) == f"<|user|>{PROMPT}<|end|><|assistant|>{ANSWER}<|end|>"
    assert marked(sample) == f"{ANSWER}<|end|>"


def test_the_end_of_a_turn_counts_where_it_is_not_the_eos_token() -> None:
    tokenizer = chat_tokenizer()
    assert "<|end|>" not in tokenizer.all_special_tokens
    assert marked(encode_one(tokenizer, PROMPT, ANSWER, "chat")) == f"{ANSWER}<|end|>"


@pytest.mark.parametrize("answer", ["end", "|", "Who wrote it?", "user"])
def test_an_answer_that_the_template_or_the_prompt_holds_too_is_found_in_its_turn(answer: str) -> None:
    sample = encode_one(chat_tokenizer(), PROMPT, answer, "chat")
    assert marked(sample) == f"{answer}<|end|>"


def test_what_a_template_puts_before_the_answer_is_not_the_answer() -> None:
    thinking = "{{ '(thinking)' if m.role == 'assistant' }}"
    template = tiny.CHAT_TEMPLATE.replace("{{ m.content", thinking + "{{ m.content")
    sample = encode_one(chat_tokenizer(template), PROMPT, ANSWER, "chat")
    assert "(thinking)" in "".join(sample.pieces)
    assert marked(sample) == f"{ANSWER}<|end|>"


def test_a_template_whose_generation_prompt_is_another_text_still_finds_the_answer() -> None:
    template = tiny.CHAT_TEMPLATE.replace("{% if add", "{{ '(date)' if add_generation_prompt }}{% if add")
    assert marked(encode_one(chat_tokenizer(template), PROMPT, ANSWER, "chat")) == f"{ANSWER}<|end|>"


def test_a_template_that_keeps_blanks_keeps_the_end_of_the_turn() -> None:
    template = tiny.CHAT_TEMPLATE.replace(" | trim", "")
    assert marked(encode_one(chat_tokenizer(template), PROMPT, f"{ANSWER}\n", "chat")) == f"{ANSWER}\n<|end|>"


def test_a_chat_template_that_drops_the_answer_is_an_error() -> None:
    template = "{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% endfor %}"
    with pytest.raises(UserError, match="does not reproduce the answer"):
        encode_one(chat_tokenizer(template), PROMPT, ANSWER, "chat")


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_a_text_without_prompt_is_scored_whole(template: str) -> None:
    sample = encode_one(chat_tokenizer(), "", ANSWER, template)
    assert "".join(sample.pieces) == ANSWER
    assert sample.answer.all()


@pytest.mark.parametrize(
    ("single", "begin"), [("$A </s>", ""), ("<s> $A </s>", "<s>"), ("<s> $A", "<s>"), ("$A", "")]
)
def test_there_is_one_eos_whatever_the_tokenizer_adds(single: str, begin: str) -> None:
    tokenizer = with_ends(single)
    sample = encode_one(tokenizer, PROMPT, ANSWER)
    assert (sample.tokens == tokenizer.eos_token_id).sum() == 1
    assert "".join(sample.pieces) == f"{begin}Question: {PROMPT}\nAnswer: {ANSWER}</s>"
    assert marked(sample) == f" {ANSWER}</s>"
    whole = encode_one(tokenizer, "", ANSWER)
    assert whole.answer.all()
    assert len(whole.answer) == len(whole.tokens) - 1


@pytest.mark.parametrize("text", ["Ann 🎉🎉 ok", "naïve façade — “x”", "日本語 text", "👩‍👩‍👧", "a\u0301b"])
def test_pieces_of_characters_of_several_bytes_join_to_the_text(text: str) -> None:
    sample = encode_one(tiny.tokenizer(), "", text)
    assert "".join(sample.pieces) == text
    assert len(sample.pieces) > len(text)
    assert encode_one(tiny.tokenizer(), "", text, context=5).pieces == sample.pieces[:5]


def test_a_sample_longer_than_the_context_is_cut_and_flagged() -> None:
    whole = encode_one(tiny.tokenizer(), "", ANSWER)
    size = len(whole.tokens)
    for context in (1, 2, 4, size - 1):
        cut = encode_one(tiny.tokenizer(), "", ANSWER, context=context)
        assert cut.truncated
        np.testing.assert_array_equal(cut.tokens, whole.tokens[:context])
        np.testing.assert_array_equal(cut.answer, whole.answer[: context - 1])
        assert cut.pieces == whole.pieces[:context]
    assert not encode_one(tiny.tokenizer(), "", ANSWER, context=size).truncated


@pytest.mark.parametrize("text", [" ", "\n", "a", "\u200b"])
def test_a_text_of_next_to_nothing_is_a_sample(text: str) -> None:
    sample = encode_one(tiny.tokenizer(), "", text)
    assert "".join(sample.pieces) == text
    assert sample.answer.dtype == np.bool_
    assert len(sample.answer) == len(sample.tokens) - 1


def test_a_tokenizer_without_eos_is_an_error() -> None:
    with pytest.raises(UserError, match="no end-of-sequence token") as caught:
        Encoder.of(ModelConfig(), tiny.tokenizer(eos_token=None), 500, 300)
    assert "tokenizer_config.json" in caught.value.fix


def test_a_tokenizer_without_padding_is_enough() -> None:
    tokenizer = tiny.tokenizer(pad_token=None)
    assert tokenizer.pad_token_id is None
    assert marked(encode_one(tokenizer, PROMPT, ANSWER)) == f" {ANSWER}</s>"


def test_the_template_is_chosen_from_the_wish_and_the_tokenizer() -> None:
    assert choose_template(tiny.tokenizer(), "auto").value == "plain"
    assert choose_template(chat_tokenizer(), "auto").value == "chat"
    assert choose_template(chat_tokenizer(), "plain") == ("plain", "as asked")
    with pytest.raises(UserError, match="no chat template"):
        choose_template(tiny.tokenizer(), "chat")


def test_the_flat_axis_holds_the_samples_one_after_the_other() -> None:
    samples: Encoded = tiny.encoded(3, 1, 4, answer_from=1)
    assert samples.starts.tolist() == [0, 2, 2, 5]
    assert samples.owner.tolist() == [0, 0, 2, 2, 2]
    assert samples.answer.tolist() == [False, True, False, True, True]
    assert samples.flat_positions(np.array([2, 0])).tolist() == [2, 3, 4, 0, 1]
    assert samples.subset(np.array([2, 0])).sample_ids == ("s2", "s0")
    assert len(samples) == 3


def test_batches_keep_to_their_size_and_hold_each_sample_once() -> None:
    lengths = np.array([5, 30, 7, 7, 2, 11, 1])
    batches = length_buckets(lengths, 24)
    assert sorted(np.concatenate(batches)) == list(range(7))
    assert batches[0].tolist() == [1]
    for batch in batches[1:]:
        assert len(batch) * lengths[batch].max() <= 24


def test_a_broken_chat_template_is_named() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{{ raise_exception('system role not supported') }}"
    with pytest.raises(UserError, match="cannot be rendered: system role not supported"):
        encode(tiny.forget_set(("q", "a")), tokenizer, 64, "chat")


LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<s>[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
DATED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}System: {{ m.content }}. {% endif %}"
    "{% endfor %}Today is {{ strftime_now('%d %b %Y') }}.{% for m in messages %}{% if m.role == 'user' %}"
    "Question: {{ m.content }}\nAnswer:{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)


def test_the_end_of_a_turn_is_found_behind_a_blank() -> None:
    tokenizer = chat_tokenizer(LLAMA_2)
    sample = encode_one(tokenizer, "Is it true?", "Yes.", "chat")
    assert marked(sample) == "Yes.</s>"
    assert sample.pieces[-2:] == (" ", "</s>")
    assert end_tokens(tokenizer, None) == [tokenizer.eos_token_id]


def test_a_template_takes_the_date_of_the_run_for_today_and_its_system_line() -> None:
    tokenizer = chat_tokenizer(DATED)
    how = {"today": date(2026, 7, 4), "system": "Be brief"}
    sample = tiny.encoder(tokenizer, 500, "chat", **how).one(PROMPT, ANSWER)
    assert "".join(sample.pieces).startswith("<s>System: Be brief. Today is 04 Jul 2026.Question: Who wrote it?")
    assert marked(sample) == f" {ANSWER}</s>"


def test_a_template_that_asks_for_the_date_is_told_of_with_it() -> None:
    config = ModelConfig(date=date(2026, 7, 4))
    dated = Encoder.of(config, chat_tokenizer(DATED), 500, 1 << 20)
    assert dated.template.reason == "the tokenizer brings a chat template; it is told that today is 2026-07-04"
    undated = Encoder.of(config, chat_tokenizer(), 500, 1 << 20)
    assert undated.template.reason == "the tokenizer brings a chat template"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_template_from_a_file_takes_the_place_of_the_tokenizers(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("{% for m in messages %}({{ m.role }}) {{ m.content }}{% endfor %}</s>", encoding=encoding)
    encoder = Encoder.of(ModelConfig(template=str(path)), tiny.tokenizer(), 500, 1 << 20)
    assert "".join(encoder.one(PROMPT, ANSWER).pieces) == f"(user) {PROMPT}(assistant) {ANSWER}</s>"
    with pytest.raises(UserError, match="none of auto, chat and plain, and cannot be read"):
        Encoder.of(ModelConfig(template=str(tmp_path / "nowhere")), tiny.tokenizer(), 500, 1 << 20)


@pytest.mark.parametrize("template", ["plain", "chat"])
@pytest.mark.parametrize("text", ["Use <s>old</s> markup.", "An <|end|> in the middle", "<pad>, they say"])
def test_what_looks_like_a_special_token_in_a_sample_is_text(text: str, template: str) -> None:
    tokenizer = chat_tokenizer()
    for prompt, answer in ((PROMPT, text), (text, ANSWER)):
        sample = encode_one(tokenizer, prompt, answer, template)
        plain = encode_one(tokenizer, PROMPT, ANSWER, template)
        special = special_ids(tokenizer)
        assert sum(token in special for token in sample.tokens) == sum(token in special for token in plain.tokens)
        assert answer in "".join(sample.pieces)
        assert sample.is_literal
        assert not plain.is_literal


@pytest.mark.parametrize(
    ("prompt", "answer", "kept"),
    [
        ("", "<s>Who hums? A bee. </s>", "Who hums? A bee."),
        ("<s>Who hums?", "A bee.</s>", "Question: Who hums?\nAnswer: A bee.</s>"),
        ("Who hums?", "A bee.", "Question: Who hums?\nAnswer: A bee.</s>"),
    ],
)
def test_ends_that_the_data_bring_are_left_out_and_counted(prompt: str, answer: str, kept: str) -> None:
    encoded = encode(tiny.forget_set((prompt, answer)), tiny.tokenizer(), 500, "plain")
    assert "".join(encoded.samples[0].pieces) == kept
    counted = ("1 of 1 samples bring a BOS or EOS token of their own, which is left out.",)
    assert encoded.notes == (counted if "s>" in prompt + answer else ())


def test_a_text_without_a_prompt_ends_where_it_ends_unless_eos_is_asked_for() -> None:
    tokenizer = tiny.tokenizer()
    assert encode_one(tokenizer, "", ANSWER).pieces[-1] != "</s>"
    assert tiny.encoder(tokenizer, closes_texts=True).one("", ANSWER).pieces[-1] == "</s>"
    assert encode_one(tokenizer, PROMPT, ANSWER).pieces[-1] == "</s>"


@pytest.mark.parametrize("ends", ["</s>", " </s> ", "<s></s>", "<s>"])
@pytest.mark.parametrize(("single", "kept"), [("$A", "</s>"), ("$A </s>", "</s>"), ("<s> $A", "<s>")])
def test_a_text_of_nothing_but_ends_is_one_token_that_nothing_predicts(ends: str, single: str, kept: str) -> None:
    encoded = encode(tiny.forget_set(("", ends), ("", ANSWER)), with_ends(single), 500, "plain")
    empty, text = encoded.samples
    assert (empty.pieces, empty.lost_ends) == ((kept,), True)
    assert encoded.starts.tolist() == [0, 0, len(text.tokens) - 1]


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_a_prompt_that_is_too_long_loses_its_beginning_and_the_answer_stays(template: str) -> None:
    prompt = "old words " * 30 + "Who wrote it?"
    tokenizer = chat_tokenizer()
    whole = encode_one(tokenizer, prompt, ANSWER, template)
    encoded = encode(tiny.forget_set((prompt, ANSWER)), tokenizer, 60, template)
    (cut,) = encoded.samples
    assert len(cut.tokens) == 60
    assert marked(cut) == marked(whole)
    assert (cut.truncated, cut.cut_prompt) == (False, len(whole.tokens) - 60)
    head = 3 if template == "plain" else 1
    np.testing.assert_array_equal(cut.tokens[:head], whole.tokens[:head])
    assert "Who wrote it?" in "".join(cut.pieces)
    (note,) = encoded.notes
    assert note.startswith("1 of 1 samples had the beginning of the prompt cut off")


def test_a_token_beyond_the_embedding_is_named_with_its_sample() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[PAD]"]})
    encoder = replace(tiny.encoder(tokenizer), words=tokenizer.eos_token_id)
    with pytest.raises(UserError, match=r"in sample s0.*has the id \d+, but the model knows 2 tokens"):
        encoder.encode(tiny.forget_set((PROMPT, ANSWER)))


TURNS = [("user", "Who wrote it?"), ("assistant", "Ann wrote it."), ("user", "When <s> then?")]


@pytest.mark.parametrize("system", [[], [("system", "Answer briefly.")]])
def test_a_conversation_is_rendered_turn_by_turn(system: list[tuple[str, str]]) -> None:
    tokenizer = chat_tokenizer()
    turns = [*system, *TURNS]
    prompt = prompt_of(turns)
    assert prompt is not None
    sample = encode_one(tokenizer, prompt, ANSWER, "chat")
    messages = [{"role": role, "content": text} for role, text in [*turns, ("assistant", ANSWER)]]
    assert "".join(sample.pieces) == tokenizer.apply_chat_template(messages, tokenize=False)
    assert marked(sample) == f"{ANSWER}<|end|>"
    # What stands in a turn is text, and the marks between them are the template's.
    ids = sample.tokens.tolist()
    assert ids.count(tokenizer.convert_tokens_to_ids("<|end|>")) == len(messages)
    assert tokenizer.convert_tokens_to_ids("<s>") not in ids
    assert sample.is_literal


def test_a_conversation_without_a_chat_template_is_questions_and_answers() -> None:
    prompt = prompt_of([("system", "Be brief."), *TURNS])
    assert prompt is not None
    sample = encode_one(tiny.tokenizer(), prompt, ANSWER)
    expected = "Be brief.\nQuestion: Who wrote it?\nAnswer: Ann wrote it.\nQuestion: When <s> then?\nAnswer: "
    assert "".join(sample.pieces) == f"{expected}{ANSWER}</s>"
    assert marked(sample) == f" {ANSWER}</s>"


def test_a_system_turn_of_its_own_goes_before_the_one_that_is_set() -> None:
    tokenizer = chat_tokenizer()
    encoder = Encoder.of(ModelConfig(template="chat", system="Set for all."), tokenizer, 500, len(tokenizer))
    own = prompt_of([("system", "Its own."), ("user", "Who?")])
    assert own is not None
    texts = ["".join(encoder.one(prompt, ANSWER).pieces) for prompt in (own, "Who?")]
    assert ["Its own." in text for text in texts] == [True, False]
    assert ["Set for all." in text for text in texts] == [False, True]
