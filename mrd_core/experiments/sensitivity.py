"""From which σ to which σ MRD holds, in which precision, and how many draws it takes (Feng et al., Fig. 5).

Three questions, three kinds of rows. `sigma`: MRD of the same samples at every σ in every precision. `floor`: what
rounding alone gives in a precision, without noise. `draws`: single evaluations, plain and in antithetic pairs,
from which the score of any K can be put together.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

from mrd_core.experiments.config import SensitivityConfig
from mrd_core.experiments.files import Row
from mrd_core.experiments.instrument import (
    FIRST_DRAW,
    Instrument,
    drawn,
    drawn_reason,
    require_dtype,
    unscored_warnings,
)
from mrd_core.experiments.job import Done, Material
from mrd_core.model import loading as models
from mrd_core.model.perturbation import Noise
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import SCOPES, SUMS, Mode, scores

# Evaluations of one unit of the study of K.
EVALUATIONS = 10
STUDY_DTYPE = "float32"
MODES: tuple[Mode, ...] = ("plain", "antithetic")


class Sensitivity:
    """Measures MRD at several σ, in several precisions, and draw by draw."""

    def __init__(self, config: SensitivityConfig, material: Material, context: JobContext) -> None:
        self._config = config
        self._context = context
        self._material = material
        self._samples = drawn(material.forget_set, config.samples, config.seed)
        self._sigma = material.sigma if config.sigma == "auto" else config.sigma
        device, self._device = models.choose_device(config.model.device)
        for dtype in config.dtypes:
            require_dtype(models.DTYPES[dtype], device)
        self._loaded: tuple[str, Instrument] | None = None
        self._measures = self._planned()

    @property
    def units(self) -> list[str]:
        """Precision by precision, so that each is loaded once; that of the study of K is the last."""
        return list(self._measures)

    def measure(self, unit: str, done: Done) -> list[Row]:  # noqa: ARG002  (every unit stands alone)
        """Carry out one unit."""
        return self._measures[unit]()

    def facts(self, done: Done) -> dict[str, Any]:
        """Return reasons, warnings, and the σ of the study of K."""
        floors = [row for rows in done.values() for row in rows if row["part"] == "floor"]
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

    def _planned(self) -> dict[str, Callable[[], list[Row]]]:
        planned: dict[str, Callable[[], list[Row]]] = {}
        # A stable sort: the precision of the study comes last.
        for dtype in sorted(self._config.dtypes, key=lambda dtype: dtype == STUDY_DTYPE):
            planned[f"floor {dtype}"] = partial(self._floor, dtype)
            for sigma in self._config.sigmas:
                planned[f"sigma {dtype} {sigma!r}"] = partial(self._at, dtype, sigma)
        for mode in MODES:
            end = self._config.draws - (self._config.draws % 2 if mode == "antithetic" else 0)
            for begin in range(0, end, EVALUATIONS):
                planned[f"{mode} {begin}"] = partial(
                    self._draw_by_draw, mode, begin, min(begin + EVALUATIONS, end)
                )
        return planned

    def _floor(self, dtype: str) -> list[Row]:
        by_mean, by_sum = self._instrument(dtype).floor()
        return [
            {
                "part": "floor",
                "dtype": dtype,
                "sample_id": sample_id,
                "floor_mean": json_value(float(mean)),
                "floor_sum": json_value(float(total)),
            }
            for sample_id, mean, total in zip(self._samples.frame["sample_id"], by_mean, by_sum, strict=True)
        ]

    def _at(self, dtype: str, sigma: float) -> list[Row]:
        """Measure MRD, in the same directions at every σ and in every precision: these alone make a difference."""
        first = FIRST_DRAW["sigma"]
        noise = Noise(self._config.seed, sigma)
        draws = self._instrument(dtype).draws(noise, "antithetic", range(first, first + self._config.pairs))
        mean, total = (scores(draws, Scope.ANSWER, how) for how in (Normalisation.MEAN, Normalisation.SUM))
        columns = {
            "mrd_mean": mean["mrd"],
            "mrd_mean_se": mean["mrd_se"],
            "mrd_sum": total["mrd"],
            "mrd_sum_se": total["mrd_se"],
        }
        return [
            {"part": "sigma", "dtype": dtype, "sigma": sigma, "sample_id": sample_id}
            | {name: json_value(float(column.iloc[at])) for name, column in columns.items()}
            for at, sample_id in enumerate(draws.sample_ids)
        ]

    def _draw_by_draw(self, mode: Mode, begin: int, end: int) -> list[Row]:
        step = 2 if mode == "antithetic" else 1
        first = FIRST_DRAW[mode]
        indices = range(first + begin // step, first + end // step)
        draws = self._instrument(STUDY_DTYPE).draws(Noise(self._config.seed, self._sigma), mode, indices)
        at = SCOPES.index(Scope.ANSWER)
        relative = draws.values[:, :, at, SUMS.index("relative")]
        return [
            {
                "part": "draws",
                "mode": mode,
                "sigma": self._sigma,
                "evaluation": begin + evaluation,
                "sample_id": sample_id,
                "relative": float(relative[evaluation, sample]),
                "n_tokens": int(draws.kept[sample, at]),
            }
            for evaluation in range(end - begin)
            for sample, sample_id in enumerate(draws.sample_ids)
        ]

    def _instrument(self, dtype: str) -> Instrument:
        """Return the model in `dtype`; the one before it is released first."""
        if self._loaded is None or self._loaded[0] != dtype:
            self._loaded = None
            gc.collect()
            self._loaded = (dtype, Instrument.load(self._config, self._samples, dtype, self._context))
        return self._loaded[1]
