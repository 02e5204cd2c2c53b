"""How far the weights moved, drawn for a report: what goes with it."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.evidence.kinds.parameter_change import ParameterChange
from analysis.evidence.measurements import estimate_at
from analysis.report.content import Chart, Column, Table, interval


def drawn(evidence: ParameterChange) -> Iterator[tuple[str, Table | Chart]]:
    """Yield the correlations of the change of the weights, arm by arm."""
    rows = evidence.correlations
    yield (
        "correlations",
        Table(
            caption="The mean absolute change of a weight over composites, and what goes with it",
            head="Method and what goes with the change",
            columns={
                "rho": Column(title="ρ with the change [95 %]", form="+.2f"),
                "partial": Column(title="Tokens held [95 %]", form="+.2f"),
            },
            rows={
                f"{row['arm']}: {row['title']}": {
                    "rho": interval(estimate_at(row)),
                    "partial": interval(estimate_at(row, "partial", "partial_")),
                }
                for _, row in rows.iterrows()
            },
            is_listed=False,
        ),
    )
    yield (
        "ties",
        Chart(
            form="forest",
            title="What goes with how far the weights move",
            alt="Spearman’s correlation of each quantity with the change of the weights, with intervals",
            table="correlations",
            y=("rho",),
            unit="Spearman’s ρ with the mean absolute change",
        ),
    )
