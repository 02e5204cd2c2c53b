"""Launching an experiment: what it will take, the button, and the one click that takes the usual settings."""

from __future__ import annotations

import streamlit as st

from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.cost import ExperimentCost, estimate
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import RunState
from mrd_core.scoring.records import ScoreSummary
from pages.parts.evidence import runs
from pages.parts.evidence.defaults import METHODS_WITH_RETAIN, METHODS_WITHOUT_RETAIN, sizes
from pages.shell import commands, engine, session
from pages.shell.launching import launch
from pages.shell.scored import Scored
from pages.shell.wording import duration

# The kind of the experiment that was launched a moment ago, whose tab opens.
LAUNCHED = "evidence_launched"


def offer(scored: Scored, config: ExperimentConfig) -> None:
    """Show the button that launches an experiment, what it will take, and the command that does the same."""
    cost = button(scored, config, "Run", f"evidence_launch_{config.kind}")
    st.caption(f"By {cost.basis}.")
    commands.show(engine.command(COMMANDS[config.kind], config))


def one_click(scored: Scored) -> None:
    """Show one button that launches predictive validity, with its time and its size beside it."""
    retain = scored.retain
    methods = METHODS_WITH_RETAIN if retain else METHODS_WITHOUT_RETAIN
    values = scored.settings | {"methods": methods, "retain": retain} | dict(sizes(scored, "validity"))
    config = ValidityConfig.model_validate(values)
    size = f" for {min(config.samples, scored.n_samples)} samples with {runs.arms_in_words(config)}"
    button(scored, config, "Find out", "evidence_first", size)


def button(scored: Scored, config: ExperimentConfig, label: str, key: str, size: str = "") -> ExperimentCost:
    """Show a button that launches an experiment, its time and its size beside it; return what it will take."""
    past = session.store().list(limit=50, states=[RunState.SUCCEEDED])
    cost = estimate(config, ScoreSummary.model_validate(scored.run.summary), scored.n_samples, past)
    row = st.container(horizontal=True, vertical_alignment="center")
    is_pressed = row.button(label, type="primary", icon=":material/play_arrow:", key=key)
    row.container().caption(f"Estimated time: about **{duration(cost.seconds)}**{size}.")
    if is_pressed:
        session.open_experiment(config.kind, launch(config).id)
        st.session_state[LAUNCHED] = config.kind
        st.rerun()
    return cost
