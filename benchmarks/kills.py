"""Runs of every kind, killed in all their phases, resumed, and held bit for bit against undisturbed ones.

    python -m benchmarks.kills [--kills 60] [--folder kills] [--kind score …] [--loaded] [--seed 0] [--json]

For each kind an undisturbed run tells the phases, with how long each takes, and the bits of the results. Then, in
turns, a run of a kind is started as the product starts it, its process group (or a worker of its own alone) killed
with -9 at a random moment of a phase that was aimed at least often, and resumed with `mrd-lens runs resume`, which
may be killed as well, six kills a run at most; what it ends with is compared. Phases are what the run itself
says that it does, and before, between and after that: starting up, writing results, ending. With `--loaded` the
processes are forked from one that has loaded all libraries: most kills then fall where a run works.

Each kill is a line of `journal.jsonl` in the folder. Called again, the script goes on from there, up to the number
of kills that was asked for. A difference makes the exit status 1.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.every_kind import Workplace
from benchmarks.fingerprints import Fingerprint, differences, fingerprint
from cli.door import main as cli
from mrd_core.runs import Run, RunState
from mrd_core.runs.files import read_json, write_json
from mrd_core.runs.kind import kind_named, kinds
from mrd_core.runs.record import ACTIVE
from mrd_core.settings.command import process

POLL_SECONDS, POLL_OF_FILES_SECONDS = 0.01, 0.0005
# Results follow each other within milliseconds, where looking at the store comes too late.
WRITING_SECONDS = 0.02
MOST_KILLS_OF_A_RUN = 6
# How often a worker dies alone where a run has several.
ALONE = 0.3
PATIENCE_SECONDS = 300
STARTING_UP, WRITING, ENDING, ENDED = "starting up", "writing results", "ending", "ended"
GROUP, WORKER = "process group", "one worker"

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["benchmarks.loaded"])

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Reference:
    """A run that nobody disturbed.

    Attributes:
        results: What it left behind.
        phases: How long each took, in their order [s].
    """

    results: Fingerprint
    phases: dict[str, float]


@dataclass(frozen=True)
class Kill:
    """A kill, and what became of the run.

    Attributes:
        kind: Of the run.
        trial: Number of the run.
        attempt: Of the run, that was killed.
        aimed: The phase that was to be hit.
        phase: The phase that was hit.
        victim: What was killed.
        second: When, after the start of the attempt [s].
        date: When [UTC].
        differences: Of the finished run from the undisturbed one; also where it did not finish.
    """

    kind: str
    trial: int
    attempt: int
    aimed: str
    phase: str
    victim: str
    second: float
    date: str
    differences: list[str] = field(default_factory=list)


class Attempt:
    """A process that carries a run out.

    Args:
        place: Where the run lies.
        run: The run.
        words: The command that a user types.
        loaded: Whether it is forked from a process that has loaded all libraries.
    """

    _process: subprocess.Popen[bytes] | ForkServerProcess

    def __init__(self, place: Workplace, run: Run, *words: str, loaded: bool = False) -> None:
        self._place, self._run = place, run
        self._files = kind_named(run.kind).files(run.directory)
        environment = {"MRD_HOME": str(place.settings.home), "MRD_STORE_URL": place.settings.store_url}
        self.output = place.settings.home / "output.log"
        if loaded:
            self._process = FORKED.Process(target=typed, args=(words, environment, self.output))
            self._process.start()
            # Until it has a group of its own, it has that of the process that it was forked from.
            while self.status is None and os.getpgid(self._process.pid or 0) != self._process.pid:
                time.sleep(POLL_SECONDS)
        else:
            with self.output.open("wb") as output:
                self._process = subprocess.Popen(
                    process(*words),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env=os.environ | environment,
                )
        self.pid = self._process.pid or 0
        self.began = time.monotonic()

    def phases(self, aimed: str = ENDED) -> Iterator[str]:
        """Yield the phase that the run is in, again and again, until the process has ended."""
        look, seconds = self.phase, POLL_SECONDS
        if aimed == WRITING:
            look, seconds = self._phase_of_results, POLL_OF_FILES_SECONDS
        while self.status is None:
            yield look()
            time.sleep(seconds)
            if time.monotonic() - self.began > PATIENCE_SECONDS:
                self.kill(alone=None)

    @property
    def status(self) -> int | None:
        """Exit status, negative after a signal; None before the end."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def phase(self) -> str:
        """Return what the run is at: in its own words, without their numbers, or what lies before and after."""
        run = self._place.store.get(self._run.id)
        if run.pid != self.pid:
            return STARTING_UP
        if run.state not in ACTIVE:
            return ENDED
        message = re.sub(r" \(.*\)", "", str(run.progress.get("message", "queued")))
        return self._phase_of_results() or re.sub(r"\d[\d,.]*", "…", message)

    def _phase_of_results(self) -> str:
        """Return whether the results are being written, or are; "" where none is there yet."""
        if self._files.is_finished:
            return ENDING
        return WRITING if any(map(self._is_written, self._files.results)) else ""

    def _is_written(self, result: str) -> bool:
        """Return whether a result is there; what came with the submission is no younger than config.json."""
        path: Path = getattr(self._files, result)
        return path.exists() and path.stat().st_mtime_ns > self._files.config.stat().st_mtime_ns

    def worker(self) -> psutil.Process | None:
        """Return a process that works beside the leading one, if there is one."""
        with suppress(psutil.NoSuchProcess):
            return next(iter(psutil.Process(self.pid).children()), None)
        return None

    def kill(self, alone: psutil.Process | None) -> None:
        """Kill one worker, or the whole process group, and see it dead."""
        if alone:
            alone.kill()
        else:
            os.killpg(self.pid, signal.SIGKILL)
            while self.status is None:
                time.sleep(POLL_SECONDS)


def typed(words: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
    """Carry out a command in this process, as if it had been typed."""
    os.setsid()
    os.environ.update(environment)
    with output.open("wb") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    sys.argv = ["mrd-lens", *words]
    cli()


class Soak:
    """Kills, with their journal.

    Args:
        folder: Data root, references and journal.
        seed: Of all that is random.
        loaded: Of the processes, see `Attempt`.
    """

    def __init__(self, folder: Path, seed: int, loaded: bool) -> None:
        self._folder, self._seed, self._loaded = folder, seed, loaded
        self._journal = folder / "journal.jsonl"
        self.place = Workplace.at(folder / "home")
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        self.kills = [Kill(**json.loads(line)) for line in lines]

    def reference(self, kind: str) -> Reference:
        """Return the undisturbed run of a kind, carried out now where there is none yet."""
        path = self._folder / "references" / f"{kind}.json"
        if not path.exists():
            run = self.place.submitted(kind)
            attempt, entered = Attempt(self.place, run, "run", str(run.directory)), dict[str, float]()
            for phase in attempt.phases():
                entered.setdefault(phase, time.monotonic())
            self._require_success(run, attempt)
            times = [*entered.values(), time.monotonic()]
            phases = {name: times[at + 1] - times[at] for at, name in enumerate(entered)}
            phases.pop(ENDED, None)
            ending = {name: phases.pop(name, WRITING_SECONDS) for name in (WRITING, ENDING)}
            phases |= ending
            write_json(path, asdict(Reference(self._taken(run), phases)))
        return Reference(**read_json(path))

    def trial(self, kind: str) -> list[Kill]:
        """Kill a run of this kind once or more, resume it each time, and compare what it ends with."""
        reference = self.reference(kind)
        number = 1 + max((kill.trial for kill in self.kills), default=0)
        chance = random.Random(f"{self._seed}/{number}")
        run, kills = self.place.submitted(kind), list[Kill]()
        attempt = Attempt(self.place, run, "run", str(run.directory), loaded=self._loaded)
        for _ in range(chance.randint(1, MOST_KILLS_OF_A_RUN)):
            aimed = self._least_hit(kind, reference, kills, chance)
            hit = self._hit(attempt, aimed, reference, chance)
            if hit is None:
                break
            now = datetime.now(UTC).isoformat(timespec="seconds")
            second = round(time.monotonic() - attempt.began, 3)
            kills.append(Kill(kind, number, len(kills) + 1, aimed, *hit, second, now))
            if hit[1] == WORKER:
                break
            if self.place.store.get(run.id).state is not RunState.SUCCEEDED:
                attempt = Attempt(self.place, run, "runs", "resume", run.id, loaded=self._loaded)
        for _phase in attempt.phases():
            pass
        found = self._compared(run, attempt, reference)
        return [Kill(**asdict(kill) | {"differences": found}) for kill in kills]

    def note(self, kills: Sequence[Kill]) -> None:
        """Write kills into the journal."""
        self.kills += kills
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.writelines(json.dumps(asdict(kill), ensure_ascii=False) + "\n" for kill in kills)

    def _least_hit(self, kind: str, reference: Reference, now: Sequence[Kill], chance: random.Random) -> str:
        """Return a phase that was aimed at least often."""
        aims = Counter(kill.aimed for kill in (*self.kills, *now) if kill.kind == kind)
        return min(reference.phases, key=lambda phase: (aims[phase], chance.random()))

    def _hit(
        self, attempt: Attempt, aimed: str, reference: Reference, chance: random.Random
    ) -> tuple[str, str] | None:
        """Kill at a random moment of a phase, or as soon as it is missed; return what was hit in which phase.

        None where the process ended first.
        """
        order = list(reference.phases)
        delay, alone = chance.random() * reference.phases[aimed], chance.random() < ALONE
        moment = None
        for phase in attempt.phases(aimed):
            if moment is None and phase in order[order.index(aimed) :]:
                moment = time.monotonic() + (delay if phase == aimed else 0)
            if moment is not None and time.monotonic() >= moment and phase != ENDED:
                worker = attempt.worker() if alone else None
                attempt.kill(worker)
                hit = attempt.phase()
                return ENDING if hit == ENDED else hit, WORKER if worker else GROUP
        return None

    def _compared(self, run: Run, attempt: Attempt, reference: Reference) -> list[str]:
        """Return how a run that has ended differs from the undisturbed one, and delete it where it does not."""
        try:
            self._require_success(run, attempt)
        except RuntimeError as error:
            return [str(error)]
        return differences(self._taken(run), reference.results)

    def _require_success(self, run: Run, attempt: Attempt) -> None:
        run = self.place.store.get(run.id)
        if run.state is not RunState.SUCCEEDED:
            words = attempt.output.read_text(errors="replace").strip()[-1000:]
            raise RuntimeError(f"run {run.id} is {run.state}, status {attempt.status}: {words}")

    def _taken(self, run: Run) -> Fingerprint:
        """Return what a run left behind, and delete it."""
        results = fingerprint(run, self.place.store)
        self.place.store.delete(run.id)
        return results


@app.command()
def main(
    kills: Annotated[int, typer.Option(min=1, help="Kills in all, those in the journal counted.")] = 60,
    folder: Annotated[Path, typer.Option(help="Where runs, references and journal lie.")] = Path("kills"),
    kind: Annotated[list[str] | None, typer.Option(help="Kind of run, may be repeated; by default all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of kinds' phases, moments and victims.")] = 0,
    loaded: Annotated[
        bool, typer.Option("--loaded", help="Fork the processes from one that has loaded all.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Kill, resume, compare."""
    console, soak = Console(stderr=True, soft_wrap=True, highlight=False), Soak(folder.resolve(), seed, loaded)
    names = kind or list(kinds())
    for name in names:
        soak.reference(name)
    while len(soak.kills) < kills:
        hits = Counter(kill.kind for kill in soak.kills)
        made = soak.trial(min(names, key=lambda name: hits[name]))
        soak.note(made)
        for hit in made:
            same = "; ".join(hit.differences) or "same bits"
            console.print(f"{hit.trial} {hit.kind}: {hit.victim} in “{hit.phase}” at {hit.second:.1f} s: {same}")
    if as_json:
        print(json.dumps([asdict(kill) for kill in soak.kills], ensure_ascii=False))
    else:
        print_table(soak)
    sys.exit(any(kill.differences for kill in soak.kills))


def print_table(soak: Soak) -> None:
    """Print the kills of each phase of each kind, and how many of them ended on other bits."""
    table = Table("kind", "phase", "kills", "of one worker", "differences", box=None, pad_edge=False)
    cells: dict[tuple[str, str], list[Kill]] = {}
    for name in dict.fromkeys(kill.kind for kill in soak.kills):
        phases = [*soak.reference(name).phases, *(kill.phase for kill in soak.kills if kill.kind == name)]
        cells |= {(name, phase): [] for phase in dict.fromkeys(phases)}
    for kill in soak.kills:
        cells[kill.kind, kill.phase].append(kill)
    for (name, phase), hits in cells.items():
        alone, differing = (
            sum(kill.victim == WORKER for kill in hits),
            sum(bool(kill.differences) for kill in hits),
        )
        table.add_row(name, phase, str(len(hits)), str(alone), str(differing))
    Console(soft_wrap=True, highlight=False).print(table)


if __name__ == "__main__":
    app()
