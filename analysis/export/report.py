"""All that was found about a scored forget set, in one HTML file that needs neither this program nor a network."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.characteristics.claims import Claim
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
from mrd_core.scoring.config import Formula, Normalisation

EXAMPLE_WIDTH = 110
# Tables of more columns scroll sideways on narrow screens.
LARGE = 4
COVERAGE = "95\N{NO-BREAK SPACE}%"

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


def report(found: Characterised, judgement: Judgement, title: str, generated: datetime) -> str:
    """Return everything that was found as one HTML page, light or dark as the reader's screen is.

    Every text of the samples and every name is escaped: they are a stranger's.

    Args:
        found: The forget set.
        judgement: What is concluded from it.
        title: Of the score run.
        generated: When, as the page says.
    """
    facts = [_Group((name,), [(value,)]) for name, value in _facts(found)]
    correlations = figures.heat_map(judgement.correlations, feature_titles(found.about))
    alt = "Spearman correlations of MRD, length and the features with each other"
    sections = (
        _section(
            "What was scored",
            _table("The samples, their scores, and how their texts were read.", ("What", "Value"), facts),
        ),
        _section("How to read MRD", f"<p>{escape(HOW_TO_READ)}</p>"),
        _claims(judgement),
        _groups(found, judgement),
        _regression(found, judgement),
        _section("Correlations", figure_html(correlations, "correlations", alt)),
        _measures(found, judgement),
        _section("Limits", f"<ul>{''.join(f'<li>{escape(limit)}</li>' for limit in LIMITS)}</ul>"),
    )
    heading = f"What makes a sample hard to unlearn: {escape(title)}"
    return document(heading, "".join(sections), generated)


def _facts(found: Characterised) -> Iterator[tuple[str, str]]:
    """Yield what was scored and how its texts were read: name and value."""
    variant, count, about = found.variant, len(found.table), found.about
    scored = int(found.table["mrd"].notna().sum())
    yield "Samples", f"{count}" if scored == count else f"{count}, {scored} of them with an MRD"
    yield "Score", f"{FORMULAS[variant.formula]}, {variant.normalisation} over {SCOPES[variant.scope]}"
    yield "Median relative standard error", f"{found.table['relative_se'].median():.1%}" if scored else NOTHING
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
    rows = []
    for at, claim in enumerate(judgement.shown):
        criterion = claim.criterion
        sizes = f"{criterion.high} ({claim.rule}): {claim.n_high}, {criterion.low}: {claim.n_low}"
        lines = (criterion.claim_text, criterion.note, sizes if claim.feature else "")
        by_normalisation = [_claim_row(judgement.claims[name][at], name) for name in normalisations]
        rows.append(_Group((criterion.title, "\n".join(filter(None, lines))), by_normalisation))
    columns = (
        "Criterion",
        "The paper says; groups",
        "MRD as",
        f"Difference in means [{COVERAGE}]",
        f"Cliff’s δ [{COVERAGE}]",
        "p (Holm)",
        "Verdict, and why",
    )
    caption = (
        "The paper’s claims held against this model, MRD as the mean or the sum over tokens. Difference: mean of "
        "the first group less that of the second."
    )
    return _section("The paper’s claims and this model", _table(caption, columns, rows))


def _claim_row(claim: Claim, normalisation: Normalisation) -> tuple[str, ...]:
    compared = claim.comparison
    return (
        str(normalisation),
        _estimate(compared.difference) if compared else NOTHING,
        _estimate(compared.cliffs_delta) if compared else NOTHING,
        "<\N{NO-BREAK SPACE}0.001" if claim.p_holm < 0.001 else _number(claim.p_holm),
        f"{claim.verdict}\n{claim.reason}",
    )


def _groups(found: Characterised, judgement: Judgement) -> str:
    panels, unmeasured = [], []
    for claim in judgement.shown:
        criterion = claim.criterion
        if claim.feature:
            panel = figures.panel(found.table, judgement.strata[criterion.name], claim, None)
            alt = f"MRD of the groups {criterion.low} and {criterion.high}, every sample a point"
            panels.append(figure_html(panel, f"panel-{criterion.name}", alt))
        else:
            unmeasured.append(f"<p>{escape(criterion.title)}: {escape(claim.reason)}</p>")
    return _section(
        "The groups",
        _group_table(found, judgement),
        f'<p class="soft">{escape(HOW_TO_READ_A_PANEL)}</p><div class="panels">{"".join(panels)}</div>',
        *unmeasured,
    )


def _group_table(found: Characterised, judgement: Judgement) -> str:
    sides = group_table(found, judgement).to_dict(orient="records")
    answers = found.table.set_index("sample_id")["answer"]
    groups = [
        _Group(
            (claim.criterion.title,),
            [_group_row(side, answers) for side in sides if side["criterion"] == claim.criterion.name],
        )
        for claim in judgement.shown
        if claim.comparison
    ]
    columns = (
        "Criterion",
        "Group",
        "Samples",
        f"Mean MRD [{COVERAGE}]",
        "Median MRD",
        "Paper’s MRD",
        "Typical samples",
    )
    caption = (
        f"MRD ({judgement.chosen} over tokens) by group. Typical samples are those nearest to the median of "
        "their group."
    )
    return _table(caption, columns, groups)


def _group_row(row: dict[Hashable, Any], answers: pd.Series[str]) -> tuple[str, ...]:
    mean = Estimate(row["mean_mrd"], row["low"], row["high"])
    examples = (f"{shortened(name, 40)}: {shortened(answers[name], EXAMPLE_WIDTH)}" for name in row["examples"])
    return (
        row["group"],
        str(row["n"]),
        _estimate(mean),
        _number(row["median_mrd"]),
        _number(row["paper_mrd"]),
        "\n".join(examples),
    )


def _regression(found: Characterised, judgement: Judgement) -> str:
    regression, titles = judgement.regression, feature_titles(found.about)
    rows = [
        _Group(
            (titles.get(term.name, term.name),),
            [(_estimate(term.alone), _estimate(term.coefficient), _number(term.vif))],
        )
        for term in regression.terms
    ]
    columns = (
        "Feature",
        f"Alone: Spearman’s ρ [{COVERAGE}]",
        f"All others held [{COVERAGE}]",
        "Variance inflation",
    )
    caption = (
        f"Rank regression of MRD on length and the features, standardised: R² {_number(regression.r2)} over "
        f"{regression.n} samples."
    )
    dropped = "".join(
        f"<li>{escape(f'{titles.get(name, name)}: {why}')}</li>" for name, why in regression.dropped.items()
    )
    return _section(
        "Length, the rival explanation",
        f"<p>{escape(LENGTH_CONFOUNDS)}</p>{_table(caption, columns, rows)}",
        f"<p>Left out of the regression:</p><ul>{dropped}</ul>" if dropped else "",
        figure_html(
            figures.regression(regression, titles),
            "regression",
            "Each feature’s tie to MRD, alone and with length held",
        )
        if regression.terms
        else "",
    )


def _measures(found: Characterised, judgement: Judgement) -> str:
    measures = measures_in(found.table)
    if not measures:
        return ""
    of_mrd, replicates = found.measured[judgement.chosen], replicates_for(len(found.table))
    rows = [
        _Group(
            (titles_of([measure])[measure.name],),
            [
                (
                    measure.help,
                    _number(float(found.table[measure.name].median())),
                    _estimate(tie(found.table, measure.name, of_mrd, replicates)),
                )
            ],
        )
        for measure in measures
    ]
    columns = ("Measure", "What it tells", "Median", f"Spearman’s ρ with MRD [{COVERAGE}]")
    caption = (
        f"Other measures of how hard a sample may be to unlearn, and how MRD ({judgement.chosen}) goes with them."
    )
    return _section("MRD beside other measures", _table(caption, columns, rows))


def _section(heading: str, *content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{''.join(content)}</section>\n"


def _table(caption: str, columns: Sequence[str], groups: Sequence[_Group]) -> str:
    """Return a table, every cell escaped; a line break in a cell is kept."""
    return table_html(caption, columns, map(_body, groups), large=len(columns) > LARGE)


def _body(group: _Group) -> str:
    size = len(group.rows)
    scope, span = ("rowgroup", f' rowspan="{size}"') if size > 1 else ("row", "")
    header, *shared = group.head
    first = f'<th scope="{scope}"{span}>{escape(header)}</th>' + "".join(
        f"<td{span}>{escape(cell)}</td>" for cell in shared
    )
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in group.rows)
    return f"<tbody>{''.join(f'<tr>{first * (at == 0)}{row}</tr>' for at, row in enumerate(rows))}</tbody>"


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or NOTHING


def _counts(counts: dict[str, int]) -> str:
    return _listed(f"{name}: {count}" for name, count in counts.items())


def _number(value: float | None) -> str:
    return NOTHING if value is None or pd.isna(value) else f"{value:.3g}"


def _estimate(estimate: Estimate) -> str:
    """Return a value above its interval, neither broken."""
    return f"{_number(estimate.value)}\n{interval(estimate)}".replace(" ", "\N{NO-BREAK SPACE}")
