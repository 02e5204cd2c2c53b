"""The finished runs as a store that can be read like any other, and only read. Loads no torch."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock

from mrd_core.dossier.files import CURVES, DRAWN, PLACE, TIMES, Dossier, Part, shipped
from mrd_core.runs import RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.faults import StoreError
from mrd_core.runs.files import PRIVATE_FOLDER, read_json
from mrd_core.runs.store import Metric, SampleUpdate
from mrd_core.runs.submission import register
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings, store_url_in

UNPACKED, DONE = "demo", "unpacked"
SHIPPED = StoreError(
    "unwritable",
    "The demo's finished runs",
    "ship with the program and can only be read.",
    "Score the demo yourself (Start, Use the demo) to unlearn, to note or to delete anything.",
)


def store_in(home: Path) -> RunStore:
    """Return the store of the finished runs, unpacked in a data root, once for each version of them.

    They name the place where they lie: in a data root that was moved or copied they are unpacked anew.

    Raises:
        UserError: A file is not as it was shipped.
    """
    dossier = shipped()
    folder = home / UNPACKED / sha256(dossier.digests.read_bytes()).hexdigest()[:12]
    settings = Settings(home=folder, store_url=store_url_in(folder), allowed_roots=())
    folder.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    done = folder / DONE
    with FileLock(folder.with_suffix(".lock"), fallback_to_soft=False):
        if not done.exists() or done.read_text("utf-8") != str(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(dossier.directory, folder / "runs")
            _register(dossier, folder / "runs", RunStore.open(settings))
            done.write_text(str(folder), "utf-8")
    return RunStore.read_only(settings, SHIPPED)


def _unpack(shipped_runs: Path, runs: Path) -> None:
    """Copy the runs, and put the place where they lie into their files."""
    shutil.copytree(shipped_runs, runs)
    # As it stands between the quotes of a text in JSON.
    place = json.dumps(str(runs), ensure_ascii=False)[1:-1]
    for path in runs.rglob("*.json"):
        path.write_text(path.read_text("utf-8").replace(PLACE, place), "utf-8")
    for path in runs.rglob("features.parquet"):
        table = pq.ParquetFile(path).read()
        metadata = {
            key: value.replace(PLACE.encode(), place.encode()) for key, value in table.schema.metadata.items()
        }
        pq.write_table(table.replace_schema_metadata(metadata), path)


def _register(dossier: Dossier, runs: Path, store: RunStore) -> None:
    """Take up the runs, in the order in which they were made, with what they reported while they went on."""
    for place, row in read_json(dossier.rows).items():
        directory = runs / place
        times = {name: datetime.fromisoformat(row[name]) for name in TIMES}
        run_id = place if place in set(Part) else None
        config = read_config(directory, RunConfig)
        ended = {"state": RunState.SUCCEEDED, "summary": row["summary"], **times}
        run = register(config, directory, store, run_id, **ended)
        if (directory / CURVES).exists():
            curves, drawn = (pd.read_parquet(directory / name) for name in (CURVES, DRAWN))
            store.add_steps(
                run.id,
                [Metric(*row) for row in curves[list(Metric._fields)].itertuples(index=False)],
                [SampleUpdate(*row) for row in drawn[list(SampleUpdate._fields)].itertuples(index=False)],
            )
