"""Where runs start that are launched in the browser: here, or as jobs of a scheduler within reach."""

from __future__ import annotations

from typing import Any

import streamlit as st
from pydantic import ValidationError

from mrd_core.errors import UserError
from mrd_core.runs.launchers.choice import reachable
from mrd_core.runs.launchers.config import LAUNCH, LaunchConfig
from mrd_core.settings.command import PROGRAM, Command
from mrd_core.settings.options import refusal
from pages.shell import session
from pages.shell.inputs import Form, select

CHOSEN = "chosen_launch"
NAMES = {"local": "This machine", "slurm": "Slurm", "ray": "Ray"}
OF_ALL = {"gpus": "GPUs", "cpus": "Cores", "memory": "Memory [GB]"}
OF_SLURM = {"minutes": "Most time [min]", "partition": "Partition", "account": "Account"}
SHARED = {"jobs": "Jobs that share a score run"}


def show() -> None:
    """Ask in the side bar where runs start, if there is more than this machine."""
    settings = session.settings()
    names = reachable(settings)
    if len(names) == 1:
        return
    form = Form("engine")
    with st.sidebar, st.popover("Where runs start", icon=":material/dns:", width="stretch"):
        titles = {name: NAMES[name] for name in names}
        launcher = select("Runs start on", titles, "engine_launcher", settings.launcher, persist_state="session")
        values: dict[str, Any] = {"launcher": launcher}
        if launcher != "local":
            labels = OF_ALL | (OF_SLURM if launcher == "slurm" else {}) | SHARED
            values |= form.fields(LaunchConfig, labels, {"partition": "the cluster's", "account": "yours"})
        if launcher == "slurm":
            further = form.text(LaunchConfig, "sbatch", "Further options of sbatch", placeholder="constraint=h100")
            values["sbatch"] = [word.strip() for word in further.split(",") if word.strip()]
    st.session_state[CHOSEN] = {name: value for name, value in values.items() if value not in (None, "")}
    if launcher != "local":
        st.sidebar.caption(f"New runs start on {NAMES[launcher]}.")


def chosen() -> LaunchConfig:
    """Return where the next run starts.

    Raises:
        UserError: What was asked for there is no good.
    """
    try:
        return LaunchConfig.model_validate(st.session_state.get(CHOSEN, {}))
    except ValidationError as error:
        raise refusal(error, "Change it under Where runs start, in the side bar.") from error


def command(form: Command[Any], config: Any) -> str:
    """Return the command that starts a run with these settings where the next run starts."""
    try:
        launch = chosen()
    except UserError:
        launch = LaunchConfig()
    is_elsewhere = (launch.launcher or session.settings().launcher) != "local"
    return form.shown(config) + (LAUNCH.shown(launch).removeprefix(PROGRAM) if is_elsewhere else "")
