"""Samples of an unlearning run that are a risk: hard and still there, or back when training goes on."""

from __future__ import annotations

import streamlit as st

from analysis.audit.command import RISK
from analysis.audit.config import RiskConfig
from analysis.audit.risk import Risk, risk_of
from analysis.export.audit import risk_exports, risk_table
from mrd_core.runs import Run, RunState
from mrd_core.unlearning.records import UnlearningSummary
from pages.shell import commands, experiments, redaction, session
from pages.shell.configs import BY_ATTEMPT
from pages.shell.downloads import download
from pages.shell.inputs import select
from pages.shell.layout import static_table
from pages.shell.run_names import run_names
from pages.shell.wording import plain

KINDS = {"risk.md": "Risk (Markdown)", "risk.json": "Risk (JSON)", "risk.csv": "Risk (CSV)"}


def show(run: Run) -> None:
    """Let the user choose an unlearning run of the pool and a threshold, and list what is at risk."""
    runs = session.store().list(kinds=("unlearn",), states=[RunState.SUCCEEDED], score_run=run)
    if not runs:
        st.info("Nothing was unlearned from this score run yet.", icon=":material/ink_eraser:")
        return
    by_id = {each.id: each for each in runs}
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        chosen = by_id[select("Unlearning run", run_names(runs), "audit_unlearned")]
    own = UnlearningSummary.model_validate(chosen.summary).thresholds.accuracy
    accuracy = right.number_input(
        "Still there from MA", 0.0, 1.0, own, key=f"audit_accuracy_{chosen.id}", help="At first that of the run"
    )
    attacked = experiments.attacked(run, [chosen])
    config = RiskConfig(
        run=chosen.directory, accuracy=accuracy, durability=attacked[1].directory if attacked else None
    )
    risk = _risk(chosen, config)
    if redaction.is_on():
        risk = risk.without_texts()
    st.markdown(plain(risk.sentence))
    if len(risk.listed):
        static_table(risk_table(risk), "Samples at risk")
    st.caption(plain(" ".join(risk.notes)))
    commands.show(RISK.shown(config))
    row = st.container(horizontal=True)
    for file, content in risk_exports(risk, config).items():
        download(row, KINDS[file], content, file, file.replace(".", "_"), "tertiary")
    redaction.offer(row)


@st.cache_data(show_spinner=False, max_entries=8, hash_funcs=BY_ATTEMPT)
def _risk(run: Run, config: RiskConfig) -> Risk:  # noqa: ARG001  (what is cached goes with the attempt)
    return risk_of(config)
