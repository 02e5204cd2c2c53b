"""The runs of a store by what was asked for, so that no run of a study is made twice, whoever made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.request import completed
from mrd_core.runs import ACTIVE, Run, RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.kind import is_known, kind_named
from mrd_core.runs.record import RESUMABLE
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.configuration import Frozen, RunConfig
from mrd_core.settings.fields import declared, is_run
from mrd_core.settings.options import DEMO
from mrd_core.settings.places import expanded
from mrd_core.studies.rows import ATTACKED, Links, Row

# Runs on which others build: compared by what they are, and not by where they lie.
LINKS = ("score_run", "unlearn_run")
# What changes nothing in a result. The digest of the forget set is compared by itself.
APART = frozenset(
    {
        *LINKS,
        ATTACKED,
        *("study", "forget_set_digest", "check", "report_to", "processes", "checkpoint_steps", "gradient_steps"),
    }
)
OF_ESTIMATOR = frozenset({"workers", "time_floor"})


class Stored(NamedTuple):
    """A run of the store with its configuration."""

    run: Run
    config: RunConfig


class Match(NamedTuple):
    """What the store has of a row.

    Attributes:
        run: The run; one that succeeded, or else one under way, or else one that ended early, the oldest of such.
        config: Its configuration.
        directories: Of all that succeeded with the same settings: what builds on one of them builds on this row.
    """

    run: Run
    config: RunConfig
    directories: frozenset[Path]


class Catalogue:
    """The runs of a store, each with its configuration read once.

    Args:
        store: Where they are listed.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._configs: dict[str, RunConfig | None] = {}
        self._runs: dict[str, list[Stored]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look at the store again."""
        self._runs = {}
        for run in reversed(self._store.list()):
            config = self._config(run)
            if config is not None:
                self._runs.setdefault(identity(config), []).append(Stored(run, config))

    def find(self, row: Row) -> Match | None:
        """Return what the store has of a row; None where it has nothing, or of something that it builds on."""
        parents = {parent: self.find(parent) for parent in row.parents}
        links = links_of(row, parents)
        if row.parents and links is None:
            return None
        try:
            asked = as_stored(row.config(links))
            # Named for what reads, too: a reading by another pipeline, or of other features, is another one.
            place = kind_named(row.kind).place(asked)
        except UserError:
            # What it builds on cannot be built on, which is said when it is asked for.
            return None
        same = [
            stored
            for stored in self._runs.get(identity(asked), ())
            if _builds_on(stored.config, row, parents)
            and _is_unchanged(stored, asked, dated=row.pair.dates)
            and (place is None or stored.run.directory.name == place.name)
        ]
        finished = [stored for stored in same if is_whole(stored.run)]
        ongoing = [stored for stored in same if stored.run.state in ACTIVE]
        ended = [stored for stored in same if stored.run.state in RESUMABLE]
        for stored in (*finished, *ongoing, *reversed(ended)):
            return Match(stored.run, stored.config, frozenset(each.run.directory for each in finished))
        return None

    def links(self, row: Row) -> Links | None:
        """Return what a row builds on; None where that has not succeeded yet."""
        return links_of(row, {parent: self.find(parent) for parent in row.parents})

    def _config(self, run: Run) -> RunConfig | None:
        if run.id not in self._configs:
            try:
                known = is_known(run.kind)
                self._configs[run.id] = read_config(run.directory, RunConfig) if known else None
            except UserError:
                # Its directory was removed by hand, or another version wrote it.
                self._configs[run.id] = None
        return self._configs[run.id]


def links_of(row: Row, parents: dict[Row, Match | None]) -> Links | None:
    """Return what a row builds on, of what the store has of each; None where something has not succeeded."""
    matches = [parents[parent] for parent in row.parents]
    if row.score is None or any(match is None or not match.directories for match in matches):
        return None
    score, *others = (match for match in matches if match is not None)
    assert isinstance(score.config, ScoreConfig)
    directories = tuple(match.run.directory for match in others)
    if row.unlearned is None:
        return Links(score.run.directory, score.config, attacked=directories)
    return Links(score.run.directory, score.config, directories[0])


def as_stored(config: RunConfig) -> RunConfig:
    """Return a configuration with what its kind completes when the run is made."""
    return completed(config) if isinstance(config, EvaluateConfig) else config


def identity(config: RunConfig) -> str:
    """Return all settings on which the result of a run depends, runs that it builds on and dates left out."""
    settings = config.as_asked().model_dump(mode="json", exclude=set(APART))
    for name, left_out in (("model", {"date"}), ("estimator", OF_ESTIMATOR)):
        if isinstance(settings.get(name), dict):
            settings[name] = {key: value for key, value in settings[name].items() if key not in left_out}
    return json.dumps(settings, sort_keys=True)


def digest_of(samples: ForgetSetConfig) -> str | None:
    """Return the digest of samples that are on this machine; None of others."""
    if not is_here(samples.source):
        return None
    return _digest(samples.model_dump_json(), newest_change(samples))


def is_here(source: str) -> bool:
    """Tell whether a model or samples of this name are on this machine: the demo's, a file or a folder."""
    return source == DEMO or expanded(source).exists()


def newest_change(config: Frozen) -> float:
    """Return when the files that settings name were last changed [s since the epoch]; 0 where there are none.

    Other runs are not looked at, nor is what ships with the program.
    """
    return max((_changed(path) for path in _paths(config)), default=0.0)


def is_whole(run: Run) -> bool:
    """Tell whether a run has succeeded and nobody removed its results."""
    files = kind_named(run.kind).files(run.directory)
    return run.state is RunState.SUCCEEDED and all(getattr(files, name).exists() for name in files.results)


@cache
def _digest(config: str, changed: float) -> str:  # noqa: ARG001  (changed files are others)
    return read(ForgetSetConfig.model_validate_json(config)).digest


def _builds_on(config: RunConfig, row: Row, parents: dict[Row, Match | None]) -> bool:
    """Tell whether a run builds on any run that is the same as what the row builds on."""
    for name, parent in zip(LINKS, (row.score, row.unlearned), strict=True):
        match, link = parents.get(parent) if parent else None, getattr(config, name, None)
        if (match is None) != (link is None):
            return False
        if match is not None and link is not None and Path(link).resolve() not in match.directories:
            return False
    attacked = [parents[parent] for parent in row.attacked]
    links = getattr(config, ATTACKED, ())
    return len(links) == len(attacked) and all(
        match is not None and Path(link).resolve() in match.directories
        for link, match in zip(links, attacked, strict=True)
    )


def _is_unchanged(stored: Stored, asked: RunConfig, *, dated: bool) -> bool:
    """Tell whether a run was made of the same samples, of files that are as they were, and of the same day."""
    dates = [getattr(getattr(config, "model", None), "date", None) for config in (stored.config, asked)]
    if dated and dates[0] != dates[1]:
        return False
    made, config = stored.run.created_at.timestamp(), stored.config
    if isinstance(asked, ScoreConfig) and isinstance(config, ScoreConfig) and config.forget_set_digest:
        digest = digest_of(asked.forget_set)
        return digest in (None, config.forget_set_digest) and newest_change(asked.model) <= made
    return newest_change(asked) <= made


def _paths(config: Frozen) -> Iterator[Path]:
    for name, info in type(config).model_fields.items():
        value: Any = getattr(config, name)
        if isinstance(value, Frozen):
            yield from _paths(value)
        elif declared(type(config), name).is_place and not is_run(info):
            places = value if isinstance(value, tuple) else (value,)
            paths = (Path(place) for place in places if isinstance(place, str | Path))
            yield from (path for path in paths if path.is_absolute() and path.exists())


def _changed(path: Path) -> float:
    # What is moved or copied there keeps its time of modification, and a link may lead elsewhere by now.
    states = (state for file in (path, *path.rglob("*")) if file.exists() for state in (file.stat(), file.lstat()))
    return max((max(state.st_mtime, state.st_ctime) for state in states), default=0.0)
