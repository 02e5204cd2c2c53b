"""The experiments on a score run: which there are, which one is looked at, and what is read of each."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.evidence.interpretation import Evidence
from analysis.evidence.kinds import evidence_of
from analysis.evidence.measurements import read_measurements, scores_of
from mrd_core.errors import UserError
from mrd_core.experiments.config import OPTIMISERS, UnlearningExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.runs import Run
from mrd_core.scoring.imported import Revision, revision
from mrd_core.unlearning.methods import METHODS
from pages.parts.evidence.kinds import presentation
from pages.shell import experiments, session
from pages.shell.configs import BY_ATTEMPT
from pages.shell.notices import SYMBOLS
from pages.shell.wording import told_apart


def choose(kind: str, runs: Sequence[Run]) -> Run | None:
    """Let the user choose one of several experiments of a kind, and return the selected one."""
    selected = session.current_experiment(kind, runs)
    if len(runs) > 1 or (runs and selected is None):
        # A browser names what is chosen by its label: two of one name would be one.
        titles = told_apart(
            {run.id: f"{SYMBOLS[run.state]} {in_words(run)}" for run in runs},
            {run.id: f" · {run.id}" for run in runs},
        )
        key = f"evidence_run_{kind}"
        # The URL says which is selected, whatever this control said last.
        st.session_state[key] = selected.id if selected else None
        st.selectbox(
            "Run",
            list(titles),
            index=None,
            format_func=titles.__getitem__,
            placeholder="Choose one of the earlier runs",
            key=key,
            on_change=lambda: session.open_experiment(kind, st.session_state[key] or ""),
            help="Newest first",
        )
    return selected


def in_words(run: Run) -> str:
    """Return an experiment in one line: size, arms, seed, date."""
    config = experiments.config_of(run)
    size = next(iter(presentation(run.kind).sizes))
    arms = f", {arms_in_words(config)}" if isinstance(config, UnlearningExperimentConfig) else ""
    return f"{getattr(config, size)} {size}{arms}, seed {config.seed} · {run.created_at:%Y-%m-%d %H:%M} UTC"


def arms_in_words(config: UnlearningExperimentConfig) -> str:
    """Return methods, optimisers and what is trained in a few words: GA, NPO (AdamW, LoRA rank 8)."""
    methods = ", ".join(METHODS[name].label for name in config.methods)
    adapter = [f"LoRA rank {config.lora_rank}"] if config.lora_rank else []
    return f"{methods} ({', '.join([*(OPTIMISERS[name] for name in config.optimisers), *adapter])})"


def judged(run: Run) -> Evidence:
    """Return what a finished experiment shows.

    Raises:
        UserError: Its files are gone.
    """
    files = ExperimentFiles(run.directory)
    for path in (files.rows, files.samples, files.scores, files.measures, files.summary):
        if not path.exists():
            raise UserError(
                "The result of this experiment",
                f"is not whole: {path.name} is missing from {run.directory}.",
                "Put the file back, or delete this run and run the experiment once more.",
            )
    config = experiments.config_of(run)
    return _judged(run, revision(scores_of(config, files)))


@st.cache_data(
    show_spinner="Judging what was measured: the samples are drawn anew a thousand times",
    max_entries=16,
    hash_funcs=BY_ATTEMPT,
)
def _judged(run: Run, imported: Revision) -> Evidence:  # noqa: ARG001  (another import is another key)
    return evidence_of(read_measurements(run.directory))
