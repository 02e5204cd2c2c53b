"""Workers that kill themselves with -9 at a chosen moment.

`python -m tests.support.kills DIRECTORY [MOMENT]` is one, and prints how many moments it has passed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mrd_core.runs import Run, RunStore, worker
from mrd_core.runs.context import StoredContext
from mrd_core.runs.liveness import FRESH
from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY
from tests.support.runs import set_row

PATIENCE = 120.0


def moments_of(run: Run, settings: Settings) -> int:
    """Carry a run out in a process of its own, and return how many moments it has to die at."""
    done = _in_a_process(run, settings)
    assert done.returncode == 0
    return int(done.stdout.splitlines()[-1])


def killed_at(run: Run, settings: Settings, moment: int) -> None:
    """Have a worker begin a run and die at its moment of this number, and have the run called lost."""
    assert _in_a_process(run, settings, str(moment)).returncode == -signal.SIGKILL
    store = RunStore.open(settings)
    # Nobody waits for its last heartbeat to grow old.
    set_row(store, run, heartbeat_at=datetime.now(UTC) - 2 * FRESH)
    assert [lost.id for lost in store.reap()] == [run.id]


def _in_a_process(run: Run, settings: Settings, *moment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.kills", str(run.directory), *moment],
        cwd=REPOSITORY,
        env=os.environ | {"MRD_HOME": str(settings.home), "MRD_STORE_URL": settings.store_url},
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _work(directory: Path, last: int | None) -> int:
    """Carry a run out, and die before it says how far it is, or renames a file to its own name."""
    count = 0

    def before(method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return method(*arguments, **named)

        return counted

    StoredContext.progress = before(StoredContext.progress)  # type: ignore[method-assign]
    Path.replace = before(Path.replace)  # type: ignore[method-assign]
    worker.run(directory)
    return count


if __name__ == "__main__":
    print(_work(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None))
