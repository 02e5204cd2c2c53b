"""What an experiment begins with before anything is set: sizes that end within minutes, methods that can run."""

from __future__ import annotations

from collections.abc import Mapping

from mrd_core.studies.presets import demo_settings
from pages.parts.evidence.kinds import presentation
from pages.shell.scored import Scored

# NPO is left out: at most learning rates it forgets a single sample at once or never.
METHODS_WITHOUT_RETAIN, METHODS_WITH_RETAIN = ("ga",), ("ga", "graddiff")


def sizes(scored: Scored, kind: str) -> Mapping[str, int]:
    """Return the sizes of an experiment that are not the declared ones: on the demo those of its study."""
    usual = demo_settings(kind) if scored.is_demo else {}
    return {name: usual[name] for name in presentation(kind).sizes if name in usual}
