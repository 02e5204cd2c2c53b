"""Cells of the tables that tell in a terminal what an experiment shows."""

from __future__ import annotations

import pandas as pd


def number_cells(values: pd.Series, form: str) -> list[str]:
    """Return numbers in a form such as `.3g`; undefined ones as a dash."""
    return ["–" if pd.isna(value) else f"{value:{form}}" for value in values]
