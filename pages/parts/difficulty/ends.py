"""The ends of a ranking: the hardest samples beside the easiest, and what each end shares."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.contrast import Contrast, contrast
from pages.shell import layout, redaction, sample_table
from pages.shell.notices import literal

TEXTS = {
    "rank": st.column_config.NumberColumn("Rank", width="small"),
    "mrd": sample_table.MRD,
    "prompt": sample_table.PROMPT,
    "answer": sample_table.ANSWER,
}


def show(table: pd.DataFrame) -> None:
    """Offer the hardest against the easiest, drawn up only while somebody looks."""
    door = st.expander(
        "The hardest against the easiest", icon=":material/compare_arrows:", key="ends", on_change="rerun"
    )
    if not door.open:
        return
    with door:
        ends = contrast(table)
        if ends is None:
            st.caption("There are too few samples for two ends.")
            return
        _shared(ends)
        with layout.grid("ends_texts"):
            _texts(f"The {len(ends.hardest)} hardest", ends.hardest)
            _texts(f"The {len(ends.easiest)} easiest", ends.easiest)


def _shared(ends: Contrast) -> None:
    """Say by which measures, and by which words, the ends differ."""
    if len(ends.measures):
        st.dataframe(
            ends.measures,
            hide_index=True,
            column_config={
                "measure": st.column_config.TextColumn("Measure"),
                "hardest": st.column_config.NumberColumn("Hardest, median", format="%.4g"),
                "easiest": st.column_config.NumberColumn("Easiest, median", format="%.4g"),
                "delta": st.column_config.NumberColumn(
                    "Cliff’s δ", format="%.2f", help="1: every hard sample has more of it than every easy one"
                ),
            },
            alt="Measures that tell the hardest samples from the easiest",
        )
    else:
        st.markdown("No other measure tells the two ends apart.")
    if not redaction.is_on():
        for end, words in ends.words.items():
            if words:
                st.markdown(f"Words of most of the {end} and few of the others: {', '.join(map(literal, words))}.")
    st.caption(
        "Ends that were chosen by MRD differ in what goes with it; *Explain the differences* looks at the whole "
        "set, with length held."
    )


def _texts(title: str, samples: pd.DataFrame) -> None:
    with st.container(height="stretch"):
        st.markdown(f"**{title}**")
        st.dataframe(
            redaction.applied(samples),
            hide_index=True,
            column_order=list(TEXTS),
            column_config=TEXTS,
            alt=f"{title} samples",
        )
