"""What a node of a cluster sees of this installation: files and their locks, store, GPUs, versions."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from mrd_core import __version__
from mrd_core.errors import UserError
from mrd_core.runs.store import RunStore
from mrd_core.settings.command import process
from mrd_core.settings.installation import Settings

# A node that has no room for a moment's work by then is not asked [s].
PATIENCE = 30
PROBE, TOKEN, LOCK, ANSWER, SAID = ".probe-", "token", "lock", "answer", "said"


@dataclass(frozen=True)
class Node:
    """A node, as it sees itself.

    Attributes:
        host: Its name.
        versions: Of the program, Python and torch.
        gpus: Their names, or why there are none.
        memory: Of the machine [GiB].
        faults: What does not work there, each a sentence; empty where runs can be carried out.
    """

    host: str
    versions: str = ""
    gpus: str = ""
    memory: float = 0.0
    faults: list[str] = field(default_factory=list)


@contextmanager
def probed(home: Path) -> Iterator[Path]:
    """Lend a folder of the home in which a file is locked here, for nodes to look at."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = home / f"{PROBE}{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    try:
        (folder / TOKEN).write_text(folder.name)
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        for path in folder.glob("*"):
            path.unlink()
        folder.rmdir()


def looked(folder: Path) -> Node:
    """Return what this machine is, and what it sees of a folder that another one lends."""
    faults = [*_faults_of_files(folder), *_faults_of_store()]
    versions = f"mrd-lens {__version__}, Python {platform.python_version()}, torch {version('torch')}"
    return Node(socket.gethostname(), versions, _gpus(), psutil.virtual_memory().total / 2**30, faults)


def ask(nodes: Collection[str], settings: Settings) -> list[Node]:
    """Have nodes of Slurm look around, each in a job of a moment.

    Args:
        nodes: Their names.
        settings: Of this installation.
    """
    with probed(settings.home) as folder, ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda name: _asked(name, folder, settings), sorted(nodes)))


def _asked(name: str, folder: Path, settings: Settings) -> Node:
    srun = ["srun", f"--nodelist={name}", "--ntasks=1", f"--immediate={PATIENCE}", "--quiet"]
    # By the environment: what stands in a command is seen by everybody on the machine.
    command, variables = [*srun, *process("doctor", "--look", folder)], os.environ | settings.of_workers
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
    return seen(name, done.stdout, folder, last.rpartition("error: ")[2])


def seen(name: str, said: str, folder: Path, otherwise: str) -> Node:
    """Return what a node said of itself.

    Args:
        name: Its name.
        said: As `as_json` returns it.
        folder: That it looked at.
        otherwise: Why it said nothing.
    """
    try:
        node = Node(**json.loads(said))
    except (ValueError, TypeError):
        return Node(name, faults=[f"It could not be asked: {otherwise}"])
    if not (folder / f"{ANSWER}-{node.host}").exists():
        node.faults.append(f"What it writes into {folder.parent} is not seen here.")
    return node


def as_json(node: Node) -> str:
    """Return a node as `ask` reads it."""
    return json.dumps(asdict(node))


def _faults_of_files(folder: Path) -> Iterator[str]:
    try:
        seen = (folder / TOKEN).read_text() == folder.name
    except OSError:
        seen = False
    if not seen:
        yield f"It does not see {folder.parent}: MRD_HOME must lie on a file system that all nodes share."
        return
    with (folder / LOCK).open("r+") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield f"Locks on {folder.parent} do not reach it: two workers could be at work in one run."
    # Written as results are: under another name first.
    draft, answer = folder / f".{socket.gethostname()}", folder / f"{ANSWER}-{socket.gethostname()}"
    try:
        draft.write_text("")
        draft.replace(answer)
    except OSError as error:
        yield f"It cannot write to {folder.parent}: {error.strerror}."


def _faults_of_store() -> Iterator[str]:
    try:
        store = RunStore.open()
        store.list(limit=1)
    except UserError as error:
        yield f"{error.cause}"
        return
    if store.obstacle:
        yield f"{store.obstacle.cause}"


def _gpus() -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "none (no driver)"
    names = done.stdout.split("\n")[:-1]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "none"
