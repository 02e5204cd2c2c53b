"""Completeness on hard and on easy samples, and the change of each sample against its MRD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from analysis.comparison import strata as comparison_strata
from analysis.comparison.columns import COMPLETENESS, FORGET_QUALITY
from analysis.comparison.strata import column_of_samples, title_of_samples
from analysis.comparison.table import Column, Comparison
from analysis.export import comparison as comparison_export
from analysis.figures import comparison as figures
from mrd_core.errors import UserError
from pages.parts.compare.choice import ComparedRuns
from pages.shell import filters, layout, session
from pages.shell.downloads import csv_download, figure_download
from pages.shell.notices import bullets, literal, show_error

METRIC = "compare_metric"
LEAST_WIDTH = "26rem"


def show(chosen: ComparedRuns, comparison: Comparison) -> None:
    """Show a metric of the forget set by tercile of difficulty, and sample by sample."""
    columns = of_forget_set(comparison)
    if not columns:
        st.info("Nothing that was measured here is of a forget set.", icon=":material/filter_alt_off:")
        return
    key = st.selectbox(
        "Metric", list(columns), format_func=lambda name: columns[name].title, key=METRIC, width=380
    )
    single = _of_samples(columns, key)
    try:
        strata, changed = _strata(chosen.key, key, chosen), _changed(chosen.key, single, chosen)
    except UserError as error:
        show_error(error)
        return
    if said := comparison_export.by_difficulty(strata, columns[key].title):
        st.html(bullets(map(escape, said)))
    with layout.grid("compare_strata", least=LEAST_WIDTH):
        _terciles(strata, columns[key])
        if len(changed):
            _change(changed, title_of_samples(columns[single]))
    if len(changed):
        _to_sample()


def of_forget_set(comparison: Comparison) -> dict[str, Column]:
    """Return the columns that are of the forget set by key, completeness as a whole first."""
    forget = {split for group in comparison.groups for run in group.runs for split in run.splits("forget")}
    ours = [column for column in comparison.columns if column.split in forget and column.key != FORGET_QUALITY]
    whole = [column for column in comparison.columns if column.key == COMPLETENESS]
    return {column.key: column for column in (*whole, *ours)} if ours else {}


def figures_of(chosen: ComparedRuns, columns: Mapping[str, Column], key: str) -> Iterator[tuple[str, Any]]:
    """Yield the figures of a column by what they show.

    Raises:
        UserError: There is no MRD of these samples.
    """
    strata = _strata(chosen.key, key, chosen)
    yield f"{columns[key].title} by tercile of difficulty", figures.strata(strata, columns[key].title)
    title = title_of_samples(columns[single := _of_samples(columns, key)])
    changed = _changed(chosen.key, single, chosen)
    if len(changed):
        yield f"Change of {title} of each sample against its MRD", figures.change(changed, title)


def _of_samples(columns: Mapping[str, Column], key: str) -> str:
    """Return the column, or for a mean of several, which samples have none of, the one that stands for it."""
    single = column_of_samples(columns.values()) if columns[key].side == "mean" else None
    return single.key if single else key


@st.cache_resource(show_spinner="Comparing hard and easy samples", max_entries=32)
def _strata(key: tuple[str, ...], metric: str, _chosen: ComparedRuns) -> pd.DataFrame:  # noqa: ARG001
    return comparison_strata.by_stratum(_chosen.evaluated, 0, metric)


@st.cache_resource(show_spinner=False, max_entries=32)
def _changed(key: tuple[str, ...], metric: str, _chosen: ComparedRuns) -> pd.DataFrame:  # noqa: ARG001
    return comparison_strata.change(_chosen.evaluated, 0, metric)


def _terciles(strata: pd.DataFrame, column: Column) -> None:
    figure = figures.strata(strata, column.title)
    with st.container(border=True, height="stretch"):
        st.plotly_chart(figure, key="compare_strata_chart", alt=f"{column.title} by tercile of difficulty")
        figure_download(figure, "compare_strata")
        _table(strata, "strata", f"{column.title} by tercile of difficulty")


def _change(changed: pd.DataFrame, title: str) -> None:
    figure = figures.change(changed, title)
    key = f"compare_change_{session.charts_epoch()}"
    with st.container(border=True, height="stretch"):
        st.plotly_chart(
            figure,
            key=key,
            on_select=partial(filters.take_points, key, "from the change"),
            selection_mode=("points", "box", "lasso"),
            alt=f"Change of {title} of each sample against its MRD",
        )
        figure_download(figure, "compare_change")
        _table(changed, "change", f"Change of {title} by sample")


def _table(frame: pd.DataFrame, name: str, alt: str) -> None:
    table = st.expander("Table", icon=":material/table:", key=f"compare_{name}_table", on_change="rerun")
    if table.open:
        with table:
            st.dataframe(frame, hide_index=True, placeholder="–", alt=alt)
            csv_download(st.container(), frame, f"compare_{name}")


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
