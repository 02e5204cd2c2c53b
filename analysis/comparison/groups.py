"""Which evaluations are compared with which: seeds of one setting are one group, and settings may pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.comparison.evaluated import PRECISION, Evaluated, aligned
from analysis.comparison.replicates import shared_samples
from mrd_core.errors import UserError

NOT_SET = "–"
UNIFORM = "uniform"
_OF_CURRICULUM = "curriculum."
_SEED = "seed"
# Values that differ in these were not measured alike.
_MEASURING = (
    "forget_split",
    "max_new_tokens",
    "k_percent",
    "reference",
    "fade_texts",
    "fade_tokens",
    "embedding_model",
    "toxicity_model",
    PRECISION,
)
# A result file does not say its suite; it is one of these.
_OF_FILES = ("tofu", "custom")


@dataclass(frozen=True, eq=False)
class Group:
    """Evaluations of one setting.

    Attributes:
        label: What tables call it, different for each group.
        runs: One for each seed; never ranked.
        seeds: Theirs, where something was unlearned.
        is_baseline: Whether the others are held against it.
    """

    label: str
    runs: tuple[Evaluated, ...]
    seeds: tuple[int, ...]
    is_baseline: bool

    def name_of(self, run: Evaluated) -> str:
        """Return what tells a run of the group from all others."""
        return self.label if run.seed is None else f"{self.label}, seed {run.seed}"


def prepared(runs: Sequence[Evaluated], baseline: int) -> tuple[list[Evaluated], str, list[str]]:
    """Return the runs with ids that meet, their suite, and what was done to them in sentences.

    Raises:
        UserError: Nothing to compare, suites that differ, or no sample in common.
    """
    if not runs:
        raise UserError("The comparison", "has no evaluation to compare.", "Name at least one.")
    suite = _suite(runs)
    leader = runs[baseline] if runs[baseline].origin == "run" else next(_of_runs(runs), runs[baseline])
    named = [aligned(run, leader) for run in runs]
    first: dict[tuple[str, int | None], Evaluated] = {}
    for run in [named[baseline], *named]:
        first.setdefault((run.group, run.seed), run)
    kept = list(first.values())
    notes = list(dict.fromkeys(note for run in kept for note in run.notes))
    repeated = len(named) - len(kept)
    if repeated:
        notes.append(f"{repeated} evaluations of a setting and seed that another has too count for nothing.")
    for name in _MEASURING:
        values = dict.fromkeys(run.settings.get(name, "not set") for run in _of_runs(kept))
        if len(values) > 1:
            notes.append(f"Not measured alike: {name} is {' and '.join(values)}.")
    return kept, suite, notes + _of_other_texts(kept) + _left_out(kept)


def grouped(runs: Sequence[Evaluated], baseline: str) -> list[Group]:
    """Return the groups, the baseline's first and then as they first appear.

    Args:
        runs: What is compared.
        baseline: `Evaluated.group` of the baseline.
    """
    members: dict[str, list[Evaluated]] = {baseline: []}
    for run in runs:
        members.setdefault(run.group, []).append(run)
    labels = _labels(list(members.values()))
    return [
        Group(
            label=label,
            runs=tuple(seeds),
            seeds=tuple(run.seed for run in seeds if run.seed is not None),
            is_baseline=name == baseline,
        )
        for (name, seeds), label in zip(members.items(), labels, strict=True)
    ]


def differing(groups: Sequence[Group]) -> pd.DataFrame:
    """Return the settings in which groups differ, a row each: setting, and the value of each group by its label.

    What only unlearning has is compared among the groups that were unlearned. Result files do not say theirs.
    """
    rows = []
    first = [group.runs[0] for group in groups if group.runs[0].origin == "run"]
    unlearned = [run for run in first if not run.is_original]
    for name in _names(run for group in groups for run in group.runs):
        of_all = any(run.is_original and name in run.settings for run in first)
        if len({run.settings.get(name) for run in (first if of_all else unlearned)}) > 1:
            values = (dict.fromkeys(run.settings.get(name, NOT_SET) for run in group.runs) for group in groups)
            rows.append((name, *map(", ".join, values)))
    return pd.DataFrame(rows, columns=["setting", *(group.label for group in groups)])


def partner(group: Group, groups: Sequence[Group]) -> Group | None:
    """Return the group of the same method that draws uniformly and shares all settings but the curriculum's."""
    run = group.runs[0]
    if run.method is None or run.sampler in (None, UNIFORM):
        return None
    uniform = [each for each in groups if (each.runs[0].method, each.runs[0].sampler) == (run.method, UNIFORM)]
    return next((each for each in uniform if _rest(each.runs[0]) == _rest(run)), None)


def by_seed(group: Group, against: Group) -> tuple[list[tuple[Evaluated, Evaluated]], bool]:
    """Return the pairs of runs that are compared, and whether they are pairs by seed or of a single run.

    Where two seeds or more meet, those that do are paired; a group of one run is a partner to every run of the
    other. Else every run is held against every other, and the noise of both sides counts.
    """
    seeds = {run.seed: run for run in against.runs if run.seed is not None}
    shared = [(run, seeds[run.seed]) for run in group.runs if run.seed in seeds]
    if len(shared) > 1 or len(shared) == len(group.runs) == len(against.runs):
        return shared, True
    pairs = [(run, other) for run in group.runs for other in against.runs]
    return pairs, min(len(group.runs), len(against.runs)) == 1


def seeds_left_out(group: Group, against: Group) -> tuple[int, ...]:
    """Return the seeds that one of two groups has and the other lacks, where the others are paired."""
    pairs, paired = by_seed(group, against)
    if not paired or min(len(group.runs), len(against.runs)) == 1:
        return ()
    return tuple(sorted({*group.seeds, *against.seeds} - {run.seed for run, _ in pairs if run.seed is not None}))


def _suite(runs: Sequence[Evaluated]) -> str:
    suites = {run.suite: run for run in runs if run.suite}
    if len(suites) > 1:
        named = ", ".join(f"{run.name} was asked {suite}" for suite, run in suites.items())
        raise UserError("The evaluations", f"are of different suites: {named}.", "Compare those of one suite.")
    suite = next(iter(suites), _OF_FILES[0])
    files = [run.label for run in runs if not run.suite]
    if files and suite not in _OF_FILES:
        raise UserError(
            ", ".join(files), f"is of TOFU's metrics, the others are of {suite}.", "Compare those of one suite."
        )
    return suite


def _of_runs(runs: Sequence[Evaluated]) -> Iterator[Evaluated]:
    return (run for run in runs if run.origin == "run")


def _of_other_texts(runs: Sequence[Evaluated]) -> list[str]:
    """Say in which sets samples of one id are not the same texts, so that they were asked something else."""
    digests: dict[str, dict[str, set[int]]] = {}
    for asked in (asked for run in _of_runs(runs) for asked in run.sets if asked.digests):
        of_set = digests.setdefault(asked.name, {})
        for sample, digest in zip(asked.sample_ids, asked.digests, strict=True):
            of_set.setdefault(sample, set()).add(digest)
    others = {name: sum(len(texts) > 1 for texts in of_set.values()) for name, of_set in digests.items()}
    return [
        f"Not measured alike: {count} samples of {name} have one id in all, and other texts."
        for name, count in others.items()
        if count
    ]


def _left_out(runs: Sequence[Evaluated]) -> list[str]:
    """Say how many samples are shared, where some are not.

    Raises:
        UserError: None is in what was to be forgotten, or, where less than two were asked that, in any set.
    """
    shared = shared_samples(runs)
    several = [split for split in shared if sum(bool(run.sample_ids(split)) for run in runs) > 1]
    forget = [split for split in several if any(split in run.splits("forget") for run in runs)]
    if several and not any(shared[split] for split in forget or several):
        raise UserError(
            f"{', '.join(run.name for run in runs)}",
            "have no forget sample in common: they were asked other sets.",
            "Compare evaluations of one forget set, or files with as many samples as the baseline.",
        )
    notes = []
    for split, ids in shared.items():
        counts = {len(run.sample_ids(split)) for run in runs if run.sample_ids(split)}
        if counts != {len(ids)}:
            most = max(counts)
            notes.append(f"{split}: compared on the {len(ids)} samples that all have; there are up to {most}.")
        missing = [run.name for run in runs if not run.sample_ids(split)]
        if missing:
            notes.append(f"{split}: not asked in {', '.join(missing)}.")
    return notes


def _labels(members: Sequence[Sequence[Evaluated]]) -> list[str]:
    """Return the label of each group, with what tells it apart where others have the same.

    That is the setting that tells its first run from all namesakes, or all in which they differ, or where it lies.
    """
    labels = []
    first = [seeds[0] for seeds in members]
    for run in first:
        namesakes = [each for each in first if each.label == run.label]
        counts = {name: len({each.settings.get(name) for each in namesakes}) for name in _names(namesakes)}
        telling = [name for name, count in counts.items() if count > 1]
        enough = [name for name in telling if counts[name] == len(namesakes)]
        marks = []
        for name in enough[:1] or telling:
            last, value = name.rpartition(".")[2], run.settings.get(name, NOT_SET)
            marks.append(Path(value).name if last == "source" else f"{last.replace('_', ' ')} {value}")
        apart = ", ".join(marks) if telling else str(run.source)
        labels.append(run.label if len(namesakes) == 1 else f"{run.label} ({apart})")
    # Folders of one name, files of one name: what they are called does not tell them apart.
    return [
        label if labels.count(label) == 1 else f"{label}, no. {labels[: at + 1].count(label)}"
        for at, label in enumerate(labels)
    ]


def _names(runs: Iterable[Evaluated]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.settings if name != _SEED))


def _rest(run: Evaluated) -> Mapping[str, str]:
    return {
        name: value
        for name, value in run.settings.items()
        if name != _SEED and not name.startswith(_OF_CURRICULUM)
    }
