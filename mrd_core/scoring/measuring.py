"""The values of the measures that are held beside MRD: one forward pass for most, one backward pass more for
the gradient norms. What each measure is stands in `measures`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import Layout, gradient_norms
from mrd_core.model.likelihood import target_log_probs
from mrd_core.model.reader import Reader
from mrd_core.scoring.columns import SAMPLE_ID
from mrd_core.scoring.measures import MARGIN, PLAIN_MEASURES, SATIMP
from mrd_core.scoring.mrd import log_odds


class Predictions(NamedTuple):
    """What a model says of answer tokens, each after the true ones before it; shape (M,) each.

    Attributes:
        log_probs: log p of the true token [nats].
        hits: Whether it is the first choice.
        entropies: Entropy of the prediction [nats].
    """

    log_probs: FloatArray
    hits: BoolArray
    entropies: FloatArray

    def at(self, where: slice) -> Predictions:
        """Return those of some tokens."""
        return Predictions(self.log_probs[where], self.hits[where], self.entropies[where])


def measure(
    reader: Reader,
    encoded: Encoded,
    training_counts: Sequence[int | None] | pd.Series[Any] | None = None,
    gradients: bool = True,
    announce: Callable[[str], None] = warnings.warn,
    layout: Layout | None = None,
) -> pd.DataFrame:
    """Measure every sample, dropout off.

    Args:
        reader: The model; its modes, gradients and flags stay as they are.
        encoded: N samples.
        training_counts: Occurrences of each sample in training, missing where unknown; length N.
        gradients: Whether to take the gradient norms, which cost three times as much as all the rest.
        announce: Told where gradients can only be taken one sample at a time, or where memory does not hold those
            of a single one.
        layout: How gradients are had, where it was found before.

    Returns:
        N rows: sample_id and a column for each of `PLAIN_MEASURES`, and of `GRADIENT_MEASURES` if wanted. NaN
        where a sample has no answer token, where its training count is unknown, and for gradients that
        memory does not hold.

    Raises:
        UserError: Out of memory with a single sample in the batch, gradients apart.
    """
    *judged, margins = reader.answers(encoded, _predict_with_margins, fine_head=True)
    predictions = Predictions(*judged)
    rows = [
        values_of(predictions.at(where)) | {"margin_share": margin_share(margins[where])}
        for where in encoded.answer_slices
    ]
    frame = pd.DataFrame(rows, columns=list(PLAIN_MEASURES), dtype=np.float64)
    frame.insert(0, SAMPLE_ID, list(encoded.sample_ids))
    if training_counts is not None:
        counts: pd.Series[Any] = pd.Series(list(training_counts), dtype="Float64")
        frame["training_count"] = counts.to_numpy(np.float64, na_value=np.nan)
    if gradients:
        norms = _norms(reader, encoded, announce, layout)
        frame["gradient_norm"] = norms / frame["answer_tokens"]
        frame["gradient_norm_sum"] = norms
    return frame


def _norms(reader: Reader, encoded: Encoded, announce: Callable[[str], None], layout: Layout | None) -> FloatArray:
    try:
        return gradient_norms(reader, encoded, announce, layout)
    except UserError as error:
        # One of many measures is no reason to lose all others.
        announce(f"No gradient norms: {error.what} {error.why}")
        return np.full(len(encoded), np.nan)


def values_of(answer: Predictions) -> dict[str, float]:
    """Return the measures of one sample that follow from what the model says of its answer.

    Args:
        answer: The n tokens of the answer.

    Returns:
        A value for each of `PLAIN_MEASURES` but the share above a margin and the training count; none at all for
        an empty answer.
    """
    log_probs, n = answer.log_probs, len(answer.log_probs)
    if not n:
        return {}
    return {
        "nll": float(-log_probs.mean()),
        "nll_sum": float(-log_probs.sum()),
        "probability": float(np.exp(log_probs.mean())),
        "min_probability": float(np.exp(log_probs.min())),
        "median_log_odds": float(np.median(log_odds(log_probs))),
        "exact_memorization": float(answer.hits.mean()),
        "extraction_strength": extraction_strength(answer.hits),
        "entropy": float(answer.entropies.mean()),
        "satimp_weight": satimp_weight(log_probs),
        "answer_tokens": float(n),
    }


def extraction_strength(hits: BoolArray) -> float:
    """Return 1 − k/n, where every token after the first k is the model's first choice.

    k is at most n − 1, as in OpenUnlearning: an answer of which no suffix comes back has 1/n, and so has one
    of which only the last token does.

    Args:
        hits: Whether each token of the answer is the first choice, shape (n,), n > 0.
    """
    misses = np.flatnonzero(~hits)
    k = min(int(misses[-1]) + 1, len(hits) - 1) if misses.size else 0
    return 1 - k / len(hits)


def satimp_weight(log_probs: FloatArray) -> float:
    """Return mean_t p_t^β1 (1 − p_t)^β2 (Yang et al. 2025, token level) for log-probabilities of shape (n,)."""
    # 1 − p from log p: at p → 1 the difference would keep none of its digits, and β2 < 1 brings them up.
    weights = np.exp(SATIMP["beta1"] * log_probs) * (-np.expm1(log_probs)) ** SATIMP["beta2"]
    return float(weights.mean())


def margin_share(margins: FloatArray) -> float:
    """Return the share of tokens whose logit exceeds every other by more than `MARGIN`; NaN where there are none.

    Args:
        margins: z_y − max_{v≠y} z_v [nats], shape (n,).
    """
    return float((margins > MARGIN).mean()) if margins.size else np.nan


def predict(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p of the targets, whether they are the first choice, and the entropy, shape (M,) each.

    Args:
        logits: Shape (M, V). Overwritten at the target's place.
        targets: Token ids, shape (M,).
    """
    hits = logits.argmax(1) == targets
    entropies = torch.special.entr(logits.softmax(1)).sum(1)
    return target_log_probs(logits, targets), hits, entropies


def _predict_with_margins(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return what `predict` does, and z_y − max_{v≠y} z_v [nats], shape (M,)."""
    chosen = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    predicted = predict(logits, targets)
    # At the target's place there is −∞ by now.
    return *predicted, chosen - logits.amax(1)
