"""What the pages cost over the socket: the next sample, a change of page, and the first look at characteristics.

    python -m benchmarks.pages [--samples 240 --samples 4080] [--home DIR] [--json]

For every number of samples a score run is made up in a data root of its own; up to 5,000 samples are read, too.
A server then answers a session that speaks to it as a browser does, keeps what a browser keeps, and draws nothing.
With `--home` the newest score run of that data root is looked at instead.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from analysis.characteristics import runs as characteristics
from benchmarks.browsing import Rerun, Visitor
from benchmarks.large_set import scored
from benchmarks.sessions import PAGES, Server
from mrd_core.runs import RunState, RunStore, submit, worker
from mrd_core.settings.installation import Settings

# How often each page is opened; the last time is measured, when all is cached that a page caches.
WARM = 2
NEXT_SAMPLES = 8
# The reading of more texts than these takes minutes.
MOST_READ = 5_000
SIZES = (240, 4_080, 20_000)
KILOBYTE = 1_000

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass
class Measured:
    """What pages cost.

    Attributes:
        samples: Of the score run; None in a data root that was there before.
        reruns: What each action gave, by what was done.
        errors: What pages showed of errors, and tracebacks of the server.
    """

    samples: int | None
    reruns: dict[str, Rerun] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@app.command()
def main(
    samples: Annotated[
        list[int] | None, typer.Option(min=10, help="Samples of the score run; may be repeated.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Data root that is looked at instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure what pages cost over the socket."""
    everything = [existing(home)] if home else [made_up(size) for size in samples or SIZES]
    if as_json:
        print(json.dumps([asdict(measured) for measured in everything]))
    else:
        print_table(everything)
    sys.exit(any(measured.errors for measured in everything))


def made_up(size: int) -> Measured:
    """Measure the pages of a score run of so many samples that no model has made."""
    with TemporaryDirectory(prefix="mrd-pages-") as folder:
        store, settings, run = scored(Path(folder).resolve(), size)
        if size <= MOST_READ:
            reading = submit(characteristics.default_config(run.directory), store=store, settings=settings)
            worker.run(reading.directory, store=store)
        return asyncio.run(looked_at(settings, run.id, size))


def existing(home: Path) -> Measured:
    """Measure the pages of the newest score run of a data root."""
    settings = Settings(
        home=home.resolve(), store_url=f"sqlite:///{home.resolve() / 'store.db'}", allowed_roots=()
    )
    (run,) = RunStore.open(settings).list(1, kinds=("score",), states=(RunState.SUCCEEDED,))
    return asyncio.run(looked_at(settings, run.id, None))


async def looked_at(settings: Settings, run: str, size: int | None) -> Measured:
    """Open every page of a run on a server of its own, and go from sample to sample."""
    measured = Measured(size)
    server = Server(settings, "pages")
    with server.up():
        visitor = Visitor(server.address, [run], [], seed=0)
        async with visitor.at("") as connection:
            measured.reruns["characteristics, first"] = await visitor.go(connection, "characteristics")
            for _ in range(WARM):
                for page in PAGES:
                    measured.reruns[page or "start"] = await visitor.go(connection, page)
            await visitor.go(connection, "difficulty")
            steps = [await visitor.press(connection, "next") for _ in range(NEXT_SAMPLES)]
        measured.reruns["next sample"] = Rerun(
            "press",
            statistics.median(step.seconds for step in steps),
            max(step.received for step in steps),
        )
    measured.errors = visitor.errors + server.tracebacks()
    return measured


def print_table(everything: list[Measured]) -> None:
    """Print the figures for people."""
    console = Console(soft_wrap=True, highlight=False)
    heads = [f"{measured.samples:,} samples" if measured.samples else "this data root" for measured in everything]
    table = Table("", *heads, box=None, pad_edge=False)
    for name in everything[0].reruns:
        reruns = [measured.reruns[name] for measured in everything]
        table.add_row(name, *(f"{rerun.received / KILOBYTE:,.0f} KB, {rerun.seconds:.2f} s" for rerun in reruns))
    console.print(table)
    for measured in everything:
        for error in measured.errors:
            console.print(error, markup=False)


if __name__ == "__main__":
    app()
