"""What the losses of the unlearning methods are made of, and their retain terms: pure functions of tensors.

A batch of B samples is right-padded to L positions. `log_probs`, shape (B, L), holds log p(x_t | x_<t; θ)
[nats] in fp32 or finer; `mask`, shape (B, L), is true at the scored positions, of which every sample has at
least one. Whatever stands at the other positions, NaN included, reaches neither loss nor gradient.

NLL_i = −Σ_{t∈S_i} log p_t is summed over the n_i scored positions of sample i. Every loss is a scalar and a
mean, over tokens or over samples. Gradient ascent on NLL is descent on its negative, so the losses that
forget fall where the likelihood falls.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mrd_core.unlearning.methods.method import Average, Granularity


def sample_nll(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return NLL_i = −Σ_{t∈S_i} log p_t [nats], shape (B,)."""
    return -log_probs.masked_fill(~mask, 0).sum(1)


def nll_loss(log_probs: Tensor, mask: Tensor, average: Average) -> Tensor:
    """Return the mean negative log-likelihood [nats per token].

    It is the retain term of all methods.

    Args:
        log_probs: Shape (B, L).
        mask: Shape (B, L).
        average: `tokens`: Σ_i NLL_i / Σ_i n_i, where long answers weigh more; `samples`: (1/B) Σ_i NLL_i / n_i.
    """
    return -mean_over(log_probs, mask, average)


@torch.no_grad()
def log_confidence(log_probs: Tensor, mask: Tensor, granularity: Granularity) -> Tensor:
    """Return log p of what a weight is computed from, detached; it broadcasts to (B, L).

    - `token`: p_t, shape (B, L), with p = 1 at positions that are not scored;
    - `instance`: p̄_i = exp(−NLL_i/n_i), the geometric mean of the sample's tokens, shape (B, 1); the
      probability of the whole answer, exp(−NLL_i), would underflow;
    - `group`: the mean of p̄_i over the samples that are given, shape (1, 1): with gradient accumulation a
      group is what goes through the model at once.
    """
    if granularity == "token":
        return log_probs.masked_fill(~mask, 0)
    log_p = (-sample_nll(log_probs, mask) / mask.sum(1)).unsqueeze(1)
    if granularity == "instance":
        return log_p
    return log_p.logsumexp(0, keepdim=True) - math.log(len(log_p))


def saturation(log_p: Tensor, beta: float) -> Tensor:
    """Return p^β, of the shape of `log_p`; computed as exp(β log p), since p itself may underflow."""
    return (beta * log_p).exp()


def importance(log_p: Tensor, beta: float) -> Tensor:
    """Return (1 − p)^β, of the shape of `log_p`, exact where p → 1."""
    # A mean of ones may round to just above one, whose root would be NaN.
    return (-log_p.expm1()).clamp(min=0).pow(beta)


def weighted_ascent(log_probs: Tensor, mask: Tensor, weights: Tensor, average: Average) -> Tensor:
    """Return −mean_t w_t NLL_t; the mean is over the scored positions and not over the weights.

    Args:
        log_probs: Shape (B, L).
        mask: Shape (B, L).
        weights: Broadcasts to (B, L).
        average: As in `nll_loss`.
    """
    return mean_over(weights * log_probs, mask, average)


def bounded_ascent(excess: Tensor, beta: float) -> Tensor:
    """Return −(2/β) · mean_i log σ(β x_i), which is 0 from far above x = 0 and −2x from far below.

    Args:
        excess: How much less likely each sample is than it is compared with, x_i [nats], shape (B,).
        beta: Inverse temperature β > 0.
    """
    return -(2 / beta) * functional.logsigmoid(beta * excess).mean()


def kl_loss(log_p_reference: Tensor, log_p: Tensor, mask: Tensor) -> Tensor:
    """Return the mean KL divergence from the reference to the model [nats per position].

    KL(p_ref ‖ p_θ) = Σ_v p_ref(v) (log p_ref(v) − log p_θ(v)): the retain term of Maini et al. 2024 (TOFU).
    The direction asks the model to keep all that the reference holds likely.

    Args:
        log_p_reference: Finite log-softmax of the reference model, shape (B, L, V) or (M, V).
        log_p: The same of the model that learns.
        mask: Positions to keep to, shape (B, L) or (M,).
    """
    return functional.kl_div(log_p[mask], log_p_reference[mask], reduction="batchmean", log_target=True)


def at_positions(values: Tensor, mask: Tensor) -> Tensor:
    """Return values of the scored positions, shape (M,), at their places in a batch, shape (B, L); 0 elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def mean_over(values: Tensor, mask: Tensor, average: Average) -> Tensor:
    """Return the mean of what stands at the scored positions, over tokens or over samples, see `nll_loss`."""
    values = values.masked_fill(~mask, 0)
    if average == "tokens":
        return values.sum() / mask.sum()
    return (values.sum(1) / mask.sum(1)).mean()
