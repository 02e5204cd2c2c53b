"""The launcher that was asked for."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from mrd_core.runs.launchers.config import LaunchConfig, LauncherName, read_launch
from mrd_core.runs.launchers.local import LocalLauncher
from mrd_core.runs.launchers.port import Launcher
from mrd_core.runs.record import Run
from mrd_core.settings.installation import Settings


def launcher_of(config: LaunchConfig, settings: Settings) -> Launcher:
    """Return the launcher that a submission asks for, or else the installation."""
    name = config.launcher or settings.launcher
    if name == "slurm":
        from mrd_core.runs.launchers.slurm import SlurmLauncher

        return SlurmLauncher(config, settings)
    if name == "ray":
        from mrd_core.runs.launchers.ray_jobs import RayLauncher

        return RayLauncher(config, settings)
    return LocalLauncher(settings)


def launcher_again(run: Run, settings: Settings, config: LaunchConfig | None = None) -> Launcher:
    """Return the launcher that takes a run up again: the one that is asked for, else as it was launched before."""
    before = read_launch(run.directory)
    asked = config if config and (config.launcher or config.of_job) else before
    return launcher_of(asked or LaunchConfig(), settings)


def reachable(settings: Settings) -> list[LauncherName]:
    """Return the launchers that can be chosen on this machine, the one that is the default among them."""
    names: dict[LauncherName, bool] = {
        "local": True,
        "slurm": bool(shutil.which("sbatch") and find_spec("submitit")),
        "ray": bool(find_spec("ray") and os.environ.get("RAY_ADDRESS")),
    }
    return [name for name, is_there in names.items() if is_there or name == settings.launcher]
