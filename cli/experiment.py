"""`mrd-lens experiment NAME`."""

from __future__ import annotations

from cli.form import RUN_FOLDER, InOrder, command_of, json_option, out_option
from cli.jobs import make
from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.kinds import experiments

experiment = InOrder(
    "experiment",
    {
        name: command_of(
            form,
            make,
            [out_option(RUN_FOLDER), json_option("End with one line of JSON.")],
            f"{form.config.__doc__} ({experiments()[name].figure} of the paper.)",
        )
        for name, form in COMMANDS.items()
    },
    no_args_is_help=True,
)
