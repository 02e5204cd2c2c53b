"""What unlearning left of the answers on the retain set, as evaluations before and after it found them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.damage import LEAST_KEPT, Rest, in_words, rest
from mrd_core.unlearning.records import UnlearningSummary

ROUGE, RETAIN = "rouge", "retain"


@dataclass(frozen=True)
class KeptAnswers:
    """ROUGE-L of what a model answers to the retain set, before unlearning and after.

    Attributes:
        before: Mean over the samples.
        after: Mean over the same samples.
        error: Standard error of the mean difference, sample by sample.
        n: Samples.
    """

    before: float
    after: float
    error: float
    n: int

    @classmethod
    def between(cls, before: pd.Series[float], after: pd.Series[float]) -> KeptAnswers | None:
        """Return what is left of values by sample; None where fewer than two samples have both."""
        both = pd.concat({"before": before, "after": after}, axis=1, join="inner").dropna()
        if len(both) < 2:
            return None
        error = float((both["after"] - both["before"]).std(ddof=1)) / math.sqrt(len(both))
        return cls(float(both["before"].mean()), float(both["after"].mean()), error, len(both))

    @property
    def are_lost(self) -> bool:
        """Whether they fell by more than a tenth, and by more than the noise of the samples (95 %, by t)."""
        noise = float(stats.t.ppf(0.975, self.n - 1)) * self.error
        return self.after < LEAST_KEPT * self.before and self.after + noise < self.before

    @property
    def sentence(self) -> str:
        """The figures."""
        return f"Its answers to {self.n} retain samples went from ROUGE-L {self.before:.2f} to {self.after:.2f}."


def rest_with_answers(summary: UnlearningSummary, kept: KeptAnswers | None) -> tuple[Rest, str]:
    """Return what became of the retain set, with the sentence that says so.

    Args:
        summary: Of the unlearning run: tokens, each after the true ones before it.
        kept: The answers that the model writes; None where no evaluation knows.
    """
    left = rest(summary)
    if kept is None:
        return left, in_words(summary)
    if left is Rest.DAMAGED or not kept.are_lost:
        return left, f"{in_words(summary)} {kept.sentence}"
    accuracy = f" MA there is still {summary.retain_accuracy:.1%}." if summary.retain_accuracy else ""
    return Rest.DAMAGED, f"The model is damaged on what was to be kept. {kept.sentence}{accuracy}"


def kept_answers(unlearned: Path, evaluations: Iterable[Path]) -> KeptAnswers | None:
    """Return what is left of the answers; None unless the model was evaluated as the one before it was.

    Args:
        unlearned: The unlearning run.
        evaluations: Finished evaluations, of several the first counts.
    """
    began = read_config(unlearned, UnlearnConfig).model
    configs = {directory: read_config(directory, EvaluateConfig) for directory in evaluations}
    after = {place: config for place, config in configs.items() if config.unlearn_run == unlearned}
    before = {
        place: config
        for place, config in configs.items()
        if config.unlearn_run is None
        and (config.model.source, config.model.adapter) == (began.source, began.adapter)
    }
    for (later, config), (earlier, other) in product(after.items(), before.items()):
        if _asked(config) == _asked(other) and (kept := KeptAnswers.between(_rouge(earlier), _rouge(later))):
            return kept
    return None


def _asked(config: EvaluateConfig) -> dict[str, Any]:
    """Return what an evaluation asks, whichever model it asks."""
    return config.model_dump(
        exclude={
            *("model", "unlearn_run", "score_run", "reference", "fade_texts", "fade_tokens"),
            *("embedding_model", "toxicity_model", "batch_tokens", "processes"),
        }
    )


def _rouge(directory: Path) -> pd.Series[float]:
    """Return ROUGE-L of the answers to the retain sets, by set and sample."""
    files = EvaluationFiles(directory)
    names = [each["name"] for each in read_json(files.catalogue)["sets"] if each["role"] == RETAIN]
    values = pd.read_parquet(files.values, filters=[("metric", "==", ROUGE), ("split", "in", names)])
    return values.set_index(["split", "sample_id"])["value"].dropna()
