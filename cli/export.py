"""`mrd-lens export`: results in the forms that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.export.inspect_log import inspect_logs
from cli.exports import write_files, write_text
from cli.form import InOrder
from cli.jobs import run_directory, store
from cli.terminal import note, require_folder
from mrd_core.unlearning.card import card_of
from mrd_core.unlearning.card_findings import evaluations_of


@click.command()
@click.argument("evaluations", nargs=-1, required=True, metavar="EVALUATION...", help="Directories or ids.")
@click.option("out_dir", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the logs.")
@click.option("--without-texts", is_flag=True, help="Leave prompts and answers out; ids and figures stay.")
def inspect(evaluations: tuple[str, ...], out_dir: Path, without_texts: bool) -> None:
    """Write evaluations as logs of Inspect, which `inspect view` and inspect_ai.log.read_eval_log open."""
    logs = inspect_logs(map(run_directory, evaluations), texts=not without_texts)
    require_folder(out_dir)
    write_files(out_dir, logs)


@click.command()
@click.argument("run", help="Unlearning run, its directory or its id.")
@click.option(
    "evaluations",
    "--evaluation",
    multiple=True,
    help="Evaluation of its model; by default all that the store knows.",
)
@click.option("--section", is_flag=True, help="The section on unlearning alone, for a card that is there already.")
@click.option("out_file", "--out", type=click.Path(path_type=Path), help="File to write; by default stdout.")
def card(run: str, evaluations: tuple[str, ...], section: bool, out_file: Path | None) -> None:
    """Write the model card of an unlearned model: how hard it was, what was lost, what evaluations found since."""
    directory = run_directory(run)
    measured = list(map(run_directory, evaluations)) or evaluations_of(store(), directory)
    write_text(card_of(directory, measured, whole=not section), out_file)
    note(f"Evaluations in it: {', '.join(path.name for path in measured) or 'none'}")


export = InOrder(no_args_is_help=True, commands=[inspect, card])
