"""Sign probes: the speed of the log-odds, the largest and noisiest part of MRD, by a backward pass without noise.

With m_t the log-odds of the token x_t, the speed is A = Σ_t w_t p_t(1−p_t) ‖∇m_t‖², w_t = 1/|P_t|. For independent
signs s_t = ±1,

    A = E ‖ ∇ Σ_t s_t √(w_t p_t(1−p_t)) m_t ‖²

because products of different tokens have mean 0. One backward pass gives one such estimate for every sample of
a batch. Its variance comes from products of different tokens' gradients alone, which are nearly orthogonal; that
of a noisy pair comes from all of them.
"""

from __future__ import annotations

import numpy as np

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import Probe, SampleGradients, log_odds_direction
from mrd_core.samples.config import Scope
from mrd_core.scoring.draws import SCOPES
from mrd_core.scoring.mrd import Baseline

# Backward passes that share one forward pass, in each scope.
SIGNS = 2
# Apart from whatever else is drawn from the seed of a run.
_STREAM = 0x5167


class SpeedProbes:
    """Draws sign probes for one model and one forget set.

    Args:
        gradients: Of the model.
        encoded: The forget set.
        baseline: Of the same samples.
        scope: Whose tokens are probed: the answer's, or in the full scope the prompt's as well, by themselves.
        seed: Of the signs.
    """

    def __init__(
        self, gradients: SampleGradients, encoded: Encoded, baseline: Baseline, scope: Scope, seed: int
    ) -> None:
        self._gradients = gradients
        self._encoded = encoded
        self._seed = seed
        doubt = baseline.doubt
        scale = np.sqrt(baseline.weight * doubt * (1 - doubt))
        answer = encoded.in_scope(Scope.ANSWER)
        self._scales = [scale * answer] if scope is Scope.ANSWER else [scale * answer, scale * ~answer]

    def unit(self, index: int) -> FloatArray:
        """Return `SIGNS` estimates of the speed of every sample, summed over its kept tokens.

        The same whatever was drawn before it, and by whom.

        Returns:
            Shape (SIGNS, N, scopes) in the order of `SCOPES`; NaN in the full scope where it is not probed.
        """
        generator = np.random.default_rng([self._seed, index, _STREAM])
        signs = generator.choice([-1.0, 1.0], size=(SIGNS, len(self._encoded.owner)))
        probes = [Probe(scale * of_probe, log_odds_direction) for scale in self._scales for of_probe in signs]
        squared = self._gradients.squared_norms(self._encoded, probes).reshape(len(self._scales), SIGNS, -1)
        estimates = np.full((SIGNS, len(self._encoded), len(SCOPES)), np.nan)
        estimates[:, :, SCOPES.index(Scope.ANSWER)] = squared[0]
        if len(squared) > 1:
            estimates[:, :, SCOPES.index(Scope.FULL)] = squared.sum(axis=0)
        return estimates
