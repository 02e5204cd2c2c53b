"""What an experiment begins with before anything is set: sizes that end within minutes, methods that can run."""

from __future__ import annotations

from mrd_core.experiments.config import ValidityConfig
from pages.shell.scored import Scored

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


def sizes(scored: Scored, kind: str) -> dict[str, int]:
    """Return the sizes of an experiment that are not the declared ones."""
    return DEMO_SIZES[kind] if scored.is_demo else {}


def first_validity(scored: Scored) -> ValidityConfig:
    """Return the predictive-validity experiment that one click launches."""
    retain = scored.retain
    methods = METHODS_WITH_RETAIN if retain else METHODS_WITHOUT_RETAIN
    settings = scored.settings | sizes(scored, "validity")
    return ValidityConfig(**settings, methods=methods, retain=retain)
