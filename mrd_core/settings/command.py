"""A configuration as a command, read and written: `mrd-lens score --model … --forget-set …`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from mrd_core import __version__
from mrd_core.errors import UserError
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.fields import nested_in
from mrd_core.settings.options import Option, options_of, refusal

PROGRAM, VERSION = "mrd-lens", __version__
# Where the packages of the product lie: a checkout, or where it is installed.
ROOT = Path(__file__).resolve().parents[2]
Nested = dict[str, Any]
Config = TypeVar("Config", bound=Frozen)


def shown(*words: object) -> str:
    """Return a command as a shell takes it: `mrd-lens …`."""
    return shlex.join([PROGRAM, *map(str, words)])


def process(*words: object) -> list[str]:
    """Return the same command as a process of this interpreter that depends on no search path and no directory."""
    return [sys.executable, str(ROOT / "cli"), *map(str, words)]


def anywhere(command: str, environment: Mapping[str, str]) -> str:
    """Return a command that was shown as any shell carries it out, whatever its directory and its search path.

    Args:
        command: As `shown` returns it.
        environment: What the shell must set, see `Settings.environment`.
    """
    script, prefix = Path(sys.executable).with_name(PROGRAM), Path(sys.prefix).resolve()
    # The script of another environment, or of none, may be that of another checkout.
    is_own = script.exists() and (prefix.parent == ROOT or prefix in ROOT.parents)
    program = [str(script)] if is_own else process()
    assignments = (f"{name}={shlex.quote(value)}" for name, value in environment.items())
    return " ".join([*assignments, shlex.join(program) + command.removeprefix(PROGRAM)])


@dataclass(frozen=True)
class Command(Generic[Config]):
    """The command that carries out the runs of a kind of configuration.

    Attributes:
        name: Its words after `mrd-lens`.
        config: What it reads.
        base: From the settings that were given, nested settings that follow from them: those of a run that is
            built on, or of a preset.
        check: Refuses settings that contradict each other with a UserError.
    """

    name: tuple[str, ...]
    config: type[Config]
    base: Callable[[Nested], Nested] = field(default=lambda _settings: {})
    check: Callable[[Nested], None] = field(default=lambda _settings: None)

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """All of its options and arguments."""
        return options_of(self.config)

    def read(self, typed: Mapping[str, Any], find_run: Callable[[str], Path] = Path) -> Config:
        """Return the configuration that was asked for.

        Args:
            typed: Texts by the name of the option, True for flags, lists of texts for several; None, False and
                empty lists were not given.
            find_run: Returns the directory of a run that is named by it or by its id.

        Raises:
            UserError: A value is refused, or two contradict each other.
        """
        given = {
            option: _runs(option, value, find_run) if option.is_run else option.parsed(value)
            for option in self.options
            if (value := typed.get(option.name)) not in (None, False, [], ())
        }
        _require_present(given)
        settings: Nested = {}
        for option, value in given.items():
            option.put(settings, value)
        self.check(settings)
        try:
            return self.config.model_validate(merged(self.base(settings), settings))
        except ValidationError as error:
            fix = f"See `{shown(*self.name)} --help`."
            raise refusal(error, fix, self.options) from error

    def shown(self, config: Config, further: Mapping[str, Sequence[str]] | None = None) -> str:
        """Return the command that asks for a configuration: what is no default and follows from nothing else.

        Args:
            config: What it reads back.
            further: Values of options that are none of the configuration.
        """
        config = config.as_asked()
        spoken = [option for option in self.options if option.required or option.is_run or option.absent]
        settings: Nested = {}
        for option in spoken:
            if (value := option.value_of(config)) is not None or option.absent:
                option.put(settings, value)
        while (further_option := self._next(config, settings, spoken)) is not None:
            spoken.append(further_option)
            further_option.put(settings, further_option.value_of(config))
        values = [(option, option.value_of(config)) for option in self.options if option in spoken]
        words = [
            word for option, value in values if value is not None or option.absent for word in option.words(value)
        ]
        others = [
            word for name, texts in (further or {}).items() for text in texts for word in (f"--{name}", text)
        ]
        return shown(*self.name, *words, *others)

    def _next(self, config: Config, settings: Nested, spoken: Sequence[Option]) -> Option | None:
        """Return the first option that is yet to be spoken: each may change what follows from those before it."""
        base = _draft(self.config, merged(self.base(settings), settings))
        for option in self.options:
            value = option.value_of(config)
            if option not in spoken and value is not None and value != option.value_of(base):
                return option
        return None


def _runs(option: Option, typed: Any, find_run: Callable[[str], Path]) -> Path | list[Path]:
    """Return the directory of the run that is named, or those of several."""
    return list(map(find_run, option.parsed(typed))) if option.kind == "several" else find_run(typed)


def _require_present(given: Mapping[Option, Any]) -> None:
    """Refuse options of a configuration that another option says is not there."""
    absent = [option for option, value in given.items() if option.absent and value is None]
    for option in absent:
        for other in given:
            if other is not option and other.path[: len(option.path) - 1] == option.path[:-1]:
                raise UserError(
                    " ".join(other.words(given[other])),
                    f"describes what --{option.name} {option.absent} leaves out.",
                    f"Name it with --{option.name}, or leave --{other.name} out.",
                )


def merged(base: Nested, settings: Nested) -> Nested:
    """Return nested settings, those of `settings` over those of `base`."""
    return base | {
        name: merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
        for name, value in settings.items()
    }


def _draft(config: type[BaseModel], settings: Nested) -> BaseModel:
    """Return a configuration of nested settings, not validated, with the defaults of what they leave open."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        nested = nested_in(config.model_fields[name])
        values[name] = _draft(nested, value) if nested and isinstance(value, dict) else value
    return config.model_construct(**values)
