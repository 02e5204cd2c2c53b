"""Own files, the demo, or the sets of an unlearning run: forget, retain and held-out samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mrd_core.errors import UserError
from mrd_core.evaluation import source
from mrd_core.evaluation.sets import EvaluationSet, Role, Sets
from mrd_core.evaluation.suite import Suite
from mrd_core.evaluation.wikitext import TEXT_NAMES, texts_of
from mrd_core.runs.kind import kind_named
from mrd_core.samples import ForgetSet, read, read_split, to_forget_set
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig

_TITLES: dict[str, tuple[str, Role]] = {
    "forget": ("forget set", "forget"),
    "retain": ("retain set", "retain"),
    "held_out": ("held-out set", "unseen"),
}
_MISSING = {
    "retain": "nothing is said of what was kept, and no membership inference against it",
    "held_out": "no membership inference against unseen samples",
}


def load(config: EvaluateConfig) -> Sets:
    """Return the sets: those that are named, else those in `data`, else those of the run that is evaluated.

    The folder `data` may also have `texts`, or `wikitext`, for perplexity.

    Raises:
        UserError: There is no forget set, or a file is no good.
    """
    samples = {name: _samples(config, name) for name in _TITLES}
    if samples["forget"] is None:
        raise UserError(
            f"The folder {config.data}",
            "has no forget set.",
            "Put a file named forget.jsonl (.json, .csv, .parquet) there, or name the forget set itself.",
        )
    notes = [f"There is no {_TITLES[name][0]}: {_MISSING[name]}." for name in samples if samples[name] is None]
    notes.append(
        "There are no perturbed answers: accuracy is whether the answer's string occurs in what is written."
    )
    sets = [
        EvaluationSet(name, *_TITLES[name], "answers", asked.frame[["sample_id", "prompt", "answer"]])
        for name, asked in samples.items()
        if asked is not None
    ]
    if config.data is not None:
        notes += source.unread(config.data, [*_TITLES, *TEXT_NAMES])
        if not source.on_hub(config.data) and config.data != "demo" and (texts := texts_of(config.data, notes)):
            sets.append(texts)
    return Sets(tuple(sets), tuple(notes))


def _samples(config: EvaluateConfig, name: str) -> ForgetSet | None:
    named: ForgetSetConfig | None = getattr(config, name)
    if named is not None:
        return read_split(named, name)
    if config.data == "demo":
        return read(ForgetSetConfig(source="demo", split=name))
    if config.data is not None and source.on_hub(config.data):
        raise UserError(
            f"The data set {config.data}",
            "is on the hub, where it is not known which of its splits plays which part.",
            "Name each set: --forget-set NAME --forget-set-split …, --retain-set …, --held-out-set ….",
        )
    if config.data is not None and (table := source.table(config.data, name)) is not None:
        return to_forget_set(table, ForgetSetConfig(source=table.name))
    # The runs that are evaluated keep a copy of their own.
    kept: Path | None = None
    if config.unlearn_run is not None:
        artifact = kind_named("unlearn").artifacts.get({"forget": "samples"}.get(name, name))
        kept = config.unlearn_run / artifact.path if artifact else None
    elif config.score_run is not None and name == "forget":
        kept = ScoreFiles(config.score_run).samples
    return ForgetSet.load(kept) if kept is not None and kept.exists() else None


SUITE = Suite(
    title="Own files",
    kind="answers",
    load=load,
    data="By default the forget set of each run, and the retain and held-out sets that are known.",
    fields=("reference",),
)
