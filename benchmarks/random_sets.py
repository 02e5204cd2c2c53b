"""Is the p of an audit honest? Random forget sets of a pool, audited as if they had been given.

    python -m benchmarks.random_sets --pool RUN_DIR [--group 20 --sizes 40,200,400 --sets 200]

A set that chance drew from the pool should have p < 0.05 in one case of twenty. Sets of single samples and of
whole groups are drawn, and each is held against random sets of either kind, by the MRD that the run ranks by. The
groups are drawn in whole numbers: of 20 rows each, 40 samples are two of them.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from analysis.audit.chance import random_sets
from analysis.audit.columns import columns_of, groups_of
from analysis.difficulty import ScoredRun
from analysis.statistics.groups import SIGNIFICANCE

app = typer.Typer(add_completion=False)


@app.command()
def main(
    pool: Annotated[Path, typer.Option(help="Directory of a score run of the pool.")],
    group: Annotated[str, typer.Option(help="What belongs together, as `mrd-lens audit set --group`.")] = "20",
    sizes: Annotated[str, typer.Option(help="Samples of the sets.")] = "40,200,400",
    sets: Annotated[int, typer.Option(min=20, help="Random sets of each size and kind.")] = 200,
    draws: Annotated[int, typer.Option(min=99, help="Random sets that each is held against.")] = 999,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
) -> None:
    """Audit random sets, and tell how many come out as different from random ones."""
    run = ScoredRun(pool)
    columns = columns_of(run)
    values = columns.frame[[columns.difficulty[0]]].to_numpy(np.float64)
    labels = groups_of(run, group).reindex(columns.frame["sample_id"]).to_numpy()
    groups = np.unique(labels, return_inverse=True)[1]
    units = {"samples": np.arange(len(values)), "groups": groups}
    table = Table(
        "size", "drawn", "held against", f"p < {SIGNIFICANCE:g}", "95 %", "SD of the difference", box=None
    )
    generator = np.random.default_rng(seed)
    for size, drawn in product(map(int, sizes.split(",")), units):
        given = [_drawn(units[drawn], size, generator) for _ in range(sets)]
        for against in units:
            # Whole groups cannot be drawn where the set has parts of them.
            if (drawn, against) == ("samples", "groups"):
                continue
            audits = [random_sets(values, chosen, units[against], draws, seed) for chosen in given]
            low = sum(bool(audit.p[0] < SIGNIFICANCE) for audit in audits)
            ends = stats.binomtest(low, sets).proportion_ci()
            spread = np.std([audit.observed[0] for audit in audits], ddof=1) / np.nanmean(values)
            share = f"[{ends.low:.3f}, {ends.high:.3f}]"
            table.add_row(str(size), drawn, against, f"{low / sets:.3f}", share, f"{spread:.2%} of the mean MRD")
    Console().print(table)


def _drawn(unit: npt.NDArray[np.intp], size: int, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return a random set of `size` samples, or of as many whole units as come to that, shape (N,)."""
    count = round(size * (unit.max() + 1) / len(unit))
    return np.isin(unit, generator.choice(unit.max() + 1, count, replace=False))


if __name__ == "__main__":
    app()
