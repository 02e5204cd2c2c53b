"""Plotly figures of unlearning runs, live or done: one run, or several over each other.

A figure of several runs takes them by name (`analysis.unlearning.runs.run_name`). Runs of one setting that
differ in their seed look alike and share an entry of the legend: settings are compared, seeds are their spread.
A setting has a colour and a dash by its place among the settings, so keep the runs in their order from one redraw
to the next. All figures keep the zoom and what is hidden when they are drawn anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.difficulty import NO_MRD, TERCILES
from analysis.figures import theme
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.wording import finding
from analysis.unlearning.gradients import SHARES, THIRDS
from analysis.unlearning.runs import FORGOTTEN, IN_POOL, SMOOTHED_STEPS, grouped, setting_of, thinned
from mrd_core.unlearning.curves import Curve

StepAxis = Literal["step", "updates"]
STEP_TITLES: dict[StepAxis, str] = {"step": "Steps", "updates": "Updates (samples trained on)"}

STATE_COLOURS = {FORGOTTEN: theme.GREEN, IN_POOL: theme.ORANGE}
FAINT = 0.3


def losses(runs: Mapping[str, pd.DataFrame], other_terms: Collection[str] = ()) -> go.Figure:
    """Return the NLL of the forget samples drawn above what is measured on the retain set.

    The forget NLL is a running median over 20 steps, the retain NLL that of the probes. A run that is alone shows
    behind them, faint, what each step was trained on: the forget NLL of its batch, and its retain term.

    Args:
        runs: History of each run.
        other_terms: The runs whose retain term is no NLL, and is on no axis here.
    """
    figure = theme.panels("Forget NLL<br>[nats per token]", "Retain NLL<br>[nats per token]", STEP_TITLES["step"])
    for name, run, style in _styled(runs):
        smooth = pd.Series(np.nan, index=run.index)
        if Curve.FORGET_NLL in run:
            smooth = run[Curve.FORGET_NLL].rolling(SMOOTHED_STEPS, min_periods=1).median()
        steps = thinned(run.assign(smooth=smooth))
        if len(runs) == 1:
            _add(figure, _line(name, steps, Curve.FORGET_NLL, style, "this step %{y:.3f}", faint=True), 1)
            if name not in other_terms:
                _add(figure, _line(name, steps, Curve.RETAIN_LOSS, style, "retain term %{y:.3f}", faint=True), 2)
        _add(figure, _line(name, steps, "smooth", style, "forget %{y:.3f}", legend=True), 1)
        _add(figure, _line(name, steps, Curve.RETAIN_NLL, style, "retain probe %{y:.3f}", markers=True), 2)
    note = "rising: the forget set is forgotten, the retain set suffers"
    return _framed(figure, "Forget and retain loss", note, height=theme.TWO_PANELS)


def forgotten_over_steps(runs: Mapping[str, pd.DataFrame], x: StepAxis = "step") -> go.Figure:
    """Return how many samples were found forgotten, over steps or over updates.

    Args:
        runs: History of each run.
        x: What is counted along the axis.
    """
    figure = go.Figure()
    for name, run, style in _styled(runs):
        curve = _line(name, thinned(run), Curve.FORGOTTEN, style, "%{y} forgotten", legend=True, x=x)
        figure.add_trace(curve.update(line_shape="hv"))
    figure.update_yaxes(rangemode="tozero")
    note = "counted from the step that found it"
    return _framed(figure, "Samples forgotten", note, STEP_TITLES[x], "Samples")


def memorization(runs: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Return memorization accuracy (MA) of the forget set above that of the retain probes.

    The forget MA is the mean over all samples of the MA that each had when it was last looked at. Where the
    extraction likelihood (EL) was measured, its mean over the samples measured is a point in the upper panel.

    Args:
        runs: History of each run.
    """
    figure = theme.panels("Forget MA, EL", "Retain MA", STEP_TITLES["step"])
    for name, run, style in _styled(runs):
        steps = thinned(run)
        _add(figure, _line(name, steps, Curve.ACCURACY, style, "forget MA %{y:.1%}", legend=True), 1)
        extraction = _line(name, steps, Curve.EXTRACTION, style, "EL %{y:.1%} of those measured", markers=True)
        _add(figure, extraction.update(mode="markers", marker_symbol=f"{style.symbol}-open"), 1)
        _add(figure, _line(name, steps, Curve.RETAIN_ACCURACY, style, "retain MA %{y:.1%}", markers=True), 2)
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.03])
    return _framed(figure, "Memorization", "share of answer tokens; open marks: EL", height=theme.TWO_PANELS)


def evaluations(runs: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Return completeness above utility, each with the ROUGE-L recall that it partly rests on as open marks.

    Args:
        runs: Evaluations of each run, see `analysis.unlearning.runs.evaluated`.
    """
    figure = theme.panels("Completeness, forget ROUGE-L", "Utility, retain ROUGE-L", STEP_TITLES["step"])
    for name, run, style in _styled(runs):
        for row, whole, part in ((1, "completeness", "forget_rouge"), (2, "utility", "retain_rouge")):
            _add(figure, _line(name, run, whole, style, f"{whole} %{{y:.3f}}", markers=True, legend=row == 1), row)
            rouge = _line(name, run, part, style, "ROUGE-L recall %{y:.3f}", markers=True, faint=True)
            _add(figure, rouge.update(line_dash="dot", opacity=0.6, marker_symbol=f"{style.symbol}-open"), row)
    figure.update_yaxes(range=[-0.03, 1.03])
    return _framed(
        figure, "Evaluations on the way", "on a sub-sample; open marks: ROUGE-L", height=theme.TWO_PANELS
    )


def learning_rate(runs: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Return the learning rate of each step.

    Args:
        runs: History of each run.
    """
    figure = _lines(runs, Curve.LEARNING_RATE, "learning rate %{y:.3g}")
    figure.update_yaxes(rangemode="tozero")
    return _framed(figure, "Learning rate", "per step", STEP_TITLES["step"])


def memory(runs: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Return the memory in use: allocated on the GPU, or that of the process on the CPU.

    Args:
        runs: History of each run.
    """
    figure = _lines(runs, Curve.MEMORY, "%{y:,.0f} MB")
    figure.update_yaxes(rangemode="tozero")
    return _framed(figure, "Memory", "of the device [MB]", STEP_TITLES["step"], "MB")


def update_bars(standing: pd.DataFrame) -> go.Figure:
    """Return a bar of updates for each sample, hardest first, coloured by its state.

    The customdata of a bar begins with its sample_id.

    Args:
        standing: See `analysis.unlearning.runs.standing`.
    """
    figure = go.Figure(_bars(standing))
    for state, colour in STATE_COLOURS.items():
        # An empty trace, so that the legend explains the colour.
        name = f"{state} ({(standing['state'] == state).sum()})"
        figure.add_trace(go.Bar(x=[None], y=[None], marker_color=colour, name=name))
    figure.update_xaxes(range=[0.5, max(len(standing), 1) + 0.5], showgrid=False)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(barmode="overlay", bargap=0, legend_itemclick=False)
    forgotten = int((standing["state"] == FORGOTTEN).sum())
    note = f"{forgotten} of {len(standing)} samples forgotten · {standing['updates'].sum():,} updates"
    return _framed(figure, "Updates per sample", note, "Samples by MRD (1: smallest, hardest)", "Updates")


def updates_by_tercile(runs: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Return boxes of the updates of a sample by tercile of difficulty, a box for each setting.

    A box holds the samples of all runs of its setting; its dashed line is the mean.

    Args:
        runs: Standing of each run.
    """
    figure = go.Figure()
    for setting, style in theme.styles(map(setting_of, runs)).items():
        seeds = [run for name, run in runs.items() if setting_of(name) == setting]
        samples = pd.concat(seeds)
        figure.add_trace(
            go.Box(
                x=samples["tercile"],
                y=samples["updates"],
                name=theme.labelled(setting) + (f" ({len(seeds)} runs)" if len(seeds) > 1 else ""),
                legendgroup=setting,
                offsetgroup=setting,
                boxmean=True,
                boxpoints=False,
                line={"color": style.colour, "width": 1.5},
            )
        )
    terciles = [name for name in (*TERCILES, NO_MRD) if any(name in set(run["tercile"]) for run in runs.values())]
    figure.update_xaxes(categoryorder="array", categoryarray=terciles)
    figure.update_yaxes(rangemode="tozero").update_layout(boxmode="group")
    note, x = "box: quartiles, dashed: mean", "Tercile of MRD (hard: smallest)"
    return _framed(figure, "Updates by difficulty", note, x, "Updates per sample")


def gradient_by_tercile(shares: pd.DataFrame) -> go.Figure:
    """Return which third of the samples took the updates, and below it which took the gradient of the steps.

    A bar is the mean over the seeds of a setting, its line the 95 % interval of that; dotted is
    their share of the samples where all thirds have the same.

    Args:
        shares: See `analysis.unlearning.gradients.over_seeds`.
    """
    figure = theme.panels("Share of<br>the updates", "Share of<br>the gradient", "Third of the samples")
    for label, style in theme.styles(shares["label"]).items():
        rows = shares[shares["label"] == label]
        for place, name in enumerate(SHARES, 1):
            bar = go.Bar(
                x=rows["tercile"],
                y=list(rows[name]),
                error_y=theme.error_bars(rows[name], rows[f"{name}_low"], rows[f"{name}_high"]),
                marker_color=style.colour,
                customdata=rows[["even", f"{name}_seeds"]],
                hovertemplate=f"<b>{theme.labelled(label)}</b><br>%{{x}}: %{{y:.1%}} ({name}), of the samples "
                "%{customdata[0]:.1%}<br>seeds: %{customdata[1]}<extra></extra>",
                **_legend(label, place == 1),
            )
            figure.add_trace(bar, row=place, col=1)
    present = set(shares["tercile"])
    thirds = [name for name in (*TERCILES, *THIRDS, NO_MRD) if name in present]
    figure.update_xaxes(categoryorder="array", categoryarray=thirds)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%").update_layout(barmode="group")
    note = "of each measured step, which samples made up its gradient; every step counts the same"
    if shares["even"].nunique() == 1:
        figure.add_hline(y=shares["even"].iloc[0], line=theme.DOTTED)
        note += "; dotted: their share of the samples"
    return _framed(figure, "Who got the gradient", note, height=theme.TWO_PANELS)


def updates_against(
    outcome: pd.DataFrame, column: str, title: str, selected: str | None, tie: Estimate = UNDEFINED
) -> go.Figure:
    """Return the updates of each sample against a measure of how hard it was expected to be.

    A sample that was never found forgotten is an open mark: it would have needed more. The customdata of a point
    begins with its sample_id.

    Args:
        outcome: See `analysis.unlearning.runs.outcome`, and the column; and the texts of the answers.
        column: The measure.
        title: Of the measure.
        selected: The sample that gets a ring.
        tie: Spearman's ρ of the two over the whole set.
    """
    samples = outcome.dropna(subset=[column])
    forgotten = samples["forgotten_step"].notna()
    selected_row = samples[samples["sample_id"] == selected]
    figure = go.Figure(
        [
            _outcome_points(samples[forgotten], column, title, FORGOTTEN, "circle"),
            _outcome_points(samples[~forgotten], column, title, IN_POOL, "circle-open"),
            theme.ring(selected_row[column], selected_row["updates"], colour=theme.BLUE),
        ]
    )
    figure.update_xaxes(type=theme.axis_type(samples[column])).update_yaxes(rangemode="tozero")
    note = "a point is a sample; open: never forgotten"
    drawn = _framed(figure, finding(tie, "Updates", title.partition(" [")[0]), note, title, "Updates")
    return drawn.update_xaxes(exponentformat="power")


def realised_against_share(runs: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Return each sample's share of the draws so far against that expected at the start.

    The customdata of a point begins with its sample_id.

    Args:
        runs: Standing of each run.
    """
    figure = go.Figure(
        theme.identity(*(run[["share", "realised"]].to_numpy(np.float64).ravel() for run in runs.values()))
    )
    total = sum(map(len, runs.values()))
    for name, run, style in _styled(runs):
        figure.add_trace(
            theme.marks(
                run.dropna(subset=["realised"]),
                "share",
                "realised",
                ["sample_id", "draws", "mrd"],
                f"<b>%{{text}}</b><br>{theme.labelled(name)}<br>"
                "expected %{x:.3%}, drawn %{y:.3%} (%{customdata[1]} times)<br>MRD %{customdata[2]:.4g}",
                kind=theme.points_of(total),
                marker={"color": style.colour, "symbol": style.symbol, "size": 6, "opacity": 0.6},
                **_legend(name),
            )
        )
    figure.update_xaxes(tickformat=".2~%").update_yaxes(tickformat=".2~%")
    note = "below the dots: drawn less often, as samples are that left the pool"
    x, y = "Expected share of the draws", "Share of the draws so far"
    return _framed(figure, "Shares of the draws: expected and so far", note, x, y)


def pareto(efficiency: pd.DataFrame) -> go.Figure:
    """Return updates against what is left of the retain set: the best is at the upper left.

    Small marks are runs, open where a run ended before everything was forgotten; each is joined to the mean of
    its setting, a large mark. The grey line joins the means that no other beats in both, among settings all of
    whose runs forgot everything. The customdata of a mark begins with the label.

    Args:
        efficiency: See `analysis.unlearning.runs.efficiency`.
    """
    measured = efficiency.dropna(subset=["updates", "retain_accuracy"])
    means, look = grouped(measured), theme.styles(efficiency["label"])
    whole = means[means["reached"] == means["runs"]]
    whole = whole.sort_values(["updates", "retain_accuracy"], ascending=[True, False])
    best = whole["retain_accuracy"].cummax().shift(fill_value=-np.inf)
    front = whole[whole["retain_accuracy"] > best]
    joined = theme.line(
        front["updates"], front["retain_accuracy"], theme.GREY, dash="dot", width=1.5, name="Pareto front"
    )
    figure = go.Figure(joined)
    for label, mean in means.groupby("label", sort=False):
        figure.add_traces(_setting(mean, measured[measured["label"] == label], look[str(label)]))
    figure.update_yaxes(tickformat=".3~p")
    note = "upper left is best; open: stopped early"
    return _framed(figure, "Updates against retain", note, "Updates", "Retain MA", 440)


def _styled(runs: Mapping[str, pd.DataFrame]) -> list[tuple[str, pd.DataFrame, theme.Style]]:
    look = theme.styles(map(setting_of, runs))
    return [(name, run, look[setting_of(name)]) for name, run in runs.items()]


def _lines(runs: Mapping[str, pd.DataFrame], column: str, hover: str) -> go.Figure:
    figure = go.Figure()
    for name, run, style in _styled(runs):
        figure.add_trace(_line(name, thinned(run), column, style, hover, legend=True))
    return figure


def _line(
    name: str,
    run: pd.DataFrame,
    column: str,
    style: theme.Style,
    hover: str,
    *,
    x: StepAxis = "step",
    faint: bool = False,
    markers: bool = False,
    legend: bool = False,
) -> go.Scatter:
    """Return a column of a history as a line; empty where the run has not measured it."""
    values = run[column].dropna() if column in run else pd.Series(dtype=np.float64)
    along = values.index if x == "step" else run[Curve.UPDATES].ffill().fillna(0).loc[values.index]
    return theme.line(
        along,
        values,
        style.colour,
        f"<b>{theme.labelled(name)}</b><br>{hover} at {x} %{{x}}",
        dash="solid" if faint else style.dash,
        width=1 if faint else 2.5,
        mode="lines+markers" if markers else "lines",
        marker={"size": 5, "symbol": style.symbol},
        opacity=FAINT if faint else 1,
        **_legend(name, legend),
    )


def _legend(name: str, entry: bool = True) -> dict[str, Any]:
    setting = setting_of(name)
    return {"name": theme.labelled(setting), "legendgroup": setting, "showlegend": entry}


def _add(figure: go.Figure, trace: go.Scatter, row: int) -> None:
    figure.add_trace(trace, row=row, col=1)


def _bars(standing: pd.DataFrame) -> go.Bar:
    """Return all bars as one trace: of two, the later would hide the other where bars are thinner than a pixel."""
    percent = standing["accuracy"].map(lambda value: "never" if np.isnan(value) else f"{value:.1%}")
    about = standing[["sample_id", "mrd", "draws", "n_tokens", "state"]].assign(
        accuracy=percent, label=standing["sample_id"].map(theme.labelled)
    )
    return go.Bar(
        x=np.arange(1, len(standing) + 1),
        y=standing["updates"],
        width=1,
        marker={"color": standing["state"].map(STATE_COLOURS), "line": {"width": 0}},
        customdata=about.to_numpy(object),
        hovertemplate=(
            "<b>%{customdata[6]}</b><br>%{y} updates, %{customdata[2]} draws<br>MRD %{customdata[1]:.4g}<br>"
            "MA last seen %{customdata[5]}<br>%{customdata[3]} tokens, %{customdata[4]}<extra></extra>"
        ),
        showlegend=False,
    )


def _outcome_points(
    outcome: pd.DataFrame, column: str, title: str, state: str, symbol: str
) -> go.Scatter | go.Scattergl:
    return theme.marks(
        outcome,
        column,
        "updates",
        ["sample_id"],
        f"%{{text}}<br>{theme.labelled(title)} %{{x:.4g}}<br>%{{y}} updates",
        kind=theme.points_of(len(outcome)),
        name=f"{state} ({len(outcome)})",
        marker={"color": STATE_COLOURS[state], "symbol": symbol, "size": 8, "opacity": 0.75},
        text="<b>" + outcome["sample_id"].map(theme.labelled) + "</b><br>" + outcome["answer"].map(theme.labelled),
    )


def _setting(mean: pd.DataFrame, runs: pd.DataFrame, style: theme.Style) -> list[go.Scatter]:
    """Return the runs of a setting, the mean that is its row of `grouped`, and thin lines between them."""
    axes = ("updates", "retain_accuracy")
    x, y = ([value for run in runs[axis] for value in (mean[axis].iloc[0], run, None)] for axis in axes)
    label = str(mean["label"].iloc[0])
    silent = _legend(label, entry=False)
    runs_hover = (
        "<b>%{text}</b>, seed %{customdata[1]}<br>%{x:,} updates<br>"
        "retain MA %{y:.1%}<br>%{customdata[3]:.0f} of %{customdata[4]} forgotten (%{customdata[2]})"
    )
    mean_hover = (
        "<b>%{text}</b><br>mean of %{customdata[1]} runs<br>%{x:,.1f} updates (SD %{customdata[2]:.1f})<br>"
        "retain MA %{y:.1%} (SD %{customdata[3]:.1%})"
    )
    symbols = np.where(runs["reached"].astype(bool), style.symbol, f"{style.symbol}-open")
    small = {"color": style.colour, "symbol": symbols, "size": 8}
    large = {"color": style.colour, "symbol": style.symbol, "size": 18, "opacity": 0.5}
    about_runs = ["label", "seed", "stop_reason", "forgotten", "n_samples"]
    about_mean = ["label", "runs", "updates_sd", "retain_accuracy_sd"]
    return [
        theme.line(x, y, style.colour, width=1, opacity=0.5, **silent),
        theme.marks(runs, *axes, about_runs, runs_hover, marker=small, **silent),
        theme.marks(mean, *axes, about_mean, mean_hover, marker=large, **_legend(label)),
    ]


def _framed(
    figure: go.Figure, heading: str, note: str, x: str = "", y: str = "", height: int = theme.HEIGHT
) -> go.Figure:
    """Frame a figure of runs, in which what the reader has zoomed and hidden stays at every redraw.

    Each group has one entry of the legend, its first.
    """
    groups: set[str] = set()
    for trace in figure.data:
        if trace.showlegend and trace.legendgroup:
            trace.showlegend = trace.legendgroup not in groups
            groups.add(trace.legendgroup)
    theme.framed(figure, heading, note, x, y, height, revision="unlearning")
    return figure.update_xaxes(exponentformat="B")
