"""Norms of per-sample gradients as `torch.func` has them: each sample's own gradient is made, for a moment."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import length_buckets, padded
from mrd_core.scoring.plan import Stage

BATCH_TOKENS = 2048
# Gradients that exist at once [bytes].
GRADIENT_BYTES = 1 << 26


class MappedNorms:
    """‖∇ NLL‖ of each sample's answer, mapped over the batch."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._parameters = {name: weight.detach() for name, weight in stage.model.network.named_parameters()}
        size = sum(weight.nbytes for weight in self._parameters.values())
        self._mapped = vmap(self._norm, in_dims=(None, 0, 0), chunk_size=max(1, GRADIENT_BYTES // size))

    def norms(self) -> FloatArray:
        """Return the norms, shape (N,) [nats]."""
        encoded = self._stage.passes.encoded
        norms = np.empty(len(encoded))
        for bucket in length_buckets(encoded.lengths, BATCH_TOKENS):
            samples = [encoded.samples[i] for i in bucket]
            parts = (
                padded([sample.tokens for sample in samples]),
                padded([1 * sample.answer for sample in samples]),
            )
            ids, answer = (torch.from_numpy(part).to(self._stage.model.device) for part in parts)
            with warnings.catch_warnings():
                # The CPU's fused attention has no rule and is run sample by sample within.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                norms[bucket] = self._mapped(self._parameters, ids, answer).double().cpu()
        return norms

    def _norm(self, parameters: dict[str, Tensor], ids: Tensor, answer: Tensor) -> Tensor:
        gradients = grad(self._nll)(parameters, ids, answer)
        return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()

    def _nll(self, parameters: dict[str, Tensor], ids: Tensor, answer: Tensor) -> Tensor:
        wish = {"input_ids": ids.unsqueeze(0), "use_cache": False}
        logits = functional_call(self._stage.model.network, parameters, (), wish).logits[0, :-1]
        return -(logits.log_softmax(-1).gather(-1, ids[1:].unsqueeze(-1)).squeeze(-1) * answer).sum()
