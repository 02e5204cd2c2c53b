"""Results without the texts of the samples: for those who may see figures and not the forget set."""

from __future__ import annotations

import pandas as pd

# Of a sample, what a model wrote for it, and what people noted, who may quote it.
TEXTS = ("prompt", "answer", "reference", "generated", "own_answer_before", "own_answer_after", "sample_note")
LEFT_OUT = "(text left out)"


def without_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which every text of a sample is `LEFT_OUT`; ids and figures stay."""
    return frame.assign(**{name: LEFT_OUT for name in TEXTS if name in frame})
