"""A job of Ray that shares a run: the worker here, and beside it tasks that draw with it wherever there is room.

`python -m mrd_core.runs.launchers.ray_tasks DIR TASKS CORES GPUS COMMAND…`
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import ray

from mrd_core.runs.files import JOBS_FOLDER, PRIVATE_FOLDER
from mrd_core.settings.command import process


def share(directory: str) -> None:
    """Draw with the worker of a run until it has ended."""
    folder = Path(directory) / JOBS_FOLDER
    folder.mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
    with (folder / f"share-{ray.get_runtime_context().get_task_id()}.log").open("ab") as log:
        subprocess.run(process("share", directory), check=True, stdout=log, stderr=log)


def main(directory: str, tasks: str, cores: str, gpus: str, *command: str) -> int:
    """Carry out the command, the tasks beside it; return what it returned."""
    ray.init(address="auto", log_to_driver=False)
    worker = subprocess.Popen(command)
    _hand_on_signals(worker)
    # A task whose process or node dies begins anew elsewhere: its claims run out.
    task = ray.remote(num_cpus=int(cores), num_gpus=int(gpus), max_retries=-1, retry_exceptions=True)(share)
    beside = [task.remote(directory) for _ in range(int(tasks))]
    code = worker.wait()
    _end(beside)
    # As a shell says that a signal ended it.
    return code if code >= 0 else 128 - code


def _hand_on_signals(worker: subprocess.Popen[bytes]) -> None:
    def hand_on(number: int, _frame: FrameType | None) -> None:
        worker.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, hand_on)


def _end(tasks: Sequence[ray.ObjectRef[None]]) -> None:
    # Those at work see by themselves that the run has ended; those that wait for room need not come.
    for task in tasks:
        ray.cancel(task)
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
