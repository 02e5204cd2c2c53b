"""Kinds of run: what the rest of the program may ask of a run without knowing what it does.

A package declares its kind as an instance of `Kind`, torch-free, and names it in `KINDS`. Submitting, resuming,
progress, lists, deletion, the command line and the documentation ask the kind; nothing here imports one before it
is asked for. The table is closed, so a hand-made config.json can name no code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from mrd_core.errors import UserError
from mrd_core.runs.files import Artifact, RunDirectory
from mrd_core.runs.record import Run, RunState
from mrd_core.settings.configuration import RunConfig

Summary = Mapping[str, Any]

KINDS: Mapping[str, str] = {
    "score": "mrd_core.scoring.kind:SCORE",
    "characteristics": "analysis.characteristics.kind:CHARACTERISTICS",
    "token-parts": "mrd_core.scoring.token_parts:TOKEN_PARTS",
    "unlearn": "mrd_core.unlearning.kind:UNLEARN",
    "evaluate": "mrd_core.evaluation.kind:EVALUATE",
}
# Packages with several kinds of a sort, each a mapping of names.
FAMILIES = ("mrd_core.experiments.kind:KINDS",)


def figure(value: float | None, form: str) -> str:
    """Return a figure as text, in a format such as `.3f`."""
    return "undefined" if value is None else format(value, form)


def anywhere(_config: Any) -> Path | None:
    """Return no place: such runs lie anywhere."""
    return None


@dataclass(frozen=True)
class Description:
    """How a finished run came out, for people.

    Attributes:
        lines: Sentences and places of files.
        table: Figures, as text; None without one.
    """

    lines: tuple[str, ...]
    table: pd.DataFrame | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        name: As in config.json and in the store.
        label: What people call it.
        config: Class of its configuration.
        job: `module:function` that carries it out, called with the configuration and a JobContext.
        files: What its directory holds.
        counted: What its progress counts.
        headline: From the summary, how it came out in a few words.
        describe: From directory and summary, how it came out.
        cost: What it will take, before it is launched; its arguments are the kind's own.
        prepare: Writes what the run keeps of its own (samples, scores) into the directory that is being made, and
            returns the configuration with what it left open.
        title: Of a configuration, for people.
        on_scores: From the configuration of the score run and the settings that were given, those that follow.
        place: Where a run of these settings lies, and is made once; None: anywhere, and made anew each time.
        model: The model that a finished run made; None where such runs make none.
        follow_up: `module:function` that returns, of the configuration and the directory of a run that succeeded,
            the configuration of the run that follows it; None where none does.
        is_shared: Whether other processes can share its work: `mrd-lens share DIR`.
    """

    name: str
    label: str
    config: type[RunConfig]
    job: str
    files: type[RunDirectory]
    counted: str
    headline: Callable[[Summary], str]
    describe: Callable[[Path, Summary], Description]
    cost: Callable[..., Any] | None = None
    prepare: Callable[[Any, Path], RunConfig] = field(default=lambda config, _draft: config)
    title: Callable[[Any], str] = field(default=lambda config: str(config.title))
    on_scores: Callable[[Any, dict[str, Any]], dict[str, Any]] = field(default=lambda _scored, _settings: {})
    place: Callable[[Any], Path | None] = field(default=anywhere)
    model: Callable[[Path], Any] | None = None
    follow_up: str | None = None
    is_shared: bool = False

    @property
    def has_place(self) -> bool:
        """Whether its runs lie in the directory of the run that they build on, and are made once."""
        return self.place is not anywhere

    @property
    def artifacts(self) -> Mapping[str, Artifact]:
        """What its directory holds, by attribute of `files`."""
        return self.files.artifacts()


def kinds() -> Mapping[str, Kind]:
    """Return all kinds by name; imports every package that declares one."""
    single = {name: at_place(place) for name, place in KINDS.items()}
    return single | {name: kind for place in FAMILIES for name, kind in at_place(place).items()}


def kind_named(name: str) -> Kind:
    """Return the kind with this name.

    Raises:
        UserError: There is none.
    """
    kind = at_place(KINDS[name]) if name in KINDS else kinds().get(name)
    if kind is None:
        raise UserError(f"The kind '{name}'", "is unknown.", f"Use one of: {', '.join(kinds())}.")
    return kind


def is_known(name: str) -> bool:
    """Return whether there is a kind with this name."""
    return name in KINDS or name in kinds()


def headline(run: Run) -> str:
    """Return how a run came out in a few words; why it did not where it failed, and "" while it goes on.

    One whose figures cannot be read says so, and breaks no list.
    """
    if run.state is not RunState.SUCCEEDED or not run.summary:
        return run.error.cause if run.error else ""
    try:
        return kind_named(run.kind).headline(run.summary)
    except ValidationError:
        return "its figures are not as this version writes them"


def at_place(place: str) -> Any:
    """Return what stands at `module:name`, the module imported where it is not yet."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
