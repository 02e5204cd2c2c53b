"""Runs: submitted, stored, carried out by a process of their own, watched, cancelled, resumed, deleted.

Nothing here loads torch, so that pages and the command line stay quick.
"""

from mrd_core.runs.context import Cancelled, JobContext
from mrd_core.runs.launchers.local import LocalLauncher
from mrd_core.runs.launchers.port import Launcher
from mrd_core.runs.record import ACTIVE, TERMINAL, Run, RunError, RunState
from mrd_core.runs.store import Metric, RunStore, SampleUpdate
from mrd_core.runs.submission import command_for, submit

__all__ = [
    "ACTIVE",
    "TERMINAL",
    "Cancelled",
    "JobContext",
    "Launcher",
    "LocalLauncher",
    "Metric",
    "Run",
    "RunError",
    "RunState",
    "RunStore",
    "SampleUpdate",
    "command_for",
    "submit",
]
