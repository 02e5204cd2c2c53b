"""Sign probes: parts of MRD by backward passes without noise.

With m_t the log-odds of the token x_t, the speed is A = Σ_t w_t p_t(1−p_t) ‖∇m_t‖², w_t = 1/|P_t|. For independent
signs s_t = ±1,

    A = E ‖ ∇ Σ_t s_t √(w_t p_t(1−p_t)) m_t ‖²

because products of different tokens have mean 0. One backward pass gives one such estimate for every sample of
a batch. Its variance comes from products of different tokens' gradients alone, which are nearly orthogonal; that
of a noisy pair comes from all of them.

The spread B = Σ_t w_t (1−p_t) Σ_v q_v ‖∇z_v − ∇z̄‖², z̄ = Σ_v q_v z_v, takes a sign for each token and each v other
than x_t: √(w_t (1−p_t)) (√q∘ε − q (√q·ε)) at the logits. That is how a preview has it; elsewhere pairs show it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import Probe, SampleGradients, competitors_direction, log_odds_direction
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import SIGNS
from mrd_core.scoring.draws import SCOPES
from mrd_core.scoring.mrd import Baseline

# Apart from whatever else is drawn from the seed of a run, and from each other.
_STREAM, _SPREAD_STREAM = 0x5167, 0x5B12


@dataclass(frozen=True)
class SpreadDirection:
    """√q∘ε − q (√q·ε) at the logits, the signs ε of a token a function of the key and its place alone.

    Attributes:
        key: Of the signs.
    """

    key: tuple[int, ...]

    def __call__(self, logits: Tensor, targets: Tensor, places: Tensor) -> Tensor:
        """Return it, shape (…, V)."""
        words = logits.shape[-1]
        signs = np.stack([self._signs(place, words) for place in places.flatten().tolist()])
        on_device = torch.from_numpy(signs).to(logits.device).reshape(logits.shape)
        return competitors_direction(logits, targets, on_device.to(logits.dtype))

    def _signs(self, place: int, words: int) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
        generator = np.random.default_rng([*self.key, place])
        bits = np.unpackbits(np.frombuffer(generator.bytes(-(-words // 8)), np.uint8))[:words]
        return (2 * bits.astype(np.int8) - 1).astype(np.int8)


class SignProbes:
    """Draws sign probes for one model and one forget set.

    Args:
        gradients: Of the model.
        encoded: The forget set.
        baseline: Of the same samples.
        scope: Whose tokens are probed: the answer's, or in the full scope the prompt's as well, by themselves.
        seed: Of the signs.
        with_spread: Whether the spread is probed beside the speed.
    """

    def __init__(
        self,
        gradients: SampleGradients,
        encoded: Encoded,
        baseline: Baseline,
        scope: Scope,
        seed: int,
        *,
        with_spread: bool = False,
    ) -> None:
        self._gradients = gradients
        self._encoded = encoded
        self._seed = seed
        self._with_spread = with_spread
        doubt, answer = baseline.doubt, encoded.in_scope(Scope.ANSWER)
        masks = [answer] if scope is Scope.ANSWER else [answer, ~answer]
        self._of_speed = [np.sqrt(baseline.weight * doubt * (1 - doubt)) * mask for mask in masks]
        self._of_spread = [np.sqrt(baseline.weight * doubt) * mask for mask in masks]

    def unit(self, index: int) -> dict[str, FloatArray]:
        """Return `SIGNS` estimates of each part of every sample, summed over its kept tokens.

        The same whatever was drawn before it, and by whom.

        Returns:
            By the name of the part, "speed" and, where it is probed, "spread": shape (SIGNS, N, scopes) in the
            order of `SCOPES`; NaN in the full scope where it is not probed.
        """
        generator = np.random.default_rng([self._seed, index, _STREAM])
        signs = generator.choice([-1.0, 1.0], size=(SIGNS, len(self._encoded.owner)))
        probes = {
            "speed": [
                Probe(scale * of_probe, log_odds_direction) for scale in self._of_speed for of_probe in signs
            ]
        }
        if self._with_spread:
            directions = [SpreadDirection((self._seed, index, _SPREAD_STREAM, sign)) for sign in range(SIGNS)]
            probes["spread"] = [Probe(scale, direction) for scale in self._of_spread for direction in directions]
        squared = self._gradients.squared_norms(
            self._encoded, [probe for part in probes.values() for probe in part]
        )
        by_part = squared.reshape(len(probes), len(self._of_speed), SIGNS, -1)
        return {part: self._estimates(values) for part, values in zip(probes, by_part, strict=True)}

    def _estimates(self, squared: FloatArray) -> FloatArray:
        """Return what answers, and prompts where they are probed, give for the scopes."""
        estimates = np.full((SIGNS, len(self._encoded), len(SCOPES)), np.nan)
        estimates[:, :, SCOPES.index(Scope.ANSWER)] = squared[0]
        if len(squared) > 1:
            estimates[:, :, SCOPES.index(Scope.FULL)] = squared.sum(axis=0)
        return estimates
