"""Memory Removal Difficulty: how little a sample's log-probabilities move when the weights are shaken.

    MRD(x; θ) = | (1/K) Σ_k Σ_t (P_t(θ) − P_t(θ + δ_k)) / P_t(θ) |,  δ_k ~ N(0, σ²I)

(Feng et al. 2025, Definition 3.1, Eq. 4.) Small means hard to unlearn. One forward evaluation of all samples
under one δ is the atom; an antithetic pair is two of them, with δ and −δ, which cancels the first-order term
whose noise would otherwise drown the signal at small σ. The expectation is the same.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.hidden_states import HiddenStates
from mrd_core.model.likelihood import KeepDouble, Passes
from mrd_core.model.perturbation import PerturbedModel, streamed
from mrd_core.scoring.draws import SCOPES, SUMS, Mode

# |P_t| below this [nats] is left out and counted: MRD divides by P_t, and a token that is certain to a
# millionth says nothing about forgetting but everything about rounding.
LOG_PROB_FLOOR = 1e-6

# The baseline is one step finer than the draws: its error is shared by every draw and never averages out.
FINER = {torch.bfloat16: torch.float32, torch.float32: torch.float64, torch.float64: torch.float64}


@dataclass(frozen=True)
class Baseline:
    """P_t(θ), the unperturbed log-probabilities.

    Attributes:
        log_probs: fp64 values [nats] on the flat axis, shape (T,).
    """

    log_probs: FloatArray

    @property
    def kept(self) -> BoolArray:
        """Where |P_t| is at or above the floor, shape (T,)."""
        return np.abs(self.log_probs) >= LOG_PROB_FLOOR

    def relative_change(self, log_probs: FloatArray) -> FloatArray:
        """Return (P_t(θ) − P_t(θ + δ)) / P_t(θ), shape (T,); 0 where the token is left out."""
        change: FloatArray = np.divide(
            self.log_probs - log_probs, self.log_probs, out=np.zeros_like(self.log_probs), where=self.kept
        )
        return change


def measure_baseline(passes: Passes, dtype: torch.dtype, hidden_states: HiddenStates | None = None) -> Baseline:
    """Run one unperturbed pass, one precision finer than `dtype`, a layer at a time.

    Args:
        passes: The passes of the draws.
        dtype: Precision of the draws.
        hidden_states: Takes the hidden states of the pass along.

    Streaming the finer weights keeps the memory at one extra layer instead of two extra copies, and batches of
    half the size keep the activations at what they are in the draws.
    """
    finer = FINER[dtype]
    with ExitStack() as stack:
        stack.enter_context(streamed(passes.scorer, lambda _name, weight: weight.to(finer)))
        if finer is torch.float64:
            stack.enter_context(KeepDouble())
        narrower = passes.narrower()
        if hidden_states:
            stack.enter_context(hidden_states.of(narrower))
        return Baseline(narrower())


@dataclass(frozen=True)
class Unit:
    """One independent unit of the estimator: a pair of evaluations, or one in plain mode.

    Attributes:
        values: The sums of `draws.SUMS` per evaluation, sample and scope, shape (2 or 1, N, scopes, sums).
        tokens: Mean over the unit's evaluations of the relative change, on the flat axis, shape (T,), fp32.
    """

    values: FloatArray
    tokens: npt.NDArray[np.float32]


class Estimator:
    """Draws units of MRD for one model, one forget set and one noise."""

    def __init__(self, passes: Passes, model: PerturbedModel, baseline: Baseline, mode: Mode) -> None:
        self._passes = passes
        self._model = model
        self._baseline = baseline
        self._signs = (1, -1) if mode == "antithetic" else (1,)
        encoded = passes.encoded
        self._masks = [baseline.kept & encoded.in_scope(scope) for scope in SCOPES]

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """Tokens that enter the sums, per sample and scope, shape (N, scopes)."""
        counts = [per_sample(mask.astype(np.float64), self._passes.encoded) for mask in self._masks]
        return np.stack(counts, axis=1).astype(np.int64)

    def unit(self, index: int) -> Unit:
        """Evaluate the forget set under δ_index (and −δ_index), from scratch."""
        encoded = self._passes.encoded
        values, tokens = [], np.zeros(len(self._baseline.log_probs))
        for sign in self._signs:
            with self._model.draw(index, sign):
                log_probs = self._passes()
            relative = self._baseline.relative_change(log_probs)
            sums = np.empty((len(encoded), len(SCOPES), len(SUMS)))
            for s, mask in enumerate(self._masks):
                for c, terms in enumerate((self._baseline.log_probs - log_probs, relative, np.abs(relative))):
                    sums[:, s, c] = per_sample(np.where(mask, terms, 0.0), encoded)
            values.append(sums)
            tokens += relative / len(self._signs)
        return Unit(np.stack(values), tokens.astype(np.float32))


def per_sample(flat: FloatArray, encoded: Encoded) -> FloatArray:
    """Sum a flat array over each sample's positions: (T,) → (N,), in fp64.

    A sample of one token has no scored position and sums to 0.
    """
    return np.bincount(encoded.owner, weights=flat, minlength=len(encoded)).astype(np.float64)
