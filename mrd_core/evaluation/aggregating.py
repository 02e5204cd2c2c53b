"""From values per sample to values per set: means, perplexity, areas under ROC curves, TOFU's two summaries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from mrd_core.arrays import FloatArray
from mrd_core.evaluation.aggregates import UTILITY_PARTS, mean_defined, model_utility, perplexity
from mrd_core.evaluation.interchange import Result
from mrd_core.evaluation.metrics import METRICS, Split
from mrd_core.evaluation.privacy import forgotten_auc
from mrd_core.evaluation.sets import Sets
from mrd_core.evaluation.truth import forget_quality
from mrd_core.runs.files import json_value

FORGET_QUALITY = "forget_quality"
# Samples on the smaller side of a comparison of two sets, below which a real difference may well go unseen.
FEW = 30
ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
# Of a sample under the retrained reference: r, NLL, and the tokens that the latter is the mean of.
REFERENCE_RATIO, REFERENCE_NLL, REFERENCE_COUNT = (
    "truth_ratio_reference",
    "nll_reference",
    "answer_tokens_reference",
)
MEMBERSHIP = "token_membership"
# What is 1 less a mean of the forget set.
_COMPLEMENTS = {"rouge": "rr", "accuracy": "ua", "accuracy_embedding": "ua_embedding"}
# Of single samples, and no metric by their mean.
NOT_AVERAGED = (
    *("answer_tokens", "truth_ratio_raw", "rouge_shuffled"),
    *(REFERENCE_RATIO, REFERENCE_NLL, REFERENCE_COUNT, *ATTACKS),
)


class Aggregate(NamedTuple):
    """A metric of a set.

    Attributes:
        split: Name of the set.
        metric: Its name in `METRICS`.
        value: NaN: undefined.
        n: Samples that it rests on, of the smaller set where there are two.
        undefined: Samples on which it is not defined.
    """

    split: str
    metric: str
    value: float
    n: int
    undefined: int

    @property
    def as_json(self) -> dict[str, object]:
        """Return it with null for NaN."""
        return self._asdict() | {"value": json_value(self.value)}


def aggregates(values: pd.DataFrame, suite: Sets) -> list[Aggregate]:
    """Return every metric of every set.

    Args:
        values: Columns split, sample_id, metric, value.
        suite: The sets, for their roles.
    """
    parts = [*_averages(values), *_attacks(values, suite), *_forget_quality(values)]
    utility = {(part.split, part.metric): part for part in parts if (part.split, part.metric) in UTILITY_PARTS}
    if len(utility) == len(UTILITY_PARTS):
        value = model_utility({key: part.value for key, part in utility.items()})
        parts.append(Aggregate("retain", "model_utility", value, min(part.n for part in utility.values()), 0))
    return parts


def membership_values(values: pd.DataFrame) -> pd.DataFrame:
    """Return token membership of the forget samples that have an NLL under the reference, in rows as `values`.

    The mean over tokens of log p_θ/p_ref is the NLL of the reference less that of the model; NaN where the two
    read an answer as different numbers of tokens.
    """
    names = {"nll", "answer_tokens", REFERENCE_NLL, REFERENCE_COUNT}
    forget = values[(values["split"] == "forget") & values["metric"].isin(names)]
    wide = forget.pivot(index="sample_id", columns="metric", values="value")
    if REFERENCE_NLL not in wide:
        return values.iloc[:0]
    ratio = wide[REFERENCE_NLL] - wide["nll"]
    if REFERENCE_COUNT in wide:
        ratio = ratio.where(wide[REFERENCE_COUNT] == wide["answer_tokens"])
    rows = {"split": "forget", "sample_id": ratio.index, "metric": MEMBERSHIP, "value": ratio.to_numpy()}
    return pd.DataFrame(rows)[list(values)]


def without_power(measured: Sequence[Aggregate]) -> list[str]:
    """Return, in sentences, which comparisons of two sets could hardly have found a difference."""
    rested: dict[tuple[bool, int], list[str]] = {}
    for aggregate in measured:
        if aggregate.metric.startswith((*ATTACKS, FORGET_QUALITY)) and aggregate.n < FEW:
            rested.setdefault((math.isnan(aggregate.value), aggregate.n), []).append(aggregate.metric)
    few = f"few (below {FEW}): that no difference shows does not mean that there is none."
    return [
        f"{', '.join(metrics)}: {n} samples in the smaller set are "
        f"{'too few to tell anything, so there is no value.' if undefined else few}"
        for (undefined, n), metrics in rested.items()
    ]


def stand_ins_for_unseen(suite: Sets) -> list[str]:
    """Return the names of the sets that the model has never seen; of the general ones where there is none."""
    general = [suite_set for suite_set in suite.of_role("general") if suite_set.kind == "answers"]
    return [suite_set.name for suite_set in suite.of_role("unseen") or general]


def as_results(values: pd.DataFrame, measured: Sequence[Aggregate]) -> dict[str, Result]:
    """Return what has a name there as the metrics of a result file of OpenUnlearning, samples by their place."""
    by_name: dict[str, Result] = {}
    for aggregate in measured:
        attack = aggregate.metric.removesuffix("_unseen")
        if attack in ATTACKS:
            # Unseen samples are the positive class there.
            by_name[attack] = Result(1 - aggregate.value)
            continue
        metric = METRICS.get(aggregate.metric)
        # Sets of other suites have no name in these files.
        if metric and (name := metric.file_names.get(cast(Split, aggregate.split))):
            # Of the truth ratio, they have r itself for each sample.
            of_samples = "truth_ratio_raw" if metric.name == "truth_ratio" else metric.name
            scores = enumerate(scores_of(values, [aggregate.split], of_samples))
            by_name[name] = Result(aggregate.value, {str(i): {"score": float(score)} for i, score in scores})
    return by_name


def scores_of(values: pd.DataFrame, splits: Sequence[str], metric: str) -> FloatArray:
    """Return the values of a metric on the samples of these sets, in the order of the table."""
    wanted = values["split"].isin(splits) & (values["metric"] == metric)
    return values.loc[wanted, "value"].to_numpy(np.float64)


def _averages(values: pd.DataFrame) -> Iterator[Aggregate]:
    kept = values[~values["metric"].isin(NOT_AVERAGED)]
    for (split, metric), group in kept.groupby(["split", "metric"], sort=False):
        of_samples = group["value"].to_numpy(np.float64)
        yield _mean(str(split), str(metric), of_samples)
        if split == "forget" and metric in _COMPLEMENTS:
            yield _mean("forget", _COMPLEMENTS[str(metric)], 1 - of_samples)
    for split in values.loc[values["metric"] == "answer_tokens", "split"].unique():
        nll, tokens = (scores_of(values, [split], name) for name in ("nll", "answer_tokens"))
        value, read = perplexity(nll, tokens, np.ones((1, len(nll)))), tokens > 0
        yield Aggregate(str(split), "perplexity", float(value[0]), int(read.sum()), int((~read).sum()))


def _mean(split: str, metric: str, of_samples: FloatArray) -> Aggregate:
    undefined = int(np.isnan(of_samples).sum())
    return Aggregate(split, metric, mean_defined(of_samples), len(of_samples) - undefined, undefined)


def _attacks(values: pd.DataFrame, suite: Sets) -> Iterator[Aggregate]:
    against = {
        "retain": [suite_set.name for suite_set in suite.of_role("retain")],
        "unseen": stand_ins_for_unseen(suite),
    }
    for name, splits in against.items():
        for attack in ATTACKS:
            forget, other = scores_of(values, ["forget"], attack), scores_of(values, splits, attack)
            if len(forget) and len(other):
                auc = forgotten_auc(forget, other)
                rested, asked = min(auc.first, auc.second), len(forget) + len(other)
                yield Aggregate("forget", f"{attack}_{name}", auc.value, rested, asked - auc.first - auc.second)


def _forget_quality(values: pd.DataFrame) -> Iterator[Aggregate]:
    """Yield forget quality over the samples that have a truth ratio under both models."""
    forget = values[(values["split"] == "forget") & values["metric"].isin(("truth_ratio_raw", REFERENCE_RATIO))]
    both = forget.pivot(index="sample_id", columns="metric", values="value")
    if REFERENCE_RATIO in both:
        shared = both.dropna()
        quality = forget_quality(shared["truth_ratio_raw"], shared[REFERENCE_RATIO])
        yield Aggregate("forget", FORGET_QUALITY, quality.p_value, len(shared), len(both) - len(shared))
