"""Predictive validity: updates against every measure, predicted updates, and why MRD predicts them or does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analysis.evidence.kinds.validity import ArmEvidence, Validity
from analysis.evidence.league import CHEAP, LENGTH, title
from analysis.evidence.measurements import in_words
from analysis.figures import evidence as figures
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import Run
from mrd_core.scoring.measures import MEASURES
from pages.parts.evidence import charts, selected
from pages.parts.evidence.presentation import Presentation
from pages.shell import experiments, filters, layout, sample_table, session
from pages.shell.configs import BY_ATTEMPT, config_of
from pages.shell.inputs import one_of, select
from pages.shell.scored import scored

SAMPLE_COLUMNS = {
    "observed": st.column_config.NumberColumn(
        "Updates", format="%g", help="Until forgotten; of repeats the median"
    ),
    "censored": st.column_config.CheckboxColumn("Censored", help="Not forgotten within the cap: it takes more"),
    "predicted": st.column_config.NumberColumn("Predicted", format="%.1f", help="By a model that did not see it"),
    "low": st.column_config.NumberColumn("90 % from", format="%.1f"),
    "high": st.column_config.NumberColumn("90 % to", format="%.1f", help="Empty: without end"),
    "prompt": sample_table.PROMPT,
    "answer": sample_table.ANSWER,
    "sample_id": sample_table.ID,
}
# What measures are called beside MRD where there is little room.
SHORT = {"nll": "Mean NLL", LENGTH: "Length"}
# Heading, caption and description of tables.
STOPS = (
    "Had the runs been stopped earlier",
    "Rank correlation with the updates until MA was first below:",
    "Correlations with updates under earlier stops",
)
WHY = (
    "Why MRD predicts updates, or does not",
    "rank correlations with 95 % intervals; *held*: what is left without that measure’s part.",
    "What MRD shares with length and loss, and what is left of it without them",
)


def show(run: Run, experiment: Run, validity: Validity) -> None:
    """Show updates against every measure and against predicted ones, and why MRD predicts them or does not."""
    if not validity.arms:
        return
    arms = {arm.name: arm for arm in validity.arms}
    arm = arms[one_of("Method and optimiser", {name: name for name in arms}, "evidence_arm")]
    if len(arms) > 1:
        st.markdown("\n".join(f"- {finding}" for finding in arm.findings))
    updates, why, samples = st.tabs(["Updates", "Why", "Every sample"])
    with updates:
        _updates(run, arm, validity)
    with why:
        _why(arm)
    with samples:
        _table(arm, _samples(experiment))


def _updates(run: Run, arm: ArmEvidence, validity: Validity) -> None:
    """Show updates against a measure and against predicted ones, and the sample that is looked at."""
    table = arm.league.table
    names = (*MEASURES, *table.loc[table["family"] == "imported", "measure"])
    measures = {name: title(name) for name in names if arm.samples[name].notna().any()}
    measure = select("Updates against", measures, "evidence_against", validity.mrd_column)
    with layout.grid("evidence_validity", least=charts.LEAST_WIDTH):
        figure = figures.updates_against(arm, measure, session.current_sample())
        charts.boxed(figure, "updates", f"Updates of each sample against {measures[measure]}", "from updates")
        if CHEAP in arm.league.combined:
            figure, alt = figures.predicted_against_observed(arm), "Observed against predicted updates"
            charts.boxed(figure, "predicted", alt, "predicted")
        if len(validity.arms) > 1:
            charts.boxed(figures.agreement_map(validity.agreement), "agreement", "Rank agreement between the arms")
    selected.show(run)


def _why(arm: ArmEvidence) -> None:
    """Show what MRD shares with length and loss, and what it would say of runs that were stopped earlier."""
    heading, caption, alt = WHY
    words = _wide(arm.why, "relation", "Relation").rename(columns=title)
    _boxed_table(words, heading, f"{arm.name}: {caption}", alt)
    if len(arm.stops):
        words = _wide(arm.stops, "threshold", "MA").rename(columns=lambda name: SHORT.get(name, "MRD"))
        _boxed_table(words, *STOPS)


def _wide(table: pd.DataFrame, index: str, heading: str) -> pd.DataFrame:
    """Return estimates in words, a row per `index` and a column per measure, in the order of the table."""
    words = table.assign(words=in_words(table)).pivot(index=index, columns="measure", values="words")
    return words.loc[table[index].unique(), table["measure"].unique()].rename_axis(heading)


def _boxed_table(table: pd.DataFrame, heading: str, caption: str, alt: str) -> None:
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{heading}**")
        st.caption(caption)
        st.dataframe(table.reset_index(), hide_index=True, alt=alt)


@st.cache_data(show_spinner=False, max_entries=8, hash_funcs=BY_ATTEMPT)
def _samples(experiment: Run) -> pd.DataFrame:
    return pd.read_parquet(
        ExperimentFiles(experiment.directory).samples, columns=["sample_id", "prompt", "answer"]
    )


def _table(arm: ArmEvidence, samples: pd.DataFrame) -> None:
    """Show every sample of the forget set with its updates: observed, predicted, or both."""
    observed = arm.samples[["sample_id", "updates", "censored", "predicted", "low", "high"]]
    others = arm.predictions.rename(columns={"updates": "predicted"})
    both = [frame for frame in (observed.rename(columns={"updates": "observed"}), others) if len(frame)]
    table = pd.concat(both, ignore_index=True).merge(samples, on="sample_id")
    bounds = ["low", "high", "predicted"]
    table[bounds] = table[bounds].astype(np.float64).replace(np.inf, np.nan)
    table["censored"] = table["censored"].eq(True)
    order = table["predicted"].fillna(table["observed"]).sort_values(ascending=False, kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    are_predicted, alt = table["predicted"].notna().any(), "Updates of every sample"
    st.markdown(f"**{alt}, observed and predicted**" if are_predicted else f"**{alt}**")
    columns = SAMPLE_COLUMNS
    if not are_predicted:
        columns = {name: column for name, column in columns.items() if name not in ("predicted", "low", "high")}
        table = table[table["observed"].notna()].reset_index(drop=True)
    sample_table.show("evidence_samples", table, filters.selected_of(table), columns, alt)
    if are_predicted:
        st.caption(
            f"{arm.name}. The samples that were unlearned are the pilot: from their cheap measures the updates of "
            "all others are predicted, with 90 % intervals. Select a row to look at its sample."
        )


def so_far(run: Run, experiment: Run) -> None:
    """Say what an experiment that goes on shows so far."""
    wanted = min(config_of(experiment, ValidityConfig).samples, scored(run).n_samples)
    for line in experiments.headlines(experiment):
        st.caption(f"So far, {line.estimate.n} of {wanted} samples: {line.text}.")


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "repeats": "Repeats"},
    show=show,
    so_far=so_far,
)
