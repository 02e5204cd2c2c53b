"""Texts on which perplexity says whether a model still writes as it did, such as WikiText. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation import source
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.samples import Table
from mrd_core.samples.cells import as_text, is_null

TEXTS = "texts"
WIKITEXT = source.Location(("wikitext",), hub="Salesforce/wikitext", subset="wikitext-2-raw-v1", split="test")
TEXT_NAMES = (TEXTS, *WIKITEXT.names)
# " = Title = "; those within an article are " = = Section = = ".
_TITLE = re.compile(r"\s*= (?!=).*(?<!=) =\s*")


def with_texts(
    data: str, sets: Sequence[EvaluationSet], missing: Iterable[source.Wanted], notes: Iterable[str] = ()
) -> Sets:
    """Return sets of prompts with the texts beside them, where there are any, and notes of what is left out.

    The rows of `texts` are texts. Those of `wikitext`, as of WikiText on the hub, are lines: its articles are the
    texts.

    Raises:
        UserError: The table cannot be read, has no column `text`, or nothing but blank cells.
    """
    notes = [*notes, *(f"There are no {prompts.title}: they are left out." for prompts in missing)]
    texts = texts_of(data, notes)
    if texts is None:
        notes.append(
            f"There is no file of general texts ({TEXTS} or {WIKITEXT.names[0]}): perplexity is not measured."
        )
    return Sets((*sets, *([texts] if texts else [])), tuple(notes))


def texts_of(data: str, notes: list[str]) -> EvaluationSet | None:
    """Return the texts of a folder or data set, None where it has none; adds to the notes how many are blank.

    Raises:
        UserError: As of `with_texts`.
    """
    table = None if source.on_hub(data) else source.table(data, TEXTS)
    if table is None and (lines := WIKITEXT.read(data)) is not None:
        table = _articles(lines)
    if table is None:
        return None
    texts = pd.Series(_cells(table), dtype="str")
    frame = pd.DataFrame({"sample_id": sample_ids(table, [[text] for text in texts]), "text": texts})
    filled = frame[frame["text"].str.strip() != ""].reset_index(drop=True)
    if filled.empty:
        raise UserError(
            table.name, "The column 'text' is blank in all rows.", "Check that this is the right file."
        )
    if len(filled) < len(frame):
        notes.append(f"{len(frame) - len(filled)} of {len(frame)} general texts are blank and left out.")
    return EvaluationSet(TEXTS, "general texts", "general", "texts", filled)


def _articles(table: Table) -> Table:
    """Return a table with a row per article, which begins at its title; the lines before the first are one too."""
    lines = pd.Series(_cells(table), dtype="str").str.rstrip("\n")
    number = np.cumsum([_TITLE.fullmatch(line) is not None for line in lines])
    texts = lines.groupby(number).agg("\n".join).str.strip("\n")
    filled = texts[texts.str.strip() != ""].reset_index(drop=True)
    return Table(table.name, pd.DataFrame({"text": filled}, dtype=object), table.notes)


def _cells(table: Table) -> list[str]:
    return source.cells(table, "text", lambda value: "" if is_null(value) else as_text(value))
