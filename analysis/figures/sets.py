"""Figures of one forget set in several runs."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.figures import theme
from analysis.figures.difficulty import sample_labels
from analysis.sets.same import Pair
from analysis.statistics.wording import in_figures


def agreement(table: pd.DataFrame, pair: Pair, letters: tuple[str, str]) -> go.Figure:
    """Return the MRD of each sample by one run against that by another.

    Args:
        table: Of `SameSet`.
        pair: The two runs.
        letters: What the page calls them.
    """
    x, y = f"mrd_{pair.first}", f"mrd_{pair.second}"
    rows = table.dropna(subset=[x, y])
    points = theme.marks(
        rows,
        x,
        y,
        ["sample_id", f"rank_{pair.first}", f"rank_{pair.second}"],
        f"%{{text}}<br>{letters[0]}: MRD %{{x:.4g}}, rank %{{customdata[1]}}<br>"
        f"{letters[1]}: MRD %{{y:.4g}}, rank %{{customdata[2]}}",
        kind=theme.points_of(len(rows)),
        text=sample_labels(rows),
        marker={"size": 8, "color": theme.BLUE, "opacity": 0.7},
    )
    figure = go.Figure(points)
    figure.update_xaxes(type=theme.axis_type(rows[x]))
    figure.update_yaxes(type=theme.axis_type(rows[y]))
    heading = f"{letters[0]} against {letters[1]}: {in_figures(pair.agreement)}"
    note = "Each point is a sample; on a rising curve both runs rank alike. Left and below: hard to unlearn."
    return theme.framed(figure, heading, note, f"MRD by {letters[0]}", f"MRD by {letters[1]}", 420)
