"""Entanglement of the samples of a score run with a retain set, measured when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from mrd_core.model import loading as models
from mrd_core.model.encoding import answerable
from mrd_core.model.products import gradient_products
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.scoring.columns import SAMPLE_ID
from mrd_core.scoring.entanglement import entanglement, nearest
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.plan import scored_model
from mrd_core.unlearning.request import without


def entangled(
    files: ScoreFiles,
    retain_set: ForgetSet,
    count: int,
    announce: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> pd.DataFrame:
    """Return how the samples of a score run are entangled with `count` retain samples, evenly spaced.

    Args:
        files: Of the score run, whose model is loaded.
        retain_set: What is to be kept; rows that are in the forget set too are left out.
        count: Retain samples; all where there are fewer.
        announce: Told what was left out, and what is left to autograd.
        progress: Told pairs that are done, and how many there are.

    Returns:
        A row per sample: sample_id, nearest (ids of retain samples), and a column for each of
        `ENTANGLEMENT_MEASURES`, NaN where the sample has no answer token.

    Raises:
        UserError: Bad model, it is not the one that was scored, or no retain sample is left.
    """
    models.set_threads()
    model, encoder = scored_model(files)
    forget_set = ForgetSet.load(files.samples)
    warnings: list[str] = []
    kept = answerable(encoder.encode(without(retain_set, forget_set)), "retain", warnings)
    for warning in warnings:
        announce(warning)
    kept = kept.subset(evenly_spaced(len(kept), count))
    pairs = gradient_products(model.reader(), encoder.encode(forget_set), kept, announce, progress)
    columns = entanglement(pairs.inner, pairs.cosines, pairs.squared)
    return pd.DataFrame(
        {
            SAMPLE_ID: list(forget_set.frame[SAMPLE_ID]),
            "nearest": nearest(pairs.cosines, kept.sample_ids),
            **columns,
        }
    )
