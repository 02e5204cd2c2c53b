"""The norm of each sample's own gradient, for many samples at once.

Gradients of a batch add up in autograd; `torch.func` differentiates a function of one sample and maps it over
the batch instead, so that each sample's gradient exists by itself for a moment. That takes as many copies of
the weights as samples are mapped over, which bounds how many there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded, EncodedSample, length_buckets, padded, padding_mask
from mrd_core.model.head import LanguageHead
from mrd_core.model.reader import Reader, evaluating, is_out_of_memory, within_memory

# Gradients that may exist at once [bytes].
GRADIENT_BYTES = {"cpu": 1 << 26, "cuda": 1 << 32}

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class AnswerBatch:
    """B samples, padded on the right to L tokens, and their answers, padded to A positions.

    Attributes:
        ids: Token ids, shape (B, L).
        columns: Where an answer token is predicted, shape (B, A), each below L − 1.
        inside: False for the padding of `columns`, shape (B, A).
    """

    ids: Tensor
    columns: Tensor
    inside: Tensor

    @classmethod
    def of(cls, samples: Sequence[EncodedSample], device: torch.device) -> AnswerBatch:
        """Pad samples, each with an answer token, into one batch on `device`."""
        places = [np.flatnonzero(sample.answer) for sample in samples]
        # The padding is behind the text, where a causal model does not look, so any id does.
        parts = (padded([sample.tokens for sample in samples]), padded(places), padding_mask(places))
        return cls(*(torch.from_numpy(part).to(device) for part in parts))


class AnswerNLL(nn.Module):
    """The summed NLL of one sample's answer [nats], as a function of a language model's parameters."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._head = LanguageHead(network)
        self.body = self._head.body
        # The module and not its weight, which would pass over an adapter on the head.
        self.head = self._head.output

    def forward(self, ids: Tensor, columns: Tensor, inside: Tensor) -> Tensor:
        """Return a scalar for ids (L,), columns (A,) and inside (A,), as in `AnswerBatch`."""
        hidden = self.body(input_ids=ids.unsqueeze(0), use_cache=False).last_hidden_state[0]
        logits = self._head(hidden[columns.to(hidden.device)])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # As in `target_log_probs`, without writing over what the gradient needs: that of a plain log-softmax, p −
        # 1 for the target, cancels where the model is certain.
        index = ids[columns + 1].to(logits.device).unsqueeze(1)
        rest = logits.scatter(1, index, -torch.inf).logsumexp(1)
        log_probs = nn.functional.logsigmoid(logits.gather(1, index).squeeze(1) - rest)
        return -torch.where(inside.to(logits.device), log_probs, 0).sum()


def gradient_norms(
    reader: Reader, encoded: Encoded, announce: Callable[[str], None] = warnings.warn
) -> FloatArray:
    """Return ‖∇_θ NLL‖ of each sample's summed answer NLL, dropout off.

    θ is every floating-point parameter, frozen or not, an adapter's included; tied weights are one parameter.

    Args:
        reader: The model; its modes, gradients and flags stay as they are.
        encoded: N samples.
        announce: Told, once, where the model cannot be mapped over a batch and a loop does the work.

    Returns:
        Shape (N,) [nats]; NaN where a sample has no answer token.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    norms = np.full(len(encoded), np.nan)
    answered = np.array([i for i, sample in enumerate(encoded.samples) if sample.answer.any()], dtype=np.int64)
    lengths = encoded.lengths[answered]
    gradients = _Gradients(reader, announce)

    def measure_all(most: int) -> None:
        for bucket in length_buckets(lengths, most, reader.switch):
            reader.before_batch()
            chosen = answered[bucket]
            norms[chosen] = gradients.norms([encoded.samples[i] for i in chosen])

    with evaluating(reader.network), torch.enable_grad():
        within_memory(measure_all, reader.batch_tokens)
    return norms


class _Gradients:
    """Takes the norms of per-sample gradients, at once for as many samples as memory allows."""

    def __init__(self, reader: Reader, announce: Callable[[str], None]) -> None:
        self._nll = AnswerNLL(reader.network)
        self._device = reader.device
        self._announce = announce
        # Aliases of the weights: what is asked of them does not reach the model's own flags.
        self._parameters: Parameters = {
            name: parameter.detach()
            for name, parameter in self._nll.named_parameters()
            if parameter.is_floating_point()
        }
        size = sum(parameter.nbytes for parameter in self._parameters.values())
        self._at_once = max(1, GRADIENT_BYTES[self._device.type] // size)

    def norms(self, samples: Sequence[EncodedSample]) -> FloatArray:
        """Return the norm of each sample's gradient, shape (B,)."""
        if self._at_once > 1:
            try:
                batch = AnswerBatch.of(samples, self._device)
                map_over = vmap(self._norm, in_dims=(None, 0, 0, 0), chunk_size=self._at_once)
                with warnings.catch_warnings():
                    # Single operations, such as the CPU's fused attention, are run sample by sample within.
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    norms: Tensor = map_over(self._parameters, batch.ids, batch.columns, batch.inside)
                return norms.double().cpu().numpy()
            # Whatever the model's own code raises over tensors that stand for a whole batch.
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                self._at_once = 1
                self._announce(
                    "Gradient norms are taken one sample at a time: the model cannot be mapped over a batch "
                    f"({type(error).__name__})."
                )
        return np.array([self._alone(sample) for sample in samples])

    def _norm(self, parameters: Parameters, *sample: Tensor) -> Tensor:
        return _norm_of(list(grad(self._sample_nll)(parameters, *sample).values()))

    def _alone(self, sample: EncodedSample) -> float:
        """Return the norm with plain autograd, for models that `torch.func` cannot see through."""
        batch = AnswerBatch.of([sample], self._device)
        leaves = {name: weight.detach().requires_grad_() for name, weight in self._parameters.items()}
        nll = self._sample_nll(leaves, batch.ids[0], batch.columns[0], batch.inside[0])
        gradients = torch.autograd.grad(nll, list(leaves.values()), allow_unused=True)
        return float(_norm_of([gradient for gradient in gradients if gradient is not None]))

    def _sample_nll(self, parameters: Parameters, *sample: Tensor) -> Tensor:
        nll: Tensor = functional_call(self._nll, parameters, sample)
        return nll


def _norm_of(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, in fp32 or finer, on the device of the first."""
    norms = [
        torch.linalg.vector_norm(gradient, dtype=torch.promote_types(gradient.dtype, torch.float32)).to(
            gradients[0].device
        )
        for gradient in gradients
    ]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
