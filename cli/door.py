"""The commands by name, and how the program ends."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from mrd_core.errors import UserError
from mrd_core.settings.command import PROGRAM

EXIT_USER_ERROR = 2

# Where each command lies, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "app": ("cli.app:app", "Open the app in the browser."),
    "demo": ("cli.score:demo", "Score the demo's forget set on the demo's model, without a network."),
    "score": ("cli.score:score", "Score how hard each sample of a forget set is to unlearn from a model."),
    "characteristics": (
        "cli.characteristics:characteristics",
        "Read the texts of a scored forget set, hold the paper's claims against it, write everything to files.",
    ),
    "tokens": (
        "cli.score:tokens",
        "Take one sample of a score run apart token by token, exactly: a backward pass a token.",
    ),
    "unlearn": (
        "cli.unlearn:unlearn",
        "Unlearn the forget set of a score run, with or without a curriculum, and keep the resulting model.",
    ),
    "evaluate": (
        "cli.evaluate:evaluate",
        "Evaluate a model: what it still knows of the forget set, and what it has kept.",
    ),
    "compare": (
        "cli.compare:compare",
        "Compare evaluations: what was forgotten, what was kept, at what price, and is the difference noise?",
    ),
    "export": (
        "cli.export:export",
        "Hand results to others: evaluations as logs of Inspect, unlearned models' cards for Hugging Face.",
    ),
    "experiment": (
        "cli.experiment:experiment",
        "Hold difficulty against what unlearning really takes, on this model and these samples.",
    ),
    "evidence": (
        "cli.evidence:evidence",
        "Judge experiments: does difficulty predict unlearning, with which interval, and what speaks against it?",
    ),
    "study": (
        "cli.study:study",
        "Carry out, show and list studies: files that say which runs there are to be, such as the paper's tables.",
    ),
    "audit": (
        "cli.audit:audit",
        "Is a forget set easier than random ones of its pool, and which samples are a risk after unlearning?",
    ),
    "balance": (
        "cli.balance:balance",
        "Draw forget sets that are as hard as their pool, or easy, middle and hard, all else alike, as files.",
    ),
    "report": (
        "cli.report:report",
        "Write one report on a score run and all that rests on it: a page to print, Markdown and JSON.",
    ),
    "verify": ("cli.report:verify", "Make every figure of a report anew from its runs, and say which differ."),
    "columns": (
        "cli.columns:columns",
        "Import, list and remove measures from elsewhere, which the evidence then holds against MRD as rivals.",
    ),
    "curriculum": (
        "cli.unlearn:curriculum",
        "Write the order of the forget samples as JSON Lines: as a run drew it, or as one epoch would be drawn.",
    ),
    "runs": ("cli.runs:runs", "List, show, cancel, resume, rename, tag, note, delete and adopt runs."),
    "run": ("cli.runs:run", "Carry out the run that a directory's config.json describes."),
    "share": (
        "cli.share:share",
        "Draw units of a score run that is under way, from any machine that sees its directory.",
    ),
    "doctor": (
        "cli.doctor:doctor",
        "Print versions, device, precision, threads, store and text pipeline, each with the reason of the choice.",
    ),
}


class Door(click.Group):
    """A group whose commands are loaded when one is called, so that `--help` loads none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's own signature)
        """Return the names in the order in which they are of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command and give it its help text; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        place, text = COMMANDS[cmd_name]
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        command.help = text
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List them by what the table says."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    PROGRAM,
    cls=Door,
    context_settings={"help_option_names": ["--help"]},
    no_args_is_help=True,
    help="Which samples of a forget set will a language model not forget easily, and how sure can we be?",
)
def door() -> None:
    """Do nothing before the command."""


def main() -> None:
    """Run the command line; errors that the user can mend are printed without a traceback."""
    # What runs write holds texts that are nobody else's business, exports and temporary files included.
    os.umask(0o077)
    try:
        # Where it is gone, torch ends the process, and says that it lacks a library.
        Path.cwd()
        door(prog_name=PROGRAM)
    except UserError as error:
        from cli.terminal import failed

        failed(error)
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:
        # `… | head` closed the pipe; Python would complain once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        from cli.terminal import failed
        from mrd_core.runs.failure import readable

        explained = readable(error)
        if explained is None:
            raise
        failed(explained)
        sys.exit(EXIT_USER_ERROR)
