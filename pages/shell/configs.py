"""The configurations of runs, each read once."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

import streamlit as st

from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.settings.configuration import RunConfig

Config = TypeVar("Config", bound=RunConfig)


def config_of(run: Run, kind: type[Config]) -> Config:
    """Return the configuration of a run, which is of this class.

    Raises:
        UserError: It is gone, or is of another class.
    """
    return cast(Config, _read(run.id, str(run.directory), kind))


@st.cache_resource(show_spinner=False, max_entries=1000)
def _read(run_id: str, directory: str, kind: type[RunConfig]) -> RunConfig:  # noqa: ARG001  (run_id is the key)
    return read_config(Path(directory), kind)
