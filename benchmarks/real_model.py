"""What the log asks of a pretrained model, and no command answers alone.

    python -m benchmarks.real_model known TUNED UNSEEN      two score runs
    python -m benchmarks.real_model same FIRST SECOND       two runs of `experiment validity`, of one arm each
    python -m benchmarks.real_model kept RUN --first 20     one, with a retain set of two kinds
    python -m benchmarks.real_model orders RUN...           unlearning runs that differ in method, order and seed
    python -m benchmarks.real_model evaluated RUN...        evaluations of them and the original, of one suite

`known`: does a measure tell what the model learnt from what it never saw? AUC, P(tuned > unseen) + ½ P(equal).
`same`: do two ways to unlearn (all weights and an adapter, two methods) order the samples alike that both did?
`kept`: which of what was kept pays, and does g_i·g_r foretell it, for the first rows of the retain set and for
those after them? Intervals at 95 %: BCa, samples drawn anew.
`orders`: what does an order save, and what does it cost, against uniform draws of the same method and seed? Means
of the paired differences over all methods, 95 % by t.
`evaluated`: the same of what evaluations say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

from analysis.comparison.evaluated import Evaluated, read
from analysis.comparison.table import compare, default_baseline
from analysis.evidence.collateral import changes_of, who_pays
from analysis.evidence.measurements import Measurements, read_measurements
from analysis.statistics.bootstrap import REPLICATES, SEED
from analysis.statistics.censored import agreement, partial
from analysis.statistics.wording import with_ends
from mrd_core.arrays import FloatArray
from mrd_core.experiments.kinds.validity import RETAIN, UNLEARNING
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.files import UnlearningFiles

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Directory = Annotated[Path, typer.Argument()]

# Of the answer; the log-probability is what any other method would look at first.
MEASURES = ("mrd_answer_mean", "mrd_answer_sum", "nll", "median_log_odds", "gradient_norm", "answer_tokens")

# Of an unlearning run.
PAIRED = ("updates", "forgotten_at_end", "forget_accuracy", "retain_accuracy", "retain_nll")

# What tells one from another.
SETTING = ["method", "seed", "order"]

# Of a sample that was unlearned, and the two runs that are held against each other.
OUTCOME, ORDER = ("updates", "forgotten"), ("first", "second")


@app.command()
def known(tuned: Directory, unseen: Directory) -> None:
    """Tell rows that a model learnt from rows that it never saw."""
    first, second = map(_scored, (tuned, unseen))
    both = pd.concat([first.assign(tuned=1.0), second.assign(tuned=0.0)], ignore_index=True)
    nothing = np.zeros(len(both), dtype=bool)
    for measure in MEASURES:
        sides = [frame[measure].dropna().to_numpy(np.float64) for frame in (first, second)]
        found = stats.bootstrap(
            sides, _auc, vectorized=True, n_resamples=REPLICATES, random_state=np.random.default_rng(SEED)
        )
        low, high = found.confidence_interval
        medians = ", ".join(f"{np.median(side):.3g}" for side in sides)
        held = partial(both[measure], both["tuned"], nothing, [both["answer_tokens"]])
        print(
            f"{measure}: AUC {_auc(*sides):.3f} [{low:.3f}, {high:.3f}], medians {medians}; "
            f"{with_ends(held)} of being tuned on with length held"
        )


def _scored(directory: Path) -> pd.DataFrame:
    files = ScoreFiles(directory)
    return pd.read_parquet(files.scores).merge(pd.read_parquet(files.measures), on="sample_id", suffixes=("", "_"))


def _auc(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """Return P(first > second) + half of P(equal), of samples along the last axis."""
    assert axis == -1
    n = first.shape[-1]
    ranks = stats.rankdata(np.concatenate([first, second], axis=-1), axis=-1)[..., :n]
    return np.asarray((ranks.mean(axis=-1) - (n + 1) / 2) / second.shape[-1])


@app.command()
def same(first: Directory, second: Directory) -> None:
    """Hold the updates of two ways to unlearn against each other."""
    rows = [_unlearned(read_measurements(directory)) for directory in (first, second)]
    updates, forgotten = (pd.concat([each[name] for each in rows], axis=1, keys=ORDER) for name in OUTCOME)
    complete = updates.dropna().index.sort_values()
    found = agreement(updates.loc[complete], ~forgotten.loc[complete].astype(bool))
    (pair,) = found.pairs.itertuples()
    print(f"ρ of updates {pair.rho:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}], n = {pair.n}")
    print(updates.loc[complete].describe().loc[["min", "50%", "max"]].to_string())


def _unlearned(run: Measurements) -> pd.DataFrame:
    rows = run.part(UNLEARNING)
    (arm,) = rows["arm"].unique()
    print(f"{run.directory.name}: {arm}, {len(rows)} samples")
    return rows.set_index("sample_id")


@app.command()
def kept(
    run: Directory, first: Annotated[int, typer.Option(help="Retain samples of the first kind.")] = 20
) -> None:
    """Say what each kind of retain sample lost, and whether products of gradients foretell which."""
    measurements = read_measurements(run)
    before = measurements.part(RETAIN)["nll"].to_numpy()
    for arm, rows in measurements.part(UNLEARNING).groupby("arm"):
        foretold, changes = changes_of(rows, measurements)
        if changes.empty:
            continue
        products = np.stack(list(foretold["products"])).astype(np.float64)
        for name, of_kind in (("first", slice(first)), ("others", slice(first, None))):
            lost = changes.to_numpy()[:, of_kind]
            pays, own = who_pays(products[:, of_kind], lost)
            print(
                f"{arm}, {name} ({lost.shape[1]} samples): NLL {before[of_kind].mean():.3f} before, rise "
                f"{lost.mean():+.3f}, by {len(lost)} unlearnings; {with_ends(pays, 'mean ρ')}; without what "
                f"all have in common {with_ends(own, 'mean ρ')}"
            )


@app.command()
def orders(runs: list[Directory]) -> None:
    """Hold each order of the samples against uniform draws, paired by method and seed."""
    table = pd.DataFrame([UnlearningFiles(run).read_summary() for run in runs])
    table["order"] = table["sampler"] + " " + table["column"].fillna("")
    _hold_against_uniform(table.set_index(SETTING)[[*PAIRED]].astype(np.float64))


@app.command()
def evaluated(runs: list[Directory]) -> None:
    """Hold what evaluations say of each order against uniform draws, paired by method and seed."""
    # The original, if it is among them, says which sets have a signal.
    found = list(map(read, runs))
    unlearned = {one.name: one for one in found if one.method is not None}
    table = compare(found, default_baseline(found)).runs
    table = table[table["run"].isin(unlearned)].assign(
        order=lambda rows: [_order(unlearned[name]) for name in rows["run"]],
        method=lambda rows: [unlearned[name].method for name in rows["run"]],
    )
    _hold_against_uniform(table.pivot(index=SETTING, columns="column", values="value"))


def _order(run: Evaluated) -> str:
    return f"{run.sampler} {run.settings['curriculum.column']}"


def _hold_against_uniform(values: pd.DataFrame) -> None:
    """Print means by method and order, and paired differences over all methods, of values by `SETTING`."""
    print(values.groupby(["method", "order"]).mean().round(3).to_string())
    wide = values.unstack("order")
    for name in map(str, values.columns):
        plain = wide[name].filter(like="uniform").iloc[:, 0]
        for order in wide[name].columns.drop(plain.name):
            differences = (wide[name][order] - plain).dropna()
            low, high = stats.ttest_1samp(differences, 0).confidence_interval()
            print(f"{order}: {name} {differences.mean():+.3f} [{low:+.3f}, {high:+.3f}], {len(differences)} pairs")


if __name__ == "__main__":
    app()
