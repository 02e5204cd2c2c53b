"""What unlearning runs did: their histories, who was updated how often, and what forgetting cost.

All of it is frames in, frames out. The metrics and draws are those of the run store, the curriculum and the
outcome are files of the run. Small MRD means hard, and tables of samples begin with the hardest.

Runs are compared by setting (a method and a sampler), never seed against seed of one setting, and a run that
ended before everything was forgotten is censored: what it would have cost is unknown, so no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.difficulty import NO_MRD, TERCILES, tercile
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.scoring.columns import MRD_ANSWER_MEAN, MRD_TITLES
from mrd_core.unlearning.config import CurriculumConfig
from mrd_core.unlearning.curves import EVALUATION, Curve
from mrd_core.unlearning.damage import Rest, rest
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import ForgottenRule, UnlearningSummary
from mrd_core.unlearning.sampling import WITHOUT_SCORES, effective_share, nearly_uniform
from mrd_core.unlearning.stopping import StopReason

IN_POOL, FORGOTTEN = "in the pool", "forgotten"

# Measured at some steps only: dropping such a row would drop a point that nothing beside it stands for.
SPARSE = (Curve.RETAIN_ACCURACY, Curve.RETAIN_NLL, Curve.EXTRACTION, Curve.EFFECTIVE_SHARE)

# Cells that a chi-square test may rest on expect at least so many draws (Cochran, 1954).
LEAST_EXPECTED = 5
LEAST_SEEDS = 3
SMOOTHED_STEPS = 20
PETA = 1e15
# What the rule by which a sample counts as forgotten consists of.
RULE = ("accuracy", "extraction", "margin")

# Stops that are alike: the goal, a budget, the utility guard; a run of any other end is like no other.
_LIMITS = (StopReason.MAX_STEPS, StopReason.MAX_EPOCHS, StopReason.MAX_SECONDS, StopReason.EXHAUSTED)
_GUARDS = (StopReason.RETAIN_LOSS, StopReason.RETAIN_ACCURACY)
_ENDS = {StopReason.ALL_FORGOTTEN: "goal"} | dict.fromkeys(_LIMITS, "limit") | dict.fromkeys(_GUARDS, "guard")

MEASURES = (
    *("updates", "draws", "steps", "forgotten", "forgotten_at_end", "forget_nll", "retain_nll", "retain_accuracy"),
    *("seconds", "mrd_seconds", "mrd_forward_evaluations", "flops_total", "flops_per_update", "efficiency"),
)
COMPARED = ("updates", "flops_total", "retain_nll", "retain_accuracy", "forgotten_at_end")

_COST_COLUMNS = [
    *("label", "method", "sampler", "column", "seed", "setting", "stop_reason", "reached", "rest"),
    *("n_samples", "threshold_accuracy", "threshold_extraction", "threshold_margin", *MEASURES),
]
_COMPARISON_COLUMNS = [
    *("method", "label", "sampler", "seeds", "pairs", "stops", "verdict"),
    *(f"{name}_{part}" for name in COMPARED for part in ("difference", "low", "high", "ratio")),
]
_EQUAL_CURVES = (
    *(Curve.UPDATES, Curve.FORGOTTEN, Curve.ACCURACY, Curve.FORGET_NLL),
    *(Curve.RETAIN_ACCURACY, Curve.RETAIN_NLL),
)
_EQUAL_COLUMNS = ["run", "step", *map(str, _EQUAL_CURVES)]

_SEED = ", seed "


@dataclass(frozen=True)
class SamplingCheck:
    """How the forget samples were to be drawn, and whether they were.

    Attributes:
        effective_share: 1 / (N Σ p²) of the expected shares p, 1 where they are all equal.
        nearly_uniform: Whether drawing by p can hardly differ from uniform; false for a strict order.
        p_value: Chi-square test of the draws against p; None with too few draws, or for a strict order.
        draws: Draws that were tested.
    """

    effective_share: float
    nearly_uniform: bool
    p_value: float | None
    draws: int


def run_name(label: str, seed: int) -> str:
    """Return what a chart calls one run of a setting."""
    return f"{label}{_SEED}{seed}"


def setting_of(name: str) -> str:
    """Return the setting of a run that is named by `run_name`; any other name is a setting of its own."""
    return name.rpartition(_SEED)[0] or name


def history(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics of a run by step, one column a name; NaN where a step did not report it.

    A step that was reported twice, before and after a resume, counts once, as reported last.

    Args:
        metrics: Columns step, name, value, oldest first, as the run store gives them.
    """
    last = metrics.drop_duplicates(["step", "name"], keep="last")
    wide = last.pivot(index="step", columns="name", values="value").sort_index()
    return wide.rename_axis(columns=None)


def evaluated(histories: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return what evaluations on the way found, of those runs that made any.

    Columns: those of `evaluations.jsonl` by their own names, of the metrics that are defined; a row each
    evaluation, by step.

    Args:
        histories: See `history`.
    """
    evaluations = {}
    for name, run in histories.items():
        table = run.filter(regex=f"^{EVALUATION}").dropna(how="all")
        if len(table):
            evaluations[name] = table.rename(columns=lambda column: str(column).removeprefix(EVALUATION))
    return evaluations


def thinned(history: pd.DataFrame, points: int = 2000) -> pd.DataFrame:
    """Return at most `points` rows, evenly spread.

    The first and the last row are kept, and so are rows with a value that few rows have (of the retain set, of
    EL, of the curriculum, of evaluations), unless there are more of those than `points`.

    Args:
        history: See `history`.
        points: At least 2.
    """
    if len(history) <= points:
        return history
    sparse = [name for name in history if name in SPARSE or str(name).startswith(EVALUATION)]
    keep = history[sparse].notna().any(axis=1).to_numpy(copy=True)
    keep[[0, -1]] = True
    if keep.sum() > points:
        return history.iloc[_spread(np.flatnonzero(keep), points)]
    keep[_spread(np.flatnonzero(~keep), points - int(keep.sum()))] = True
    return history[keep]


def standing(curriculum: pd.DataFrame, draws: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one row a sample, hardest (smallest MRD) first, samples without an MRD last.

    Columns: sample_id, mrd, tercile (by rank of MRD), n_tokens, updates, draws, accuracy (MA when last looked at;
    NaN: never), state, forgotten_step (NA: not found forgotten), share (expected share of an epoch's draws at
    the start), realised (share of all draws; NaN before the first).

    Args:
        curriculum: `curriculum.parquet`.
        draws: Columns step, sample_id, accuracy, trained, forgotten, oldest first, as the run store gives them.
        column: Of the curriculum, which says how hard a sample is.

    Raises:
        UserError: The curriculum has no such column.
    """
    table = by_difficulty(curriculum, column)[["sample_id", "mrd", "tercile", "n_tokens", "share"]]
    groups = draws.astype({"trained": bool, "forgotten": bool, "accuracy": np.float64}).groupby("sample_id")
    counted = groups.agg(updates=("trained", "sum"), draws=("trained", "size"), accuracy=("accuracy", "last"))
    counted = counted.reindex(table["sample_id"])
    first = draws[draws["forgotten"].astype(bool)].groupby("sample_id")["step"].min()
    for name in ("updates", "draws"):
        table[name] = counted[name].fillna(0).to_numpy(np.int64)
    table["accuracy"] = counted["accuracy"].to_numpy(np.float64)
    table["forgotten_step"] = first.reindex(table["sample_id"]).astype("Int64").array
    table["state"] = np.where(table["forgotten_step"].notna(), FORGOTTEN, IN_POOL)
    table["realised"] = table["draws"] / table["draws"].sum()
    return table


def by_tercile(standing: pd.DataFrame) -> pd.DataFrame:
    """Return one row a tercile of difficulty, hard first; a tercile without a sample has none.

    Columns: tercile, samples, updates, updates_mean, updates_median (of its samples), forgotten, realised,
    share (of all draws, and expected at the start).
    """
    groups = standing.assign(forgotten=standing["state"] == FORGOTTEN).groupby("tercile")
    table = groups.agg(
        samples=("sample_id", "size"),
        updates=("updates", "sum"),
        updates_mean=("updates", "mean"),
        updates_median=("updates", "median"),
        forgotten=("forgotten", "sum"),
        # A sum of nothing but NaN, the shares before the first draw, is not 0.
        realised=("realised", lambda shares: shares.sum(min_count=1)),
        share=("share", "sum"),
    )
    present = [name for name in (*TERCILES, NO_MRD) if name in table.index]
    return table.reindex(present).rename_axis("tercile").reset_index()


def sampling_check(
    standing: pd.DataFrame, draws: pd.DataFrame, with_replacement: bool, reweighed_at: int | None = None
) -> SamplingCheck:
    """Hold the draws against the shares that were expected of them.

    Only draws count that were made from the whole pool at the first weights: those up to the step in which a
    sample was first found forgotten, which leaves the pool after it, and before `reweighed_at`. Samples are
    pooled by descending share into cells that expect at least 5 draws.

    Args:
        standing: See `standing`.
        draws: What it was made from.
        with_replacement: Whether the sampler draws by chance; a strict order has nothing to test.
        reweighed_at: First step in which MRD was measured anew, if any.
    """
    shares = standing["share"].to_numpy(np.float64)
    # Chance says where the draws by the first shares end, but it does so without knowledge of later draws: counts
    # up to there still expect their shares.
    forgotten = draws.loc[draws["forgotten"].astype(bool), "step"]
    tested = draws[draws["step"] <= forgotten.min()] if len(forgotten) else draws
    if reweighed_at is not None:
        tested = tested[tested["step"] < reweighed_at]
    counts = tested["sample_id"].value_counts().reindex(standing["sample_id"], fill_value=0)
    return SamplingCheck(
        effective_share=effective_share(shares),
        nearly_uniform=with_replacement and nearly_uniform(shares),
        p_value=_chi_square(counts.to_numpy().astype(np.float64), shares) if with_replacement else None,
        draws=len(tested),
    )


def efficiency(summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what each run did and cost, one row a run (Feng et al., Def. 3.3).

    Efficiency is 1 / (updates × cost of an update), the cost of an update being all FLOPs of the run over its
    updates: training, checks and, whole for each run that uses it, MRD. Evaluations on the way only watch, and are
    not counted. Its unit is 1 / PFLOP: how often 10¹⁵
    floating-point operations would have forgotten this set. NaN for a run that did not forget all of it.

    Columns: label (see `told_apart`), method, sampler, seed,
    setting (digest of what is neither seed nor curriculum), stop_reason, reached (whether everything was
    forgotten), rest (what became of the retain set), n_samples, threshold_accuracy, threshold_extraction (NaN: not
    asked for), threshold_margin [logits], and `MEASURES`: NLL [nats per answer token], seconds [s], flops_total,
    flops_per_update [FLOP], efficiency [1 / PFLOP].

    Args:
        summaries: `summary.json` of each run.
    """
    table = pd.DataFrame([_costs(summary) for summary in summaries], columns=_COST_COLUMNS)
    table = table.astype(dict.fromkeys([*MEASURES, *(f"threshold_{name}" for name in RULE)], np.float64))
    return table.assign(label=told_apart(table)).drop(columns="column")


def told_apart(runs: pd.DataFrame) -> pd.Series[str]:
    """Return the label of each run, with column of the scores and setting where runs of a label differ in them.

    Settings that share a label differ in what it does not say, such as the learning rate. They are numbered as
    they first appear, the same number for all labels.

    Args:
        runs: Columns label, sampler, column and setting.
    """
    by_label = runs.assign(column=runs["column"].where(~runs["sampler"].isin(WITHOUT_SCORES))).groupby("label")
    columns, settings = (by_label[name].transform("nunique") > 1 for name in ("column", "setting"))
    number = pd.Series(pd.factorize(runs["setting"])[0] + 1, runs.index).astype(str)
    label = runs["label"].where(~columns, runs["label"] + " (" + runs["column"] + ")")
    return label.where(~settings, label + ", setting " + number)


def grouped(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sample standard deviation over the seeds of each setting, one row a label.

    Columns: label, method, sampler, runs, reached (runs that forgot everything), damaged (runs that lost their
    retain set; missing where none measured it), and of each of `MEASURES` the mean, under its name, and the
    deviation, `<name>_sd` (NaN with one run). Efficiency is that of the runs that forgot everything; other means
    include runs that ended early. A seed that was run twice counts once.
    """
    groups = _once_a_seed(efficiency).groupby("label", sort=False)
    about = groups.agg({"method": "first", "sampler": "first", "seed": "size", "reached": "sum"})
    about = about.rename(columns={"seed": "runs"})
    about["damaged"] = groups["rest"].agg(_damaged).astype("Int64")
    measures = groups[list(MEASURES)]
    return pd.concat([about, measures.mean(), measures.std().add_suffix("_sd")], axis=1).reset_index()


def against_uniform(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Compare every sampler with uniform sampling under the same method, seed by seed.

    A pair is two runs of one seed and one setting, so that only the curriculum differs, that ended alike (both
    forgot everything, or both met a limit, or the guard) and judged by the same thresholds; what a run would have
    needed beyond a limit is unknown, so a verdict is passed only if all runs that share a seed are pairs that
    forgot everything.

    Columns: method, label, sampler, seeds (that both have), pairs, stops (whether they stopped alike), verdict (on
    the updates), and of each of `COMPARED` over the pairs: `<name>_difference` (mean of sampler − uniform), `_low`
    and `_high` (its 95 % t-interval; NaN with fewer than 2 pairs), `_ratio` (of the means).
    """
    runs = _once_a_seed(efficiency)
    rows = []
    for method, of_method in runs.groupby("method", sort=False):
        uniform = of_method[of_method["sampler"] == "uniform"]
        others = of_method[of_method["sampler"] != "uniform"]
        for label, of_label in others.groupby("label", sort=False):
            about = {"method": method, "label": label, "sampler": of_label["sampler"].iloc[0]}
            rows.append(about | _compared(of_label, uniform))
    return pd.DataFrame(rows, columns=_COMPARISON_COLUMNS)


def paired_difference(values: pd.Series[float], others: pd.Series[float]) -> Estimate:
    """Return the mean of `values` − `others`, pair by pair, with its 95 % t-interval.

    NaN without a pair, and an interval of NaN with one; pairs in which a value is missing do not count.
    """
    return t_interval(np.asarray((values - others).dropna(), dtype=np.float64))


def t_interval(values: FloatArray) -> Estimate:
    """Return the mean of some runs' values with its 95 % t-interval; NaN without a value, no interval with one."""
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    if n < 2:
        return UNDEFINED._replace(value=mean)
    margin = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - margin, mean + margin)


def at_equal_updates(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return where each run stood after as many updates as the run with the fewest made in all.

    Columns: run, step (the first with so many updates), updates (a batch may overshoot), forgotten, accuracy,
    forget_nll (median of the last 20 values up to there), retain_accuracy, retain_nll (as last measured before).
    A run that has not made an update is left out.

    Args:
        runs: The history of each run.
    """
    trained = {name: run for name, run in runs.items() if Curve.UPDATES in run and run[Curve.UPDATES].max() > 0}
    filled = {name: run.ffill() for name, run in trained.items()}
    if not filled:
        return pd.DataFrame(columns=_EQUAL_COLUMNS)
    fewest = min(run[Curve.UPDATES].iloc[-1] for run in filled.values())
    rows = []
    for name, run in filled.items():
        place = int((run[Curve.UPDATES] >= fewest).to_numpy().argmax())
        row = dict(run.iloc[place].reindex(_EQUAL_COLUMNS[2:])) | {"run": name, "step": run.index[place]}
        # Of the values measured, not of those filled in.
        measured = runs[name].iloc[: place + 1].reindex(columns=[Curve.FORGET_NLL])[Curve.FORGET_NLL].dropna()
        rows.append(row | {str(Curve.FORGET_NLL): measured.tail(SMOOTHED_STEPS).median()})
    return pd.DataFrame(rows, columns=_EQUAL_COLUMNS)


def outcome(files: UnlearningFiles, column: str) -> pd.DataFrame:
    """Return what became of each sample, hardest first: `outcome.parquet` beside its difficulty.

    Columns: sample_id, mrd, tercile, n_tokens, mean_log_prob [nats], share, then those of `outcome.parquet`.

    Raises:
        UserError: The run has no outcome yet, or its curriculum no such column.
    """
    about = by_difficulty(_read(files, files.curriculum), column)
    about = about[["sample_id", "mrd", "tercile", "n_tokens", "mean_log_prob", "share"]]
    return about.merge(_read(files, files.outcome), on="sample_id", validate="one_to_one")


def answer_tokens(files: UnlearningFiles, sample_id: str) -> pd.DataFrame:
    """Return the answer of a sample, a token a row in order: position, piece, log_prob_before, log_prob_after.

    Raises:
        UserError: The run has no outcome yet.
    """
    tokens = _read(files, files.tokens, filters=[("sample_id", "==", sample_id)])
    return tokens.sort_values("position", ignore_index=True).drop(columns="sample_id")


def own_answers(files: UnlearningFiles, sample_id: str) -> tuple[str | None, str | None]:
    """Return what the model itself answers before and after; None where that was not written.

    Raises:
        UserError: The run has no outcome yet.
        KeyError: It has no such sample.
    """
    table = _read(files, files.outcome).set_index("sample_id")
    answers = table.loc[[sample_id], ["own_answer_before", "own_answer_after"]].to_numpy(object)[0]
    before, after = (answer if isinstance(answer, str) else None for answer in answers)
    return before, after


def _spread(places: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Return `count` of the places, evenly spread, the ends among them."""
    return places[np.linspace(0, len(places) - 1, count).round().astype(np.int64)]


def difficulty_column(curriculum: CurriculumConfig) -> str:
    """Return the column that says how hard a sample is: the one that the run weighs by where that is an MRD."""
    return curriculum.column if curriculum.column in MRD_TITLES else MRD_ANSWER_MEAN


def by_difficulty(curriculum: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the samples by a column, the smallest value first, with it as `mrd` and the third that each is in.

    Raises:
        UserError: The curriculum has no such column.
    """
    if column not in curriculum:
        raise UserError(
            f"The column {column}",
            "is not in the curriculum of this run.",
            f"Choose one of {', '.join(name for name in map(str, curriculum) if name.startswith('mrd_'))}.",
        )
    table = curriculum.assign(mrd=curriculum[column].astype(np.float64))
    table = table.sort_values(["mrd", "sample_id"], na_position="last", ignore_index=True)
    defined = int(table["mrd"].notna().sum())
    thirds = [tercile(rank, defined) for rank in range(defined)]
    return table.assign(tercile=thirds + [NO_MRD] * (len(table) - defined))


def _chi_square(counts: FloatArray, shares: FloatArray) -> float | None:
    """Return the p-value of the counts under the shares, both of shape (N,); 0 where the impossible was drawn.

    Samples are pooled by descending expectation until each cell expects enough; the last takes what is left.
    """
    if counts[shares == 0].any():
        return 0.0
    expected = counts.sum() * shares / shares.sum()
    order = np.argsort(-expected, kind="stable")
    starts, total = [0], 0.0
    for place, value in enumerate(expected[order]):
        if total >= LEAST_EXPECTED:
            starts.append(place)
            total = 0.0
        total += value
    if total < LEAST_EXPECTED:
        starts.pop()
    if len(starts) < 2:
        return None
    observed, hoped = np.add.reduceat(counts[order], starts), np.add.reduceat(expected[order], starts)
    return float(stats.chisquare(observed, hoped).pvalue)


def _costs(summary: Mapping[str, Any]) -> dict[str, Any]:
    total = summary["flops_training"] + summary["flops_checks"] + summary["flops_mrd"]
    reached = summary["stop_reason"] == StopReason.ALL_FORGOTTEN
    rule = ForgottenRule.model_validate(summary["thresholds"])
    derived = {f"threshold_{name}": getattr(rule, name) for name in RULE} | {
        "reached": reached,
        "rest": rest(UnlearningSummary.model_validate(summary)).value,
        "flops_total": total,
        "flops_per_update": total / summary["updates"] if summary["updates"] else np.nan,
        "efficiency": PETA / total if reached and total else np.nan,
    }
    return {name: derived[name] if name in derived else summary[name] for name in _COST_COLUMNS}


def _damaged(kept: pd.Series[str]) -> int | None:
    return None if (kept == Rest.UNKNOWN).all() else int((kept == Rest.DAMAGED).sum())


def _once_a_seed(efficiency: pd.DataFrame) -> pd.DataFrame:
    return efficiency.drop_duplicates(["label", "seed", "setting"], keep="last")


def _compared(sampled: pd.DataFrame, uniform: pd.DataFrame) -> dict[str, Any]:
    both = sampled.merge(uniform, on=["seed", "setting"], suffixes=("", "_uniform"))
    # By a stop of one family, judged by the same thresholds.
    alike = both["stop_reason"].map(_ENDS) == both["stop_reason_uniform"].map(_ENDS)
    for name in (f"threshold_{name}" for name in RULE):
        alike &= np.isclose(both[name], both[f"{name}_uniform"], equal_nan=True)
    pairs = both[alike]
    censored = int((~pairs["reached"].astype(bool)).sum())
    count, unlike = len(both), len(both) - len(pairs)
    stops = [f"{unlike} of {count} pairs left out: stopped or judged differently"] if unlike else []
    if censored:
        stops.append(f"{censored} of {count} pairs ended before everything was forgotten (censored)")
    ends = "; ".join(stops) or ("equal: everything forgotten" if count else "no seed in common")
    row: dict[str, Any] = {"seeds": both["seed"].nunique(), "pairs": len(pairs), "stops": ends}
    for name in COMPARED:
        difference = paired_difference(pairs[name], pairs[f"{name}_uniform"])
        mean, of_uniform = pairs[name].mean(), pairs[f"{name}_uniform"].mean()
        row |= difference.columns(f"{name}_difference", f"{name}_")
        row[f"{name}_ratio"] = float(mean / of_uniform) if of_uniform else np.nan
    row["verdict"] = "no difference beyond the spread"
    if row["seeds"] < LEAST_SEEDS:
        row["verdict"] = f"cannot tell (fewer than {LEAST_SEEDS} seeds)"
    elif unlike or censored:
        row["verdict"] = "cannot tell (stops differ or are limits)"
    elif row["updates_high"] < 0 or row["updates_low"] > 0:
        row["verdict"] = "fewer updates" if row["updates_high"] < 0 else "more updates"
    return row


def _read(files: UnlearningFiles, path: Path, **selection: Any) -> pd.DataFrame:
    if not path.exists():
        raise UserError(
            f"The run in {files.directory}",
            f"has no {path.name} yet.",
            "Wait until it is done; resume it if it was stopped.",
        )
    return pd.read_parquet(path, **selection)
