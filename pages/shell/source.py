"""Where samples come from: a forget set, a retain set, texts that the model has never seen, a training corpus."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.fields import help_of
from pages.shell import session

KINDS = {"None": "", "Demo": "demo", "File or folder": "path", "Hub data set": "hub"}


@dataclass(frozen=True)
class Source:
    """Samples as the user names them.

    Attributes:
        title: What they are for, as an error says it.
        kind: A value of `KINDS`.
        name: A path, or the name of a data set on the hub; empty where it is not named yet.
        subset: Configuration name of a hub data set.
        split: Of a hub data set or a folder.
    """

    title: str
    kind: str
    name: str = ""
    subset: str = ""
    split: str = ""

    def config(self) -> ForgetSetConfig | None:
        """Return how they are read; None where none are wanted.

        Raises:
            UserError: They are not named, or no allowed root holds the path.
        """
        if self.kind in ("", "demo"):
            return ForgetSetConfig(source="demo") if self.kind else None
        if not self.name:
            raise UserError(f"The {self.title}", "is not named yet.", "Name it, or choose another source for it.")
        return ForgetSetConfig(
            source=session.located(self.name, local=self.kind == "path"),
            subset=self.subset or None,
            split=self.split or None,
            invalid_rows="skip",
        )


def ask(
    form: str,
    title: str,
    help_text: str,
    default: str,
    without: tuple[str, ...] = (),
    example: str = "data/retain.jsonl",
) -> Source:
    """Let the user name samples.

    Args:
        form: The form that asks; keys begin with it.
        title: What they are for.
        help_text: What is done with them.
        default: The label that is chosen at first.
        without: Labels that are not offered.
        example: A file, as an empty input shows it.
    """
    key = f"{form}_{title.replace(' ', '_')}"
    label = st.segmented_control(
        title.capitalize(),
        [label for label in KINDS if label not in without],
        default=default,
        required=True,
        key=key,
        help=help_text,
        persist_state="session",
    )
    kind = KINDS[label]
    return Source(title, kind) if kind in ("", "demo") else named(key, title, kind, example)


def named(key: str, title: str, kind: str, example: str) -> Source:
    """Let the user type the name of a file, a folder or a hub data set, and which part of it is meant.

    Args:
        key: What the keys of the inputs begin with.
        title: What the samples are for.
        kind: `path` or `hub`.
        example: A file, as an empty input shows it.
    """
    place, *others = st.columns([2, 1, 1])
    name = place.text_input(
        "Hub data set" if kind == "hub" else "File or folder on this machine",
        key=f"{key}_{kind}",
        placeholder="locuslab/TOFU" if kind == "hub" else example,
        persist_state="session",
    )
    subset, split = (
        part.text_input(
            field.capitalize(), key=f"{key}_{field}", help=help_of(ForgetSetConfig, field), persist_state="session"
        )
        for part, field in zip(others, ("subset", "split"), strict=True)
    )
    return Source(title, kind, name.strip(), subset.strip(), split.strip())
