"""The section on how hard each sample is, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.difficulty import ScoredRun, Variant, measures_in, tercile, tie, trust
from analysis.difficulty import measured as scores_of
from analysis.figures.difficulty import titles_of
from analysis.figures.theme import shortened
from analysis.report.content import Cell, Chart, Column, Interval, Section, Table, interval, number
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula

ENDS = 10
TEXT_WIDTH = 110
SCOPES = {Scope.ANSWER: "the tokens of the answer", Scope.FULL: "all tokens"}
FORMULAS = {
    Formula.MRD: "MRD (|mean of relative changes|)",
    Formula.MEAN_ABSOLUTE: "mean absolute relative change",
    Formula.INITIAL: "absolute change, not relative",
}
HOW_TO_READ = (
    "MRD (Memory Removal Difficulty) is how far the log-probability of a sample moves, relative to itself, when "
    "the model’s weights are shaken with small random noise. A small MRD means hard to unlearn, a large one easy."
)
PREVIEW = "These scores are a preview: speed + spread, two of the three parts of MRD, and not MRD."


def in_words(variant: Variant) -> str:
    """Return which scores are looked at."""
    return f"{FORMULAS[variant.formula]}, {variant.normalisation} over {SCOPES[variant.scope]}"


def difficulty(run: ScoredRun, table: pd.DataFrame, variant: Variant) -> Section:
    """Return the section.

    Args:
        run: The score run.
        table: Its samples, hardest first, as `analysis.difficulty.ranking` has them.
        variant: Which scores.
    """
    scored = table[table[run.ranked_by].notna()]
    listed = {"hardest": scored.head(ENDS), "easiest": scored[ENDS:].tail(ENDS)}
    samples = Table(
        caption="All samples, the hardest first",
        head="Sample",
        columns=_COLUMNS | {"rank": Column(title="Rank"), "mean_log_prob": Column(title="Mean log-probability")},
        rows=_samples(scored, run.ranked_by, "rank", "mean_log_prob"),
        is_listed=False,
    )
    chart = Chart(
        form="ranked",
        title="Scores from the hardest to the easiest sample",
        alt="The score of every sample with its interval, along their rank",
        table="samples",
        x="rank",
        y=("score",),
        unit="Score (small: hard to unlearn)",
    )
    return Section(
        title="How hard each sample is",
        text=(HOW_TO_READ, PREVIEW if run.draws.is_preview else f"Looked at here: {in_words(variant)}."),
        parts={
            "reliability": _reliability(run, variant),
            "thirds": _thirds(scored, run.ranked_by),
            "ranking": chart,
            **{name: _ends(name, rows, run.ranked_by) for name, rows in listed.items() if len(rows)},
            "samples": samples,
        },
        notes=_undefined(table, scored),
    )


def measures(run: ScoredRun, table: pd.DataFrame, variant: Variant, replicates: int) -> Section | None:
    """Return the section on other measures of difficulty, and how scores go with them; None without any."""
    others = measures_in(table)
    if not others:
        return None
    own, titles = scores_of(run, variant, table["sample_id"]), titles_of(others)
    rows: dict[str, dict[str, Cell]] = {
        each.name: {
            "median": number(float(table[each.name].median())),
            "rho": interval(tie(table, each.name, own, replicates)),
            "help": each.help,
        }
        for each in others
    }
    about = Table(
        caption=f"Other measures, and how the scores go with them ({variant.normalisation} over tokens)",
        head="Measure",
        columns={
            "median": Column(title="Median"),
            "rho": Column(title="Spearman’s ρ with the scores [95 %]", form="+.2f"),
            "help": Column(title="What it tells"),
        },
        rows=rows,
        titles=titles,
    )
    return Section(title="Beside other measures of difficulty", parts={"measures": about})


_COLUMNS = {
    "score": Column(title="Score [95 %]"),
    "relative_se": Column(title="SE / score", form=".2f"),
    "n_tokens": Column(title="Tokens", form=",.0f"),
}


def _reliability(run: ScoredRun, variant: Variant) -> Table:
    """Return how well another run would rank the samples alike, and how exact the values are."""
    trusted = trust(run, variant)
    rows: dict[str, dict[str, Cell]] = {
        str(norm): {"reliability": number(value), "length_held": number(trusted.length_partialled[norm])}
        for norm, value in trusted.reliability.items()
    }
    errors = {"median_se": number(trusted.median_relative_se), "p90_se": number(trusted.p90_relative_se)}
    rows[str(variant.normalisation)] |= errors
    return Table(
        caption="How far the ranking can be trusted: rank correlation of two such runs (1: the same order)",
        head="Over tokens",
        columns={
            "reliability": Column(title="Reliability", form=".3f"),
            "length_held": Column(title="With length held", form=".3f"),
            "median_se": Column(title="SE / score, median", form=".3f"),
            "p90_se": Column(title="90th percentile", form=".3f"),
        },
        rows=rows,
    )


def _thirds(scored: pd.DataFrame, by: str) -> Table:
    """Return the hard, the middle and the easy third of the samples beside one another."""
    groups = scored.groupby([tercile(at, len(scored)) for at in range(len(scored))], sort=False)
    rows: dict[str, dict[str, Cell]] = {
        str(name): {
            "n": len(third),
            "median": number(third[by].median()),
            "least": number(third[by].min()),
            "greatest": number(third[by].max()),
            "n_tokens": number(third["n_tokens"].mean()),
            "mean_log_prob": number(third["mean_log_prob"].mean()),
        }
        for name, third in groups
    }
    return Table(
        caption="Thirds of the samples by their score",
        head="Third",
        columns={
            "n": Column(title="Samples"),
            "median": Column(title="Median score"),
            "least": Column(title="Least"),
            "greatest": Column(title="Greatest"),
            "n_tokens": Column(title="Tokens, mean", form=".1f"),
            "mean_log_prob": Column(title="Log-probability, mean [nats per token]", form=".3f"),
        },
        rows=rows,
    )


def _ends(name: str, rows: pd.DataFrame, by: str) -> Table:
    texts = rows["prompt"].where(rows["prompt"] == "", rows["prompt"] + " → ") + rows["answer"]
    # Of a set without texts both parts say so, and one is enough.
    texts = texts.where(rows["prompt"] != rows["answer"], rows["answer"])
    listed = _samples(rows, by)
    for sample, text in zip(rows["sample_id"], texts, strict=True):
        listed[str(sample)]["text"] = shortened(text, TEXT_WIDTH)
    return Table(
        caption=f"The {len(rows)} {name} samples",
        head="Sample",
        columns=_COLUMNS | {"text": Column(title="Text")},
        rows=listed,
    )


def _samples(rows: pd.DataFrame, by: str, *further: str) -> dict[str, dict[str, Cell]]:
    """Return a row per sample, its score with its interval where that is known."""
    # Of a preview errors are known, and no intervals.
    rows = rows.assign(relative_se=rows[f"{by}_se"] / rows[by])
    ends = ("mrd_low", "mrd_high") if by == "mrd" else ("no_low", "no_high")
    return {
        str(row["sample_id"]): {
            "score": Interval.model_validate(
                dict(zip(("value", "low", "high"), (number(row.get(name)) for name in (by, *ends)), strict=True))
            ),
            **{name: number(row[name]) for name in ("relative_se", "n_tokens", *further)},
        }
        for row in rows.to_dict(orient="records")
    }


def _undefined(table: pd.DataFrame, scored: pd.DataFrame) -> tuple[str, ...]:
    def sentences() -> Iterator[str]:
        if missing := len(table) - len(scored):
            yield f"{missing} samples have no score: none of their tokens could be scored."
        if cut := int(table["truncated"].sum()):
            yield f"{cut} samples are longer than the model’s context and were cut."

    return tuple(sentences())
