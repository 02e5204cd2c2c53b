"""Plotly figures of the characteristics: groups, features, and two scored sets side by side."""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.characteristics.claims import Claim
from analysis.characteristics.files import About
from analysis.characteristics.strata import numbers
from analysis.features.feature import Bins
from analysis.figures import theme
from analysis.figures.difficulty import MOST_POINTS, MRD_TITLE, sample_labels
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.groups import GroupComparison, RankRegression
from mrd_core.arrays import FloatArray

LOW_COLOUR, HIGH_COLOUR = theme.BLUE, theme.ORANGE
LABEL_WIDTH = 18

# Of a sample's answer on a point, and points of a panel: five panels are sent at once.
ANSWER_WIDTH = 40
MOST_PANEL_POINTS = 1_000

# Of a panel whose title stands beside it, and of the room above it for the tool bar [pixels].
PANEL_HEIGHT, TOOLS = 260, 30

FADED = 0.12
QUANTILE_BINS = 12
MOST_COUNT_BINS = 40


def feature_titles(about: About) -> dict[str, str]:
    """Return the title of each feature, and that of MRD, by column."""
    return {"mrd": "MRD", "n_tokens": "Length"} | {
        name: feature["title"] for name, feature in about.features.items()
    }


def axis_titles(about: About) -> dict[str, str]:
    """Return the title of each feature with its unit in brackets, and that of MRD, by column."""
    units = {"n_tokens": "tokens"} | {name: feature["unit"] for name, feature in about.features.items()}
    return {name: theme.with_unit(title, units.get(name, "")) for name, title in feature_titles(about).items()}


def effect(comparison: GroupComparison) -> str:
    """Say in one line by how much two groups differ: the difference in means with its interval, Cliff's delta."""
    difference, delta = comparison.difference, comparison.cliffs_delta
    return f"difference {difference.value:+.3g} {interval(difference)} · δ {delta.value:+.2f}"


def interval(estimate: Estimate) -> str:
    """Return the ends of an interval in brackets."""
    return f"[{estimate.low:.3g}, {estimate.high:.3g}]"


def panel(table: pd.DataFrame, strata: pd.Series[str], claim: Claim, selected: set[str] | None) -> go.Figure:
    """Return the MRD of the two groups of a criterion, each a box beside all its samples.

    The customdata of a point is `[sample_id]`. A box ends at the quartiles, its whiskers at the 5th and 95th
    percentile; its dashed line is the mean.

    Args:
        table: A row per sample: sample_id, answer, mrd and the column that measures the criterion.
        strata: Group of each row, "high", "low" or missing; the index of `table`.
        claim: The criterion, and how its groups compare.
        selected: Ids of the samples that stand out; all where None.
    """
    figure = go.Figure()
    names = {"low": claim.criterion.low, "high": claim.criterion.high}
    sizes = {}
    for place, (side, colour) in enumerate((("low", LOW_COLOUR), ("high", HIGH_COLOUR))):
        group = table[(strata == side) & table["mrd"].notna()]
        sizes[side] = len(group)
        if len(group):
            figure.add_trace(_box(group["mrd"], place, colour))
            most = -(-MOST_PANEL_POINTS * len(group) // max(len(table), MOST_PANEL_POINTS))
            figure.add_trace(_beside(theme.evenly(group, most), claim, place, colour, selected, len(table)))
    labels = [f"{names[side]}<br>({size})" for side, size in sizes.items()]
    figure.update_xaxes(tickvals=[0, 1], ticktext=labels, range=[-0.55, 1.55], showgrid=False, zeroline=False)
    note = "one group is empty"
    if claim.comparison is not None:
        verdict = claim.verdict if claim.verdict == "cannot tell" else f"{claim.verdict} with the paper"
        note = f"{effect(claim.comparison)}<br>{verdict}"
    return theme.framed(figure, claim.criterion.title, note, y=MRD_TITLE)


def untitled(figure: go.Figure) -> go.Figure:
    """Return a panel without its title, which stands beside it on the page; changed in place."""
    return figure.update_layout(title=None, margin_t=TOOLS, height=PANEL_HEIGHT)


def heat_map(correlations: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Return the matrix of Spearman correlations, its colours fixed to −1 … 1.

    Args:
        correlations: Square, a feature per row and column.
        titles: Of the features, by column.
    """
    names = [titles.get(name, name) for name in map(str, correlations)]
    cells = correlations.map(lambda rho: "" if math.isnan(rho) else f"{rho:.2f}")
    figure = theme.matrix(
        correlations,
        cells,
        [theme.labelled(name) for name in names],
        "%{y}<br>and %{x}<br>Spearman’s ρ %{z:.2f}",
        y=[_wrapped(name) for name in names],
        colorbar={"thickness": 12, "tickvals": [-1, -0.5, 0, 0.5, 1]},
        hoverongaps=False,
    )
    figure.update_xaxes(tickangle=-45)
    height = 190 + 44 * len(correlations)
    return theme.framed(
        figure, "How MRD and the features go together", "Spearman’s rank correlation ρ", height=height
    )


def scatter(
    table: pd.DataFrame, x: str, y: str, titles: Mapping[str, str], selected: set[str] | None
) -> go.Figure:
    """Return two features against each other, MRD as the colour, clipped at its 2nd and 98th percentile.

    The customdata of a point is `[sample_id]`. An axis is logarithmic where all values are positive and the
    largest is at least a hundred times the smallest.

    Args:
        table: A row per sample: sample_id, answer, mrd, `x` and `y`.
        x: Column of the horizontal axis.
        y: Column of the vertical axis.
        titles: Of the axes, by column.
        selected: Ids of the samples that stand out; all where None.
    """
    whole = table.dropna(subset=["mrd", x, y])
    defined = theme.evenly(whole, MOST_POINTS)
    names = {axis: theme.labelled(titles.get(axis, axis)) for axis in (x, y)}
    marker = {
        "size": 9,
        "color": defined["mrd"],
        "colorscale": theme.colour_scale(theme.HARD_TO_EASY),
        "colorbar": {"title": "MRD<br>(small: hard)", "thickness": 12, "exponentformat": "power"},
        "line": {"width": 0.5, "color": theme.GREY},
    }
    if len(defined):
        marker["cmin"], marker["cmax"] = np.quantile(defined["mrd"], [0.02, 0.98])
    hover = f"%{{text}}<br>{names[x]} %{{x:.4g}}<br>{names[y]} %{{y:.4g}}<br>MRD %{{marker.color:.4g}}"
    figure = go.Figure(_points(defined, defined[x], defined[y], marker, hover, selected, len(defined)))
    figure.update_xaxes(type=theme.axis_type(defined[x])).update_yaxes(type=theme.axis_type(defined[y]))
    some = "" if len(defined) == len(whole) else f" of {len(whole):,}, evenly along the ranking"
    return theme.framed(
        figure, "Two features and MRD", f"{len(defined)} samples{some}", names[x], names[y], height=440
    )


def regression(regression: RankRegression, titles: Mapping[str, str]) -> go.Figure:
    """Return each term's tie to MRD, alone and with all others held, with 95 % intervals.

    Args:
        regression: Its terms, from the top down.
        titles: Of the terms, by name.
    """
    figure = go.Figure()
    terms = regression.terms
    figure.add_vline(x=0, line=theme.DOTTED)
    figure.add_trace(_dots("alone", [term.alone for term in terms], -0.14, theme.BLUE, "circle-open"))
    held = [term.coefficient for term in terms]
    figure.add_trace(_dots("with the others and length held", held, 0.14, theme.ORANGE, "diamond"))
    labels = [_wrapped(titles.get(term.name, term.name)) for term in terms]
    places = list(range(len(terms)))
    figure.update_yaxes(tickvals=places, ticktext=labels, range=[len(terms) - 0.5, -0.5], zeroline=False)
    figure.update_xaxes(zeroline=False)
    explained = f"R² {regression.r2:.2f} over {regression.n} samples" if terms else "no term could be fitted"
    ranks = "Ranks: SD of MRD per SD of the feature"
    height = 190 + 52 * len(terms)
    return theme.framed(figure, "What remains with length held", explained, x=ranks, height=height)


def two_sets(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], comparison: GroupComparison
) -> go.Figure:
    """Return the share of samples up to each MRD, a curve for each of two scored sets.

    The curve further right is that of the set that is easier to unlearn.

    Args:
        first: A row per sample: sample_id, answer, mrd.
        second: The same of the other set.
        names: Of the two sets.
        comparison: Of the first with the second.
    """
    figure = go.Figure()
    curves = zip("AB", names, (first, second), (HIGH_COLOUR, LOW_COLOUR), ("solid", "dash"), strict=True)
    for letter, name, table, colour, dash in curves:
        ranked = table.dropna(subset=["mrd"]).sort_values("mrd")
        count = len(ranked)
        curve = theme.line(
            ranked["mrd"],
            np.arange(1, count + 1) / max(count, 1),
            colour,
            "%{text}<br>MRD %{x:.4g}; %{y:.0%} of the samples have no larger one",
            dash=dash,
            name=f"{letter}: {theme.labelled(name)} ({count})",
            text=sample_labels(ranked),
        )
        figure.add_trace(curve.update(line_shape="hv"))
    figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    note = f"A − B: {effect(comparison)}"
    return theme.framed(figure, "Is A easier to unlearn than B?", note, MRD_TITLE, "Samples up to this MRD", 420)


def feature_histogram(values: pd.Series[float], title: str, unit: str, bins: Bins, level: float) -> go.Figure:
    """Return the histogram of a feature with the threshold above which a sample is high.

    Args:
        values: One per sample; missing ones are left out.
        title: Of the feature.
        unit: Its unit; "" for a pure number.
        bins: "counts" cuts at whole numbers; "quantiles" into equal shares of the samples, which are drawn as
            equal areas.
        level: The threshold; not marked where it is not finite.
    """
    defined = numbers(values)
    defined = defined[np.isfinite(defined)]
    edges, names = _bins(defined, bins)
    counts, _ = np.histogram(defined, edges)
    widths = np.diff(edges)
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts if bins == "counts" else counts / widths,
            width=widths,
            marker={"color": theme.GREEN, "line": {"width": 0.5, "color": theme.GREY}},
            customdata=list(zip(names, counts, strict=True)),
            hovertemplate="%{customdata[0]}: %{customdata[1]} samples<extra></extra>",
        )
    )
    if math.isfinite(level):
        _mark_threshold(figure, defined, level, bins)
    height = "Samples" if bins == "counts" else f"Samples per {unit or 'unit'}"
    missing = len(values) - len(defined)
    count = f"{len(defined)} samples" + (f", undefined for {missing} more" if missing else "")
    return theme.framed(figure, title, count, theme.labelled(theme.with_unit(title, unit)), height)


def _box(values: pd.Series[float], place: int, colour: str) -> go.Box:
    """Return a box that is drawn from its five numbers, so that it holds no points to select."""
    low, q1, median, q3, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    return go.Box(
        x=[place - 0.3],
        lowerfence=[low],
        q1=[q1],
        median=[median],
        q3=[q3],
        upperfence=[high],
        mean=[values.mean()],
        boxmean=True,
        width=0.22,
        line={"color": colour, "width": 1.5},
        hoverinfo="skip",
    )


def _beside(
    group: pd.DataFrame, claim: Claim, place: int, colour: str, selected: set[str] | None, total: int
) -> go.Scatter | go.Scattergl:
    """Return the samples of a group as points to the right of its box."""
    marker = {"color": colour, "size": 6 if total <= theme.MOST_VECTOR_POINTS else 3}
    # A number in [−0.5, 0.5) that is always the same for a sample.
    digests = [hashlib.blake2b(sample.encode(), digest_size=4).digest() for sample in group["sample_id"]]
    jitter = pd.Series([int.from_bytes(digest) / 2**32 - 0.5 for digest in digests], index=group.index)
    sideways = place + 0.1 + 0.5 * jitter
    hover = f"%{{text}}<br>MRD %{{y:.4g}}<br>{claim.criterion.title} %{{customdata[1]:.4g}}"
    rounded = group.assign(measured=[float(f"{value:.4g}") for value in group[claim.feature]])
    return _points(rounded, sideways, group["mrd"], marker, hover, selected, total, ["measured"])


def _points(
    table: pd.DataFrame,
    x: pd.Series[float],
    y: pd.Series[float],
    marker: dict[str, Any],
    hover: str,
    selected: set[str] | None,
    total: int,
    more: Sequence[str] = (),
) -> go.Scatter | go.Scattergl:
    return theme.marks(
        table,
        x,
        y,
        ["sample_id", *more],
        hover,
        kind=theme.points_of(total),
        marker={"opacity": 0.75} | marker,
        text=sample_labels(table, ANSWER_WIDTH),
        selectedpoints=None if selected is None else np.flatnonzero(table["sample_id"].isin(selected)),
        selected={"marker": {"opacity": 0.95}},
        unselected={"marker": {"opacity": FADED}},
    )


def _dots(name: str, estimates: list[Estimate], offset: float, colour: str, symbol: str) -> go.Scatter:
    value, low, high = np.array([estimate[:3] for estimate in estimates]).reshape(-1, 3).T
    return go.Scatter(
        x=value,
        y=[place + offset for place in range(len(estimates))],
        name=name,
        mode="markers",
        marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
        error_x=theme.error_bars(value, low, high, colour),
        customdata=[[interval(estimate)] for estimate in estimates],
        hovertemplate=f"{name}: %{{x:.2f}} %{{customdata[0]}}<extra></extra>",
    )


def _bins(values: FloatArray, bins: Bins) -> tuple[FloatArray, list[str]]:
    """Return the edges of the bins, and the values of each in words.

    Edges of counts lie halfway between whole numbers, each bin as many numbers wide as keeps the bins few; others
    part the values into equal shares, fewer where values repeat.
    """
    if bins == "counts":
        low, high = (math.floor(values.min()), math.ceil(values.max())) if values.size else (0, 0)
        step = math.ceil((high - low + 1) / MOST_COUNT_BINS)
        first = np.arange(low, high + 1, step)
        names = [f"{at}" if step == 1 else f"{at} to {at + step - 1}" for at in first]
        return np.append(first, first[-1] + step) - 0.5, names
    edges = np.unique(np.quantile(values, np.linspace(0, 1, QUANTILE_BINS + 1))) if values.size else np.arange(2.0)
    edges = edges if edges.size > 1 else edges[0] + np.array([-0.5, 0.5])
    return edges, [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]


def _mark_threshold(figure: go.Figure, values: FloatArray, level: float, bins: Bins) -> None:
    """Mark where high begins; among whole numbers that is halfway to the next one."""
    on_the_right = values.size > 0 and level > (values.min() + values.max()) / 2
    figure.add_vline(
        x=math.floor(level) + 0.5 if bins == "counts" else level,
        line={"color": theme.ORANGE, "width": 3},
        annotation_text=f"high: above {level:.3g}",
        annotation_position="top left" if on_the_right else "top right",
        annotation_xshift=-4 if on_the_right else 4,
        annotation_yshift=16,
    )


def _wrapped(text: str) -> str:
    return "<br>".join(escape(line, quote=False) for line in textwrap.wrap(text, LABEL_WIDTH))
