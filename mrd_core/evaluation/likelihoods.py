"""What a model says of every answer token in one teacher-forced pass, moments over the vocabulary included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.reader import Reader
from mrd_core.scoring.measuring import Predictions, predict, values_of

# The metrics of a sample that follow from its likelihoods alone.
LIKELIHOOD_METRICS = ("nll", "probability", "exact_memorization", "extraction_strength")


class Likelihoods(NamedTuple):
    """What a model says of n answer tokens, EOS included, each after the true ones before it; shape (n,) each.

    Attributes:
        log_probs: log p of the true token [nats].
        hits: Whether it is the first choice.
        means: Σ_v p(v) log p(v), the mean of log p over the vocabulary [nats].
        variances: Σ_v p(v) (log p(v) − mean)² [nats²].
    """

    log_probs: FloatArray
    hits: BoolArray
    means: FloatArray
    variances: FloatArray

    @property
    def mean_log_prob(self) -> float:
        """The length-normalised log-likelihood [nats per token]; NaN for an empty answer."""
        return float(self.log_probs.mean()) if self.log_probs.size else float("nan")

    @property
    def sum_log_prob(self) -> float:
        """The log-likelihood of the whole answer [nats]; NaN for an empty answer."""
        return float(self.log_probs.sum()) if self.log_probs.size else float("nan")


def answer_likelihoods(reader: Reader, encoded: Encoded) -> list[Likelihoods]:
    """Run the true texts through the model once, without gradients, dropout off, its head in fp32 or finer.

    Returns:
        N entries, in the order of the samples; an empty one where no answer token lies within the context.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    parts = reader.answers(encoded, _moments, fine_head=True)
    return [Likelihoods(*(values[where] for values in parts)) for where in encoded.answer_slices]


def metrics_of(answers: Sequence[Likelihoods]) -> pd.DataFrame:
    """Return the `LIKELIHOOD_METRICS` of each answer, one row each; NaN for an empty one."""
    rows = [values_of(Predictions(answer.log_probs, answer.hits, -answer.means)) for answer in answers]
    return pd.DataFrame(rows, columns=list(LIKELIHOOD_METRICS), dtype=np.float64)


def _moments(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of `Likelihoods` from logits (M, V), which are overwritten, and token ids (M,)."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    log_probs, hits, entropies = predict(logits, targets)
    # A token of probability 0 has log p = −∞ and no part in the mean.
    squares = (log_p + entropies.unsqueeze(1)).square().masked_fill(p == 0, 0)
    return log_probs, hits, -entropies, (p * squares).sum(1)
