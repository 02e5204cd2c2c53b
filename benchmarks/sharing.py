"""How much faster many processes draw one score run, with nothing but time in the place of the model.

    python -m benchmarks.sharing [--workers 8 --workers 16] [--units 24] [--seconds 1] [--folder DIR]

Processes that load no torch take claims on units, sleep for as long as one takes, write its file and draw the
next, with the product's own claims, on a real file system. The first leads, with the product's own store. Eight
processes are a node: those of another one are judged by the touches of their leases alone. One unit in twenty
takes twice as long, and a tenth of the processes kill themselves with -9 in the middle of a unit. Sleep stands for
work, so that a machine with few cores shows what many would do; time runs four times as fast as in the product,
heartbeats, leases, pauses and what the store is told included. A share of linear is the time of the units over the
time that the processes were there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from mrd_core.runs import RunStore, liveness
from mrd_core.runs import context as runs_context
from mrd_core.runs.context import StoredContext
from mrd_core.runs.files import whole_lines
from mrd_core.scoring import claims
from mrd_core.scoring.claims import Claims, Lease
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.schedule import STEP_ALONE, UnitKey, Wanted
from mrd_core.settings.installation import Settings

SPEED = 4
NODE = 8
COUNTS = (1, 2, 4, 8, 16, 32, 64)
SEED = 20251129
STRAGGLERS, DEATHS = 0.05, 0.1
# What a process asks of the directory, as the interpreter reports it.
OPERATIONS = ("os.listdir", "open", "os.utime", "os.rename", "os.remove", "os.mkdir")
FORK = multiprocessing.get_context("fork")


class Stretch(NamedTuple):
    """What one process did of a unit.

    Attributes:
        worker: Number of the process.
        unit: Index.
        begin: By the clock of the machine [s]; end: likewise; None where the process died in it.
    """

    worker: int
    unit: int
    begin: float
    end: float | None = None


@dataclass(frozen=True)
class Simulation:
    """A run to be drawn.

    Attributes:
        folder: Where its directory is made.
        workers: Processes.
        units: How many there are.
        seconds: What one takes, in the mean [s].
        node: Processes of a machine.
    """

    folder: Path
    workers: int
    units: int
    seconds: float
    node: int = NODE

    @property
    def files(self) -> ScoreFiles:
        """The run directory."""
        return ScoreFiles(self.folder / f"run-{self.workers}")

    @property
    def doomed(self) -> dict[int, int]:
        """The processes that die, and in which of their units; never the one that leads."""
        generator = np.random.default_rng([SEED, self.workers])
        count = round(DEATHS * self.workers) if self.workers > 1 else 0
        chosen = generator.choice(np.arange(1, max(2, self.workers)), count, replace=False)
        share = self.units / self.workers
        return {int(worker): int(generator.integers(1, max(2, share * 0.8))) for worker in chosen}

    def seconds_of(self, unit: int) -> float:
        """Return what a unit takes [s]: a tenth more or less, or twice as long."""
        generator = np.random.default_rng([SEED, unit])
        return self.seconds * generator.lognormal(0.0, 0.1) * (2 if generator.random() < STRAGGLERS else 1)


@dataclass(frozen=True)
class Drawn:
    """How a run was drawn.

    Attributes:
        workers: Processes; died: of them.
        stretches: What each did of which unit.
        seconds: From the first process to the last unit [s].
        share: Of linear.
        operations: Of the directory in a second of the product, all processes together.
        writes: Into the store in such a second.
    """

    workers: int
    died: int
    stretches: list[Stretch]
    seconds: float
    share: float
    operations: float
    writes: float


def simulate(simulation: Simulation) -> Drawn:
    """Have a run drawn, and return how."""
    simulation.files.units.mkdir(parents=True)
    began = time.monotonic()
    processes = [FORK.Process(target=_work, args=(simulation, number)) for number in range(simulation.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = Counter(process.exitcode for process in processes)
    assert codes.keys() <= {0, -signal.SIGKILL}, f"a process ended with {codes}"
    accounts = [
        json.loads(_account(simulation, number).read_text(encoding="utf-8"))
        for number in range(simulation.workers)
    ]
    stretches = [
        Stretch(**line)
        for number in range(simulation.workers)
        for line in whole_lines(_account(simulation, number).with_suffix(".jsonl"))
    ]
    end = accounts[0]["end"]
    seconds = end - began
    # Those that died were there until then.
    there = sum(min(account["end"], end) - account["begin"] for account in accounts)
    units = {stretch.unit for stretch in stretches if stretch.end is not None}
    return Drawn(
        workers=simulation.workers,
        died=codes[-signal.SIGKILL],
        stretches=stretches,
        seconds=seconds,
        share=sum(map(simulation.seconds_of, units)) / there,
        operations=sum(account["operations"] for account in accounts) / seconds / SPEED,
        writes=accounts[0]["writes"] / seconds / SPEED,
    )


def _account(simulation: Simulation, number: int) -> Path:
    return simulation.folder / f"{simulation.workers}-{number}.json"


class _Worker:
    """One process of a run."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self._simulation = simulation
        self._number = number
        self._dies_in = simulation.doomed.get(number)
        self._drawn = 0
        self._counts: Counter[str] = Counter()
        self._begin = time.monotonic()
        self._log = _account(simulation, number).with_suffix(".jsonl").open("a", encoding="utf-8", buffering=1)
        folder = str(simulation.files.directory)

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            if event in OPERATIONS and str(arguments[0]).startswith(folder):
                self._counts[event] += 1

        sys.addaudithook(count)
        self.claims = Claims(simulation.files, self._arrays)

    def _arrays(self, key: UnitKey) -> dict[str, Any]:
        begin, seconds = time.monotonic(), self._simulation.seconds_of(key.index)
        if self._drawn == self._dies_in:
            time.sleep(seconds / 2)
            self._note(Stretch(self._number, key.index, begin))
            self.settle()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        self._drawn += 1
        self._note(Stretch(self._number, key.index, begin, time.monotonic()))
        return {"value": np.array([key.index])}

    def _note(self, stretch: Stretch) -> None:
        self._log.write(json.dumps(stretch._asdict()) + "\n")

    def settle(self, writes: int = 0) -> None:
        """Write down what it did until now."""
        account = {"begin": self._begin, "end": time.monotonic(), "operations": self._counts.total()}
        text = json.dumps(account | {"writes": writes})
        _account(self._simulation, self._number).write_text(text, encoding="utf-8")


def _work(simulation: Simulation, number: int) -> None:
    for name in ("HEARTBEAT", "LEASE", "LOOK_AGAIN", "SHORTEST", "LONGEST"):
        setattr(claims, name, getattr(claims, name) / SPEED)
    node = f"{liveness.system()} node {number // simulation.node}"
    liveness.system = claims.system = lambda: node  # type: ignore[assignment]
    worker = _Worker(simulation, number)
    if number == 0:
        worker.settle(_lead(simulation, worker.claims))
    else:
        _help(simulation, worker.claims)
        worker.settle()


class _Counting:
    """A store that counts what is written."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        if name in ("set_progress", "add_steps", "add_event", "heartbeat"):
            self.count += 1
        return getattr(self._store, name)


def _lead(simulation: Simulation, own: Claims) -> int:
    """Draw as the process that leads does, and return how often it wrote into the store."""
    files, drawn = simulation.files, list[UnitKey]()
    home = simulation.folder / f"home-{simulation.workers}"
    store = RunStore.open(Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=()))
    runs_context.PROGRESS_INTERVAL /= SPEED
    counting = _Counting(store)
    run = store.create("score", "simulated", "cpu", files.directory)
    context = StoredContext(counting, run, threading.Event())  # type: ignore[arg-type]
    lease = Lease(files.leader)
    lease.replace()
    with lease.kept():
        while len(drawn) < simulation.units:
            keys = [UnitKey("pair", len(drawn) + place) for place in range(STEP_ALONE)][
                : simulation.units - len(drawn)
            ]
            wanted = Wanted.after(drawn, keys)
            files.write_schedule(wanted)
            for place, key in enumerate(keys):
                while not files.unit(key).exists():
                    own.draw(keys[place:], _ahead(simulation, wanted))
                with np.load(files.unit(key), allow_pickle=False) as arrays:
                    assert arrays["value"].tolist() == [key.index]
                drawn.append(key)
                context.progress(len(drawn), simulation.units, message="Drawing")
            context.metrics(len(drawn), reliability_mean=0.5)
        files.write_schedule(Wanted.after(drawn, []))
    return counting.count


def _help(simulation: Simulation, own: Claims) -> None:
    files = simulation.files
    while (wanted := files.read_schedule() or Wanted((), 0)) and not wanted.is_all:
        own.draw(wanted.units, _ahead(simulation, wanted))


def _ahead(simulation: Simulation, wanted: Wanted) -> Iterator[UnitKey]:
    return (UnitKey("pair", index) for index in range(wanted.ahead, simulation.units))


def main(
    workers: Annotated[list[int] | None, typer.Option(help="Processes.", show_default="1 to 64")] = None,
    units: Annotated[int, typer.Option(help="Units of each process.")] = 24,
    seconds: Annotated[
        float, typer.Option(help="What a unit takes here; it stands for four times as much [s].")
    ] = 1.0,
    folder: Annotated[Path | None, typer.Option(help="On the file system that is to be tried.")] = None,
) -> None:
    """Print what 1, 2, 4, … processes reach."""
    print("| processes | died | seconds | share of linear | directory operations / s | store writes / s |")
    print("|---|---|---|---|---|---|")
    for count in workers or COUNTS:
        with TemporaryDirectory(dir=folder, prefix="mrd-sharing-") as place:
            drawn = simulate(Simulation(Path(place), count, units * count, seconds))
        figures = f"{drawn.seconds:.1f} | {drawn.share:.1%} | {drawn.operations:.1f} | {drawn.writes:.2f}"
        print(f"| {count} | {drawn.died} | {figures} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
