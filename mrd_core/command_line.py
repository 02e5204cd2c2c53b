"""How a command line of the project ends: exit codes, and errors that a user can read."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from mrd_core.errors import UserError

EXIT_FAILED, EXIT_USER_ERROR, EXIT_CANCELLED = 1, 2, 130


def run_app(app: typer.Typer, err: Console) -> None:
    """Run `app`; errors that the user can mend are printed to `err` without a traceback."""
    try:
        app()
    except UserError as error:
        err.print(f"[bold red]Error[/] {escape(error.cause)}\n{escape(error.fix)}", highlight=False)
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:
        # `… | head` closed the pipe; Python would complain once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
