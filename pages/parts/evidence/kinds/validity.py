"""Predictive validity: updates against every measure, predicted updates, and why MRD predicts them or does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from analysis.evidence.kinds.validity import ArmEvidence, Validity
from analysis.evidence.league import CHEAP, LENGTH, title
from analysis.figures import evidence as figures
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import Run
from mrd_core.scoring.measures import MEASURES
from pages.parts.evidence import charts, selected
from pages.parts.evidence.league import in_brackets
from pages.parts.evidence.presentation import Presentation
from pages.shell import experiments, filters, layout, sample_table, session

SAMPLE_COLUMNS = {
    "observed": st.column_config.NumberColumn(
        "Updates", format="%g", help="Until forgotten; of repeats the median"
    ),
    "censored": st.column_config.CheckboxColumn("Censored", help="Not forgotten within the cap: it takes more"),
    "predicted": st.column_config.NumberColumn("Predicted", format="%.1f", help="By a model that did not see it"),
    "low": st.column_config.NumberColumn("90 % from", format="%.1f"),
    "high": st.column_config.NumberColumn("90 % to", format="%.1f", help="Empty: without end"),
    "prompt": st.column_config.TextColumn("Prompt", width="medium"),
    "answer": st.column_config.TextColumn("Answer", width="medium"),
    "sample_id": st.column_config.TextColumn("Id"),
}
# What measures are called beside MRD where there is little room.
SHORT = {"nll": "Mean NLL", LENGTH: "Length"}


def _show(run: Run, experiment: Run, validity: Validity) -> None:
    if not validity.arms:
        return
    arm = _arm(validity)
    if len(validity.arms) > 1:
        st.markdown("\n".join(f"- {finding}" for finding in arm.findings))
    measure = _measure(validity, arm)
    samples = _samples(experiment.id, str(experiment.directory))
    sample = session.current_sample()
    with layout.grid("evidence_validity", least=charts.LEAST_WIDTH):
        charts.boxed_sample_chart(
            figures.updates_against(arm, measure, sample),
            "updates",
            f"Updates of each sample against {title(measure)}",
            "from updates",
        )
        if CHEAP in arm.league.combined:
            charts.boxed_sample_chart(
                figures.predicted_against_observed(arm),
                "predicted",
                "Observed against predicted updates",
                "predicted",
            )
        if len(validity.arms) > 1:
            charts.chart(figures.agreement_map(validity.agreement), "agreement", "Rank agreement between the arms")
        if len(arm.stops):
            _stops(arm)
    selected.show(run)
    _why(arm)
    _table(arm, samples)


def _arm(validity: Validity) -> ArmEvidence:
    by_name = {arm.name: arm for arm in validity.arms}
    if len(by_name) == 1:
        return validity.arms[0]
    names = list(by_name)
    chosen = st.segmented_control(
        "Method and optimiser", names, default=names[0], required=True, key="evidence_arm"
    )
    return by_name[chosen]


def _measure(validity: Validity, arm: ArmEvidence) -> str:
    measures = [name for name in MEASURES if arm.samples[name].notna().any()]
    return st.selectbox(
        "Updates against",
        measures,
        index=measures.index(validity.mrd_column) if validity.mrd_column in measures else 0,
        format_func=title,
        key="evidence_against",
    )


def _stops(arm: ArmEvidence) -> None:
    """Show what an earlier stop would have changed."""
    with st.container(border=True, height="stretch"):
        st.markdown("**Had the runs been stopped earlier**")
        st.caption("Rank correlation with the updates until MA was first below:")
        table = _wide(arm.stops, "threshold", "measure")
        st.dataframe(
            table.rename(columns=lambda name: SHORT.get(name, "MRD")).rename_axis("MA").reset_index(),
            hide_index=True,
            alt="Correlations with updates under earlier stops",
        )


def _why(arm: ArmEvidence) -> None:
    """Show what MRD shares with length and loss, and what is left of it without them."""
    with st.container(border=True):
        st.markdown("**Why MRD predicts updates, or does not**")
        st.caption(
            f"{arm.name}: rank correlations with 95 % intervals; *held*: what is left without that measure’s part."
        )
        table = _wide(arm.why, "relation", "measure").rename(columns=title)
        st.dataframe(
            table.rename_axis("Relation").reset_index(),
            hide_index=True,
            alt="What MRD shares with length and loss, and what is left of it without them",
        )


def _wide(table: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """Return estimates in words with a row per `index` and a column per measure, in the order of the table."""
    words = table.assign(words=[in_brackets(row) for _, row in table.iterrows()])
    wide = words.pivot(index=index, columns=columns, values="words")
    return wide.loc[list(dict.fromkeys(table[index])), list(dict.fromkeys(table[columns]))]


@st.cache_data(show_spinner=False, max_entries=8)
def _samples(run_id: str, directory: str) -> pd.DataFrame:  # noqa: ARG001  (run_id is the key)
    return pd.read_parquet(ExperimentFiles(Path(directory)).samples, columns=["sample_id", "prompt", "answer"])


def _table(arm: ArmEvidence, samples: pd.DataFrame) -> None:
    """Show every sample of the forget set with its updates: observed, predicted, or both."""
    table = _all_updates(arm, samples)
    predicted = table["predicted"].notna().any()
    st.markdown(
        "**Updates of every sample, observed and predicted**" if predicted else "**Updates of every sample**"
    )
    left_out = () if predicted else ("predicted", "low", "high")
    columns = [name for name in SAMPLE_COLUMNS if name not in left_out]
    rows = table if predicted else table[table["observed"].notna()].reset_index(drop=True)
    marked = filters.selected_of(rows)
    sample_table.show("evidence_samples", rows, marked, columns, SAMPLE_COLUMNS, "Updates of every sample")
    if predicted:
        st.caption(
            f"{arm.name}. The samples that were unlearned are the pilot: from their cheap measures the updates of "
            "all others are predicted, with 90 % intervals. Select a row to look at its sample."
        )


def _all_updates(arm: ArmEvidence, samples: pd.DataFrame) -> pd.DataFrame:
    observed = arm.samples[["sample_id", "updates", "censored", "predicted", "low", "high"]]
    others = arm.predictions.rename(columns={"updates": "predicted"})
    both = [frame for frame in (observed.rename(columns={"updates": "observed"}), others) if len(frame)]
    table = pd.concat(both, ignore_index=True).merge(samples, on="sample_id")
    for column in ("low", "high", "predicted"):
        table[column] = table[column].astype(np.float64).replace(np.inf, np.nan)
    table["censored"] = table["censored"].eq(True)
    order = table["predicted"].fillna(table["observed"]).sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _so_far(run: Run, experiment: Run) -> None:
    config = experiments.config_of(experiment)
    assert isinstance(config, ValidityConfig)
    wanted = min(config.samples, (run.summary or {})["n_samples"])
    for line in experiments.headlines(experiment):
        st.caption(f"So far, {line.estimate.n} of {wanted} samples: {line.text}.")


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "repeats": "Repeats"},
    demo_sizes={"samples": 40, "repeats": 2},
    show=_show,
    so_far=_so_far,
)
