"""What experiments measure MRD with: a model in one precision, a few samples, and noise of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.model import loading as models
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.model.reader import is_out_of_memory
from mrd_core.runs import JobContext
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.draws import Draws, Mode
from mrd_core.scoring.hessian import AnswerRatio, hutchinson, rademacher
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
    seed: int
    check_cancelled: Callable[[], None]

    @classmethod
    def load(cls, config: ExperimentConfig, forget_set: ForgetSet, dtype: str, context: JobContext) -> Instrument:
        """Load the model in `dtype` and measure the baseline of `forget_set`.

        Raises:
            UserError: Bad model, or it does not fit into memory in this precision.
        """
        model = config.model.model_copy(update={"dtype": dtype})
        wanted = ScoreConfig(forget_set=config.forget_set, model=model, estimator=config.estimator)
        stage = load_stage(wanted, forget_set, config.score_run, context)
        baseline = measure_baseline(stage.passes, stage.model.dtype)
        return cls(stage, baseline, must_stream(stage, config.estimator), config.seed, context.check_cancelled)

    def draws(self, study: str, sigma: float, mode: Mode, indices: Iterable[int]) -> Draws:
        """Evaluate every sample under the noise of these indices of a study, each a pair in antithetic mode.

        Args:
            study: Of `FIRST_DRAW`.
            sigma: σ of the noise.
            mode: Plain or antithetic.
            indices: Counted from 0.
        """
        perturbed = PerturbedModel(self.stage.scorer, Noise(self.seed, sigma), streamed=self.streamed)
        estimator = Estimator(self.stage.passes, perturbed, self.baseline, mode)
        with precision(self.stage.model.dtype):
            values = [estimator.unit(FIRST_DRAW[study] + index).values for index in indices]
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

    def traces(self, sample: int, probes: range) -> tuple[int, list[float]]:
        """Return the answer tokens of a sample, and Σ_t of the trace of the Hessian over p, one estimate a probe.

        No estimate where no token could be scored.

        Raises:
            UserError: The second derivatives do not fit into the memory of the device.
            Cancelled: The run was asked to stop.
        """
        encoded = self.stage.passes.encoded
        ratio = AnswerRatio(self.stage.model.network, encoded.samples[sample], self.stage.model.device)
        if not ratio.n_tokens:
            return 0, []
        sample_id = encoded.sample_ids[sample]

        def vectors() -> Iterator[dict[str, Tensor]]:
            for probe in probes:
                self.check_cancelled()
                yield rademacher(self.seed, sample_id, probe, ratio.parameters)

        try:
            return ratio.n_tokens, hutchinson(ratio, ratio.parameters, vectors())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"The sample {sample_id} ({ratio.n_tokens} answer tokens)",
                "does not fit into the memory of the device: second derivatives keep every intermediate result, "
                "twice.",
                "Use a device with more memory, a smaller model, or shorter samples.",
            ) from error


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
