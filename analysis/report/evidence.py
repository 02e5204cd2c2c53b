"""The sections on experiments: what unlearning really took, and what foretells it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.evidence.kinds import interpretation
from analysis.evidence.kinds.durability import Durability
from analysis.evidence.kinds.validity import Validity
from analysis.evidence.league import rows_drawn, short_title
from analysis.evidence.measurements import read_measurements
from analysis.report import durability
from analysis.report.content import Cell, Chart, Column, Section, Table, interval, number, rows_of
from analysis.report.runs import Member
from analysis.statistics.bootstrap import Estimate


def experiment(member: Member) -> Section:
    """Return the section on an experiment, made anew from its rows."""
    measurements = read_measurements(member.directory)
    read_as = interpretation(measurements.config.kind)
    evidence = read_as.evidence(measurements)
    parts: dict[str, Table | Chart] = {}
    for at, (title, frame) in enumerate(evidence.brief.items(), start=1):
        parts[f"table_{at}"] = rows_of(frame, title)
    text = evidence.findings
    if isinstance(evidence, Validity):
        parts |= dict(_drawn(evidence))
    elif isinstance(evidence, Durability):
        parts |= dict(durability.drawn(evidence))
        if len(evidence.of_models) > 1:
            of_each = [(evidence.names[model], each) for model, each in evidence.of_models.items()]
            text += tuple(f"{name}: {' '.join(findings)}" for name, findings in of_each)
    return Section(
        title=f"{read_as.title}: {read_as.question[0].lower()}{read_as.question[1:]}",
        text=(evidence.verdict, *text, read_as.procedure, evidence.paper),
        parts=parts,
        notes=evidence.caveats,
    )


def _drawn(evidence: Validity) -> Iterator[tuple[str, Table | Chart]]:
    """Yield, arm by arm, updates against scores and the ties of all measures to them."""
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
            yield f"ties_{at}", _ties(arm.name, f"league_{at}", rows_drawn(table, evidence.mrd_column))


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
    rows: dict[str, dict[str, Cell]] = {
        str(row["measure"]): {
            "rho": interval(Estimate(row["rho"], row["low"], row["high"])),
            "partial": interval(Estimate(row["partial"], row["partial_low"], row["partial_high"])),
            "cost": number(row["cost"]),
        }
        for row in table.to_dict(orient="records")
    }
    return Table(
        caption=f"{name}: every measure and the updates, the best first",
        head="Measure",
        columns={
            "rho": Column(title="ρ with updates [95 %]", form="+.2f"),
            "partial": Column(title="Length held [95 %]", form="+.2f"),
            "cost": Column(title="Forward passes"),
        },
        rows=rows,
        titles={measure: short_title(measure) for measure in rows},
        is_listed=False,
    )


def _ties(name: str, table: str, most: int) -> Chart:
    return Chart(
        form="forest",
        title=f"{name}: what foretells updates",
        alt="Spearman’s correlation of the best measures with updates, with intervals",
        table=table,
        y=("rho",),
        unit="Spearman’s ρ with updates",
        most=most,
    )
