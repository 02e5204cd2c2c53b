"""All that was found about a scored forget set, in one HTML file that needs neither this program nor a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from math import nan
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.characteristics.judgement import Judgement, group_table, replicates_for
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import SMALLEST_GROUP
from analysis.difficulty import measures_in, tie
from analysis.export.files import NOTHING, document, figure_html, table_html
from analysis.figures import characteristics as figures
from analysis.figures.characteristics import feature_titles, interval
from analysis.figures.difficulty import titles_of
from analysis.figures.theme import shortened
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.groups import SIGNIFICANCE
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula

EXAMPLE_WIDTH = 110
# Tables of more columns scroll sideways on narrow screens.
LARGE = 4
COVERAGE = "95\N{NO-BREAK SPACE}%"
_EFFECTS = (f"Difference in means [{COVERAGE}]", f"Cliff’s δ [{COVERAGE}]")

HOW_TO_READ = (
    "MRD (Memory Removal Difficulty) is how far the log-probability of a sample moves, relative to itself, when "
    "the model’s weights are shaken with small random noise. A small MRD means hard to unlearn, a large one easy."
)
HOW_TO_READ_A_PANEL = (
    "Every point is a sample. A box reaches from the first to the third quartile, its whiskers from the 5th to "
    "the 95th percentile; the line in it is the median, the dashed one the mean. δ is Cliff’s delta."
)
LENGTH_CONFOUNDS = (
    "Long samples differ from short ones in nearly every feature and in MRD itself, so a feature may only seem "
    "tied to MRD because both follow length; what is left of its tie once length and the other features are held "
    "is shown beside what it shows alone."
)
LIMITS = (
    f"A verdict is given only where each group has at least {SMALLEST_GROUP} samples with an MRD, the 95 % "
    "interval of the difference in means excludes 0, the Mann–Whitney p, corrected by Holm’s method for the "
    f"criteria that were tested, is below {SIGNIFICANCE:g}, and Cliff’s delta points the same way as the "
    "difference. Everything else is “cannot tell”, which does not say that there is no difference.",
    "The intervals are bootstrap intervals over the samples and over the noise that was drawn; they err on the "
    "wide side.",
    "What goes with MRD need not cause it. The findings are about this model, these samples and these settings.",
    "The paper’s values were measured on another model with other noise: their direction compares, their size "
    "does not.",
)
SCOPES = {Scope.ANSWER: "the tokens of the answer", Scope.FULL: "all tokens"}
READ = {Scope.ANSWER: "the answers", Scope.FULL: "prompts and answers"}
FORMULAS = {
    Formula.MRD: "MRD (|mean of relative changes|)",
    Formula.MEAN_ABSOLUTE: "mean absolute relative change",
    Formula.INITIAL: "absolute change, not relative",
}


class _Group(NamedTuple):
    """Rows of a table that share their first cells.

    Attributes:
        head: The shared cells; the first is the header of the rows.
        rows: The other cells of each row.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def report(forget_set: Characterised, judgement: Judgement, title: str, generated: datetime) -> str:
    """Return everything that was found as one HTML page, light or dark as the reader's screen is.

    Every text of the samples and every name is escaped: they are a stranger's.

    Args:
        forget_set: What is reported on.
        judgement: What is concluded from it.
        title: Of the score run.
        generated: When, as the page says.
    """
    facts = [_Group((name,), [(value,)]) for name, value in _facts(forget_set)]
    correlations = figures.heat_map(judgement.correlations, feature_titles(forget_set.about))
    alt = "Spearman correlations of MRD, length and the features with each other"
    sections = (
        _section(
            "What was scored",
            _table("The samples, their scores, and how their texts were read.", ("What", "Value"), facts),
        ),
        _section("How to read MRD", f"<p>{escape(HOW_TO_READ)}</p>"),
        _claims(judgement),
        _groups(forget_set, judgement),
        _regression(forget_set, judgement),
        _section("Correlations", figure_html(correlations, "correlations", alt)),
        _measures(forget_set, judgement),
        _section("Limits", f"<ul>{''.join(f'<li>{escape(limit)}</li>' for limit in LIMITS)}</ul>"),
    )
    heading = f"What makes a sample hard to unlearn: {escape(title)}"
    return document(heading, "".join(sections), generated)


def _facts(forget_set: Characterised) -> Iterator[tuple[str, str]]:
    """Yield what was scored and how its texts were read: name and value."""
    variant, count, about = forget_set.variant, len(forget_set.table), forget_set.about
    scored = int(forget_set.table["mrd"].notna().sum())
    yield "Samples", f"{count}" if scored == count else f"{count}, {scored} of them with an MRD"
    yield "Score", f"{FORMULAS[variant.formula]}, {variant.normalisation} over {SCOPES[variant.scope]}"
    yield (
        "Median relative standard error",
        f"{forget_set.table['relative_se'].median():.1%}" if scored else NOTHING,
    )
    settings, titles = about.config.reading, feature_titles(about)
    yield "Texts read", f"{READ[settings.text]}, in {about.seconds:.1f} s"
    yield "Pipeline", f"{about.pipeline} (labels: {about.scheme}): {about.pipeline_reason}"
    unlabelled, labelled = about.attachment or (nan, nan)
    attachment = f"unlabelled {unlabelled:.1%}, labelled {labelled:.1%}" if about.attachment else "not stated"
    yield "Attachment scores of its parser", attachment
    corpus = about.config.corpus
    yield "Training corpus", f"{Path(corpus.source).name}, {about.corpus_rows} rows" if corpus else NOTHING
    yield "Texts in other languages, not read", _counts(about.foreign)
    yield "Texts cut because of their length", str(about.cut)
    yield (
        "A rare word",
        f"is outside the {settings.common_words:,} most frequent words; proper names: {settings.names}, "
        f"words with a digit: {settings.numbers}",
    )
    yield "N-grams", f"of {settings.ngram} content words"
    yield "Parts of the complexity index", _listed(titles.get(part, part) for part in about.complexity_parts)
    left_out = (f"{titles.get(part, part)} ({reason})" for part, reason in about.complexity_left_out.items())
    yield "Left out of the index", _listed(left_out)
    yield "Spearman’s ρ of the index with length", _number(about.complexity_length_correlation)
    undefined = {titles.get(name, name): count for name, count in about.undefined.items() if count}
    yield "Features undefined for some samples", _counts(undefined)


def _claims(judgement: Judgement) -> str:
    normalisations = sorted(judgement.claims, key=lambda normalisation: normalisation != judgement.chosen)
    groups = []
    for at, claim in enumerate(judgement.shown):
        criterion, rows = claim.criterion, []
        sizes = f"{criterion.high} ({claim.rule}): {claim.n_high}, {criterion.low}: {claim.n_low}"
        lines = (criterion.claim_text, criterion.note, sizes if claim.feature else "")
        for norm in normalisations:
            held = judgement.claims[norm][at]
            effects = (held.comparison.difference, held.comparison.cliffs_delta) if held.comparison else ()
            p = "<\N{NO-BREAK SPACE}0.001" if held.p_holm < 0.001 else _number(held.p_holm)
            cells = map(_estimate, effects) if effects else (NOTHING, NOTHING)
            rows.append((str(norm), *cells, p, f"{held.verdict}\n{held.reason}"))
        groups.append(_Group((criterion.title, "\n".join(filter(None, lines))), rows))
    columns = ("Criterion", "The paper says; groups", "MRD as", *_EFFECTS, "p (Holm)", "Verdict, and why")
    caption = (
        "The paper’s claims held against this model, MRD as the mean or the sum over tokens. Difference: mean of "
        "the first group less that of the second."
    )
    return _section("The paper’s claims and this model", _table(caption, columns, groups))


def _groups(forget_set: Characterised, judgement: Judgement) -> str:
    panels, unmeasured = [], []
    for claim in judgement.shown:
        criterion = claim.criterion
        if claim.feature:
            panel = figures.panel(forget_set.table, judgement.strata[criterion.name], claim, None)
            alt = f"MRD of the groups {criterion.low} and {criterion.high}, every sample a point"
            panels.append(figure_html(panel, f"panel-{criterion.name}", alt))
        else:
            unmeasured.append(f"<p>{escape(criterion.title)}: {escape(claim.reason)}</p>")
    return _section(
        "The groups",
        _group_table(forget_set, judgement),
        f'<p class="soft">{escape(HOW_TO_READ_A_PANEL)}</p><div class="panels">{"".join(panels)}</div>',
        *unmeasured,
    )


def _group_table(forget_set: Characterised, judgement: Judgement) -> str:
    answers = forget_set.table.set_index("sample_id")["answer"]
    titles = {claim.criterion.name: claim.criterion.title for claim in judgement.shown}
    groups = []
    for name, sides in group_table(forget_set, judgement).groupby("criterion", sort=False):
        rows = []
        for side in sides.to_dict(orient="records"):
            examples = (f"{shortened(at, 40)}: {shortened(answers[at], EXAMPLE_WIDTH)}" for at in side["examples"])
            mean = _estimate(Estimate(side["mean_mrd"], side["low"], side["high"]))
            numbers = (str(side["n"]), mean, _number(side["median_mrd"]), _number(side["paper_mrd"]))
            rows.append((side["group"], *numbers, "\n".join(examples)))
        groups.append(_Group((titles[str(name)],), rows))
    mean = f"Mean MRD [{COVERAGE}]"
    columns = ("Criterion", "Group", "Samples", mean, "Median MRD", "Paper’s MRD", "Typical samples")
    caption = (
        f"MRD ({judgement.chosen} over tokens) by group. Typical samples are those nearest to the median of "
        "their group."
    )
    return _table(caption, columns, groups)


def _regression(forget_set: Characterised, judgement: Judgement) -> str:
    regression, titles = judgement.regression, feature_titles(forget_set.about)
    groups = [
        _Group(
            (titles.get(term.name, term.name),),
            [(_estimate(term.alone), _estimate(term.coefficient), _number(term.vif))],
        )
        for term in regression.terms
    ]
    alone, held = f"Alone: Spearman’s ρ [{COVERAGE}]", f"All others held [{COVERAGE}]"
    caption = (
        f"Rank regression of MRD on length and the features, standardised: R² {_number(regression.r2)} over "
        f"{regression.n} samples."
    )
    table = _table(caption, ("Feature", alone, held, "Variance inflation"), groups)
    reasons = (escape(f"{titles.get(name, name)}: {why}") for name, why in regression.dropped.items())
    dropped = "".join(f"<li>{reason}</li>" for reason in reasons)
    drawn = ""
    if regression.terms:
        alt = "Each feature’s tie to MRD, alone and with length held"
        drawn = figure_html(figures.regression(regression, titles), "regression", alt)
    return _section(
        "Length, the rival explanation",
        f"<p>{escape(LENGTH_CONFOUNDS)}</p>{table}",
        f"<p>Left out of the regression:</p><ul>{dropped}</ul>" if dropped else "",
        drawn,
    )


def _measures(forget_set: Characterised, judgement: Judgement) -> str:
    table, measures = forget_set.table, measures_in(forget_set.table)
    if not measures:
        return ""
    of_mrd, titles = forget_set.measured[judgement.chosen], titles_of(measures)
    groups = []
    for measure in measures:
        rho = tie(table, measure.name, of_mrd, replicates_for(len(table)))
        cells = (measure.help, _number(float(table[measure.name].median())), _estimate(rho))
        groups.append(_Group((titles[measure.name],), [cells]))
    columns = ("Measure", "What it tells", "Median", f"Spearman’s ρ with MRD [{COVERAGE}]")
    caption = (
        f"Other measures of how hard a sample may be to unlearn, and how MRD ({judgement.chosen}) goes with them."
    )
    return _section("MRD beside other measures", _table(caption, columns, groups))


def _section(heading: str, *content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{''.join(content)}</section>\n"


def _table(caption: str, columns: Sequence[str], groups: Sequence[_Group]) -> str:
    """Return a table, every cell escaped; a line break in a cell is kept."""
    bodies = []
    for group in groups:
        size, (header, *shared) = len(group.rows), group.head
        scope, span = ("rowgroup", f' rowspan="{size}"') if size > 1 else ("row", "")
        first = f'<th scope="{scope}"{span}>{escape(header)}</th>'
        first += "".join(f"<td{span}>{escape(cell)}</td>" for cell in shared)
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in group.rows)
        rows = (f"<tr>{first * (at == 0)}{row}</tr>" for at, row in enumerate(cells))
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    return table_html(caption, columns, bodies, large=len(columns) > LARGE)


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or NOTHING


def _counts(counts: dict[str, int]) -> str:
    return _listed(f"{name}: {count}" for name, count in counts.items())


def _number(value: float | None) -> str:
    return NOTHING if value is None or pd.isna(value) else f"{value:.3g}"


def _estimate(estimate: Estimate) -> str:
    """Return a value above its interval, neither broken."""
    return f"{_number(estimate.value)}\n{interval(estimate)}".replace(" ", "\N{NO-BREAK SPACE}")
