"""What is minimised: the losses of the unlearning methods, each one pure function of tensors.

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

from mrd_core.unlearning.methods import Average, Granularity


def sample_nll(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return NLL_i = −Σ_{t∈S_i} log p_t [nats], shape (B,)."""
    return -log_probs.masked_fill(~mask, 0).sum(1)


def nll_loss(log_probs: Tensor, mask: Tensor, average: Average) -> Tensor:
    """Return the mean negative log-likelihood [nats per token].

    It is the retain term of all methods, and the forget term of preference optimisation (Maini et al. 2024),
    where the answers are refusals.

    Args:
        log_probs: Shape (B, L).
        mask: Shape (B, L).
        average: `tokens`: Σ_i NLL_i / Σ_i n_i, where long answers weigh more; `samples`: (1/B) Σ_i NLL_i / n_i.
    """
    return -_mean(log_probs, mask, average)


def ga_loss(log_probs: Tensor, mask: Tensor, average: Average) -> Tensor:
    """Return −mean NLL: gradient ascent (Jang et al. 2023), and the forget term of GradDiff (Liu et al. 2022).

    It has no lower bound. Arguments as in `nll_loss`.
    """
    return -nll_loss(log_probs, mask, average)


def npo_loss(nll: Tensor, nll_reference: Tensor, beta: float) -> Tensor:
    """Return the loss of negative preference optimisation (Zhang et al. 2024).

    −(2/β) · mean_i log σ(β (NLL_i − NLL_ref,i)), with NLLs summed over the answer. Its gradient with respect
    to NLL_i is −(2/B) σ(−β (NLL_i − NLL_ref,i)): that of gradient ascent on mean_i NLL_i as long as the model
    is the reference, or β → 0, and vanishing as NLL_i grows.

    Args:
        nll: Summed NLL of each sample [nats], shape (B,).
        nll_reference: The same under the frozen starting model, shape (B,).
        beta: Inverse temperature β > 0 [1/nat].
    """
    return _bounded_ascent(nll - nll_reference, beta)


def simnpo_loss(nll: Tensor, n: Tensor, beta: float, gamma: float) -> Tensor:
    """Return the loss of SimNPO: NPO with the length in the place of the reference (Fan et al. 2024).

    −(2/β) · mean_i log σ(β (NLL_i/n_i − γ)). The paper writes its margin outside of the bracket,
    log σ(β NLL_i/n_i − γ_paper); its implementations have it inside, as here, so γ_paper = β γ. At γ = 0,
    the default, both agree.

    Args:
        nll: Summed NLL of each sample [nats], shape (B,).
        n: Scored tokens of each sample, shape (B,).
        beta: Inverse temperature β > 0 [tokens/nat].
        gamma: NLL at which the push has fallen to half of its full strength [nats per token].
    """
    return _bounded_ascent(nll / n - gamma, beta)


def wga_loss(
    log_probs: Tensor,
    mask: Tensor,
    beta: float,
    granularity: Granularity,
    average: Average,
) -> Tensor:
    """Return weighted gradient ascent, also SimSat: −mean_t w NLL_t with w = p^β, a constant to the gradient.

    The weight fades as the probability falls, so what is forgotten is left alone (Wang et al. 2025, WGA;
    Yang et al. 2025, saturation).

    Args:
        log_probs: Shape (B, L).
        mask: Shape (B, L).
        beta: Exponent β ≥ 0; 0 is gradient ascent.
        granularity: Whose probability p is, see `log_confidence`.
        average: As in `nll_loss`.
    """
    log_p = log_confidence(log_probs, mask, granularity)
    return weighted_ga_loss(log_probs, mask, saturation(log_p, beta), average)


def simimp_loss(
    log_probs: Tensor,
    mask: Tensor,
    beta: float,
    granularity: Granularity,
    average: Average,
) -> Tensor:
    """Return −mean_t w NLL_t with w = (1 − p)^β, a constant to the gradient (Yang et al. 2025, importance).

    Tokens that the model is sure of anyway, such as function words, weigh little. Arguments as in `wga_loss`.
    """
    log_p = log_confidence(log_probs, mask, granularity)
    return weighted_ga_loss(log_probs, mask, importance(log_p, beta), average)


def satimp_loss(
    log_probs: Tensor,
    mask: Tensor,
    beta1: float,
    beta2: float,
    granularity: Granularity,
    average: Average,
) -> Tensor:
    """Return −mean_t w NLL_t with w = p^β1 (1 − p)^β2, a constant to the gradient (Yang et al. 2025, SatImp).

    Args:
        log_probs: Shape (B, L).
        mask: Shape (B, L).
        beta1: Exponent β1 ≥ 0 of the saturation p.
        beta2: Exponent β2 ≥ 0 of the importance 1 − p.
        granularity: Whose probability p is, see `log_confidence`.
        average: As in `nll_loss`.
    """
    log_p = log_confidence(log_probs, mask, granularity)
    return weighted_ga_loss(log_probs, mask, saturation(log_p, beta1) * importance(log_p, beta2), average)


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


def weighted_ga_loss(log_probs: Tensor, mask: Tensor, weights: Tensor, average: Average) -> Tensor:
    """Return −mean_t w_t NLL_t; the mean is over the scored positions and not over the weights.

    Args:
        log_probs: Shape (B, L).
        mask: Shape (B, L).
        weights: Broadcasts to (B, L).
        average: As in `nll_loss`.
    """
    return _mean(weights * log_probs, mask, average)


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


def _mean(values: Tensor, mask: Tensor, average: Average) -> Tensor:
    values = values.masked_fill(~mask, 0)
    if average == "tokens":
        return values.sum() / mask.sum()
    return (values.sum(1) / mask.sum(1)).mean()


def _bounded_ascent(excess: Tensor, beta: float) -> Tensor:
    """Return −(2/β) · mean_i log σ(β x_i), which is 0 from far above x = 0 and −2x from far below."""
    return -(2 / beta) * functional.logsigmoid(beta * excess).mean()
