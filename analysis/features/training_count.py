"""How often training showed a sample, by the forget set's own account."""

from __future__ import annotations

import numpy as np

from analysis.features.feature import Computed, Material, frequency


def training_count(material: Material) -> Computed | None:
    """Return the counts of the forget set, NaN where a sample has none."""
    counts = material.samples["training_count"]
    return None if counts.isna().all() else Computed(counts.to_numpy(np.float64, na_value=np.nan))


FEATURES = (
    frequency(
        "training_count",
        "Training count",
        training_count,
        "How often training showed the sample, as the forget set itself says.",
    ),
)
