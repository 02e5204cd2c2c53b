"""What the choice of samples does to methods, drawn for a report: each random selection by each method."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.evidence.kinds.selection import METRICS, RANDOM, SIZES, Selection
from analysis.report.content import Chart, Column, Table, number


def drawn(evidence: Selection) -> Iterator[tuple[str, Table | Chart]]:
    """Yield, for single samples and for groups, what each method came to on each random selection."""
    random = evidence.runs[evidence.runs["scheme"] == RANDOM]
    for size, runs in random.groupby("size", sort=False):
        table, title = f"runs_{size}", SIZES[str(size)]
        yield (
            table,
            Table(
                caption=f"Random selections, {title}",
                head="Method and selection",
                columns={
                    "method": Column(title="Method"),
                    "selection": Column(title="Selection"),
                    **{metric: Column(title=METRICS[metric], form=".3g") for metric in evidence.metrics},
                },
                rows={
                    f"{row['arm']}, selection {int(row['selection']) + 1}": {
                        "method": str(row["arm"]),
                        "selection": int(row["selection"]) + 1,
                        **{metric: number(row[metric]) for metric in evidence.metrics},
                    }
                    for row in runs.to_dict(orient="records")
                },
                is_listed=False,
            ),
        )
        for metric in evidence.metrics:
            yield (
                f"{metric}_{size}",
                Chart(
                    form="points",
                    title=f"{METRICS[metric].partition(' [')[0]} over random selections, {title}",
                    alt=f"{METRICS[metric]} of each method on each random selection",
                    table=table,
                    x="selection",
                    y=(metric,),
                    group="method",
                    unit=METRICS[metric],
                ),
            )
