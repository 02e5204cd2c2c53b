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
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunStore
from mrd_core.runs.launchers.choice import reachable
from mrd_core.runs.launchers.node import as_json, ask, looked, probed
from mrd_core.runs.launchers.ray_jobs import look_around
from mrd_core.runs.launchers.reach import OF_A_NETWORK, OF_ONE_MACHINE, file_system
from mrd_core.runs.launchers.slurm import nodes as nodes_of_slurm
from mrd_core.runs.submission import unlisted
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.workers import Workers
from mrd_core.settings.command import shown
from mrd_core.settings.installation import Settings, without_password

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
@click.option("--nodes", is_flag=True, help="Look around on the nodes of Slurm and Ray, too, in jobs of a moment.")
@click.option("--look", type=click.Path(path_type=Path), hidden=True, help="A folder that another machine lends.")
def doctor(nodes: bool, look: Path | None) -> None:
    """Print what this installation runs on; or, as JSON, what this node sees of a folder that is lent."""
    if look:
        print(as_json(looked(look)))
        return
    table = Table(box=None, pad_edge=False)
    for name in Finding._fields:
        # A path that does not fit is broken, never cut: it is here to be read.
        table.add_column(name, overflow="fold")
    settings = Settings.from_environment()
    for finding in findings(settings):
        table.add_row(*map(escape, finding))
    for finding in of_nodes(settings) if nodes else ():
        table.add_row(*map(escape, finding))
    out.print(table)


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield versions, device, memory, store and text pipeline, each with the reason of the choice."""
    yield Finding("mrd-lens", __version__, "")
    yield Finding("python", platform.python_version(), platform.platform())
    yield from (Finding(package, version(package), "") for package in PACKAGES)
    device, device_choice = models.choose_device("auto")
    dtype, dtype_choice = models.choose_dtype("auto", device, torch.bfloat16)
    workers = Workers.of(EstimatorConfig(), ModelConfig())
    yield Finding("device", device_choice.value, device_choice.reason)
    yield Finding("dtype", models.name_of(dtype), f"for a model stored in bfloat16: {dtype_choice.reason}")
    yield Finding("workers", str(len(workers.devices)), workers.reason)
    yield Finding("threads", f"{workers.threads} a worker", f"{models.cores()} core(s) shared by the workers")
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
    yield Finding(
        "store", without_password(settings.store_url), f"MRD_STORE_URL, or SQLite in the home; {runs} run(s)"
    )
    broken = store.damage()
    yield Finding("store's pages", broken or "whole", "PRAGMA quick_check; a damaged store's runs can be adopted")
    if left := unlisted(store):
        yield Finding(
            "not listed", f"{len(left)} run(s)", f"take them up: {shown('runs', 'adopt', settings.home / 'runs')}"
        )
    yield Finding("upload limit", f"{settings.upload_limit_mb} MB", "MRD_UPLOAD_LIMIT_MB, or 50")
    yield Finding("allowed roots", roots, "MRD_ALLOWED_ROOTS; for paths typed in pages")
    yield from launchers(settings)
    yield from reading()


def launchers(settings: Settings) -> Iterator[Finding]:
    """Yield where runs can be carried out, and whether the home can be shared by those who do."""
    why = f"MRD_LAUNCHER, or local: now {settings.launcher}; Slurm needs sbatch and submitit, Ray RAY_ADDRESS"
    yield Finding("launchers", ", ".join(reachable(settings)), why)
    kind = file_system(settings.home)
    whose = ", of this machine alone" if kind in OF_ONE_MACHINE else ""
    whose = ", of a network: no place for SQLite" if kind in OF_A_NETWORK else whose
    yield Finding("file system", kind or "not said", f"of the home{whose}")
    with probed(settings.home) as folder:
        # The lock is this process's own: another opening of the file must be refused it.
        faults = looked(folder).faults
    yield Finding("locks", "hold" if not faults else "fail", " ".join(faults) or "files are renamed whole")


def of_nodes(settings: Settings) -> Iterator[Finding]:
    """Yield what each node of Slurm and of Ray is, and what does not work there.

    Raises:
        UserError: There is neither.
    """
    names, has_ray = nodes_of_slurm(), "ray" in reachable(settings)
    if not names and not has_ray:
        fix = "Use a login node of the cluster, or set RAY_ADDRESS."
        raise UserError("doctor --nodes", "finds no node of Slurm or Ray.", fix)
    for seen in [*(ask(names, settings) if names else ()), *(look_around(settings) if has_ray else ())]:
        about = f"{seen.versions}; GPUs: {seen.gpus}; {seen.memory:.0f} GiB" if seen.versions else ""
        yield Finding(f"node {seen.host}", " ".join(seen.faults) or "works", about)


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
