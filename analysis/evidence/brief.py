"""Cells of the tables that tell in a terminal what an experiment shows."""

from __future__ import annotations

import pandas as pd


def number_cells(values: pd.Series, form: str) -> list[str]:
    """Return numbers in a form such as `.3g`; undefined ones as a dash."""
    return ["–" if pd.isna(value) else f"{value:{form}}" for value in values]


def interval_cells(frame: pd.DataFrame, value: str, prefix: str = "") -> list[str]:
    """Return estimates as `+0.41 [+0.20, +0.58]`, from their columns as `Estimate.columns` names them."""
    cells = []
    for middle, low, high in frame[[value, f"{prefix}low", f"{prefix}high"]].itertuples(index=False, name=None):
        ends = "" if pd.isna(low) else f" [{low:+.2f}, {high:+.2f}]"
        cells.append("–" if pd.isna(middle) else f"{middle:+.2f}{ends}")
    return cells
