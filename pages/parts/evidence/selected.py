"""The samples that were chosen in a chart or a table of evidence, and the way to their scores."""

from __future__ import annotations

import streamlit as st

from mrd_core.runs import Run
from pages.shell import filters, paths, session
from pages.shell.notices import literal


def show(run: Run) -> None:
    """Say which samples are chosen and lead to them on the Difficulty page; how to choose where none are.

    Args:
        run: The score run that they are of.
    """
    box, sample = filters.marked(), session.current_sample()
    row = st.container(horizontal=True, vertical_alignment="center", key="evidence_selected")
    if box is None and sample is None:
        row.caption("Click a point to look at its sample; the tool bar of a chart draws a box around many.")
        return
    if box is not None:
        row.button(
            f"{len(box)} {st.session_state['box_label']}",
            icon=":material/close:",
            key="evidence_clear_box",
            on_click=filters.clear_box,
            help="Let them go",
        )
    if sample is not None:
        row.markdown(f"Sample {literal(sample)}", width="content")
    row.page_link(
        paths.DIFFICULTY,
        label="Look at them on Difficulty" if box is not None else "Look at it on Difficulty",
        icon=":material/arrow_forward:",
        query_params={session.RUN: run.id} | ({session.SAMPLE: sample} if sample else {}),
    )
