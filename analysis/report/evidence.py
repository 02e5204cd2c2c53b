"""The sections on experiments: what unlearning really took, and what foretells it."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.elsewhere import MODELS
from analysis.evidence.interpretation import Evidence
from analysis.evidence.kinds import interpretation
from analysis.evidence.kinds.durability import Durability
from analysis.evidence.kinds.parameter_change import ParameterChange
from analysis.evidence.kinds.selection import Selection
from analysis.evidence.kinds.sensitivity import Sensitivity
from analysis.evidence.kinds.theorem import Theorem
from analysis.evidence.kinds.validity import Validity
from analysis.evidence.measurements import read_measurements
from analysis.report import durability, parameter_change, selection, sensitivity, theorem, validity
from analysis.report.content import Chart, Section, Table, rows_of
from analysis.report.runs import Member


def experiment(member: Member) -> Section:
    """Return the section on an experiment, made anew from its rows."""
    measurements = read_measurements(member.directory)
    read_as = interpretation(measurements.config.kind)
    evidence = read_as.evidence(measurements)
    parts: dict[str, Table | Chart] = {}
    for at, (title, frame) in enumerate(evidence.brief.items(), start=1):
        parts[f"table_{at}"] = rows_of(frame, title)
    text = evidence.findings
    parts |= dict(_drawn(evidence))
    if isinstance(evidence, Durability) and len(evidence.of_models) > 1:
        of_each = [(evidence.names[model], each) for model, each in evidence.of_models.items()]
        text += tuple(f"{name}: {' '.join(findings)}" for name, findings in of_each)
    return Section(
        title=f"{read_as.title}: {read_as.question[0].lower()}{read_as.question[1:]}",
        text=(
            evidence.verdict,
            *text,
            read_as.procedure,
            evidence.paper,
            f"Elsewhere: {evidence.elsewhere} {MODELS}",
        ),
        parts=parts,
        notes=evidence.caveats,
    )


def _drawn(evidence: Evidence) -> Iterator[tuple[str, Table | Chart]]:
    """Yield the charts of an experiment, each after the table that it is drawn from."""
    match evidence:
        case Validity():
            yield from validity.drawn(evidence)
        case ParameterChange():
            yield from parameter_change.drawn(evidence)
        case Selection():
            yield from selection.drawn(evidence)
        case Sensitivity():
            yield from sensitivity.drawn(evidence)
        case Theorem():
            yield from theorem.drawn(evidence)
        case Durability():
            yield from durability.drawn(evidence)
