"""From texts to numbers and marks: one pass over a forget set that never holds more than a batch of it.

A text in another language than the pipeline's is not read as if it were in that one: its features are undefined.
What is no language at all is read as blanks: 100 symbols or more in a row, and more than 200 characters without
white space, such as encoded data or code without any. Characters of the scripts that are written without spaces
(Chinese, Japanese, Thai and the like) end such a stretch, so that their text stays. All else keeps its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import regex

from analysis.characteristics.spans import Span, spans
from analysis.features import Feature, Reading
from analysis.text.config import ReadingConfig
from analysis.text.language import Detector
from analysis.text.ngrams import UNSPACED
from analysis.text.pipeline.loading import LONGEST, Pipeline

# What is held at a time, so that memory grows neither with the number of texts nor with their length.
BATCH_CHARACTERS = LONGEST
BATCH_TEXTS = 1_000
# Of these, texts that go through the parser at once: more take memory and save no time.
PARSED_TEXTS = 64
# Where a cut goes through a word, it moves to the white space before it; what is longer than this is not a word.
LONGEST_WORD = 200
# A rule or an ornament. spaCy strips symbols from a word one by one, in time that grows with their number squared.
RULE = re.compile(r"(?:[^\w\s]|_){100,}")
# The same holds for what spaCy takes for a suffix, such as 's or a unit; it tokenizes between white space. A text
# in a script without spaces is such a stretch by right, and its letters are no affixes.
STRETCH = regex.compile(rf"[^\s{UNSPACED}\p{{Tibetan}}]{{{LONGEST_WORD + 1},}}")


class TextRow(NamedTuple):
    """What one text says.

    Attributes:
        values: Every feature of a single text by name; NaN where undefined.
        spans: What the text view marks; offsets into the text.
        foreign: The language that the text is in when that is surely not the pipeline's: an ISO 639-1 code, or the
            name of a script. Then every value is NaN and nothing is marked.
        cut: Whether only the first `LONGEST` characters were read, up to the end of a word.
    """

    values: dict[str, float]
    spans: list[Span]
    foreign: str | None
    cut: bool


def read_texts(
    texts: Iterable[str],
    pipeline: Pipeline,
    settings: ReadingConfig,
    features: Sequence[Feature],
    common_words: frozenset[str],
) -> Iterator[TextRow]:
    """Read texts batch by batch and yield a row for each, in their order.

    Args:
        texts: Are taken as they are needed. Stretches of more than 200 characters without white space, but for
            scripts that have none, are read as blanks: spaCy's time grows with their length squared.
        pipeline: Reads them.
        settings: How texts are read.
        features: Those that look at more than one text are passed over.
        common_words: The most frequent words of the language, in lower case.
    """
    measures = {feature.name: feature.of for feature in features if feature.of}
    reader = _Reader(pipeline, settings, common_words, measures)
    detector = Detector(pipeline.language)
    for batch in _batches(_Text.of(text, detector) for text in texts):
        yield from reader.rows(batch)


class _Text(NamedTuple):
    """A text before it is parsed."""

    content: str
    foreign: str | None
    cut: bool

    @classmethod
    def of(cls, text: str, detector: Detector) -> _Text:
        content = text
        if len(text) > LONGEST:
            cut_word = re.search(r"\s(?=\S*\Z)", text[LONGEST - LONGEST_WORD : LONGEST + 1])
            content = text[: LONGEST - LONGEST_WORD + cut_word.start()] if cut_word else text[:LONGEST]
        # Blanks stand for what is no language, so that every other character is where it was.
        content = RULE.sub(lambda run: " " * len(run[0]), content)
        content = STRETCH.sub(lambda run: " " * len(run[0]), content)
        return cls(content, detector.foreign(content), cut=len(content) < len(text))


@dataclass(frozen=True)
class _Reader:
    pipeline: Pipeline
    settings: ReadingConfig
    common_words: frozenset[str]
    measures: dict[str, Callable[[Reading], float]]

    def rows(self, batch: list[_Text]) -> list[TextRow]:
        nlp = self.pipeline.nlp
        # Frees the words that spaCy would otherwise remember for good. No document may leave the zone, so rows are
        # made inside, and all of them: a generator that pauses in the zone would leave it open.
        with nlp.memory_zone():
            own, read = (text.content for text in batch if not text.foreign), []
            for doc in nlp.pipe(own, batch_size=PARSED_TEXTS):
                reading = Reading(doc, self.settings, self.common_words)
                values = {name: measure(reading) for name, measure in self.measures.items()}
                read.append((values, spans(reading)))
        rows = iter(read)
        undefined = dict.fromkeys(self.measures, nan)
        return [
            TextRow(undefined, [], text.foreign, text.cut)
            if text.foreign
            else TextRow(*next(rows), None, text.cut)
            for text in batch
        ]


def _batches(texts: Iterable[_Text]) -> Iterator[list[_Text]]:
    batch: list[_Text] = []
    characters = 0
    for text in texts:
        if batch and (characters + len(text.content) > BATCH_CHARACTERS or len(batch) == BATCH_TEXTS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text.content)
    if batch:
        yield batch
