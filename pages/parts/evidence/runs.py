"""The experiments on a score run: which there are, which one is looked at, and what is read of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from analysis.evidence.interpretation import Evidence
from analysis.evidence.kinds import evidence_of
from analysis.evidence.measurements import read_measurements
from mrd_core.errors import UserError
from mrd_core.experiments.config import OPTIMISERS, UnlearningExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.runs import Run
from mrd_core.unlearning.methods import METHODS
from pages.parts.evidence.kinds import presentation
from pages.shell import experiments, session
from pages.shell.notices import SYMBOLS


def choose(kind: str, known: Sequence[Run]) -> Run | None:
    """Let the user choose one of several experiments of a kind, and return the one that is looked at."""
    looked_at = session.current_experiment(kind, known)
    if len(known) > 1 or (known and looked_at is None):
        named = {run.id: f"{SYMBOLS[run.state]} {in_words(run)}" for run in known}
        key = f"evidence_run_{kind}"
        # The URL says what is looked at, whatever this control said last.
        st.session_state[key] = looked_at.id if looked_at else None
        st.selectbox(
            "Run",
            list(named),
            index=None,
            format_func=named.__getitem__,
            placeholder="Choose one of the earlier runs",
            key=key,
            on_change=lambda: session.open_experiment(kind, st.session_state[key] or ""),
            help="Newest first",
        )
    return looked_at


def in_words(run: Run) -> str:
    """Return an experiment in one line: size, arms, seed, date."""
    config = experiments.config_of(run)
    size = next(iter(presentation(run.kind).sizes))
    parts = [
        f"{getattr(config, size)} {size}",
        *([arms_in_words(config)] if isinstance(config, UnlearningExperimentConfig) else []),
    ]
    return f"{', '.join(parts)}, seed {config.seed} · {run.created_at:%Y-%m-%d %H:%M} UTC"


def arms_in_words(config: UnlearningExperimentConfig) -> str:
    """Return methods and optimisers in a few words: GA, NPO (AdamW)."""
    methods = ", ".join(METHODS[name].label for name in config.methods)
    return f"{methods} ({', '.join(OPTIMISERS[name] for name in config.optimisers)})"


def judged(run: Run) -> Evidence:
    """Return what a finished experiment shows.

    Raises:
        UserError: Its files are gone.
    """
    require_files(run)
    return _judged(run.id, run.attempt, str(run.directory))


@st.cache_data(
    show_spinner="Judging what was measured: the samples are drawn anew a thousand times", max_entries=16
)
def _judged(run_id: str, attempt: int, directory: str) -> Evidence:  # noqa: ARG001  (both are of the key)
    return evidence_of(read_measurements(Path(directory)))


def require_files(run: Run) -> None:
    """Refuse an experiment that has succeeded and whose result is no longer there.

    Raises:
        UserError: It is so.
    """
    files = ExperimentFiles(run.directory)
    for path in (files.rows, files.samples, files.scores, files.measures, files.summary):
        if not path.exists():
            raise UserError(
                "The result of this experiment",
                f"is not whole: {path.name} is missing from {run.directory}.",
                "Put the file back, or delete this run and run the experiment once more.",
            )
