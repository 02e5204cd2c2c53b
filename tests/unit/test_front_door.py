"""The front door as a whole: help without loading a model, every command's help, what a wheel holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from streamlit.config import get_config_options

from cli.app import SETTINGS
from cli.door import COMMANDS, door
from mrd_core.settings.command import process
from mrd_core.settings.fields import Extra, extra_of, nested_in
from tests.conftest import REPOSITORY
from tests.support.commands import ended, started

HEAVY = {"torch", "transformers", "pandas", "pyarrow", "sqlalchemy", "streamlit", "scipy", "spacy"}


def commands(group: click.Group, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of every command in a group and in the groups within it."""
    context, words = click.Context(group), []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        words.append((*above, name))
        if isinstance(command, click.Group):
            words += commands(command, (*above, name))
    return words


def test_every_command_has_a_help_text_and_helps_with_every_option() -> None:
    for words in commands(door):
        outcome = CliRunner().invoke(door, [*words, "--help"], terminal_width=200)
        assert outcome.exit_code == 0, (words, outcome.output)
        assert outcome.output.startswith("Usage: ")
        command: click.Command = door
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)  # type: ignore[assignment]
        assert command.help
        assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option)), words


def test_help_loads_none_of_the_large_libraries() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from cli.door import door;"
        "outcome = CliRunner().invoke(door, ['--help']);"
        "print(outcome.exit_code, *sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout
    code, *loaded = printed.split()
    assert code == "0"
    assert HEAVY & set(loaded) == set()


def test_an_unknown_command_is_refused() -> None:
    outcome = CliRunner().invoke(door, ["measure"])
    assert outcome.exit_code == 2
    assert "measure" in outcome.output


def test_jobs_are_started_whatever_the_working_directory_holds(tmp_path: Path) -> None:
    for name in ("cli", "mrd_core", "click"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not this one')")
    outcome = subprocess.run(process("--help"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert all(name in outcome.stdout for name in COMMANDS)


def test_the_module_is_the_same_door() -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "cli", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert outcome.stdout == ended(started("--help")).out


def test_fields_say_nothing_that_nobody_reads() -> None:
    from mrd_core.runs.kind import kinds

    pending = [kind.config for kind in kinds().values()]
    while pending:
        config = pending.pop()
        for name, info in config.model_fields.items():
            assert set(extra_of(info)) <= set(Extra.__annotations__), (config, name)
            if nested := nested_in(info):
                pending.append(nested)


def test_the_app_has_one_file_of_settings() -> None:
    assert (REPOSITORY / ".streamlit" / "config.toml").resolve() == SETTINGS


SERVED = [
    (f"{section}.{name}", value)
    for section in ("server", "browser", "client")
    for name, value in tomllib.loads(SETTINGS.read_text(encoding="utf-8"))[section].items()
]


@pytest.mark.parametrize(("option", "value"), SERVED, ids=[option for option, _ in SERVED])
def test_a_setting_of_the_server_is_handed_on_unless_its_variable_is_set(
    option: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    # Streamlit's own name of it.
    variable = get_config_options()[option].env_var
    monkeypatch.delenv(variable, raising=False)
    CliRunner().invoke(door, ["app", "--", "--server.port=9"])
    monkeypatch.setenv(variable, "other")
    CliRunner().invoke(door, ["app"])
    with_setting, with_variable = ([word for word in each if word.startswith(f"--{option}=")] for each in started)
    assert len(with_setting) == (len(value) if isinstance(value, list) else 1)
    assert with_variable == []
    assert started[0][-1] == "--server.port=9"


@pytest.mark.slow
def test_a_wheel_holds_all_that_the_program_reads(tmp_path: Path) -> None:
    source, rooms = tmp_path / "source", ("analysis", "cli", "mrd_core", "pages")
    for room in rooms:
        shutil.copytree(REPOSITORY / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    wanted = {
        str(path.relative_to(source)) for room in rooms for path in (source / room).rglob("*") if path.is_file()
    }
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    built = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    rooms = ("analysis/", "cli/", "mrd_core/", "pages/", "app.py")
    assert (wanted | {"app.py"}) - held == set()
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/")) for name in held)
