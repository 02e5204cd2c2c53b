"""What of a user's text reaches HTML or Markdown is text there."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from pages.parts.difficulty.token_view import heat_map, legend, parts_legend, parts_map
from pages.shell.notices import literal
from pages.shell.token_text import FALLS, MOST_OPACITY, RISES

EVIL = ["<script>alert(1)</script>", '"><img src=x onerror="alert(2)">', "a & b &lt; c", "'single'", "\n", "<!--"]


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def tokens_of(*pieces: str, **columns: Any) -> pd.DataFrame:
    """Return tokens of an answer that all fall a little."""
    values = {
        "piece": list(pieces),
        "in_answer": True,
        "excluded": False,
        "log_prob": -1.0,
        "relative_change": -0.1,
        "relative_change_se": 0.01,
    }
    return pd.DataFrame(values | columns)


@pytest.mark.parametrize(
    "columns", [{}, {"in_answer": False}, {"excluded": True}], ids=["answer", "question", "out"]
)
def test_tokens_are_text_whatever_they_hold(columns: dict[str, bool]) -> None:
    page = Page(heat_map(tokens_of(*EVIL, **columns)))
    assert page.text == "".join(EVIL)
    assert [tag for tag, _ in page.tags] == ["div", *["span"] * len(EVIL)]
    assert {name for _, attributes in page.tags for name in attributes} <= {"style", "title"}


def test_tokens_are_text_in_the_map_of_a_part_too() -> None:
    tokens = tokens_of(*EVIL, speed=1.0, speed_se=0.1)
    page = Page(parts_map(tokens, tokens["in_answer"], "speed"))
    assert page.text == "".join(EVIL)
    assert [tag for tag, _ in page.tags] == ["div", *["span"] * len(EVIL)]


def test_the_map_of_a_part_tells_each_scored_token_its_share_with_an_interval() -> None:
    tokens = tokens_of("q", "a", "b", "c", curvature=[5.0, 6.0, -2.0, 9.0], curvature_se=[1.0, 1.0, 0.5, 1.0])
    tokens["excluded"] = [False, False, False, True]
    page = Page(parts_map(tokens, tokens["piece"] != "q", "curvature"))
    titles = [attributes.get("title") for tag, attributes in page.tags if tag == "span"]
    assert titles == [
        None,
        "150% of the sample's curvature [101%, 199%]",
        "-50% of the sample's curvature [-74%, -26%]",
        None,
    ]
    styles = [attributes["style"] or "" for tag, attributes in page.tags if tag == "span"]
    assert RISES in styles[1]
    assert FALLS in styles[2]
    assert "takes away" in parts_legend("curvature")
    assert "takes away" not in parts_legend("speed")


def test_colour_says_the_direction_and_strength_the_size() -> None:
    page = Page(heat_map(tokens_of("a", "b", "c", relative_change=[-0.2, 0.1, 0.0])))
    styles = [attributes["style"] for tag, attributes in page.tags if tag == "span"]
    assert [str(style).split(";")[0] for style in styles] == [
        f"background:rgba({FALLS},{MOST_OPACITY:.2f})",
        f"background:rgba({RISES},{MOST_OPACITY / 2:.2f})",
        f"background:rgba({RISES},0.00)",
    ]


def test_each_token_says_its_figures() -> None:
    page = Page(heat_map(tokens_of("a")))
    assert page.tags[1][1]["title"] == "relative change -0.1 ± 0.01; log p -1 nats"


def test_tokens_that_were_left_out_say_so() -> None:
    nothing = float("nan")
    page = Page(heat_map(tokens_of("a", excluded=True, relative_change=nothing, relative_change_se=nothing)))
    assert page.tags[1][1]["title"] == "left out: |log p| below 1e-6"
    assert "nan" not in heat_map(tokens_of("a", excluded=True, relative_change=nothing))


def test_the_legend_names_every_mark() -> None:
    text = Page(legend()).text
    assert all(word in text for word in ("falls under noise", "rises", "not scored", "left out (|log p| < 1e-6)"))


@pytest.mark.parametrize(
    "text", ["plain", "**b** $x$ <b>", "a`b", "``a```b`", "`", "![x](http://example.org)", ":red[x]"]
)
def test_a_literal_is_one_code_span(text: str) -> None:
    shown = literal(text)
    fence = shown.split(" ", 1)[0]
    assert set(fence) == {"`"}
    assert shown == f"{fence} {text} {fence}"
    assert fence not in [run for run in "".join(c if c == "`" else " " for c in text).split() if run == fence]


def test_a_literal_stays_on_its_line() -> None:
    assert literal("a\n\n# b") == "` a # b `"


def test_in_the_full_scope_the_question_is_coloured_too() -> None:
    tokens = tokens_of("Who", "Ann", in_answer=[False, True], relative_change=[-0.2, -0.1])
    assert FALLS not in heat_map(tokens).split("Ann")[0].split("Who")[0]
    assert FALLS in heat_map(tokens, pd.Series([True, True])).split("Who")[0]
