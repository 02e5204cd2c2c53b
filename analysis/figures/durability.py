"""Plotly figures of what comes back: a model keeps its colour and dash in all of them, the reference is grey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.difficulty import TERCILES
from analysis.evidence.forecast import Forecast
from analysis.evidence.kinds.durability import ATTACK_NAMES, Durability
from analysis.evidence.returns import ALL
from analysis.figures import theme
from analysis.statistics.wording import with_ends
from mrd_core.experiments.kinds.durability import REFERENCE

REFERENCE_STYLE = theme.Style(theme.GREY, "dot", "x")
FAINT = 0.15
# Models side by side where their values are of one kind.
DODGE = 0.12
# Columns of an estimate with its ends.
Ends = tuple[str, str, str]
STILL: Ends = ("still", "low", "high")
# Of a look's distance: how far what was found at the last look is drawn on.
BEYOND = 0.5


def styles(evidence: Durability) -> dict[str, theme.Style]:
    """Return how each model is drawn, by its id."""
    own = theme.styles(model for model in evidence.names if model != REFERENCE)
    return own | {REFERENCE: REFERENCE_STYLE}


def still_forgotten(evidence: Durability, model: str, attack: str) -> go.Figure:
    """Return the share of samples that are still forgotten over steps: all, and each third by difficulty.

    Args:
        evidence: What the experiment shows.
        model: The unlearning run, by its id.
        attack: What it was trained on.
    """
    table = evidence.survival[evidence.survival["attack"] == attack]
    looks = _places(evidence)
    figure = go.Figure()
    colours = dict(zip(TERCILES, theme.HARD_TO_EASY, strict=True))
    for at, group in enumerate((ALL, *TERCILES)):
        rows = table[(table["model"] == model) & (table["group"] == group)]
        if len(rows):
            colour = colours.get(group, theme.BLUE)
            about = f"{group}, n = {rows['n'].iloc[0]:.0f}"
            if group == ALL:
                figure.add_trace(_band(_along(rows, looks), _prolonged(rows), STILL, colour, stepped=True))
            figure.add_trace(_survivors(rows, looks, about, theme.Style(colour, theme.DASHES[at % 4], "")))
    reference = table[(table["model"] == REFERENCE) & (table["group"] == ALL)]
    if len(reference):
        about = f"reference, n = {reference['n'].iloc[0]:.0f}"
        figure.add_trace(_survivors(reference, looks, about, REFERENCE_STYLE))
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".0%")
    note = "thirds by MRD, hard: small; band: 95\u00a0% of all; known to the look only"
    heading = f"Still forgotten, trained on {ATTACK_NAMES[attack]}"
    return theme.framed(_over_looks(figure, looks), heading, note, "Steps", "Still forgotten")


def memorization_over_steps(evidence: Durability, attack: str) -> go.Figure:
    """Return mean MA of the forgotten samples above that of the retain set, model by model.

    Args:
        evidence: What the experiment shows.
        attack: What they were trained on.
    """
    curves, looks = evidence.curves[evidence.curves["attack"] == attack], _places(evidence)
    has_retain = curves["retain"].notna().any()
    figure = theme.panels("MA of what was<br>forgotten", "Retain MA", "Steps") if has_retain else go.Figure()
    place: dict[str, int] = {"row": 1, "col": 1} if has_retain else {}
    for model, rows, style in _by_model(curves, evidence):
        x = rows["step"].map(looks)
        figure.add_trace(_band(x, rows, ("accuracy", "low", "high"), style.colour), **place)
        curve = theme.line(
            x,
            rows["accuracy"],
            style.colour,
            f"<b>{theme.labelled(evidence.names[model])}</b><br>after %{{customdata[0]}} steps<br>MA %{{y:.3f}} "
            "[%{customdata[1]:.3f}, %{customdata[2]:.3f}], n = %{customdata[3]}",
            dash=style.dash,
            mode="lines+markers",
            marker={"symbol": style.symbol, "size": 7},
            name=theme.labelled(evidence.names[model]),
            legendgroup=model,
            showlegend=True,
            customdata=rows[["step", "low", "high", "n"]].to_numpy(object),
        )
        figure.add_trace(curve, **place)
        if has_retain:
            hover = f"<b>{theme.labelled(evidence.names[model])}</b><br>retain MA %{{y:.3f}}"
            kept = theme.line(x, rows["retain"], style.colour, hover, dash=style.dash, showlegend=False)
            figure.add_trace(kept.update(legendgroup=model), row=2, col=1)
    dotted = {"color": theme.GREY, "dash": "dash", "width": 1}
    figure.add_hline(y=evidence.threshold, line=dotted, **place)
    figure.update_yaxes(range=[0, 1.03])
    note = f"bands: 95\u00a0% over samples; dashed: back from MA {evidence.threshold:g}"
    heading = f"What is known, trained on {ATTACK_NAMES[attack]}"
    titles = ("", "") if has_retain else ("Steps", "MA of what was forgotten")
    height = theme.TWO_PANELS if has_retain else theme.HEIGHT
    return theme.framed(_over_looks(figure, looks), heading, note, *titles, height=height)


def best_of_k(evidence: Durability) -> go.Figure:
    """Return leak@k, the ROUGE-L of the best of k drawn answers, over k."""
    figure = go.Figure()
    for model, rows, style in _by_model(evidence.leaks, evidence):
        hover = f"<b>{theme.labelled(evidence.names[model])}</b><br>best of %{{x}}: %{{y:.3f}}"
        figure.add_trace(_band(rows["k"], rows, ("leak", "low", "high"), style.colour))
        figure.add_trace(_marked_line(rows["k"], rows["leak"], evidence.names[model], style, hover))
    ticks = sorted(set(evidence.leaks["k"]))
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=list(map(str, ticks)))
    figure.update_yaxes(rangemode="tozero")
    drawn = f"; {evidence.leaks['n'].max():.0f} samples" if len(evidence.leaks) else ""
    note = f"leak@k, unbiased; bands: 95\u00a0% over samples{drawn}"
    return theme.framed(figure, "The best of k drawn answers", note, "Answers k", "ROUGE-L recall")


def rounded(evidence: Durability) -> go.Figure:
    """Return what rounding the weights adds to MA, model by model and by bits."""
    trips = evidence.round_trips
    figure = go.Figure()
    present = [model for model in evidence.names if model in set(trips["model"])]
    bits = sorted(set(trips["bits"]), reverse=True)
    for at, (model, rows, style) in enumerate(_by_model(trips, evidence)):
        shift = DODGE * (at - (len(present) - 1) / 2)
        figure.add_trace(
            theme.marks(
                rows,
                rows["bits"].map(bits.index) + shift,
                "recovery",
                ["name", "bits", "low", "high", "n", "nll"],
                "<b>%{text}</b>, %{customdata[1]:.0f} bits<br>MA %{y:+.3f} [%{customdata[2]:.3f}, "
                "%{customdata[3]:.3f}], n = %{customdata[4]}<br>NLL %{customdata[5]:+.3f}",
                name=theme.labelled(evidence.names[model]),
                marker={"color": style.colour, "symbol": style.symbol, "size": 10},
                error_y=theme.error_bars(rows["recovery"], rows["low"], rows["high"], style.colour),
                showlegend=True,
            )
        )
    figure.add_hline(y=0, line=theme.DOTTED)
    labels = [f"{number:.0f} bits" for number in bits]
    figure.update_xaxes(tickvals=list(range(len(bits))), ticktext=labels, range=[-0.5, len(bits) - 0.5])
    note = "MA of rounded weights less MA before; bars: 95\u00a0%; above 0: something comes back"
    return theme.framed(figure, "What rounding the weights brings back", note, "Weights rounded to", "MA rises by")


def begun_answers(evidence: Durability) -> go.Figure:
    """Return how much of an answer is written once its first tokens are given, and of a paraphrased question."""
    prompts = evidence.prompts
    given = sorted(set(prompts["given"].dropna()))
    figure = go.Figure()
    for at, (model, rows, style) in enumerate(_by_model(prompts, evidence)):
        places = rows["given"].map(lambda count: len(given) if np.isnan(count) else given.index(count))
        places += DODGE * at
        hover = f"<b>{theme.labelled(evidence.names[model])}</b><br>ROUGE-L %{{y:.3f}}"
        points = _marked_line(places, rows["rouge"], evidence.names[model], style, hover)
        bars = theme.error_bars(rows["rouge"], rows["low"], rows["high"], style.colour)
        # A paraphrase is no further token: no line leads there.
        figure.add_trace(points.update(error_y=bars, mode="markers"))
    labels = [f"{count:.0f} given" for count in given]
    if prompts["given"].isna().any():
        labels.append("paraphrased")
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels)
    figure.update_yaxes(rangemode="tozero")
    note = "of what is left of the answer; bars: 95\u00a0% over samples"
    return theme.framed(figure, "Once the answer is begun", note, "Tokens of the answer", "ROUGE-L recall")


def left_and_end(evidence: Durability, model: str, attack: str, selected: str | None = None) -> go.Figure:
    """Return MA at the last look against MA left by unlearning, a point a sample; above the dotted line it rose.

    The customdata of a point begins with its sample_id.

    Args:
        evidence: What the experiment shows.
        model: The unlearning run, by its id.
        attack: What it was trained on.
        selected: The sample that gets a ring.
    """
    samples = evidence.attacked(model, attack)
    figure = go.Figure(theme.identity([1.0]))
    for is_back, name, colour, symbol in (
        (True, "back", theme.ORANGE, "diamond"),
        (False, "away", theme.BLUE, "circle"),
    ):
        rows = samples[samples["back"] == is_back]
        figure.add_trace(
            theme.marks(
                rows,
                "left",
                "end",
                ["sample_id"],
                f"<b>%{{text}}</b>: {name}<br>MA left %{{x:.2f}}, at the last look %{{y:.2f}}",
                name=f"{name} ({len(rows)})",
                marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.8},
                showlegend=bool(len(rows)),
            )
        )
    ringed = samples[samples["sample_id"] == selected]
    figure.add_trace(theme.ring(ringed["left"], ringed["end"], colour=theme.PURPLE))
    figure.add_hline(y=evidence.threshold, line={"color": theme.GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(range=[-0.03, evidence.threshold + 0.03]).update_yaxes(range=[-0.03, 1.03])
    note = f"a point a sample; dashed: back from MA {evidence.threshold:g}; dotted: unchanged"
    heading = f"{theme.labelled(evidence.names[model], 30)}, trained on {ATTACK_NAMES[attack]}"
    return theme.framed(figure, heading, note, "MA left by unlearning", "MA at the last look", 400)


def calibration_plot(each: Forecast, name: str) -> go.Figure:
    """Return the share of samples that came back over the probability that was foretold for them, bin by bin.

    Args:
        each: What was foretold.
        name: Of the model.
    """
    bins = each.bins
    figure = go.Figure(theme.identity([1.0]))
    figure.add_trace(
        theme.line(
            bins["predicted"],
            bins["observed"],
            theme.BLUE,
            "foretold %{x:.0%}, came back %{y:.0%}<br>%{customdata} samples",
            mode="lines+markers",
            marker={"size": 9},
            error_y=theme.error_bars(bins["observed"], bins["low"], bins["high"], theme.BLUE),
            customdata=bins["n"],
            showlegend=False,
        )
    )
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%").update_yaxes(range=[-0.03, 1.03], tickformat=".0%")
    note = f"{with_ends(each.figures.auc, 'AUC')}; " if each.figures else ""
    note += "by models that did not see the sample; bars: 95\u00a0%; dotted: exact"
    heading = f"{theme.labelled(name, 30)}: foretold and observed"
    return theme.framed(figure, heading, note, "Probability of coming back", "Share that came back", 400)


def _places(evidence: Durability) -> Mapping[int, float]:
    """Return where along the axis each look stands: doubling steps evenly spaced, the first look one before."""
    return {look: float(np.log2(look)) if look else -1.0 for look in evidence.looks}


def _over_looks(figure: go.Figure, looks: Mapping[int, float]) -> go.Figure:
    return figure.update_xaxes(tickvals=list(looks.values()), ticktext=[str(look) for look in looks])


def _by_model(table: pd.DataFrame, evidence: Durability) -> Iterator[tuple[str, pd.DataFrame, theme.Style]]:
    """Yield the rows of each model that has any, with how it is drawn; the reference last."""
    drawn = styles(evidence)
    for model in evidence.names:
        rows = table[table["model"] == model]
        if len(rows):
            yield model, rows, drawn[model]


def _prolonged(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the looks with the last twice, so that the fall at the last is seen as a step."""
    return pd.concat([rows, rows.tail(1)])


def _along(rows: pd.DataFrame, looks: Mapping[int, float]) -> pd.Series[float]:
    """Return where the looks of a curve stand, and half a look behind them."""
    places = rows["step"].map(looks)
    return pd.concat([places, places.tail(1) + BEYOND])


def _survivors(rows: pd.DataFrame, looks: Mapping[int, float], name: str, style: theme.Style) -> go.Scatter:
    along, rows = _along(rows, looks), _prolonged(rows)
    curve = theme.line(
        along,
        rows["still"],
        style.colour,
        f"<b>{name}</b><br>after %{{customdata[0]:.0f}} steps<br>still forgotten %{{y:.0%}} %{{customdata[1]}}",
        dash=style.dash,
        name=name,
        showlegend=True,
        customdata=np.column_stack([rows["step"].astype(object), _ends(rows)]),
    )
    return curve.update(line_shape="hv")


def _ends(rows: pd.DataFrame) -> list[str]:
    """Return intervals in words, "" where there is none."""
    pairs = rows[["low", "high"]].itertuples(index=False, name=None)
    return ["" if np.isnan(low) else f"[{low:.0%}, {high:.0%}]" for low, high in pairs]


def _marked_line(x: Any, y: Any, name: str, style: theme.Style, hover: str) -> go.Scatter:
    marker = {"symbol": style.symbol, "size": 8, "color": style.colour}
    return theme.line(
        x,
        y,
        style.colour,
        hover,
        dash=style.dash,
        mode="lines+markers",
        marker=marker,
        name=theme.labelled(name),
        showlegend=True,
    )


def _band(
    x: pd.Series[float], rows: pd.DataFrame, columns: Ends, colour: str, *, stepped: bool = False
) -> go.Scatter:
    """Return the band of an interval; where there is none it is as thin as the value itself."""
    middle, low, high = columns
    below, above = (rows[name].fillna(rows[middle]).to_numpy() for name in (low, high))
    along = x.to_numpy()
    if stepped:
        along, below, above = np.repeat(along, 2)[1:], np.repeat(below, 2)[:-1], np.repeat(above, 2)[:-1]
    return go.Scatter(
        x=[*along, *along[::-1]],
        y=[*above, *below[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=FAINT,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
