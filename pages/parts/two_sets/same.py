"""One forget set by several runs: do their rankings agree, and which samples change places?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_uppercase

import pandas as pd
import streamlit as st

from analysis.difficulty import Variant
from analysis.figures import sets as figures
from analysis.sets.same import Pair, SameSet, compared
from analysis.statistics.wording import in_figures
from mrd_core.runs import Run
from pages.shell import redaction
from pages.shell.charts import chart
from pages.shell.configs import BY_ATTEMPT
from pages.shell.downloads import csv_download
from pages.shell.wording import plain, term

ROWS = 20
SAME_SEED = (
    "Both runs drew their noise from one seed: where the models have the same layers, errors of the draws are in "
    "part the same, and the rankings agree better than their noise would let them. Another seed for one of them "
    "tells."
)
SPEARMAN = "Spearman's"


def show(runs: Sequence[Run], variant: Variant) -> None:
    """Show how well each two of the rankings agree, one pair as a chart, and the greatest changes of rank."""
    comparison = _compared(list(runs), variant)
    pair = _chosen(comparison.pairs)
    letters = ascii_uppercase[pair.first], ascii_uppercase[pair.second]
    st.markdown(_in_words(pair, letters))
    if pair.differing:
        st.caption(plain(f"The runs differ in their {'; '.join(pair.differing)}."))
    if pair.same_seed:
        st.caption(SAME_SEED)
    if len(runs) > 2:
        _agreements(comparison.pairs)
    chart(figures.agreement(comparison.table, pair, letters), "same_set", "MRD of one set by two runs", "same_set")
    _changes(comparison, len(runs))


def _in_words(pair: Pair, letters: tuple[str, str]) -> str:
    agreement = f"{term(SPEARMAN)} {in_figures(pair.agreement)}"
    sentence = f"The rankings of {letters[0]} and {letters[1]} correlate: {agreement}."
    if math.isnan(pair.ceiling):
        return f"{sentence} There are too few draws to tell what their noise alone would leave of it."
    return f"{sentence} Of equal difficulties, the noise of the draws would leave {pair.ceiling:.2f}."


def _chosen(pairs: Sequence[Pair]) -> Pair:
    """Let the user choose two of the runs where there are more."""
    if len(pairs) == 1:
        return pairs[0]
    names = [f"{ascii_uppercase[pair.first]} and {ascii_uppercase[pair.second]}" for pair in pairs]
    place = st.selectbox("Pair", range(len(pairs)), format_func=names.__getitem__, key="set_pair")
    return pairs[place]


def _agreements(pairs: Sequence[Pair]) -> None:
    rows = [
        {
            "Runs": f"{ascii_uppercase[pair.first]} and {ascii_uppercase[pair.second]}",
            "Spearman's ρ": pair.agreement.value,
            "95 % from": pair.agreement.low,
            "95 % to": pair.agreement.high,
            "At most, by noise": pair.ceiling,
        }
        for pair in pairs
    ]
    formats = {name: st.column_config.NumberColumn(format="%.2f") for name in list(rows[0])[1:]}
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config=formats,
        placeholder="–",
        alt="Agreement of each two runs",
    )


def _changes(comparison: SameSet, count: int) -> None:
    """Show the samples whose rank differs most, and offer them all."""
    st.header("Largest changes of rank")
    table = redaction.applied(comparison.table)
    columns = {"sample_id": st.column_config.TextColumn("Sample")}
    for place, letter in zip(range(count), ascii_uppercase, strict=False):
        columns[f"rank_{place}"] = st.column_config.NumberColumn(
            f"Rank by {letter}", help="1 = hardest to unlearn"
        )
        columns[f"mrd_{place}"] = st.column_config.NumberColumn(f"MRD by {letter}", format="%.4g")
    about = "Rank by B less rank by A" if count == 2 else "Largest rank less smallest"
    columns["change"] = st.column_config.NumberColumn("Change", help=about)
    columns["answer"] = st.column_config.TextColumn("Answer")
    st.dataframe(
        table.head(ROWS),
        hide_index=True,
        column_order=["sample_id", "change", *(name for name in columns if name not in ("sample_id", "change"))],
        column_config=columns,
        placeholder="–",
        alt="Samples whose rank differs most between the runs",
    )
    row = st.container(horizontal=True, vertical_alignment="center")
    csv_download(table, "rank-changes", place=row)
    redaction.offer(row)


@st.cache_data(show_spinner="Comparing the rankings", max_entries=8, hash_funcs=BY_ATTEMPT)
def _compared(runs: list[Run], variant: Variant) -> SameSet:
    return compared([run.directory for run in runs], variant)
