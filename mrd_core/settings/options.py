"""The fields of a configuration as options of a command line. What each is called stands in the field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic.fields import FieldInfo

from mrd_core.errors import UserError
from mrd_core.settings.fields import Extra, Model, declared, extra_of, holds_several, is_run, nested_in
from mrd_core.settings.places import expanded

# The field of a nested configuration that is called like the configuration itself: `--model` is `model.source`.
MAIN = "source"
DEMO = "demo"
# Of a data set beside the forget set only these have options.
DATA_SET: list[JsonValue] = [MAIN, "subset", "split"]


class Option(NamedTuple):
    """An option, or an argument.

    Attributes:
        name: Without its dashes.
        path: Where its value stands in the configuration.
        help: With the unit and the default.
        kind: `value` for text that the configuration parses, `flag`, or `several` for values with commas between
            them.
        flag_value: What a flag sets.
        choices: What it can be, where that is a list.
        required: Whether it must be given.
        is_argument: Whether it stands without its name.
        is_place: Whether it is a path, or may be one.
        is_run: Whether it names another run.
        absent: What it says where its configuration is None; "" where nothing is said then.
    """

    name: str
    path: tuple[str, ...]
    help: str
    kind: Literal["value", "flag", "several"] = "value"
    flag_value: bool = True
    choices: tuple[str, ...] = ()
    required: bool = False
    is_argument: bool = False
    is_place: bool = False
    is_run: bool = False
    absent: str = ""

    def value_of(self, config: BaseModel) -> Any:
        """Return what a configuration says; None where it has no such part."""
        value: Any = config
        for part in self.path:
            value = getattr(value, part, None)
        return value

    def words(self, value: Any) -> list[str]:
        """Return the option as it is typed."""
        option = [] if self.is_argument else [f"--{self.name}"]
        if self.kind == "flag":
            return option
        if self.kind == "several":
            values = [f"{name}={text}" for name, text in value.items()] if isinstance(value, dict) else value
            return [*option, ",".join(self._in_full(str(each)) for each in values)]
        return [*option, self._in_full(self.absent if value is None else str(value))]

    def put(self, settings: dict[str, Any], value: Any) -> None:
        """Set a value in nested settings; None stands for a configuration that is not there."""
        *above, name = self.path[:-1] if self.absent and value is None else self.path
        for part in above:
            settings = settings.setdefault(part, {})
        settings[name] = value

    def parsed(self, typed: Any) -> Any:
        """Return a value as the configuration reads it; texts stay texts.

        Args:
            typed: A text, True for a flag, texts for several values.
        """
        if self.kind == "flag":
            return self.flag_value
        if self.kind == "several":
            parts = [part.strip() for text in typed for part in text.split(",") if part.strip()]
            return dict(map(_pair, parts)) if self.path[-1] == "parameters" else list(map(self._located, parts))
        if self.absent and typed == self.absent:
            return None
        return self._located(typed)

    def _located(self, text: str) -> str:
        return absolute(text) if self.is_place and text not in self.choices else text

    def _in_full(self, text: str) -> str:
        return absolute(text) if self.is_run else self._located(text)


def options_of(config: Model) -> tuple[Option, ...]:
    """Return an option for each field of a configuration and of those that it nests."""
    return tuple(_options(config, (), "", "", {}))


def absolute(place: str) -> str:
    """Make a path absolute, so that config.json means the same from any directory; leave names alone."""
    path = expanded(place)
    return str(path.resolve()) if place != DEMO and path.exists() else place


def refusal(
    error: ValidationError, fix: str, options: Iterable[Option] = (), where: Path | None = None
) -> UserError:
    """Return what a user should read of settings that do not validate: which one, why it is refused, what to do.

    Args:
        error: The first that it tells of is named.
        fix: What to do.
        options: Names of the settings for those who type them; without any the fields' own are used.
        where: The file that holds them.
    """
    first, *others = error.errors(include_url=False)
    option = _option_at(first["loc"], options)
    # The names of fields; a union adds that of the alternative, such as `constrained-float`.
    fields = takewhile(str.isidentifier, map(str, first["loc"]))
    place = option.path if option else tuple(fields)
    # Of a union every alternative says what it would take.
    messages = [first["msg"], *(other["msg"] for other in others if place and other["loc"][: len(place)] == place)]
    reasons = " or ".join(dict.fromkeys(text.removeprefix("Value error, ").strip() for text in messages))
    # A validator's message goes on from a field's name; here it is a sentence of its own.
    reason = reasons[:1].upper() + reasons[1:]
    value = _as_typed(first["input"])
    if option:
        name = f"--{option.name} {value}".rstrip()
    else:
        spelt = ".".join(map(str, place))
        name = f"{spelt} = {value}" if spelt and value else spelt or "The settings"
    if where:
        return UserError(str(where), f"{name}: {reason}.", fix)
    return UserError(name, f"{reason}.", fix)


def _options(
    config: Model, above: tuple[str, ...], prefix: str, suffix: str, helps: Mapping[str, str]
) -> Iterator[Option]:
    for field, info in config.model_fields.items():
        extra, path = extra_of(info), (*above, field)
        dashed = field.replace("_", "-")
        name = extra.get("option", f"{prefix}{dashed}{suffix}")
        if name is None or field == "kind":
            continue
        nested = nested_in(info)
        if nested is None:
            yield _option(config, field, name, path, helps)
        else:
            # Its main field is named, and described, by the field that nests it.
            yield from _nested_options(nested, info, extra, name, path)


def _nested_options(
    nested: Model, info: FieldInfo, extra: Extra, name: str, path: tuple[str, ...]
) -> Iterator[Option]:
    helps = dict(extra.get("help", {}))
    if info.description:
        helps.setdefault(MAIN, info.description)
    for option in _options(nested, path, extra.get("prefix", ""), extra.get("suffix", ""), helps):
        place = option.path[len(path) :]
        if place[0] not in extra.get("fields", nested.model_fields):
            continue
        if place == (MAIN,) and "option" not in extra_of(nested.model_fields[MAIN]):
            option = option._replace(
                name=name, required=extra.get("required", False), absent=extra.get("absent", "")
            )
        yield option


def _option(config: Model, field: str, name: str, path: tuple[str, ...], helps: Mapping[str, str]) -> Option:
    info, setting = config.model_fields[field], declared(config, field)
    extra = extra_of(info)
    option = Option(
        name,
        path,
        helps.get(field, setting.help),
        choices=setting.choices,
        required=extra.get("required", False),
        is_argument=extra.get("argument", False),
        is_place=setting.is_place,
        is_run=is_run(info),
    )
    if isinstance(setting.default, bool):
        return option._replace(kind="flag", flag_value=not setting.default, help=extra.get("flag", option.help))
    if holds_several(info):
        form = " NAME=VALUE" if isinstance(setting.default, dict) else ""
        option = option._replace(kind="several", help=f"{option.help} Several{form} with commas between them.")
    if setting.default not in (None, "", (), {}) and field not in helps:
        values = setting.default if isinstance(setting.default, tuple) else (setting.default,)
        several = isinstance(setting.default, tuple)
        spelt = [f"{value:g}" if several and isinstance(value, float) else str(value) for value in values]
        option = option._replace(help=f"{option.help} By default {','.join(spelt)}.")
    return option


def _option_at(place: Sequence[int | str], options: Iterable[Option]) -> Option | None:
    """Return the option whose value stands at this place of a configuration; None for the whole of it."""
    for length in range(len(place), 0, -1):
        for option in options:
            # What is missing is missing from the configuration around it.
            if option.path == place[:length] or (length == len(place) and option.path[:-1] == place):
                return option
    return None


def _as_typed(value: Any) -> str:
    """Return a refused value as it was typed; "" where a setting is missing: the input is then the whole."""
    if isinstance(value, dict | BaseModel):
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _pair(text: str) -> tuple[str, float | str]:
    """Return `NAME=VALUE` as name and value; what reads as a number is one."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        return name.strip(), value.strip()
