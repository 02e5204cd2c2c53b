"""Theorem 3.2, drawn for a report: MRD/σ² of each sample against half the trace."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.evidence.kinds.theorem import Theorem
from analysis.report.content import Chart, Column, Table, number

COLUMNS = {"half_trace": "Half the trace, |Σ Tr(H)/P| / 2", "mrd": "MRD/σ²", "ratio": "MRD/σ² over half the trace"}


def drawn(evidence: Theorem) -> Iterator[tuple[str, Table | Chart]]:
    """Yield a point a sample beside the line on which both are equal."""
    rows = evidence.samples
    yield (
        "samples",
        Table(
            caption="MRD/σ² and half the trace of each sample, summed over tokens",
            head="Sample",
            columns={name: Column(title=title, form=".3g") for name, title in COLUMNS.items()},
            rows={
                str(row["sample_id"]): {name: number(row[name]) for name in COLUMNS}
                for row in rows.to_dict(orient="records")
            },
            is_listed=False,
        ),
    )
    yield (
        "equality",
        Chart(
            form="points",
            title="MRD/σ² against half the trace (on the line both are equal)",
            alt="MRD over the square of σ of each sample against half the trace of its Hessian",
            table="samples",
            x="half_trace",
            y=("mrd",),
            unit="MRD/σ²",
            has_diagonal=True,
        ),
    )
