"""A forget set within what it could have been drawn from: the pool."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import difficulty
from analysis.audit.columns import Columns, columns_of, groups_of
from analysis.difficulty import ScoredRun, Variant
from analysis.sets import unknown
from analysis.sets.different import obstacle
from mrd_core.arrays import BoolArray
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.samples import read, saved_strata
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.samples.reading import ALL, listed, read_bytes
from mrd_core.samples.validation import content_key
from mrd_core.scoring.columns import CHOSEN, IN_SCOPE, PARTS, SAMPLE_ID, scope_column
from mrd_core.scoring.config import EstimatorConfig, Normalisation, ScoreConfig
from mrd_core.scoring.draws import Units
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.places import expanded


@dataclass(frozen=True, eq=False)
class Candidates:
    """The samples of a pool, and which of them are the forget set.

    Attributes:
        columns: What is known of the N samples.
        chosen: Which are the forget set, shape (N,).
        groups: Number of each one's group, shape (N,), from 0; every sample is its own without groups.
        grouped: Whether samples belong together.
        units: The draws of MRD by column: of each run, for its samples one after the other.
        obstacle: Why the runs of set and rest cannot be compared, in a sentence; "" where they can.
        caveats: What else a reader must know, in sentences.
        accuracy: Memorization accuracy (MA) of each sample, shape (N,), NaN where it was not measured.
    """

    columns: Columns
    chosen: BoolArray
    groups: npt.NDArray[np.intp]
    grouped: bool
    units: dict[str, tuple[Units, ...]]
    obstacle: str = ""
    caveats: tuple[str, ...] = ()
    accuracy: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=np.float64))

    @property
    def accuracies(self) -> Mapping[str, pd.Series[float]]:
        """The memorization accuracy of the set and of the rest, or of all without a set, as `unknown` takes it."""
        if self.accuracy.empty or not self.chosen.any():
            return {"samples": self.accuracy}
        return {"samples of the set": self.accuracy[self.chosen], "others": self.accuracy[~self.chosen]}


def everything(pool: ScoredRun, group: str | None = None) -> Candidates:
    """Return all samples of a run, none of them in a forget set.

    Raises:
        UserError: There is no such column to group by.
    """
    columns, units = _read(pool)
    ids = columns.frame["sample_id"]
    chosen = np.zeros(len(ids), dtype=np.bool_)
    groups = _groups(ids, chosen, [(pool, group)])
    return Candidates(columns, chosen, *groups, units, accuracy=unknown.accuracy_in(columns.frame))


def within(pool: ScoredRun, sample_ids: Collection[str], group: str | None = None) -> Candidates:
    """Return samples of a run as a forget set, its pool all samples of the run.

    Raises:
        UserError: The run has none of them or no others, or they have only a part of a group.
    """
    columns, units = _read(pool)
    ids = columns.frame["sample_id"]
    chosen = ids.isin(set(sample_ids)).to_numpy()
    _require_both(chosen, str(pool.directory))
    groups = _groups(ids, chosen, [(pool, group)])
    return Candidates(columns, chosen, *groups, units, accuracy=unknown.accuracy_in(columns.frame))


def beside(pool: ScoredRun, other: ScoredRun, group: str | None = None) -> Candidates:
    """Return the samples of a run as a forget set, its pool they and those of another run.

    A sample of the same id that is in both is taken from the run of the forget set.

    Raises:
        UserError: The pool has no other samples, other texts under the same ids, or only a part of a group.
    """
    _require_same_texts(other, pool)
    scope, pool_scope = (_estimator(run).scope for run in (other, pool))
    columns, units = _read(other)
    rest, rest_units = _read(pool, scope)
    kept = ~rest.frame["sample_id"].isin(columns.frame["sample_id"]).to_numpy()
    unlike, caveats = obstacle(other, pool)
    if not _reads_alike(columns, rest):
        names = {*columns.characteristics, *rest.characteristics}
        columns, rest = (_without(side, names) for side in (columns, rest))
        caveats += ("Characteristics are left out: the texts of the runs were not read alike.",)
    if (scope, _estimator(other).normalisation) != (pool_scope, _estimator(pool).normalisation):
        # Measured in the variant that each run was scored in.
        names = {column.name for column in (*CHOSEN, *PARTS)} - {SAMPLE_ID, *IN_SCOPE}
        columns, rest = (_without(side, names) for side in (columns, rest))
        caveats += (
            "Speed, spread and curvature are left out: the runs were scored over other tokens, or one as mean and "
            "one as sum.",
        )
    frame = pd.concat([columns.frame, rest.frame[kept]], join="inner", ignore_index=True)
    joined = Columns(
        frame,
        {name: title for name, title in columns.titles.items() if name in frame},
        columns.difficulty,
        tuple(name for name in columns.imported if name in rest.imported),
        columns.characteristics,
        columns.reading,
    )
    chosen = np.arange(len(frame)) < len(columns.frame)
    _require_both(chosen, str(pool.directory))
    groups = _groups(frame["sample_id"], chosen, [(other, group), (pool, group)])
    both = {name: (*units[name], rest_units[name][0].at(kept)) for name in units if name in rest_units}
    accuracy = pd.concat(
        [unknown.accuracy_in(columns.frame), unknown.accuracy_in(rest.frame)[kept]], ignore_index=True
    )
    return Candidates(joined, chosen, *groups, both, unlike, caveats, accuracy)


def _require_same_texts(other: ScoredRun, pool: ScoredRun) -> None:
    """Refuse runs whose samples are called alike and are others, such as rows that are numbered in both."""
    texts = [run.samples.set_index("sample_id")[["prompt", "answer"]] for run in (other, pool)]
    shared = texts[0].index.intersection(texts[1].index)
    if count := int((texts[0].loc[shared] != texts[1].loc[shared]).any(axis=1).sum()):
        raise UserError(
            str(other.directory),
            f"has {count} samples whose ids are those of other texts in {pool.directory}, so which are in both "
            "cannot be told.",
            'Score one of them anew without its column of ids (--id-column ""): texts name samples then.',
        )


def named(
    pool: ScoredRun, name: str, home: Path, find_run: Callable[[str], Path], group: str | None = None
) -> Candidates:
    """Return the forget set that a text names: a score run, a file of samples or ids, or a saved selection.

    Args:
        pool: What it could have been drawn from.
        name: A score run (its directory or its id), a file that reads as a forget set, a text file with an id a
            line, or the name of a selection that was saved in the run or in `home`.
        home: The data root.
        find_run: Returns the directory of a run that is named by it or by its id.
        group: See `groups_of`.

    Raises:
        UserError: There is nothing of that name, or it holds what is no sample of the pool.
    """
    saved = saved_strata(home) | saved_strata(pool.directory)
    path = saved.get(name, expanded(name))
    if path.is_file():
        return within(pool, _ids_in(path, pool), group)
    if path.exists() and not (path / CONFIG_FILE).is_file():
        raise UserError(name, "is no score run, no file and no saved selection.", "Name one of those.")
    try:
        directory = find_run(name)
    except UserError as error:
        raise UserError(
            name, f"is no file, no saved selection and no score run ({error.cause}).", "Name one of those."
        ) from error
    read_config(directory, ScoreConfig)
    other = ScoredRun(ScoreFiles.with_mrd(directory).directory)
    if other.directory.resolve() == pool.directory.resolve():
        raise UserError(
            name, "is the pool itself.", "Name a part of it: a file of samples or ids, a selection, another run."
        )
    return beside(pool, other, group)


def selections(pool: ScoredRun, home: Path) -> list[str]:
    """Return the names of the saved selections, in the run or in `home`, that hold samples of the pool alone."""
    known = set(pool.samples["sample_id"])
    saved = saved_strata(home) | saved_strata(pool.directory)
    return [
        name
        for name, path in saved.items()
        if known > set(pd.read_parquet(path, columns=["sample_id"])["sample_id"])
    ]


def _ids_in(path: Path, pool: ScoredRun) -> set[str]:
    """Return which samples of a pool a file names, by their ids or else by their texts."""
    samples = pool.samples
    known = set(samples["sample_id"])
    if path.suffix.lower() == ".txt":
        ids = [
            line.strip() for line in read_bytes(path).decode("utf-8-sig", "replace").splitlines() if line.strip()
        ]
        found = [each if each in known else None for each in ids]
    else:
        frame = read(ForgetSetConfig(source=str(path), split=ALL)).frame
        texts = zip(samples["prompt"], samples["answer"], strict=True)
        # One id may stand for another text there: rows are often numbered.
        own = dict(zip(samples["sample_id"], map(content_key, texts), strict=True))
        by_text = {key: sample_id for sample_id, key in own.items()}
        keys = map(content_key, zip(frame["prompt"], frame["answer"], strict=True))
        ids = list(frame["sample_id"])
        found = [each if own.get(each) == key else by_text.get(key) for each, key in zip(ids, keys, strict=True)]
    unknown = [each for each, of_pool in zip(ids, found, strict=True) if of_pool is None]
    if unknown or not ids:
        why = f"Of its {len(ids)} samples {len(unknown)} are none of the pool's, such as {listed(unknown[:3])}."
        raise UserError(
            str(path),
            why if ids else "It holds no id.",
            "Score it by itself, with the settings of the pool, and name that run; or name samples of the pool.",
        )
    return {of_pool for of_pool in found if of_pool is not None}


def _read(run: ScoredRun, scope: Scope | None = None) -> tuple[Columns, dict[str, tuple[Units, ...]]]:
    """Return the columns of a run, and the draws of each MRD for the same samples; by default in its own scope."""
    run.require("draws", "plan")
    columns = columns_of(run)
    scope = scope or _estimator(run).scope
    # What bears a plain name is in the run's own scope.
    of_scope = {name: scope_column(name, scope) for name in IN_SCOPE}
    in_scope = {name: columns.frame[own] for name, own in of_scope.items() if own in columns.frame}
    columns = replace(columns, frame=columns.frame.assign(**in_scope))
    variants = (Variant(scope, normalisation) for normalisation in Normalisation)
    measured = {
        f"mrd_{scope}_{variant.normalisation}": difficulty.measured(run, variant, columns.frame["sample_id"])
        for variant in variants
    }
    return columns, {name: (each.units,) for name, each in measured.items()}


def _groups(
    ids: pd.Series[str], chosen: BoolArray, runs: list[tuple[ScoredRun, str | None]]
) -> tuple[npt.NDArray[np.intp], bool]:
    """Return the groups of samples, each whole in the set or whole in the rest."""
    if runs[0][1] is None:
        return np.arange(len(ids)), False
    by_run = [groups_of(run, str(group)) for run, group in runs]
    # Blocks of consecutive samples are of their run; a column means the same in both.
    if len(by_run) > 1 and str(runs[0][1]).isdecimal():
        by_run = [labels + f" of {place}" for place, labels in enumerate(by_run)]
    joined = pd.concat(by_run)
    labels = joined[~joined.index.duplicated()].reindex(ids)
    codes, names = pd.factorize(labels)
    shares = pd.Series(chosen).groupby(codes).mean()
    broken = shares[(shares > 0) & (shares < 1)]
    if len(broken):
        members = codes == broken.index[0]
        raise UserError(
            f"The group {names[broken.index[0]]!r}",
            f"is in the forget set with {int(chosen[members].sum())} of its {int(members.sum())} samples only, "
            f"and so are {len(broken) - 1} others; random sets would keep groups whole.",
            "Leave --group out, or name groups that the set has as a whole.",
        )
    return codes, True


def _reads_alike(first: Columns, second: Columns) -> bool:
    readings = [side.reading for side in (first, second)]
    if readings[0] is None or readings[1] is None:
        return readings[0] is readings[1]
    # How, by what and beside which corpus; not which run.
    keys = [(about.pipeline, about.config.reading, about.config.corpus) for about in readings if about]
    return keys[0] == keys[1] and first.characteristics == second.characteristics


def _without(columns: Columns, names: Collection[str]) -> Columns:
    return replace(
        columns,
        frame=columns.frame.drop(columns=list(names), errors="ignore"),
        titles={name: title for name, title in columns.titles.items() if name not in names},
        characteristics=tuple(name for name in columns.characteristics if name not in names),
    )


def _estimator(run: ScoredRun) -> EstimatorConfig:
    return read_config(run.directory, ScoreConfig).estimator


def _require_both(chosen: BoolArray, pool: str) -> None:
    """Refuse a set that is none of the pool, or all of it."""
    if not chosen.any() or chosen.all():
        raise UserError(
            "The forget set",
            f"has {'all' if chosen.all() else 'none'} of the samples of the pool {pool}.",
            "Name a part of the pool, or score more samples as the pool.",
        )
