"""How an experiment is presented: what its form asks beside the usual, and the charts of what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mrd_core.runs import Run
from pages.shell.inputs import Form
from pages.shell.scored import Scored


@dataclass(frozen=True)
class Presentation:
    """How an experiment is presented: a module of `pages.parts.evidence.kinds` has it as `PRESENTATION`.

    Attributes:
        sizes: Fields of its configuration that make it large or small, with their labels; lists of runs say the
            first.
        show: Shows, below the verdict, what an experiment shows: of the score run, the experiment on it and its
            `analysis.evidence.interpretation.Evidence`.
        ask: Shows further inputs of a form on a score run and returns raw values by field.
        so_far: Says what an experiment on a score run shows while it is running.
        one_click: Shows one button that launches it by usual settings, while there is no experiment of its kind.
    """

    sizes: Mapping[str, str]
    show: Callable[[Run, Run, Any], None]
    ask: Callable[[Scored, Form], dict[str, Any]] = field(default=lambda _scored, _form: {})
    so_far: Callable[[Run, Run], None] | None = None
    one_click: Callable[[Scored], None] | None = None
