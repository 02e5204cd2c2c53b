"""How far the weights moved, drawn for a report: what goes with it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.evidence.kinds.parameter_change import ParameterChange
from analysis.report.content import Chart, Column, Table
from analysis.report.correlations import correlations


def drawn(evidence: ParameterChange) -> Iterator[tuple[str, Table | Chart]]:
    """Yield the correlations of the change of the weights, arm by arm."""
    rows = evidence.correlations
    columns = {
        "rho": Column(title="ρ with the change [95 %]", form="+.2f"),
        "partial": Column(title="Tokens held [95 %]", form="+.2f"),
    }
    caption = "The mean absolute change of a weight over composites, and what goes with it"
    names = rows["arm"] + ": " + rows["title"] if len(rows) else pd.Series(dtype=str)
    yield "correlations", correlations(rows, names, caption, "Method and what goes with the change", columns)
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
