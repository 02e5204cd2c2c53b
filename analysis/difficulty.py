"""From a finished score run to a ranking: one row per sample, hardest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.statistics.bootstrap import REPLICATES, Estimate
from analysis.statistics.groups import Measured, spearman
from mrd_core.errors import UserError
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import scope_column
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.draws import Draws, parts, relative_se, reliability, scores
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import GRADIENT_MEASURES, KNOWN, PART_MEASURES, PLAIN_MEASURES, Measure
from mrd_core.scoring.records import Plan

# Thirds of the samples by MRD, and those that have none.
TERCILES = HARD, MIDDLE, EASY = ("hard", "middle", "easy")
NO_MRD = "undefined"
# Below `KNOWN` of the tokens of its answer are what the model would write.
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Variant:
    """Which of the scores that the draws allow is looked at."""

    scope: Scope = Scope.ANSWER
    normalisation: Normalisation = Normalisation.MEAN
    formula: Formula = Formula.MRD


@dataclass(frozen=True)
class Trust:
    """How far a ranking can be trusted.

    Attributes:
        median_relative_se: Median over samples of SE / MRD, or of the same of speed + spread in a preview.
        p90_relative_se: Its 90th percentile.
        reliability: Spearman–Brown reliability per normalisation.
        length_partialled: The same with length partialled out of both halves.
    """

    median_relative_se: float
    p90_relative_se: float
    reliability: dict[Normalisation, float]
    length_partialled: dict[Normalisation, float]


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A finished score run, each of whose files is read when it is first asked for, and once."""

    directory: Path

    @property
    def files(self) -> ScoreFiles:
        """Where its files lie."""
        return ScoreFiles(self.directory)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The validated forget set: a row per sample."""
        return ForgetSet.load(self.files.samples).frame

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row per sample: MRD in all variants, with errors."""
        return pd.read_parquet(self.files.scores)

    @cached_property
    def draws(self) -> Draws:
        """What every perturbed evaluation and sign probe gave for every sample.

        Raises:
            UserError: A file of them is gone: without its probes a run has other scores.
        """
        if self.files.summary.exists() and self.files.read_figures().probes:
            self.require("probes")
        return Draws.load(self.files.draws, self.files.probes)

    @cached_property
    def measures(self) -> pd.DataFrame | None:
        """A row per sample: the other measures of difficulty that were taken.

        None for a run of an earlier version, which has no such file, and for one that is gone.
        """
        path = self.files.measures
        return pd.read_parquet(path).dropna(axis="columns", how="all") if path.exists() else None

    @property
    def ranked_by(self) -> str:
        """The column that samples are ranked by: MRD, or in a preview speed + spread."""
        return "speed_and_spread" if self.draws.is_preview else "mrd"

    @cached_property
    def plan(self) -> Plan:
        """What was decided before the first draw.

        Raises:
            UserError: Its file is gone.
        """
        self.require("plan")
        return self.files.read_plan()

    def require(self, *artifacts: str) -> None:
        """Raise a UserError that names which of these files (attributes of `ScoreFiles`) are gone."""
        missing = [path.name for path in (getattr(self.files, name) for name in artifacts) if not path.exists()]
        if missing:
            raise UserError(
                f"The run in {self.directory}",
                f"has lost {', '.join(missing)}: somebody removed it by hand.",
                "Delete the run and score again.",
            )


def ranking(run: ScoredRun, variant: Variant) -> pd.DataFrame:
    """Return the samples of a run, hardest (smallest MRD, in a preview smallest speed + spread) first.

    Undefined ones come last.

    Columns: rank (1 = hardest), sample_id, mrd, mrd_se, mrd_low, mrd_high (95 %), relative_se, n_tokens,
    excluded_tokens, mean_log_prob [nats], truncated, region, prompt, answer, split, training_count, speed, spread,
    curvature and speed_and_spread (each with `_se`), NaN for runs of earlier versions, and those of the other
    measures of difficulty (`measures_in`) that the run has. In a preview all of MRD is NaN.

    Raises:
        UserError: A result file of the run is gone.
    """
    run.require("draws", "scores", "samples", "tokens")
    table = scores(run.draws, variant.scope, variant.normalisation, variant.formula)
    in_scope = {scope_column(name, variant.scope): name for name in ("excluded_tokens", "mean_log_prob")}
    scored = run.scores[["sample_id", "truncated", *in_scope]].rename(columns=in_scope)
    table = pd.concat([table, parts(run.draws, variant.scope, variant.normalisation)], axis=1)
    table = beside(table.merge(scored, on="sample_id").merge(run.samples, on="sample_id"), run)
    table["region"] = "" if run.draws.is_preview else regions(table)
    table = table.sort_values([run.ranked_by, "sample_id"], na_position="last", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def beside(table: pd.DataFrame, run: ScoredRun) -> pd.DataFrame:
    """Put the other measures of difficulty beside samples of a run, as far as it has them.

    Args:
        table: One row per sample: sample_id and others; its own columns come before a measure of the same name.
        run: The score run, which may be gone.
    """
    if run.measures is None:
        return table
    new = [name for name in run.measures if name == "sample_id" or name not in table]
    return table.merge(run.measures[new], on="sample_id", how="left", validate="one_to_one")


def measures_in(table: pd.DataFrame) -> list[Measure]:
    """Return the measures beside MRD that some sample of a table has, as they were declared."""
    declared = (*PLAIN_MEASURES.values(), *GRADIENT_MEASURES.values(), *PART_MEASURES.values())
    return [measure for measure in declared if measure.name in table and table[measure.name].notna().any()]


def measured(run: ScoredRun, variant: Variant, sample_ids: Iterable[str] | None = None) -> Measured:
    """Return the MRD of samples of a run, or of a preview the speed + spread, with its draws.

    Args:
        run: The score run.
        variant: Which MRD.
        sample_ids: The samples in the order wanted; None for all, as they were scored.
    """
    units = run.draws.ranked(variant.scope, variant.normalisation, variant.formula)
    if sample_ids is None:
        return Measured(units)
    place = pd.Series(np.arange(len(run.draws.sample_ids)), index=list(run.draws.sample_ids))
    return Measured(units.at(place.loc[list(sample_ids)].to_numpy()))


def tie(table: pd.DataFrame, column: str, of_mrd: Measured, replicates: int = REPLICATES) -> Estimate:
    """Return how a column goes with MRD: Spearman's correlation over the samples that have both.

    Its 95 % interval takes in the noise of MRD. NaN with fewer than 3 samples, or where either is constant.

    Args:
        table: One row per sample.
        column: Of the table.
        of_mrd: The MRD of the same rows.
        replicates: Of the bootstrap.
    """
    return spearman(table[column].to_numpy(np.float64, na_value=np.nan), of_mrd, replicates)


def trust(run: ScoredRun, variant: Variant) -> Trust:
    """Return how reliable the ranking by `variant` is."""
    table = scores(run.draws, variant.scope, variant.normalisation, variant.formula)
    units = {norm: run.draws.ranked(variant.scope, norm, variant.formula) for norm in Normalisation}
    lengths = table["n_tokens"].to_numpy(np.float64)
    errors = pd.Series(relative_se(units[variant.normalisation])).dropna()
    return Trust(
        median_relative_se=float(errors.median()),
        p90_relative_se=float(errors.quantile(0.9)),
        reliability={norm: reliability(values) for norm, values in units.items()},
        length_partialled={norm: reliability(values, lengths) for norm, values in units.items()},
    )


def tercile(rank: int, samples: int) -> str:
    """Return the third that a sample is in, by its place among so many, hardest first and counted from 0."""
    return TERCILES[3 * rank // samples]


def regions(table: pd.DataFrame) -> pd.Series[str]:
    """Name the quarter of the difficulty map that each sample lies in: hard or easy, sure or unsure.

    Hard is an MRD below the median of the run; unsure a relative standard error above `unsure_above`. A
    sample that the model does not know is neither: there is nothing to forget.
    """
    hard = table["mrd"] < table["mrd"].median()
    unsure = ~(table["relative_se"] <= unsure_above(table))
    names = np.where(hard, "hard", "easy").astype(object) + np.where(unsure, ", less sure", ", sure")
    named = pd.Series(names, index=table.index)
    if "exact_memorization" in table:
        named = named.mask(table["exact_memorization"] < KNOWN, NOT_KNOWN)
    return named.where(table["mrd"].notna(), NO_MRD)


def unsure_above(table: pd.DataFrame) -> float:
    """Return the relative standard error that parts sure from less sure: the median of the run, at most 0.3.

    Above 0.3 a score is mostly noise, whatever its neighbours are.
    """
    return float(np.nanmin([table["relative_se"].median(), 0.3]))


def tokens_of(directory: Path, sample_id: str) -> pd.DataFrame:
    """Return the tokens of one sample in order, with their mean relative change and its error.

    Where the sample was taken apart exactly, its parts are the exact ones.
    """
    files = ScoreFiles(directory)
    tokens = pd.read_parquet(files.tokens, filters=[("sample_id", "==", sample_id)])
    exact = files.exact_parts(sample_id)
    if not (exact / "summary.json").exists():
        return tokens
    parts = pd.read_parquet(exact / "tokens.parquet").set_index("position")
    for name in parts.columns[parts.notna().any()]:
        tokens[name] = tokens["position"].map(parts[name])
    return tokens


def matching(table: pd.DataFrame, text: str, chosen: set[str] | None) -> pd.DataFrame:
    """Return the rows whose id, prompt or answer contains `text` and whose id is among `chosen` (None: all)."""
    keep = pd.Series(True, index=table.index)
    if text:
        columns = (table[name] for name in ("sample_id", "prompt", "answer"))
        keep &= np.logical_or.reduce([column.str.contains(text, case=False, regex=False) for column in columns])
    if chosen is not None:
        keep &= table["sample_id"].isin(chosen)
    return table[keep]
