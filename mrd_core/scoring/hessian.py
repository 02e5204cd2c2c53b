"""The trace of a Hessian, from products of the Hessian with random vectors.

Feng et al. expand MRD to second order (Eq. 5, Theorem 3.2): with f(θ') = Σ_t P_t(θ')/P_t(θ) over the tokens of a
sample and H its Hessian at θ, the mean of Σ_t (P_t(θ) − P_t(θ + δ))/P_t(θ) over δ ~ N(0, σ²I) is
−(σ²/2) Tr H + O(σ⁴). The trace is estimated here without any noise on the weights (Hutchinson 1990), so that
the two can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from mrd_core.model.encoding import EncodedSample
from mrd_core.model.head import LanguageHead
from mrd_core.model.likelihood import KeepDouble
from mrd_core.model.perturbation import Noise
from mrd_core.scoring.mrd import LOG_PROB_FLOOR

Parameters = Mapping[str, Tensor]


def hutchinson(
    function: Callable[[Parameters], Tensor], parameters: Parameters, vectors: Iterable[Parameters]
) -> list[float]:
    """Return vᵀHv of every vector v, with H the Hessian of a function at `parameters`.

    Where the vectors' entries are independent with mean 0 and variance 1, each value has the mean Tr H
    (Hutchinson 1990). The function and its gradient are computed once, each vector costs one backward pass more
    through both: vᵀHv = v·∇(v·∇f).

    Args:
        function: From parameters to a scalar, twice differentiable.
        parameters: Where the Hessian is taken. They are not changed.
        vectors: Each with a tensor of the same shape for every parameter.
    """
    leaves = {name: weight.detach().requires_grad_() for name, weight in parameters.items()}
    gradients = _derivatives(function(leaves), leaves, again=True)
    values = []
    for vector in vectors:
        products = _derivatives(_inner(vector, gradients), leaves)
        values.append(float(_inner(vector, products)))
    return values


def rademacher(seed: int, sample_id: str, probe: int, like: Parameters) -> dict[str, Tensor]:
    """Return a vector of independent signs, the same whatever was computed before it.

    Of all vectors that Hutchinson's estimate may use, signs give it the smallest variance,
    2 (‖H‖_F² − Σ_i H_ii²), for Gaussian ones it is 2 ‖H‖_F²: what stands on the diagonal adds no noise.

    Args:
        seed: Seed of the run.
        sample_id: The sample that the vector is for.
        probe: Number of the vector.
        like: Give names, shapes, dtypes and devices.
    """
    noise = Noise(seed, sigma=1.0)
    normals = {name: noise.standard(probe, f"{sample_id}/{name}", weight) for name, weight in like.items()}
    return {name: torch.ones_like(normal).copysign(normal) for name, normal in normals.items()}


class AnswerRatio:
    """f(θ') = Σ_t P_t(θ')/P_t(θ) over a sample's answer, as a function of a language model's parameters.

    Tokens with |P_t(θ)| below the floor of MRD are left out, as in MRD. The text goes through in double
    precision.

    Args:
        network: A transformers causal language model in fp64; it is not changed.
        sample: One sample.
        device: Where the token ids go.
    """

    def __init__(self, network: Any, sample: EncodedSample, device: torch.device) -> None:
        self._log_probs = _AnswerLogProbs(network)
        self._ids = torch.from_numpy(sample.tokens).to(device)
        self._columns = torch.from_numpy(np.flatnonzero(sample.answer)).to(device)
        with torch.no_grad():
            self._initial = self._evaluate(self.parameters)
        self._kept = self._initial.abs() >= LOG_PROB_FLOOR

    @property
    def parameters(self) -> dict[str, Tensor]:
        """θ: every floating-point parameter by name; tied weights are one parameter."""
        return {
            name: parameter.detach()
            for name, parameter in self._log_probs.named_parameters()
            if parameter.is_floating_point()
        }

    @property
    def n_tokens(self) -> int:
        """Answer tokens that are kept."""
        return int(self._kept.sum())

    def __call__(self, parameters: Parameters) -> Tensor:
        """Return f as a scalar; n_tokens at θ itself."""
        return (self._evaluate(parameters)[self._kept] / self._initial[self._kept]).sum()

    def _evaluate(self, parameters: Parameters) -> Tensor:
        # Only plain matrix products can be differentiated twice: the fused attention kernels cannot.
        with KeepDouble(), sdpa_kernel(SDPBackend.MATH):
            log_probs: Tensor = functional_call(self._log_probs, dict(parameters), (self._ids, self._columns))
        return log_probs


class _AnswerLogProbs(nn.Module):
    """log p of chosen tokens of one text."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._head = LanguageHead(network)
        self.body, self.head = self._head.body, self._head.output

    def forward(self, ids: Tensor, columns: Tensor) -> Tensor:
        """Return log p(ids[column + 1] | ids[:column + 1]) for each column [nats], for ids of shape (L,)."""
        hidden = self.body(input_ids=ids.unsqueeze(0), use_cache=False).last_hidden_state[0]
        # In fp64 the textbook form is off by some 1e-15, a billionth of what is kept: the detour of the fp32
        # passes, which writes over the logits, is not needed.
        logits = self._head(hidden[columns])
        return logits.log_softmax(-1).gather(1, ids[columns + 1].unsqueeze(1)).squeeze(1)


def _derivatives(value: Tensor, leaves: Parameters, *, again: bool = False) -> dict[str, Tensor]:
    """Return the derivative by every leaf, `again` one that can be differentiated itself; the graph stays."""
    derivatives = torch.autograd.grad(
        value, list(leaves.values()), retain_graph=True, create_graph=again, materialize_grads=True
    )
    return dict(zip(leaves, derivatives, strict=True))


def _inner(a: Parameters, b: Parameters) -> Tensor:
    """Return the inner product of two vectors in the space of the parameters."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()
