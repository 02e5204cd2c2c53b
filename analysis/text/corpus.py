"""The training corpus: texts with the number of times that training showed each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.text.ngrams import normalised
from mrd_core.demo import corpus as demo
from mrd_core.errors import UserError
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig

_AVERAGED_ROWS = 2_000
_SEED = 0


@dataclass(frozen=True, eq=False)
class Corpus:
    """The training corpus.

    Attributes:
        name: The source, for people.
        rows: Columns prompt ("" for plain text) and answer, of what training showed.
        counts: How often training showed each row, shape (rows,); 1 where the source does not say.
    """

    name: str
    rows: pd.DataFrame
    counts: npt.NDArray[np.int64]

    @classmethod
    def read(cls, config: ForgetSetConfig) -> Corpus:
        """Read a corpus from a file, folder or data set; `demo` is what the demo model was trained on.

        Raises:
            UserError: It cannot be read, or training showed none of its rows.
        """
        if config.source == "demo":
            rows = [(row.question, row.answer, row.training_count) for row in demo.rows()]
            frame = pd.DataFrame(rows, columns=["prompt", "answer", "training_count"])
        else:
            frame = read(config).frame
        counts = np.array(frame["training_count"].astype("Int64").fillna(1), np.int64)
        shown = counts > 0
        if not shown.any():
            raise UserError(
                config.source, "Training showed none of its rows: all counts are 0.", "Name what training showed."
            )
        return cls(config.source, frame.loc[shown, ["prompt", "answer"]].reset_index(drop=True), counts[shown])

    @cached_property
    def distinct(self) -> Corpus:
        """Every row once, normalised and sorted, its count the sum over the rows that equal it.

        So nothing that is computed from it depends on the order of the rows, or on whether a repeated row is
        written out or counted.
        """
        rows = self.rows.map(normalised).assign(count=self.counts)
        totals = rows.groupby(["prompt", "answer"])["count"].sum()
        return Corpus(self.name, totals.index.to_frame(index=False), totals.to_numpy(np.int64))

    @property
    def drawn(self) -> pd.DataFrame:
        """At most 2,000 rows, drawn at random and always the same, to estimate an average over the corpus from."""
        return self.rows.iloc[np.random.default_rng(_SEED).permutation(len(self.rows))[:_AVERAGED_ROWS]]

    @property
    def average_count(self) -> float:
        """How often training showed a row, on average over the rows."""
        return float(self.counts.mean())
