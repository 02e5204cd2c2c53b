"""Workers that kill themselves with -9 at a chosen moment, in processes that have all they need loaded already."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mrd_core.runs import Run, RunStore, worker
from mrd_core.runs.context import StoredContext
from mrd_core.runs.liveness import FRESH
from mrd_core.settings.installation import Settings
from tests.support.runs import set_row

PATIENCE = 120.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.loaded", __name__])


def moments_of(run: Run, settings: Settings) -> int:
    """Carry a run out in a process of its own, and return how many moments it has to die at."""
    count = CONTEXT.Value("i", 0)
    assert _in_a_process(run, settings, None, count) == 0
    return int(count.value)


def killed_at(run: Run, settings: Settings, moment: int) -> None:
    """Have a worker begin a run and die at its moment of this number, and have the run called lost."""
    assert _in_a_process(run, settings, moment, CONTEXT.Value("i", 0)) == -signal.SIGKILL
    store = RunStore.open(settings)
    # Nobody waits for its last heartbeat to grow old.
    set_row(store, run, heartbeat_at=datetime.now(UTC) - 2 * FRESH)
    assert [lost.id for lost in store.reap()] == [run.id]


def _in_a_process(run: Run, settings: Settings, moment: int | None, count: Any) -> int | None:
    process = CONTEXT.Process(target=_work, args=(run.directory, settings, moment, count))
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def _work(directory: Path, settings: Settings, moment: int | None, count: Any) -> None:
    """Carry a run out, and die before it says how far it is, or renames a file to its own name."""

    def before(method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if count.value == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            count.value += 1
            return method(*arguments, **named)

        return counted

    StoredContext.progress = before(StoredContext.progress)  # type: ignore[method-assign]
    Path.replace = before(Path.replace)  # type: ignore[method-assign]
    worker.run(directory, store=RunStore.open(settings))
