"""The sections on the paper's claims: what goes with difficulty, and what is left of it once length is held."""

from __future__ import annotations

import pandas as pd

from analysis.characteristics.claims import Claim
from analysis.characteristics.judgement import Judgement, group_table, remains
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import SMALLEST_GROUP
from analysis.figures.characteristics import feature_titles
from analysis.figures.theme import shortened
from analysis.report.content import Cell, Chart, Column, Section, Table, interval, number
from analysis.report.difficulty import TEXT_WIDTH
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.groups import SIGNIFICANCE, RankRegression
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Normalisation

READ = {Scope.ANSWER: "the answers", Scope.FULL: "prompts and answers"}
LIMITS = (
    f"A verdict on a claim needs at least {SMALLEST_GROUP} samples with a score in each group, a 95 % interval of "
    f"the difference that excludes 0, p below {SIGNIFICANCE:g} after Holm’s correction, and Cliff’s δ of the same "
    "sign. Everything else is “cannot tell”, which does not say that there is no difference.",
    "What goes with MRD need not cause it. The findings are about this model, these samples and these settings.",
    "The paper’s values were measured on another model with other noise: their direction compares, their size "
    "does not.",
)
LENGTH_CONFOUNDS = (
    "Long samples differ from short ones in nearly every feature and in MRD itself, so a feature may only seem "
    "tied to MRD because both follow length; what is left of its tie once length and the other features are held "
    "stands beside what it shows alone."
)


def claims(forget_set: Characterised, judgement: Judgement) -> Section:
    """Return the section on the claims and the groups that they are about."""
    about, settings = forget_set.about, forget_set.about.config.reading
    norms = sorted(judgement.claims, key=lambda norm: norm != judgement.chosen)
    forest = Chart(
        form="forest",
        title="Which groups differ in MRD (Cliff’s δ)",
        alt="Cliff’s delta of the groups of each criterion with its interval",
        table=str(judgement.chosen),
        y=("delta",),
        unit="Cliff’s δ (above 0: the first group has the larger MRD, and is easier)",
    )
    return Section(
        title="The paper’s claims and this model",
        text=(
            f"Read were {READ[settings.text]}, by {about.pipeline}. A rare word is outside the "
            f"{settings.common_words:,} most frequent words.",
        ),
        parts={
            str(norms[0]): _claims(judgement, norms[0]),
            "effects": forest,
            **{str(norm): _claims(judgement, norm) for norm in norms[1:]},
            "groups": _groups(forget_set, judgement),
        },
        notes=tuple(about.warnings),
    )


def length(forget_set: Characterised, judgement: Judgement) -> Section:
    """Return the section on what is left of each feature once length and the others are held."""
    regression, titles = judgement.regression, feature_titles(forget_set.about)
    explained = Table(
        caption="What they explain together",
        columns={"r2": Column(title="R²", form=".3f"), "n": Column(title="Samples")},
        rows={"All": {"r2": number(regression.r2), "n": regression.n}},
        is_listed=False,
    )
    forest = Chart(
        form="forest",
        title="Each feature’s tie to MRD, alone and with all others held",
        alt="Rank correlation of each feature with MRD and its coefficient with all others held, with intervals",
        table="regression",
        y=("alone", "held"),
        unit="Standardised, of ranks",
    )
    is_known = not pd.isna(regression.r2)
    return Section(
        title="Length, the rival explanation",
        text=(LENGTH_CONFOUNDS, *([f"Together they explain R² = {regression.r2:.2f} of its ranks."] * is_known)),
        parts={
            "regression": _regression(regression, titles),
            "ties": forest,
            "explained": explained,
            "correlations": _tied(judgement, titles),
        },
        notes=tuple(f"{titles.get(name, name)} is no term: {why}." for name, why in regression.dropped.items()),
    )


def _regression(regression: RankRegression, titles: dict[str, str]) -> Table:
    return Table(
        caption=f"Rank regression of MRD on length and the features, standardised, over {regression.n} samples",
        head="Feature",
        columns={
            "alone": Column(title="Alone: Spearman’s ρ [95 %]", form="+.2f"),
            "held": Column(title="All others held [95 %]", form="+.2f"),
            "vif": Column(title="Variance inflation", form=".2f"),
        },
        rows={
            term.name: {
                "alone": interval(term.alone),
                "held": interval(term.coefficient),
                "vif": number(term.vif),
            }
            for term in regression.terms
        },
        titles=titles,
    )


_COLUMNS = {
    "groups": Column(title="Groups"),
    "difference": Column(title="Difference in means [95 %]", form="+.3g"),
    "delta": Column(title="Cliff’s δ [95 %]", form="+.2f"),
    "p_holm": Column(title="p (Holm)", form=".2g"),
    "length_held": Column(title="Length held [95 %]", form="+.2f"),
    "verdict": Column(title="Verdict"),
}


def _claims(judgement: Judgement, norm: Normalisation) -> Table:
    """Return the claims under a normalisation."""
    rows: dict[str, dict[str, Cell]] = {}
    for claim in judgement.claims[norm]:
        left = remains(judgement, claim, norm)
        held = Estimate(left["length_held"], left["length_held_low"], left["length_held_high"])
        rows[claim.criterion.name] = {
            "says": claim.criterion.claim_text,
            "groups": _sizes(claim),
            "n_high": claim.n_high,
            "n_low": claim.n_low,
            "difference": interval(claim.comparison.difference if claim.comparison else UNDEFINED),
            "delta": interval(claim.comparison.cliffs_delta if claim.comparison else UNDEFINED),
            "p_holm": number(claim.p_holm),
            "length_held": interval(held),
            "verdict": claim.verdict,
            "reason": claim.reason,
        }
    return Table(
        caption=f"The claims, MRD as the {norm} over tokens; differences are the first group less the second",
        head="Criterion",
        columns=_COLUMNS | ({"says": Column(title="The paper says")} if norm is judgement.chosen else {}),
        rows=rows,
        titles={claim.criterion.name: claim.criterion.title for claim in judgement.claims[norm]},
    )


def _sizes(claim: Claim) -> str:
    if not claim.feature:
        return claim.reason
    criterion = claim.criterion
    return f"{criterion.high} ({claim.rule}): {claim.n_high}, {criterion.low}: {claim.n_low}"


def _groups(forget_set: Characterised, judgement: Judgement) -> Table:
    """Return mean and median MRD of every group, with samples that are typical of it."""
    answers = forget_set.table.set_index("sample_id")["answer"]
    titles = {claim.criterion.name: claim.criterion.title for claim in judgement.shown}
    rows: dict[str, dict[str, Cell]] = {}
    for side in group_table(forget_set, judgement).to_dict(orient="records"):
        examples = (f"{shortened(at, 40)}: {shortened(answers[at], TEXT_WIDTH)}" for at in side["examples"][:1])
        rows[f"{titles[side['criterion']]}: {side['group']}"] = {
            "n": side["n"],
            "mean": interval(Estimate(side["mean_mrd"], side["low"], side["high"])),
            "median": number(side["median_mrd"]),
            "paper": number(side["paper_mrd"]),
            "example": "".join(examples),
        }
    return Table(
        caption=f"MRD ({judgement.chosen} over tokens) by group; a typical sample is nearest to the median",
        head="Group",
        columns={
            "n": Column(title="Samples"),
            "mean": Column(title="Mean [95 %]"),
            "median": Column(title="Median"),
            "paper": Column(title="Paper’s"),
            "example": Column(title="Typical sample"),
        },
        rows=rows,
    )


def _tied(judgement: Judgement, titles: dict[str, str]) -> Table:
    """Return the rank correlations of MRD, length and the features with one another."""
    matrix = judgement.correlations
    rows: dict[str, dict[str, Cell]] = {
        str(name): {str(other): number(value) for other, value in row.items()}
        for name, row in matrix.to_dict(orient="index").items()
    }
    return Table(
        caption="Spearman’s rank correlations",
        head="",
        columns={str(name): Column(title=titles.get(str(name), str(name)), form="+.2f") for name in matrix},
        rows=rows,
        titles=titles,
    )
