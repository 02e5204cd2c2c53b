"""What an unlearning run takes along when it is asked for: the samples and their weights, from the score run.

Loads no torch.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import write_frame, write_json
from mrd_core.samples import ForgetSet, read, read_split
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring.columns import MRD_TITLES, SAMPLE_ID, scope_column
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import ENTANGLEMENT_COLUMNS, imported
from mrd_core.scoring.records import Scored
from mrd_core.settings.command import shown
from mrd_core.unlearning import refusals
from mrd_core.unlearning.config import ENTANGLEMENT, StoppingConfig, UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum

# Of the scores these are kept beside the weights, for the charts by difficulty.
KEPT = {
    SAMPLE_ID: SAMPLE_ID,
    **{name: scope_column(name, Scope.ANSWER) for name in ("n_tokens", "mean_log_prob")},
    **{name: name for name in MRD_TITLES},
}


def require_retain(config: UnlearnConfig) -> None:
    """Refuse a method that cannot do without a retain set where there is none.

    Raises:
        UserError: It is so.
    """
    method = METHODS[config.method]
    if method.needs_retain and config.retain.samples is None:
        raise UserError(
            f"The method {method.label}",
            "needs a retain set: its loss has a term that keeps what the model is to remember.",
            "Name one (--retain-set), or choose a method that can do without, such as ga.",
        )


def copy_samples(config: UnlearnConfig, files: UnlearningFiles) -> None:
    """Write the samples that are to be unlearned, and the curriculum's weights, into a run's directory.

    Raises:
        UserError: The score run is not finished, or the sampler, the stratum, the retain or the held-out set is
            no good.
    """
    require_retain(config)
    drawn = config.curriculum.uses_draws
    scored = (ScoreFiles.with_mrd if drawn else ScoreFiles.finished)(config.score_run)
    forget_set = ForgetSet.load(scored.samples)
    if config.stratum is not None:
        ids = set(read(ForgetSetConfig(source=str(config.stratum))).frame["sample_id"])
        forget_set = forget_set.subset(forget_set.frame["sample_id"].isin(ids))
        if not len(forget_set):
            raise UserError(
                f"The stratum '{config.stratum.stem}'",
                "has no sample in common with the score run.",
                "Choose a stratum that was saved from this forget set, or score the stratum by itself.",
            )
    curriculum = curriculum_frame(config, weighing(scored), list(forget_set.frame["sample_id"]))
    if METHODS[config.method].has_refusals:
        lines = refusals.load(config.refusals) if config.refusals else refusals.load()
        files.refusals.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if config.retain.samples is not None:
        without(read_split(config.retain.samples, "retain"), forget_set).save(files.retain)
    if config.stopping.source == "held-out":
        held_out_set(config.stopping).save(files.held_out)
    forget_set.save(files.samples)
    write_json(files.scored, scored_by(config.score_run).model_dump())
    # Last, since its presence says that all is there.
    write_frame(files.curriculum, curriculum)


def weighing(scored: ScoreFiles) -> pd.DataFrame:
    """Return what samples can be weighed or sorted by: the scores of a run, its imported columns, its measures.

    Of columns that share a name the first of these is meant.
    """
    scores = pd.read_parquet(scored.scores)
    others = {name: column.values for name, column in imported(scored).columns.items() if name not in scores}
    scores = scores.assign(
        **{name: scores[SAMPLE_ID].map(values).astype("float64") for name, values in others.items()}
    )
    if not scored.measures.exists():
        return scores
    measures = pd.read_parquet(scored.measures)
    new = measures[[SAMPLE_ID, *(name for name in measures if name not in scores)]]
    return scores.merge(new, "left", SAMPLE_ID, validate="one_to_one")


def curriculum_frame(config: UnlearnConfig, scores: pd.DataFrame, sample_ids: list[str]) -> pd.DataFrame:
    """Return what `UnlearningFiles.curriculum` holds, for these samples in this order.

    Raises:
        UserError: There is no such column, or none yet, or the sampler cannot weigh by it.
    """
    name = config.curriculum.column
    if name in ENTANGLEMENT_COLUMNS and name not in scores:
        raise UserError(
            f"The column '{name}'",
            "is not measured yet: it takes a retain set.",
            f"Measure it: {_measuring(config)}",
        )
    if name not in scores or not pd.api.types.is_numeric_dtype(scores[name]):
        numeric = ", ".join(column for column in scores.select_dtypes("number").columns)
        raise UserError(f"The column '{name}'", "is no number of the scores.", f"Choose one of: {numeric}.")
    chosen = scores.set_index("sample_id", drop=False).loc[sample_ids]
    frame = pd.DataFrame({kept: chosen[column].to_numpy() for kept, column in KEPT.items()})
    weights = dict(zip(sample_ids, chosen[name].astype(float), strict=True))
    curriculum = Curriculum(SAMPLERS[config.curriculum.sampler], weights, config.seed)
    shares = dict(zip(curriculum.pool.ids, curriculum.shares(), strict=True))
    return frame.assign(weight=list(weights.values()), share=[shares[sample] for sample in sample_ids])


def _measuring(config: UnlearnConfig) -> str:
    """Return the command that measures a curriculum's column of entanglement."""
    retain, name = config.retain.samples, config.curriculum.column
    measure = [] if name == ENTANGLEMENT else ["--measure", name.replace("-", "_")]
    source = retain.source if retain else "RETAIN_SET"
    return shown("columns", "entanglement", config.score_run, "--retain-set", source, *measure)


def scored_by(score_run: Path) -> Scored:
    """Return what a run on these scores keeps of their summary."""
    return ScoreFiles(score_run).read_figures().scored(read_config(score_run, ScoreConfig).title)


def held_out_set(stopping: StoppingConfig) -> ForgetSet:
    """Return the samples that the thresholds are taken from, read from their source.

    Raises:
        UserError: As in `samples.read`.
    """
    assert stopping.held_out is not None  # the configuration sees to it
    return read_split(stopping.held_out, "held_out")


def overlap(held_out: ForgetSet, forget_set: ForgetSet) -> list[str]:
    """Return the warning that held-out samples are in the forget set too, or none."""
    forgotten = set(zip(forget_set.frame["prompt"], forget_set.frame["answer"], strict=True))
    rows = zip(held_out.frame["prompt"], held_out.frame["answer"], strict=True)
    count = sum(row in forgotten for row in rows)
    return [f"{count} rows of the held-out set are in the forget set too: the threshold leans on them."] * (
        count > 0
    )


def without(retain_set: ForgetSet, forget_set: ForgetSet) -> ForgetSet:
    """Return the retain set without the forget samples: nobody can keep and forget the same text."""
    forgotten = set(zip(forget_set.frame["prompt"], forget_set.frame["answer"], strict=True))
    rows = zip(retain_set.frame["prompt"], retain_set.frame["answer"], strict=True)
    kept = retain_set.subset(pd.Series([row not in forgotten for row in rows], index=retain_set.frame.index))
    if not len(kept):
        raise UserError(
            "The retain set",
            "has no row that is not in the forget set.",
            "Name the samples that the model is to keep.",
        )
    return kept
