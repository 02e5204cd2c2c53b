"""Where a report comes from: its runs with the digests of their files, the model, the set, the programs."""

from __future__ import annotations

import getpass
import hashlib
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from analysis.characteristics.files import CharacteristicsFiles
from analysis.difficulty import ScoredRun
from analysis.report.content import Cell, Column, RunRecord, Table
from analysis.report.runs import Member
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import digest
from mrd_core.runs.kind import kind_named
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import VERSION
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import extra_of, is_run
from mrd_core.unlearning.files import UnlearningFiles

PROGRAMS = ("numpy", "scipy", "pandas", "torch", "transformers")
# By kind, what lies in the directory of a run and is no part of what it measured: what people noted and exported.
_BESIDE = {
    "score": ("notes", "strata", "readings", "exact"),
    "characteristics": tuple(set(CharacteristicsFiles.artifacts()) - {"config", "summary", "features", "spans"}),
    "unlearn": ("tensorboard",),
}
_WEIGHTS = (".safetensors", ".json")
MODEL_DIGEST = "SHA-256 of the model"


def programs() -> dict[str, str]:
    """Return the versions of what makes a report here."""
    own = {"MRD Lens": VERSION, "Python": platform.python_version()}
    return own | {name: version(name) for name in PROGRAMS}


def record(member: Member) -> RunRecord:
    """Return what a report says of a run."""
    config = read_config(member.directory, RunConfig)
    return RunRecord(
        kind=member.kind,
        title=config.title,
        when=member.when,
        settings={name: _shown(value) for name, value in differing(config)},
        files=dict(digests(member)),
    )


def digests(member: Member) -> Iterator[tuple[str, str]]:
    """Yield each file of the results of a run with its SHA-256, by path."""
    beside = ("log", *_BESIDE.get(member.kind, ()))
    for name, artifact in kind_named(member.kind).artifacts.items():
        if artifact.scaffolding or name in beside:
            continue
        path = member.directory / artifact.path
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in (each for each in files if each.is_file()):
            yield str(file.relative_to(member.directory)), digest(file)


def differing(config: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings that differ from their defaults, and those that have none, by dotted name.

    Those that nobody sets, and the runs that a run rests on, are left out.
    """
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        default = field.get_default(call_default_factory=False)
        is_told = name != "kind" and extra_of(field).get("option", name) is not None and not is_run(field)
        if not is_told or value is None or value == default:
            continue
        if isinstance(value, BaseModel):
            yield from differing(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def maker() -> str:
    """Return who makes a report unless something else is said: the name of the account; "" where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def facts(run: ScoredRun, unlearnings: Sequence[Member]) -> Table:
    """Return what was scored, with what and how, and what was to be kept where something was unlearned."""
    rows = (*_facts(run), *_retain_sets(unlearnings))
    return Table(
        caption="What was scored, and how",
        head="What",
        columns={"value": Column(title="Value")},
        rows={name: {"value": value} for name, value in rows if value is not None},
    )


def _facts(run: ScoredRun) -> Iterator[tuple[str, Cell]]:
    config, figures, samples = read_config(run.directory, ScoreConfig), run.files.read_figures(), len(run.samples)
    yield "Model", f"{config.model.title}, {figures.model_parameters:,} parameters"
    yield MODEL_DIGEST, digest_of_model(config)
    yield "Adapter", ", ".join(Path(adapter).name for adapter in config.model.adapter) or None
    yield "Forget set", f"{config.title.rpartition(' on ')[0]}, {samples} samples"
    yield "SHA-256 of the forget set", ForgetSet.load(run.files.samples).digest
    sigma = "no σ" if figures.sigma is None else f"σ = {figures.sigma:.3g}"
    probes = f", {figures.probes} sign probes" if figures.probes else ""
    yield "Draws", f"{figures.evaluations} perturbed evaluations{probes}, {sigma}, seed {config.estimator.seed}"
    yield "Device", f"{figures.device}, {figures.dtype}"
    yield "SHA-256 of the vocabulary", run.plan.vocabulary or None


def _retain_sets(unlearnings: Sequence[Member]) -> Iterator[tuple[str, Cell]]:
    """Yield the retain sets of unlearning runs, each once."""
    files = (UnlearningFiles(member.directory).retain for member in unlearnings)
    sets = {kept.digest: kept for kept in (ForgetSet.load(path) for path in files if path.exists())}
    for at, (sha, kept) in enumerate(sets.items(), start=1):
        number = f" {at}" if len(sets) > 1 else ""
        yield f"Retain set{number}", f"{len(kept)} samples"
        yield f"SHA-256 of the retain set{number}", sha


def digest_of_model(config: ScoreConfig) -> str | None:
    """Return one SHA-256 over the files of the model as it lies there today; None where it lies elsewhere.

    Over the name and the SHA-256 of each file of weights or settings in its folder, or of the one file that it is.
    """
    location = config.model.location
    if location is None:
        return None
    whole = hashlib.sha256()
    folder = location.iterdir() if location.is_dir() else [location]
    for path in sorted(each for each in folder if each == location or each.suffix in _WEIGHTS):
        whole.update(f"{path.name} {digest(path)}\n".encode())
    return whole.hexdigest()


def _shown(value: Any) -> str:
    """Return a setting as text, of a place its name alone: where it lies is nobody else's business."""
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value))
    text = str(value)
    return Path(text).name if text.startswith("/") else text
