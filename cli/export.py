"""`mrd-lens export`: results in the forms that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.export.inspect_log import inspect_logs
from cli.exports import write_files
from cli.form import InOrder
from cli.jobs import run_directory
from cli.terminal import require_folder


@click.command()
@click.argument("evaluations", nargs=-1, required=True, metavar="EVALUATION...", help="Directories or ids.")
@click.option("out_dir", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the logs.")
@click.option("--without-texts", is_flag=True, help="Leave prompts and answers out; ids and figures stay.")
def inspect(evaluations: tuple[str, ...], out_dir: Path, without_texts: bool) -> None:
    """Write evaluations as logs of Inspect, which `inspect view` and inspect_ai.log.read_eval_log open."""
    logs = inspect_logs(map(run_directory, evaluations), texts=not without_texts)
    require_folder(out_dir)
    write_files(out_dir, logs)


export = InOrder(no_args_is_help=True, commands=[inspect])
