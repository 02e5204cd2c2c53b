"""Which page shows a run of which kind, and how it is selected there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from mrd_core.experiments.kinds import experiments
from mrd_core.runs import Run
from mrd_core.scoring.token_parts import TokenPartsConfig
from pages.shell import paths, session
from pages.shell.configs import config_of


class Door(NamedTuple):
    """The way to the runs of a kind.

    Attributes:
        page: That shows them.
        select: Makes a run the selected one there.
        name: Of the URL's parameter that holds the id; "" where the URL does not name such runs.
    """

    page: str
    select: Callable[[Run], None]
    name: str = ""


EXPERIMENT = Door(paths.EVIDENCE, lambda run: session.open_experiment(run.kind, run.id), session.EXPERIMENT)
DOORS = {
    "score": Door(paths.DIFFICULTY, lambda run: session.open_run(run.id), session.RUN),
    "characteristics": Door(paths.CHARACTERISTICS, lambda run: session.open_reading(run.id)),
    "token-parts": Door(
        paths.DIFFICULTY, lambda run: session.select_sample(config_of(run, TokenPartsConfig).sample_id)
    ),
    "unlearn": Door(paths.UNLEARNING, lambda run: session.open_unlearnings([run.id]), session.UNLEARN),
    "evaluate": Door(paths.COMPARE, lambda run: session.open_evaluations([run.id], None), session.EVALUATIONS),
} | dict.fromkeys(experiments(), EXPERIMENT)


def go_to(run: Run) -> None:
    """Turn to the page of a run, with the score run that it builds on; an evaluation may stand for itself."""
    scored, query = session.store().score_run_of(run), {}
    for selected in [scored, run] if scored.kind == "score" else [run]:
        door = DOORS[selected.kind]
        door.select(selected)
        if door.name:
            query[door.name] = selected.id
    st.switch_page(DOORS[run.kind].page, query_params=query)
