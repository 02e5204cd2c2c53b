"""After the last step: what was forgotten, what was kept, what it cost, and the model that is left."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.demo import MODEL_DIR
from mrd_core.errors import UserError
from mrd_core.model.loading import name_of
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value, write_frame
from mrd_core.scoring.cost import PLANNING_EVALUATIONS
from mrd_core.unlearning.best import with_weights
from mrd_core.unlearning.card import card
from mrd_core.unlearning.card_findings import findings
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.cost import forward_flops, read_by_starting_model, update_flops
from mrd_core.unlearning.damage import rest
from mrd_core.unlearning.feed import Standing
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.preparation import Prepared, Start, retain_measures
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.stopping import StopReason


@dataclass(frozen=True)
class Ending:
    """How training ended.

    Attributes:
        reason: Why.
        standing: Where.
        draws: How often each sample was drawn, by id.
        peak_memory_mb: Most memory of the device that was in use [MiB].
    """

    reason: StopReason
    standing: Standing
    draws: dict[str, int]
    peak_memory_mb: float


@dataclass(frozen=True)
class _After:
    """What the unlearned model makes of the samples; as in `Start`."""

    accuracy: FloatArray
    nll: FloatArray
    forgotten: BoolArray
    retained: tuple[float, float] | None


def conclude(
    config: UnlearnConfig,
    prepared: Prepared,
    start: Start,
    ending: Ending,
    files: UnlearningFiles,
    context: JobContext,
) -> UnlearningSummary:
    """Measure the unlearned model, store what is found of each sample, and return the figures of the run.

    Raises:
        UserError: The last step spoilt the weights.
    """
    context.progress(1, 1, message="Measuring the model after unlearning")
    measured = prepared.memorized(prepared.forget)
    verdict = start.thresholds.verdict(
        measured.remembered, lambda samples: prepared.extraction(prepared.forget, samples)
    )
    after = _After(measured.accuracy, measured.nll, verdict.forgotten, retain_measures(prepared))
    if not np.isfinite(after.nll).all():
        raise spoilt("The loss after the last step", prepared.learning_rate)
    before = pd.read_parquet(files.before).merge(pd.read_parquet(files.answers_before), "left", "sample_id")
    frame = _outcome(prepared, before, after, ending)
    tokens = pd.read_parquet(files.tokens_before).rename(columns={"log_prob": "log_prob_before"})
    log_probs = prepared.answer_log_probs()["log_prob"].to_numpy()
    write_frame(files.tokens, tokens.assign(log_prob_after=log_probs))
    write_frame(files.outcome, frame)
    return _summary(config, prepared, start, ending, after)


def save_model(
    config: UnlearnConfig, prepared: Prepared, summary: UnlearningSummary, files: UnlearningFiles
) -> None:
    """Write the result: a folder that `from_pretrained` loads, or an adapter, with its card. Whole or absent."""

    def save(folder: Path) -> None:
        save_weights(config, prepared, folder)
        text = card(config, summary, findings(files, config.score_run))
        (folder / "README.md").write_text(text, encoding="utf-8")

    with_weights(files.model, save)


def save_weights(config: UnlearnConfig, prepared: Prepared, folder: Path) -> None:
    """Write the present weights, or the adapter, and the tokenizer into a folder."""
    # An adapter says what it belongs on: where another was merged in, nothing that peft could load.
    base = str(MODEL_DIR) if config.model.source == "demo" else config.model.source
    for settings in getattr(prepared.trained, "peft_config", {}).values():
        settings.base_model_name_or_path = None if config.model.adapter else base
        # Where that is None, peft takes this name.
        prepared.model.network.name_or_path = settings.base_model_name_or_path or ""
    prepared.trained.save_pretrained(folder)
    prepared.model.tokenizer.save_pretrained(folder)


def spoilt(what: str, learning_rate: float) -> UserError:
    """Return the error of a run whose weights are no good any more, as the loss `what` shows."""
    return UserError(
        what,
        "is not a finite number, so the weights are spoilt; the run has no result, and its log and its last "
        "checkpoint are kept.",
        f"Start a new run with a smaller learning rate (it was {learning_rate:g}), a method whose loss is bounded "
        "such as npo, or a utility guard.",
    )


def _outcome(prepared: Prepared, before: pd.DataFrame, after: _After, ending: Ending) -> pd.DataFrame:
    ids = list(prepared.forget.sample_ids)
    written = np.flatnonzero(before["own_answer"].notna())
    answers = np.full(len(ids), None, dtype=object)
    answers[written] = prepared.own_answers(written)
    standing = ending.standing
    return pd.DataFrame(
        {
            "sample_id": ids,
            "updates": [standing.updates.get(sample, 0) for sample in ids],
            "draws": [ending.draws.get(sample, 0) for sample in ids],
            "forgotten_step": pd.array([standing.forgotten.get(sample) for sample in ids], dtype="Int64"),
            "forgotten_at_end": after.forgotten,
            "accuracy_before": before["accuracy"],
            "accuracy_after": after.accuracy,
            "nll_before": before["nll"],
            "nll_after": after.nll,
            "own_answer_before": before["own_answer"],
            "own_answer_after": answers,
        }
    )


def _summary(
    config: UnlearnConfig, prepared: Prepared, start: Start, ending: Ending, after: _After
) -> UnlearningSummary:
    standing, count = ending.standing, len(prepared.forget)
    ends = zip(prepared.forget.sample_ids, after.forgotten, strict=True)
    came_back = sum(sample in standing.forgotten and not forgotten for sample, forgotten in ends)
    figures = config.model_dump(include={"method", "seed", "study"})
    figures |= config.curriculum.model_dump(include={"sampler", "column"}) | {
        "n_samples": count,
        "updates": sum(standing.updates.values()),
        "draws": standing.draws,
        "steps": standing.steps,
        "epochs": standing.draws / count,
        "forgotten": len(standing.forgotten),
        "forgotten_at_end": int(after.forgotten.sum()),
        "came_back": came_back,
        "stop_reason": ending.reason.value,
        "label": config.label,
        "setting": config.setting,
        "learning_rate": prepared.learning_rate,
        "device": str(prepared.model.device),
        "dtype": name_of(prepared.model.dtype),
        "adapter": config.optimiser.lora_rank is not None,
        "thresholds": asdict(start.thresholds),
        **prepared.evenness,
        "peak_memory_mb": round(ending.peak_memory_mb, 1),
        "memory": prepared.memory,
        "reasons": prepared.reasons,
        "warnings": prepared.warnings + _warnings(ending, came_back, count),
    }
    for measured, suffix in ((start, "_before"), (after, "")):
        figures[f"forget_nll{suffix}"] = float(measured.nll.mean())
        figures[f"forget_accuracy{suffix}"] = float(measured.accuracy.mean())
        accuracy, nll = measured.retained or (None, None)
        figures |= {f"retain_accuracy{suffix}": json_value(accuracy), f"retain_nll{suffix}": json_value(nll)}
    summary = UnlearningSummary.model_validate(figures | _costs(config, prepared, start, standing))
    return summary.model_copy(update={"rest": rest(summary).value})


def _costs(config: UnlearnConfig, prepared: Prepared, start: Start, standing: Standing) -> dict[str, Any]:
    """Return what the run cost, and what MRD did: all of the score run where the order depends on it."""
    size, settings = prepared.parameters, config.optimiser
    scored = start.scored if config.curriculum.uses_draws else start.scored.without_cost()
    # Baseline, pilot and gate are passes too.
    passes = scored.evaluations + (PLANNING_EVALUATIONS if scored.evaluations else 0)
    trained = update_flops(
        size,
        standing.tokens_trained + standing.tokens_retained,
        adapter=settings.lora_rank is not None,
        checkpointing=settings.gradient_checkpointing,
    )
    read = standing.tokens_trained, standing.tokens_refused, standing.tokens_retained
    reference = forward_flops(size, read_by_starting_model(config, *read))
    names = ("evaluations", "tokens_trained", "tokens_retained", "tokens_checked")
    return {name: getattr(standing, name) for name in names} | {
        "seconds_training": round(standing.seconds - standing.seconds_beside_training, 3),
        "seconds_checks": round(standing.seconds_checks, 3),
        "seconds_evaluations": round(standing.seconds_evaluations, 3),
        "mrd_forward_evaluations": scored.evaluations + standing.mrd_evaluations,
        "mrd_seconds": round(scored.seconds + standing.seconds_mrd, 3),
        "flops_training": trained + reference,
        "flops_checks": forward_flops(size, standing.tokens_checked),
        "flops_evaluations": forward_flops(size, standing.tokens_evaluated),
        "flops_mrd": forward_flops(scored.model_parameters, passes * scored.tokens)
        + forward_flops(size, standing.tokens_mrd),
        "model_parameters": size,
        "trainable_parameters": sum(
            weight.numel() for weight in prepared.trained.parameters() if weight.requires_grad
        ),
    }


def _warnings(ending: Ending, came_back: int, count: int) -> list[str]:
    warnings = []
    if came_back:
        warnings.append(
            f"{came_back} of the {len(ending.standing.forgotten)} samples that were found forgotten are not "
            "so any more at the end: later steps on other samples brought them back."
        )
    if ending.reason is not StopReason.ALL_FORGOTTEN and len(ending.standing.forgotten) < count:
        left = count - len(ending.standing.forgotten)
        warnings.append(f"The run ended ({ending.reason.value}) with {left} samples not found forgotten.")
    return warnings
