"""Where the program is started, whose home it has, and names that no file can have: no traceback."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.runs import RunStore
from mrd_core.settings.installation import Settings
from mrd_core.settings.places import expanded, working_directory
from tests.support.commands import Outcome
from tests.support.runs import submitted

LONG = "a" * 300
NOBODY = "~nobody-of-this-name/x"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory that was removed."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("command", ["--help", "runs list", "doctor", "app", "demo", "runs adopt /"])
def test_in_a_directory_that_was_removed_every_command_says_so(cli: Callable[..., Outcome], command: str) -> None:
    outcome = cli(*command.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "Error The working directory was removed.\nGo to another one, such as with `cd ~`.\n"


@pytest.mark.usefixtures("nowhere")
def test_a_command_whose_directory_is_removed_meanwhile_comes_to_its_end(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MRD_ALLOWED_ROOTS", raising=False)
    assert working_directory() is None
    settings = Settings.from_environment()
    assert settings.allowed_roots == (home,)
    store = RunStore.open(settings)
    run = submitted(store, settings)
    store.request_cancel(run.id)
    store.delete(run.id)
    assert store.list() == []


@pytest.mark.parametrize("name", [NOBODY, LONG, f"{LONG}/x/y"], ids=["home", "name", "folder"])
@pytest.mark.parametrize(
    "command",
    [
        ("runs", "adopt"),
        ("run",),
        ("characteristics",),
        ("evidence",),
        ("compare",),
        ("score", "--model", "demo", "--forget-set"),
        ("score", "--forget-set", "demo", "--model"),
        ("evaluate", "--forget-set", "demo", "--model"),
        ("unlearn", "--method", "ga", "--retain-set", "none", "--scores"),
        ("curriculum", "--run"),
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_is_named(cli: Callable[..., Outcome], command: tuple[str, ...], name: str) -> None:
    outcome = cli(*command, name)
    assert outcome.code == 2
    assert name[:40] in outcome.said
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("setting", "name"), [("MRD_HOME", NOBODY), ("MRD_HOME", f"/{LONG}"), ("MRD_ALLOWED_ROOTS", NOBODY)]
)
def test_so_is_one_that_the_environment_names(
    cli: Callable[..., Outcome], setting: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, name)
    outcome = cli("runs", "list")
    assert (outcome.code, name[:40] in outcome.said) == (2, True)


def test_a_user_without_a_home_is_told_what_to_set(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_user: object) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    assert cli("runs", "list").code == 0
    monkeypatch.delenv("MRD_HOME")
    outcome = cli("runs", "list")
    assert (outcome.code, "set HOME and MRD_HOME" in outcome.said) == (2, True)


def test_a_name_that_begins_like_a_home_is_a_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~draft").touch()
    assert [expanded("~draft"), expanded("./~gone")] == [Path("~draft"), Path("~gone")]
    assert expanded("~/x") == Path(os.path.expanduser("~/x"))  # noqa: PTH111
    with pytest.raises(UserError, match="does not know"):
        expanded("~gone")
