"""Figures of the page Learn."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.figures import theme

HALVES = {
    "relative_plus": ("θ + δ", theme.BLUE, "triangle-up"),
    "relative_minus": ("θ − δ", theme.ORANGE, "triangle-down"),
}


def pair(tokens: pd.DataFrame, ends: list[float], sigma: float) -> go.Figure:
    """Return how far each token of an answer moves under noise and under its opposite, and the mean of both.

    Args:
        tokens: A row per token: token, log_prob, relative_plus, relative_minus and relative.
        ends: Of the vertical axis, the same for all seeds, so that they can be told apart by eye.
        sigma: σ of the noise.
    """
    places = [
        f"{at} {theme.labelled(token.strip() or '␣', 12)}<br>{log_prob:.2g}".replace("-", "−")
        for at, (token, log_prob) in enumerate(tokens[["token", "log_prob"]].itertuples(index=False), 1)
    ]
    bars = go.Bar(
        x=places,
        y=tokens["relative"],
        name="mean of the pair",
        marker_color=theme.GREEN,
        customdata=tokens[["log_prob"]],
        hovertemplate="%{x}<br>mean %{y:.4f}<br>P %{customdata[0]:.4g} nats<extra></extra>",
    )
    figure = go.Figure(bars)
    for column, (name, colour, symbol) in HALVES.items():
        figure.add_trace(
            go.Scatter(
                x=places,
                y=tokens[column],
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 11},
                hovertemplate=f"%{{x}}<br>{name} %{{y:.4f}}<extra></extra>",
            )
        )
    figure.update_yaxes(range=ends, zeroline=True)
    heading = f"What the tokens do at σ = {sigma:g}"
    note = "Opposite noise moves a token in opposite directions; the bar is what is left of both."
    return theme.framed(figure, heading, note, "Token of the answer, and its P [nats]", "(P − P′) / P", 420)


def correlations(table: pd.DataFrame, heading: str, x: str, names: str = "characteristic") -> go.Figure:
    """Return rank correlations with their intervals, a row each.

    Args:
        table: A row per correlation: its name, rho, low, high.
        heading: Of the figure.
        x: Title of the axis.
        names: Column of the names.
    """
    figure = go.Figure(
        go.Scatter(
            x=table["rho"],
            y=[theme.labelled(name) for name in table[names]],
            mode="markers",
            marker={"size": 11, "color": theme.BLUE},
            error_x=theme.error_bars(table["rho"], table["low"], table["high"], theme.BLUE),
            hovertemplate="%{y}: ρ = %{x:.2f}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line=theme.DOTTED)
    figure.update_xaxes(range=[-1, 1])
    figure.update_yaxes(autorange="reversed")
    return theme.framed(figure, heading, "Bars are 95 % intervals.", x, height=150 + 44 * len(table))
