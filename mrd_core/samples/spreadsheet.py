"""Texts of CSV files that a spreadsheet would carry out as formulas: made harmless, and read back as they were."""

from __future__ import annotations

import re

import pandas as pd

# A cell that begins so is a formula to spreadsheets (OWASP, "CSV Injection"); `'` in front makes it a text. Cells
# that have such an apostrophe of their own get one more, so that every text has a way back.
_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def harmless(text: str) -> str:
    """Return the text with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def restored(text: str) -> str:
    """Return the text that `harmless` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV (RFC 4180) without its index: texts and names are harmless, numbers exact."""

    def cell(value: object) -> object:
        return harmless(value) if isinstance(value, str) else value

    texts = frame.select_dtypes(exclude=["number", "bool", "datetime"]).columns
    return (
        frame.assign(**{name: frame[name].map(cell) for name in texts})
        .rename(columns=cell)
        .to_csv(index=False, lineterminator="\r\n")
    )
