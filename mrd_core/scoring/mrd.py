"""Memory Removal Difficulty: how little a sample's log-probabilities move when the weights are shaken.

    MRD(x; θ) = | (1/K) Σ_k Σ_t (P_t(θ) − P_t(θ + δ_k)) / P_t(θ) |,  δ_k ~ N(0, σ²I)

(Feng et al. 2025, Definition 3.1, Eq. 4.) Small means hard to unlearn. One forward evaluation of all samples
under one δ is the atom; an antithetic pair is two of them, with δ and −δ, which cancels the first-order term
whose noise would otherwise drown the signal at small σ. The expectation is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.hidden_states import HiddenStates
from mrd_core.model.likelihood import KeepDouble, Passes, Weights
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

    @property
    def doubt(self) -> FloatArray:
        """1 − p, shape (T,); exact where p → 1."""
        doubt: FloatArray = -np.expm1(self.log_probs)
        return doubt

    @property
    def weight(self) -> FloatArray:
        """1/|P_t|, shape (T,); 0 where the token is left out."""
        weight: FloatArray = np.divide(1, -self.log_probs, out=np.zeros_like(self.log_probs), where=self.kept)
        return weight

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


# The parts of MRD that a pair of evaluations shows besides the whole, in the order of `Unit.parts`.
PARTS = ("speed", "spread")
# Pairs that are looked at for the spread, which takes a pass of the head more; for the speed all are.
SPREAD_PAIRS = 8


@dataclass(frozen=True)
class Unit:
    """One independent unit of the estimator: a pair of evaluations, or one in plain mode.

    Attributes:
        values: The sums of `draws.SUMS` per evaluation, sample and scope, shape (2 or 1, N, scopes, sums).
        tokens: Mean over the unit's evaluations of the relative change, on the flat axis, shape (T,), fp32.
        parts: Of a pair, the sums of `PARTS` per sample and scope, shape (N, scopes, parts); NaN for a spread that
            was not looked at.
        token_parts: Of a pair whose spread was looked at, `PARTS` of each token, shape (parts, T), fp32.
    """

    values: FloatArray
    tokens: npt.NDArray[np.float32]
    parts: FloatArray | None = None
    token_parts: npt.NDArray[np.float32] | None = None


class Estimator:
    """Draws units of MRD for one model, one forget set and one noise.

    Args:
        passes: Over the forget set.
        model: The noise.
        baseline: Of the same samples.
        mode: Whether a unit is a pair.
        with_parts: Whether pairs are looked at for the parts of MRD.
        within: What a unit is drawn within, such as a compiled body.
        by_layers: Whether all passes of a unit go through the model together, a layer at a time.
    """

    def __init__(
        self,
        passes: Passes,
        model: PerturbedModel,
        baseline: Baseline,
        mode: Mode,
        *,
        with_parts: bool = False,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
        by_layers: bool = False,
    ) -> None:
        self._passes = passes
        self._within = within
        self._model = model
        self._baseline = baseline
        self._signs = (1, -1) if mode == "antithetic" else (1,)
        self._with_parts = with_parts
        self._by_layers = by_layers
        encoded = passes.encoded
        self._masks = [baseline.kept & encoded.in_scope(scope) for scope in SCOPES]

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """Tokens that enter the sums, per sample and scope, shape (N, scopes)."""
        return kept_tokens(self._baseline, self._passes.encoded)

    def unit(self, index: int) -> Unit:
        """Evaluate the forget set under δ_index (and −δ_index), from scratch."""
        with self._within():
            return self._drawn(index)

    def _drawn(self, index: int) -> Unit:
        if self._by_layers:
            return self._drawn_by_layers(index)
        weights = [partial(self._model.draw, index, sign) for sign in self._signs]
        if not self._with_parts:
            return self._unit(*map(self._evaluation, weights))
        if index < SPREAD_PAIRS:
            first, second, spread = self._passes.pair(weights[0], weights[1], competitors_spread)
        else:
            first, second = map(self._evaluation, weights)
            spread = np.full_like(first, np.nan)
        return self._with_parts_of(index, first, second, spread)

    def _drawn_by_layers(self, index: int) -> Unit:
        transforms = [self._model.transform(index, sign) for sign in self._signs]
        looks = self._with_parts and index < SPREAD_PAIRS
        log_probs, spread = self._passes.by_layers(transforms, competitors_spread if looks else None)
        if not self._with_parts:
            return self._unit(*log_probs)
        return self._with_parts_of(index, log_probs[0], log_probs[1], spread)

    def _with_parts_of(self, index: int, first: FloatArray, second: FloatArray, spread: FloatArray) -> Unit:
        parts = self._parts(first, second, spread)
        sums = [[self._sums(part, mask) for part in parts] for mask in self._masks]
        return replace(
            self._unit(first, second),
            parts=np.array(sums).transpose(2, 0, 1),
            token_parts=parts.astype(np.float32) if index < SPREAD_PAIRS else None,
        )

    def _evaluation(self, weights: Weights) -> FloatArray:
        with weights():
            return self._passes()

    def _unit(self, *log_probs: FloatArray) -> Unit:
        changes = [self._baseline.relative_change(of_evaluation) for of_evaluation in log_probs]
        values = np.empty((len(log_probs), len(self._passes.encoded), len(SCOPES), len(SUMS)))
        for k, (of_evaluation, relative) in enumerate(zip(log_probs, changes, strict=True)):
            terms = (self._baseline.log_probs - of_evaluation, relative, np.abs(relative))
            for (s, mask), (c, term) in product(enumerate(self._masks), enumerate(terms)):
                values[k, :, s, c] = self._sums(term, mask)
        return Unit(values, np.mean(changes, axis=0).astype(np.float32))

    def _sums(self, term: FloatArray, mask: BoolArray) -> FloatArray:
        return per_sample(np.where(mask, term, 0.0), self._passes.encoded)

    def _parts(self, first: FloatArray, second: FloatArray, spread: FloatArray) -> FloatArray:
        """Return what two opposite evaluations say of the speed and the spread of each token, shape (parts, T).

        With m the log-odds, d = (m₊ − m₋)/2 and D = (z₊ − z₋)/2 the half differences, p and P of the baseline: the
        speed is p(1−p) d²/(σ²|P|), the spread (1−p) Var_q(D)/(σ²|P|). MRD/σ² is half the sum of both and of the
        curvature, which is what is left.
        """
        half = (log_odds(first) - log_odds(second)) / 2
        doubt, weight = self._baseline.doubt, self._baseline.weight / self._model.sigma**2
        return np.stack([weight * (1 - doubt) * doubt * half**2, weight * doubt * spread])


def kept_tokens(baseline: Baseline, encoded: Encoded) -> npt.NDArray[np.int64]:
    """Return how many tokens of each sample are kept, in each scope of `draws.SCOPES`, shape (N, scopes)."""
    masks = [baseline.kept & encoded.in_scope(scope) for scope in SCOPES]
    counts = [per_sample(mask.astype(np.float64), encoded) for mask in masks]
    return np.stack(counts, axis=1).astype(np.int64)


def log_odds(log_probs: FloatArray) -> FloatArray:
    """Return log(p / (1 − p)) [nats] for log-probabilities of any shape; exact where p → 1."""
    # A token that is certain to the last digit has the odds of the smallest doubt that can be written down.
    doubt = np.log(np.maximum(-np.expm1(log_probs), np.finfo(np.float64).tiny))
    odds: FloatArray = log_probs - doubt
    return odds


def competitors_spread(first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
    """Return Var_q(D), D half the difference of two logits (M, V), q the softmax of their mean without the target.

    Args:
        first: Overwritten.
        second: Left as it is.
        targets: Shape (M,).

    Returns:
        Shape (M,).
    """
    difference = (second - first).div_(2)
    q = first.add_(second).scatter_(1, targets.unsqueeze(1), -torch.inf).div_(2).softmax(1)
    difference -= torch.linalg.vecdot(q, difference).unsqueeze(1)
    spread: Tensor = torch.linalg.vecdot(q, difference.square_())
    return spread


def per_sample(flat: FloatArray, encoded: Encoded) -> FloatArray:
    """Sum a flat array over each sample's positions: (T,) → (N,), in fp64.

    A sample of one token has no scored position and sums to 0.
    """
    return np.bincount(encoded.owner, weights=flat, minlength=len(encoded)).astype(np.float64)
