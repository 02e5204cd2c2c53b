"""What comes back, drawn for a report: MA over the steps of each attack, and what foretells the gain."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.evidence.kinds.durability import ATTACK_NAMES, Durability
from analysis.evidence.league import rows_drawn
from analysis.report.content import Chart, Column, Table, number
from analysis.report.correlations import correlations
from mrd_core.scoring.columns import MRD_ANSWER_MEAN


def drawn(evidence: Durability) -> Iterator[tuple[str, Table | Chart]]:
    """Yield a curve of MA for each attack that trains, then the league of each model."""
    for attack in evidence.attacks:
        curves = evidence.curves[evidence.curves["attack"] == attack]
        yield f"course_{attack}", _course(attack, curves)
        yield (
            f"known_{attack}",
            Chart(
                form="curves",
                title=f"MA of what was forgotten, trained on {ATTACK_NAMES[attack]}",
                alt="Mean MA of the forgotten samples of each model over the steps of the training",
                table=f"course_{attack}",
                x="step",
                y=("accuracy",),
                group="name",
                unit="MA",
            ),
        )
    leagues = [
        (model, league) for (model, attack), league in evidence.leagues.items() if attack == evidence.attacks[0]
    ]
    for at, (model, league) in enumerate(leagues, start=1):
        if len(league.table):
            name = evidence.names.get(model, model)
            yield f"foretold_{at}", _league(name, league.table)
            yield (
                f"ties_{at}",
                Chart(
                    form="forest",
                    title=f"{name}: what foretells the gain of MA",
                    alt="Spearman’s correlation of the best measures with the gain of MA, with intervals",
                    table=f"foretold_{at}",
                    y=("rho",),
                    unit="Spearman’s ρ with the gain",
                    most=rows_drawn(league.table, MRD_ANSWER_MEAN),
                ),
            )


def _course(attack: str, curves: pd.DataFrame) -> Table:
    return Table(
        caption=f"Trained on {ATTACK_NAMES[attack]}: MA of what was forgotten, and of the retain set",
        head="Model and step",
        columns={
            "name": Column(title="Model"),
            "step": Column(title="Step"),
            "accuracy": Column(title="MA", form=".3f"),
            "retain": Column(title="Retain MA", form=".3f"),
        },
        rows={
            f"{row['name']}, step {row['step']}": {
                "name": str(row["name"]),
                "step": number(row["step"]),
                "accuracy": number(row["accuracy"]),
                "retain": number(row["retain"]),
            }
            for row in curves.to_dict(orient="records")
        },
        is_listed=False,
    )


def _league(name: str, table: pd.DataFrame) -> Table:
    columns = {
        "rho": Column(title="ρ with the gain [95 %]", form="+.2f"),
        "partial": Column(title="Length held [95 %]", form="+.2f"),
        "level": Column(title="Level, MA left held [95 %]", form="+.2f"),
    }
    caption = f"{name}: every measure and the gain of MA, the best first"
    titles = dict(zip(table["measure"], table["title"], strict=True))
    return correlations(table, table["measure"], caption, "Measure", columns, titles)
