"""Does an order of the samples change what comes back of what was forgotten?

    python -m benchmarks.returning_orders attack STUDY --reference MODEL --out FOLDER
    python -m benchmarks.returning_orders judge --out FOLDER

Attacks the runs of a study that is like `curricula-demo`, those whose retain loss was held, of the store at
MRD_HOME: of each seed uniform sampling and the orders beside it in one experiment, which is not done again where
it is there. Judged is the gain of MA, less the reference's, of the samples that were forgotten when the attack
began, and the share that is back, paired by seed with uniform sampling. What is asked is in docs/LOG.md.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import beside_reference, courses_of
from analysis.statistics.groups import holm
from analysis.unlearning.runs import t_interval
from benchmarks.equal_retain import UNIFORM, order_of
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import REFERENCE
from mrd_core.runs import RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.settings.command import process
from mrd_core.unlearning.config import UnlearnConfig

ORDERS = (UNIFORM, "hard-to-easy median_log_odds", "entanglement")
ATTACKS = ("--attacks", "jogging,benign", "--answers", "none")
# Six of 24 rows, so that the attack is one; at the rate of unlearning.
SIZES = ("--share", 0.25, "--seeds", 2, "--learning-rate", 1e-4)
OUTCOMES = ("gain", "back")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Holds an experiment a seed.")]


@app.command()
def attack(
    study: Annotated[str, typer.Argument(help="Name that the runs carry.")],
    reference: Annotated[str, typer.Option(help="Model that was retrained without the forget set.")],
    out: Out,
) -> None:
    """Attack the models of each seed that has all orders."""
    for (seed, _), runs in sorted(_held(study).items()):
        directory = out / f"seed-{seed}"
        if set(ORDERS) <= runs.keys() and not ExperimentFiles(directory).summary.exists():
            named = ",".join(str(runs[order]) for order in ORDERS)
            where = ("--run", named, "--reference", reference, "--out", directory)
            command = process("experiment", "durability", *where, *ATTACKS, *SIZES)
            subprocess.run(process("runs", "resume", directory) if directory.exists() else command, check=True)


@app.command()
def judge(out: Out) -> None:
    """Print what came back under each order, beside uniform sampling."""
    done = [directory for directory in sorted(out.glob("seed-*")) if ExperimentFiles(directory).summary.exists()]
    rows = pd.concat(list(map(_returned, done)), ignore_index=True)
    found = []
    for (kind, order), _ in rows[rows["order"] != UNIFORM].groupby(["attack", "order"]):
        own = rows[rows["attack"] == kind].pivot(index="seed", columns="order")
        less = {name: (own[name, order] - own[name, UNIFORM]).dropna().to_numpy() for name in OUTCOMES}
        found.append((kind, order, less, [own[name, UNIFORM].mean() for name in OUTCOMES]))
    corrected = holm([float(stats.ttest_1samp(less["gain"], 0).pvalue) for _, _, less, _ in found])
    table = Table("attack", "order", "pairs", "gain (uniform)", "gain", "back (uniform)", "back", "p, Holm")
    for (kind, order, less, (gain, back)), p in zip(found, corrected, strict=True):
        beyond = ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*t_interval(less[name])) for name in OUTCOMES]
        cells = (f"{gain:.3f}", beyond[0], f"{back:.2f}", beyond[1], f"{p:.3g}")
        table.add_row(str(kind), str(order), str(len(less["gain"])), *cells)
    Console(width=200, highlight=False).print(table)


def _held(study: str) -> dict[tuple[int, str], dict[str, Path]]:
    """Return the runs of a study whose retain loss was held, by seed and setting, and by order."""
    found: dict[tuple[int, str], dict[str, Path]] = {}
    for run in RunStore.open().list(kinds=("unlearn",), states=[RunState.SUCCEEDED]):
        config = read_config(run.directory, UnlearnConfig) if run.study == study else None
        if config and config.retain_limit:
            found.setdefault((config.seed, config.setting), {}).setdefault(_short(order_of(config)), run.directory)
    return found


def _short(order: str) -> str:
    return "entanglement" if order.startswith("entanglement") else order


def _returned(directory: Path) -> pd.DataFrame:
    """Return, of each model and attack of an experiment, what came back: order, seed, attack, gain, back."""
    measurements = read_measurements(directory)
    courses = courses_of(measurements)
    told = {
        entry["model"]: UnlearnConfig.model_validate(entry["config"])
        for entry in read_json(ExperimentFiles(directory).unlearned)
    }
    rows = []
    for course in courses:
        if course.model != REFERENCE:
            table = beside_reference(course, courses)
            gone, config = table[table["at_risk"]], told[course.model]
            of = {"order": _short(order_of(config)), "seed": config.seed, "attack": course.attack}
            rows.append(of | {"gain": gone["excess_gain"].mean(), "back": gone["back"].mean()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    app()
