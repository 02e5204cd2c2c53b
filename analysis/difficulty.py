"""From a finished score run to a ranking: one row per sample, hardest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
from mrd_core.scoring.draws import Draws, reliability, scores
from mrd_core.scoring.files import RunFiles
from mrd_core.scoring.measures import GRADIENT_MEASURES, PLAIN_MEASURES, Measure

# Thirds of the samples by MRD, and those that have none.
TERCILES = HARD, MIDDLE, EASY = ("hard", "middle", "easy")
NO_MRD = "undefined"


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
        median_relative_se: Median over samples of SE / MRD.
        p90_relative_se: Its 90th percentile.
        reliability: Spearman–Brown reliability per normalisation.
        length_partialled: The same with length partialled out of both halves.
    """

    median_relative_se: float
    p90_relative_se: float
    reliability: dict[Normalisation, float]
    length_partialled: dict[Normalisation, float]


def ranking(directory: Path, variant: Variant) -> pd.DataFrame:
    """Return the samples of a run, hardest (smallest MRD) first, undefined ones last.

    Columns: rank (1 = hardest), sample_id, mrd, mrd_se, mrd_low, mrd_high (95 %), relative_se, n_tokens,
    excluded_tokens, mean_log_prob [nats], truncated, region, prompt, answer, split, training_count, and those of
    the other measures of difficulty (`measures_in`) that the run has.

    Raises:
        UserError: A result file of the run is gone.
    """
    files = RunFiles(directory)
    _require_results(files)
    table = scores(_draws(files), variant.scope, variant.normalisation, variant.formula)
    measured = {scope_column(name, variant.scope): name for name in ("excluded_tokens", "mean_log_prob")}
    in_scope = pd.read_parquet(files.scores, columns=["sample_id", "truncated", *measured])
    texts = ForgetSet.load(files.samples).frame
    table = table.merge(in_scope.rename(columns=measured), on="sample_id").merge(texts, on="sample_id")
    table = beside(table, directory)
    table["region"] = regions(table)
    table = table.sort_values(["mrd", "sample_id"], na_position="last", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def beside(table: pd.DataFrame, score_run: Path) -> pd.DataFrame:
    """Put the other measures of difficulty beside samples of a run, as far as it has them.

    Args:
        table: One row per sample: sample_id and others; its own columns come before a measure of the same name.
        score_run: Directory of the run; one of an earlier version has no measures, and one that is gone neither.
    """
    path = RunFiles(score_run).measures
    if not path.exists():
        return table
    measured = pd.read_parquet(path).dropna(axis="columns", how="all")
    new = [name for name in measured if name == "sample_id" or name not in table]
    return table.merge(measured[new], on="sample_id", how="left", validate="one_to_one")


def measures_in(table: pd.DataFrame) -> list[Measure]:
    """Return the measures beside MRD that some sample of a table has, as they were declared."""
    declared = (*PLAIN_MEASURES.values(), *GRADIENT_MEASURES.values())
    return [measure for measure in declared if measure.name in table and table[measure.name].notna().any()]


def measured(directory: Path, variant: Variant, sample_ids: Iterable[str]) -> Measured:
    """Return the MRD of these samples of a run, in this order, with its draws."""
    draws = _draws(RunFiles(directory))
    place = pd.Series(np.arange(len(draws.sample_ids)), index=list(draws.sample_ids))
    units = draws.units(variant.scope, variant.normalisation, variant.formula)
    return Measured(units[:, place.loc[list(sample_ids)].to_numpy()])


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


def trust(directory: Path, variant: Variant) -> Trust:
    """Return how reliable the ranking by `variant` is."""
    draws = _draws(RunFiles(directory))
    table = scores(draws, variant.scope, variant.normalisation, variant.formula)
    units = {norm: draws.units(variant.scope, norm, variant.formula) for norm in Normalisation}
    lengths = table["n_tokens"].to_numpy(np.float64)
    errors = table["relative_se"].dropna()
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

    Hard is an MRD below the median of the run; unsure a relative standard error above `unsure_above`.
    """
    hard = table["mrd"] < table["mrd"].median()
    unsure = ~(table["relative_se"] <= unsure_above(table))
    names = np.where(hard, "hard", "easy").astype(object) + np.where(unsure, ", less sure", ", sure")
    return pd.Series(names, index=table.index).where(table["mrd"].notna(), "undefined")


def unsure_above(table: pd.DataFrame) -> float:
    """Return the relative standard error that parts sure from less sure: the median of the run, at most 0.3.

    Above 0.3 a score is mostly noise, whatever its neighbours are.
    """
    return float(np.nanmin([table["relative_se"].median(), 0.3]))


def tokens_of(directory: Path, sample_id: str) -> pd.DataFrame:
    """Return the tokens of one sample in order, with their mean relative change and its error."""
    return pd.read_parquet(RunFiles(directory).tokens, filters=[("sample_id", "==", sample_id)])


def matching(table: pd.DataFrame, text: str, chosen: set[str] | None) -> pd.DataFrame:
    """Return the rows whose id, prompt or answer contains `text` and whose id is among `chosen` (None: all)."""
    keep = pd.Series(True, index=table.index)
    if text:
        found = [table[column].str.contains(text, case=False, regex=False) for column in ("prompt", "answer")]
        keep &= found[0] | found[1] | table["sample_id"].str.contains(text, case=False, regex=False)
    if chosen is not None:
        keep &= table["sample_id"].isin(chosen)
    return table[keep]


def _require_results(files: RunFiles) -> None:
    missing = [path.name for path in (files.draws, files.scores, files.samples, files.tokens) if not path.exists()]
    if missing:
        raise UserError(
            f"The run in {files.directory}",
            f"has lost {', '.join(missing)}: somebody removed it by hand.",
            "Delete the run and score again.",
        )


def _draws(files: RunFiles) -> Draws:
    return Draws.load(files.draws)
