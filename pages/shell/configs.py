"""The configurations of runs, each read once."""

from __future__ import annotations

from typing import Any, TypeVar

import streamlit as st

from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.settings.configuration import RunConfig

Config = TypeVar("Config", bound=RunConfig)
# What is read of a run is cached for each attempt, whatever the store says of its progress meanwhile.
BY_ATTEMPT: dict[str | type[Any], Any] = {Run: lambda run: (run.id, run.attempt, str(run.directory))}


@st.cache_resource(show_spinner=False, max_entries=1000, hash_funcs=BY_ATTEMPT)
def config_of(run: Run, kind: type[Config]) -> Config:
    """Return the configuration of a run, which is of this class.

    Raises:
        UserError: It is gone, or is of another class.
    """
    return read_config(run.directory, kind)
