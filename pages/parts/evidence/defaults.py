"""What an experiment begins with before anything is set: sizes that end within minutes, methods that can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mrd_core.experiments.config import EXPERIMENTS, UnlearningExperimentConfig, ValidityConfig
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.unlearning.config import UnlearnConfig
from pages.parts.evidence import runs as evidence_runs
from pages.shell import session

DEMO = ForgetSetConfig(source="demo")
# On two cores each takes a few minutes with the demo model.
DEMO_SIZES: dict[str, dict[str, int]] = {
    "validity": {"samples": 40, "repeats": 2},
    "parameter-change": {"composites": 40, "size": 10},
    "selection": {"size": 20},
    "sensitivity": {"samples": 40},
    "theorem": {},
}
# NPO is left out: at most learning rates it forgets a single sample at once or never.
METHODS_WITHOUT_RETAIN, METHODS_WITH_RETAIN = ("ga",), ("ga", "graddiff")


@dataclass(frozen=True)
class Scored:
    """The score run that experiments take their samples from."""

    run: Run
    config: ScoreConfig

    @property
    def is_demo(self) -> bool:
        """Whether the model is the demo's, which brings a retain set."""
        return self.config.model.source == "demo"

    @property
    def n_samples(self) -> int:
        """Samples of the forget set."""
        return int((self.run.summary or {})["n_samples"])

    @property
    def settings(self) -> dict[str, Any]:
        """What every experiment on the run has in common."""
        return {
            "score_run": self.run.directory,
            "forget_set": self.config.forget_set,
            "model": self.config.model,
            "estimator": self.config.estimator,
        }


def scored(run: Run) -> Scored:
    """Return a score run with its configuration."""
    return Scored(run, read_config(run.directory, ScoreConfig))


def sizes(of: Scored, kind: str) -> dict[str, int]:
    """Return the sizes of an experiment that are not the declared ones."""
    return DEMO_SIZES[kind] if of.is_demo else {}


def first_validity(of: Scored) -> ValidityConfig:
    """Return the predictive-validity experiment that one click launches."""
    retain = known_retain(of)
    methods = METHODS_WITH_RETAIN if retain else METHODS_WITHOUT_RETAIN
    return ValidityConfig(**of.settings, **sizes(of, "validity"), methods=methods, retain=retain)


def known_retain(of: Scored) -> ForgetSetConfig | None:
    """Return the demo's retain set, or the one that was named last for these samples; None where none was."""
    if of.is_demo:
        return DEMO
    named = [evidence_runs.config_of(run) for run in session.store().list(kinds=EXPERIMENTS, score_run=of.run)]
    retain_sets = [config.retain for config in named if isinstance(config, UnlearningExperimentConfig)]
    unlearned = [
        read_config(run.directory, UnlearnConfig)
        for run in session.store().list(kinds=("unlearn",), score_run=of.run)
    ]
    retain_sets += [config.retain.samples for config in unlearned]
    return next((retain for retain in retain_sets if retain is not None), None)
