"""What the newest predictive-validity experiment says of MRD, in a line an arm, for the pages that show MRD."""

from __future__ import annotations

import streamlit as st

from mrd_core.runs import Run
from pages.shell import experiments, session, tour


def show(run: Run) -> None:
    """Say whether MRD predicts updates on this model; nothing where nobody has looked.

    Args:
        run: A score run.
    """
    experiment = experiments.finished_validity(run)
    lines = experiments.headlines(experiment) if experiment else []
    if experiment is None or not lines:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="evidence_badges"):
        with st.container(gap=None, width="content"):
            for line in lines:
                st.caption(f":material/fact_check: {line.text}")
        st.page_link(
            tour.EVIDENCE,
            label="Evidence",
            icon=":material/arrow_forward:",
            icon_position="right",
            query_params={session.RUN: run.id, session.EXPERIMENT: experiment.id},
        )
