"""Tables of the command line in narrow terminals: no name goes, and no figure is cut."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from cli.terminal import grid

FRAME = pd.DataFrame(
    {
        "": ["MRD, mean over the answer tokens *", "Speed of the log-odds (A)"],
        "set, rest": ["0.0028,\n0.00283", "4.1e+04,\n4.17e+04"],
        "difference [95 %]": ["−3.23e−05\n[−8.5e−05, +2.04e−05]", "−700\n[−1.47e+03, +78.8]"],
        "Cliff's δ [95 %]": ["−0.07\n[−0.15, +0.00]", "−0.07\n[−0.15, +0.00]"],
        "p (Holm)": ["0.98", "0.69"],
        "of 100 with more": ["88", "more than 99"],
    }
)


@pytest.mark.parametrize("width", [64, 80, 200])
def test_every_word_of_a_table_is_printed_whole(width: int) -> None:
    printed = io.StringIO()
    Console(file=printed, width=width).print(grid("Title", FRAME))
    words = printed.getvalue().split()
    for text in [*FRAME.columns, *FRAME.to_numpy().ravel()]:
        for word in text.split():
            assert word in words
    assert max(map(len, printed.getvalue().splitlines())) <= width
