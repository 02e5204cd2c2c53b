"""`mrd-lens columns …`: measures from elsewhere as rivals of MRD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.progress import Progress

from cli.form import InOrder, json_option
from cli.jobs import run_directory
from cli.terminal import err, grid, note, out, print_json, say, warn
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.samples import Table, read_split
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import (
    ImportConfig,
    ImportedColumn,
    import_column,
    imported,
    read_file,
    remove_column,
)
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES
from mrd_core.settings.command import shown
from mrd_core.settings.fields import declared
from mrd_core.settings.places import expanded

_RUN = click.Argument(["run"], metavar="RUN", help="Score run: its directory, or its id.")


def _scored(run: str) -> ScoreFiles:
    directory = run_directory(run)
    read_config(directory, ScoreConfig)
    return ScoreFiles.finished(directory)


def _about(name: str, column: ImportedColumn) -> dict[str, Any]:
    told = column.model_dump(mode="json", include={"title", "harder", "source", "column", "notes"})
    return {"name": name, **told, "samples": len(column.values), "values": column.count}


def _add(run: str, file: Path, as_json: bool, **settings: Any) -> None:
    """Read a file, store its column and say how its rows were matched."""
    files = _scored(run)
    table = read_file(expanded(str(file)))
    column = import_column(table, ImportConfig.model_validate(settings), files)
    for text in (*table.notes, *column.notes):
        note(text)
    note(f"{column.count} of {len(column.values)} samples have a value: {files.imported_column(column.name)}")
    note(f"`{shown('evidence')} DIR` of an experiment on this run ranks it as “{column.measure.title}”.")
    if as_json:
        print_json(_about(column.name, column))


def _entangle(run: str, retain_set: str, retain_samples: int, measure: str, as_json: bool) -> None:
    """Measure how the samples of a run are entangled with a retain set, and store it as a column."""
    # Loads torch, which no other command here needs.
    from mrd_core.unlearning.entangling import entangled

    files = _scored(run)
    name = measure.replace("_", " ")
    if files.imported_column(name.replace(" ", "-")).exists():
        raise UserError(
            f"The column {name!r}",
            "is there already.",
            f"Remove it first: {shown('columns', 'remove', run, name.replace(' ', '-'))}",
        )
    retain = read_split(ForgetSetConfig(source=retain_set), "retain")
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("Products of gradients", total=None)
        table = entangled(
            files, retain, retain_samples, note, lambda done, total: bar.update(task, completed=done, total=total)
        )
    values = table[["sample_id", measure]].astype(object)
    source = Table(f"gradients and {retain_set}", values.where(values.notna(), None))
    column = import_column(source, ImportConfig(column=measure, title=name), files)
    note(f"{column.count} of {len(column.values)} samples have a value: {files.imported_column(column.name)}")
    note(f"Least first: {shown('unlearn')} --sampler entanglement --column {column.name}")
    if as_json:
        print_json(_about(column.name, column))


def _list(run: str, as_json: bool) -> None:
    """Print the imported columns of a run."""
    columns, broken = imported(_scored(run))
    rows = [_about(name, column) for name, column in columns.items()]
    if as_json:
        print_json(rows)
    elif rows:
        table = pd.DataFrame(rows)
        table["values"] = [f"{row['values']} of {row['samples']}" for row in rows]
        out.print(grid("Imported columns", table[["name", "title", "harder", "values", "column", "source"]]))
    else:
        say("No column is imported.")
    warn(f"{name}.json cannot be read. Remove it: {shown('columns', 'remove', run, name)}" for name in broken)


def _remove(run: str, name: str) -> None:
    """Remove an imported column."""
    remove_column(_scored(run), name)
    say(f"{name} is removed.")


def _option(field: str) -> click.Option:
    setting = declared(ImportConfig, field)
    if setting.default is False:
        return click.Option([f"--{field.replace('_', '-')}"], is_flag=True, help=setting.help)
    kind = click.Choice(setting.choices) if setting.choices else None
    return click.Option(
        [f"--{field.replace('_', '-')}"], type=kind, default=setting.default, help=setting.help, show_default=True
    )


_FILE = click.Argument(
    ["file"], type=click.Path(path_type=Path), help="CSV, JSON, JSON Lines, Parquet, Arrow or safetensors."
)
columns = InOrder(
    no_args_is_help=True,
    commands=[
        click.Command(
            "add",
            callback=_add,
            params=[_RUN, _FILE, *map(_option, ImportConfig.model_fields), json_option()],
            help="Import a column of a file: a number for each sample, as a rival of MRD in the league table.",
        ),
        click.Command(
            "entanglement",
            callback=_entangle,
            params=[
                _RUN,
                click.Option(["--retain-set"], required=True, help="File, folder or hub data set, or `demo`."),
                click.Option(
                    ["--retain-samples"],
                    type=click.IntRange(1),
                    default=40,
                    show_default=True,
                    help="Retain samples, evenly spaced.",
                ),
                click.Option(
                    ["--measure"],
                    type=click.Choice(list(ENTANGLEMENT_MEASURES)),
                    default="entanglement",
                    show_default=True,
                    help="Which is stored.",
                ),
                json_option(),
            ],
            help="Foretell by gradients what a retain set loses by each sample, and store it as a column.",
        ),
        click.Command(
            "list",
            callback=_list,
            params=[_RUN, json_option("Print one line of JSON instead of a table.")],
            help="List the imported columns of a run.",
        ),
        click.Command(
            "remove",
            callback=_remove,
            params=[_RUN, click.Argument(["name"], help="As `list` has it.")],
            help="Remove an imported column.",
        ),
    ],
)
