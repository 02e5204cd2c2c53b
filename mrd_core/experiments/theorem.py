"""Whether MRD/σ² is what Theorem 3.2 says: minus half of the trace of the Hessian (Feng et al., Eq. 5).

Both sides are estimated in double precision, with noise of their own: the trace from products of the Hessian with
random signs, MRD from antithetic pairs. Where the theorem holds, E[mrd] = −½ E[trace] for every sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from mrd_core.errors import UserError
from mrd_core.experiments.config import TheoremConfig
from mrd_core.experiments.files import Row
from mrd_core.experiments.instrument import FIRST_DRAW, Instrument, drawn, drawn_reason, unscored_warnings
from mrd_core.experiments.job import Done, Material
from mrd_core.model import loading as models
from mrd_core.model.folders import folder_of
from mrd_core.model.perturbation import Noise
from mrd_core.model.reader import is_out_of_memory
from mrd_core.model.weights import parameter_count
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import SCOPES
from mrd_core.scoring.hessian import AnswerRatio, hutchinson, rademacher

DTYPE = "float64"
MOST_WEIGHTS = 100_000_000
# Of one unit.
PROBES = 8
PAIRS = 4


class Theorem:
    """Measures the trace of the Hessian and MRD/σ² of the same samples."""

    def __init__(self, config: TheoremConfig, material: Material, context: JobContext) -> None:
        self._config = config
        self._context = context
        self._material = material
        self._samples = drawn(material.forget_set, config.samples, config.seed)
        self._device = models.choose_device(config.model.device)[1]
        self._weights = parameter_count(folder_of(config.model.source))
        require_small(self._weights)
        self._measures = self._planned()

    @property
    def units(self) -> list[str]:
        """The traces, sample by sample, then the pairs of MRD, all samples at once."""
        return list(self._measures)

    def measure(self, unit: str, done: Done) -> list[Row]:  # noqa: ARG002  (every unit stands alone)
        """Carry out one unit."""
        return self._measures[unit]()

    def facts(self, done: Done) -> dict[str, Any]:
        """Return reasons, warnings, the number of weights and the precision."""
        without = {row["sample_id"] for rows in done.values() for row in rows if row["value"] is None}
        return {
            "weights": self._weights,
            "dtype": DTYPE,
            "reasons": {
                "device": self._device.stated,
                "dtype": f"{DTYPE} (the second derivatives and MRD at a small σ are lost in a coarser one)",
                "samples": drawn_reason(self._samples, self._material.forget_set, self._config.seed),
            },
            "warnings": unscored_warnings(len(without)),
        }

    @cached_property
    def _instrument(self) -> Instrument:
        return Instrument.load(self._config, self._samples, DTYPE, self._context)

    def _planned(self) -> dict[str, Callable[[], list[Row]]]:
        traces: dict[str, Callable[[], list[Row]]] = {
            f"trace {sample} {probes.start}": partial(self._trace, sample, probes)
            for sample in range(len(self._samples))
            for probes in _chunks(self._config.probes, PROBES)
        }
        return traces | {
            f"mrd {pairs.start}": partial(self._mrd, pairs) for pairs in _chunks(self._config.pairs, PAIRS)
        }

    def _trace(self, at: int, probes: range) -> list[Row]:
        encoded = self._instrument.stage.passes.encoded
        sample_id = encoded.sample_ids[at]
        model = self._instrument.stage.model
        ratio = AnswerRatio(model.network, encoded.samples[at], model.device)
        row = {"part": "trace", "sample_id": sample_id, "n_tokens": ratio.n_tokens}
        if not ratio.n_tokens:
            return [row | {"probe": probe, "value": None} for probe in probes]
        try:
            values = hutchinson(ratio, ratio.parameters, self._vectors(sample_id, probes, ratio.parameters))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"The sample {sample_id} ({ratio.n_tokens} answer tokens)",
                "does not fit into the memory of the device: second derivatives keep every intermediate result, "
                "twice.",
                "Use a device with more memory, a smaller model, or shorter samples.",
            ) from error
        return [row | {"probe": probe, "value": value} for probe, value in zip(probes, values, strict=True)]

    def _vectors(
        self, sample_id: str, probes: range, parameters: dict[str, Tensor]
    ) -> Iterator[dict[str, Tensor]]:
        for probe in probes:
            self._context.check_cancelled()
            yield rademacher(self._config.seed, sample_id, probe, parameters)

    def _mrd(self, pairs: range) -> list[Row]:
        first, sigma = FIRST_DRAW["theorem"], self._config.sigma
        indices = range(first + pairs.start, first + pairs.stop)
        draws = self._instrument.draws(Noise(self._config.seed, sigma), "antithetic", indices)
        values = draws.units(Scope.ANSWER, Normalisation.SUM) / sigma**2
        kept = draws.kept[:, SCOPES.index(Scope.ANSWER)]
        return [
            {
                "part": "mrd",
                "sample_id": sample_id,
                "n_tokens": int(kept[sample]),
                "pair": pair,
                "value": json_value(float(values[at, sample])),
            }
            for at, pair in enumerate(pairs)
            for sample, sample_id in enumerate(draws.sample_ids)
        ]


def require_small(weights: int) -> None:
    """Check that a model's weights are few enough for second derivatives.

    Raises:
        UserError: They are not.
    """
    if weights <= MOST_WEIGHTS:
        return
    raise UserError(
        f"A model of {weights / 1e6:,.0f} million weights",
        f"is too large for this experiment, which takes {MOST_WEIGHTS / 1e6:.0f} million at most: it "
        "differentiates twice in double precision, one sample at a time, with several copies of the weights.",
        "Run it on a smaller model of the same family; the sensitivity experiment takes a model of any size and "
        "shows whether MRD/σ² stays constant.",
    )


def _chunks(count: int, size: int) -> list[range]:
    return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]
