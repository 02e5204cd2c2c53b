"""Plotly figures of experiments. What colour tells, a mark, a dash or a label tells too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.evidence.kinds.parameter_change import PREDICTORS, ParameterChange
from analysis.evidence.kinds.selection import BALANCED, METRICS, RANDOM, Selection
from analysis.evidence.kinds.sensitivity import ENOUGH, Sensitivity
from analysis.evidence.kinds.theorem import Theorem
from analysis.evidence.kinds.validity import ArmEvidence
from analysis.evidence.league import SHORT_TITLES, short_title, title
from analysis.figures import theme
from analysis.statistics.censored import Agreement
from analysis.statistics.wording import finding, in_figures, with_ends
from mrd_core.scoring.measures import MEASURES

CENSORED_SYMBOL = "triangle-up-open"
# Of the league table: what family a measure is of.
FAMILIES = {
    "mrd": ("MRD", theme.BLUE, "circle"),
    "plain": ("one forward pass", theme.GREY, "square"),
    "gradient": ("gradient", theme.PURPLE, "cross"),
    "residue": ("left by unlearning", theme.GREEN, "triangle-up"),
    "length": ("length", theme.ORANGE, "diamond"),
    "imported": ("imported", theme.GREY, "x"),
    "combination": ("combined, cross-validated", theme.GREEN, "star"),
}
BAND = "rgba(138, 143, 152, 0.16)"
ROW_HEIGHT = 24
MANY_DECADES = 6


def updates_against(arm: ArmEvidence, measure: str, selected: str | None = None) -> go.Figure:
    """Return updates of each sample against a measure; open triangles are censored, they took more than that.

    The customdata of a point begins with its sample_id.

    Args:
        arm: Of `Validity.arms`.
        measure: Column of `MEASURES`.
        selected: The sample that gets a ring.
    """
    samples = arm.samples.dropna(subset=[measure, "updates"])
    forgotten, censored = samples[~samples["censored"]], samples[samples["censored"]]
    repeated = arm.samples["repeats"].max() > 1
    bars = theme.error_bars(forgotten["updates"], forgotten["least"], forgotten["greatest"]) if repeated else None
    exact = _samples(forgotten, measure, "forgotten", "%{y:.4g} updates")
    beyond = _samples(censored, measure, "censored: more than that", "not forgotten after %{y:.4g} updates")
    exact.update(marker={"color": theme.BLUE, "size": 8, "opacity": 0.8}, error_y=bars)
    beyond.update(
        marker={"color": theme.ORANGE, "symbol": CENSORED_SYMBOL, "size": 10, "line": {"width": 2}},
        visible=True if len(censored) else "legendonly",
    )
    ringed = samples[samples["sample_id"] == selected]
    figure = go.Figure([exact, beyond, theme.ring(ringed[measure], ringed["updates"])])
    rho = arm.league.rho(measure)
    note = in_figures(rho) if np.isfinite(rho.low) else ""
    axis = theme.with_unit(title(measure), MEASURES[measure].unit if measure in MEASURES else "")
    figure.update_yaxes(rangemode="tozero")
    heading = f"{arm.name}: {finding(rho, 'updates', short_title(measure))}"
    return theme.framed(figure, heading, note, axis, "Updates until forgotten")


def league_plot(table: pd.DataFrame, name: str, outcome: str = "updates") -> go.Figure:
    """Return |ρ| of every measure with its interval, the best on top, the sign at its side.

    The customdata of a mark begins with the measure. The interval is that of |ρ|: from 0 where that of ρ
    holds 0. The dotted line is length.

    Args:
        table: `League.table`.
        name: Of the arm, for the title.
        outcome: What the measures are held against.
    """
    measures = table.dropna(subset=["rho"]).iloc[::-1].reset_index(drop=True)
    figure = go.Figure()
    for family, (label, colour, symbol) in FAMILIES.items():
        relatives = measures[measures["family"] == family]
        if len(relatives):
            figure.add_trace(_league_marks(relatives, label, colour, symbol))
    length = measures.loc[measures["family"] == "length", "rho"].abs()
    if len(length):
        figure.add_vline(x=length.iloc[0], line={"color": theme.ORANGE, "dash": "dot", "width": 1.5})
    signs = np.where(measures["rho"] > 0, "+", "−")
    rows = zip(measures["measure"], signs, strict=True)
    titles = dict(zip(measures["measure"], measures["title"], strict=True))
    labels = [theme.labelled(f"{SHORT_TITLES.get(measure, titles[measure])} {sign}") for measure, sign in rows]
    figure.update_yaxes(tickvals=list(measures.index), ticktext=labels, showgrid=False)
    figure.update_xaxes(range=[-0.02, 1.02])
    note = f"|ρ| with {outcome}, bars: 95\u00a0% interval; behind each name the sign of ρ; dotted: length"
    height = 130 + ROW_HEIGHT * max(len(measures), 4)
    return theme.framed(
        figure, f"{theme.labelled(name)}: what predicts {outcome}", note, "|Spearman’s ρ|", height=height
    )


def predicted_against_observed(arm: ArmEvidence) -> go.Figure:
    """Return observed updates against those predicted by models that did not see the sample, with 90 % intervals.

    The customdata of a point begins with its sample_id. Empty without a combination.

    Args:
        arm: Of `Validity.arms`.
    """
    predicted = arm.samples.dropna(subset=["predicted"])
    figure = go.Figure(theme.identity(predicted["predicted"], predicted["updates"]))
    looks = ((False, "forgotten", "circle", theme.BLUE), (True, "censored", CENSORED_SYMBOL, theme.ORANGE))
    for censored, label, symbol, colour in looks:
        rows = predicted[predicted["censored"] == censored]
        figure.add_trace(
            theme.marks(
                rows,
                "predicted",
                "updates",
                ["sample_id", "low", "high"],
                "<b>%{text}</b><br>predicted %{x:.1f} [%{customdata[1]:.1f}, %{customdata[2]:.1f}]<br>"
                f"observed %{{y:.4g}} ({label})",
                name=f"{label} ({len(rows)})",
                marker={"color": colour, "symbol": symbol, "size": 9},
                error_x=theme.error_bars(
                    rows["predicted"], rows["low"], rows["high"].where(np.isfinite(rows["high"]))
                ),
                showlegend=bool(len(rows)),
            )
        )
    figure.update_yaxes(rangemode="tozero")
    note = "held-out predictions of cheap measures combined; bars: 90\u00a0% interval; dotted: exact"
    return theme.framed(
        figure, f"{arm.name}: predicted updates", note, "Predicted updates", "Observed updates", 400
    )


# Of more arms the cells of their agreement have no room for intervals.
MOST_WITH_ENDS = 4


def agreement_map(agreement: Agreement) -> go.Figure:
    """Return Spearman's ρ between the updates of every two arms as a matrix with its figures.

    Args:
        agreement: Of the arms.
    """
    pairs = agreement.pairs
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    cells = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    words, ends = (pd.DataFrame("", index=names, columns=names) for _ in range(2))
    for first, second, rho, low, high in pairs[["first", "second", "rho", "low", "high"]].itertuples(index=False):
        for row, column in ((first, second), (second, first)):
            cells.loc[row, column] = rho
            words.loc[row, column] = "–" if np.isnan(rho) else f"{rho:.2f}"
            ends.loc[row, column] = "" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
    roomy = len(names) <= MOST_WITH_ENDS
    figure = theme.matrix(
        cells,
        words,
        [theme.labelled(name) for name in names],
        "%{y} and %{x}<br>Spearman’s ρ %{z:.2f} %{customdata}",
        customdata=ends.to_numpy(),
        texttemplate="%{text}<br>%{customdata}" if roomy else "%{text}",
        colorbar={"thickness": 12},
    )
    note = "Spearman’s ρ of updates" + (", in brackets its 95\u00a0% interval" if roomy else "")
    if np.isfinite(agreement.kendalls_w.low):
        note += f"; of all, {with_ends(agreement.kendalls_w, 'Kendall’s W')}"
    return theme.framed(figure, _heading_of(pairs), note, height=160 + 60 * max(len(names), 2))


def _heading_of(pairs: pd.DataFrame) -> str:
    """Say whether arms order the samples alike: those whose interval lies above 0."""
    alike = int((pairs["low"] > 0).sum())
    if alike == len(pairs):
        return "Methods order the samples alike"
    return f"{alike} of {len(pairs)} pairs of methods order the samples alike"


def change_histogram(change: ParameterChange) -> go.Figure:
    """Return how the mean absolute parameter change is distributed over composites, arm over arm.

    Args:
        change: What the experiment shows.
    """
    figure = go.Figure()
    for arm, style in theme.styles(change.arms).items():
        bins = change.distribution[change.distribution["arm"] == arm]
        edges = np.append(bins["low"], bins["high"].iloc[-1:])
        outline = theme.line(
            np.repeat(edges, 2),
            [0, *np.repeat(bins["composites"], 2), 0],
            style.colour,
            f"<b>{theme.labelled(arm)}</b><br>change %{{x:.3g}}<br>%{{y}} composites",
            dash=style.dash,
            width=2,
            name=theme.labelled(arm),
            opacity=0.8,
            showlegend=True,
        )
        figure.add_trace(outline.update(fill="tozeroy"))
    figure.update_yaxes(rangemode="tozero")
    x = "Mean absolute change of a parameter"
    return theme.framed(figure, "How far the weights move", "over all parameters", x, "Composites")


def change_scatter(change: ParameterChange, predictor: str = "mean_mrd") -> go.Figure:
    """Return the mean absolute parameter change of each composite against what may predict it.

    The customdata of a point begins with the composite; open marks were not forgotten within the cap.

    Args:
        change: What the experiment shows.
        predictor: One of `parameter_change.PREDICTORS`.
    """
    figure = go.Figure()
    for arm, style in theme.styles(change.arms).items():
        composites = change.composites[change.composites["arm"] == arm]
        symbols = np.where(composites["censored"], f"{style.symbol}-open", style.symbol)
        figure.add_trace(
            theme.marks(
                composites,
                predictor,
                "mean_absolute_change",
                ["composite", "updates", "total_tokens"],
                f"<b>{theme.labelled(arm)}</b>, composite %{{customdata[0]}}<br>"
                f"{PREDICTORS[predictor]} %{{x:.4g}}<br>change %{{y:.4g}}<br>"
                "%{customdata[1]:.0f} updates, %{customdata[2]:.0f} tokens",
                name=theme.labelled(arm),
                marker={"color": style.colour, "symbol": symbols, "size": 8, "opacity": 0.75},
                showlegend=True,
            )
        )
    note = "a composite a point; open: not forgotten within the cap"
    heading = f"Parameter change and {PREDICTORS[predictor][0].lower()}{PREDICTORS[predictor][1:]}"
    return theme.framed(figure, heading, note, PREDICTORS[predictor], "Mean absolute change of a parameter")


def selection_strip(selection: Selection, metric: str, size: str) -> go.Figure:
    """Return a metric of every selection by method, random beside balanced; a line joins a selection's methods.

    Lines that cross are selections that order the methods differently. The customdata of a point begins with the
    selection.

    Args:
        selection: What the experiment shows.
        metric: One of `Selection.metrics`.
        size: single or group.
    """
    runs = selection.runs[selection.runs["size"] == size].dropna(subset=[metric])
    arms, titles = list(dict.fromkeys(runs["arm"])), ["Random", "Balanced by difficulty"]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, column_titles=titles, horizontal_spacing=0.12)
    figure.update_annotations(font_size=13)
    schemes = ((RANDOM, theme.BLUE, "circle"), (BALANCED, theme.ORANGE, "diamond"))
    for column, (scheme, colour, symbol) in enumerate(schemes, 1):
        for number, rows in runs[runs["scheme"] == scheme].groupby("selection"):
            by_arm = rows.set_index("arm").reindex(arms)
            figure.add_trace(_selection_line(by_arm, metric, number, colour, symbol), row=1, col=column)
    figure.update_xaxes(categoryorder="array", categoryarray=[_two_lines(arm) for arm in arms], showgrid=False)
    figure.update_yaxes(title=METRICS[metric], row=1, col=1)
    note = "a line a selection; crossing lines: the order flips; open: not forgotten within the cap"
    heading = f"{METRICS[metric].split(' [')[0]}, {'single samples' if size == 'single' else 'groups'}"
    drawn = theme.framed(figure, heading, note)
    # The titles of the panels stand between the note and the panels.
    return drawn.update_layout(margin_t=drawn.layout.margin.t + 26)


def sigma_curve(sensitivity: Sensitivity, normalisation: str = "mean") -> go.Figure:
    """Return the median of MRD/σ² against σ, quartiles as bars, the quadratic regime as a band, floors as lines.

    A floor is what rounding alone gives, divided by σ² as MRD is: where the curve lies on it, it is rounding.

    Args:
        sensitivity: What the experiment shows.
        normalisation: mean or sum.
    """
    figure, bands = go.Figure(), list[str]()
    sigmas, floors = (
        frame[frame["normalisation"] == normalisation] for frame in (sensitivity.sigmas, sensitivity.floors)
    )
    for at, dtype in enumerate(map(str, dict.fromkeys(sigmas["dtype"]))):
        rows = sigmas[sigmas["dtype"] == dtype]
        figure.add_trace(_ratio_line(rows, dtype, at))
        for floor in floors.loc[(floors["dtype"] == dtype) & (floors["floor"] > 0), "floor"]:
            hover = f"{dtype}: rounding alone gives MRD {floor:.2g}"
            rounding = theme.line(
                rows["sigma"], floor / rows["sigma"] ** 2, theme.COLOURS[at], hover, dash="dash", width=1.5
            )
            figure.add_trace(rounding.update(name=f"{dtype}, rounding alone", showlegend=True))
        regime = sensitivity.regimes[dtype, normalisation]
        if np.isfinite(regime.low):
            figure.add_vrect(x0=regime.low, x1=regime.high, fillcolor=BAND, line_width=0, layer="below")
            bands.append(dtype)
    figure.update_xaxes(type="log", dtick=1).update_yaxes(_decades(sigmas), type="log")
    regime_note = f"; band: MRD grows as σ² ({', '.join(bands)})" if bands else ""
    note = f"median over samples, bars: quartiles; dashed: rounding alone{regime_note}"
    y = f"MRD / σ² ({normalisation} over tokens)"
    return theme.framed(figure, "MRD against σ", note, "σ of the noise", y, theme.TWO_PANELS)


def evaluations_curve(sensitivity: Sensitivity, normalisation: str = "mean") -> go.Figure:
    """Return reliability of the ranking and median relative standard error against K, plain and antithetic.

    Args:
        sensitivity: What the experiment shows.
        normalisation: mean or sum.
    """
    figure = theme.panels("Reliability", "Median SE / MRD", "Forward evaluations K")
    evaluations = sensitivity.evaluations[sensitivity.evaluations["normalisation"] == normalisation]
    for at, mode in enumerate(map(str, dict.fromkeys(evaluations["mode"]))):
        rows = evaluations[evaluations["mode"] == mode]
        for row, column, form in ((1, "reliability", ".3f"), (2, "relative_se", ".1%")):
            curve = theme.line(
                rows["evaluations"],
                rows[column],
                theme.COLOURS[at],
                f"<b>{mode}</b>, K = %{{x}}<br>{column.replace('_', ' ')} %{{y:{form}}}",
                dash=theme.DASHES[at],
                mode="lines+markers",
                marker={"symbol": theme.SYMBOLS[at], "size": 8},
                name=mode,
                showlegend=row == 1,
            )
            figure.add_trace(curve.update(legendgroup=mode), row=row, col=1)
    figure.add_hline(y=ENOUGH, line={"color": theme.GREY, "dash": "dot"}, row=1, col=1)
    figure.update_yaxes(type="log", dtick="D2", tickformat=".2~%", row=2, col=1)
    note = f"of the {normalisation} over tokens; dotted: {ENOUGH:g}"
    return theme.framed(figure, "Reliability and error against evaluations", note, height=theme.TWO_PANELS)


def theorem_scatter(theorem: Theorem) -> go.Figure:
    """Return MRD/σ² against half the trace with both standard errors, and the line of identity.

    The customdata of a point begins with its sample_id.

    Args:
        theorem: What the experiment shows.
    """
    samples = theorem.samples
    errors = {"type": "data", "thickness": 1, "width": 0, "color": theme.GREY}
    figure = go.Figure(theme.identity(samples["half_trace"], samples["mrd"]))
    figure.add_trace(
        theme.marks(
            samples,
            "half_trace",
            "mrd",
            ["sample_id", "ratio", "n_tokens"],
            "<b>%{text}</b><br>half the trace %{x:.4g}<br>MRD/σ² %{y:.4g}<br>ratio %{customdata[1]:.3f}, "
            "%{customdata[2]:.0f} tokens",
            marker={"color": theme.BLUE, "size": 9},
            error_x=errors | {"array": samples["half_trace_se"]},
            error_y=errors | {"array": samples["mrd_se"]},
            showlegend=False,
        )
    )
    slope = theorem.slope.through_origin
    note = f"{with_ends(slope, 'slope', digits=3)}; " if np.isfinite(slope.low) else ""
    figure.update_yaxes(rangemode="tozero")
    x, y = "Half the trace, ½ |Σ Tr(Hₜ) / Pₜ|", "MRD / σ² (sum over tokens)"
    return theme.framed(figure, "Theorem 3.2", f"{note}bars: one standard error; dotted: equal", x, y, 400)


def _samples(rows: pd.DataFrame, measure: str, name: str, updates: str) -> go.Scatter:
    return theme.marks(
        rows,
        measure,
        "updates",
        ["sample_id", "repeats"],
        f"<b>%{{text}}</b><br>{updates}<br>{title(measure)} %{{x:.4g}}",
        name=f"{name} ({len(rows)})",
        showlegend=bool(len(rows)),
    )


def _league_marks(rows: pd.DataFrame, label: str, colour: str, symbol: str) -> go.Scatter:
    size = rows["rho"].abs()
    ends = np.sort(rows[["low", "high"]].abs().to_numpy(), axis=1)
    low = np.where((rows["low"] < 0) & (rows["high"] > 0), 0.0, ends[:, 0])
    return theme.marks(
        rows,
        size,
        rows.index.to_numpy(),
        ["measure", "rho", "low", "high", "partial", "cost", "n"],
        "<b>%{text}</b><br>ρ %{customdata[1]:.2f} [%{customdata[2]:.2f}, %{customdata[3]:.2f}], "
        "n = %{customdata[6]}<br>with length held %{customdata[4]:.2f}<br>"
        "cost %{customdata[5]:.0f} forward passes",
        name=label,
        marker={"color": colour, "symbol": symbol, "size": 10},
        error_x=theme.error_bars(size, low, ends[:, 1], colour),
        text=[theme.labelled(name) for name in rows["title"]],
        showlegend=True,
    )


def _selection_line(rows: pd.DataFrame, metric: str, number: object, colour: str, symbol: str) -> go.Scatter:
    return theme.line(
        [_two_lines(str(arm)) for arm in rows.index],
        rows[metric],
        colour,
        f"<b>%{{x}}</b>, selection %{{customdata[0]}}<br>{METRICS[metric]} %{{y:.4g}}<br>"
        "mean MRD %{customdata[1]:.4g}",
        width=1,
        mode="lines+markers",
        marker={"size": 9, "symbol": np.where(rows["censored"].eq(True), f"{symbol}-open", symbol)},
        opacity=0.8,
        customdata=[[number, mrd] for mrd in rows["mean_mrd"]],
        showlegend=False,
    )


def _decades(rows: pd.DataFrame) -> dict[str, Any]:
    """Return range and ticks of the axis of MRD/σ²: it holds what was measured, no floors far below."""
    ratios = rows[["ratio_q1", "ratio", "ratio_q3"]].to_numpy(np.float64)
    decades = np.log10(ratios[ratios > 0])
    if not decades.size:
        return {"dtick": 1}
    low, high = float(decades.min()) - 0.5, float(decades.max()) + 0.5
    return {"range": [low, high], "dtick": 1 if high - low <= MANY_DECADES else 2}


def _ratio_line(rows: pd.DataFrame, dtype: str, at: int) -> go.Scatter:
    return theme.line(
        rows["sigma"],
        rows["ratio"].where(rows["ratio"] > 0),
        theme.COLOURS[at],
        f"<b>{dtype}</b>, σ %{{x:.1e}}<br>MRD/σ² %{{y:.4g}}, MRD %{{customdata[0]:.3g}}<br>"
        "ρ with the reference %{customdata[1]:.2f}<br>median SE / MRD %{customdata[2]:.1%}",
        name=dtype,
        mode="lines+markers",
        marker={"symbol": theme.SYMBOLS[at], "size": 8},
        error_y=theme.error_bars(rows["ratio"], rows["ratio_q1"], rows["ratio_q3"], theme.COLOURS[at]),
        customdata=rows[["mrd", "rho", "relative_se"]].to_numpy(object),
        showlegend=True,
    )


def _two_lines(arm: str) -> str:
    """Return the name of an arm with its optimiser below its method."""
    return theme.labelled(arm).replace(" (", "<br>(")
