"""The inputs of a form, made from a setting's own declaration: its choices, bounds, default, unit and help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import annotated_types
import pydantic
import streamlit as st
from pydantic.fields import FieldInfo

from mrd_core.settings.fields import help_of
from mrd_core.unlearning.methods.method import Parameter

Config = type[pydantic.BaseModel]
# Larger numbers lose digits on their way to the browser.
LARGEST = 2**53 - 1
# As the formulas write them.
SYMBOLS = {
    "beta": "β",
    "beta1": "β₁",
    "beta2": "β₂",
    "gamma": "γ",
    "average": "Average over",
    "granularity": "Granularity",
}


@dataclass(frozen=True)
class Form:
    """The inputs of one form.

    Attributes:
        name: What the keys of its inputs begin with, so that no two forms share an input.
        variant: Tells apart inputs that begin anew, each with its own default, when something else is chosen.
    """

    name: str
    variant: str = ""

    def key_of(self, config: Config, field: str) -> str:
        """Return the key of the input for `config.field`."""
        return "_".join(filter(None, (self.name, config.__name__, field, self.variant)))

    def number(
        self, config: Config, field: str, label: str, placeholder: str = "none", default: float | None = None
    ) -> Any:
        """Ask for the number `config.field`; empty is None, where that is its default.

        Args:
            config: Declares the field.
            field: Its name.
            label: Of the input.
            placeholder: What an empty input shows.
            default: In the place of the declared one.
        """
        info = config.model_fields[field]
        value = info.default if default is None else default
        is_whole = int in {info.annotation, *get_args(info.annotation)}
        cast = int if is_whole else float
        least, most = _bounds(info)
        return st.number_input(
            label,
            None if least is None else cast(least),
            None if most is None or most > LARGEST else cast(most),
            None if value is None else cast(value),
            format="%d" if is_whole else "%g",
            placeholder=placeholder,
            **self._shared(config, field),
        )

    def text(self, config: Config, field: str, label: str, value: str | None = None, placeholder: str = "") -> str:
        """Ask for the text `config.field`; at first it is `value`, or else the default, or else empty."""
        default = config.model_fields[field].default
        first = (default if isinstance(default, str) else "") if value is None else value
        return str(st.text_input(label, first, placeholder=placeholder, **self._shared(config, field))).strip()

    def choice(
        self,
        config: Config,
        field: str,
        label: str,
        titles: Mapping[Any, str] | None = None,
        default: Any = None,
    ) -> Any:
        """Ask for one of the values of `config.field`.

        Args:
            config: Declares the field.
            field: Its name.
            label: Of the input.
            titles: The values with what they are called; by default those that are declared, by their names.
            default: In the place of the declared one.
        """
        options = list(titles or choices_of(config, field))
        first = config.model_fields[field].default if default is None else default
        return st.selectbox(
            label,
            options,
            index=options.index(first) if first in options else 0,
            format_func=titles.__getitem__ if titles else str,
            **self._shared(config, field),
        )

    def several(
        self,
        config: Config,
        field: str,
        label: str,
        titles: Mapping[Any, str] | None = None,
        default: Sequence[Any] | None = None,
        more: str = "",
    ) -> list[Any]:
        """Ask for several of the values of `config.field`.

        Args:
            config: Declares the field.
            field: Its name.
            label: Of the input.
            titles: The values with what they are called; by default those that are declared, by their names.
            default: In the place of the declared ones.
            more: Stands behind the declared help.
        """
        first = config.model_fields[field].default if default is None else default
        return st.multiselect(
            label,
            list(titles or choices_of(config, field)),
            default=list(first),
            format_func=titles.__getitem__ if titles else str,
            placeholder="none",
            **self._shared(config, field, more),
        )

    def switch(self, config: Config, field: str, label: str) -> bool:
        """Ask for the yes or no `config.field`."""
        return st.toggle(label, config.model_fields[field].default, **self._shared(config, field))

    def parameter(self, method: str, declared: Parameter) -> float | str:
        """Ask for a setting of a method."""
        unit = f" [{declared.unit}]" if declared.unit else ""
        label = f"{SYMBOLS.get(declared.name, declared.name)}{unit}"
        shared: dict[str, Any] = {
            "key": f"{self.name}_{method}_{declared.name}",
            "help": f"{declared.help} Default {declared.default}: {declared.source}.",
            "persist_state": "session",
        }
        if declared.bounds is None:
            options = list(declared.choices)
            return str(st.selectbox(label, options, index=options.index(str(declared.default)), **shared))
        least, most = declared.bounds
        return float(st.number_input(label, least, most, float(declared.default), step=0.1, format="%g", **shared))

    def _shared(self, config: Config, field: str, more: str = "") -> dict[str, Any]:
        return {
            "key": self.key_of(config, field),
            "help": f"{help_of(config, field)} {more}".strip(),
            "persist_state": "session",
        }


def choices_of(config: Config, field: str) -> list[Any]:
    """Return the values that `config.field` may take, those of its items where it takes several."""
    return list(_choices(config.model_fields[field].annotation))


def _choices(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from annotation
    else:
        for argument in get_args(annotation):
            yield from _choices(argument)


def number_or_word(text: str) -> float | str:
    """Return the number that a text is, or else the text: a setting may be a number or `auto`."""
    try:
        return float(text)
    except ValueError:
        return text


def _bounds(info: FieldInfo) -> tuple[Any, Any]:
    """Return the smallest and the largest number that a setting may be asked for; None where there is none."""
    least = [limit.ge for limit in info.metadata if isinstance(limit, annotated_types.Ge)]
    strictly: list[Any] = [limit.gt for limit in info.metadata if isinstance(limit, annotated_types.Gt)]
    most = [limit.le for limit in info.metadata if isinstance(limit, annotated_types.Le)]
    return next(iter([*least, *strictly]), None), next(iter(most), None)
