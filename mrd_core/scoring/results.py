"""After the last draw: scores, tokens and the figures of the whole run."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mrd_core.arrays import BoolArray, FloatArray, ratio
from mrd_core.model.encoding import Encoded
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value, write_atomically, write_frame, write_json
from mrd_core.samples import ForgetSet
from mrd_core.scoring.columns import IN_SCOPE, scope_column
from mrd_core.scoring.config import EstimatorConfig, Normalisation
from mrd_core.scoring.drawing import Drawn
from mrd_core.scoring.draws import SCOPES, Draws, parts, reliability, scores, variants
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import GRADIENT_MEASURES, KNOWN, PLAIN_MEASURES
from mrd_core.scoring.measuring import measure
from mrd_core.scoring.mrd import PARTS, Baseline, Unit, per_sample
from mrd_core.scoring.plan import Prepared, precision, weights_in
from mrd_core.scoring.records import ScoreSummary
from mrd_core.scoring.schedule import MOST_PREVIEW

# Beyond these a run says of itself that its ranking is not to be trusted.
UNRELIABLE_RELATIVE_SE = 0.3
UNRELIABLE = 0.7
# Tokens that are read to show those of one sample.
TOKENS_AT_ONCE = 20_000

FLOOR_PASSES = 5

PREVIEW = "Preview: speed + spread, not MRD. It leaves out the curvature, the third part of MRD."


def score_frame(draws: Draws, prepared: Prepared, config: EstimatorConfig) -> pd.DataFrame:
    """Return one row per sample: the chosen variant with its error, what it was measured on, all variants."""
    frame = scores(draws, config.scope, config.normalisation)
    encoded, log_probs = prepared.stage.passes.encoded, prepared.baseline.log_probs
    measured = pd.DataFrame()
    for place, scope in enumerate(SCOPES):
        covered = encoded.in_scope(scope)
        tokens = per_sample(covered.astype(np.float64), encoded)
        total = per_sample(np.where(covered, log_probs, 0.0), encoded)
        measured[scope_column("n_tokens", scope)] = tokens.astype(np.int64)
        measured[scope_column("excluded_tokens", scope)] = tokens.astype(np.int64) - draws.kept[:, place]
        measured[scope_column("mean_log_prob", scope)] = ratio(total, tokens)
    for name in IN_SCOPE:
        frame[name] = measured[scope_column(name, config.scope)]
    frame["truncated"] = [sample.truncated for sample in encoded.samples]
    return pd.concat([frame, measured, parts(draws, config.scope, config.normalisation), variants(draws)], axis=1)


def token_frame(units: list[Unit], encoded: Encoded, baseline: Baseline, sigma: float | None) -> pd.DataFrame:
    """Return one row per token, the first of each sample included, which has no prediction.

    Columns: sample_id, position, piece, in_answer, excluded, log_prob [nats], relative_change (mean over the
    draws of ΔP/P) and, for pairs that were looked at for their parts, speed, spread and curvature, half of whose
    sum is −relative_change/σ²; each of the four with its standard error (`_se`). In a preview, which has no σ, the
    change is not known.
    """
    excluded = ~baseline.kept
    unknown = [np.full(len(excluded), np.nan, np.float32)]
    changes = {"relative_change": [unit.tokens for unit in units] or unknown}
    looked = [(unit.tokens, unit.token_parts) for unit in units if unit.token_parts is not None]
    if looked and sigma is not None:
        speed, spread = ([parts[place] for _, parts in looked] for place in range(len(PARTS)))
        rest = [-2 / sigma**2 * change - parts.sum(axis=0) for change, parts in looked]
        changes |= {"speed": speed, "spread": spread, "curvature": rest}
    estimates = {name: _estimated(values) for name, values in changes.items()}
    lengths = encoded.lengths
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # Laid out in order at once: to sort the texts of a large set takes many times what they hold.
    flat = {
        "log_prob": baseline.log_probs,
        **{
            f"{name}{ending}": np.where(excluded, np.nan, values)
            for name, both in estimates.items()
            for ending, values in zip(("", "_se"), both, strict=True)
        },
        "in_answer": encoded.answer,
        "excluded": excluded,
    }
    frame = pd.DataFrame({name: _with_firsts(values, position == 0) for name, values in flat.items()})
    ids = pd.array(list(encoded.sample_ids), dtype="str")
    frame["sample_id"] = ids.take(np.repeat(np.arange(len(encoded)), lengths))
    frame["position"] = position
    frame["piece"] = pd.array([piece for sample in encoded.samples for piece in sample.pieces], dtype="str")
    return frame


def _estimated(values: list[npt.NDArray[np.float32]]) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard error of independent values of every token, shape (T,) each."""
    # Summed in the order of the units.
    count = len(values)
    mean = sum((of_unit.astype(np.float64) for of_unit in values), np.zeros(len(values[0]))) / count
    squares = sum(((of_unit - mean) ** 2 for of_unit in values), np.zeros_like(mean))
    error = np.sqrt(squares / max(count - 1, 1) / count) if count > 1 else np.full_like(mean, np.nan)
    return mean, error


def _with_firsts(flat: npt.NDArray[Any], is_first: BoolArray) -> npt.NDArray[Any]:
    """Return values of the flat axis with NaN or False for the first token of each sample, which has none."""
    column = np.full(len(is_first), np.nan if flat.dtype.kind == "f" else False, dtype=flat.dtype)
    column[~is_first] = flat
    return column


def measure_frame(
    prepared: Prepared, config: EstimatorConfig, forget_set: ForgetSet, context: JobContext
) -> pd.DataFrame:
    """Return what `ScoreFiles.measures` holds, measured in the precision of the draws."""
    stage = prepared.stage
    with precision(stage.model.dtype):
        frame = measure(
            stage.reader,
            stage.passes.encoded,
            training_counts=forget_set.frame["training_count"],
            gradients=config.gradient_norms != "no",
            announce=lambda message: context.event("info", message),
            layout=prepared.layout,
        )
    return frame.reindex(columns=["sample_id", *PLAIN_MEASURES, *GRADIENT_MEASURES])


def summarise(
    drawn: Drawn, frame: pd.DataFrame, measures: pd.DataFrame, prepared: Prepared, config: EstimatorConfig
) -> ScoreSummary:
    """Return the figures that say how far the ranking can be trusted.

    Args:
        drawn: What was drawn.
        frame: What `ScoreFiles.scores` holds.
        measures: What `ScoreFiles.measures` holds.
        prepared: Model and plan.
        config: What was drawn.
    """
    draws, reached = drawn.draws, drawn.reached
    plan, encoded = prepared.plan, prepared.stage.passes.encoded
    lengths = frame["n_tokens"].to_numpy(np.float64)
    by_length = {
        norm: json_value(reliability(draws.ranked(config.scope, norm), lengths)) for norm in Normalisation
    }
    settings = config.model_dump(include={"mode", "preset", "preview", "scope", "normalisation", "seed"})
    decided = plan.model_dump(include={"sigma", "device", "dtype", "workers", "threads", "reasons"})
    precise = {name: json_value(value) for name, value in asdict(reached).items()}
    measured = {
        "probes": 0 if draws.probes is None else len(draws.probes),
        "passes": drawn.passes,
        "preview_rho": json_value(_rank_correlation(frame["speed_and_spread"], frame["mrd"])),
        "n_samples": len(encoded),
        "reliability_mean_length_partialled": by_length[Normalisation.MEAN],
        "reliability_sum_length_partialled": by_length[Normalisation.SUM],
        "batch_tokens": prepared.stage.passes.batch_tokens,
        "gate": plan.gate and plan.gate | {"passed": plan.gate_passed},
        "excluded_tokens": int(frame["excluded_tokens"].sum()),
        "scored_tokens": int(frame["n_tokens"].sum()),
        "tokens": int(encoded.lengths.sum()),
        "truncated_samples": int(frame["truncated"].sum()),
        "undefined_samples": int(np.isnan(draws.ranked(config.scope, config.normalisation).mean).sum()),
        "unknown_samples": int((measures["exact_memorization"] < KNOWN).sum()),
        "model_parameters": weights_in(prepared.stage),
        "stopped_early": reached.reaches(config),
        "device_kinds": drawn.device_kinds,
    }
    summary = ScoreSummary.model_validate(settings | decided | precise | measured)
    return summary.model_copy(update={"warnings": [*warnings_of(summary, config), *plan.warnings]})


def _rank_correlation(some: pd.Series[float], others: pd.Series[float]) -> float:
    """Return Spearman's ρ over the samples that have both; NaN for fewer than 3, or where either is constant."""
    both = some.notna() & others.notna()
    varies = both.sum() > 2 and min(some[both].nunique(), others[both].nunique()) > 1
    return float(some[both].rank().corr(others[both].rank())) if varies else np.nan


def warnings_of(summary: ScoreSummary, config: EstimatorConfig) -> list[str]:
    """Return, in words, why the ranking may not be trusted; empty when nothing speaks against it."""
    warnings = [PREVIEW] if summary.preview else []
    if len(summary.device_kinds) > 1:
        warnings.append(
            f"Units were drawn on {' and on '.join(summary.device_kinds)}, which round differently: a run on one "
            "of them would end on other last digits."
        )
    if not summary.gate.get("passed", True):
        warnings.append(f"The precision gate was not passed: {summary.gate['reason']}")
    error = summary.median_relative_se
    if error is not None and error > UNRELIABLE_RELATIVE_SE:
        warnings.append(
            f"The median relative standard error is {error:.2f}, above {UNRELIABLE_RELATIVE_SE}: the values of "
            "single samples are mostly noise. How well they rank is judged by the reliability."
        )
    by_sum = config.normalisation is Normalisation.SUM
    trust = summary.reliability_sum if by_sum else summary.reliability_mean
    if trust is not None and trust < UNRELIABLE:
        warnings.append(
            f"The reliability of the ranking by the {config.normalisation} is {trust:.2f}, below {UNRELIABLE}: an "
            "equal run would rank the samples differently."
        )
    if config.mode == "antithetic" and config.stop != "never" and not summary.stopped_early:
        targets = {
            "precision": f"median relative SE {config.median_relative_se:g}, 90th percentile "
            f"{config.p90_relative_se:g}",
            "reliability": f"reliability {config.reliability:g}",
        }
        asked = targets.values() if config.stop == "auto" else [targets[config.stop]]
        cap = f"{MOST_PREVIEW} units of sign probes" if config.preview else f"{config.draws} evaluations"
        warnings.append(f"The cap of {cap} was reached before the target ({', or '.join(asked)}).")
    if summary.unknown_samples:
        warnings.append(
            f"{summary.unknown_samples} of {summary.n_samples} samples are not known: of their answers less than "
            f"{KNOWN:.0%} of the tokens are the model's first choice. There is nothing to forget in them, and MRD "
            "does not show it: on three models it was smaller, as if harder, for texts that they had never seen."
        )
    if summary.undefined_samples:
        warnings.append(f"{summary.undefined_samples} sample(s) have no token that could be scored.")
    if summary.truncated_samples:
        warnings.append(f"{summary.truncated_samples} sample(s) are longer than the model's context and were cut.")
    return warnings


@torch.no_grad()
def floor_pass_seconds(prepared: Prepared) -> float:
    """Return the median time of a few warm passes of the bare model with one log-softmax [s].

    The same batches in the same dtype: what a perturbed evaluation would cost if MRD cost nothing.
    """
    network, passes = prepared.stage.model.network, prepared.stage.passes
    times = []
    with precision(prepared.stage.model.dtype):
        for _ in range(FLOOR_PASSES):
            began = time.perf_counter()
            for batch in passes.batches:
                network(input_ids=batch.ids, use_cache=False).logits.log_softmax(-1)
            if passes.reader.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def write_results(
    files: ScoreFiles, frame: pd.DataFrame, draws: Draws, tokens: pd.DataFrame, summary: ScoreSummary
) -> None:
    """Write the results, the summary last: its presence says that the run is done."""
    write_frame(files.scores, frame)
    write_atomically(files.draws, draws.save)
    if draws.probes is not None:
        write_atomically(files.probes, draws.save_probes)
    write_frame(files.tokens, tokens, TOKENS_AT_ONCE)
    write_json(files.summary, summary.as_json())
