"""Which unlearning runs are selected, and what charts call them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress

import streamlit as st

from analysis.comparison.kept import KeptAnswers, kept_answers
from analysis.unlearning.runs import run_name
from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState
from mrd_core.samples import ForgetSet, save_stratum, saved_strata
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import UnlearnConfig
from pages.shell import configs, reported, session
from pages.shell.inputs import Form
from pages.shell.notices import SYMBOLS
from pages.shell.wording import told_apart

# Of the input that says which samples are unlearned.
STRATUM = Form("unlearn").key_of(UnlearnConfig, "stratum")
LOOKED_AT, STUDY = "unlearn_looked_at", "unlearn_study"


def select_stratum(run: Run, sample_ids: Collection[str] | None) -> None:
    """Keep some samples as a stratum in the score run, once, and have the form begin with it; None: with all.

    Its texts are the run's and go with it, other than those of a stratum that the user has named.

    Raises:
        UserError: No sample is left.
    """
    if sample_ids is None:
        st.session_state.pop(STRATUM, None)
        return
    digest = hashlib.sha256("\n".join(sorted(sample_ids)).encode()).hexdigest()[:6]
    name = f"Selection of {len(sample_ids)} {digest}"
    if name not in saved_strata(run.directory):
        session.require_writable()
        save_stratum(ForgetSet.load(ScoreFiles(run.directory).samples), sample_ids, name, run.directory)
    st.session_state[STRATUM] = name


def choose(runs: Sequence[Run], selection: Sequence[Run]) -> list[Run]:
    """Let the user add and leave out runs, and return those that are selected, in the order of their launch."""
    studies = [study for study in dict.fromkeys(run.study for run in runs) if study is not None]
    if len(runs) > 1:
        left, *right = st.columns([3, 1] if studies else 1, vertical_alignment="bottom")
        titles = {run.id: f"{SYMBOLS[run.state]} {_name(run)}" for run in runs}
        # The URL says which are selected, whatever this control said last.
        st.session_state[LOOKED_AT] = [run.id for run in reversed(selection)]
        left.multiselect(
            "Runs",
            list(titles),
            format_func=titles.__getitem__,
            key=LOOKED_AT,
            on_change=lambda: session.open_unlearnings(st.session_state[LOOKED_AT]),
            help="Those that the charts lay over each other",
        )

        def take_study() -> None:
            study = st.session_state[STUDY]
            session.open_unlearnings(run.id for run in runs if run.study == study)
            st.session_state[STUDY] = None

        for place in right:
            place.selectbox(
                "Comparison", studies, index=None, placeholder="All runs of …", key=STUDY, on_change=take_study
            )
    return sorted(selection, key=lambda run: run.seq)


def config_of(run: Run) -> UnlearnConfig:
    """Return the configuration of an unlearning run."""
    return configs.config_of(run, UnlearnConfig)


def names_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return what charts call the runs, by id; runs of one setting and seed are told apart by their ids."""
    marks = {run.id: f" ({run.id.split('-')[-1]})" for run in runs}
    return told_apart({run.id: _name(run) for run in runs}, marks)


def finished(score_run: Run) -> list[Run]:
    """Return the unlearning runs of a score run that succeeded, newest first."""
    return session.store().list(kinds=("unlearn",), score_run=score_run, states=[RunState.SUCCEEDED])


def judged(score_run: Run) -> list[Run]:
    """Return the selected unlearning runs that succeeded, newest first; a score run is judged by the first."""
    runs = session.store().list(kinds=("unlearn",), score_run=score_run)
    return [each for each in session.current_unlearnings(runs) or runs if each.state is RunState.SUCCEEDED]


def kept_answers_of(run: Run) -> KeptAnswers | None:
    """Return what evaluations found of a finished run's answers to the retain set; None where none did."""
    store = session.store()
    evaluations = store.list(kinds=("evaluate",), states=[RunState.SUCCEEDED], score_run=store.score_run_of(run))
    return _kept_answers(run, evaluations)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=configs.BY_ATTEMPT)
def _kept_answers(run: Run, evaluations: list[Run]) -> KeptAnswers | None:
    # One that lost a file is told of on Compare.
    with suppress(UserError, OSError):
        return kept_answers(run.directory, [each.directory for each in evaluations])
    return None


def leave(run: Run) -> None:
    """Look at no deleted run any more."""
    reported.forget(run.id)
    session.open_unlearnings([])


def _name(run: Run) -> str:
    return run_name(config_of(run).label, config_of(run).seed)
