"""Cells of the tables that tell in a terminal what an experiment shows."""

from __future__ import annotations

import pandas as pd


def number_cells(values: pd.Series, form: str) -> list[str]:
    """Return numbers in a form such as `.3g`; undefined ones as a dash."""
    return ["–" if pd.isna(value) else f"{value:{form}}" for value in values]


def interval_cells(frame: pd.DataFrame, value: str, low: str, high: str) -> list[str]:
    """Return estimates as `+0.41 [+0.20, +0.58]`, from the columns that hold them and their ends."""
    cells = []
    for middle, lower, upper in frame[[value, low, high]].itertuples(index=False, name=None):
        ends = "" if pd.isna(lower) else f" [{lower:+.2f}, {upper:+.2f}]"
        cells.append("–" if pd.isna(middle) else f"{middle:+.2f}{ends}")
    return cells
