"""Command lines by their front door: as processes of their own, and how they ended."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cli.door import door
from mrd_core.settings.command import PROGRAM, Command, anywhere, process
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


def taken_apart(command: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables that a command sets, and its words after the program, which must be this checkout's."""
    environment, words = {}, shlex.split(command)
    while words[0].partition("=")[0].isidentifier() and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    programs = ([PROGRAM], shlex.split(anywhere(PROGRAM, {})))
    (program,) = (each for each in programs if words[: len(each)] == each)
    return environment, words[len(program) :]


def carried_out(command: str, folder: Path) -> Result:
    """Carry out a command as a fresh shell would, in a folder: nothing is set but what the command itself sets."""
    environment, words = taken_apart(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in [name for name in os.environ if name.startswith("MRD_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        return CliRunner().invoke(door, words)


def read_back(command: str) -> Any:
    """Return the configuration that the front door reads from a command that was shown; nothing is carried out."""
    configs: list[RunConfig] = []
    read = Command.read

    def note(self: Command[RunConfig], typed: Any, find_run: Any) -> None:
        configs.append(read(self, typed, find_run))
        raise click.exceptions.Exit

    _, words = taken_apart(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Command, "read", note)
        result = CliRunner().invoke(door, words)
    assert result.exit_code == 0, result.output or result.exception
    (config,) = configs
    return config
