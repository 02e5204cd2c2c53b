"""MRD against σ, drawn for a report: where it grows as σ², and where rounding takes its place."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.evidence.kinds.sensitivity import Sensitivity
from analysis.evidence.measurements import estimate_at
from analysis.report.content import Chart, Column, Table, interval, number


def drawn(evidence: Sensitivity) -> Iterator[tuple[str, Table | Chart]]:
    """Yield MRD/σ² at each σ, of the mean over tokens."""
    sigmas = evidence.sigmas[evidence.sigmas["normalisation"] == "mean"]
    if sigmas.empty:
        return
    yield (
        "sigmas",
        Table(
            caption="MRD/σ² at each σ, median over samples, mean over tokens",
            head="Precision and σ",
            columns={
                "dtype": Column(title="Precision"),
                "sigma": Column(title="σ of the noise"),
                "ratio": Column(title="MRD/σ²", form=".3g"),
                "rho": Column(title="Agreement of the ranking [95 %]", form=".2f"),
            },
            rows={
                f"{row['dtype']}, σ = {row['sigma']:g}": {
                    "dtype": str(row["dtype"]),
                    "sigma": number(row["sigma"]),
                    "ratio": number(row["ratio"]),
                    "rho": interval(estimate_at(row)),
                }
                for _, row in sigmas.iterrows()
            },
            is_listed=False,
        ),
    )
    yield (
        "regime",
        Chart(
            form="curves",
            title="MRD/σ² against σ: level where MRD grows as σ²",
            alt="MRD over the square of σ in each precision, median over samples",
            table="sigmas",
            x="sigma",
            y=("ratio",),
            group="dtype",
            unit="MRD/σ²",
        ),
    )
