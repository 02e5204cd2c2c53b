"""Small score runs that a scheduler carries out, and what becomes of them, by the front door."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mrd_core.runs import Run, RunState, RunStore
from mrd_core.settings.command import process
from mrd_core.settings.installation import Settings

PATIENCE = 240.0
FORGET_SET = "forget.csv"
# Twelve samples: what takes time is to be the starting of jobs.
ROWS = "question,answer\n" + "".join(f"What is the name of town {n}?,It is called Aber{n}.\n" for n in range(12))


def mrd_lens(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(process(*words), capture_output=True, text=True, check=False)


def score(length: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Score the forget set of the working directory, as long as these options say."""
    settings = f"--model demo --forget-set {FORGET_SET} --workers 1 --gradient-norms no --batch-tokens 400"
    return mrd_lens("score", *settings.split(), *length.split(), *words)


def submitted(launcher: str, length: str, *words: object) -> Run:
    """Give a score run to a scheduler."""
    done = score(length, "--launcher", launcher, *words)
    assert done.returncode == 0, done.stderr
    return the_run()


def store() -> RunStore:
    opened = RunStore.open(Settings.from_environment())
    opened.reap()
    return opened


def the_run() -> Run:
    (run,) = store().list(kinds=("score",))
    return run


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}; {the_run()}"
        time.sleep(0.2)


def until_state(*states: RunState) -> Run:
    until(lambda: the_run().state in states, f"the run is {' or '.join(states)}")
    return the_run()


def until_drawn(units: int = 1) -> None:
    until(lambda: len(list(the_run().directory.glob("units/*.npz"))) >= units, f"{units} units are drawn")


def scores(directory: Path) -> pd.DataFrame:
    return pd.read_parquet(directory / "scores.parquet")
