"""Processes of the product that begin where their imports are done: each is forked from one that has loaded all.

A session starts some sixty workers and commands, and each would import torch, transformers and spaCy for seconds
of a core before it does anything. What is forked is a process like any other, and a child of the one that asked
for it, with its arguments, environment, folder, streams, session and umask. Tests of what happens while a program
starts are marked `cold`; a process in another environment than that of the tests is so anyway.

`python -m tests.support.forked FD` is the process that is forked.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mrd_core.settings.command import process
from tests.conftest import REPOSITORY

# What takes long to load; other commands load little.
COMMANDS = frozenset({"run", "share", "score", "characteristics", "unlearn", "experiment", "runs"})
# Starts a small job of the tests as the product starts its own.
WORKER = """
import sys
from pathlib import Path
from mrd_core.runs.worker import run
print("ended as", run(Path(sys.argv[1]), job=sys.argv[2]))
"""
PROGRAMS = (["-c", WORKER], ["-m", "tests.support.kills"])
# Of prctl: what a child leaves behind when it ends becomes a child of this process.
SET_CHILD_SUBREAPER = 36
LONGEST_REQUEST = 1 << 20

own_fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]
turn = threading.Lock()


def fork_exec(*asked: Any) -> int:
    """Start a process as the function of this name in `subprocess` does, forked where it is the product's."""
    words = [os.fsdecode(word) for word in asked[0]]
    environment = dict(os.environ)
    if asked[5] is not None:
        environment = dict(os.fsdecode(variable).split("=", 1) for variable in asked[5])
    if not _is_forked(words) or _others(environment) != _others(os.environ):
        return int(own_fork_exec(*asked))
    streams = [own if given == -1 else given for own, given in enumerate((asked[6], asked[9], asked[11]))]
    folder = os.fsdecode(asked[4]) if asked[4] is not None else str(Path.cwd())
    request = {
        "words": words,
        "environment": environment,
        "folder": folder,
        "session": asked[15],
        "umask": asked[20],
    }
    with turn:
        return _forked(json.dumps(request).encode(), streams)


def _is_forked(words: Sequence[str]) -> bool:
    is_the_products = words[:2] == process() and words[2] in COMMANDS
    is_worker = is_the_products or (words[0] == sys.executable and words[1:3] in PROGRAMS)
    return is_worker and Path(words[0]).exists()


def _others(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the product does not read itself: what it imports may."""
    own = ("MRD_", "OMP_NUM_THREADS", "PYTEST_CURRENT_TEST")
    return {name: value for name, value in environment.items() if not name.startswith(own)}


def _forked(request: bytes, streams: Sequence[int]) -> int:
    """Return the process id of a new child of this process."""
    line, _ = _line()
    libc = ctypes.CDLL(None)
    libc.prctl(SET_CHILD_SUBREAPER, 1)
    socket.send_fds(line, [request], streams)
    pid = int(line.recv(32))
    libc.prctl(SET_CHILD_SUBREAPER, 0)
    return pid


@cache
def _line() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the process that loads all, and return a connection to it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        loaded = subprocess.Popen(
            [sys.executable, "-m", __name__, str(there.fileno())],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            pass_fds=[there.fileno()],
            start_new_session=True,
        )
    return here, loaded


def _next(line: socket.socket) -> list[str] | None:
    """Fork for every request: return the words of a new process in that one, and None here at the end."""
    while True:
        request, streams, _, _ = socket.recv_fds(line, LONGEST_REQUEST, 3)
        if not request:
            return None
        reading, writing = os.pipe()
        if between := os.fork():
            os.waitpid(between, 0)
            line.send(os.read(reading, 32))
            for descriptor in (*streams, reading, writing):
                os.close(descriptor)
            continue
        between = os.getpid()
        if child := os.fork():
            os.write(writing, str(child).encode())
            os._exit(0)
        # Until the process between has ended it is the parent, and a process ends with the one it takes for that.
        while os.getppid() == between:
            time.sleep(0.001)
        for descriptor in (line.detach(), reading, writing):
            os.close(descriptor)
        return _become(json.loads(request), streams)


def _become(request: dict[str, Any], streams: Sequence[int]) -> list[str]:
    """Make this process what was asked for, and return its words."""
    if request["session"]:
        os.setsid()
    if request["umask"] != -1:
        os.umask(request["umask"])
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words: list[str] = request["words"]
    return words


def _carry_out(words: Sequence[str]) -> None:
    sys.argv = list(words[1:] if words[1] == process()[1] else words[2:])
    if words[1] == "-c":
        exec(words[2], {"__name__": "__main__"})
    elif words[1] == "-m":
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[1], run_name="__main__")


if __name__ == "__main__":
    import benchmarks.loaded  # noqa: F401

    if words := _next(socket.socket(fileno=int(sys.argv[1]))):
        _carry_out(words)
