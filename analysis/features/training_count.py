"""How often training showed a sample, by the forget set's own account."""

from __future__ import annotations

import numpy as np

from analysis.features.feature import Computed, Feature, Material


def _training_count(material: Material) -> Computed | None:
    counts = material.samples["training_count"]
    return None if counts.isna().all() else Computed(counts.to_numpy(np.float64, na_value=np.nan))


FEATURES = (
    Feature(
        name="training_count",
        title="Training count",
        unit="occurrences",
        bins="counts",
        direction="more frequent",
        help="How often training showed the sample, as the forget set itself says.",
        group="occurrence_frequency",
        over=_training_count,
    ),
)
