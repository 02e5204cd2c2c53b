"""The pass over the texts: a row for each, whatever it holds, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice

import pytest

from analysis.characteristics.reading import BATCH_CHARACTERS, BATCH_TEXTS, LONGEST_WORD, TextRow, read_texts
from analysis.characteristics.spans import spans
from analysis.features import Feature, Reading, features
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import LONGEST, Pipeline, load

SETTINGS = ReadingConfig()
COMMON = frozenset(
    {"the", "a", "cat", "that", "i", "saw", "sat", "on", "mat", "because", "it", "was", "old", "and"}
)
ALL = features()
BY_TEXT = [feature for feature in ALL if feature.of]
GERMAN = "Die Katze sitzt auf dem Dach und schaut in den Garten."
CHINESE = "她出生在北京，写了很多小说。"
SENTENCES = (
    "The cat that I saw sat on the mat because it was old.",
    "Marzipan and gooseberries!",
    "I saw it. It was in the house, and the house was old.",
)


def measure(name: str, of: object) -> Feature:
    return Feature(name, name, "", "counts", "more", "", "test", of=of)  # type: ignore[arg-type]


TOKENS = measure("tokens", lambda reading: float(len(reading.doc)))
NUMBER = measure("number", lambda reading: float(reading.doc.text.split()[1]))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load("shipped")


def read(pipeline: Pipeline, *texts: str) -> list[TextRow]:
    return list(read_texts(texts, pipeline, SETTINGS, ALL, COMMON))


def same(left: dict[str, float], right: dict[str, float]) -> bool:
    """Compare values, undefined ones being alike."""
    return left.keys() == right.keys() and all(
        left[name] == right[name] or (math.isnan(left[name]) and math.isnan(right[name])) for name in left
    )


def test_a_row_is_what_the_features_say_of_the_parsed_text(pipeline: Pipeline) -> None:
    for text, row in zip(SENTENCES, read(pipeline, *SENTENCES), strict=True):
        reading = Reading(pipeline.nlp(text), SETTINGS, COMMON)
        assert same(row.values, {feature.name: feature.of(reading) for feature in BY_TEXT if feature.of})
        assert row.spans == spans(reading)
        assert (row.foreign, row.cut) == (None, False)
    assert {span.kind for text in read(pipeline, *SENTENCES) for span in text.spans} == {"rare", "clause"}


def test_rows_come_in_the_order_of_the_texts_over_many_batches(pipeline: Pipeline) -> None:
    texts = [CHINESE if i % 7 == 3 else f"Number {i} it is." for i in range(2 * BATCH_TEXTS + 50)]
    rows = list(read_texts(texts, pipeline, SETTINGS, [NUMBER], COMMON))
    assert [row.foreign for row in rows] == ["zh" if i % 7 == 3 else None for i in range(len(texts))]
    assert all(row.values["number"] == i for i, row in enumerate(rows) if not row.foreign)


def test_a_row_does_not_depend_on_what_is_read_with_it(pipeline: Pipeline) -> None:
    filler = "It was old. " * (BATCH_CHARACTERS // 24)
    together = read(pipeline, SENTENCES[0], filler, SENTENCES[1], filler, "", SENTENCES[2])
    for text, row in zip(SENTENCES, (together[0], together[2], together[5]), strict=True):
        (alone,) = read(pipeline, text)
        assert same(row.values, alone.values)
        assert row.spans == alone.spans


@pytest.mark.parametrize(
    "text", ["", " \n", "😀🎉", "cat", "def f(x):\n    return x + 1", "42", "?!", "\u200b\u0000"]
)
def test_odd_texts_have_a_row_like_any_other(pipeline: Pipeline, text: str) -> None:
    (row,) = read(pipeline, text)
    assert list(row.values) == [feature.name for feature in BY_TEXT]
    assert all(isinstance(value, float) for value in row.values.values())
    assert all(0 <= span.start < span.end <= len(text) for span in row.spans)
    assert (row.foreign, row.cut) == (None, False)


@pytest.mark.parametrize(("text", "language"), [(GERMAN, "de"), (CHINESE, "zh"), (CHINESE * 20_000, "zh")])
def test_a_foreign_text_is_not_read_as_if_it_were_english(pipeline: Pipeline, text: str, language: str) -> None:
    (row,) = read(pipeline, text)
    assert row.foreign == language
    assert row.spans == []
    assert all(map(math.isnan, row.values.values()))


def test_a_very_long_text_is_read_up_to_a_word_and_says_so(pipeline: Pipeline) -> None:
    text = "The mat was gooseberry. " * 9_000
    (row,) = read(pipeline, text)
    (within,) = read(pipeline, text[:LONGEST].rpartition(" ")[0])
    assert row.cut
    assert not within.cut
    assert same(row.values, within.values)
    assert row.spans == within.spans
    assert max(span.end for span in row.spans) <= LONGEST


@pytest.mark.parametrize("unit", ["a", "=", "(", "😀", "_", "a.", " ", "\n"])
def test_a_very_long_text_without_words_is_read_too(pipeline: Pipeline, unit: str) -> None:
    (row,) = list(read_texts([unit * 200_000], pipeline, SETTINGS, [TOKENS], COMMON))
    assert row.cut
    assert row.values["tokens"] <= 2


def test_a_text_of_the_limit_is_read_whole(pipeline: Pipeline) -> None:
    text = "cat " * (LONGEST // 4)
    whole, more = read_texts([text, f"{text}cats"], pipeline, SETTINGS, [TOKENS], COMMON)
    assert not whole.cut
    assert more.cut
    assert whole.values == more.values


def test_a_rule_of_symbols_leaves_the_marks_behind_it_where_they_are(pipeline: Pipeline) -> None:
    text = f"The cat.\n{'=' * 5_000}\nIt saw gooseberries."
    (row,) = read(pipeline, text)
    assert "gooseberries" in [text[span.start : span.end] for span in row.spans if span.kind == "rare"]
    assert not row.cut


def parsed(pipeline: Pipeline, text: str) -> str:
    """Return what of a text goes to the tokenizer."""
    taken: list[str] = []
    note = measure("note", lambda reading: taken.append(reading.doc.text) or 0.0)
    list(read_texts([text], pipeline, SETTINGS, [note], COMMON))
    return taken[0]


@pytest.mark.parametrize("unit", ["'s", "a-", "5km", "x'll", "abc.de,"])
def test_no_long_stretch_without_white_space_is_tokenized(pipeline: Pipeline, unit: str) -> None:
    text = f"The cat. {unit * 500} It sat."
    found = parsed(pipeline, text)
    assert len(found) == len(text)
    assert found.startswith("The cat. ")
    assert found.endswith(" It sat.")
    assert max(map(len, found.split())) <= LONGEST_WORD


def test_a_long_stretch_leaves_the_marks_around_it_where_they_are(pipeline: Pipeline) -> None:
    overlong = "x's" * 5_000
    text = f"I saw marzipan. {overlong}\nIt saw gooseberries."
    (row,) = read(pipeline, text)
    marked = [text[span.start : span.end] for span in row.spans if span.kind == "rare"]
    assert {"marzipan", "gooseberries"} <= set(marked)
    assert all(len(mark) < LONGEST_WORD for mark in marked)
    assert not row.cut


@pytest.mark.parametrize(("length", "stays"), [(LONGEST_WORD, True), (LONGEST_WORD + 1, False)])
def test_an_address_of_up_to_200_characters_stays(pipeline: Pipeline, length: int, stays: bool) -> None:
    address = "https://example.org/a?b=".ljust(length, "c")
    text = f"The cat saw {address} on the mat."
    assert parsed(pipeline, text) == (text if stays else text.replace(address, " " * length))


@pytest.mark.parametrize("quoted", [CHINESE, "彼女はカタカナで名前を書いた。", "เธอเขียนนวนิยายหลายเรื่อง"])
def test_a_long_quotation_in_a_script_without_spaces_stays(pipeline: Pipeline, quoted: str) -> None:
    text = f"{'The cat that I saw sat on the mat. ' * 60}{quoted * 30}"
    assert parsed(pipeline, text) == text


def test_texts_are_taken_as_they_are_needed(pipeline: Pipeline) -> None:
    taken = count()

    def endless() -> Iterator[str]:
        while True:
            next(taken)
            yield "The cat sat on the mat."

    rows = read_texts(endless(), pipeline, SETTINGS, [TOKENS], COMMON)
    assert len(list(islice(rows, 10))) == 10
    assert next(taken) <= BATCH_TEXTS + 1


def test_words_that_were_read_are_forgotten(pipeline: Pipeline) -> None:
    before = len(pipeline.nlp.vocab.strings)
    letters = "abcdefghijklmnopqrstuv"
    rows = read(pipeline, *(f"I saw that the xq{a}{b}z was on the wv{a}{b}k." for a in letters for b in letters))
    assert sum(row.values["rare_words"] for row in rows) == 2 * 22 * 22
    assert len(pipeline.nlp.vocab.strings) == before


def test_features_of_the_whole_set_are_left_to_others(pipeline: Pipeline) -> None:
    over = Feature("over", "over", "", "counts", "more", "", "test", over=lambda _: None)
    (row,) = read_texts(["A cat."], pipeline, SETTINGS, [over, TOKENS], COMMON)
    assert row.values == {"tokens": 3.0}


def test_a_feature_that_fails_does_not_spoil_the_pipeline(pipeline: Pipeline) -> None:
    with pytest.raises(IndexError):
        list(read_texts(["cat"], pipeline, SETTINGS, [NUMBER], COMMON))
    assert read(pipeline, SENTENCES[0])[0].values["n_words"] == 13
