"""Experiments as the page shows them: each by the module of its name, with a `PRESENTATION`."""

from __future__ import annotations

import importlib

from pages.parts.evidence.presentation import Presentation


def presentation(kind: str) -> Presentation:
    """Return how an experiment is presented: `parameter-change` is in the module `parameter_change`."""
    declared: Presentation = importlib.import_module(f"{__name__}.{kind.replace('-', '_')}").PRESENTATION
    return declared
