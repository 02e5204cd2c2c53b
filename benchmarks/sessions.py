"""Many sessions on one server: errors, memory, and how long a rerun takes beside a single session's.

    python -m benchmarks.sessions [--sessions 20] [--minutes 10] [--alone 1] [--pause 10] [--home DIR] [--json]

On a data root of its own, with finished runs of several kinds, one session looks around in the app alone. Then
all do, each beginning on another page: they change pages, open samples, filter, and let live panels go on. The
while another server works on the same store with a session of its own, and three shells list runs, show one and
score. A session speaks to the server as a browser does, but draws nothing. Any error makes the exit status 1: an
exception or an error on a page, a traceback in a server's log, a session that broke off, a command that failed.
What a form refuses, after its inputs were turned at random, is counted apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.browsing import Rerun, Visitor
from benchmarks.every_kind import Workplace
from mrd_core.runs import RunState, worker
from mrd_core.samples import ForgetSet
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.command import process
from mrd_core.settings.installation import Settings

HOST = "127.0.0.1"
PAGES = (
    "",
    "forget_set",
    "difficulty",
    "characteristics",
    "evidence",
    "unlearning",
    "compare",
    "two_sets",
    "glossary",
)
# What the pages have to show, besides the scores.
KINDS = ("characteristics", "unlearn", "evaluate", "validity")
SAMPLES = 60
BETWEEN_COMMANDS_SECONDS = 15.0
UP_WITHIN_SECONDS = 120.0
TRACEBACK = "Traceback (most recent call last)"

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass
class Measured:
    """What came out.

    Attributes:
        alone: Reruns of the single session.
        together: Those of all sessions.
        memory: Of the server, with all sessions, after each tenth of the time [MiB].
        commands: How many commands the shells carried out.
        errors: What went wrong.
        refusals: What forms refused.
    """

    alone: list[Rerun] = field(default_factory=list)
    together: list[Rerun] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    commands: int = 0
    errors: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


class Server:
    """The app on a data root, as its own command starts it."""

    def __init__(self, settings: Settings, name: str) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.address = f"{HOST}:{probe.getsockname()[1]}"
        self.log = settings.home / f"{name}.log"
        port = self.address.rpartition(":")[2]
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                process("app", "--server.headless=true", f"--server.port={port}"),
                env=environment(settings),
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def up(self) -> Iterator[Server]:
        """Wait until the server answers, and end it afterwards."""
        try:
            deadline = time.monotonic() + UP_WITHIN_SECONDS
            while not self._answers():
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the app did not come up: {self.log.read_text()}")
                time.sleep(0.2)
            yield self
        finally:
            self.process.terminate()
            self.process.wait()

    def memory(self) -> float:
        """Return the resident memory of the server [MiB]."""
        return float(self.process.memory_info().rss) / 2**20

    def tracebacks(self) -> list[str]:
        """Return what the log holds of exceptions."""
        parts = [part.splitlines()[1:] for part in self.log.read_text(errors="replace").split(TRACEBACK)[1:]]
        lasts = [next((line for line in part if not line.startswith(" ")), "cut short") for part in parts]
        return [f"{self.log.name}: {last}" for last in lasts]

    def _answers(self) -> bool:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://{self.address}/_stcore/health", timeout=2) as answer,
        ):
            return bool(answer.read() == b"ok")
        return False


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of processes that work on a data root."""
    return os.environ | {"MRD_HOME": str(settings.home), "MRD_STORE_URL": settings.store_url}


@app.command()
def main(
    sessions: Annotated[int, typer.Option(min=1, help="Sessions on the server.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long all of them stay [minutes].")] = 10.0,
    alone: Annotated[float, typer.Option(min=0.1, help="How long one stays alone before [minutes].")] = 1.0,
    pause: Annotated[float, typer.Option(min=0.0, help="Mean pause of a session between two actions [s].")] = 10.0,
    home: Annotated[
        Path | None, typer.Option(help="Data root to work on and to keep; by default a temporary one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a server under many sessions."""
    with TemporaryDirectory(prefix="mrd-sessions-") as folder:
        place = Workplace.at((home or Path(folder)).resolve(), SAMPLES)
        for kind in KINDS:
            if not place.store.list(kinds=[kind], states=[RunState.SUCCEEDED]):
                worker.run(place.submitted(kind).directory, store=place.store)
        measured = measure(place, sessions, minutes * 60, alone * 60, pause)
    (print_json if as_json else print_table)(sessions, measured)
    sys.exit(bool(measured.errors))


def measure(place: Workplace, sessions: int, seconds: float, alone: float, pause: float) -> Measured:
    """Have sessions look around on a data root: one for `alone`, then all for `seconds` [s]."""
    measured = Measured()
    runs = [run.id for run in place.store.list(kinds=["score"], states=[RunState.SUCCEEDED])]
    samples = list(ForgetSet.load(ScoreFiles(place.score_run).samples).frame["sample_id"])
    servers = [Server(place.settings, name) for name in ("server", "other-server")]
    with servers[0].up() as server, servers[1].up() as other:
        visitor = Visitor(server.address, runs, samples, seed=0)
        # A quick tour, so that what the server loads and caches at first use is in neither figure.
        asyncio.run(tour(visitor))
        first = len(visitor.reruns)
        asyncio.run(visitor.stay("", time.monotonic() + alone, pause / sessions))
        measured.alone = visitor.reruns[first:]
        visitors = [Visitor(server.address, runs, samples, seed) for seed in range(1, sessions + 1)]
        guest = Visitor(other.address, runs, samples, seed=sessions + 1)
        asyncio.run(together(place, visitors, guest, server, measured, seconds, pause))
        measured.together = [rerun for each in visitors for rerun in each.reruns]
        for each in (visitor, *visitors, guest):
            measured.errors += each.errors
            measured.refusals += each.refusals
    measured.errors += [error for each in servers for error in each.tracebacks()]
    return measured


async def tour(visitor: Visitor) -> None:
    """Open every page once."""
    for page in PAGES:
        await visitor.stay(page, until=0.0, pause=0.0)


async def together(
    place: Workplace,
    visitors: Sequence[Visitor],
    guest: Visitor,
    server: Server,
    measured: Measured,
    seconds: float,
    pause: float,
) -> None:
    """Let all sessions and shells work for `seconds`, and look at the server's memory."""
    until = time.monotonic() + seconds
    run = place.store.list()[-1].id
    score = ("score", "--model", "demo", "--forget-set", str(place.texts["held_out"]), "--draws", "4")
    async with asyncio.TaskGroup() as group:
        for number, visitor in enumerate(visitors):
            group.create_task(visitor.stay(PAGES[number % len(PAGES)], until, pause))
        group.create_task(guest.stay("difficulty", until, pause))
        for words in (("runs", "list"), ("runs", "show", run), score):
            group.create_task(shell(place, words, until, measured))
        for tenths in range(1, 11):
            await asyncio.sleep(max(0.0, until - (10 - tenths) * seconds / 10 - time.monotonic()))
            measured.memory.append(server.memory())


async def shell(place: Workplace, words: Sequence[str], until: float, measured: Measured) -> None:
    """Carry a command out again and again."""
    while time.monotonic() < until:
        command = await asyncio.create_subprocess_exec(
            *process(*words), env=environment(place.settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, errors = await command.communicate()
        measured.commands += 1
        if command.returncode:
            measured.errors.append(f"{' '.join(words)}: {errors.decode(errors='replace').strip()[-400:]}")
        await asyncio.sleep(BETWEEN_COMMANDS_SECONDS)


def quantiles(reruns: Sequence[Rerun]) -> tuple[float, float]:
    """Return median and 95th percentile of reruns [s]; NaN of none."""
    times = [rerun.seconds for rerun in reruns]
    if len(times) < 2:
        return (times * 2)[0] if times else float("nan"), times[0] if times else float("nan")
    return statistics.median(times), statistics.quantiles(times, n=20, method="inclusive")[-1]


def print_table(sessions: int, measured: Measured) -> None:
    """Print the figures for people."""
    console = Console(soft_wrap=True, highlight=False)
    table = Table(
        "rerun", "alone", "median", "p95", f"{sessions} sessions", "median", "p95", box=None, pad_edge=False
    )
    for action in ("all", *dict.fromkeys(rerun.action for rerun in measured.together)):
        row = [action]
        for reruns in (measured.alone, measured.together):
            chosen = [rerun for rerun in reruns if action in ("all", rerun.action)]
            row += [str(len(chosen)), *(f"{seconds:.2f} s" for seconds in quantiles(chosen))]
        table.add_row(*row)
    console.print(table, end="\n\n")
    console.print(f"server's memory [MiB]: {', '.join(f'{memory:.0f}' for memory in measured.memory)}")
    console.print(f"commands of the shells: {measured.commands}")
    for name, sentences in (("errors", measured.errors), ("refused by forms", measured.refusals)):
        console.print(f"{name}: {len(sentences)}")
        for sentence, times in Counter(sentences).most_common():
            console.print(f"  {times} × {sentence}", markup=False)


def print_json(sessions: int, measured: Measured) -> None:
    """Print the figures for programs."""
    print(json.dumps({"sessions": sessions} | asdict(measured), ensure_ascii=False))


if __name__ == "__main__":
    app()
