"""The score run that forms take their samples and defaults from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mrd_core.experiments import kinds
from mrd_core.experiments.config import UnlearningExperimentConfig
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.records import ScoreSummary
from pages.shell import experiments, session, unlearnings

DEMO = ForgetSetConfig(source="demo")


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
