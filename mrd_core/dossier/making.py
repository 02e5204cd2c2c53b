"""Makes the dossier by the program's own commands; weights, logs and the names of places stay out of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mrd_core.dossier.files import CURVES, DRAWN, PLACE, TIMES, Dossier, Part
from mrd_core.dossier.shaking import shaken, typical
from mrd_core.errors import UserError
from mrd_core.evaluation.command import EVALUATE
from mrd_core.experiments.command import COMMANDS as EXPERIMENTS
from mrd_core.runs import RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import LOG_FILE, write_frame, write_json
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import Command, process, shown
from mrd_core.settings.installation import Settings, store_url_in
from mrd_core.studies.rows import Links, Row, rows_of
from mrd_core.studies.study import read
from mrd_core.unlearning.command import UNLEARN

# The study whose runs they are, and the parts in the order of its runs.
STUDY = "demo"
PARTS = (
    Part.SCORE,
    Part.UNIFORM,
    Part.WEIGHTED,
    Part.BEFORE,
    Part.AFTER_UNIFORM,
    Part.AFTER_WEIGHTED,
    Part.VALIDITY,
    Part.DURABILITY,
)
COMMANDS: Mapping[str, Command[Any]] = {"score": SCORE, "unlearn": UNLEARN, "evaluate": EVALUATE, **EXPERIMENTS}
# Weights and tokenizers, whose cards stay; and what only a run that goes on would need.
LEFT_OUT = ("*.safetensors", "tokenizer*", LOG_FILE, "units.jsonl", "hidden_states.npy", ".*", "openunlearning*")
READABLE = 0o644


def make(directory: Path) -> Dossier:
    """Make all runs of the dossier, which takes twenty minutes on two cores, and write it.

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
        runs: dict[Row, Path] = {}
        for part, row in parts().items():
            runs[row] = home / "runs" / part
            _run(words_of(row, runs), home, runs[row])
            if part is Part.SCORE:
                # What it exports is no part of the run.
                _run(["characteristics", str(runs[row])], home, home / "exports")
        shutil.rmtree(directory, ignore_errors=True)
        pack(home, dossier)
    return dossier


def parts() -> dict[Part, Row]:
    """Return which run of the study each part is, each behind those that it builds on."""
    return dict(zip(PARTS, rows_of(read(STUDY)), strict=True))


def words_of(row: Row, runs: Mapping[Row, Path]) -> list[str]:
    """Return the words of the command that makes a run.

    Args:
        row: Of the study.
        runs: Directories of the runs that it may build on.
    """
    links = None
    if row.score is not None:
        scores = runs[row.score]
        unlearned = runs[row.unlearned] if row.unlearned else None
        attacked = tuple(runs[each] for each in row.attacked)
        links = Links(scores, read_config(scores, ScoreConfig), unlearned, attacked)
    return shlex.split(COMMANDS[row.kind].shown(row.config(links, read(STUDY).name)))[1:]


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
    return Settings(home=home, store_url=store_url_in(home), allowed_roots=())


def _run(words: Sequence[str], home: Path, out: Path) -> None:
    """Carry out a command of the program in a data root."""
    settings = _settings(home)
    environment = os.environ | {"MRD_HOME": str(home), "MRD_STORE_URL": settings.store_url}
    if subprocess.run(process(*words, "--out", out), env=environment, check=False).returncode:
        raise UserError(f"`{shown(*words)}`", "did not succeed.", "Read what it printed above.")


def _rewrite(path: Path, runs: str) -> None:
    """Write a table as small as it gets, the place of the runs taken out of its metadata."""
    table = pq.ParquetFile(path).read()
    metadata = {
        key: value.replace(runs.encode(), PLACE.encode()) for key, value in (table.schema.metadata or {}).items()
    }
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)
