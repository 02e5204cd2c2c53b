"""`mrd-lens compare`: a comparison with all that stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import click
import numpy as np
import pandas as pd

from analysis.comparison.columns import COMPLETENESS
from analysis.comparison.evaluated import Evaluated, read
from analysis.comparison.strata import COLUMN as DIFFICULTY_COLUMN
from analysis.comparison.strata import (
    INTERACTION,
    by_stratum,
    change,
    column_of_samples,
    require_scores,
)
from analysis.comparison.table import Comparison, default_baseline, with_columns
from analysis.comparison.table import compare as compare_runs
from analysis.export.comparison import (
    GROUP,
    by_difficulty,
    comparison_json,
    exports,
    heading,
    legend,
    number,
    signed,
    table,
    tasks,
)
from cli.exports import write_files
from cli.form import directories_argument, json_option, out_option
from cli.terminal import grid, out, print_json, require_folder, say
from mrd_core.errors import UserError

# Groups beside the baseline in one table of a terminal.
ABREAST = 2
CELL_WIDTH = 22


@click.command(
    no_args_is_help=True,
    params=[
        directories_argument("sources", "Directories of evaluations, or result files of OpenUnlearning (JSON)."),
        click.Option(
            ["--baseline"],
            type=click.Path(path_type=Path),
            help="The one that the others are held against; by default the first of a model that nothing was "
            "unlearned from.",
        ),
        click.Option(
            ["--column"], default=DIFFICULTY_COLUMN, help="Column of the scores by which samples are hard or easy."
        ),
        click.Option(
            ["--columns"],
            default="",
            help="Columns of the tables by name (ua,mia,utility), with commas between them; all by default. The "
            "data (comparison.csv, comparison.parquet, JSON) have all.",
        ),
        click.Option(["--intervals"], is_flag=True, help="Give each cell of the tables its 95 % interval."),
        out_option("Folder for data (CSV, Parquet) and tables (Markdown, LaTeX)."),
        json_option("Print one JSON object instead of tables."),
    ],
)
def compare(
    sources: tuple[Path, ...],
    baseline: Path | None,
    column: str,
    columns: str,
    intervals: bool,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Compare evaluations."""
    if out_dir:
        require_folder(out_dir)
    names = tuple(name.strip() for name in columns.split(",") if name.strip())
    comparison = replace(compared(sources, baseline, column), columns=names, intervals=intervals)
    # Refused before anything is printed.
    with_columns(comparison.comparison, names)
    if as_json:
        print_json(comparison.as_json())
    else:
        for title, frame in comparison.tables():
            out.print(grid(title, frame))
        for caution in comparison.cautions():
            say(f"Mind: {caution}")
    if out_dir:
        write_files(out_dir, comparison.exports())


NO_COMPLETENESS = "Nothing is said by difficulty: no column of completeness (such as UA, MIA, RR) was measured."


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison with what is told of hard and easy samples.

    Attributes:
        comparison: What was found.
        frames: `strata` and `change` (`analysis.comparison.strata`); empty where no run has MRD of the samples.
        notes: Why there are no such frames.
        columns: Of the tables, by name; none for all.
        intervals: Whether their cells have intervals.
    """

    comparison: Comparison
    frames: Mapping[str, pd.DataFrame]
    notes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    intervals: bool = False

    def cautions(self) -> list[str]:
        """Return all that a reader must know, in sentences."""
        contrasts = by_difficulty(self.frames["strata"], "Completeness") if "strata" in self.frames else []
        return [*self.comparison.notes, *self.notes, *contrasts]

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return comparison_json(self.comparison, **self.frames) | {"notes": self.cautions()}

    def exports(self) -> Mapping[str, Callable[[], bytes]]:
        """Return for each file name what makes its content."""
        return exports(self.comparison, self.columns, intervals=self.intervals, **self.frames)

    def tables(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield tables for a terminal by title, every cell text."""
        chosen = with_columns(self.comparison, self.columns)
        marks = legend(chosen, intervals=self.intervals)
        if len(chosen.groups) == 1:
            yield marks, _own_values(chosen)
        # On its side, a few groups at a time beside the baseline, so that a terminal has room.
        turned, others = table(chosen, intervals=self.intervals).set_index(GROUP).T, chosen.groups[1:]
        for start in range(0, len(others), ABREAST):
            labels = [self.comparison.baseline, *(group.label for group in others[start : start + ABREAST])]
            side = turned[labels].rename_axis(columns=None).reset_index(names="")
            yield marks if start == 0 else "", _broken(side)
        if len(pairs := _marked_pairs(self.comparison)):
            yield "What the order of the samples changed by more than the noise", pairs
        if len(asked := tasks(self.comparison)):
            yield "Tasks of lm-evaluation-harness", _broken(asked)
        if len(self.comparison.settings):
            yield "Settings that differ", _broken(self.comparison.settings)
        if "strata" in self.frames and len(contrasts := _contrasts(self.frames["strata"])):
            yield "Differences on hard samples less those on easy ones", contrasts


def compared(sources: Sequence[Path], baseline: Path | None, column: str) -> Compared:
    """Read evaluations and compare them.

    Args:
        sources: Directories of evaluations, or result files of OpenUnlearning.
        baseline: One of them; by default the first of a model that nothing was unlearned from, else the first.
        column: Of the scores, by which samples are hard or easy.

    Raises:
        UserError: What one of them is not, or why they cannot be compared.
    """
    runs = [read(source) for source in sources]
    place = default_baseline(runs)
    if baseline is not None:
        places = [source.resolve() for source in sources]
        if baseline.resolve() not in places:
            raise UserError(
                f"--baseline {baseline}", "is none of the evaluations.", "Name one of those to compare."
            )
        place = places.index(baseline.resolve())
    comparison = compare_runs(runs, place)
    changed = column_of_samples(comparison.columns)
    if changed is None:
        return Compared(comparison, {}, (NO_COMPLETENESS,))
    frames, notes = _by_difficulty(runs, place, changed.key, column)
    return Compared(comparison, frames, notes)


def _by_difficulty(
    runs: Sequence[Evaluated], place: int, metric: str, column: str
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """Return what is told by difficulty, or why nothing is; a column that is not there is an error."""
    if not any(run.scores is not None for run in runs):
        return {}, ("No run has MRD beside its values: nothing is said by difficulty.",)
    require_scores(runs, column)
    try:
        frames = {
            "strata": by_stratum(runs, place, COMPLETENESS, column),
            "change": change(runs, place, metric, column),
        }
    except UserError as error:
        return {}, (f"Nothing is said by difficulty: {error.cause}",)
    return frames, ()


def _own_values(comparison: Comparison) -> pd.DataFrame:
    """Return the values of a single group with their intervals."""
    columns, cells = {column.key: column for column in comparison.columns}, comparison.cells
    cells = cells[cells["column"].isin(columns)]
    measured = [columns[key] for key in cells["column"]]
    return pd.DataFrame(
        {
            "": list(map(heading, measured)),
            "value": list(map(number, measured, cells["mean"])),
            "95 % over samples": list(map(_ends, cells["low"], cells["high"])),
            "samples": cells["n"].astype(str),
            "undefined": cells["undefined"].astype(str),
        }
    )


def _broken(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with long names and cells broken, so that every column has room."""
    broken = frame.map(lambda cell: fill(str(cell), CELL_WIDTH))
    return broken.set_axis([fill(str(name), CELL_WIDTH) for name in frame], axis="columns")


def _marked_pairs(comparison: Comparison) -> pd.DataFrame:
    """Return the marked differences of settings from the same method with uniform sampling."""
    titles = {column.key: column.title for column in comparison.columns}
    of_pairs = comparison.differences["against"] != comparison.baseline
    pairs = comparison.differences[of_pairs & comparison.differences["marked"]]
    return pd.DataFrame(
        {
            "setting": pairs["group"] + " less " + pairs["against"],
            "column": pairs["column"].map(titles),
            "difference": list(map(signed, pairs["difference"])),
            "95 %": list(map(_ends, pairs["low"], pairs["high"])),
            "": np.where(pairs["better"], "better", "worse"),
        }
    )


def _contrasts(strata: pd.DataFrame) -> pd.DataFrame:
    contrasts = strata[strata["part"] == INTERACTION].dropna(subset=["value"])
    return pd.DataFrame(
        {
            "setting": contrasts["group"] + " less " + contrasts["against"],
            "hard − easy": [_number(value) for value in contrasts["value"]],
            "95 %": list(map(_ends, contrasts["low"], contrasts["high"])),
            "p (Holm)": ["–" if np.isnan(value) else f"{value:.2g}" for value in contrasts["p_holm"]],
        }
    )


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}".replace("-", "−")


def _ends(low: float, high: float) -> str:
    return "–" if np.isnan(low) else f"[{_number(low)}, {_number(high)}]"
