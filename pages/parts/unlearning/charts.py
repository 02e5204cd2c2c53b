"""The charts of unlearning runs, laid over each other, each with its table and both to take along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.figures import unlearning as figures
from analysis.unlearning import runs as unlearning
from mrd_core.runs import Run
from mrd_core.unlearning.curves import Curve
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.sampling import SAMPLERS, WITHOUT_SCORES
from pages.shell import layout, reported, shares, unlearnings
from pages.shell.charts import data_beneath
from pages.shell.configs import BY_ATTEMPT
from pages.shell.reported import Reported

MOST_BARS = 2
MOST_NOTES, NOTES_HEIGHT, TABLE_HEIGHT = 4, 110, 240
# Below this p-value draws are not what chance makes of the probabilities.
UNLIKELY = 0.01
Frames = Mapping[str, pd.DataFrame]


def show(runs: Sequence[Run]) -> None:
    """Show everything that the runs have reported so far."""
    histories, standings, checks = _reported(runs)
    if not histories:
        st.caption("The charts begin with the first step.")
        return
    layout.steady("unlearn_charts")
    long = together(histories, index="step")
    with layout.grid("unlearn_charts"):
        _of_steps(histories, long, runs)
        if standings:
            _bars(standings)
        figure, alt = figures.forgotten_over_steps(histories), "Samples forgotten over the steps"
        chart(figure, "forgotten", alt, _columns(long, "forgotten", "updates"))
        if standings:
            _of_samples(standings, checks)
        _of_gradient(runs)
    device = st.expander(
        "Learning rate and device memory", icon=":material/memory:", key="unlearn_device", on_change="rerun"
    )
    if device.open:
        left, right = device.columns(2)
        with left:
            figure, alt = figures.learning_rate(histories), "Learning rate over the steps"
            chart(figure, "rate", alt, _columns(long, "learning_rate"), box=False)
        with right:
            figure, alt = figures.memory(histories), "Device memory over the steps"
            chart(figure, "memory", alt, _columns(long, "memory_mb"), box=False)


def chart(
    figure: Any, name: str, alt: str, table: pd.DataFrame, notes: Sequence[str] = (), *, box: bool = True
) -> None:
    """Show a figure with its data beneath.

    Args:
        figure: What is shown.
        name: Of its files.
        alt: What it is.
        table: Its data.
        notes: Lines below it, in a box that scrolls where they are many.
        box: Whether it stands in a box of its own.
    """
    with st.container(border=box, height="stretch"):
        st.plotly_chart(figure, key=f"unlearn_{name}", alt=alt)
        with st.container(
            height=NOTES_HEIGHT if len(notes) > MOST_NOTES else "content", border=False, gap="small"
        ):
            for note in notes:
                st.caption(note)
        alt = f"{alt}, as a table"
        data_beneath(table, f"unlearn_{name}", alt, figure=figure, height=TABLE_HEIGHT)


def column_of(run: Run) -> str:
    """Return the column that says how hard a sample of a run is."""
    return unlearning.difficulty_column(unlearnings.config_of(run).curriculum)


def _reported(runs: Sequence[Run]) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame], list[str]]:
    """Return by name the history of each run and where its samples stand, and whether its draws are as wanted."""
    names = unlearnings.names_of(runs)
    histories, standings, checks = {}, {}, []
    for run in runs:
        name, report = names[run.id], reported.of_run(run.id)
        if len(report.metrics):
            histories[name] = unlearning.history(report.metrics)
        # Before the first draw no sample stands anywhere.
        if len(report.draws) and UnlearningFiles(run.directory).curriculum.exists():
            standings[name] = unlearning.standing(_curriculum(run), report.draws, column_of(run))
            checks.append(_check(run, name, standings[name], report))
    return histories, standings, checks


@st.cache_data(show_spinner=False, max_entries=100, hash_funcs=BY_ATTEMPT)
def _curriculum(run: Run) -> pd.DataFrame:
    return pd.read_parquet(UnlearningFiles(run.directory).curriculum)


def _margins(runs: Sequence[Run]) -> list[str]:
    """Say of which runs the MA of the forget set is not that of the field."""
    names = unlearnings.names_of(runs)
    margins = {names[run.id]: unlearnings.config_of(run).stopping.margin for run in runs}
    return [
        f"{name}: forget MA counts tokens whose logit leads all others by more than {margin:g}."
        for name, margin in margins.items()
        if margin
    ]


def _of_steps(histories: Frames, long: pd.DataFrame, runs: Sequence[Run]) -> None:
    """Show losses and memorization over the steps, and what evaluations on the way gave where there were any."""
    names = unlearnings.names_of(runs)
    other_terms = [names[run.id] for run in runs if unlearnings.config_of(run).retain_term != "nll"]
    figure, alt = figures.losses(histories, other_terms), "Forget and retain loss over the steps"
    chart(figure, "losses", alt, _columns(long, "loss", "nll"))
    figure, alt = figures.memorization(histories), "Memorization accuracy and extraction likelihood over the steps"
    chart(figure, "memorization", alt, _columns(long, "accuracy", "extraction"), _margins(runs))
    evaluations = unlearning.evaluated(histories)
    if evaluations:
        chart(
            figures.evaluations(evaluations),
            "evaluations",
            "Completeness, utility and ROUGE-L recall over the steps",
            together(evaluations, index="step"),
            [
                f"{name}: no retain set, so completeness is without MIA, and there is no utility."
                for name, table in evaluations.items()
                if "utility" not in table
            ],
        )


def _bars(standings: Frames) -> None:
    """Show the updates of every sample: of each run where there are few, else of one that the user chooses."""
    if len(standings) <= MOST_BARS:
        for at, name in enumerate(standings):
            _bars_of(name, standings, f"updates_{at + 1}")
        return
    with st.container(border=True, height="stretch"):
        name = st.selectbox("Updates per sample of", list(standings), key="unlearn_bars_of")
        _bars_of(name, standings, "updates_1", box=False)


def _bars_of(name: str, standings: Frames, key: str, *, box: bool = True) -> None:
    figure = figures.update_bars(standings[name])
    if len(standings) > 1:
        # Charts that are to be compared have one scale.
        highest = max(int(standing["updates"].max()) for standing in standings.values())
        figure.update_yaxes(range=[0, 1.05 * max(highest, 1)])
        figure.update_layout(title_text=f"Updates per sample: {name}")
    chart(figure, key, f"Updates of each sample by difficulty: {name}", standings[name], box=box)


def _of_samples(standings: Frames, checks: Sequence[str]) -> None:
    """Show which samples were updated, and whether they were drawn as they should have been."""
    chart(
        figures.updates_by_tercile(standings),
        "terciles",
        "Updates by tercile of difficulty",
        together({name: unlearning.by_tercile(standing) for name, standing in standings.items()}),
    )
    chart(
        figures.realised_against_share(standings),
        "realised",
        "Realised against expected share of the draws",
        _columns(together(standings), "share", "realised", "draws", "sample_id"),
        checks,
    )


def _of_gradient(runs: Sequence[Run]) -> None:
    """Show which third of the samples got the updates, and which the gradient, where there is anything yet."""
    table = shares.over_seeds(runs)
    if len(table):
        alt = "Share of the updates and of the gradient by third of the samples"
        chart(figures.gradient_by_tercile(table), "gradient", alt, table, [shares.note(runs, table)])


def _check(run: Run, name: str, standing: pd.DataFrame, report: Reported) -> str:
    """Say of a run whether its draws followed the probabilities that were asked for."""
    sampler = SAMPLERS[unlearnings.config_of(run).curriculum.sampler]
    if not sampler.with_replacement:
        how = "shuffled in each" if sampler.shuffles else "in a strict order"
        return f"{name}: every sample once an epoch, {how}."
    reweighed = report.metrics.loc[report.metrics["name"] == Curve.EFFECTIVE_SHARE, "step"]
    first = int(reweighed.min()) if len(reweighed) else None
    check = unlearning.sampling_check(standing, report.draws, True, first)
    share = "" if sampler.name in WITHOUT_SCORES else f"; effective sample size {check.effective_share:.0%}"
    draws = f"{name}: {check.draws:,} draws from the whole pool"
    if check.p_value is None:
        return f"{draws}, too few to test{share}."
    fits = "fit" if check.p_value >= UNLIKELY else "do not fit"
    return f"{draws} {fits} the probabilities (χ², p = {check.p_value:.2g}){share}."


def together(frames: Frames, index: str | None = None) -> pd.DataFrame:
    """Return the frames as one, with the run's name in the first column."""
    named = [
        (frame.rename_axis(index).reset_index() if index else frame).assign(run=name)
        for name, frame in frames.items()
    ]
    table = pd.concat(named, ignore_index=True)
    return table[["run", *(column for column in table if column != "run")]]


def _columns(table: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """Return run, step and the columns whose names have one of the parts in them, without empty rows."""
    columns = [name for name in table if any(part in str(name) for part in parts)]
    fixed = [name for name in ("run", "step") if name in table]
    return table.loc[table[columns].notna().any(axis=1), [*fixed, *columns]]
