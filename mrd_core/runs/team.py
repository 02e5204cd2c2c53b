"""The processes that work on one run together: its worker, which leads, and those that follow it. Loads no torch.

Which of them a process is stands in its environment, in the variables of torchrun and accelerate. One of these
launchers starts all with the command that carries out a run, or else the worker starts its followers itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.runs.context import JobContext
from mrd_core.runs.directory import read_config
from mrd_core.runs.kind import at_place, kind_named
from mrd_core.runs.store import Level
from mrd_core.settings.command import process
from mrd_core.settings.configuration import RunConfig

RANK, LOCAL_RANK, COUNT = "RANK", "LOCAL_RANK", "WORLD_SIZE"
# Of a follower that a worker started: the process that it ends with, and where that one is met.
LEADER, PORT = "MRD_LEADER", "MRD_LEADER_PORT"
# By which network processes reach each other, and what that of a machine with itself is called.
INTERFACE, LOOPBACKS = "GLOO_SOCKET_IFNAME", ("lo", "lo0")
# How many are to work on a run that is resumed, where it is another number than in its configuration.
ASKED = "MRD_PROCESSES"
WATCH_SECONDS = 0.5
# How long a follower that has nothing left to do may take to end, and one that parted to be gone [s].
ENDING_SECONDS, PARTING_SECONDS = 30.0, 10.0
# A GPU that waits for another one does not notice that its process is gone [s].
GRACE_SECONDS = 30.0
# Exit code of a follower whose leader parted from it.
LEFT = 75


class Parted(Exception):  # noqa: N818  (what it means depends on who is left)
    """Another process of the run is gone."""


@dataclass(frozen=True)
class Seat:
    """The place of a process among those that work on a run.

    Attributes:
        rank: 0 leads.
        count: How many there are.
        local: Its number among those on this machine, which is that of its GPU.
        started: Whether somebody else started all of them.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    started: bool = False

    @classmethod
    def own(cls, wanted: int = 1) -> Seat:
        """Return the seat of this process; where nobody has given it one, the first of as many as are wanted."""
        given = _numbers(os.environ)
        # A scheduler may say of a single process that it is one.
        if given and given[COUNT] > 1:
            return cls(given[RANK], given[COUNT], given.get(LOCAL_RANK, given[RANK]), started=True)
        return cls(count=int(os.environ.get(ASKED, wanted)))

    @property
    def leads(self) -> bool:
        """Whether this process is the worker of the run, and writes what comes of it."""
        return self.rank == 0


def _numbers(environment: Mapping[str, str]) -> dict[str, int]:
    numbers = {
        name: int(text) for name in (RANK, COUNT, LOCAL_RANK) if (text := environment.get(name, "")).isdigit()
    }
    return numbers if {RANK, COUNT} <= numbers.keys() else {}


class Follower(JobContext):
    """The context of a job in a process that follows: what there is to say, the leader says."""

    def event(self, level: Level, message: str) -> None:
        """Say nothing."""


def follow(directory: Path) -> None:
    """Take part in the run that another process leads in `directory`, until it ends, however it ends.

    What the leader is asked to do reaches this process by it: signals go past.

    Raises:
        UserError: The run cannot be carried out.
    """
    config = read_config(directory, RunConfig)
    # Any other run is the work of its leader alone.
    if not hasattr(config, "processes"):
        return
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
    # The worker of the run, or the launcher of both.
    above = int(os.environ.get(LEADER, os.getppid()))
    threading.Thread(target=_end_with, args=(above,), daemon=True).start()
    try:
        at_place(kind_named(config.kind).job)(config, Follower(directory))
    except Parted as parted:
        raise SystemExit(LEFT) from parted


def _end_with(above: int) -> None:
    """End this process when the one that started it is gone, whatever it is waiting for."""
    while os.getppid() == above:
        time.sleep(WATCH_SECONDS)
    os._exit(LEFT)


def at_home() -> dict[str, str]:
    """Return the variables with which processes of one machine listen to nobody else."""
    names = [name for _, name in socket.if_nameindex() if name in LOOPBACKS]
    return {INTERFACE: os.environ.get(INTERFACE, names[0])} if names else {}


class Followers:
    """The processes that a worker has started to work beside it; they end when it does, however it ends.

    Args:
        directory: Of the run.
        count: Processes in all, the worker included.
        port: Of this machine, where the worker is met.
    """

    def __init__(self, directory: Path, count: int, port: int) -> None:
        own = {COUNT: str(count), LEADER: str(os.getpid()), PORT: str(port)} | at_home()
        self._ended = threading.Event()
        # A session of their own: a Ctrl-C in the terminal is for the worker.
        self._processes = [
            subprocess.Popen(
                process("run", directory),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | own | {RANK: str(rank), LOCAL_RANK: str(rank)},
            )
            for rank in range(1, count)
        ]

    def require(self, patience: float = 0.0) -> None:
        """Refuse to go on without one of them.

        Args:
            patience: How long to wait for one that is about to end [s].

        Raises:
            UserError: One has ended before its time; says which, and how.
        """
        deadline = time.monotonic() + patience
        while True:
            codes = {rank: process.poll() for rank, process in enumerate(self._processes, start=1)}
            ended = {rank: code for rank, code in codes.items() if code}
            # One that was left alone is not the one to name.
            for rank, code in sorted(ended.items(), key=lambda each: each[1] == LEFT):
                how = f"signal {-code} ended it" if code < 0 else f"it ended with code {code}"
                raise UserError(
                    f"Process {rank} of the {len(self._processes) + 1} that work on this run (from 0 on)",
                    f"is gone: {how}.",
                    "The log of the run has its last words. Put the cause right and resume the run: it goes on "
                    "where it was.",
                )
            if time.monotonic() >= deadline:
                return
            time.sleep(WATCH_SECONDS / 5)

    def watch(self) -> None:
        """From now on, end this process some time after a follower has ended, should it wait for that one."""
        threading.Thread(target=self._end_without, daemon=True).start()

    def _end_without(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            try:
                self.require()
            except UserError as error:
                if not self._ended.wait(GRACE_SECONDS):
                    print(error, file=sys.stderr, flush=True)
                    os._exit(1)

    def end(self, patience: float = ENDING_SECONDS) -> None:
        """Let them end by themselves for so long [s], then end them."""
        self._ended.set()
        for follower in self._processes:
            with suppress(subprocess.TimeoutExpired):
                follower.wait(patience)
            follower.kill()
            follower.wait()
