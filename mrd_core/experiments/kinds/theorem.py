"""Whether MRD/σ² is what Theorem 3.2 says: minus half of the trace of the Hessian (Feng et al., Eq. 5).

Both sides are estimated in double precision, with noise of their own: the trace from products of the Hessian with
random signs, MRD from antithetic pairs. Where the theorem holds, E[mrd] = −½ E[trace] for every sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.experiment import SAMPLE_ID, Column, Done, Experiment, Material, Measurement, Part
from mrd_core.experiments.files import Row
from mrd_core.experiments.passes import ALONE
from mrd_core.experiments.samples import drawn, drawn_reason, unscored_warnings
from mrd_core.model.location import location_of
from mrd_core.model.weights import parameter_count
from mrd_core.runs.files import json_value
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import SCOPES

if TYPE_CHECKING:
    from mrd_core.experiments.instrument import Instrument
    from mrd_core.runs import JobContext

DTYPE = "float64"
MOST_WEIGHTS = 200_000_000
# Of one measurement.
PROBES = 8
PAIRS = 4
# A Hessian-vector product in double precision: about four passes, each twice as long.
PASSES_OF_A_PROBE = 8.0

_TOKENS = Column("number", "Answer tokens that could be scored.")
TRACE = Part(
    "trace",
    {
        "sample_id": SAMPLE_ID,
        "n_tokens": _TOKENS,
        "probe": Column("number", "Number of the probe."),
        "value": Column("number", "Σ_t Tr(H_t)/P_t, estimated with one probe; None without a token."),
    },
)
MRD = Part(
    "mrd",
    {
        "sample_id": SAMPLE_ID,
        "n_tokens": _TOKENS,
        "pair": Column("number", "Number of the antithetic pair."),
        "value": Column("number", "Σ_t ΔP/P over σ², of one pair; None without a token."),
    },
)


class TheoremConfig(ExperimentConfig):
    """MRD/σ² is held against the trace of the Hessian, which Theorem 3.2 says it is."""

    kind: Literal["theorem"] = "theorem"
    samples: int = Field(12, ge=4, description="Samples, drawn at random.", json_schema_extra={"unit": "samples"})
    probes: int = Field(32, ge=4, description="Random vectors of Hutchinson's estimate for each sample.")
    pairs: int = Field(
        32,
        ge=4,
        description="Antithetic pairs of MRD, with noise of their own.",
        json_schema_extra={"unit": "pairs"},
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-4, description="σ of MRD; in double precision it may be small, well inside the quadratic regime."
    )


def passes(config: TheoremConfig, n_samples: int) -> float:
    """Return the forward passes of one sample that the experiment takes on a forget set of `n_samples`."""
    return min(config.samples, n_samples) * (ALONE * PASSES_OF_A_PROBE * config.probes + 4.0 * config.pairs)


class Theorem:
    """The trace of the Hessian and MRD/σ² of the same samples are measured. See `experiment.Study`."""

    def __init__(self, config: TheoremConfig, material: Material, context: JobContext) -> None:
        from mrd_core.model import loading as models

        self._config = config
        self._context = context
        self._material = material
        self._samples = drawn(material.forget_set, config.samples, config.seed)
        self._device = models.choose_device(config.model.device)[1]
        self._weights = parameter_count(location_of(config.model.source))
        require_small(self._weights)
        # The traces, sample by sample, then the pairs of MRD, all samples at once.
        self.measurements: dict[str, Measurement] = {
            f"trace {sample} {probes.start}": partial(self._trace, sample, probes)
            for sample in range(len(self._samples))
            for probes in _chunks(config.probes, PROBES)
        }
        for pairs in _chunks(config.pairs, PAIRS):
            self.measurements[f"mrd {pairs.start}"] = partial(self._mrd, pairs)

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
        from mrd_core.experiments.instrument import Instrument

        return Instrument.load(self._config, self._samples, DTYPE, self._context)

    def _trace(self, sample: int, probes: range, _done: Done) -> list[Row]:
        n_tokens, estimates = self._instrument.traces(sample, probes)
        values: Iterable[float | None] = estimates or [None] * len(probes)
        sample_id = self._samples.frame["sample_id"].iloc[sample]
        return [
            TRACE.row(sample_id=sample_id, n_tokens=n_tokens, probe=probe, value=value)
            for probe, value in zip(probes, values, strict=True)
        ]

    def _mrd(self, pairs: range, _done: Done) -> list[Row]:
        sigma = self._config.sigma
        draws = self._instrument.draws("theorem", sigma, "antithetic", pairs)
        values = draws.units(Scope.ANSWER, Normalisation.SUM).values / sigma**2
        kept = draws.kept[:, SCOPES.index(Scope.ANSWER)]
        return [
            MRD.row(
                sample_id=sample_id,
                n_tokens=int(kept[sample]),
                pair=pair,
                value=json_value(float(values[at, sample])),
            )
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


EXPERIMENT = Experiment(
    TheoremConfig, figure="Theorem 3.2", place=5, parts=(TRACE, MRD), passes=passes, study=Theorem
)
