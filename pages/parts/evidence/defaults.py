"""What an experiment begins with before anything is set: sizes that end within minutes, methods that can run."""

from __future__ import annotations

from collections.abc import Mapping

from pages.parts.evidence.kinds import presentation
from pages.shell.scored import Scored

# NPO is left out: at most learning rates it forgets a single sample at once or never.
METHODS_WITHOUT_RETAIN, METHODS_WITH_RETAIN = ("ga",), ("ga", "graddiff")


def sizes(scored: Scored, kind: str) -> Mapping[str, int]:
    """Return the sizes of an experiment that are not the declared ones."""
    return presentation(kind).demo_sizes if scored.is_demo else {}
