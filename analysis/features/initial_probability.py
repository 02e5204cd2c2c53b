"""How probable the sample is to the model before any unlearning."""

from __future__ import annotations

import numpy as np

from analysis.features.feature import Computed, Feature, Material
from mrd_core.scoring.columns import scope_column


def initial_probability(material: Material) -> Computed:
    """Return exp of the mean log-probability [nats] of a token: the geometric mean of the token probabilities."""
    mean_log_probs = material.scores[scope_column("mean_log_prob", material.settings.text)]
    return Computed(np.exp(mean_log_probs.to_numpy(np.float64, na_value=np.nan)))


FEATURES = (
    Feature(
        name="initial_probability",
        title="Initial probability",
        unit="",
        bins="quantiles",
        direction="more probable",
        help="Probability that the model gives a token of the text, as the geometric mean over its tokens.",
        group="initial_probability",
        over=initial_probability,
    ),
)
