"""Texts on which perplexity says whether a model still writes as it did, such as WikiText. Loads no torch."""

from __future__ import annotations

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.suites import source
from mrd_core.evaluation.suites.identity import sample_ids
from mrd_core.samples.cells import as_text, is_null

LOCATION = source.Location(
    ("texts", "wikitext"), hub="Salesforce/wikitext", subset="wikitext-2-raw-v1", split="test"
)


def load_texts(data: str, notes: list[str]) -> EvaluationSet | None:
    """Return the texts beside a suite, or None; `notes` is told where there are none and of what was left out.

    Raises:
        UserError: The table cannot be read, has no column `text`, or nothing but blank cells.
    """
    table = LOCATION.read(data)
    if table is None:
        notes.append(
            f"There is no file of general texts ({' or '.join(LOCATION.names)}): perplexity is not measured."
        )
        return None
    texts = source.cells(table, "text", lambda value: "" if is_null(value) else as_text(value))
    frame = pd.DataFrame({"sample_id": sample_ids(table, [[text] for text in texts]), "text": texts})
    # WikiText parts its articles by blank lines.
    filled = frame[frame["text"].str.strip() != ""].reset_index(drop=True)
    if filled.empty:
        raise UserError(
            table.name, "The column 'text' is blank in all rows.", "Check that this is the right file."
        )
    if len(filled) < len(frame):
        notes.append(f"{len(frame) - len(filled)} of {len(frame)} general texts are blank and left out.")
    return EvaluationSet("texts", "general texts", "general", "texts", filled)
