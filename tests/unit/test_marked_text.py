"""Marked text: no character is lost, none becomes markup, and every tag is closed."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from analysis.figures.marked_text import legend, marked

TEXTS = (
    "",
    "a",
    "<script>alert('1')</script>",
    "&amp; &lt;b&gt; & <",
    'He said "it\'s <b>bold</b>", twice.\n\nAnd\tleft.',
    "😀👩‍👩‍👧 café 漢字\u200b\u202e",
    "</span></mark></div><mark>",
)


class Nesting(HTMLParser):
    """Collects the text, and the tags that are open around each character."""

    def __init__(self, source: str) -> None:
        """Read all of `source`; fails where a tag is not closed in order."""
        super().__init__(convert_charrefs=True)
        self.opened: list[dict[str, str | None]] = []
        self.names: list[str] = []
        self.text = ""
        self.around: list[list[str]] = []
        self.feed(source)
        self.close()
        assert not self.names

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an open tag by its title."""
        self.names.append(tag)
        self.opened.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag."""
        assert self.names.pop() == tag
        self.opened.pop()

    def handle_data(self, data: str) -> None:
        """Note what lies around each character."""
        self.text += data
        self.around += [[str(attrs["title"]) for attrs in self.opened if "title" in attrs]] * len(data)


def spans(*rows: tuple[str, int, int, int]) -> pd.DataFrame:
    """Return spans as the reading writes them."""
    return pd.DataFrame(rows, columns=["kind", "start", "end", "depth"])


def random_spans(generator: np.random.Generator, length: int) -> pd.DataFrame:
    """Return spans that cross, repeat, are empty, or reach beyond the text."""
    count = generator.integers(0, 12)
    return pd.DataFrame(
        {
            "kind": generator.choice(["rare", "clause"], count),
            "start": generator.integers(-3, length + 4, count),
            "end": generator.integers(-3, length + 4, count),
            "depth": generator.integers(0, 9, count),
        }
    )


@pytest.mark.parametrize("text", TEXTS)
def test_stripping_the_tags_gives_the_text_back_whatever_the_spans(text: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        found = marked(text, random_spans(generator, len(text)))
        assert html.unescape(re.sub("<[^>]*>", "", found)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_each_character_lies_in_just_the_spans_that_hold_it(text: str) -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        given = random_spans(generator, len(text))
        read = Nesting(marked(text, given))
        assert read.text == text
        rows = list(given.itertuples(index=False))
        for at, around in enumerate(read.around):
            holding = [row for row in rows if row.start <= at < row.end]
            titles = ["rare word" if row.kind == "rare" else f"clause, depth {row.depth}" for row in holding]
            assert sorted(around) == sorted(titles)


def test_a_clause_is_bracketed_at_its_own_ends_only() -> None:
    # The rare word crosses the end of the clause, and is drawn in two pieces.
    found = marked("abcdef", spans(("clause", 0, 4, 0), ("clause", 2, 6, 1)))
    outer, first, second = re.findall(r'<span [^>]*style="([^"]*)"', found)
    assert "border-left" in outer
    assert "border-right" in outer
    assert "border-left" in first
    assert "border-right" not in first
    assert "border-left" not in second
    assert "border-right" in second


def test_an_outer_bracket_leaves_room_for_the_inner_ones() -> None:
    found = marked(
        "abcdef", spans(("clause", 0, 6, 0), ("clause", 1, 4, 1), ("clause", 2, 3, 2), ("rare", 2, 3, 3))
    )
    below = [int(value) for value in re.findall(r"padding-bottom:(\d+)px", found)]
    assert below == sorted(below, reverse=True)
    assert len(set(below)) == 3


def test_a_rare_word_is_told_not_by_colour_alone() -> None:
    assert "underline" in marked("abc", spans(("rare", 0, 3, 0)))


def test_a_text_without_spans_is_only_escaped() -> None:
    found = marked("a < b", spans())
    assert "a &lt; b</div>" in found
    assert "white-space:pre-wrap" in found


def test_the_legend_shows_what_the_text_shows() -> None:
    assert Nesting(legend()).text.split("\u2003")[0].strip() == "rare word"
    assert "clause, depth 1" in legend()
