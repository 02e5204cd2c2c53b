"""Inputs that are made from a setting's own declaration: its bounds, its default, its help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import annotated_types
import pydantic
import streamlit as st
from pydantic.fields import FieldInfo

from mrd_core.errors import UserError
from mrd_core.settings.fields import help_of
from mrd_core.unlearning.methods import Parameter

Model = type[pydantic.BaseModel]
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


def number(config: Model, field: str, label: str, placeholder: str = "none", default: float | None = None) -> Any:
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
    kinds = {info.annotation, *get_args(info.annotation)}
    cast = int if int in kinds else float
    least, most = _bounds(info)
    return st.number_input(
        label,
        None if least is None else cast(least),
        None if most is None or most > LARGEST else cast(most),
        None if value is None else cast(value),
        format="%d" if cast is int else "%g",
        placeholder=placeholder,
        key=key_of(config, field),
        help=help_of(config, field),
        persist_state="session",
    )


def text(config: Model, field: str, label: str, value: str = "", placeholder: str = "") -> str:
    """Ask for the text `config.field`."""
    return st.text_input(
        label,
        value,
        placeholder=placeholder,
        key=key_of(config, field),
        help=help_of(config, field),
        persist_state="session",
    ).strip()


def pick(config: Model, field: str, label: str, options: Sequence[str]) -> str:
    """Ask for one of the values of `config.field`."""
    default = config.model_fields[field].default
    return st.selectbox(
        label,
        options,
        index=options.index(default) if default in options else 0,
        key=key_of(config, field),
        help=help_of(config, field),
        persist_state="session",
    )


def switch(config: Model, field: str, label: str) -> bool:
    """Ask for the yes or no `config.field`."""
    return st.toggle(
        label,
        config.model_fields[field].default,
        key=key_of(config, field),
        help=help_of(config, field),
        persist_state="session",
    )


def parameter(method: str, declared: Parameter) -> float | str:
    """Ask for a setting of a method."""
    unit = f" [{declared.unit}]" if declared.unit else ""
    label = f"{SYMBOLS.get(declared.name, declared.name)}{unit}"
    shared: dict[str, Any] = {
        "key": f"unlearn_{method}_{declared.name}",
        "help": f"{declared.help} Default {declared.default}: {declared.source}.",
        "persist_state": "session",
    }
    if declared.bounds is None:
        options = list(declared.choices)
        return st.selectbox(label, options, index=options.index(str(declared.default)), **shared)
    least, most = declared.bounds
    return st.number_input(label, least, most, float(declared.default), step=0.1, format="%g", **shared)


def key_of(config: Model, field: str) -> str:
    """Return the key of the input for `config.field`."""
    return f"unlearn_{config.__name__}_{field}"


def refusal(error: pydantic.ValidationError) -> UserError:
    """Return what a user should read of settings that do not validate: the setting, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    # A union adds the name of the alternative to the place of the setting.
    place = ".".join(str(part) for part in first["loc"][:2])
    message = first["msg"].removeprefix("Value error, ")
    reason = f"{message[:1].upper()}{message[1:]}."
    if not place or isinstance(first["input"], dict | pydantic.BaseModel):
        return UserError(place.replace("_", " ") or "These settings", reason, "Correct it above.")
    return UserError(f"{place} = {first['input']}", reason, "Correct it above.")


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the smallest and the largest number that a setting may be asked for."""
    least = [limit.ge for limit in info.metadata if isinstance(limit, annotated_types.Ge)]
    least += [limit.gt for limit in info.metadata if isinstance(limit, annotated_types.Gt)]
    most = [limit.le for limit in info.metadata if isinstance(limit, annotated_types.Le)]
    return (least or [None])[0], (most or [None])[0]
