"""Launching an experiment: what it will take, the button, and the one click that takes the usual settings."""

from __future__ import annotations

import streamlit as st

from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.config import ExperimentConfig, ValidityConfig
from mrd_core.experiments.cost import Cost, estimate
from mrd_core.runs import RunState
from mrd_core.scoring.records import ScoreSummary
from pages.parts.evidence import runs as evidence_runs
from pages.shell import session
from pages.shell.launching import launch
from pages.shell.scored import Scored
from pages.shell.wording import duration


def offer(of: Scored, config: ExperimentConfig) -> None:
    """Show the button that launches an experiment, what it will take, and the command that does the same."""
    cost = _cost(of, config)
    _button(config, cost, "Run", f"evidence_launch_{config.name}")
    st.caption(f"By {cost.basis}.")
    st.code(COMMANDS[config.name].shown(config), language="bash", wrap_lines=True)


def one_click(of: Scored, config: ValidityConfig) -> None:
    """Show one button that launches predictive validity, with its time and its size beside it."""
    what = f" for {min(config.samples, of.n_samples)} samples with {evidence_runs.arms_in_words(config)}"
    _button(config, _cost(of, config), "Find out", "evidence_first", what)


def _button(config: ExperimentConfig, cost: Cost, label: str, key: str, what: str = "") -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    pressed = row.button(label, type="primary", icon=":material/play_arrow:", key=key)
    row.container().caption(f"Estimated time: about **{duration(cost.seconds)}**{what}.")
    if pressed:
        session.open_experiment(config.name, launch(config).id)
        st.rerun()


def _cost(of: Scored, config: ExperimentConfig) -> Cost:
    past = session.store().list(limit=50, states=[RunState.SUCCEEDED])
    return estimate(config, ScoreSummary.model_validate(of.run.summary), of.n_samples, past)
