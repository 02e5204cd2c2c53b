"""Plotly figures of a comparison. A group has a colour and a symbol by its place; its seeds look alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.comparison.columns import COMPLETENESS, UTILITY
from analysis.comparison.strata import VALUE, ties
from analysis.comparison.table import Comparison
from analysis.difficulty import TERCILES
from analysis.figures.difficulty import MRD_TITLE
from analysis.figures.theme import DOTTED, HEIGHT, Style, axis_type, error_bars, framed, labelled, marks, styles
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.wording import finding, with_ends

FAINT = 0.35
# Between the groups of a stratum, in units of the distance of two strata.
WIDTH = 0.6


def tradeoff(comparison: Comparison, paths: pd.DataFrame | None = None) -> go.Figure:
    """Return completeness against utility, a point a run with its noise over samples: the best is upper right.

    The customdata of a point begins with the name of its run.

    Args:
        comparison: What was found.
        paths: See `analysis.comparison.paths.on_the_way`: a line a run.
    """
    figure, look = go.Figure(), styles(group.label for group in comparison.groups)
    for label, rows in _wide(comparison.runs).groupby("group", sort=False):
        style = look[str(label)]
        if paths is not None:
            for _, steps in paths[paths["run"].isin(rows["run"])].groupby("run", sort=False):
                figure.add_trace(_path(steps, style))
        figure.add_trace(_runs(rows, str(label), style))
    note = "a point a run, bars: 95\u00a0% over samples; upper right is best"
    if paths is not None and len(paths):
        # Looks during unlearning ask less than an evaluation, so a line need not end at its point.
        note += "; lines: on the way, on a sub-sample, answer string and ROUGE-L alone"
    return _framed(figure, "Forgotten and kept", note, "Utility (mean)", "Completeness (mean)", 440)


def strata(frame: pd.DataFrame, title: str = "Completeness") -> go.Figure:
    """Return a metric of each group by tercile of difficulty, with its 95 % interval over samples.

    The customdata of a point begins with the label of its group.

    Args:
        frame: See `analysis.comparison.strata.by_stratum`.
        title: Of the metric.
    """
    values = frame[frame["part"] == VALUE]
    look, figure = styles(values["group"]), go.Figure()
    for at, (label, style) in enumerate(look.items()):
        rows = values[values["group"] == label]
        figure.add_trace(
            marks(
                rows,
                rows["stratum"].map(TERCILES.index) + WIDTH * ((at + 0.5) / len(look) - 0.5),
                "value",
                ["group", "stratum", "low", "high", "n"],
                f"<b>{labelled(label)}</b>, %{{customdata[1]}}<br>%{{y:.3f}} [%{{customdata[2]:.3f}}, "
                "%{customdata[3]:.3f}], n = %{customdata[4]}",
                name=labelled(label),
                marker={"color": style.colour, "symbol": style.symbol, "size": 10},
                error_y=_bars(rows, "", style),
                showlegend=True,
            )
        )
    figure.update_xaxes(tickvals=[0, 1, 2], ticktext=list(TERCILES), range=[-0.5, 2.5])
    metric, note = labelled(title), "mean over seeds, bars: 95\u00a0% over samples"
    return _framed(figure, f"{metric} by difficulty", note, "Tercile of MRD (hard: smallest)", metric)


def change(frame: pd.DataFrame, title: str = "the metric") -> go.Figure:
    """Return how each sample changed against its MRD; the legend has Spearman's ρ with its interval.

    The customdata of a point begins with its sample_id.

    Args:
        frame: See `analysis.comparison.strata.change`.
        title: Of what changed.
    """
    # The baseline comes first everywhere, and keeps the others their colours.
    figure, look = go.Figure(), styles([*frame["against"].head(1), *frame["group"]])
    tied = ties(frame).set_index("group")
    for label, samples in frame.groupby("group", sort=False):
        rho = Estimate(*tied.loc[label, ["rho", "low", "high", "n"]])
        name, style = labelled(str(label)), look[str(label)]
        figure.add_trace(
            marks(
                samples,
                "mrd",
                "change",
                ["sample_id", "before", "after"],
                f"<b>%{{text}}</b><br>{name}: %{{customdata[1]:.3f}} → %{{customdata[2]:.3f}}<br>MRD %{{x:.4g}}",
                name=f"{name}: {with_ends(rho) if np.isfinite(rho.low) else 'no ρ'}",
                marker={"color": style.colour, "symbol": style.symbol, "size": 7, "opacity": 0.75},
                showlegend=True,
            )
        )
    figure.add_hline(y=0, line=DOTTED).update_xaxes(type=axis_type(frame["mrd"]))
    against = labelled(str(frame["against"].iloc[0])) if len(frame) else "the baseline"
    note = f"a point a sample, mean over seeds less {against}; ρ: Spearman’s, with MRD"
    heading = finding(rho, f"Changes of {labelled(title)}", "MRD") if len(tied) == 1 else "Change against MRD"
    return _framed(figure, heading, note, MRD_TITLE, f"Change of {labelled(title)}")


def _wide(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run with completeness and utility and their ends; runs that lack one are left out."""
    completeness, utility = (
        runs[runs["column"] == side].set_index(["group", "run"])[["value", "low", "high"]].add_prefix(f"{side}_")
        for side in (COMPLETENESS, UTILITY)
    )
    both = completeness.join(utility, how="inner").reset_index()
    return both.dropna(subset=["completeness_value", "utility_value"])


def _runs(rows: pd.DataFrame, label: str, style: Style) -> go.Scatter:
    return marks(
        rows,
        "utility_value",
        "completeness_value",
        ["run", "completeness_low", "completeness_high", "utility_low", "utility_high"],
        "<b>%{text}</b><br>completeness %{y:.3f} [%{customdata[1]:.3f}, %{customdata[2]:.3f}]<br>"
        "utility %{x:.3f} [%{customdata[3]:.3f}, %{customdata[4]:.3f}]",
        name=labelled(label),
        marker={"color": style.colour, "symbol": style.symbol, "size": 11},
        error_x=_bars(rows, "utility_", style),
        error_y=_bars(rows, "completeness_", style),
        showlegend=True,
    )


def _path(steps: pd.DataFrame, style: Style) -> go.Scatter:
    return marks(
        steps.sort_values("step"),
        "utility",
        "completeness",
        ["run", "step"],
        "<b>%{text}</b>, step %{customdata[1]}<br>completeness %{y:.3f}, utility %{x:.3f}",
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 1.5},
        marker={"size": 4},
        opacity=FAINT,
        showlegend=False,
    )


def _bars(rows: pd.DataFrame, prefix: str, style: Style) -> dict[str, Any]:
    value, low, high = (rows[f"{prefix}{name}"] for name in ("value", "low", "high"))
    return error_bars(value, low, high, style.colour)


def _framed(figure: go.Figure, heading: str, note: str, x: str, y: str, height: int = HEIGHT) -> go.Figure:
    """Frame a figure of groups: a group that is alone is named too."""
    return framed(figure, heading, note, x, y, height, fewest_entries=1, revision=heading)
