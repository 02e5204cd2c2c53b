"""What experiments measure MRD with: a model in one precision, a few samples, and noise of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.model import loading as models
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.runs import JobContext
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.draws import Draws, Mode
from mrd_core.scoring.mrd import Baseline, Estimator, measure_baseline, per_sample
from mrd_core.scoring.plan import Stage, load_stage, must_stream, precision

# Where each study's draws begin: far from each other and from the draws of any score run (100,000 at most), so
# that no noise is used twice where seeds are the same.
FIRST_DRAW = {"sigma": 1 << 32, "plain": 2 << 32, "antithetic": 3 << 32, "theorem": 4 << 32}


@dataclass(frozen=True)
class Instrument:
    """A model in one precision, with the baseline one precision finer that its passes are held against."""

    stage: Stage
    baseline: Baseline
    streamed: bool

    @classmethod
    def load(cls, config: ExperimentConfig, forget_set: ForgetSet, dtype: str, context: JobContext) -> Instrument:
        """Load the model in `dtype` and measure the baseline of `forget_set`.

        Raises:
            UserError: Bad model, or it does not fit into memory in this precision.
        """
        model = config.model.model_copy(update={"dtype": dtype})
        wanted = ScoreConfig(forget_set=config.forget_set, model=model, estimator=config.estimator)
        stage = load_stage(wanted, forget_set, context)
        return cls(stage, measure_baseline(stage.passes, stage.model.dtype), must_stream(stage))

    def draws(self, noise: Noise, mode: Mode, indices: Iterable[int]) -> Draws:
        """Evaluate every sample under the noise of these indices, each of them a pair in antithetic mode."""
        perturbed = PerturbedModel(self.stage.scorer, noise, streamed=self.streamed)
        estimator = Estimator(self.stage.passes, perturbed, self.baseline, mode)
        with precision(self.stage.model.dtype):
            values = [estimator.unit(index).values for index in indices]
        return Draws(self.stage.passes.encoded.sample_ids, np.concatenate(values), estimator.kept, mode)

    def floor(self) -> tuple[FloatArray, FloatArray]:
        """Return |Σ_t ΔP/P| over the answer without any noise, as mean and as sum, shape (N,) each.

        It is what rounding alone gives; NaN where no token is kept.
        """
        encoded = self.stage.passes.encoded
        kept = self.baseline.kept & encoded.answer
        tokens = per_sample(kept.astype(np.float64), encoded)
        with precision(self.stage.model.dtype):
            change = self.baseline.relative_change(self.stage.passes())
        total = np.abs(per_sample(np.where(kept, change, 0.0), encoded))
        total[tokens == 0] = np.nan
        return total / np.maximum(tokens, 1), total


def drawn(forget_set: ForgetSet, count: int, seed: int) -> ForgetSet:
    """Return `count` samples drawn at random without replacement, in their order; all where there are fewer."""
    order = np.random.default_rng(seed).permutation(len(forget_set))
    return forget_set.subset(pd.Series(order < count))


def drawn_reason(samples: ForgetSet, forget_set: ForgetSet, seed: int) -> str:
    """Return how many samples of how many there are, and why these."""
    why = "all of them" if len(samples) == len(forget_set) else f"drawn at random with seed {seed}"
    return f"{len(samples)} of {len(forget_set)} ({why})"


def require_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Check that a device multiplies matrices of `dtype`.

    Raises:
        UserError: It does not.
    """
    ones = torch.ones(8, 8, device=device).to(dtype)
    try:
        nn.functional.linear(ones, ones)
    except RuntimeError as error:
        raise UserError(
            f"The precision {models.name_of(dtype)}",
            f"is not supported by {device}.",
            "Leave it out of the precisions, or use another device.",
        ) from error


def unscored_warnings(count: int) -> list[str]:
    """Return a warning where samples have no token that could be scored."""
    if not count:
        return []
    return [f"{count} sample(s) have no answer token that could be scored, and therefore no value."]
