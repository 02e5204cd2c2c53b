"""`mrd-lens unlearn` and `mrd-lens curriculum`."""

from __future__ import annotations

from pathlib import Path

import click
import pydantic

from cli.exports import write_text
from cli.form import command_of
from cli.jobs import run_directory
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.runs.printing import visible_json
from mrd_core.settings.command import shown
from mrd_core.settings.fields import help_of
from mrd_core.settings.options import options_of, refusal
from mrd_core.unlearning.command import UNLEARN
from mrd_core.unlearning.config import CurriculumConfig, UnlearnConfig
from mrd_core.unlearning.curriculum_export import json_lines, planned, realised
from mrd_core.unlearning.files import UnlearningFiles

unlearn = command_of(UNLEARN)


@click.command()
@click.option("--run", help="Unlearning run, its directory or its id: what it drew.")
@click.option("--scores", help="Score run, its directory or its id: one epoch as it would be drawn.")
@click.option("--sampler", default="mrd", help=f"{help_of(CurriculumConfig, 'sampler')} With --scores.")
@click.option("--column", help=f"{help_of(CurriculumConfig, 'column')} With --scores.")
@click.option("--seed", default=0, help="Seed of the draws. With --scores.")
@click.option("out_file", "--out", type=click.Path(path_type=Path), help="File to write; by default stdout.")
def curriculum(
    run: str | None, scores: str | None, sampler: str, column: str | None, seed: int, out_file: Path | None
) -> None:
    """Write the order of the forget samples as JSON Lines."""
    if run is not None and scores is None:
        directory = run_directory(run)
        read_config(directory, UnlearnConfig)
        text = json_lines(realised(UnlearningFiles(directory)))
    elif scores is not None and run is None:
        try:
            config = CurriculumConfig(sampler=sampler, **({} if column is None else {"column": column}))
            text = json_lines(planned(run_directory(scores), config, seed))
        except pydantic.ValidationError as error:
            fix = f"See `{shown('curriculum')} --help`."
            raise refusal(error, fix, (*options_of(CurriculumConfig), *UNLEARN.options)) from error
    else:
        raise UserError("The curriculum", "is that of one run.", "Name it with either --run or --scores.")
    write_text(text, out_file, visible_json)
