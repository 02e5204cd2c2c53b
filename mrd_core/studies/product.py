"""Lists in the settings of a study: the runs are their product."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mrd_core.settings.command import Nested
from mrd_core.settings.fields import Model, declared, holds_several, is_run, nested_in
from mrd_core.settings.options import DEMO, absolute
from mrd_core.settings.places import expanded
from mrd_core.studies.lines import Place

# The slowest to change, so that a study that is stopped leaves whole seeds.
SLOWEST = "seed"


class Combination(NamedTuple):
    """One of the runs that a table stands for.

    Attributes:
        settings: With one value each.
        varied: Those that differ between the runs of the table, by their dotted names.
    """

    settings: Nested
    varied: dict[str, Any]


class _Axis(NamedTuple):
    place: Place
    values: list[Any]


def product(settings: Nested, config: Model) -> list[Combination]:
    """Return the runs that a table stands for: one for each choice of a value from each list.

    A list is the value itself where the setting holds several; several of such are a list of lists.
    """
    axes = sorted(_axes(settings, config, ()), key=lambda axis: axis.place != (SLOWEST,))
    combinations = []
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = copy.deepcopy(settings)
        for axis, value in zip(axes, values, strict=True):
            _put(chosen, axis.place, value)
        varied = {".".join(map(str, axis.place)): value for axis, value in zip(axes, values, strict=True)}
        combinations.append(Combination(chosen, varied))
    return combinations


def with_paths(settings: Nested, config: Model, folder: Path) -> Nested:
    """Return settings with their paths in full: those of a study are relative to its folder, or to this one."""
    found: Nested = {}
    for name, value in settings.items():
        info = config.model_fields.get(name)
        nested = nested_in(info) if info is not None else None
        if nested is not None and isinstance(value, dict):
            found[name] = with_paths(value, nested, folder)
        elif info is not None and declared(config, name).is_place and not is_run(info):
            found[name] = _all_in_full(value, declared(config, name).choices, folder)
        else:
            found[name] = value
    return found


def _all_in_full(value: Any, choices: Collection[str], folder: Path) -> Any:
    """Return a place in full, and all of a list of places."""
    if isinstance(value, list):
        return [_all_in_full(each, choices, folder) for each in value]
    return _in_full(value, folder) if isinstance(value, str) and value not in choices else value


def _in_full(place: str, folder: Path) -> str:
    beside = folder / expanded(place)
    return str(beside.resolve()) if place not in ("", DEMO) and beside.exists() else absolute(place)


def _axes(settings: Nested, config: Model | None, above: Place) -> Iterator[_Axis]:
    for name, value in settings.items():
        info = config.model_fields.get(name) if config is not None else None
        if isinstance(value, dict):
            yield from _axes(value, nested_in(info) if info is not None else None, (*above, name))
        elif isinstance(value, list):
            is_several = info is not None and holds_several(info)
            if not is_several or any(isinstance(each, list) for each in value):
                yield _Axis((*above, name), value)


def _put(settings: Nested, place: Place, value: Any) -> None:
    *above, name = place
    for part in above:
        settings = settings[str(part)]
    settings[str(name)] = value
