"""The sections on unlearning: what was forgotten, what is left of the rest, and what risk remains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.audit.config import RiskConfig
from analysis.audit.risk import BACK, NOT_ATTACKED, PROBABILITY, risk_of
from analysis.figures.theme import evenly, shortened
from analysis.report.content import Cell, Chart, Column, Section, Table, number
from analysis.report.difficulty import TEXT_WIDTH
from analysis.report.runs import Member
from analysis.unlearning.runs import by_difficulty, difficulty_column, run_name
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.damage import RULE, in_words, rest
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import UnlearningSummary

POINTS, LISTED = 200, 20


def name_of(member: Member) -> str:
    """Return what the report calls an unlearning run."""
    config = read_config(member.directory, UnlearnConfig)
    return run_name(config.label, config.seed)


def summary_of(member: Member) -> UnlearningSummary:
    """Return the figures of a run, what its tables hold made anew from them; the retain set has none."""
    files = UnlearningFiles(member.directory)
    outcome = pd.read_parquet(files.outcome)
    summary = UnlearningSummary.model_validate(files.read_summary())
    from_tables = {
        "n_samples": len(outcome),
        "updates": int(outcome["updates"].sum()),
        "draws": int(outcome["draws"].sum()),
        "forgotten": int(outcome["forgotten_step"].notna().sum()),
        "forgotten_at_end": int(outcome["forgotten_at_end"].sum()),
    }
    return summary.model_copy(update=from_tables)


def unlearned(members: Sequence[Member]) -> Section:
    """Return the section on all unlearning runs."""
    names = [name_of(member) for member in members]
    # Those that are called alike are told apart by their ids.
    titles = {
        member.name: name if names.count(name) == 1 else f"{name} ({member.name})"
        for member, name in zip(members, names, strict=True)
    }
    return Section(
        title="What was forgotten, and what is left of the rest",
        text=tuple(f"{titles[member.name]}: {in_words(summary_of(member))}" for member in members),
        parts={
            "runs": Table(
                caption="Before and after. MA: memorization accuracy; NLL: nats per answer token",
                head="Run",
                columns=_COLUMNS,
                rows={member.name: _figures(member) for member in members},
                titles=titles,
            ),
            "progress": _CURVES,
            "thirds": _thirds(members, titles),
            "steps": _steps(members, titles),
        },
        notes=(RULE, *dict.fromkeys(text for each in members for text in summary_of(each).warnings)),
    )


def risk(member: Member, attacked: Member | None, *, without_texts: bool) -> Section:
    """Return the section on samples that are hard and still there after a run, or came back.

    Args:
        member: The run, by whose own threshold samples are still there.
        attacked: A durability experiment on it; None without one.
        without_texts: Leave the texts of the samples out.
    """
    left = risk_of(RiskConfig(run=member.directory, durability=attacked and attacked.directory))
    left = left.without_texts() if without_texts else left
    at_risk = left.listed.fillna({BACK: NOT_ATTACKED}) if attacked else left.listed
    rows: dict[str, dict[str, Cell]] = {
        str(row["sample_id"]): {
            "mrd": number(row["mrd"]),
            "accuracy": number(row["accuracy"]),
            "nll": number(row["nll"]),
            **({"back": row[BACK], "probability": number(row[PROBABILITY])} if attacked else {}),
            "text": shortened(row["answer"], TEXT_WIDTH),
        }
        for row in at_risk.to_dict(orient="records")
    }
    more = max(len(rows) - LISTED, 0)
    columns = {
        "mrd": Column(title="MRD"),
        "accuracy": Column(title="MA", form=".2f"),
        "nll": Column(title="NLL", form=".2f"),
        **(_RETURNING if attacked else {}),
        "text": Column(title="Answer"),
    }
    what = "Hard and still there, or back" if attacked else "Hard, and still there"
    caption = f"{what}{f'; {more} more stand in the JSON' if more else ''}"
    listed = Table(caption=caption, head="Sample", columns=columns, rows=dict(list(rows.items())[:LISTED]))
    return Section(
        title=f"What risk is left after {name_of(member)}",
        text=(left.sentence,),
        parts={
            **({"listed": listed} if rows else {}),
            "all": Table(caption="All at risk", head="Sample", columns=columns, rows=rows, is_listed=False),
        },
        notes=left.notes,
    )


_RETURNING = {
    "back": Column(title="Comes back by"),
    "probability": Column(title="Probability", form=".2f"),
}
_CURVES = Chart(
    form="curves",
    title="Samples found forgotten on the way",
    alt="Share of the samples found forgotten along the updates, a curve a run, seeds of a setting alike",
    table="steps",
    x="updates",
    y=("forgotten",),
    group="setting",
    line="run",
    unit="Share found forgotten",
)
_COLUMNS = {
    "updates": Column(title="Updates", form=",.0f"),
    "forgotten": Column(title="Forgotten"),
    "samples": Column(title="of"),
    "forget_accuracy_before": Column(title="MA before", form=".2f"),
    "forget_accuracy": Column(title="after", form=".2f"),
    "forget_nll_before": Column(title="NLL before", form=".2f"),
    "forget_nll": Column(title="after", form=".2f"),
    "retain_accuracy_before": Column(title="Retain MA before", form=".2f"),
    "retain_accuracy": Column(title="after", form=".2f"),
    "retain_nll_before": Column(title="Retain NLL before", form=".2f"),
    "retain_nll": Column(title="after", form=".2f"),
    "rest": Column(title="The rest"),
}


def _figures(member: Member) -> dict[str, Cell]:
    summary, outcome = summary_of(member), pd.read_parquet(UnlearningFiles(member.directory).outcome)
    measured: dict[str, Cell] = {
        f"forget_{name}{'' if side == 'after' else '_before'}": number(outcome[f"{name}_{side}"].mean())
        for name in ("accuracy", "nll")
        for side in ("before", "after")
    }
    retained: dict[str, Cell] = {
        f"retain_{name}{'_before' if before else ''}": number(summary.measure(f"retain_{name}", before=before))
        for name in ("accuracy", "nll")
        for before in (True, False)
    }
    counts: dict[str, Cell] = {
        "forgotten": summary.forgotten_at_end,
        "samples": summary.n_samples,
        "updates": summary.updates,
        "stop": summary.stop_reason,
        "rest": str(rest(summary)),
    }
    return counts | measured | retained


def _thirds(members: Sequence[Member], titles: dict[str, str]) -> Table:
    """Return what became of the hard, the middle and the easy third in each run."""
    rows: dict[str, dict[str, Cell]] = {}
    for member in members:
        config = read_config(member.directory, UnlearnConfig)
        files = UnlearningFiles(member.directory)
        ranked = by_difficulty(pd.read_parquet(files.curriculum), difficulty_column(config.curriculum))
        samples = ranked[["sample_id", "mrd", "tercile"]].merge(pd.read_parquet(files.outcome), on="sample_id")
        for name, third in samples.dropna(subset="mrd").groupby("tercile", sort=False):
            rows[f"{titles[member.name]}, {name}"] = {
                "n": len(third),
                "updates": number(third["updates"].mean()),
                "forgotten": number(third["forgotten_at_end"].astype(np.float64).mean()),
                "accuracy": number(third["accuracy_after"].mean()),
            }
    return Table(
        caption="Hard and easy samples: thirds by the MRD that the run was given",
        head="Run and third",
        columns={
            "n": Column(title="Samples"),
            "updates": Column(title="Updates, mean", form=".2f"),
            "forgotten": Column(title="Share forgotten at the end", form=".2f"),
            "accuracy": Column(title="MA after, mean", form=".2f"),
        },
        rows=rows,
    )


def _steps(members: Sequence[Member], titles: dict[str, str]) -> Table:
    def rows() -> Iterator[tuple[str, dict[str, Cell]]]:
        for member in members:
            steps = UnlearningFiles(member.directory).read_steps()
            samples = summary_of(member).n_samples
            about: dict[str, Cell] = {
                "run": titles[member.name],
                "setting": read_config(member.directory, UnlearnConfig).label,
            }
            table = pd.DataFrame(
                {
                    "updates": np.cumsum([sum(step["trained"]) for step in steps]),
                    "forgotten": np.cumsum([len(step["forgotten"]) for step in steps]) / samples,
                }
            )
            for at, (updates, forgotten) in enumerate(evenly(table, POINTS).itertuples(index=False), start=1):
                cells: dict[str, Cell] = {"updates": int(updates), "forgotten": float(forgotten)}
                yield f"{member.name} {at}", cells | about

    return Table(
        caption="Found forgotten along the updates",
        columns={
            "updates": Column(title="Updates"),
            "forgotten": Column(title="Share", form=".2f"),
            "run": Column(title="Run"),
            "setting": Column(title="Setting"),
        },
        rows=dict(rows()),
        is_listed=False,
    )
