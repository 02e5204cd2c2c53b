"""Launching an experiment: what it will take, the button, and the one click that takes the usual settings."""

from __future__ import annotations

import streamlit as st

from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.cost import ExperimentCost, estimate
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import RunState
from mrd_core.scoring.records import ScoreSummary
from pages.parts.evidence import runs as evidence_runs
from pages.shell import session
from pages.shell.launching import launch
from pages.shell.scored import Scored
from pages.shell.wording import duration


def offer(scored: Scored, config: ExperimentConfig) -> None:
    """Show the button that launches an experiment, what it will take, and the command that does the same."""
    cost = _cost(scored, config)
    _button(config, cost, "Run", f"evidence_launch_{config.kind}")
    st.caption(f"By {cost.basis}.")
    st.code(COMMANDS[config.kind].shown(config), language="bash", wrap_lines=True)


def one_click(scored: Scored, config: ValidityConfig) -> None:
    """Show one button that launches predictive validity, with its time and its size beside it."""
    count = min(config.samples, scored.n_samples)
    size = f" for {count} samples with {evidence_runs.arms_in_words(config)}"
    _button(config, _cost(scored, config), "Find out", "evidence_first", size)


def _button(config: ExperimentConfig, cost: ExperimentCost, label: str, key: str, size: str = "") -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    is_pressed = row.button(label, type="primary", icon=":material/play_arrow:", key=key)
    row.container().caption(f"Estimated time: about **{duration(cost.seconds)}**{size}.")
    if is_pressed:
        session.open_experiment(config.kind, launch(config).id)
        st.rerun()


def _cost(scored: Scored, config: ExperimentConfig) -> ExperimentCost:
    past = session.store().list(limit=50, states=[RunState.SUCCEEDED])
    return estimate(config, ScoreSummary.model_validate(scored.run.summary), scored.n_samples, past)
