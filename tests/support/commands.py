"""Command lines by their front door: as processes of their own, and how they ended."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.door import door
from mrd_core.settings.command import Command, process
from mrd_core.settings.configuration import RunConfig
from tests.conftest import REPOSITORY

PATIENCE = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said with its lines joined."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return " ".join(f"{self.out} {self.err}".split())


def started(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start `mrd-lens …` as a process of its own, with one thread."""
    return subprocess.Popen(
        process(*arguments),
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process to end."""
    out, err = process.communicate(timeout=PATIENCE)
    return Outcome(process.returncode, out, err)


def read_back(command: str) -> Any:
    """Return the configuration that the front door reads from a command that was shown; nothing is carried out."""
    configs: list[RunConfig] = []
    read = Command.read

    def note(self: Command[RunConfig], typed: Any, find_run: Any) -> None:
        configs.append(read(self, typed, find_run))
        raise click.exceptions.Exit

    program, *words = shlex.split(command)
    assert program == "mrd-lens"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Command, "read", note)
        result = CliRunner().invoke(door, words)
    assert result.exit_code == 0, result.output or result.exception
    (config,) = configs
    return config
