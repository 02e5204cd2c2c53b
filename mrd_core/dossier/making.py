"""Makes the dossier by the program's own commands; weights, logs and the names of places stay out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from mrd_core.dossier.files import CURVES, DRAWN, PLACE, TIMES, Dossier, Part
from mrd_core.dossier.shaking import shaken, typical
from mrd_core.errors import UserError
from mrd_core.runs import RunStore
from mrd_core.runs.files import LOG_FILE, write_frame, write_json
from mrd_core.settings.command import process, shown
from mrd_core.settings.installation import Settings

RETAIN = ("--retain-set", "demo", "--retain-weight", "4")
UNLEARN = ("unlearn", "--method", "graddiff", *RETAIN, "--learning-rate", "1e-4", "--study", "Demo")
EVALUATE = ("evaluate", "--data", "demo", "--limit", "60")
SCORED = ("--scores", Part.SCORE)
# The words of each command; those that name a part stand for its directory.
COMMANDS: Mapping[Part, tuple[str, ...]] = {
    Part.SCORE: ("score", "--forget-set", "demo", "--model", "demo"),
    Part.UNIFORM: (*UNLEARN, *SCORED),
    Part.WEIGHTED: (*UNLEARN, *SCORED, "--sampler", "mrd", "--column", "mrd_answer_sum"),
    Part.VALIDITY: ("experiment", "validity", *SCORED, "--methods", "ga", "--samples", "60"),
    Part.BEFORE: (*EVALUATE, *SCORED, "--model", "demo"),
    Part.AFTER_UNIFORM: (*EVALUATE, *SCORED, "--unlearned", Part.UNIFORM),
    Part.AFTER_WEIGHTED: (*EVALUATE, *SCORED, "--unlearned", Part.WEIGHTED),
}
# Weights and tokenizers, whose cards stay; and what only a run that goes on would need.
LEFT_OUT = ("*.safetensors", "tokenizer*", LOG_FILE, "units.jsonl", "hidden_states.npy", ".*", "openunlearning*")
READABLE = 0o644


def make(directory: Path) -> Dossier:
    """Make all runs of the dossier, which takes a quarter of an hour on two cores, and write it.

    Args:
        directory: An empty folder, a new one, or a dossier, which is then made anew.

    Raises:
        UserError: Something else lies in the folder, or a run did not succeed.
    """
    dossier = Dossier(directory)
    if directory.exists() and any(directory.iterdir()) and not dossier.digests.is_file():
        raise UserError(str(directory), "holds something else.", "Name a new or an empty folder.")
    with tempfile.TemporaryDirectory(prefix="mrd-dossier-") as folder:
        home = Path(folder).resolve()
        for part in COMMANDS:
            _run(COMMANDS[part], home, home / "runs" / part)
            if part is Part.SCORE:
                # What it exports is no part of the run.
                _run(("characteristics", part), home, home / "exports")
        shutil.rmtree(directory, ignore_errors=True)
        pack(home, dossier)
    return dossier


def pack(home: Path, dossier: Dossier) -> None:
    """Copy the finished runs of a data root into a dossier, and seal it.

    Args:
        home: Its runs lie in `runs`, each named for its part.
        dossier: Is written.
    """
    runs, store = home / "runs", RunStore.open(_settings(home))
    shutil.copytree(runs, dossier.directory, ignore=shutil.ignore_patterns(*LEFT_OUT))
    rows = {}
    for run in reversed(store.list()):
        place = run.directory.relative_to(runs)
        rows[str(place)] = {"summary": run.summary} | {name: str(getattr(run, name)) for name in TIMES}
        if run.kind == "unlearn":
            for name, table in (CURVES, store.metrics(run.id)), (DRAWN, store.sample_updates(run.id)):
                write_frame(dossier.directory / place / name, table.drop(columns="rowid"))
    write_json(dossier.rows, rows)
    score_run = runs / Part.SCORE
    write_frame(dossier.shaken, shaken(score_run, typical(score_run)))
    for name in dossier.contents():
        path = dossier.directory / name
        if path.suffix == ".json":
            path.write_text(path.read_text("utf-8").replace(str(runs), PLACE), "utf-8")
        elif path.suffix == ".parquet":
            _rewrite(path, str(runs))
        path.chmod(READABLE)
    dossier.seal()
    dossier.digests.chmod(READABLE)


def _settings(home: Path) -> Settings:
    return Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=())


def _run(words: tuple[str, ...], home: Path, out: Path) -> None:
    """Carry out a command of the program in a data root."""
    paths = [str(home / "runs" / word) if isinstance(word, Part) else word for word in words]
    command = process(*paths, "--out", out)
    settings = _settings(home)
    environment = os.environ | {"MRD_HOME": str(home), "MRD_STORE_URL": settings.store_url}
    if subprocess.run(command, env=environment, check=False).returncode:
        raise UserError(f"`{shown(*words)}`", "did not succeed.", "Read what it printed above.")


def _rewrite(path: Path, runs: str) -> None:
    """Write a table as small as it gets, the place of the runs taken out of its metadata."""
    table = pq.ParquetFile(path).read()
    metadata = {
        key: value.replace(runs.encode(), PLACE.encode()) for key, value in (table.schema.metadata or {}).items()
    }
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)
