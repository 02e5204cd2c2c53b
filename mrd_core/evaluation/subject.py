"""The model that is evaluated, and how it is asked; what asking it for one set gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from mrd_core.evaluation.files import ANSWER_COLUMNS
from mrd_core.model.encoder import Encoder
from mrd_core.model.encoding import IntArray
from mrd_core.model.generation import write
from mrd_core.model.loading import LoadedModel
from mrd_core.model.processes import ALONE, Processes
from mrd_core.model.reader import Reader

# Where nothing is generated.
NO_ANSWERS = pd.DataFrame(columns=ANSWER_COLUMNS[1:], dtype=object)


@dataclass(frozen=True, eq=False)
class Subject:
    """A loaded model with all that it takes to ask it something.

    Attributes:
        model: Network, tokenizer, device, context.
        encoder: Turns prompts and answers into its tokens.
        batch_tokens: Most padded tokens in a batch.
        max_new_tokens: Most tokens that it writes for a sample.
        k_percent: Share of the least likely tokens that Min-k% looks at [%].
        before_batch: Called before each batch; raises to stop (cancellation).
        processes: Those that ask it together.
    """

    model: LoadedModel
    encoder: Encoder
    batch_tokens: int
    max_new_tokens: int
    k_percent: float
    before_batch: Callable[[], None] = lambda: None
    processes: Processes = ALONE

    @cached_property
    def reader(self) -> Reader:
        """The model as it is read."""
        return replace(self.model.reader(self.batch_tokens, self.before_batch), processes=self.processes)

    def write(self, prompts: Sequence[IntArray | None]) -> list[str | None]:
        """Return what the model itself writes to each prompt; None where it can write nothing.

        Raises:
            UserError: Out of memory with a single generation in the batch.
        """
        return write(self.reader, self.model.tokenizer, prompts, [self.max_new_tokens] * len(prompts))


class Measured(NamedTuple):
    """What a model made of one set.

    Attributes:
        values: Columns sample_id, metric, value (NaN: undefined).
        answers: Columns sample_id, asked ("question" or "paraphrased question", "prompt"), prompt, reference,
            generated (None: nothing could be written); no row where nothing was generated.
        notes: What a reader of the values must know, in sentences.
        tokens: A row per answer token, where a reference was held against it; None elsewhere.
    """

    values: pd.DataFrame
    answers: pd.DataFrame
    notes: tuple[str, ...] = ()
    tokens: pd.DataFrame | None = None

    @classmethod
    def of(
        cls, frame: pd.DataFrame, wide: pd.DataFrame, answers: pd.DataFrame = NO_ANSWERS, notes: Iterable[str] = ()
    ) -> Measured:
        """Return it, given a table with a column per metric for the samples of `frame`, in that order."""
        table = wide.assign(sample_id=list(frame["sample_id"]))
        values = table.melt(id_vars="sample_id", var_name="metric", value_name="value")
        return cls(values.astype({"value": np.float64}), answers, tuple(notes))
