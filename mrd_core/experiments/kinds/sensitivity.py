"""From which σ to which σ MRD holds, in which precision, and how many draws it takes (Feng et al., Fig. 5).

Three questions, three kinds of rows. `sigma`: MRD of the same samples at every σ in every precision. `floor`: what
rounding alone gives in a precision, without noise. `draws`: single evaluations, plain and in antithetic pairs,
from which the score of any K can be put together.
"""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.experiment import SAMPLE_ID, Column, Done, Experiment, Material, Measurement, Part
from mrd_core.experiments.files import Row
from mrd_core.experiments.passes import UPDATE
from mrd_core.experiments.samples import drawn, drawn_reason, unscored_warnings
from mrd_core.runs.files import json_value
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import SCOPES, SUMS, Mode, scores

if TYPE_CHECKING:
    from mrd_core.experiments.instrument import Instrument
    from mrd_core.runs import JobContext

# Evaluations of one measurement of the study of K.
EVALUATIONS = 10
STUDY_DTYPE = "float32"
MODES: tuple[Mode, ...] = ("plain", "antithetic")
SIGMA = Part(
    "sigma",
    {
        "dtype": Column("text", "Precision."),
        "sigma": Column("number", "σ of the noise."),
        "sample_id": SAMPLE_ID,
        "mrd_mean": Column("number", "MRD, mean over tokens."),
        "mrd_mean_se": Column("number", "Its standard error."),
        "mrd_sum": Column("number", "MRD, sum over tokens."),
        "mrd_sum_se": Column("number", "Its standard error."),
    },
)
FLOOR = Part(
    "floor",
    {
        "dtype": Column("text", "Precision."),
        "sample_id": SAMPLE_ID,
        "floor_mean": Column("number", "What rounding alone gives in the place of MRD, mean over tokens."),
        "floor_sum": Column("number", "The same, sum over tokens."),
    },
)
DRAWS = Part(
    "draws",
    {
        "mode": Column("text", "Plain or antithetic."),
        "sigma": Column("number", "σ of the noise."),
        "evaluation": Column("number", "Number of the evaluation; in antithetic mode 2i and 2i + 1 are a pair."),
        "sample_id": SAMPLE_ID,
        "relative": Column("number", "Σ_t ΔP/P over the answer."),
        "n_tokens": Column("number", "Tokens that are summed over."),
    },
)


class SensitivityConfig(ExperimentConfig):
    """MRD is measured at several σ and with many draws: from where to where does it hold?"""

    kind: Literal["sensitivity"] = "sensitivity"
    samples: int = Field(60, ge=4, description="Samples, drawn at random.", json_schema_extra={"unit": "samples"})
    sigmas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2), min_length=2, description="Values of σ."
    )
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = Field(
        ("float32", "bfloat16"), min_length=1, description="Precisions: float32, bfloat16."
    )
    pairs: int = Field(8, ge=2, description="Antithetic pairs at each σ.", json_schema_extra={"unit": "pairs"})
    draws: int = Field(
        100,
        ge=8,
        description="Evaluations of the study of K, plain and in pairs.",
        json_schema_extra={"unit": "evaluations"},
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="σ of the study of K; `auto` is that of the scores."
    )


def passes(config: SensitivityConfig, n_samples: int) -> float:
    """Return the forward passes of one sample that the experiment takes on a forget set of `n_samples`."""
    per_dtype = 2 * config.pairs * len(config.sigmas) + 2 * UPDATE
    return float(min(config.samples, n_samples) * (len(config.dtypes) * per_dtype + 2 * config.draws))


class Sensitivity:
    """MRD is measured at several σ, in several precisions, and draw by draw. See `experiment.Study`."""

    def __init__(self, config: SensitivityConfig, material: Material, context: JobContext) -> None:
        from mrd_core.experiments.instrument import require_dtype
        from mrd_core.model import loading as models

        self._config = config
        self._context = context
        self._material = material
        self._samples = drawn(material.forget_set, config.samples, config.seed)
        self._sigma = material.sigma if config.sigma == "auto" else config.sigma
        device, self._device = models.choose_device(config.model.device)
        for dtype in config.dtypes:
            require_dtype(models.DTYPES[dtype], device)
        self._loaded: tuple[str, Instrument] | None = None
        self.measurements: dict[str, Measurement] = {}
        # Precision by precision, so that each is loaded once; that of the study of K is the last (a stable sort).
        for dtype in sorted(config.dtypes, key=lambda dtype: dtype == STUDY_DTYPE):
            self.measurements[f"floor {dtype}"] = partial(self._floor, dtype)
            for sigma in config.sigmas:
                self.measurements[f"sigma {dtype} {sigma!r}"] = partial(self._at, dtype, sigma)
        for mode in MODES:
            end = config.draws - (config.draws % 2 if mode == "antithetic" else 0)
            for begin in range(0, end, EVALUATIONS):
                chunk = range(begin, min(begin + EVALUATIONS, end))
                self.measurements[f"{mode} {begin}"] = partial(self._draw_by_draw, mode, chunk)

    def facts(self, done: Done) -> dict[str, Any]:
        """Return reasons, warnings, and the σ of the study of K."""
        floors = [row for rows in done.values() for row in rows if row["part"] == FLOOR.name]
        without = len({row["sample_id"] for row in floors if row["floor_sum"] is None})
        return {
            "study_sigma": self._sigma,
            "reasons": {
                "device": self._device.stated,
                "samples": drawn_reason(self._samples, self._material.forget_set, self._config.seed),
                "σ of the study of K": f"{self._sigma:g} "
                + ("(that of the scores)" if self._config.sigma == "auto" else "(as asked)"),
            },
            "warnings": unscored_warnings(without),
        }

    def _floor(self, dtype: str, _done: Done) -> list[Row]:
        by_mean, by_sum = self._instrument(dtype).floor()
        return [
            FLOOR.row(
                dtype=dtype,
                sample_id=sample_id,
                floor_mean=json_value(float(mean)),
                floor_sum=json_value(float(total)),
            )
            for sample_id, mean, total in zip(self._samples.frame["sample_id"], by_mean, by_sum, strict=True)
        ]

    def _at(self, dtype: str, sigma: float, _done: Done) -> list[Row]:
        """Measure MRD, in the same directions at every σ and in every precision: these alone make a difference."""
        draws = self._instrument(dtype).draws("sigma", sigma, "antithetic", range(self._config.pairs))
        mean, total = (scores(draws, Scope.ANSWER, how) for how in (Normalisation.MEAN, Normalisation.SUM))
        columns = (mean["mrd"], mean["mrd_se"], total["mrd"], total["mrd_se"])
        rows = zip(draws.sample_ids, *(map(json_value, column.tolist()) for column in columns), strict=True)
        return [
            SIGMA.row(
                dtype=dtype,
                sigma=sigma,
                sample_id=sample_id,
                mrd_mean=by_mean,
                mrd_mean_se=by_mean_se,
                mrd_sum=by_sum,
                mrd_sum_se=by_sum_se,
            )
            for sample_id, by_mean, by_mean_se, by_sum, by_sum_se in rows
        ]

    def _draw_by_draw(self, mode: Mode, evaluations: range, _done: Done) -> list[Row]:
        step = 2 if mode == "antithetic" else 1
        indices = range(evaluations.start // step, evaluations.stop // step)
        draws = self._instrument(STUDY_DTYPE).draws(mode, self._sigma, mode, indices)
        at = SCOPES.index(Scope.ANSWER)
        relative = draws.values[:, :, at, SUMS.index("relative")]
        return [
            DRAWS.row(
                mode=mode,
                sigma=self._sigma,
                evaluation=evaluation,
                sample_id=sample_id,
                relative=float(relative[row, sample]),
                n_tokens=int(draws.kept[sample, at]),
            )
            for row, evaluation in enumerate(evaluations)
            for sample, sample_id in enumerate(draws.sample_ids)
        ]

    def _instrument(self, dtype: str) -> Instrument:
        """Return the model in `dtype`; the one before it is released first."""
        from mrd_core.experiments.instrument import Instrument

        if self._loaded is None or self._loaded[0] != dtype:
            self._loaded = None
            gc.collect()
            self._loaded = (dtype, Instrument.load(self._config, self._samples, dtype, self._context))
        return self._loaded[1]


EXPERIMENT = Experiment(
    SensitivityConfig, figure="Fig. 5", place=4, parts=(SIGMA, FLOOR, DRAWS), passes=passes, study=Sensitivity
)
