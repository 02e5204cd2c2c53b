"""The parts of single tokens, by a backward pass a token: what pairs show with noise is exact here.

A sample of n kept tokens becomes n copies of itself, in each of which one token counts. The squared norm of a
copy's gradient is that token's speed; the spread, a sum over the vocabulary, takes sign probes, in which only the
signs of the words are random.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import Probe, SampleGradients, log_odds_direction
from mrd_core.runs import JobContext
from mrd_core.runs.files import write_frame, write_json
from mrd_core.samples import ForgetSet
from mrd_core.scoring.cost import BACKWARD_WITH_NORMS, OPERATIONS_PER_SECOND_AND_CORE
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import FORWARD
from mrd_core.scoring.mrd import Baseline
from mrd_core.scoring.plan import precision, scored_model
from mrd_core.scoring.probes import SpreadDirection
from mrd_core.scoring.token_parts import TokenPartsConfig, TokenPartsFiles, TokenPartsSummary

SPREAD_PROBES = 8
MOST_SECONDS = 180.0
# A GPU is about as fast as so many cores.
GPU_CORES = 1000
_STREAM = 0x70CE


def token_parts_job(config: TokenPartsConfig, context: JobContext) -> dict[str, Any]:
    """Take the tokens of a sample apart, write them and return a summary.

    Raises:
        UserError: There is no such sample, bad model, not the one that was scored, or it would take too long.
        Cancelled: The run was asked to stop.
    """
    files = TokenPartsFiles(context.directory)
    if not files.summary.exists():
        _take_apart(config, files, context)
    return files.read_summary()


def _take_apart(config: TokenPartsConfig, files: TokenPartsFiles, context: JobContext) -> None:
    began = time.monotonic()
    scored = ScoreFiles.finished(config.score_run)
    context.progress(0, 1, message="Loading the model")
    baseline = _baseline(scored, config.sample_id)
    models.set_threads()
    model, encoder = scored_model(scored)
    forget_set = ForgetSet.load(scored.samples)
    sample = encoder.encode(forget_set.subset(forget_set.frame["sample_id"] == config.sample_id))
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    kept = int(baseline.kept.sum())
    probes = _affordable(config.sample_id, 2.0 * weights * kept * int(sample.lengths[0]), model.device)
    context.progress(0, kept, message="Taking the tokens apart")
    with precision(model.dtype):
        gradients = SampleGradients(model.reader(before_batch=context.check_cancelled), sample)
        speed, spreads = parts_of_tokens(gradients, sample, baseline, probes)
    write_frame(files.tokens, _frame(speed, spreads))
    seconds = round(time.monotonic() - began, 3)
    summary = TokenPartsSummary(n_samples=1, tokens=kept, probes=probes, seconds=seconds, warnings=[])
    write_json(files.summary, summary.as_json())


def parts_of_tokens(
    gradients: SampleGradients, sample: Encoded, baseline: Baseline, probes: int = SPREAD_PROBES
) -> tuple[FloatArray, FloatArray]:
    """Return the speed of each token, exactly, and estimates of its spread by sign probes.

    Args:
        gradients: Of the model.
        sample: One sample of T scored positions.
        baseline: Of the same sample.
        probes: Estimates of each token's spread.

    Returns:
        Shapes (T,) and (probes, T); NaN where a token is left out.
    """
    places, width = np.flatnonzero(baseline.kept), len(baseline.log_probs)
    speed, spreads = np.full(width, np.nan), np.full((probes, width), np.nan)
    if not len(places):
        return speed, spreads
    copies = sample.subset(np.zeros(len(places), dtype=np.int64))
    own = np.arange(len(places)) * width + places
    of_speed, of_spread = np.zeros(len(copies.owner)), np.zeros(len(copies.owner))
    doubt, weight = baseline.doubt[places], baseline.weight[places]
    of_speed[own], of_spread[own] = np.sqrt(weight * doubt * (1 - doubt)), np.sqrt(weight * doubt)
    asked = [Probe(of_speed, log_odds_direction)]
    asked += [Probe(of_spread, SpreadDirection((sign, _STREAM))) for sign in range(probes)]
    squared = gradients.squared_norms(copies, asked)
    speed[places], spreads[:, places] = squared[0], squared[1:]
    return speed, spreads


def _baseline(scored: ScoreFiles, sample_id: str) -> Baseline:
    tokens = pd.read_parquet(scored.tokens, filters=[("sample_id", "==", sample_id)], columns=["log_prob"])
    if tokens.empty:
        raise UserError(
            f"The sample {sample_id!r}", "is none of the score run.", "Name one by its id, as in scores.parquet."
        )
    return Baseline(tokens["log_prob"].to_numpy(np.float64)[1:])


def _affordable(sample_id: str, operations: float, device: torch.device) -> int:
    """Return how many probes of the spread there is time for, given the operations of a forward pass.

    Raises:
        UserError: There is none for the speed.
    """
    cores = GPU_CORES if device.type == "cuda" else (os.cpu_count() or 1)
    a_pass = operations / (OPERATIONS_PER_SECOND_AND_CORE * cores)
    of_speed = a_pass * (FORWARD + BACKWARD_WITH_NORMS)
    if of_speed > MOST_SECONDS:
        raise UserError(
            f"The sample {sample_id!r}",
            f"would take about {of_speed / 60:.0f} minutes here, a backward pass of the model for each token.",
            "Choose a shorter sample, use a GPU, or look at what the pairs of a full run show of its tokens.",
        )
    affordable = of_speed + a_pass * SPREAD_PROBES * BACKWARD_WITH_NORMS <= MOST_SECONDS
    return SPREAD_PROBES if affordable else 0


def _frame(speed: FloatArray, spreads: FloatArray) -> pd.DataFrame:
    nothing = np.full(len(speed), np.nan)
    return pd.DataFrame(
        {
            "position": np.arange(1, len(speed) + 1),
            "speed": speed,
            "speed_se": np.where(np.isnan(speed), np.nan, 0.0),
            "spread": spreads.mean(axis=0) if len(spreads) else nothing,
            "spread_se": spreads.std(axis=0, ddof=1) / np.sqrt(len(spreads)) if len(spreads) else nothing,
        }
    )
