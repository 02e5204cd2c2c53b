"""What a worker is given where a scheduler starts it."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from mrd_core.errors import UserError
from mrd_core.runs.files import LAUNCH_FILE, write_json
from mrd_core.runs.kind import kind_named
from mrd_core.runs.record import Run
from mrd_core.settings.command import Command
from mrd_core.settings.configuration import Frozen

LauncherName = Literal["local", "slurm", "ray"]
# Of a scheduler's job alone.
_OF_JOBS = ("gpus", "cpus", "memory", "minutes", "partition", "account", "jobs", "sbatch")


class LaunchConfig(Frozen):
    """Where the worker of a run starts, and what it is given there: `launch.json` of a run directory."""

    launcher: LauncherName | None = Field(
        None, description="Where the run is carried out; without it where MRD_LAUNCHER says, else here."
    )
    gpus: int = Field(0, ge=0, description="GPUs of each job.")
    cpus: int | None = Field(None, ge=1, description="Cores of each job; by default what the scheduler gives.")
    memory: int | None = Field(
        None,
        ge=1,
        description="Memory of each job; by default what the scheduler gives.",
        json_schema_extra={"unit": "GB"},
    )
    minutes: int = Field(
        1440,
        ge=1,
        description="Most time of a job. Before its end the run is stopped at a checkpoint and waits again.",
        json_schema_extra={"unit": "min"},
    )
    partition: str | None = Field(None, description="Partition of Slurm.")
    account: str | None = Field(None, description="Account of Slurm.")
    jobs: int = Field(1, ge=1, le=1000, description="Jobs that share the draws of a score run.")
    sbatch: tuple[str, ...] = Field((), description="Further options of sbatch, such as constraint=h100.")

    @model_validator(mode="after")
    def _belong_to_a_job(self) -> LaunchConfig:
        if self.launcher == "local" and self.of_job:
            raise ValueError(f"{', '.join(self.of_job)}: only a scheduler's job has that (slurm, ray)")
        return self

    @property
    def of_job(self) -> list[str]:
        """Names of the settings that were made for a job of a scheduler."""
        return [name for name in _OF_JOBS if getattr(self, name) != LaunchConfig.model_fields[name].default]

    def check_shared(self, run: Run) -> None:
        """Refuse several jobs for a run whose work cannot be shared out.

        Raises:
            UserError: Says so.
        """
        kind = kind_named(run.kind)
        if self.jobs > 1 and not kind.is_shared:
            why = f"is not for a run of the kind {kind.name}, which one job carries out."
            raise UserError(f"--jobs {self.jobs}", why, "Leave it out.")

    def write(self, directory: Path) -> None:
        """Keep it with the run, which is resumed in the same way."""
        write_json(directory / LAUNCH_FILE, self.model_dump(mode="json", exclude_defaults=True))


def read_launch(directory: Path) -> LaunchConfig | None:
    """Return how a run was launched; None where no scheduler was asked.

    Raises:
        UserError: The file is no good.
    """
    path = directory / LAUNCH_FILE
    if not path.exists():
        return None
    try:
        # Editors of Windows mark UTF-8.
        return LaunchConfig.model_validate_json(path.read_bytes().removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise UserError(
            str(path), f"{error.errors()[0]['msg']}.", "Remove it, and resume the run here."
        ) from error


# The options of every command that starts a run.
LAUNCH = Command((), LaunchConfig)
