"""Workers as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from mrd_core.runs.files import LOG_FILE
from mrd_core.runs.record import Run
from mrd_core.settings.installation import Settings


@dataclass(frozen=True)
class LocalLauncher:
    """Starts workers as processes of this machine that outlive this one.

    Args:
        settings: Handed on to the worker, so that it finds the same store.
    """

    settings: Settings = field(default_factory=Settings.from_environment)
    name: str = "local"

    def launch(self, run: Run, command: Sequence[str]) -> None:
        """Start `command` in a session of its own, its output appended to the run's log."""
        with (run.directory / LOG_FILE).open("ab") as log:
            worker = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
                env=os.environ | self.settings.of_workers,
            )
        # Somebody must wait for the child, or it stays behind as a zombie for as long as this process lives.
        threading.Thread(target=worker.wait, name=f"wait-{run.id}", daemon=True).start()
