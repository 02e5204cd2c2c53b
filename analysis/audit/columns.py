"""What is known of the samples of a score run, in numbers, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.characteristics.files import About, CharacteristicsFiles
from analysis.characteristics.strata import CRITERIA, feature_of
from analysis.difficulty import ScoredRun
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.reading import listed
from mrd_core.scoring.columns import MRD_TITLES, mrd_column
from mrd_core.scoring.config import Normalisation, ScoreConfig
from mrd_core.scoring.imported import Revision, imported, revision
from mrd_core.scoring.measures import GRADIENT_MEASURES, PART_MEASURES, PLAIN_MEASURES

LENGTH = "n_tokens"
PARTS = ("speed", "spread", "curvature")
_TITLES = {
    **MRD_TITLES,
    **{
        measure.name: measure.title
        for measure in {**PLAIN_MEASURES, **GRADIENT_MEASURES, **PART_MEASURES}.values()
    },
    LENGTH: "Tokens",
    "training_count": "Occurrences in training",
}


@dataclass(frozen=True, eq=False)
class Columns:
    """The numeric columns of a score run.

    Attributes:
        frame: A row per sample, as they were scored: sample_id, and a float column of each name.
        titles: Of the columns, for people.
        difficulty: The MRD of the run's own scope and normalisation first, then that of the other one.
        imported: Those that were imported into the run.
        characteristics: One for each of the paper's criteria that the newest reading of the texts measures.
        reading: How that reading came about; None without one.
    """

    frame: pd.DataFrame
    titles: dict[str, str]
    difficulty: tuple[str, str]
    imported: tuple[str, ...]
    characteristics: tuple[str, ...]
    reading: About | None

    @property
    def audited(self) -> list[str]:
        """Those that an audit looks at, the difficulty first, as far as the run has them."""
        # A reading knows how often training showed a sample.
        counted = () if self.characteristics else ("training_count",)
        names = (*self.difficulty, *PARTS, LENGTH, *self.imported, *counted, *self.characteristics)
        return [name for name in dict.fromkeys(names) if name in self.frame]

    def require(self, names: tuple[str, ...]) -> None:
        """Refuse names that are no numeric columns.

        Raises:
            UserError: Names the first.
        """
        for name in names:
            if name not in self.titles:
                raise UserError(
                    f"The column {name!r}",
                    f"is no numeric column of the run; it has {listed(list(self.titles))}.",
                    "Name one of them, or import it first (`mrd-lens columns add`).",
                )


def columns_of(run: ScoredRun) -> Columns:
    """Return the numeric columns of a run: scores, measures, imported columns and characteristics.

    Raises:
        UserError: A file of the run is gone.
    """
    run.require("scores", "samples")
    settings = read_config(run.directory, ScoreConfig).estimator
    normalisations = sorted(Normalisation, key=lambda normalisation: normalisation != settings.normalisation)
    difficulty = tuple(mrd_column(settings.scope, normalisation) for normalisation in normalisations)
    frame = run.scores.merge(run.samples[["sample_id", "training_count"]], on="sample_id")
    if run.measures is not None:
        frame = frame.merge(run.measures[_new(run.measures, frame)], on="sample_id", how="left")
    others = {
        name if name not in frame else f"{name}-imported": column
        for name, column in imported(run.files).columns.items()
    }
    for name, column in others.items():
        frame[name] = frame["sample_id"].map(column.values)
    features, about = _newest_reading(run)
    names: list[str] = []
    if about is not None:
        frame = frame.merge(features[_new(features, frame)], on="sample_id", how="left")
        chosen = [feature_of(each, frame, each.default, about.training_averages) for each in CRITERIA]
        names = [name for name in chosen if name is not None]
    numbers = _numbers(frame)
    of_features = {name: feature["title"] for name, feature in about.features.items()} if about else {}
    named = {name: name.replace("_", " ") for name in map(str, numbers)} | of_features | _TITLES
    titles = named | {name: column.title for name, column in others.items()}
    return Columns(
        frame[["sample_id"]].join(numbers),
        {name: titles[name] for name in map(str, numbers)},
        (difficulty[0], difficulty[1]),
        tuple(others),
        tuple(names),
        about,
    )


def groups_of(run: ScoredRun, group: str) -> pd.Series[str]:
    """Return for each sample which group it belongs to, indexed by sample id.

    Args:
        run: The run.
        group: A whole number: so many consecutive samples, as they were read, are a group. Else a column of the
            run, or of the file that its samples were read from; samples without a value are alone.

    Raises:
        UserError: There is no such column, or the file is gone or has changed.
    """
    run.require("samples")
    ids = run.samples["sample_id"]
    if group.isdecimal() and int(group) > 0:
        return pd.Series((np.arange(len(ids)) // int(group)).astype(str), index=ids)
    known = columns_of(run).frame.merge(run.samples[["sample_id", "split"]], on="sample_id").set_index("sample_id")
    labels = (known[group] if group in known else _from_source(run, group)).reindex(ids)
    alone = pd.Series([f"\N{NULL}{sample_id}" for sample_id in ids], index=labels.index)
    return labels.astype("str").where(labels.notna(), alone)


def _from_source(run: ScoredRun, column: str) -> pd.Series[str]:
    """Return a column of the file that the samples of a run were read from, by sample id."""
    known = ForgetSet.load(run.files.samples)
    config = read_config(run.directory, ScoreConfig).forget_set
    mapping = known.mapping.model_copy(update={"split": column})
    # Read as the split, which any column can be: so its cells meet their samples.
    try:
        again = read(config.model_copy(update={"columns": mapping, "layout": known.layout}))
    except UserError as error:
        raise UserError(
            f"The column {column!r}",
            f"is none of the run's own, and its source has none either: {error.cause}",
            "Name another column, or the number of consecutive samples that belong together.",
        ) from error
    if again.digest != known.digest:
        raise UserError(
            f"The column {column!r} of {config.source}",
            "is not that of the run: the file has changed since it was scored.",
            "Score it again, or name the number of consecutive samples that belong together.",
        )
    return again.frame.set_index("sample_id")["split"]


def revision_of(run: ScoredRun) -> Revision:
    """Return what changes whenever `columns_of` would return something else: readings and imported columns."""
    return (*revision(run.files), *sorted(_readings(run).items()))


def _newest_reading(run: ScoredRun) -> tuple[pd.DataFrame, About | None]:
    if not (times := _readings(run)):
        return pd.DataFrame({"sample_id": []}), None
    return CharacteristicsFiles(run.files.readings / max(times, key=times.__getitem__)).read_features()


def _readings(run: ScoredRun) -> dict[str, int]:
    """Return when each finished reading of the texts was written [ns], by the name of its directory."""
    finished = (path for path in run.files.readings.glob("*") if CharacteristicsFiles(path).is_finished)
    return {path.name: CharacteristicsFiles(path).features.stat().st_mtime_ns for path in finished}


def _new(table: pd.DataFrame, beside: pd.DataFrame) -> list[str]:
    return [name for name in map(str, table) if name == "sample_id" or name not in beside]


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the numeric columns that have a value, as floats, infinite ones undefined."""
    numbers = frame.select_dtypes(include="number", exclude="bool").astype(np.float64)
    return numbers.replace([np.inf, -np.inf], np.nan).dropna(axis="columns", how="all")
