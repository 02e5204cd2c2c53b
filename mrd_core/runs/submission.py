"""Submitting a run, taking one up again, and making runs of directories that the store does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from mrd_core.errors import UserError
from mrd_core.runs import directory as run_directory
from mrd_core.runs.failure import describe
from mrd_core.runs.files import CONFIG_FILE, PRIVATE_FOLDER, RunDirectory
from mrd_core.runs.kind import Kind, kind_named
from mrd_core.runs.launchers.port import Launcher
from mrd_core.runs.record import RESUMABLE, Run, RunState
from mrd_core.runs.store import RUN_ID, RunStore, new_run_id
from mrd_core.runs.subject import subject
from mrd_core.settings.command import process, shown
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings


def command_for(directory: Path) -> list[str]:
    """Return the process that carries out the run in `directory`."""
    return process("run", directory)


def queue_of(device: str) -> str:
    """Return the device whose queue a run waits in, for a device as it is configured.

    `auto` queues for the first GPU where the NVIDIA driver shows one; the job itself picks its device.
    """
    if device == "auto":
        device = "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"
    return "cuda:0" if device == "cuda" else device


def submit(
    config: RunConfig,
    *,
    store: RunStore,
    settings: Settings,
    directory: Path | None = None,
    launcher: Launcher | None = None,
    prepare: Callable[[Path], None] | None = None,
) -> Run:
    """Make the run directory and the row of a new run, and launch its worker.

    All or nothing: the directory appears whole, the row after it, and neither is left if the worker cannot
    be started. A run whose kind gives it a place of its own is made once: asked for again it is returned, resumed
    where it ended early, and made anew where its results are gone.

    Args:
        config: Becomes `config.json`.
        store: Where the row goes.
        settings: Names the data root: runs lie in `settings.home`/runs unless `directory` is given.
        directory: The run directory; it must not exist, or be empty.
        launcher: Starts the worker; without one the caller carries the run out itself.
        prepare: Writes what the run keeps of its own into the directory it is given before the run becomes
            visible, in the place of the kind's own preparation.

    Raises:
        UserError: The directory exists and is not empty, another run is known to lie there, what the run builds
            on is not as its kind needs it, or the launcher refuses it.
    """
    kind = kind_named(config.kind)
    place = kind.place(config)
    if place is not None:
        return _made_once(kind, config, place.resolve(), store, launcher)
    run_id = new_run_id()
    directory = (directory or settings.home / "runs" / run_id).resolve()
    return _made(kind, config, directory, store, launcher, prepare, run_id)


def resume(run_id: str, *, store: RunStore, launcher: Launcher | None = None, anew: bool = False) -> Run:
    """Queue a run that ended early again, `anew` also one whose results are gone, and launch its worker.

    All or nothing: a run whose worker cannot be started is as it was, its error and its figures with it.

    Raises:
        UserError: The run cannot be resumed, or the launcher refuses it.
        OSError: The worker cannot be started.
    """
    before = store.get(run_id)
    run = store.resume(before.id, anew=anew)
    if launcher is None:
        return run
    try:
        return _launched(run, store, launcher)
    except BaseException as error:
        store.put_back(before, describe(error))
        raise


def register(config: RunConfig, directory: Path, store: RunStore, run_id: str | None = None, **ended: Any) -> Run:
    """Add the run that a directory's configuration describes to the store, queued unless `ended` says otherwise.

    Raises:
        sqlalchemy.exc.IntegrityError: The id or the directory belongs to another run.
    """
    title = kind_named(config.kind).title(config)
    about = subject(config.model_dump(mode="json"))
    return store.create(config.kind, title, queue_of(config.device), directory, run_id, **about | ended)


def adopt(directory: Path, store: RunStore) -> Run:
    """Take up a run directory that the store does not know: finished where its results are whole, else to resume.

    Raises:
        UserError: It is no run directory, or its figures cannot be read.
    """
    if known := store.find_by_directory(directory):
        return known
    config = run_directory.read_config(directory, RunConfig)
    kind = kind_named(config.kind)
    files = kind.files(directory)
    state = RunState.SUCCEEDED if files.is_finished else RunState.INTERRUPTED
    made = datetime.fromtimestamp(files.config.stat().st_mtime, UTC)
    summary = _summary(kind, files) if files.summary.exists() else None
    run_id = directory.name if RUN_ID.fullmatch(directory.name) else None
    values: dict[str, Any] = {"state": state, "summary": summary, "created_at": made, "finished_at": made}
    try:
        return register(config, directory, store, run_id, **values)
    except IntegrityError:
        # A copy of a run that the store knows.
        return register(config, directory, store, **values)


def _summary(kind: Kind, files: RunDirectory) -> dict[str, Any]:
    """Return the figures of a run as its kind reads them."""
    try:
        summary = files.read_summary()
        kind.headline(summary)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            reason = " ".join([*map(str, first["loc"]), first["msg"]])
        raise UserError(
            str(files.summary),
            f"The figures of a {kind.label.lower()} run cannot be read from it ({reason}).",
            "Put the file back as it was written, or remove it, take the run up and resume it.",
        ) from error
    return summary


def directories_in(folder: Path) -> Iterator[Path]:
    """Yield the run directories of a folder: itself or those in it, each before those that lie in it."""
    for path in [folder] if (folder / CONFIG_FILE).is_file() else sorted(folder.glob("*")):
        if (path / CONFIG_FILE).is_file():
            yield path
            for inner in sorted(path.glob(f"*/*/{CONFIG_FILE}")):
                with suppress(UserError):
                    config = run_directory.read_config(inner.parent, RunConfig)
                    if kind_named(config.kind).has_place:
                        yield inner.parent


def unlisted(store: RunStore) -> list[Path]:
    """Return the run directories of the installation that its store does not know, such as a kill leaves."""
    known = {run.directory for run in store.list()}
    # Links lead to what was made elsewhere.
    places = {path.resolve() for path in (store.home / "runs").glob("*") if (path / CONFIG_FILE).is_file()}
    return sorted(places - known)


def _made(
    kind: Kind,
    config: RunConfig,
    directory: Path,
    store: RunStore,
    launcher: Launcher | None,
    prepare: Callable[[Path], None] | None = None,
    run_id: str | None = None,
) -> Run:
    """Make a new run in a directory that must be free, and launch it."""
    _require_free(directory, store)
    directory.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    run_directory.sweep(directory.parent)
    with run_directory.staged(directory, store.home / "runs") as draft:
        if prepare:
            prepare(draft)
        else:
            config = kind.prepare(config, draft)
        run_directory.write_config(draft, config)
        draft.rename(directory)
        try:
            run = register(config, directory, store, run_id)
        except BaseException:
            run_directory.remove(directory)
            raise
    if launcher:
        try:
            run = _launched(run, store, launcher)
        except BaseException:
            store.request_cancel(run.id)
            store.delete(run.id)
            raise
    return run


def _launched(run: Run, store: RunStore, launcher: Launcher) -> Run:
    job = launcher.launch(run, command_for(run.directory))
    if job is None:
        return run
    store.assign(run.id, launcher.name, job)
    return store.get(run.id)


def _made_once(kind: Kind, config: RunConfig, directory: Path, store: RunStore, launcher: Launcher | None) -> Run:
    """Return the run that lies in `directory`, made where there is none."""
    store.reap()
    known = store.find_by_directory(directory)
    files = kind.files(directory)
    finished = all(getattr(files, name).exists() for name in files.results)
    # Somebody removed results by hand. What is left of them stays until the new ones are whole.
    anew = known is not None and known.state is RunState.SUCCEEDED and not finished
    if known and anew and not (directory / CONFIG_FILE).exists():
        store.delete(known.id)
        known, anew = None, False
    if known is None:
        if finished and (directory / CONFIG_FILE).exists():
            # Made by another installation, or come along with a copy of the run that it builds on.
            return adopt(directory, store)
        try:
            return _made(kind, config, directory, store, launcher)
        except (OSError, IntegrityError):
            # Somebody else asked for the same at the same moment, and was first.
            known = store.find_by_directory(directory)
            if known is None:
                raise
    if anew or known.state in RESUMABLE:
        return resume(known.id, store=store, launcher=launcher, anew=anew)
    return known


def _require_free(directory: Path, store: RunStore) -> None:
    earlier = store.find_by_directory(directory)
    if (directory / CONFIG_FILE).exists():
        way = (
            f"delete that run first (`mrd-lens runs delete {earlier.id}`)"
            if earlier
            else (f"take that run up, which the store does not know (`{shown('runs', 'adopt', directory)}`)")
        )
        raise UserError(str(directory), "It already holds a run.", f"Name another directory, or {way}.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            str(directory),
            "It is not an empty directory, and deleting the run later would take its files along.",
            "Name a new or an empty directory.",
        )
    if earlier:
        raise UserError(
            str(directory),
            f"It was the directory of run {earlier.id}, whose files somebody removed.",
            f"Delete that run first (`mrd-lens runs delete {earlier.id}`), or name another directory.",
        )
