"""The evaluations that the store knows and that can be read, and what is read of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import streamlit as st

from analysis.comparison import evaluated
from analysis.comparison.evaluated import ORIGINAL, Evaluated
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs import Run, RunState
from mrd_core.runs.files import CONFIG_FILE, read_json
from pages.shell import configs, session
from pages.shell.configs import BY_ATTEMPT
from pages.shell.notices import literal


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
        label: "Original", "GA + MRD".
        seed: Of the unlearning run; None where nothing was unlearned.
    """

    label: str
    seed: int | None

    @property
    def name(self) -> str:
        """Label and seed: `GA + MRD, seed 0`."""
        return self.label if self.seed is None else f"{self.label}, seed {self.seed}"


def config_of(run: Run) -> EvaluateConfig:
    """Return the configuration of an evaluation."""
    return configs.config_of(run, EvaluateConfig)


@st.cache_resource(show_spinner=False, max_entries=500, hash_funcs=BY_ATTEMPT)
def subject_of(run: Run) -> Subject:
    """Return what an evaluation evaluates, as it was told when it was asked for."""
    path = EvaluationFiles(run.directory).unlearned
    if not path.exists():
        return Subject(ORIGINAL, None)
    summary = read_json(path)["summary"]
    return Subject(summary["label"], summary["seed"])


def read(run: Run) -> Evaluated:
    """Return a finished evaluation.

    Raises:
        UserError: Not all of its files are there.
    """
    EvaluationFiles.finished(run.directory)
    return _read(run)


@st.cache_resource(show_spinner="Reading the evaluations", max_entries=64, hash_funcs=BY_ATTEMPT)
def _read(run: Run) -> Evaluated:
    return evaluated.read(run.directory)


def readable() -> list[Run]:
    """Return the evaluations of the store that can be read, newest first."""
    return [run for run in session.store().list(kinds=("evaluate",)) if _fault(run) is None]


def name_left_out() -> None:
    """Name the evaluations that cannot be read, and say why."""
    runs = session.store().list(kinds=("evaluate",))
    faults = [literal(f"{run.title} ({run.id}) {fault}") for run in runs if (fault := _fault(run))]
    if faults:
        st.caption(f":material/info: Left out, for not all of their files can be read: {'; '.join(faults)}")


def _fault(run: Run) -> str | None:
    """Return why an evaluation cannot be read; None where it can, as far as it has got."""
    if not (run.directory / CONFIG_FILE).exists():
        return f"has no {CONFIG_FILE}: its directory is gone."
    try:
        config_of(run)
        if run.state is RunState.SUCCEEDED:
            EvaluationFiles.finished(run.directory)
    except UserError as error:
        return error.why
    return None


def of_score_run(run: Run | None) -> list[Run]:
    """Return the evaluations beside the MRD of a score run, newest first; all of them without one."""
    return [other for other in readable() if run is None or config_of(other).score_run == run.directory]


def finished(runs: Iterable[Run]) -> list[Run]:
    """Return those that have succeeded."""
    return [run for run in runs if run.state is RunState.SUCCEEDED]


def name_of(run: Run) -> str:
    """Return what is evaluated, for people."""
    subject = subject_of(run)
    return f"{subject.name} ({config_of(run).subject})" if subject.seed is None else subject.name
