"""The experiments on a score run: which there are, and what the newest of predictive validity says of MRD."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import streamlit as st

from analysis.evidence import headlines as evidence
from analysis.evidence import returns
from analysis.evidence.headlines import Headline
from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import Comeback
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import DurabilityConfig
from mrd_core.runs import ACTIVE, Run, RunState
from mrd_core.scoring.config import ScoreConfig
from pages.shell import configs, session

VALIDITY, DURABILITY = "validity", "durability"
# Of the page of experiments: which of them is looked at.
TAB = "evidence_tab"
# A worker begins what is to follow a run after it has said that this one succeeded.
FOLLOWS_WITHIN = timedelta(minutes=1)


def of_kind(run: Run, kind: str) -> list[Run]:
    """Return the experiments of a kind on a score run, newest first."""
    return session.store().list(kinds=(kind,), score_run=run)


def finished_validity(run: Run) -> Run | None:
    """Return the validity experiment that a score run is judged by: the selected one, or else the newest done."""
    done = [experiment for experiment in of_kind(run, VALIDITY) if experiment.state is RunState.SUCCEEDED]
    return session.current_experiment(VALIDITY, done) or next(iter(done), None)


def running_validity(run: Run) -> Run | None:
    """Return the validity experiment on a score run that waits or is at work, the newest."""
    return next((experiment for experiment in of_kind(run, VALIDITY) if experiment.state in ACTIVE), None)


def is_check_due(run: Run) -> bool:
    """Tell whether the check that is to follow a score run has not begun yet, and may any moment."""
    if run.finished_at is None or datetime.now(UTC) - run.finished_at > FOLLOWS_WITHIN:
        return False
    return configs.config_of(run, ScoreConfig).check and not of_kind(run, VALIDITY)


def config_of(run: Run) -> ExperimentConfig:
    """Return the configuration of an experiment."""
    return configs.config_of(run, ExperimentConfig)


def attacked(score_run: Run, unlearned: Sequence[Run]) -> tuple[Run, Run] | None:
    """Return the first of unlearning runs that a durability experiment has attacked, with the newest that did."""
    done = [each for each in of_kind(score_run, DURABILITY) if each.state is RunState.SUCCEEDED]
    directories = {each.id: {directory.resolve() for directory in _runs_of(each)} for each in done}
    pairs = ((run, each) for run in unlearned for each in done if run.directory.resolve() in directories[each.id])
    return next(pairs, None)


def _runs_of(experiment: Run) -> Sequence[Path]:
    config = config_of(experiment)
    assert isinstance(config, DurabilityConfig)
    return config.runs


def comebacks(run: Run) -> list[Comeback]:
    """Return how much is back in a durability experiment so far, a line per unlearned model and attack."""
    log = ExperimentFiles(run.directory).units
    return _comebacks(run, log.stat().st_size if log.exists() else 0)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=configs.BY_ATTEMPT)
def _comebacks(run: Run, logged: int) -> list[Comeback]:  # noqa: ARG001  (more that is logged is another key)
    return returns.comebacks(read_measurements(run.directory))


def headlines(run: Run) -> list[Headline]:
    """Return what a validity experiment says of MRD so far, a line an arm."""
    log = ExperimentFiles(run.directory).units
    return _headlines(run, log.stat().st_size if log.exists() else 0)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=configs.BY_ATTEMPT)
def _headlines(run: Run, logged: int) -> list[Headline]:  # noqa: ARG001  (more that is logged is another key)
    return evidence.headlines(run.directory)
