"""What a model that never saw the forget set makes of it: the other side of forget quality, FADE and membership.

Loads torch only to ask a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation.aggregating import REFERENCE_COUNT, REFERENCE_NLL, REFERENCE_RATIO
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.settings.places import expanded

if TYPE_CHECKING:
    from mrd_core.evaluation.subject import Measured, Subject

# What makes a sample what it is.
TEXTS = ("prompt", "answer", "paraphrased_answer", "perturbed_answer")
# What an evaluation of the reference has of a sample, and what it is called beside the model's own.
STORED = {"truth_ratio_raw": REFERENCE_RATIO, "nll": REFERENCE_NLL, "answer_tokens": REFERENCE_COUNT}
NO_TEXTS = (
    "FADE, and membership token by token, take the reference model itself: an evaluation of it does not have "
    "them. Name the model's folder as the reference."
)
OTHER_TOKENS = (
    "The reference reads the forget set as other tokens than the model, so neither FADE nor membership is taken: "
    "both compare token by token."
)


def evaluation_of(reference: str) -> Path | None:
    """Return the directory of the evaluation that the reference is; None where it is a model."""
    directory = expanded(reference)
    return directory if EvaluationFiles(directory).catalogue.exists() else None


def questions_of(config: EvaluateConfig, sets: Sets) -> EvaluationSet:
    """Return the forget set that a reference is asked: the one with perturbed answers, else one of questions.

    Raises:
        UserError: There is none.
    """
    answered = [asked for asked in sets.of_role("forget") if asked.kind == "answers"]
    if not answered:
        raise UserError(
            f"The reference {config.reference}",
            "cannot be held against this forget set: it has no questions with answers.",
            "Leave the reference out, or give a forget set with the columns question and answer (TOFU's "
            "forget10_perturbed has perturbed answers besides, for forget quality).",
        )
    return next((asked for asked in answered if "perturbed_answer" in asked.frame), answered[0])


def evaluated_values(directory: Path, asked: EvaluationSet) -> pd.DataFrame:
    """Return what an evaluation of the reference has of each forget sample; it may have asked others besides.

    Returns:
        Columns sample_id, metric, value: those of `STORED`, the truth ratio where the set has perturbed
        answers.

    Raises:
        UserError: It is not finished, asked other texts under the same ids, or lacks a value of a sample: what is
            left of the set would be tested for the whole of it.
    """
    files = EvaluationFiles.finished(directory)
    _require_same_texts(files, asked)
    values = pd.read_parquet(files.values)
    needed = [name for name in STORED if name != "truth_ratio_raw" or "perturbed_answer" in asked.frame]
    of_forget = (values["split"] == "forget") & values["sample_id"].isin(asked.frame["sample_id"])
    table = values[of_forget & values["metric"].isin(needed)]
    for metric, count in table["metric"].value_counts().reindex(needed, fill_value=0).items():
        if count < len(asked.frame):
            title = "truth ratio" if metric == "truth_ratio_raw" else "likelihood"
            raise UserError(
                f"The evaluation in {directory}",
                f"has the {title} of {count} of the {len(asked.frame)} forget samples, so it cannot be "
                "the reference.",
                "Evaluate the reference model on the same forget set with perturbed answers, or name the model.",
            )
    return table.assign(metric=table["metric"].map(STORED))[["sample_id", "metric", "value"]]


def _require_same_texts(files: EvaluationFiles, asked: EvaluationSet) -> None:
    """Refuse an evaluation that calls other samples alike, such as rows that have their numbers for ids.

    Raises:
        UserError: It is so.
    """
    path = files.sets / "forget.parquet"
    if not path.exists():
        return
    theirs = pd.read_parquet(path).set_index("sample_id")
    ours = asked.frame.set_index("sample_id")
    shared = ours.index.intersection(theirs.index)
    texts = [name for name in TEXTS if name in ours and name in theirs]
    one, other = (frame.loc[shared, texts].map(_plain) for frame in (ours, theirs))
    if count := int((one != other).any(axis=1).sum()):
        raise UserError(
            f"The evaluation in {files.directory}",
            f"asked other texts under the ids of {count} of the {len(ours)} forget samples, so it cannot be the "
            "reference.",
            "Evaluate the reference model on the same forget set, or name the model.",
        )


def _plain(cell: Any) -> Any:
    """Return a cell with lists as tuples, which Parquet gives back as arrays."""
    return tuple(cell) if pd.api.types.is_list_like(cell) else cell


def held_against(config: EvaluateConfig, asked: EvaluationSet, subject: Subject) -> Measured:
    """Return what the reference says of the forget set, and how far the model is from it.

    The reference is the directory of an evaluation, or a model, which is loaded beside the one that is evaluated.

    Raises:
        UserError: There is no such model, or the evaluation does not cover the set, see `evaluated_values`.
    """
    from mrd_core.evaluation.subject import NO_ANSWERS, Measured
    from mrd_core.model import loading as models

    assert config.reference is not None
    if directory := evaluation_of(config.reference):
        values = evaluated_values(directory, asked)
        return Measured(values, NO_ANSWERS, (*_lacking(values, asked), NO_TEXTS))
    changes = {"device": str(subject.model.device), "dtype": config.model.dtype}
    model = models.load(config.model.beside(config.reference).model_copy(update=changes))
    reference = replace(subject, model=model, encoder=model.encoder(config.model))
    return _measured(config, asked, subject, reference)


def _measured(config: EvaluateConfig, asked: EvaluationSet, subject: Subject, reference: Subject) -> Measured:
    from mrd_core.evaluation.answering import truth_ratios
    from mrd_core.evaluation.fade import SEED, Size, fade, membership, same_tokens
    from mrd_core.evaluation.subject import NO_ANSWERS, Measured

    frame = asked.frame
    wide = pd.DataFrame(index=range(len(frame)))
    if "perturbed_answer" in frame:
        wide[REFERENCE_RATIO] = truth_ratios(reference, asked)
    pairs = (frame["prompt"], frame["answer"], frame["sample_id"])
    encoded = subject.encoder.pairs(*pairs)
    tokens, notes = None, []
    if not same_tokens(encoded, reference.encoder.pairs(*pairs)):
        notes.append(OTHER_TOKENS)
    else:
        tokens = membership(subject, reference, asked, encoded)
        wide[REFERENCE_NLL] = -encoded.answer_means(tokens["log_prob_reference"].to_numpy())
        if config.fade_texts:
            room = min(subject.model.context, reference.model.context)
            wide = wide.join(fade(subject, reference, encoded, Size(config.fade_texts, config.fade_tokens, room)))
            notes.append(
                f"FADE: {config.fade_texts} texts of at most {config.fade_tokens} tokens for each of "
                f"{int(wide['fade'].notna().sum())} questions, drawn from either model at temperature 1, "
                f"seed {SEED}."
            )
    measured = Measured.of(frame, wide, NO_ANSWERS)
    return Measured(measured.values, NO_ANSWERS, (*_lacking(measured.values, asked), *notes), tokens)


def _lacking(values: pd.DataFrame, asked: EvaluationSet) -> Iterator[str]:
    ratios = values.loc[values["metric"] == REFERENCE_RATIO, "value"]
    measured, count = int(ratios.notna().sum()), len(asked.frame)
    if len(ratios) and measured < count:
        yield f"The reference has a truth ratio of {measured} of {count} samples; forget quality is of these."
