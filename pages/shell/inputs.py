"""The inputs of a form, made from a setting's own declaration: its choices, bounds, default, unit and help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args, get_origin

import streamlit as st

from mrd_core.settings.fields import Model, declared
from mrd_core.unlearning.methods.method import Parameter
from pages.shell import session

Values = dict[str, Any]
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

    def key_of(self, config: Model, field: str) -> str:
        """Return the key of the input for `config.field`."""
        return "_".join(filter(None, (self.name, config.__name__, field, self.variant)))

    def columns(self, config: Model, *labels: Mapping[str, str], **options: Mapping[str, Any]) -> Values:
        """Ask for fields in columns side by side, as `fields` does in each."""
        values: Values = {}
        for place, of_column in zip(st.columns(len(labels)), labels, strict=True):
            with place:
                values |= self.fields(config, of_column, **options)
        return values

    def fields(
        self,
        config: Model,
        labels: Mapping[str, str],
        placeholders: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> Values:
        """Ask for fields one below the other, each by the input that its type wants, and return raw values.

        A day that is not chosen is None.

        Args:
            config: Declares the fields.
            labels: Of the inputs, by field.
            placeholders: What empty inputs show, by field.
            defaults: In the place of the declared ones, by field.
        """
        values: Values = {}
        for field, label in labels.items():
            annotation = config.model_fields[field].annotation
            types = {annotation, *get_args(annotation)}
            placeholder, default = (placeholders or {}).get(field), (defaults or {}).get(field)
            if get_origin(annotation) is tuple:
                values[field] = self.several(config, field, label, default=default)
            elif bool in types:
                values[field] = self.switch(config, field, label)
            elif date in types:
                values[field] = st.date_input(label, None, format="YYYY-MM-DD", **self._shared(config, field))
            elif types & {int, float}:
                values[field] = self.number(config, field, label, placeholder or "none", default)
            elif declared(config, field).choices:
                values[field] = self.choice(config, field, label, default=default)
            else:
                values[field] = self.text(config, field, label, default, placeholder or "")
        return values

    def number(
        self, config: Model, field: str, label: str, placeholder: str = "none", default: float | None = None
    ) -> Any:
        """Ask for the number `config.field`; empty is None, where that is its default.

        Args:
            config: Declares the field.
            field: Its name.
            label: Of the input.
            placeholder: What an empty input shows.
            default: In the place of the declared one.
        """
        setting = declared(config, field)
        value = setting.default if default is None else default
        cast = int if setting.is_whole else float
        least, most = setting.least, setting.most
        return st.number_input(
            label,
            None if least is None else cast(least),
            None if most is None or most > LARGEST else cast(most),
            None if value is None else cast(value),
            format="%d" if setting.is_whole else "%g",
            placeholder=placeholder,
            **self._shared(config, field),
        )

    def text(self, config: Model, field: str, label: str, value: str | None = None, placeholder: str = "") -> str:
        """Ask for the text `config.field`; at first it is `value`, or else the default, or else empty."""
        default = declared(config, field).default
        first = (default if isinstance(default, str) else "") if value is None else value
        return str(st.text_input(label, first, placeholder=placeholder, **self._shared(config, field))).strip()

    def choice(
        self,
        config: Model,
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
        setting = declared(config, field)
        first = setting.default if default is None else default
        names = titles or {name: name for name in setting.choices}
        return select(label, names, first=first, **self._shared(config, field))

    def several(
        self,
        config: Model,
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
        # What one of the items can be stands in their type, `tuple[Literal[…], …]`.
        items, *_ = get_args(config.model_fields[field].annotation)
        return st.multiselect(
            label,
            list(titles or get_args(items)),
            default=list(declared(config, field).default if default is None else default),
            format_func=titles.__getitem__ if titles else str,
            placeholder="none",
            **self._shared(config, field, more),
        )

    def switch(self, config: Model, field: str, label: str) -> bool:
        """Ask for the yes or no `config.field`."""
        return st.toggle(label, declared(config, field).default, **self._shared(config, field))

    def parameter(self, method: str, parameter: Parameter) -> float | str:
        """Ask for a setting of a method."""
        unit = f" [{parameter.unit}]" if parameter.unit else ""
        label = f"{SYMBOLS.get(parameter.name, parameter.name)}{unit}"
        shared: Values = {
            "key": f"{self.name}_{method}_{parameter.name}",
            "help": f"{parameter.help} Default {parameter.default}: {parameter.source}.",
            "persist_state": "session",
        }
        if parameter.bounds is None:
            options = list(parameter.choices)
            return str(st.selectbox(label, options, index=options.index(str(parameter.default)), **shared))
        least, most = parameter.bounds
        return float(
            st.number_input(label, least, most, float(parameter.default), step=0.1, format="%g", **shared)
        )

    def _shared(self, config: Model, field: str, more: str = "") -> Values:
        return {
            "key": self.key_of(config, field),
            "help": f"{declared(config, field).help} {more}".strip(),
            "persist_state": "session",
        }


def select(label: str, titles: Mapping[Any, str], key: str, first: Any = None, **options: Any) -> Any:
    """Let the user choose by title from a list; at first it is `first` where the list has that, else its head."""
    names = list(titles)
    index = names.index(first) if first in names else 0
    return st.selectbox(label, names, index=index, format_func=titles.__getitem__, key=key, **options)


def one_of(label: str, titles: Mapping[str, str], key: str) -> str:
    """Return the first of several, or the one that the user chooses where there are more."""
    first, *others = titles
    if not others:
        return first
    format_func = titles.__getitem__
    return st.segmented_control(
        label,
        [first, *others],
        default=first,
        required=True,
        format_func=format_func,
        key=key,
        bind=session.IN_URL,
    )


def number_or_word(text: str) -> float | str:
    """Return the number that a text is, or else the text: a setting may be a number or `auto`."""
    try:
        return float(text)
    except ValueError:
        return text
