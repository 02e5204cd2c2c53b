"""`mrd-lens evidence`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from analysis.elsewhere import MODELS
from analysis.evidence.kinds import evidence_of
from analysis.evidence.measurements import read_measurements
from analysis.export.evidence import evidence_json, write_tables
from cli.form import directories_argument, json_option, out_option
from cli.terminal import grid, note, out, print_json, require_folder, say
from mrd_core.errors import UserError
from mrd_core.experiments.kinds import experiments


@click.command(
    no_args_is_help=True,
    params=[
        directories_argument("directories", "Directories of experiments, running or done."),
        out_option("Folder for every table as CSV, named after its directory."),
        json_option("Print one JSON object a directory, a line each, instead of tables."),
    ],
)
def evidence(directories: tuple[Path, ...], out_dir: Path | None, as_json: bool) -> None:
    """Judge experiments."""
    if out_dir:
        require_folder(out_dir)
        name, count = Counter(directory.resolve().name for directory in directories).most_common(1)[0]
        if count > 1:
            raise UserError(
                f"The name {name}",
                "is that of two directories, and tables are named after it.",
                "Judge one at a time.",
            )
    for directory in directories:
        measurements = read_measurements(directory)
        judgement = evidence_of(measurements)
        if as_json:
            print_json(evidence_json(measurements, judgement))
        else:
            figure = experiments()[measurements.config.kind].figure
            say(f"{measurements.config.title}{figure and f' ({figure})'}", style="bold")
            say(judgement.verdict)
            for finding in judgement.findings:
                say(f"- {finding}")
            for title, frame in judgement.brief.items():
                out.print(grid(title, frame))
            say(f"Paper: {judgement.paper}")
            say(f"Elsewhere: {judgement.elsewhere} {MODELS}")
            for caveat in judgement.caveats:
                say(f"Mind: {caveat}")
        if out_dir:
            written = write_tables(out_dir, directory.resolve().name, judgement)
            note(f"Written to {out_dir}: {', '.join(written)}")
