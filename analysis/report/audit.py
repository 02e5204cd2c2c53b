"""The section on a forget set within the pool that was scored: is it easier than random sets of its size?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.audit.candidates import named, within
from analysis.audit.config import AuditConfig
from analysis.audit.ease import Audit, audited
from analysis.difficulty import ScoredRun
from analysis.report.content import AuditedSet, Cell, Chart, Column, Section, Table, interval, number
from mrd_core.errors import UserError


def audited_set(config: AuditConfig, home: Path, find_run: Callable[[str], Path]) -> AuditedSet:
    """Return the samples of the set that an audit is asked of, by which it can be made again without its file.

    Args:
        config: The audit.
        home: The data root, where selections are saved.
        find_run: Returns the directory of a run that is named by it or by its id.

    Raises:
        UserError: The set is not within the pool.
    """
    candidates = named(ScoredRun(config.pool), config.forget_set, home, find_run, config.group)
    if any(len(runs) > 1 for runs in candidates.units.values()):
        raise UserError(
            f"The set {config.forget_set}",
            "was scored in a run of its own, and a report is on one.",
            "Name its samples in a file, or hold it against the pool with `mrd-lens audit set`.",
        )
    ids = candidates.columns.frame["sample_id"][candidates.chosen]
    settings = config.model_dump(include={"group", "draws", "seed"})
    return AuditedSet(name=Path(config.forget_set).name, sample_ids=tuple(ids), **settings)


def audit(run: ScoredRun, wanted: AuditedSet) -> Section:
    """Return the section."""
    settings = wanted.model_dump(include={"group", "draws", "seed"})
    config = AuditConfig(pool=run.directory, forget_set=wanted.name, **settings)
    result = audited(within(run, wanted.sample_ids, wanted.group), config)
    forest = Chart(
        form="forest",
        title="In what the set differs from the rest of its pool",
        alt="Cliff’s delta of the set and the rest for each column, with intervals",
        table="columns",
        y=("delta",),
        unit="Cliff’s δ (above 0: the set has more)",
    )
    return Section(
        title=f"Is the forget set {wanted.name} easier than it should be?",
        text=tuple(filter(None, (result.sentence, result.others))),
        parts={"columns": _columns(result, wanted.name), "effects": forest},
        notes=result.notes,
    )


def _columns(result: Audit, name: str) -> Table:
    rows: dict[str, dict[str, Cell]] = {
        row.column: {
            "difference": interval(row.difference),
            "delta": interval(row.delta),
            **{each: number(getattr(row, each)) for each in ("mean_set", "mean_rest", "p", "p_holm", "above")},
        }
        for row in result.rows
    }
    return Table(
        caption=f"The {result.n_set} samples of {name} beside the rest of the pool",
        head="Of each sample",
        columns={
            "difference": Column(title="Mean of the set less that of the rest [95 %]", form="+.3g"),
            "delta": Column(title="Cliff’s δ [95 %]", form="+.2f"),
            "p_holm": Column(title="p (Holm)", form=".2g"),
            "above": Column(title="Share of random sets with more", form=".2f"),
        },
        rows=rows,
        titles={row.column: row.title for row in result.rows},
    )
