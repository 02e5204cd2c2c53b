"""The forget term of each method: its loss function, called with the method's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from mrd_core.unlearning.losses import (
    ga_loss,
    nll_loss,
    npo_loss,
    sample_nll,
    satimp_loss,
    simimp_loss,
    simnpo_loss,
    wga_loss,
)
from mrd_core.unlearning.methods import Parameters


@dataclass(frozen=True)
class ForgetBatch:
    """What a forget loss sees of B samples, right-padded to L positions.

    Attributes:
        log_probs: log p(x_t | x_<t; θ) [nats] of the texts that the method forgets with, shape (B, L).
        mask: True at the scored positions, shape (B, L).
        reference_nll: Summed NLL of each sample under the starting model [nats], shape (B,), where it is needed.
    """

    log_probs: Tensor
    mask: Tensor
    reference_nll: Tensor | None = None


def _ga(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    return ga_loss(batch.log_probs, batch.mask, **parameters)


def _po(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    return nll_loss(batch.log_probs, batch.mask, **parameters)


def _npo(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    if batch.reference_nll is None:
        raise ValueError("NPO needs the NLL of the samples under the reference model")
    return npo_loss(sample_nll(batch.log_probs, batch.mask), batch.reference_nll, **parameters)


def _wga(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    return wga_loss(batch.log_probs, batch.mask, **parameters)


def _simimp(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    return simimp_loss(batch.log_probs, batch.mask, **parameters)


def _satimp(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    return satimp_loss(batch.log_probs, batch.mask, **parameters)


def _simnpo(batch: ForgetBatch, parameters: Parameters) -> Tensor:
    return simnpo_loss(sample_nll(batch.log_probs, batch.mask), batch.mask.sum(1), **parameters)


FORGET_TERMS: Mapping[str, Callable[[ForgetBatch, Parameters], Tensor]] = MappingProxyType(
    {
        "ga": _ga,
        "graddiff": _ga,
        "po": _po,
        "npo": _npo,
        "wga": _wga,
        "simimp": _simimp,
        "satimp": _satimp,
        "simnpo": _simnpo,
    }
)
"""For each method of `methods.METHODS` its forget loss of a batch, a scalar."""
