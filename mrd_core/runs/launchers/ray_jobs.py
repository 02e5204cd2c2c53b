"""Workers as jobs of Ray; what shares their draws as its tasks."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mrd_core.errors import UserError
from mrd_core.runs.files import LOG_FILE
from mrd_core.runs.launchers import reach
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.runs.launchers.node import PATIENCE, SAID, Node, probed, seen
from mrd_core.runs.launchers.port import JOB_VARIABLE, Job, JobState, package
from mrd_core.runs.record import Run
from mrd_core.settings.command import ROOT
from mrd_core.settings.installation import Settings

LABEL = "Ray"
EXTRA = ROOT / "requirements-ray.txt"
# Where Ray's dashboard listens unless it is told otherwise: reachable from this machine alone.
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
OF_SLURM = {"partition", "account", "sbatch", "minutes"}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_STATES = {
    "PENDING": JobState.WAITING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.COMPLETED,
    "STOPPED": JobState.CANCELLED,
    "FAILED": JobState.FAILED,
}


@dataclass(frozen=True)
class RayLauncher:
    """Gives workers to a running cluster of Ray.

    Args:
        config: What each job is given.
        settings: Handed on to the worker, so that it finds the same store.
    """

    config: LaunchConfig
    settings: Settings
    name: str = "ray"

    def launch(self, run: Run, command: Sequence[str]) -> str:
        """Submit `command` as a job, and have its draws shared by tasks where several jobs were asked for.

        Raises:
            UserError: There is no Ray, its nodes cannot reach what a worker needs, or it refuses the job.
        """
        if unusable := [name for name in self.config.of_job if name in OF_SLURM]:
            options = ", ".join(f"--{name}" for name in unusable)
            raise UserError(options, "is for Slurm: a job of Ray has no such thing.", "Leave it out.")
        self.config.check_shared(run)
        client = _client()
        host = urlsplit(_address()).hostname or ""
        reach.check(self.settings, run.directory, set() if host in LOOPBACK else {host})
        job = f"mrd-{run.id}-{run.attempt}"
        if self.config.jobs > 1:
            tasks = (self.config.jobs - 1, self.config.cpus or 1, self.config.gpus)
            leader = (sys.executable, "-m", f"{__package__}.ray_tasks", str(run.directory))
            command = [*leader, *map(str, tasks), *command]
        log = shlex.quote(str(run.directory / LOG_FILE))
        try:
            client.submit_job(
                entrypoint=f"cd {shlex.quote(str(ROOT))} && exec {shlex.join(command)} >>{log} 2>&1",
                submission_id=job,
                runtime_env={"env_vars": self.settings.of_workers | {JOB_VARIABLE: f"ray {job}"}},
                # Without a core of its own a job is carried out on the head node, however many there are.
                entrypoint_num_cpus=self.config.cpus or 1,
                entrypoint_num_gpus=self.config.gpus,
                entrypoint_memory=(self.config.memory or 0) * 10**9,
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                LABEL, f"refused the job: {str(error).strip()}", "Change what is asked for."
            ) from error
        # What was refused is no way to take the run up again.
        self.config.write(run.directory)
        return job


class RayJobs:
    """What a cluster of Ray says of jobs."""

    def jobs(self, ids: Collection[str]) -> Mapping[str, Job]:
        """Return the jobs with these ids."""
        try:
            known = {job.submission_id: job for job in _client().list_jobs()}
        except (UserError, RuntimeError, OSError):
            return {job: Job(LABEL, job, JobState.UNKNOWN, "it does not answer") for job in ids}
        return {job: _job(job, known[job]) if job in known else Job(LABEL, job, JobState.GONE) for job in ids}

    def cancel(self, job: str) -> None:
        """Stop a job; it is told by a signal, and makes room."""
        with suppress(UserError, RuntimeError, OSError):
            _client().stop_job(job)

    def last_words(self, directory: Path) -> str:  # noqa: ARG002  (they come with the job)
        """Return "": what Ray has to say of a job comes with it."""
        return ""


def look_around(settings: Settings) -> list[Node]:
    """Have each node of the cluster look around.

    Raises:
        UserError: There is no cluster.
    """
    client = _client()
    with probed(settings.home) as folder:
        asking = shlex.join([sys.executable, "-m", f"{__package__}.ray_nodes", str(folder)])
        job = client.submit_job(
            entrypoint=f"cd {shlex.quote(str(ROOT))} && {asking}",
            runtime_env={"env_vars": settings.of_workers},
            entrypoint_num_cpus=0,
        )
        deadline = time.monotonic() + 4 * PATIENCE
        while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
            time.sleep(0.5)
        answers = sorted(folder.glob(f"{SAID}-*"))
        nodes = [seen(path.name[len(SAID) + 1 :], path.read_text(), folder, "it said nothing") for path in answers]
    if not nodes:
        raise UserError(LABEL, f"has no node that sees {settings.home}.", "Put MRD_HOME where all nodes see it.")
    return nodes


def _job(job: str, said: Any) -> Job:
    state = _STATES.get(str(said.status), JobState.UNKNOWN)
    # What follows are the worker's own words, which are in its log.
    words = str(said.message or "").partition(", last available logs")[0].partition("\n")[0]
    return Job(LABEL, job, state, "" if state is JobState.RUNNING else words.rstrip("."))


def _address() -> str:
    address = os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS
    return address if "://" in address else f"http://{address}"


def _client() -> Any:
    """Return the client of the cluster.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    submission = package(LABEL, "ray.job_submission", EXTRA)
    try:
        return submission.JobSubmissionClient(_address())
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"The launcher {LABEL}",
            f"finds no cluster at {_address()}.",
            "Name it in RAY_ADDRESS, or start one for this machine alone: `ray start --head "
            "--node-ip-address=127.0.0.1 --dashboard-host=127.0.0.1`. Ray asks for no password: whoever reaches "
            "its ports can run anything.",
        ) from error
