"""Another account of log p: the model's own plain pass in fp64, one text at a time, noise put on by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.likelihood import KeepDouble, Scorer
from mrd_core.model.perturbation import Noise


def log_probs(network: Any, encoded: Encoded, noise: Noise | None = None, draw: int = 0) -> FloatArray:
    """Return log p of every scored position [nats], shape (T,), in fp64.

    Args:
        network: A causal language model in fp32; it is not changed.
        encoded: N samples.
        noise: Put on every weight that the scorer names, rounded as a draw is; None for the model itself.
        draw: Number of the draw.
    """
    weights = {}
    for name, parameter in Scorer(network).named_parameters():
        perturbed = noise.perturbed(draw, 1, name, parameter.data) if noise else parameter.data
        weights[parameter] = perturbed.to(parameter.dtype)
    double = copy.deepcopy(network)
    for own, copied in zip(network.parameters(), double.parameters(), strict=True):
        copied.data = weights.get(own, own.data).double()
    texts = []
    # Masks that are made in fp32 hold numbers that fp64 weights cannot be filled with.
    with torch.no_grad(), KeepDouble():
        for sample in encoded.samples:
            ids = torch.from_numpy(sample.tokens).unsqueeze(0)
            logits = double(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, :-1]
            # p → 1 as in practice: what is left beside the target is summed by itself.
            logits = logits.double()
            target = logits.gather(1, ids[0, 1:, None])
            rest = logits.scatter(1, ids[0, 1:, None], -torch.inf).logsumexp(1, keepdim=True)
            texts.append((-torch.log1p((rest - target).exp())).squeeze(1).numpy())
    return np.concatenate(texts)


def gradient_norms(network: Any, encoded: Encoded) -> FloatArray:
    """Return ‖∇ NLL‖ of each sample's summed answer NLL by plain autograd, one text at a time, shape (N,)."""
    return np.array([float(np.linalg.norm(gradient)) for gradient in _gradients(network, encoded)])


def gradients(network: Any, encoded: Encoded) -> FloatArray:
    """Return ∇ NLL of each sample's mean answer NLL, shape (N, weights), in fp64; for models that are tiny."""
    tokens = [sample.answer.sum() for sample in encoded.samples]
    return np.stack([g / n for g, n in zip(_gradients(network, encoded), tokens, strict=True)])


def mean_nlls(network: Any, encoded: Encoded) -> FloatArray:
    """Return the NLL of each sample averaged over its answer's tokens [nats per token], shape (N,), in fp64."""
    values = np.split(-log_probs(network, encoded), encoded.starts[1:-1])
    return np.array([own[one.answer].mean() for own, one in zip(values, encoded.samples, strict=True)])


def _gradients(network: Any, encoded: Encoded) -> Iterator[FloatArray]:
    """Yield ∇ NLL of each sample's summed answer NLL, shape (weights,), in fp64."""
    differentiated = copy.deepcopy(network).requires_grad_(True)
    for module in differentiated.modules():
        # Its row is a weight like any other, and noise moves it.
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    weights = list(differentiated.parameters())
    for sample in encoded.samples:
        ids = torch.from_numpy(sample.tokens).unsqueeze(0)
        logits = differentiated(input_ids=ids, use_cache=False).logits[0, :-1]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = logits.gather(1, ids[0, 1:, None])
        rest = logits.scatter(1, ids[0, 1:, None], -torch.inf).logsumexp(1, keepdim=True)
        log_p = torch.nn.functional.logsigmoid(target - rest).squeeze(1)
        nll = -log_p[torch.from_numpy(sample.answer)].sum()
        gradients = torch.autograd.grad(nll, weights, allow_unused=True, materialize_grads=True)
        yield torch.cat([gradient.double().flatten() for gradient in gradients]).numpy()
