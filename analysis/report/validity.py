"""Unlearning one by one, drawn for a report: updates against scores, what foretells them, and damage."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.evidence.kinds.validity import Validity
from analysis.evidence.league import rows_drawn, short_title
from analysis.report.content import Chart, Column, Table, number
from analysis.report.correlations import correlations


def drawn(evidence: Validity) -> Iterator[tuple[str, Table | Chart]]:
    """Yield, arm by arm, updates against scores, and the ties of all measures to them and to what was lost."""
    for at, arm in enumerate(evidence.arms, start=1):
        samples = arm.samples
        yield (
            f"updates_{at}",
            Table(
                caption=f"{arm.name}: updates of each sample",
                head="Sample",
                columns={
                    "score": Column(title="MRD"),
                    "updates": Column(title="Updates"),
                    "end": Column(title=""),
                },
                rows={
                    str(row["sample_id"]): {
                        "score": number(row[evidence.mrd_column]),
                        "updates": number(row["updates"]),
                        "end": "not forgotten before the cap" if row["censored"] else "forgotten",
                    }
                    for row in samples.to_dict(orient="records")
                },
                is_listed=False,
            ),
        )
        if len(samples):
            yield f"scatter_{at}", _scatter(arm.name, f"updates_{at}")
        table = arm.league.table
        yield f"league_{at}", _league(arm.name, table)
        if len(table):
            title = f"{arm.name}: what foretells updates"
            most = rows_drawn(table, evidence.mrd_column)
            yield f"ties_{at}", _ties(title, "updates", f"league_{at}", most)
        if len(losses := arm.collateral.table):
            title = f"{arm.name}: which samples do harm to the retain set"
            yield f"losses_{at}", _losses(arm.name, losses)
            yield f"harm_{at}", _ties(title, "the rise of its NLL", f"losses_{at}", len(losses))


def _scatter(name: str, table: str) -> Chart:
    return Chart(
        form="points",
        title=f"{name}: updates until a sample is forgotten, against its MRD",
        alt="Updates that each sample took, against its MRD",
        table=table,
        x="score",
        y=("updates",),
        group="end",
        unit="Updates",
    )


def _league(name: str, table: pd.DataFrame) -> Table:
    columns = {
        "rho": Column(title="ρ with updates [95 %]", form="+.2f"),
        "partial": Column(title="Length held [95 %]", form="+.2f"),
        "cost": Column(title="Forward passes"),
    }
    caption = f"{name}: every measure and the updates, the best first"
    return correlations(table, table["measure"], caption, "Measure", columns, _titles(table))


def _losses(name: str, table: pd.DataFrame) -> Table:
    columns = {
        "rho": Column(title="ρ with the rise [95 %]", form="+.2f"),
        "partial": Column(title="Length held [95 %]", form="+.2f"),
    }
    caption = f"{name}: every measure and the rise of the retain set’s NLL, the best first"
    return correlations(table, table["measure"], caption, "Measure", columns, _titles(table))


def _titles(table: pd.DataFrame) -> dict[str, str]:
    return {measure: short_title(measure) for measure in table["measure"]}


def _ties(title: str, outcome: str, table: str, most: int) -> Chart:
    return Chart(
        form="forest",
        title=title,
        alt=f"Spearman’s correlation of the best measures with {outcome}, with intervals",
        table=table,
        y=("rho",),
        unit=f"Spearman’s ρ with {outcome}",
        most=most,
    )
