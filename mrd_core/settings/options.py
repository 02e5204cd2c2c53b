"""Settings of a configuration as options of a command line, both ways. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from mrd_core.settings.configuration import help_of


class Option(NamedTuple):
    """An option.

    Attributes:
        name: Without its dashes.
        path: Where its value stands in the configuration.
        help: With the unit.
        kind: `value` for text that the configuration parses, `flag`, `list` for one that may be repeated, or
            `several` for values with commas between them.
        flag_value: What a flag sets.
    """

    name: str
    path: tuple[str, ...]
    help: str
    kind: Literal["value", "flag", "list", "several"] = "value"
    flag_value: bool = True

    def value_of(self, config: BaseModel) -> Any:
        """Return what a configuration says; None where it has no such part."""
        value: Any = config
        for part in self.path:
            value = None if value is None else getattr(value, part)
        return value

    def words(self, value: Any) -> list[str]:
        """Return the option as it is typed."""
        option = f"--{self.name}"
        if self.kind == "flag":
            return [option]
        values = [f"{name}={one}" for name, one in value.items()] if isinstance(value, dict) else value
        if self.kind == "several":
            return [option, ",".join(map(str, values))]
        return [word for one in (values if self.kind == "list" else [values]) for word in (option, str(one))]


def options_of(config: type[BaseModel], section: tuple[str, ...], *fields: str, prefix: str = "") -> list[Option]:
    """Return an option for each of these fields of a part of a configuration, its help taken from there."""
    return [
        Option(prefix + field.replace("_", "-"), (*section, field), help_of(config, field)) for field in fields
    ]


def nested(options: Iterable[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as the nested settings of a configuration.

    Args:
        options: Those there are.
        given: By name; None, False and empty lists were not given.
    """
    settings: dict[str, Any] = {}
    for option in options:
        value = given.get(option.name)
        if value not in (None, False, []):
            put(settings, option.path, _parsed(option, value))
    return settings


def put(settings: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value in nested settings."""
    for part in path[:-1]:
        settings = settings.setdefault(part, {})
    settings[path[-1]] = value


def pairs(texts: Iterable[str]) -> dict[str, float | str]:
    """Return `NAME=VALUE` texts as a mapping; what reads as a number is one."""
    return dict(_pair(text) for text in texts)


def _parsed(option: Option, value: Any) -> Any:
    if option.kind == "flag":
        return option.flag_value
    if option.kind != "several":
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return pairs(parts) if option.path[-1] == "parameters" else parts


def _pair(text: str) -> tuple[str, float | str]:
    name, _, value = text.partition("=")
    return name.strip(), _number_or_text(value.strip())


def _number_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
