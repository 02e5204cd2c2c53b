"""Completeness on hard and on easy samples, and the change of each sample against its MRD."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd
import streamlit as st

from analysis.comparison.columns import COMPLETENESS, FORGET_QUALITY, Column
from analysis.comparison.strata import by_stratum, change, column_of_samples, title_of_samples
from analysis.comparison.table import Comparison
from analysis.export.comparison import by_difficulty
from analysis.figures import comparison as figures
from analysis.figures import unlearning as unlearning_figures
from mrd_core.scoring.columns import MRD_ANSWER_MEAN
from pages.parts.compare.choice import BY_KEY, ComparedRuns
from pages.parts.compare.runs import config_of
from pages.shell import layout, session, shares
from pages.shell.charts import chart, data_beneath, sample_chart
from pages.shell.inputs import select
from pages.shell.notices import bullets, errors_shown, literal

METRIC = "compare_metric"
LEAST_WIDTH = "26rem"


def show(chosen: ComparedRuns, comparison: Comparison) -> None:
    """Show a metric of the forget set by tercile of difficulty, and sample by sample."""
    columns = of_forget_set(comparison)
    if not columns:
        st.info("Nothing that was measured here is of a forget set.", icon=":material/filter_alt_off:")
        return
    key = select("Metric", {name: column.title for name, column in columns.items()}, METRIC, width=380)
    single = _of_samples(columns, key)
    with errors_shown(ends_page=False):
        strata, changed = _strata(chosen, key), _changed(chosen, single)
        title, alt = columns[key].title, f"{columns[key].title} by tercile of difficulty"
        if findings := by_difficulty(strata, title):
            st.html(bullets(map(escape, findings)))
        with layout.grid("compare_strata", least=LEAST_WIDTH):
            with st.container(border=True, height="stretch"):
                chart(figures.strata(strata, title), "compare_strata_chart", alt, "compare_strata")
                data_beneath(strata, "compare_strata", alt)
            if len(changed):
                title = title_of_samples(columns[single])
                with st.container(border=True, height="stretch"):
                    figure = figures.change(changed, title)
                    alt = f"Change of {title} of each sample against its MRD"
                    sample_chart(figure, "compare_change", "from the change", alt, "compare_change")
                    data_beneath(changed, "compare_change", f"Change of {title} by sample")
        if len(changed):
            _to_sample()
        _gradient(chosen)


def _gradient(chosen: ComparedRuns) -> None:
    """Show which third got the updates and the gradient, of those compared that are unlearned."""
    unlearned = {config_of(run).unlearn_run for run in chosen.runs}
    runs = [run for run in session.store().list(kinds=("unlearn",)) if run.directory in unlearned]
    table = shares.over_seeds(runs, MRD_ANSWER_MEAN)
    if table.empty:
        return
    alt = "Share of the updates and of the gradient by third of MRD, over the seeds"
    with st.container(border=True):
        chart(unlearning_figures.gradient_by_tercile(table), "compare_gradient_chart", alt, "compare_gradient")
        st.caption(shares.note(runs, table, MRD_ANSWER_MEAN))
        data_beneath(table, "compare_gradient", alt)


def of_forget_set(comparison: Comparison) -> dict[str, Column]:
    """Return the columns that are of the forget set by key, completeness as a whole first."""
    forget = {split for group in comparison.groups for run in group.runs for split in run.splits("forget")}
    parts = [column for column in comparison.columns if column.split in forget and column.key != FORGET_QUALITY]
    whole = [column for column in comparison.columns if column.key == COMPLETENESS]
    return {column.key: column for column in (*whole, *parts)} if parts else {}


def _of_samples(columns: Mapping[str, Column], key: str) -> str:
    """Return the column, or for a mean of several, which samples have none of, the one that stands for it."""
    single = column_of_samples(columns.values()) if columns[key].side == "mean" else None
    return single.key if single else key


@st.cache_resource(show_spinner="Comparing hard and easy samples", max_entries=32, hash_funcs=BY_KEY)
def _strata(chosen: ComparedRuns, metric: str) -> pd.DataFrame:
    return by_stratum(chosen.evaluated, 0, metric)


@st.cache_resource(show_spinner=False, max_entries=32, hash_funcs=BY_KEY)
def _changed(chosen: ComparedRuns, metric: str) -> pd.DataFrame:
    return change(chosen.evaluated, 0, metric)


def _to_sample() -> None:
    """Lead to the answers of the sample that was clicked."""
    sample = session.current_sample()
    if sample is None:
        st.caption("Click a point to look at the answers to its sample.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown(f"Sample {literal(sample)}", width="content")
    row.button(
        "Look at its answers",
        icon=":material/arrow_forward:",
        key="compare_to_sample",
        on_click=lambda: st.session_state.update(compare_view="Samples"),
    )
