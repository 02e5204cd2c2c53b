"""What a field of a configuration says of itself: to the command line, to the forms and to the documentation.

Type, bounds, default and description are pydantic's. The rest stands in `json_schema_extra`, see `Extra`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]


class Role(Enum):
    """What a text or a path stands for."""

    PLACE = "a path, or a name that is none"
    RUN = "the directory of another run"


# A path, or a name that is none (`demo`, a hub id). The command line makes paths absolute.
Place = Annotated[str, Role.PLACE]
# The directory of another run; the command line takes its id too.
RunPath = Annotated[Path, Role.RUN]


class Extra(TypedDict, total=False):
    """What `json_schema_extra` of a field may hold.

    Attributes:
        unit: Of its value.
        option: Its name on the command line, in the place of its own with dashes; None gives it no option. Of a
            nested configuration it is the name of that one's `source`.
        prefix: Of the names of a nested configuration's other fields.
        suffix: The same.
        fields: Those of a nested configuration that have options, where not all have.
        help: Help texts for fields of a nested configuration, in the place of their own.
        flag: Help of the flag that sets the opposite of the default, in the place of its own.
        required: Whether the command line must be told.
        argument: Whether it stands without its name on the command line.
        absent: What the option says where there is no nested configuration.
        enum: What a text can be, where its type does not say it.
    """

    unit: str
    option: str | None
    prefix: str
    suffix: str
    fields: Sequence[str]
    help: Mapping[str, str]
    flag: str
    required: bool
    argument: bool
    absent: str
    enum: Sequence[str]


class Declared(NamedTuple):
    """A field of a configuration, for whoever asks for its value.

    Attributes:
        help: With the unit in brackets where it has one.
        unit: "" without one.
        default: None without one.
        choices: What it can be, where that is a list.
        least: The smallest number allowed; None without one.
        most: The largest.
        is_whole: Whether it is a whole number.
        is_place: Whether it is a path, or may be one.
    """

    help: str
    unit: str
    default: Any
    choices: tuple[str, ...]
    least: float | None
    most: float | None
    is_whole: bool
    is_place: bool


def declared(config: Model, field: str) -> Declared:
    """Return what `config` declares of `field`."""
    info = config.model_fields[field]
    unit = extra_of(info).get("unit", "")
    types = set(_types(info))
    constraints = [*info.metadata, *_nested_metadata(info.annotation)]
    return Declared(
        help=f"{info.description} [{unit}]" if unit else str(info.description),
        unit=unit,
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        choices=choices_of(info),
        least=_bound(constraints, annotated_types.Ge, annotated_types.Gt),
        most=_bound(constraints, annotated_types.Le, annotated_types.Lt),
        is_whole=int in types and float not in types,
        is_place=bool(types & {Path}) or Role.PLACE in constraints,
    )


def help_of(config: Model, field: str) -> str:
    """Return the help text of `config.field`, with its unit in brackets where it has one."""
    return declared(config, field).help


def extra_of(info: FieldInfo) -> Extra:
    """Return what a field says beside what pydantic knows."""
    return cast(Extra, info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {})


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """Return the values that a field can have; empty where any text or number will do."""
    names: list[str] = list(extra_of(info).get("enum", ()))
    if names:
        return tuple(names)
    for kind in _types(info):
        if get_origin(kind) is Literal:
            names += map(str, get_args(kind))
        elif isinstance(kind, type) and issubclass(kind, Enum):
            names += [str(member.value) for member in kind]
        elif kind is not type(None):
            return ()
    return tuple(names)


def nested_in(info: FieldInfo) -> Model | None:
    """Return the configuration that a field nests; None where it holds a value."""
    return next((kind for kind in _types(info) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def is_run(info: FieldInfo) -> bool:
    """Tell whether a field is the directory of another run."""
    return Role.RUN in (*info.metadata, *_nested_metadata(info.annotation))


def holds_several(info: FieldInfo) -> bool:
    """Tell whether a field holds several values, named or not."""
    return any(get_origin(kind) in (tuple, dict) for kind in _types(info))


def _types(info: FieldInfo) -> Iterator[Any]:
    """Yield the alternatives of a field's type."""
    pending: list[Any] = [info.annotation]
    while pending:
        kind = pending.pop(0)
        origin = get_origin(kind)
        if origin is None or origin in (Literal, tuple, dict):
            yield kind
        else:
            pending += [kind.__origin__] if origin is Annotated else get_args(kind)


def _nested_metadata(kind: Any) -> Iterator[Any]:
    """Yield what stands in `Annotated` within a type."""
    if get_origin(kind) is Annotated:
        for note in kind.__metadata__:
            yield from note.metadata if isinstance(note, FieldInfo) else [note]
    for part in get_args(kind):
        yield from _nested_metadata(part)


def _bound(constraints: Sequence[Any], inclusive: Any, exclusive: Any) -> float | None:
    for kind, name in ((inclusive, inclusive.__name__.lower()), (exclusive, exclusive.__name__.lower())):
        for constraint in constraints:
            if isinstance(constraint, kind):
                return cast(float, getattr(constraint, name))
    return None
