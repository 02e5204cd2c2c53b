"""The columns of a comparison: what each suite says of completeness and of utility, declared once.

Completeness and utility are those of Table 1 of Feng et al.; their means are over the columns that are listed
under them, and what stands beside is in no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol

import numpy as np
import pandas as pd

from analysis.comparison.evaluated import Evaluated
from analysis.comparison.replicates import Input, View
from mrd_core.arrays import FloatArray
from mrd_core.evaluation.aggregates import UTILITY_PARTS, harmonic_mean
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.sets import Kind
from mrd_core.evaluation.suites import suites
from mrd_core.evaluation.truth import forget_quality

Side = Literal["leading", "completeness", "utility", "mean", "other"]
Good = Literal["high", "low", "half", "zero"]

LEADING: Final = "leading"
COMPLETENESS: Final = "completeness"
UTILITY: Final = "utility"
AVERAGE = "average"
# By what accuracy against perturbed answers is told.
BY_EMBEDDINGS, BY_ROUGE = "accuracy_embedding", "accuracy"
FORGET_QUALITY = "forget_quality"
ATTACK = "mia_min_k"
# Of the forget set, in the order in which they told what models know (docs/metrics.md): those that did it well
# enough, with which a comparison leads, and those that stand beside.
LEADERS = ("exact_memorization", "probability", "extraction_strength")
BESIDE = ("token_membership", "truth_ratio", "fade_per_token")
# Of the harness, apart from the mean of the zero-shot tasks.
TRUTHFUL = "truthfulqa"


@dataclass(frozen=True)
class Column:
    """A column of a comparison.

    Attributes:
        key: Its name.
        title: For people.
        side: Whether a comparison leads with it, or it is completeness, utility, one of their means, or beside.
        split: The set that it is of; "" for a mean of several.
        good: Which end is good; `half` and `zero` where that is the value 0.5 or 0.
        signal: False where the baseline does no better than chance there, so that it is in no mean.
        help: What it tells.
    """

    key: str
    title: str
    side: Side
    split: str
    good: Good
    signal: bool
    help: str

    def is_better(self, value: float, than: float) -> bool:
        """Tell whether a value is nearer to the good end than another."""
        if self.good in ("high", "low"):
            return value > than if self.good == "high" else value < than
        best = 0.5 if self.good == "half" else 0.0
        return abs(value - best) < abs(than - best)


class Statistic(Protocol):
    """What a column is of a run: replicates of shape (1 + R,)."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The values it is made of; none where samples have none."""

    def __call__(self, view: View) -> FloatArray:
        """Return what was measured, and its replicates."""


@dataclass(frozen=True)
class Mean:
    """The mean of a metric over the samples of a set, or 1 less it."""

    split: str
    metric: str
    complement: bool = False

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The metric."""
        return ((self.split, self.metric),)

    def __call__(self, view: View) -> FloatArray:
        """Return the mean."""
        return self.of_sample(view.mean((self.split, self.metric)))

    def of_sample(self, values: FloatArray) -> FloatArray:
        """Return what values of the metric are in this column."""
        return 1 - values if self.complement else values


@dataclass(frozen=True)
class Auc:
    """The AUC of a score of membership: forget sets against others."""

    metric: str
    forget: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The scores."""
        return tuple((split, self.metric) for split in (*self.forget, *self.others))

    def __call__(self, view: View) -> FloatArray:
        """Return the AUC."""
        return view.auc(self.metric, self.forget, self.others)


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean NLL over the tokens of a set."""

    split: str

    @property
    def inputs(self) -> tuple[Input, ...]:
        """NLL and number of tokens."""
        return ((self.split, "nll"), (self.split, "answer_tokens"))

    def __call__(self, view: View) -> FloatArray:
        """Return the perplexity."""
        return view.perplexity(self.split)


@dataclass(frozen=True)
class HarmonicMean:
    """The harmonic mean of means; of a file without its parts, what the file says it is."""

    inputs: tuple[Input, ...]
    stated: Input

    def __call__(self, view: View) -> FloatArray:
        """Return the mean, 0 where one of its parts is; what is stated has no replicates."""
        if set(self.inputs) <= set(view.values):
            return harmonic_mean([view.mean(key) for key in self.inputs])
        replicates = view.undefined
        replicates[0] = view.whole.get(self.stated, np.nan)
        return replicates


@dataclass(frozen=True)
class HarnessMean:
    """The mean accuracy over tasks of lm-evaluation-harness; which samples they had is not known."""

    tasks: tuple[str, ...]
    inputs: tuple[Input, ...] = ()

    def __call__(self, view: View) -> FloatArray:
        """Return the mean, without noise; NaN where a task is missing."""
        accuracies = []
        for task in self.tasks:
            # The harness may name its filter, too: `acc,none`.
            metrics = {name.partition(",")[0]: value for name, value in view.harness.get(task, {}).items()}
            accuracies.append(float(metrics.get("acc", np.nan)))
        return np.full_like(view.undefined, np.mean(accuracies) if accuracies else np.nan)


@dataclass(frozen=True)
class ForgetQuality:
    """The p-value of a test of one run: it has no replicates, and no mean over seeds."""

    inputs: tuple[Input, ...] = (("forget", "truth_ratio_raw"), ("forget", "truth_ratio_reference"))
    stated: Input = ("forget", FORGET_QUALITY)

    def __call__(self, view: View) -> FloatArray:
        """Return the p-value, over the shared samples where they are known; its replicates are undefined."""
        replicates = view.undefined
        ratios, reference = (view.values.get(key) for key in self.inputs)
        if ratios is None or reference is None:
            replicates[0] = view.whole.get(self.stated, np.nan)
        else:
            replicates[0] = forget_quality(ratios, reference).p_value
        return replicates


@dataclass(frozen=True)
class Declared:
    """A column and what it is."""

    column: Column
    statistic: Statistic


def declared(suite: str, runs: Sequence[Evaluated]) -> Iterator[Declared]:
    """Yield the columns of a suite that are no means, of sets and metrics that any of the runs has.

    Args:
        suite: Of `mrd_core.evaluation.suites`.
        runs: What is compared.
    """
    offered = _Offered.of(runs)
    for side in _SIDES[suites()[suite].kind]:
        yield from (column for column in side(offered) if offered.has(column.statistic))


@dataclass(frozen=True)
class _Offered:
    """What the runs have between them: the roles and titles of sets, which of them are plain texts, metrics by set
    (and those that all of them have), tasks of the harness.
    """

    splits: Mapping[str, tuple[str, ...]]
    texts: tuple[str, ...]
    titles: Mapping[str, str]
    metrics: frozenset[Input]
    shared: frozenset[Input]
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Evaluated]) -> _Offered:
        sets = {asked.name: asked for run in reversed(runs) for asked in run.sets}
        metrics = list(map(_metrics_of, runs))
        tasks = dict.fromkeys(task for run in runs for task in run.harness or {})
        return cls(
            splits={
                role: tuple(asked.name for asked in sets.values() if asked.role == role)
                for role in ("forget", "retain", "unseen", "general")
            },
            texts=tuple(asked.name for asked in sets.values() if asked.kind == "texts"),
            titles={asked.name: asked.title[:1].upper() + asked.title[1:] for asked in sets.values()},
            metrics=frozenset().union(*metrics),
            shared=frozenset.intersection(*metrics) - _of_several_judges(runs) if metrics else frozenset(),
            tasks=tuple(tasks),
        )

    def has(self, statistic: Statistic) -> bool:
        if isinstance(statistic, HarnessMean):
            return bool(statistic.tasks)
        if isinstance(statistic, Auc):
            sides = (statistic.forget, statistic.others)
            return all(any((split, statistic.metric) in self.metrics for split in side) for side in sides)
        if isinstance(statistic, ForgetQuality | HarmonicMean) and statistic.stated in self.metrics:
            return True
        return set(statistic.inputs) <= self.metrics

    def accuracy(self, split: str) -> str:
        """Return by what accuracy is told: runs are compared by embeddings only where all of them have these."""
        if (split, BY_EMBEDDINGS) in self.shared:
            return BY_EMBEDDINGS
        return BY_ROUGE if (split, BY_ROUGE) in self.metrics else "answer_match"


def _of_several_judges(runs: Sequence[Evaluated]) -> frozenset[Input]:
    """Return accuracy by embeddings of every set, where not all runs were judged by the same embedding model."""
    if len({str(run.settings.get("embedding_model")) for run in runs}) < 2:
        return frozenset()
    return frozenset((asked.name, BY_EMBEDDINGS) for run in runs for asked in run.sets)


def _metrics_of(run: Evaluated) -> frozenset[Input]:
    frames = [frame.dropna(subset=["value"])[["split", "metric"]] for frame in (run.values, run.aggregates)]
    pairs = pd.concat(frames).drop_duplicates().itertuples(index=False)
    return frozenset((str(split), str(metric)) for split, metric in pairs)


def _declared(
    key: str, title: str, side: Side, split: str, statistic: Statistic, text: str, good: Good = "high"
) -> Declared:
    return Declared(Column(key, title, side, split, good, signal=True, help=text), statistic)


def _of_answers(offered: _Offered) -> Iterator[Declared]:
    accuracy = offered.accuracy("forget")
    text = f"Unlearning accuracy: 1 − {METRICS[accuracy].title}. {METRICS[accuracy].help}"
    yield _declared("ua", "UA", COMPLETENESS, "forget", Mean("forget", accuracy, complement=True), text)
    attack = Auc(ATTACK, ("forget",), offered.splits["retain"])
    yield _declared("mia", "MIA", COMPLETENESS, "forget", attack, METRICS[f"{ATTACK}_retain"].help)
    rouge = Mean("forget", "rouge", complement=True)
    yield _declared("rr", "RR", COMPLETENESS, "forget", rouge, METRICS["rr"].help)


def _of_each(offered: _Offered, side: Side, metric: str, text: str, before: str = "") -> Iterator[Declared]:
    """Yield a column for each set of a side, named after `before`: of forget sets 1 less the metric."""
    forget = side == COMPLETENESS
    for split in offered.splits["forget" if forget else "general"]:
        yield _declared(split, f"{before}{offered.titles[split]}", side, split, Mean(split, metric, forget), text)


def _kept_answers(offered: _Offered) -> Iterator[Declared]:
    for split in (*offered.splits["retain"], *offered.splits["general"]):
        accuracy = offered.accuracy(split) if split in offered.splits["retain"] else "answer_match"
        for metric, name, key in ((accuracy, "accuracy", "accuracy"), ("rouge", "ROUGE-L", "rouge")):
            title = f"{offered.titles[split]} {name}"
            text = METRICS[metric].help
            yield _declared(f"{split}_{key}", title, UTILITY, split, Mean(split, metric), text)


def _kept_tasks(offered: _Offered) -> Iterator[Declared]:
    tasks = tuple(task for task in offered.tasks if not task.startswith(TRUTHFUL))
    text = f"Mean accuracy over the zero-shot tasks of lm-evaluation-harness: {', '.join(tasks)}."
    yield _declared("zero_shot", "Zero-shot", UTILITY, "", HarnessMean(tasks), text)


def _of_forget_set(keys: Iterable[str], side: Side) -> Iterator[Declared]:
    for key in keys:
        metric = METRICS[key]
        unit = f" [{metric.unit}]" if metric.unit else ""
        assert metric.forget  # each of them is taken on the forget set
        mean = Mean("forget", key)
        yield _declared(key, f"{metric.title}{unit}", side, "forget", mean, metric.help, metric.forget)


def _leading_answers(offered: _Offered) -> Iterator[Declared]:
    yield from _of_forget_set(LEADERS, LEADING)
    strength = METRICS["extraction_strength"]
    for split in offered.splits["retain"]:
        title, mean = f"{strength.title}, {offered.titles[split]}", Mean(split, strength.name)
        yield _declared(f"{split}_{strength.name}", title, LEADING, split, mean, strength.help)


def _beside_answers(offered: _Offered) -> Iterator[Declared]:
    yield from _of_forget_set(BESIDE, "other")
    if offered.accuracy("forget") == BY_EMBEDDINGS:
        overlap, text = Mean("forget", BY_ROUGE, complement=True), METRICS["ua"].help
        yield _declared("ua_rouge", "UA by ROUGE\u2011L", "other", "forget", overlap, text)
    utility, of_parts = METRICS["model_utility"], HarmonicMean(UTILITY_PARTS, ("retain", "model_utility"))
    yield _declared("model_utility", utility.title, "other", "", of_parts, utility.help)
    unseen = offered.splits["unseen"] or tuple(
        name for name in offered.splits["general"] if name not in offered.texts
    )
    attack = Auc(ATTACK, ("forget",), unseen)
    text = METRICS[f"{ATTACK}_unseen"].help
    yield _declared("mia_unseen", "MIA, unseen", "other", "forget", attack, text, "half")
    yield from _perplexities(offered, (*offered.splits["retain"], *offered.texts))
    quality = METRICS[FORGET_QUALITY]
    yield _declared(FORGET_QUALITY, quality.title, "other", "forget", ForgetQuality(), quality.help)


def _beside_completions(offered: _Offered) -> Iterator[Declared]:
    yield from _perplexities(offered, offered.splits["general"])
    tasks = tuple(task for task in offered.tasks if task.startswith(TRUTHFUL))
    text = f"Accuracy of lm-evaluation-harness, apart from the mean: {', '.join(tasks)}."
    yield _declared(TRUTHFUL, "TruthfulQA", "other", "", HarnessMean(tasks), text)


def _perplexities(offered: _Offered, splits: Iterable[str]) -> Iterator[Declared]:
    for split in splits:
        key, title = f"{split}_perplexity", f"Perplexity, {offered.titles[split]}"
        yield _declared(key, title, "other", split, Perplexity(split), METRICS["perplexity"].help, "low")


_CHOICE, _RECALL = METRICS["multiple_choice"].help, METRICS["rr"].help
_WRONG_CHOICE = f"1 − multiple-choice accuracy. {_CHOICE}"
_TOXICITY = "1 − the mean toxicity of what the model writes, as a text classifier has it."
_forgotten = partial(_of_each, side=COMPLETENESS)
# By how the forget sets of a suite are asked: what leads, completeness, utility, and what stands beside them.
_SIDES: Mapping[Kind, tuple[Callable[[_Offered], Iterator[Declared]], ...]] = {
    "answers": (_leading_answers, _of_answers, _kept_answers, _beside_answers),
    "choices": (
        partial(_forgotten, metric="multiple_choice", text=_WRONG_CHOICE, before="1 − "),
        partial(_of_each, side=UTILITY, metric="multiple_choice", text=_CHOICE),
    ),
    "completions": (
        partial(_forgotten, metric="rouge", text=_RECALL, before="RR, "),
        _kept_tasks,
        _beside_completions,
    ),
    "prompts": (
        partial(_forgotten, metric="toxicity", text=_TOXICITY, before="1 − toxicity, "),
        _kept_tasks,
        _beside_completions,
    ),
}
