"""`mrd-lens report` and `mrd-lens verify`: one report on a score run, and whether it is true."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import pandas as pd

from analysis.audit.config import GROUP, AuditConfig
from analysis.export.files import new_folder, write_exports
from analysis.report.audit import audited_set
from analysis.report.content import Leaf
from analysis.report.files import FIGURES, contents, figures, read
from analysis.report.making import default_options, report_of
from analysis.report.provenance import maker
from analysis.report.runs import candidates, members
from analysis.report.verification import verified
from cli.audit import home, scored_pool
from cli.form import json_option, out_option
from cli.jobs import EXIT_FAILED, run_directory, store
from cli.terminal import grid, note, out, print_json, say

# Of differences that are printed; `--json` has all.
PRINTED = 40


def _runs(text: str) -> click.Argument:
    return click.Argument(["names"], metavar="RUN...", nargs=-1, required=True, help=text)


@click.command(
    no_args_is_help=True,
    params=[
        _runs(
            "Score run, its directory or its id, with all that was done with its scores; an unlearning run, an "
            "evaluation or an experiment instead: with that alone."
        ),
        out_option("New or empty folder for its files; by default `report-` and the name of the run."),
        click.Option(["--by"], default=maker, help="Who makes it, as the report says; by default the account."),
        click.Option(
            ["--without-texts"], is_flag=True, help="Leave prompts and answers out; ids and figures stay."
        ),
        click.Option(
            ["forget_set", "--audit"],
            help="Also hold this set against random ones of the score run, as `audit set` does: a file of its "
            "samples, a text file with an id a line, or a saved selection.",
        ),
        click.Option(["--group"], help=f"With --audit. {GROUP}"),
    ],
)
def report(
    names: tuple[str, ...],
    out_dir: Path | None,
    by: str,
    without_texts: bool,
    forget_set: str | None,
    group: str | None,
) -> None:
    """Write the report."""
    rested = members([run_directory(name) for name in names], store())
    audited = None
    if forget_set is not None:
        scored_pool(rested.score)
        config = AuditConfig(pool=rested.score, forget_set=forget_set, group=group)
        audited = audited_set(config, home(), run_directory)
    options = default_options(rested, without_texts=without_texts, audit=audited)
    written = contents(report_ := report_of(rested, options, by))
    folder = out_dir or Path(f"report-{rested.runs[0].name}")
    with new_folder(folder) as staging:
        for place, files in ((staging, written), (staging / FIGURES, figures(report_))):
            write_exports(place, {name: partial(bytes, content) for name, content in files.items()})
    for name, answer in report_.answers.items():
        say(f"{name}: {answer.state}. {answer.sentence}")
    say(report_.conclusion)
    note(f"Written to {folder}: {', '.join(written)}, {FIGURES}/")


@click.command(
    no_args_is_help=True,
    params=[
        click.Argument(
            ["path"], metavar="REPORT.json", type=click.Path(path_type=Path), help="What `mrd-lens report` wrote."
        ),
        _runs("The runs that it is on, or a score run that they rest on: directories or ids."),
        json_option("Print one JSON object instead of the table."),
    ],
)
def verify(path: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Make every figure of a report anew, and say which differ."""
    stated = read(path)
    found = verified(stated, candidates([run_directory(name) for name in names], store()), path.parent)
    if as_json:
        differences = [each._asdict() for each in found.differences]
        print_json({"compared": found.compared, "differences": differences, "notes": list(found.notes)})
    elif found.differences:
        rows = [(each.name, _cell(each.report), _cell(each.runs)) for each in found.differences[:PRINTED]]
        out.print(grid("What differs", pd.DataFrame(rows, columns=["name", "report", "runs"])))
        more = len(found.differences) - len(rows)
        say(f"{len(found.differences)} of {found.compared} differ{f'; {more} more in --json' if more else ''}.")
    else:
        say(f"All {found.compared} figures, sentences and digests follow from the runs.")
    for each in found.notes:
        note(each)
    if found.differences:
        raise click.exceptions.Exit(EXIT_FAILED)


def _cell(value: Leaf) -> str:
    text = f"{value:.7g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
