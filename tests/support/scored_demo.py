"""A real score run of the demo's first rows, made once per test session, and stores that know copies of it."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

from mrd_core.runs import RunState, RunStore, submit, worker
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.settings.installation import Settings
from tests.support.once import made_once
from tests.unit.conftest import write_rows

ROWS = 60


def settings_in(home: Path) -> Settings:
    """Return the settings of an installation whose data root is `home`."""
    return Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=(home,))


@cache
def scored_demo(base: Path) -> Path:
    """Return the run's directory; `base` is the temporary folder of this process. Tests that write take a copy."""
    (run,) = (made_once(base, "scored-demo", _score) / "runs").iterdir()
    return run


def _score(home: Path) -> None:
    """Score the rows with 16 draws in the data root `home`."""
    settings = settings_in(home)
    store = RunStore.open(settings)
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(write_rows(home / "first-rows.jsonl", _rows()))),
        estimator=EstimatorConfig(sigma=1e-3, draws=16, stop="never", workers=1),
    )
    run = submit(config, store=store, settings=settings)
    assert worker.run(run.directory, store=store) is RunState.SUCCEEDED


def copied(run: Path, to: Path) -> Path:
    """Copy a run directory and return the copy's path."""
    return Path(shutil.copytree(run, to))


def _rows() -> list[dict[str, str]]:
    frame = read(ForgetSetConfig(source="demo")).frame[["sample_id", "prompt", "answer", "training_count"]][:ROWS]
    named = frame.rename(columns={"sample_id": "id", "prompt": "question"})
    return list(json.loads(named.to_json(orient="records")))
