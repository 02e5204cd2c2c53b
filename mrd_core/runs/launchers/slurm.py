"""Workers as jobs of Slurm, submitted by submitit."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrd_core.errors import UserError
from mrd_core.runs.files import JOBS_FOLDER, LOG_FILE, PRIVATE_FOLDER
from mrd_core.runs.launchers import reach
from mrd_core.runs.launchers.command_line import CommandLine
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.runs.launchers.port import Job, JobState, package
from mrd_core.runs.record import Run
from mrd_core.settings.command import ROOT, process
from mrd_core.settings.installation import Settings

LABEL = "Slurm"
EXTRA = ROOT / "requirements-slurm.txt"
# A command of Slurm that has not answered by then will not [s].
PATIENCE = 20
# So long before the end of its time a job is asked to stop [s], and the most of its time that takes.
NOTICE, SHARE_OF_NOTICE = 120, 0.5
# How often a job that ran out of its time is put into the queue again.
MOST_TIMEOUTS = 100
# As sacct and squeue name the ends of jobs.
_STATES = {
    "PENDING": JobState.WAITING,
    "CONFIGURING": JobState.WAITING,
    "REQUEUED": JobState.WAITING,
    "REQUEUE_HOLD": JobState.WAITING,
    "REQUEUE_FED": JobState.WAITING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMED_OUT,
    "DEADLINE": JobState.TIMED_OUT,
    "PREEMPTED": JobState.PREEMPTED,
    "NODE_FAIL": JobState.NODE_LOST,
    "BOOT_FAIL": JobState.NODE_LOST,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "FAILED": JobState.FAILED,
}


@dataclass(frozen=True)
class SlurmLauncher:
    """Gives workers to Slurm.

    Args:
        config: What each job is given.
        settings: Handed on to the worker, so that it finds the same store.
    """

    config: LaunchConfig
    settings: Settings
    name: str = "slurm"

    def launch(self, run: Run, command: Sequence[str]) -> str:
        """Submit `command` as a job, with those that share its draws where several were asked for.

        Raises:
            UserError: There is no Slurm, its nodes cannot reach what a worker needs, or it refuses the job.
        """
        submitit = _submitit()
        self.config.check_shared(run)
        reach.check(self.settings, run.directory, nodes(self.config.partition) - {_host()})
        folder = run.directory / JOBS_FOLDER
        folder.mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
        log = run.directory / LOG_FILE
        commands = [CommandLine(command, log)]
        commands += [
            CommandLine(process("share", run.directory), folder / f"share-{k}.log")
            for k in range(1, self.config.jobs)
        ]
        with _environment(self.settings.of_workers):
            executor = submitit.SlurmExecutor(folder, max_num_timeout=MOST_TIMEOUTS)
            try:
                executor.update_parameters(**self._parameters(run))
                with executor.batch() if len(commands) > 1 else nullcontext():
                    jobs = [executor.submit(command) for command in commands]
            except (submitit.core.utils.FailedJobError, OSError) as error:
                raise UserError(
                    LABEL,
                    f"refused the job: {_reason(error)}",
                    "Change what is asked for, or ask its keepers.",
                ) from error
        # What was refused is no way to take the run up again.
        self.config.write(run.directory)
        return str(jobs[0].job_id).partition("_")[0]

    def _parameters(self, run: Run) -> dict[str, Any]:
        """Return the parameters of sbatch, as submitit names them."""
        config = self.config
        asked = {
            "cpus_per_task": config.cpus,
            "gpus_per_node": config.gpus or None,
            "mem": f"{config.memory}GB" if config.memory else None,
            "partition": config.partition,
            "account": config.account,
        }
        further = dict(_split(text) for text in config.sbatch)
        return {name: value for name, value in asked.items() if value is not None} | {
            "job_name": f"mrd-{run.kind}-{run.id}",
            "time": config.minutes,
            "nodes": 1,
            "ntasks_per_node": 1,
            "signal_delay_s": min(NOTICE, round(config.minutes * 60 * SHARE_OF_NOTICE)),
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue": True, "chdir": str(run.directory)} | further,
        }


class Slurm:
    """What Slurm says of jobs: squeue while it knows them, sacct where accounting runs."""

    def jobs(self, ids: Collection[str]) -> Mapping[str, Job]:
        """Return the jobs with these ids."""
        answer = _asked("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F|%T|%r|%N")
        if answer is None:
            return {job: Job(LABEL, job, JobState.UNKNOWN, "it does not answer") for job in ids}
        known: dict[str, Job] = {}
        for job, state, reason, node in (line.split("|") for line in answer.splitlines() if line.count("|") == 3):
            said = _job(job, state, node if state == "RUNNING" else reason)
            # Of an array the first task leads, and is alive as long as any is.
            if job not in known or (said.is_alive and not known[job].is_alive):
                known[job] = said
        return {job: known.get(job) or self._forgotten(job) for job in ids}

    def _forgotten(self, job: str) -> Job:
        """Look a job up that the controller no longer holds in its memory."""
        answer = _asked("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job, "--format=State")
        lines = (answer or "").split("\n")
        return _job(job, lines[0], "") if lines[0] else Job(LABEL, job, JobState.GONE)

    def cancel(self, job: str) -> None:
        """Cancel a job with all tasks of its array."""
        _asked("scancel", job)

    def last_words(self, directory: Path) -> str:
        """Return the last line that Slurm itself printed, such as that memory ran out."""
        for log in sorted((directory / JOBS_FOLDER).glob("*_log.out"), reverse=True):
            with suppress(OSError):
                said = [line for line in log.read_text(errors="replace").splitlines() if "error:" in line]
                if said:
                    return said[-1].partition("error:")[2].strip()
        return ""


def nodes(partition: str | None = None) -> set[str]:
    """Return the host names of the nodes of Slurm, or of one of its partitions; empty where it does not say."""
    only = [f"--partition={partition}"] if partition else []
    answer = _asked("sinfo", "--noheader", "--Node", "--format=%n", *only)
    return {name.partition(".")[0] for name in (answer or "").split()}


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _job(job: str, state: str, detail: str) -> Job:
    # `CANCELLED by 1000`, `CANCELLED+`
    word = re.split(r"[ +]", state)[0]
    return Job(LABEL, job, _STATES.get(word, JobState.UNKNOWN), "" if detail in ("None", "(null)") else detail)


def _submitit() -> Any:
    """Import submitit, its signal set to the one that workers stop at.

    Raises:
        UserError: It is not installed, or there is no Slurm.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            f"The launcher {LABEL}",
            "finds no sbatch on this machine.",
            "Use a login node of the cluster, or run here: --launcher local.",
        )
    # It is read when the module is loaded, here and on the node.
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"
    return package(LABEL, "submitit", EXTRA)


def _split(text: str) -> tuple[str, str | bool]:
    """Return an option of sbatch as name and value; True for one without."""
    name, equals, value = text.removeprefix("--").partition("=")
    return name, value if equals else True


def _reason(error: Exception) -> str:
    """Return what sbatch said, without the traceback around it."""
    lines = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
    text = lines[-1].rpartition("error:")[2].strip()
    return text if text.endswith(".") else f"{text}."


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the commands that submit: a job of Slurm gets the environment that it is given from."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _asked(*command: str) -> str | None:
    """Return what a command of Slurm prints; None where it fails or does not answer."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode == 0:
            return done.stdout
    return None
