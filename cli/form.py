"""Commands whose options are the settings of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cli.jobs import make, run_directory
from mrd_core.runs.launchers.config import LAUNCH
from mrd_core.settings.command import Command, Config
from mrd_core.settings.options import Option


class InOrder(click.Group):
    """A group that lists its commands in the order in which they are of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's own signature)
        """Return the names as they were added."""
        return list(self.commands)


def out_option(text: str = "Run directory, new or empty; by default under MRD_HOME.") -> click.Option:
    """Return `--out`, a folder or a file to write."""
    return click.Option(["out_dir", "--out"], type=click.Path(path_type=Path), help=text)


def directories_argument(name: str, text: str) -> click.Argument:
    """Return `DIR...`, one directory or more."""
    kind = click.Path(path_type=Path)
    return click.Argument([name], metavar="DIR...", nargs=-1, required=True, type=kind, help=text)


def json_option(text: str = "End with one line of JSON.", starts_run: bool = False) -> click.Option:
    """Return `--json`, of a command that starts a run with what is printed where a scheduler takes that."""
    job = " Of a run that a scheduler takes: run, directory, launcher, job, state." if starts_run else ""
    return click.Option(["as_json", "--json"], is_flag=True, help=f"{text}{job}")


def command_of(
    form: Command[Config],
    carry_out: Callable[..., None] = make,
    own: Sequence[click.Parameter] = (out_option(), json_option(starts_run=True)),
    text: str | None = None,
    starts_run: bool = True,
) -> click.Command:
    """Return the click command of a configuration.

    Args:
        form: Its options.
        carry_out: Called with the configuration, and with the values of `own` by name; where it starts a run with
            `launch`, too, which says where.
        own: Options that are none of the configuration.
        text: Its help.
        starts_run: Whether it can be told where its run is carried out.
    """

    def callback(**typed: Any) -> None:
        config = form.read(_taken(form, typed), run_directory)
        where = {"launch": LAUNCH.read(_taken(LAUNCH, typed))} if starts_run else {}
        carry_out(config, **where, **typed)

    parameters = [_parameter(option) for option in (*form.options, *(LAUNCH.options if starts_run else ()))]
    return click.Command(form.name[-1], params=[*parameters, *own], callback=callback, help=text)


def launch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a function of click the options that say where a run is carried out, as its argument `launch`."""

    @wraps(command)
    def launched(**typed: Any) -> None:
        launch = LAUNCH.read(_taken(LAUNCH, typed))
        command(launch=launch, **typed)

    launched.__click_params__ = [  # type: ignore[attr-defined]
        *getattr(command, "__click_params__", []),
        *(_parameter(option) for option in reversed(LAUNCH.options)),
    ]
    return launched


def _taken(form: Command[Any], typed: dict[str, Any]) -> dict[str, Any]:
    """Take what was typed for the options of a configuration out of all that was typed."""
    return {option.name: typed.pop(_key(option)) for option in form.options}


def _key(option: Option) -> str:
    return f"setting_{option.name.replace('-', '_')}"


def _parameter(option: Option) -> click.Parameter:
    if option.is_argument:
        return click.Argument([_key(option)], metavar=option.name.upper(), help=option.help)
    return click.Option(
        [_key(option), f"--{option.name}"],
        help=option.help,
        required=option.required,
        # Said of no other option: a value that is missing would be none.
        is_flag=True if option.kind == "flag" else None,
        multiple=option.kind == "several",
        metavar=f"[{'|'.join(option.choices)}]" if option.choices else None,
    )
