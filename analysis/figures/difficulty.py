"""Plotly figures. Each says its unit, explains itself on hover, and reads in both themes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.difficulty import unsure_above
from analysis.figures import theme
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.wording import in_brackets
from mrd_core.scoring.measures import Measure

UNCERTAINTY, LOG_PROBABILITY = MAP_AXES = ("relative_se", "mean_log_prob")
AXIS_TITLES = {
    UNCERTAINTY: "Relative standard error (SE / MRD)",
    LOG_PROBABILITY: "Mean log-probability [nats per token]",
}
# What lies above and below the middle of an axis; beside other measures a region is only hard or easy.
REGIONS = {UNCERTAINTY: (", less sure", ", sure"), LOG_PROBABILITY: (", probable", ", improbable")}
MRD_TITLE = "MRD (small: hard to unlearn)"
ANSWER_WIDTH = 80
# More points cover each other, and make a page slow to come.
MOST_POINTS = 1_000
HISTOGRAM_BINS = 30


def titles_of(measures: Iterable[Measure]) -> dict[str, str]:
    """Return the title of each measure with its unit, by column."""
    return {measure.name: theme.with_unit(measure.title, measure.unit) for measure in measures}


def tie_in_words(tie: Estimate, of: str) -> str:
    """Say how two things go together, by a rank correlation with its interval."""
    if np.isnan(tie.value):
        return f"{of}: no rank correlation, for one of them does not vary or has too few values."
    return f"{of}: Spearman’s ρ = {in_brackets(tie)}."


def distribution(table: pd.DataFrame) -> go.Figure:
    """Return the histogram of MRD, with the median marked."""
    figure = _histogram(table["mrd"].dropna(), "MRD", theme.BLUE)
    return theme.framed(figure, "How MRD is distributed", x=MRD_TITLE, y="Samples")


def difficulty_map(
    table: pd.DataFrame,
    axis: str,
    selected: str | None,
    whole: pd.DataFrame | None = None,
    title: str | None = None,
) -> go.Figure:
    """Return MRD against its uncertainty, or against another measure, its regions named on the chart.

    Args:
        table: The samples to show.
        axis: Column that MRD is drawn against.
        selected: The sample that gets a ring.
        whole: All samples of the run, whose medians part the regions; `table` unless it is a part of them.
        title: Of the axis; needed for another one than `MAP_AXES`.
    """
    title = AXIS_TITLES[axis] if title is None else title
    defined = table.dropna(subset=["mrd", axis])
    samples = theme.evenly(defined, MOST_POINTS)
    bars = (
        theme.error_bars(samples["mrd"], samples["mrd_low"], samples["mrd_high"]) if len(samples) <= 100 else None
    )
    # No more digits than are read.
    rounded = {name: [float(f"{value:.4g}") for value in samples[name]] for name in ("mrd_low", "mrd_high")}
    figure = go.Figure(
        theme.marks(
            samples.assign(**rounded),
            "mrd",
            axis,
            ["sample_id", "rank", "mrd_low", "mrd_high", "n_tokens"],
            "%{text}<br>rank %{customdata[1]} (1 = hardest)<br>"
            "MRD %{x:.4g} (95 %: %{customdata[2]:.4g} to %{customdata[3]:.4g})<br>"
            f"{title} %{{y:.3g}}<br>%{{customdata[4]}} tokens",
            kind=go.Scattergl,
            marker={"color": theme.BLUE, "size": 8, "opacity": 0.75, "line": {"width": 0.5, "color": "white"}},
            error_x=bars,
            text=sample_labels(samples),
        )
    )
    whole = table if whole is None else whole
    if whole["mrd"].count() >= 4:
        _name_regions(figure, whole, axis)
    if selected is not None:
        figure.add_trace(_ring(defined, axis, selected))
    kind = "linear" if axis == UNCERTAINTY else theme.axis_type(whole[axis].dropna())
    if axis == UNCERTAINTY:
        figure.update_yaxes(tickformat=".2~%")
    # Fixed, so that a ring that is laid over the map stays where its sample is; a box is what looks closer.
    ends = defined[["mrd", "mrd_low", "mrd_high"]] if bars else defined["mrd"]
    figure.update_xaxes(range=theme.reach(ends), fixedrange=True)
    floor = 0.0 if axis == UNCERTAINTY else None
    figure.update_yaxes(type=kind, range=theme.reach(defined[axis], kind, floor), fixedrange=True)
    some = f"{len(samples):,} of {len(defined):,} samples, evenly along the ranking"
    note = some if len(samples) < len(defined) else ""
    return theme.framed(figure, "Difficulty map", note, x=MRD_TITLE, y=title)


def ring_over(figure: go.Figure, table: pd.DataFrame, axis: str, selected: str) -> go.Figure:
    """Return a figure to lay over a difficulty map: the ring around the selected sample, and nothing else.

    Args:
        figure: The map.
        table: The samples that it shows.
        axis: Column that MRD is drawn against.
        selected: The sample.
    """
    over = go.Figure(_ring(table, axis, selected), layout=figure.layout)
    unseen = {"color": theme.UNSEEN}
    for update in (over.update_xaxes, over.update_yaxes):
        # What is not seen takes its room all the same, so that both figures have the same margins.
        update(tickfont=unseen, title_font=unseen, showgrid=False, zeroline=False, showline=False, ticks="")
    # How other kinds of trace look is not needed.
    over.layout.template.data = {}
    over.layout.annotations = over.layout.shapes = []
    over.layout.title = None
    over.layout.paper_bgcolor = over.layout.plot_bgcolor = theme.UNSEEN
    return over


def _ring(table: pd.DataFrame, axis: str, selected: str) -> go.Scatter:
    row = table[(table["sample_id"] == selected) & table["mrd"].notna()]
    return theme.ring(row["mrd"], row[axis], go.Scattergl)


def precision_curve(metrics: pd.DataFrame, enough: float | None = None) -> go.Figure:
    """Return reliability and relative standard error so far, against the forward passes.

    Args:
        metrics: Columns step, name, value, as the run store gives them.
        enough: Reliability at which the run stops; None where it does not stop by that.
    """
    lines = {
        "reliability_sum": ("Reliability, sum", theme.GREEN),
        "reliability_mean": ("Reliability, mean", theme.BLUE),
        "median_relative_se": ("Median relative SE", theme.ORANGE),
    }
    figure = go.Figure()
    for name, (title, colour) in lines.items():
        points = metrics[metrics["name"] == name]
        hover = f"{title} %{{y:.3f}} at %{{x}} forward passes"
        along, values = points["step"], points["value"]
        figure.add_trace(theme.line(along, values, colour, hover, name=title, mode="lines+markers", width=None))
    figure.update_yaxes(rangemode="tozero")
    if enough is not None:
        words = f"a reliability of {enough:g} is enough"
        figure.add_hline(y=enough, line=theme.DOTTED, annotation_text=words, annotation_position="bottom right")
    return theme.framed(figure, "Reliability and error so far", x="Forward passes", y="Reliability; SE / MRD")


def relative_se_histogram(table: pd.DataFrame) -> go.Figure:
    """Return the histogram of relative standard errors with its median."""
    figure = _histogram(table["relative_se"].dropna(), "relative SE", theme.GREEN)
    figure.update_xaxes(tickformat=".2~%")
    return theme.framed(figure, "Relative standard errors", x="SE / MRD", y="Samples")


def _histogram(values: pd.Series[float], name: str, colour: str) -> go.Figure:
    """Return the histogram of values, their median marked."""
    hover = f"{name} %{{customdata}}<br>%{{y}} samples<extra></extra>"
    # Counted here: the values of a large set would be sent with every rerun of the page.
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS if len(values) else [])
    ranges = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    figure = go.Figure(
        go.Bar(x=middles, y=counts, width=widths, customdata=ranges, marker_color=colour, hovertemplate=hover)
    )
    if len(values):
        dashed = {"color": theme.GREY, "dash": "dash"}
        figure.add_vline(x=values.median(), line=dashed, annotation_text="median", annotation_yshift=14)
    return figure.update_layout(bargap=0.04)


def _name_regions(figure: go.Figure, table: pd.DataFrame, axis: str) -> None:
    figure.add_vline(x=table["mrd"].median(), line=theme.DOTTED)
    level = unsure_above(table) if axis == UNCERTAINTY else table[axis].median()
    figure.add_hline(y=level, line=theme.DOTTED)
    upper, lower = REGIONS.get(axis, ("", None))
    corner = {"xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 13, "color": theme.GREY}}
    for text, y, yanchor in ((upper, 0.99, "top"), (lower, 0.01, "bottom")):
        if text is not None:
            figure.add_annotation(text=f"hard{text}", x=0.01, xanchor="left", y=y, yanchor=yanchor, **corner)
            figure.add_annotation(text=f"easy{text}", x=0.99, xanchor="right", y=y, yanchor=yanchor, **corner)


def sample_labels(samples: pd.DataFrame, width: int = ANSWER_WIDTH) -> pd.Series[str]:
    """Return the id of each sample above its answer, both cut for a hover label."""
    answers = samples["answer"].map(lambda text: theme.labelled(text, width))
    return "<b>" + samples["sample_id"].map(theme.labelled) + "</b><br>" + answers
