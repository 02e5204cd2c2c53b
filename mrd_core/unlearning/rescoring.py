"""MRD on the current weights, with a few antithetic pairs: difficulty changes while a model unlearns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrd_core.model.encoding import IntArray
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.model.reader import evaluating
from mrd_core.scoring.draws import Draws, variants
from mrd_core.scoring.mrd import Estimator, measure_baseline
from mrd_core.unlearning.feed import Rescored
from mrd_core.unlearning.preparation import Prepared


def rescored(prepared: Prepared, samples: IntArray, column: str, sigma: float, pairs: int, seed: int) -> Rescored:
    """Measure MRD of some forget samples on the present weights.

    Args:
        prepared: The model and its samples.
        samples: Which samples.
        column: Which variant of the score, such as `mrd_answer_mean`.
        sigma: Standard deviation of the noise: that of the score run.
        pairs: Antithetic pairs, two forward evaluations each; the baseline is one more.
        seed: Of the noise.
    """
    chosen = prepared.forget.subset(samples)
    network = prepared.model.network
    with evaluating(network):
        scorer = Scorer(network)
        passes = Passes(replace(prepared.reader, network=scorer), chosen)
        baseline = measure_baseline(passes, prepared.model.dtype)
        estimator = Estimator(
            passes, PerturbedModel(scorer, Noise(seed, sigma), streamed=False), baseline, "antithetic"
        )
        values = np.concatenate([estimator.unit(pair).values for pair in range(pairs)])
    scores = variants(Draws(chosen.sample_ids, values, estimator.kept, "antithetic"))[column]
    evaluations = 2 * pairs + 1
    return Rescored(
        scores=dict(zip(chosen.sample_ids, scores.tolist(), strict=True)),
        evaluations=evaluations,
        tokens=evaluations * int(chosen.lengths.sum()),
    )
