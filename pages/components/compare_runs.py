"""The evaluations that the store knows, and what is read of those that are compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from analysis import evaluated
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs import Run, RunState
from mrd_core.runs.directory import read_config
from pages.components import session


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
        label: "Original", "GA + MRD".
        seed: Of the unlearning run; None where nothing was unlearned.
        setting: The same for runs that differ in nothing but their seed.
    """

    label: str
    seed: int | None
    setting: str

    @property
    def name(self) -> str:
        """Both, for people."""
        return self.label if self.seed is None else f"{self.label}, seed {self.seed}"


def config_of(run: Run) -> EvaluateConfig:
    """Return the configuration of an evaluation."""
    return _config(run.id, str(run.directory))


@st.cache_resource(show_spinner=False, max_entries=500)
def _config(run_id: str, directory: str) -> EvaluateConfig:  # noqa: ARG001  (run_id is the key)
    return read_config(Path(directory), EvaluateConfig)


def subject_of(run: Run) -> Subject:
    """Return what an evaluation evaluates, as it was told when it was asked for."""
    return _subject(run.id, str(run.directory))


@st.cache_resource(show_spinner=False, max_entries=500)
def _subject(run_id: str, directory: str) -> Subject:  # noqa: ARG001  (run_id is the key)
    path = EvaluationFiles(Path(directory)).unlearned
    if not path.exists():
        config = read_config(Path(directory), EvaluateConfig)
        return Subject(evaluated.ORIGINAL, None, config.model.model_dump_json())
    summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
    return Subject(summary["label"], summary["seed"], summary["setting"])


def of_score_run(run: Run | None) -> list[Run]:
    """Return the evaluations beside the MRD of a score run, newest first; all of them without one."""
    known = session.store().evaluations()
    return [found for found in known if run is None or config_of(found).score_run == run.directory]


def finished(known: Iterable[Run]) -> list[Run]:
    """Return those that have succeeded."""
    return [run for run in known if run.state is RunState.SUCCEEDED]


def name_of(run: Run) -> str:
    """Return what is evaluated, for people."""
    subject = subject_of(run)
    return f"{subject.name} ({config_of(run).subject})" if subject.seed is None else subject.name


def require_files(run: Run) -> None:
    """Refuse an evaluation that has succeeded and whose values are no longer there.

    Raises:
        UserError: It is so.
    """
    files = EvaluationFiles(run.directory)
    for path in (files.values, files.aggregates, files.catalogue, files.summary):
        if not path.exists():
            raise UserError(
                f"The evaluation of {subject_of(run).name} ({run.id})",
                f"is not whole: {path.name} is missing from {run.directory}.",
                "Put the file back, leave this evaluation out, or delete it and evaluate once more.",
            )
