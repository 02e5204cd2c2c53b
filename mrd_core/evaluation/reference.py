"""What a model that never saw the forget set makes of it: the other side of forget quality.

Loads torch only to ask a model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation.aggregating import REFERENCE_RATIO
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.settings.places import expanded

if TYPE_CHECKING:
    from mrd_core.evaluation.subject import Subject


def evaluation_of(reference: str) -> Path | None:
    """Return the directory of the evaluation that the reference is; None where it is a model."""
    directory = expanded(reference)
    return directory if EvaluationFiles(directory).catalogue.exists() else None


def evaluated_ratios(directory: Path, forget: EvaluationSet) -> pd.DataFrame:
    """Return the truth ratio of each forget sample in an evaluation, which may have asked others besides.

    Raises:
        UserError: It is not finished, or lacks the truth ratio of a sample: what is left of the set would be
            tested for the whole of it.
    """
    values = pd.read_parquet(EvaluationFiles.finished(directory).values)
    of_forget = (values["split"] == "forget") & (values["metric"] == "truth_ratio_raw")
    table = values[of_forget & values["sample_id"].isin(forget.frame["sample_id"])]
    if len(table) < len(forget.frame):
        raise UserError(
            f"The evaluation in {directory}",
            f"has the truth ratio of {len(table)} of the {len(forget.frame)} forget samples, so it cannot be "
            "the reference.",
            "Evaluate the reference model on the same forget set with perturbed answers, or name the model.",
        )
    return table.assign(metric=REFERENCE_RATIO)[["sample_id", "metric", "value"]]


def reference_values(config: EvaluateConfig, forget: EvaluationSet, subject: Subject) -> pd.DataFrame:
    """Return the truth ratio of each forget sample under the reference (sample_id, metric, value).

    The reference is the directory of an evaluation, or a model, which is loaded beside the one that is evaluated.

    Raises:
        UserError: There is no such model, or the evaluation does not cover the set, see `evaluated_ratios`.
    """
    from mrd_core.evaluation.answering import truth_ratios
    from mrd_core.model import loading as models

    assert config.reference is not None
    if directory := evaluation_of(config.reference):
        return evaluated_ratios(directory, forget)
    changes = {"source": config.reference, "adapter": None, "device": str(subject.model.device)}
    model = models.load(config.model.model_copy(update=changes))
    ratios = truth_ratios(replace(subject, model=model, encoder=model.encoder(config.model)), forget)
    return pd.DataFrame({"sample_id": forget.frame["sample_id"], "metric": REFERENCE_RATIO, "value": ratios})
