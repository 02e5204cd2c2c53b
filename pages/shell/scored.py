"""The score run that forms take their samples and defaults from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from mrd_core.experiments import kinds
from mrd_core.experiments.config import UnlearningExperimentConfig
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.records import ScoreSummary
from pages.shell import experiments, session, unlearnings
from pages.shell.configs import BY_ATTEMPT

DEMO = ForgetSetConfig(source="demo")


def sample_ids(run: Run) -> list[str]:
    """Return the ids of the samples of a score run, sorted; none before they are read."""
    return _kept_ids(run) if ScoreFiles(run.directory).samples.exists() else []


@st.cache_data(show_spinner=False, max_entries=200, hash_funcs=BY_ATTEMPT)
def _kept_ids(run: Run) -> list[str]:
    return sorted(pd.read_parquet(ScoreFiles(run.directory).samples, columns=["sample_id"])["sample_id"])


@dataclass(frozen=True)
class Scored:
    """A score run with its configuration."""

    run: Run
    config: ScoreConfig

    @property
    def is_demo(self) -> bool:
        """Whether the model is the demo's, which brings a retain set."""
        return self.config.model.source == "demo"

    @property
    def n_samples(self) -> int:
        """Samples of the forget set."""
        return ScoreSummary.model_validate(self.run.summary).n_samples

    @property
    def settings(self) -> dict[str, Any]:
        """What every experiment on the run has in common."""
        return {
            "score_run": self.run.directory,
            "forget_set": self.config.forget_set,
            "model": self.config.model,
            "estimator": self.config.estimator,
        }

    @property
    def retain(self) -> ForgetSetConfig | None:
        """The demo's retain set, or the one that was named last for these samples; None where none was."""
        if self.is_demo:
            return DEMO
        earlier = session.store().list(kinds=kinds.experiments(), score_run=self.run)
        configs = [experiments.config_of(run) for run in earlier]
        retain_sets = [config.retain for config in configs if isinstance(config, UnlearningExperimentConfig)]
        retain_sets += [
            unlearnings.config_of(run).retain.samples
            for run in session.store().list(kinds=("unlearn",), score_run=self.run)
        ]
        return next(filter(None, retain_sets), None)


def scored(run: Run) -> Scored:
    """Return a score run with its configuration."""
    return Scored(run, read_config(run.directory, ScoreConfig))
