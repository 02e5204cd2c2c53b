"""`mrd-lens doctor`: what this installation runs on, and why it chose so."""

from __future__ import annotations

import platform
import shlex
import stat
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import click
import psutil
import torch
from rich.markup import escape
from rich.table import Table

from analysis.features import features
from analysis.text.language import Detector
from analysis.text.pipeline.loading import installed, load
from cli.terminal import out
from mrd_core import __version__
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.runs import RunStore
from mrd_core.runs.submission import unlisted
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.plan import workers_and_threads
from mrd_core.settings.command import shown
from mrd_core.settings.installation import Settings

PACKAGES = (
    *("torch", "transformers", "datasets", "peft", "pandas", "streamlit", "plotly"),
    *("spacy", "lexicalrichness", "wordfreq", "datasketch", "lingua-language-detector"),
)
LANGUAGE = "en"


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    value: str
    why: str


@click.command()
def doctor() -> None:
    """Print what this installation runs on."""
    table = Table(box=None, pad_edge=False)
    for name in Finding._fields:
        # A path that does not fit is broken, never cut: it is here to be read.
        table.add_column(name, overflow="fold")
    for finding in findings(Settings.from_environment()):
        table.add_row(*map(escape, finding))
    out.print(table)


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield versions, device, memory, store and text pipeline, each with the reason of the choice."""
    yield Finding("mrd-lens", __version__, "")
    yield Finding("python", platform.python_version(), platform.platform())
    yield from (Finding(package, version(package), "") for package in PACKAGES)
    device, device_choice = models.choose_device("auto")
    dtype, dtype_choice = models.choose_dtype("auto", device, torch.bfloat16)
    workers, threads = workers_and_threads(EstimatorConfig(), device)
    cores = models.cores()
    processes = "one process keeps a GPU busy" if device.type == "cuda" else "processes beat threads on a CPU"
    yield Finding("device", device_choice.value, device_choice.reason)
    yield Finding("dtype", models.name_of(dtype), f"for a model stored in bfloat16: {dtype_choice.reason}")
    yield Finding("workers", str(workers), f"{processes}; {cores} core(s)")
    yield Finding("threads", f"{threads} a worker", f"{cores} core(s) shared by the workers")
    yield Finding("memory", f"{models.free_bytes(device) / 2**30:.1f} GiB free", f"on {device}")
    yield Finding("RAM", f"{psutil.virtual_memory().total / 2**30:.1f} GiB", "")
    store = RunStore.open(settings)
    runs = len(store.list())
    roots = ", ".join(map(str, settings.allowed_roots))
    yield Finding("home", str(settings.home), "MRD_HOME, or ~/.mrd-lens")
    if readers := others_in(settings.home):
        # Wanted where accounts share a store; elsewhere left over from before runs were private.
        yield Finding(
            "texts are open", f"to {readers}", f"close them: chmod -R go= {shlex.quote(str(settings.home))}"
        )
    yield Finding("store", settings.store_url, f"MRD_STORE_URL, or SQLite in the home; {runs} run(s)")
    broken = store.damage()
    yield Finding("store's pages", broken or "whole", "PRAGMA quick_check; a damaged store's runs can be adopted")
    if left := unlisted(store):
        yield Finding(
            "not listed", f"{len(left)} run(s)", f"take them up: {shown('runs', 'adopt', settings.home / 'runs')}"
        )
    yield Finding("upload limit", f"{settings.upload_limit_mb} MB", "MRD_UPLOAD_LIMIT_MB, or 50")
    yield Finding("allowed roots", roots, "MRD_ALLOWED_ROOTS; for paths typed in pages")
    yield from reading()


def others_in(home: Path) -> str:
    """Return who besides the owner may look into the run directories of a home: "", `its group` or `everybody`."""
    modes = [path.stat().st_mode for path in (home, home / "runs") if path.is_dir()]
    for readers, right in (("everybody", stat.S_IXOTH), ("its group", stat.S_IXGRP)):
        if modes and all(mode & right for mode in modes):
            return readers
    return ""


def reading() -> Iterator[Finding]:
    """Yield the pipeline that would read English, loaded as a run would, features and language detection."""
    try:
        pipeline = load(language=LANGUAGE)
    except UserError as error:
        yield Finding("pipeline", "none", str(error))
    else:
        scores = " / ".join(f"{score:.1%}" for score in pipeline.attachment or ()) or "not stated"
        yield Finding("pipeline", f"{pipeline.name} {pipeline.version}", pipeline.reason)
        yield Finding("labels", pipeline.scheme, "of the dependencies, from its parser")
        yield Finding("attachment", scores, "unlabelled / labelled, on the pipeline's own test part")
    packages = ", ".join(f"{name} {number}" for name, number in installed().items()) or "none"
    yield Finding(
        "installed pipelines", packages, "packages that spaCy can load; the shipped one is not a package"
    )
    by_text = sum(feature.of is not None for feature in features())
    yield Finding("features", str(len(features())), f"{by_text} of a text by itself, the others of the whole set")
    yield Finding("language detection", LANGUAGE, Detector(LANGUAGE).method)
