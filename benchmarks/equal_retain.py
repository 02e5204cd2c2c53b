"""Does an order of the samples need fewer updates at the same retain loss, or keep more at the same forgetting?

    python -m benchmarks.equal_retain STUDY [--choose 1-5] [--confirm 6-10] [--most 2] [--out TABLE.csv]

Judges the runs of a study that is like `curricula-demo`, of the store at MRD_HOME: arms are methods, and methods
with their retain loss held. In each a candidate is paired by seed with uniform sampling. Carried on to the
confirmation are those whose primary outcome was smaller on the seeds that choose, the two smallest at most; it is
confirmed where the paired t test on the other seeds says so after Holm's correction for all that were carried.
Primary is the number of updates where the retain loss is held, else the retain NLL at the end [nats per token].
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from analysis.statistics.groups import holm
from analysis.unlearning.runs import efficiency, paired_difference
from mrd_core.errors import UserError
from mrd_core.runs import RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.sampling import WITHOUT_SCORES

HELD = "retain held"
# Primary where the retain loss is held, and where it is free.
AT_EQUAL_RETAIN, AT_EQUAL_FORGETTING = "updates", "retain_nll"
MEASURES = ("updates", "retain_nll", "retain_accuracy", "forgotten_at_end", "forget_accuracy", "flops_total")
UNIFORM = "uniform"
# Shown beside what is confirmed, and never carried: whoever gives each sample once an epoch does what it does.
CONTROL = "shuffled"
# What two runs share that differ in their order alone.
PAIR = ["seed", "setting"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    study: Annotated[str, typer.Argument(help="Name that the runs carry.")],
    choose: Annotated[str, typer.Option(help="First and last seed that chooses.")] = "1-5",
    confirm: Annotated[str, typer.Option(help="First and last seed that confirms.")] = "6-10",
    most: Annotated[int, typer.Option(min=1, help="Candidates that are carried on in each arm.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write a row a run to this CSV file.")] = None,
) -> None:
    """Judge a study of orders at equal retain."""
    runs = runs_of(study)
    if out:
        runs.to_csv(out, index=False)
    console = Console(width=270, highlight=False)
    chosen = compared(runs[runs["seed"].between(*_seeds(choose))])
    confirmed = compared(runs[runs["seed"].between(*_seeds(confirm))])
    console.print(_table("Chosen by", chosen))
    console.print(_table("Confirmed by", judged(confirmed, carried(chosen, most))))


def runs_of(study: str) -> pd.DataFrame:
    """Return the finished unlearning runs of a study, one row a run: arm, order, seed, and `MEASURES`.

    Raises:
        UserError: There is none.
    """
    runs = RunStore.open().list(kinds=("unlearn",), states=[RunState.SUCCEEDED])
    found = [run for run in runs if run.study == study]
    if not found:
        raise UserError(f"The study '{study}'", "has no finished unlearning run here.", "Carry it out first.")
    summaries = [UnlearningFiles(run.directory).read_summary() for run in found]
    configs = [read_config(run.directory, UnlearnConfig) for run in found]
    return efficiency(summaries).assign(
        arm=[config.method + (f", {HELD}" if config.retain_limit else "") for config in configs],
        order=[order_of(config) for config in configs],
        forget_accuracy=[summary["forget_accuracy"] for summary in summaries],
    )


def order_of(config: UnlearnConfig) -> str:
    """Return what an order is called: its sampler, the column that it goes by, whether it is measured anew."""
    curriculum = config.curriculum
    if curriculum.sampler in WITHOUT_SCORES:
        return curriculum.sampler
    return f"{curriculum.sampler} {curriculum.column}" + (", anew" if curriculum.recompute_epochs else "")


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """Return each candidate of each arm paired by seed with uniform sampling.

    Columns: arm, order, pairs, primary (its name), p (paired t test of it, two-sided; NaN with fewer than two
    pairs), uniform (its mean), and of each of `MEASURES` the mean difference, `_low` and `_high`.
    """
    parts = (f"{name}{part}" for name in MEASURES for part in ("", "_low", "_high"))
    return pd.DataFrame(_comparisons(runs), columns=["arm", "order", "pairs", "primary", "p", "uniform", *parts])


def _comparisons(runs: pd.DataFrame) -> Iterator[dict[str, object]]:
    for arm, of_arm in runs.groupby("arm", sort=True):
        # What a run that met a limit would have needed, or lost, is not known.
        of_arm = of_arm[of_arm["reached"]]
        uniform = of_arm[of_arm["order"] == UNIFORM].drop_duplicates(PAIR).set_index(PAIR)
        primary = AT_EQUAL_RETAIN if HELD in str(arm) else AT_EQUAL_FORGETTING
        for order, of_order in of_arm[of_arm["order"] != UNIFORM].groupby("order", sort=True):
            own = of_order.drop_duplicates(PAIR).set_index(PAIR)
            both = own.index.intersection(uniform.index)
            difference = own.loc[both, primary] - uniform.loc[both, primary]
            row: dict[str, object] = {"arm": arm, "order": order, "pairs": len(both), "primary": primary}
            row["p"] = float(stats.ttest_1samp(difference, 0).pvalue) if len(both) > 1 else np.nan
            row["uniform"] = float(uniform.loc[both, primary].mean())
            for name in MEASURES:
                estimate = paired_difference(own.loc[both, name], uniform.loc[both, name])
                row |= estimate.columns(name, f"{name}_")
            yield row


def carried(chosen: pd.DataFrame, most: int) -> set[tuple[str, str]]:
    """Return arm and order of those that did better than uniform where they were chosen, the best of each arm."""
    better = chosen.assign(gain=[row[row["primary"]] for _, row in chosen.iterrows()])
    better = better[(better["gain"] < 0) & (better["order"] != CONTROL)].sort_values("gain")
    return {(row.arm, row.order) for _, arm in better.groupby("arm") for row in arm.head(most).itertuples()}


def judged(confirmed: pd.DataFrame, wanted: set[tuple[str, str]]) -> pd.DataFrame:
    """Return what was carried, with `p_holm` and whether it is confirmed; and the control, with neither.

    Where the retain loss is held, it must not end higher: the interval of its NLL not above 0.
    """
    pairs = zip(confirmed["arm"], confirmed["order"], strict=True)
    is_carried = np.array([pair in wanted for pair in pairs], dtype=np.bool_)
    rows = confirmed[is_carried].copy()
    rows["p_holm"] = holm(list(rows["p"]))
    better = np.array([row[row["primary"]] < 0 for _, row in rows.iterrows()], dtype=np.bool_)
    equal = (rows["primary"] != AT_EQUAL_RETAIN) | ~(rows["retain_nll_low"] > 0)
    control = confirmed[~is_carried & (confirmed["order"] == CONTROL)]
    return pd.concat([rows.assign(confirmed=better & equal & (rows["p_holm"] < 0.05)), control]).sort_index()


def _table(heading: str, rows: pd.DataFrame) -> Table:
    table = Table("arm", "order", "pairs", "primary (uniform)", *MEASURES, "p, Holm", "", title=heading, box=None)
    for _, row in rows.iterrows():
        cells = [_with_interval(row, name) for name in MEASURES]
        p = f"{row['p']:.3g}" + (f", {row['p_holm']:.3g}" if pd.notna(row.get("p_holm")) else "")
        verdict = {True: "confirmed", False: "not confirmed"}.get(row.get("confirmed"), "")
        table.add_row(row["arm"], row["order"], str(row["pairs"]), f"{row['uniform']:.4g}", *cells, p, verdict)
    return table


def _with_interval(row: pd.Series, name: str) -> str:
    scale = 1e-12 if name == "flops_total" else 1.0
    value, low, high = (scale * row[part] for part in (name, f"{name}_low", f"{name}_high"))
    return f"{value:+.3g} [{low:+.3g}, {high:+.3g}]"


def _seeds(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
