"""`mrd-lens experiment NAME`."""

from __future__ import annotations

from cli.form import InOrder, command_of
from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.kinds import experiments

experiment = InOrder(
    "experiment",
    {name: command_of(form, text=experiments()[name].description) for name, form in COMMANDS.items()},
    no_args_is_help=True,
)
