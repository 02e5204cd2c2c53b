"""Draws of a few samples at several σ, token by token, for looking at how a pair of opposite noise cancels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mrd_core.arrays import FloatArray
from mrd_core.dossier.files import SHAKEN
from mrd_core.model.likelihood import Passes
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.runs import JobContext
from mrd_core.runs.directory import read_config
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import measure_baseline
from mrd_core.scoring.plan import load_stage

SIGMAS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
SEEDS = range(8)
# Most answer tokens of a sample that is looked at: they stand beside each other.
MOST_TOKENS = 16


def typical(score_run: Path) -> list[str]:
    """Return a hard, a middling and an easy sample with a short answer: at 10, 50 and 90 % of their ranking."""
    scores = pd.read_parquet(ScoreFiles(score_run).scores)
    short = scores[scores["n_tokens_answer"] <= MOST_TOKENS].sort_values("mrd_answer_mean", ignore_index=True)
    return [str(short["sample_id"][round(at * (len(short) - 1))]) for at in (0.1, 0.5, 0.9)]


def shaken(
    score_run: Path, sample_ids: Sequence[str], sigmas: Sequence[float] = SIGMAS, seeds: Sequence[int] = SEEDS
) -> pd.DataFrame:
    """Return what each answer token of some samples does under δ and −δ, as `SHAKEN` describes it.

    Args:
        score_run: Directory of a finished score run.
        sample_ids: Of its samples.
        sigmas: Standard deviations of the noise.
        seeds: Each a direction that is the same at every σ.
    """
    config = read_config(score_run, ScoreConfig)
    forget_set = ForgetSet.load(ScoreFiles(score_run).samples)
    stage = load_stage(config, forget_set, score_run, JobContext(score_run))
    places = [stage.passes.encoded.sample_ids.index(name) for name in sample_ids]
    passes = stage.passes.of(np.array(places))
    of_tokens = _tokens(passes, measure_baseline(passes, stage.model.dtype).log_probs)
    in_answer = passes.encoded.in_scope(Scope.ANSWER)
    frames = []
    for sigma, seed in product(sigmas, seeds):
        plus, minus = (_log_probs(passes, seed, sigma, sign) for sign in (1, -1))
        frames.append(of_tokens.assign(sigma=sigma, seed=seed, plus=plus, minus=minus)[in_answer])
    return pd.concat(frames, ignore_index=True)[[column.name for column in SHAKEN]]


def _tokens(passes: Passes, log_probs: FloatArray) -> pd.DataFrame:
    """Return the scored positions of samples: sample_id, position, token and P_t(θ) [nats]."""
    encoded = passes.encoded
    rows = [
        (name, position, sample.pieces[position])
        for name, sample in zip(encoded.sample_ids, encoded.samples, strict=True)
        for position in range(1, len(sample.tokens))
    ]
    return pd.DataFrame(rows, columns=["sample_id", "position", "token"]).assign(log_prob=log_probs)


def _log_probs(passes: Passes, seed: int, sigma: float, sign: int) -> FloatArray:
    with PerturbedModel(passes.scorer, Noise(seed, sigma), streamed=False).draw(0, sign):
        return passes()
