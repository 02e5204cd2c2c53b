"""The short check that follows a score run: whether MRD foretells updates on its model. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from mrd_core.experiments.kinds.validity import ValidityConfig, passes
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.cost import START_UP_SECONDS, ScoringCost

# By Fisher's z the n at which a rank correlation of 0.43 differs from 0 at 5 % in four cases of five:
# 3 + ((1.96 + 0.84) / artanh 0.43)² = 40. For 0.6 it is 20.
SAMPLES, TELLS_RHO, POWER = 40, 0.43, 0.8
# Where it takes no longer it is made unless the user says otherwise [s].
UNASKED_SECONDS = 180.0


def after(config: ScoreConfig, directory: Path) -> ValidityConfig | None:
    """Return the check that follows the score run in `directory`; None where none was asked for.

    Gradient ascent alone: it needs no retain set, and nothing in it is random, so that once is enough.
    """
    return of(config, directory) if config.check else None


def of(config: ScoreConfig, directory: Path | None = None) -> ValidityConfig:
    """Return the short check of what `config` scores, on the run in `directory` once there is one."""
    return ValidityConfig(
        score_run=directory,
        forget_set=config.forget_set,
        model=config.model,
        estimator=config.estimator,
        methods=("ga",),
        samples=SAMPLES,
    )


def seconds(config: ScoreConfig, scoring: ScoringCost, n_samples: int) -> float | None:
    """Estimate what the check will take at the pace that the score run is expected to have.

    Args:
        config: Of the score run.
        scoring: Its estimate.
        n_samples: Samples of its forget set.

    Returns:
        Probable time [s]; None where the score run's is unknown.
    """
    if scoring.seconds_per_pass is None:
        return None
    return START_UP_SECONDS + passes(of(config), n_samples) * scoring.seconds_per_pass / n_samples
