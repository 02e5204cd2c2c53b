"""What a model says of every answer token in one teacher-forced pass, moments over the vocabulary included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call

from mrd_core.encoding import BoolArray, Encoded
from mrd_core.likelihood import CHUNK_ELEMENTS, Batch, FloatArray, make_batches
from mrd_core.measuring import Predictions, judge, values_of
from mrd_core.memorization import evaluating, within_memory

# The metrics of a sample that follow from its likelihoods alone.
LIKELIHOOD_METRICS = ("nll", "probability", "exact_memorization", "extraction_strength")

# From hidden states (M, d) to logits (M, V), in fp32 or finer.
Head = Callable[[Tensor], Tensor]


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

    def at(self, where: slice | BoolArray) -> Likelihoods:
        """Return those of some tokens."""
        return Likelihoods(self.log_probs[where], self.hits[where], self.means[where], self.variances[where])

    @property
    def mean_log_prob(self) -> float:
        """The length-normalised log-likelihood [nats per token]; NaN for an empty answer."""
        return float(self.log_probs.mean()) if self.log_probs.size else float("nan")

    @property
    def sum_log_prob(self) -> float:
        """The log-likelihood of the whole answer [nats]; NaN for an empty answer."""
        return float(self.log_probs.sum()) if self.log_probs.size else float("nan")


def answer_likelihoods(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    before_batch: Callable[[], None] = lambda: None,
) -> list[Likelihoods]:
    """Run the true texts through the model once, without gradients, dropout off.

    Args:
        network: A transformers causal language model or its peft wrapper; it gets back the mode it was in.
        encoded: N samples.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch; halved while memory runs out.
        before_batch: Called before each batch; raises to stop (cancellation).

    Returns:
        N entries, in the order of the samples; an empty one where no answer token lies within the context.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    if not len(encoded):
        return []
    with evaluating(network):
        passed = within_memory(lambda most: _pass(network, encoded, device, most, before_batch), batch_tokens)
    return list(_by_sample(passed, encoded))


def metrics_of(answers: Sequence[Likelihoods]) -> pd.DataFrame:
    """Return the `LIKELIHOOD_METRICS` of each answer, one row each; NaN for an empty one."""
    rows = [values_of(Predictions(said.log_probs, said.hits, -said.means)) for said in answers]
    return pd.DataFrame(rows, columns=list(LIKELIHOOD_METRICS), dtype=np.float64)


def perplexity(answers: Sequence[Likelihoods]) -> float:
    """Return the exponential of the mean NLL over all tokens of all answers; NaN where there is no token."""
    log_probs = np.concatenate([np.empty(0), *(said.log_probs for said in answers)])
    with np.errstate(over="ignore"):
        return float(np.exp(-log_probs.mean())) if log_probs.size else float("nan")


def _pass(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    before_batch: Callable[[], None],
) -> Likelihoods:
    """Return what is said of every answer token, in the order of the flat axis."""
    head, answer = _fine_head(network), encoded.answer
    flat = Likelihoods(np.zeros(len(answer)), np.zeros(len(answer), np.bool_), *np.zeros((2, len(answer))))
    # Results stay on the device until the pass ends: a copy per batch would make a GPU wait each time.
    results = []
    for batch in make_batches(encoded, batch_tokens, device):
        before_batch()
        inside = np.flatnonzero(answer[batch.flat])
        results.append((batch.flat[inside], _predict(network, head, batch, torch.from_numpy(inside).to(device))))
    for where, parts in results:
        for values, part in zip(flat, parts, strict=True):
            values[where] = part.cpu().numpy()
    return flat.at(answer)


def _predict(network: Any, head: Head, batch: Batch, inside: Tensor) -> list[Tensor]:
    """Return the fields of `Likelihoods` for the scored positions `inside` a batch."""
    rows, columns = batch.rows[inside], batch.columns[inside]
    hidden = network.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    targets = batch.ids[rows, columns + 1].to(hidden.device)
    hidden = hidden[rows.to(hidden.device), columns.to(hidden.device)]
    chunk = max(1, CHUNK_ELEMENTS[hidden.device.type] // network.get_output_embeddings().weight.shape[0])
    parts = [
        _judge(head(some), wanted)
        for some, wanted in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
    ]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of `Likelihoods` from logits (M, V), which are overwritten, and token ids (M,)."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    log_probs, hits, entropies = judge(logits, targets)
    # A token of probability 0 has log p = −∞ and no part in the mean.
    squares = (log_p + entropies.unsqueeze(1)).square().masked_fill(p == 0, 0)
    return log_probs, hits, -entropies, (p * squares).sum(1)


def _fine_head(network: Any) -> Head:
    """Return the model's head in fp32 or finer: logits of bf16 are rounded by up to 0.06."""
    head = network.get_output_embeddings()
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    weights = {name: weight.to(dtype) for name, weight in head.named_parameters()}
    return lambda hidden: functional_call(head, weights, (hidden.to(dtype),))


def _by_sample(passed: Likelihoods, encoded: Encoded) -> Iterator[Likelihoods]:
    """Yield what is said of each sample's answer."""
    ends = np.cumsum([sample.answer.sum() for sample in encoded.samples])
    for begin, end in pairwise([0, *ends]):
        yield passed.at(slice(begin, end))
