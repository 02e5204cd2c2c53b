"""The values of the measures that are held beside MRD: one forward pass for most, one backward pass more for
the gradient norms. What each measure is stands in `measures`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call

from mrd_core.errors import UserError
from mrd_core.model.encoding import BoolArray, Encoded
from mrd_core.model.gradients import gradient_norms
from mrd_core.model.likelihood import CHUNK_ELEMENTS, Batch, FloatArray, make_batches, target_log_probs
from mrd_core.model.memorization import evaluating, within_memory
from mrd_core.scoring.measures import PLAIN_MEASURES, SATIMP

# From hidden states (M, d) to logits (M, V), in fp32 or finer.
Head = Callable[[Tensor], Tensor]
# From logits (M, V) and token ids (M,) to values of shape (M,) each.
Judge = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


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
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    training_counts: Sequence[int | None] | pd.Series[Any] | None = None,
    gradients: bool = True,
    before_batch: Callable[[], None] = lambda: None,
    announce: Callable[[str], None] = warnings.warn,
) -> pd.DataFrame:
    """Measure every sample, dropout off.

    Args:
        network: A transformers causal language model; its modes, gradients and flags stay as they are.
        encoded: N samples.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch; halved while memory runs out.
        training_counts: Occurrences of each sample in training, missing where unknown; length N.
        gradients: Whether to take the gradient norms, which cost three times as much as all the rest.
        before_batch: Called before each batch; raises to stop (cancellation).
        announce: Told where gradients can only be taken one sample at a time, or where memory does not hold those
            of a single one.

    Returns:
        N rows: sample_id and a column for each of `PLAIN_MEASURES`, and of `GRADIENT_MEASURES` if wanted. NaN
        where a sample has no answer token, where its training count is unknown, and for gradients that
        memory does not hold.

    Raises:
        UserError: Out of memory with a single sample in the batch, gradients apart.
    """
    with evaluating(network):
        predicted = within_memory(lambda most: predict(network, encoded, device, most, before_batch), batch_tokens)
    rows = [values_of(predicted.at(where)) for where in answer_slices(encoded)]
    frame = pd.DataFrame(rows, columns=list(PLAIN_MEASURES), dtype=np.float64)
    frame.insert(0, "sample_id", list(encoded.sample_ids))
    if training_counts is not None:
        frame["training_count"] = _counts(training_counts)
    if gradients:
        norms = _norms(network, encoded, device, batch_tokens, before_batch, announce)
        frame["gradient_norm"] = norms / frame["answer_tokens"]
        frame["gradient_norm_sum"] = norms
    return frame


def _norms(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    before_batch: Callable[[], None],
    announce: Callable[[str], None],
) -> FloatArray:
    try:
        return gradient_norms(network, encoded, device, batch_tokens, before_batch=before_batch, announce=announce)
    except UserError as error:
        # One of many measures is no reason to lose all others.
        announce(f"No gradient norms: {error.what} {error.why}")
        return np.full(len(encoded), np.nan)


def values_of(answer: Predictions) -> dict[str, float]:
    """Return the measures of one sample that follow from what the model says of its answer.

    Args:
        answer: The n tokens of the answer.

    Returns:
        A value for each of `PLAIN_MEASURES` but the training count; none at all for an empty answer.
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


def log_odds(log_probs: FloatArray) -> FloatArray:
    """Return log(p / (1 − p)) [nats] for log-probabilities of shape (n,); exact where p → 1."""
    # A token that is certain to the last digit has the odds of the smallest doubt that can be written down.
    doubt = np.log(np.maximum(-np.expm1(log_probs), np.finfo(np.float64).tiny))
    odds: FloatArray = log_probs - doubt
    return odds


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


def predict(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    before_batch: Callable[[], None] = lambda: None,
) -> Predictions:
    """Run one teacher-forced pass.

    Returns:
        What the model says of every answer token, in the order of the flat axis.
    """
    return Predictions(*judged_tokens(network, encoded, device, batch_tokens, judge, before_batch))


def judged_tokens(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    of: Judge,
    before_batch: Callable[[], None] = lambda: None,
) -> list[Any]:
    """Run one teacher-forced pass and judge the prediction of every answer token.

    Args:
        network: A transformers causal language model, in the mode it is to be in.
        encoded: N samples.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch.
        of: What is wanted of logits and targets.
        before_batch: Called before each batch; raises to stop (cancellation).

    Returns:
        An array for each value that `of` gives, shape (M,), in the order of the flat axis' M answer tokens.
    """
    head, answer = _fine_head(network), encoded.answer
    # Results stay on the device until the pass ends: a copy per batch would make a GPU wait each time.
    places, results = [], []
    for batch in make_batches(encoded, batch_tokens, device):
        before_batch()
        inside = np.flatnonzero(answer[batch.flat])
        places.append(batch.flat[inside])
        results.append(_judged(network, head, batch, torch.from_numpy(inside).to(device), of))
    order = np.argsort(np.concatenate(places))
    return [torch.cat(values).cpu().numpy()[order] for values in zip(*results, strict=True)]


def _judged(network: Any, head: Head, batch: Batch, inside: Tensor, of: Judge) -> list[Tensor]:
    """Return what `of` gives for the scored positions `inside` a batch."""
    rows, columns = batch.rows[inside], batch.columns[inside]
    hidden = network.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    targets = batch.ids[rows, columns + 1].to(hidden.device)
    hidden = hidden[rows.to(hidden.device), columns.to(hidden.device)]
    chunk = max(1, CHUNK_ELEMENTS[hidden.device.type] // network.get_output_embeddings().weight.shape[0])
    parts = [
        of(head(some), wanted)
        for some, wanted in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
    ]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p of the targets, whether they are the first choice, and the entropy, shape (M,) each.

    Args:
        logits: Shape (M, V). Overwritten at the target's place.
        targets: Token ids, shape (M,).
    """
    hits = logits.argmax(1) == targets
    entropies = torch.special.entr(logits.softmax(1)).sum(1)
    return target_log_probs(logits, targets), hits, entropies


def _fine_head(network: Any) -> Head:
    """Return the model's head in fp32 or finer: logits of bf16 are rounded by up to 0.06.

    MRD reads its log-probabilities from such a head, and a rival gets no worse one.
    """
    head = network.get_output_embeddings()
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    weights = {name: weight.to(dtype) for name, weight in head.named_parameters()}
    return lambda hidden: functional_call(head, weights, (hidden.to(dtype),))


def answer_slices(encoded: Encoded) -> list[slice]:
    """Return where each sample's answer tokens stand among those of all samples."""
    ends = np.cumsum([sample.answer.sum() for sample in encoded.samples])
    return [slice(begin, end) for begin, end in pairwise([0, *ends])]


def _counts(training_counts: Sequence[int | None] | pd.Series[Any]) -> FloatArray:
    counts: pd.Series[Any] = pd.Series(list(training_counts), dtype="Float64")
    return counts.to_numpy(np.float64, na_value=np.nan)
