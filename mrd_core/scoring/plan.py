"""Before the first draw: load, measure the baseline, calibrate σ, and decide what the run will do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.encoder import Encoder
from mrd_core.model.gradients import Layout, SampleGradients
from mrd_core.model.hidden_states import HiddenStates
from mrd_core.model.likelihood import KeepDouble, Passes, Scorer
from mrd_core.model.loading import LoadedModel
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.model.reader import Reader
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value, write_atomically
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.cost import MOST_WORKERS
from mrd_core.scoring.draws import Draws, Mode
from mrd_core.scoring.encoded import digest_of_words, keep_encoded, stored_samples
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.forms import likelier_form
from mrd_core.scoring.measures import BACKWARD, FORWARD
from mrd_core.scoring.mrd import FINER, Baseline, Estimator, Unit, measure_baseline
from mrd_core.scoring.pilot import Pilot, PrecisionGate, pilot_samples, precision_gate, run_pilot
from mrd_core.scoring.probes import SIGNS, SpeedProbes
from mrd_core.scoring.records import Plan
from mrd_core.scoring.schedule import Schedule, UnitKey

# How many times as long a backward pass takes where each sample is a batch.
ALONE = 2.5


@dataclass(frozen=True)
class Stage:
    """A loaded model with a forget set encoded for it."""

    model: LoadedModel
    passes: Passes
    encoder: Encoder

    @property
    def reader(self) -> Reader:
        """The model as it is read, in batches as large as those of the passes."""
        return replace(self.passes.reader, network=self.model.network)

    @property
    def scorer(self) -> Scorer:
        """The model as a function from tokens to log-probabilities."""
        scorer: Scorer = self.passes.scorer  # type: ignore[assignment]
        return scorer


@dataclass(frozen=True)
class Prepared:
    """All that drawing needs."""

    plan: Plan
    stage: Stage
    baseline: Baseline

    def estimator(self, config: EstimatorConfig) -> Estimator:
        """Return the estimator that the plan describes."""
        noise = Noise(config.seed, self.plan.sigma)
        model = PerturbedModel(self.stage.scorer, noise, streamed=self.plan.streamed)
        return Estimator(self.stage.passes, model, self.baseline, config.mode, with_parts=self.plan.with_parts)

    @property
    def layout(self) -> Layout | None:
        """How gradients of single samples are had; None where nobody has found out."""
        if not self.plan.probe_cost:
            return None
        return Layout(frozenset(self.plan.by_autograd), self.plan.in_batches)

    def source(self, config: EstimatorConfig) -> Source:
        """Return where the run's units come from."""
        probes = None
        if self.plan.probe_cost:
            encoded = self.stage.passes.encoded
            gradients = SampleGradients(self.stage.reader, encoded, self.layout)
            probes = SpeedProbes(gradients, encoded, self.baseline, config.scope, config.seed)
        sample_ids = self.stage.passes.encoded.sample_ids
        schedule = Schedule(config, self.plan.probe_cost)
        return Source(sample_ids, self.plan.sigma, config.mode, schedule, self.estimator(config), probes)


@dataclass(frozen=True)
class Source:
    """Where the units of a run come from.

    Attributes:
        sample_ids: N ids.
        sigma: Standard deviation σ of the noise.
        mode: Whether units are pairs.
        schedule: Their order.
        estimator: Draws pairs.
        probes: Draws sign probes.
    """

    sample_ids: tuple[str, ...]
    sigma: float
    mode: Mode
    schedule: Schedule
    estimator: Estimator
    probes: SpeedProbes | None

    def arrays(self, key: UnitKey) -> dict[str, Any]:
        """Draw a unit, from scratch: what its file holds."""
        if key.kind == "probe":
            assert self.probes is not None  # nobody asks for them otherwise
            return {"speed": self.probes.unit(key.index)}
        unit = self.estimator.unit(key.index)
        return {name: array for name, array in vars(unit).items() if array is not None}

    def draws(self, units: list[Unit], probes: list[FloatArray]) -> Draws:
        """Join units."""
        return Draws(
            self.sample_ids,
            np.concatenate([unit.values for unit in units]),
            self.estimator.kept,
            self.mode,
            self.sigma,
            np.stack([unit.parts for unit in units]) if units[0].parts is not None else None,  # type: ignore[misc]
            np.concatenate(probes) if probes else None,
        )


def precision(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return a context within which passes in `dtype` are really computed in it."""
    return KeepDouble() if dtype is torch.float64 else nullcontext()


def workers_and_threads(config: EstimatorConfig, device: torch.device) -> tuple[int, int]:
    """Return (processes, torch threads of each).

    Threads follow from the machine alone and not from the number of workers, so that this number never changes
    a bit of the result. On a CPU several processes beat several threads; a GPU is kept busy by one.
    """
    cores = models.cores()
    automatic = 1 if device.type == "cuda" else min(cores, MOST_WORKERS)
    workers = automatic if config.workers == "auto" else config.workers
    return workers, max(1, cores // automatic)


def prepare(config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles, context: JobContext) -> Prepared:
    """Decide everything, store it, and return it; move to a finer dtype while the precision gate says no.

    Raises:
        UserError: Bad model, nothing to score, or the precision gate refuses.
    """
    dtype: torch.dtype | None = None
    while True:
        context.progress(0, config.estimator.draws, message="Loading the model")
        stage = load_stage(config, forget_set, files.directory, context, dtype)
        context.progress(0, config.estimator.draws, message="Measuring the baseline")
        hidden_states = HiddenStates()
        baseline = measure_baseline(stage.passes, stage.model.dtype, hidden_states)
        _require_scored_tokens(baseline, stage, config.estimator.scope)
        context.progress(0, config.estimator.draws, message="Calibrating σ")
        pilot, sigma, gate = _calibrated(config.estimator, stage, baseline)
        if gate.passed or config.estimator.preset == "paper":
            break
        dtype = _finer_dtype(config, stage, gate, context)
    if not gate.passed:
        context.event("warning", f"Precision gate not passed: {gate.reason}")
    warnings = _warnings(stage, forget_set, pilot, sigma)
    plan = _plan(config.estimator, stage, pilot, sigma, gate, warnings)
    if config.estimator.has_probes:
        context.progress(0, config.estimator.draws, message="Trying gradients")
        plan = with_probes(plan, stage, context)
    keep_encoded(files, stage.passes.encoded)
    write_atomically(files.hidden_states, lambda stream: np.save(stream, hidden_states.means()))
    write_atomically(files.baseline, lambda stream: np.save(stream, baseline.log_probs))
    text = plan.model_dump_json(indent=2).encode()
    write_atomically(files.plan, lambda stream: stream.write(text))
    return Prepared(plan, stage, baseline)


def resume(config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles, context: JobContext) -> Prepared:
    """Return what an earlier process prepared, loaded again."""
    plan = files.read_plan()
    torch.set_num_threads(plan.threads)
    stage = load_stage(config, forget_set, files.directory, context, models.DTYPES[plan.dtype], plan)
    return Prepared(plan, stage, Baseline(np.load(files.baseline, allow_pickle=False)))


def load_stage(
    config: ScoreConfig,
    forget_set: ForgetSet,
    score_run: Path | None,
    context: JobContext,
    dtype: torch.dtype | None = None,
    plan: Plan | None = None,
) -> Stage:
    """Load the model and encode the forget set for it, or read what `score_run` has encoded."""
    model = models.load(config.model, dtype)
    encoder = model.encoder(config.model, stored_samples(score_run, model.tokenizer, config.model))
    encoded = encoder.encode(forget_set)
    scorer = Scorer(model.network)
    most = plan.batch_tokens if plan else config.estimator.batch_tokens
    reader = model.reader(most, context.check_cancelled)

    def report_halving(tokens: int) -> None:
        context.event("warning", f"Out of memory: batches are halved to {tokens} tokens and scoring goes on.")

    whole = replace(reader, network=scorer)
    passes = Passes(whole, encoded, on_halved=report_halving, on_batch=context.within)
    return Stage(model, passes, encoder)


def _require_scored_tokens(baseline: Baseline, stage: Stage, scope: Scope) -> None:
    if (baseline.kept & stage.passes.encoded.in_scope(scope)).any():
        return
    raise UserError(
        "The forget set",
        "has no token in scope that could be scored: every one is cut off by the model's context or has |log p| "
        "below 1e-6.",
        "Use shorter samples, a model with a longer context, or check the column mapping.",
    )


def _calibrated(config: EstimatorConfig, stage: Stage, baseline: Baseline) -> tuple[Pilot, float, PrecisionGate]:
    """Run the pilot on a few samples; return it, the σ of the run, and whether the precision is fine enough."""
    encoded = stage.passes.encoded
    chosen = pilot_samples(encoded)
    few = stage.passes.of(chosen)
    few_baseline = Baseline(baseline.log_probs[encoded.flat_positions(chosen)])
    with precision(stage.model.dtype):
        asked = None if config.sigma == "auto" else config.sigma
        pilot = run_pilot(few, few_baseline, config.seed, stage.model.dtype, config.scope, asked)
        if asked is None and config.has_probes:
            # Probes have no σ, so what a pair says beside them must not depend on it either.
            gate = precision_gate(few, few_baseline, pilot, pilot.least_departing, config.scope)
            if gate.passed:
                return pilot, gate.sigma, gate
        sigma = pilot.sigma if asked is None else asked
        return pilot, sigma, precision_gate(few, few_baseline, pilot, sigma, config.scope)


def _finer_dtype(config: ScoreConfig, stage: Stage, gate: PrecisionGate, context: JobContext) -> torch.dtype:
    present = stage.model.dtype
    finer = FINER[present]
    if config.model.dtype != "auto" or finer is present:
        ways = ["--sigma auto"]
        if np.isfinite(gate.least_sigma):
            # A tenth more than what would just do.
            ways.append(f"a larger σ (from {1.1 * gate.least_sigma:.1e})")
        if finer is not present:
            ways.append("--dtype auto, which moves to a finer one")
        raise UserError(
            f"σ = {gate.sigma:g} in {models.name_of(present)}",
            f"cannot be scored: {gate.reason}",
            f"Use {', or '.join(ways)}.",
        )
    context.event(
        "warning",
        f"{models.name_of(present)} is too coarse: {gate.reason} Moving to {models.name_of(finer)}, which takes "
        "about twice the time.",
    )
    return finer


def _plan(
    config: EstimatorConfig,
    stage: Stage,
    pilot: Pilot,
    sigma: float,
    gate: PrecisionGate,
    warnings: tuple[str, ...],
) -> Plan:
    workers, threads = workers_and_threads(config, stage.model.device)
    streamed = must_stream(stage)
    figures = asdict(gate) | {"signal_to_floor": gate.signal_to_floor, "reason": gate.reason}
    return Plan(
        device=str(stage.model.device),
        dtype=models.name_of(stage.model.dtype),
        sigma=sigma,
        template=stage.encoder.template.value,
        batch_tokens=stage.passes.batch_tokens,
        threads=threads,
        workers=workers,
        streamed=streamed,
        with_parts=config.mode == "antithetic",
        gate_passed=gate.passed,
        gate={name: json_value(figure) for name, figure in figures.items()},
        pilot={f"{tried:g}": json_value(regime.median) for tried, regime in pilot.tried.items()},
        reasons={
            **{name: choice.stated for name, choice in stage.model.choices.items()},
            "template": stage.encoder.template.stated,
            "σ": _sigma_reason(config, pilot, sigma),
            "workers": f"{workers}, {threads} thread(s) each, on {models.cores()} core(s)",
            "memory": "one extra layer: a second copy of the weights does not fit"
            if streamed
            else "one extra copy of the weights",
            "precision gate": ("passed: " if gate.passed else "not passed: ") + gate.reason,
        },
        warnings=warnings,
        vocabulary=digest_of_words(stage.model.tokenizer),
    )


def with_probes(plan: Plan, stage: Stage, context: JobContext) -> Plan:
    """Return a plan with sign probes, or the same without where memory does not hold a backward pass."""
    try:
        with precision(stage.model.dtype):
            gradients = SampleGradients(stage.reader, stage.passes.encoded)
    except UserError as error:
        context.event("warning", f"No sign probes: {error.what} {error.why}")
        return plan.model_copy(update={"reasons": plan.reasons | {"sign probes": f"none: {error.why}"}})
    layout = gradients.layout
    tokens = float(stage.passes.encoded.lengths.mean())
    cost = round(FORWARD + SIGNS * (BACKWARD + gradients.norms_cost(tokens)), 2)
    return plan.model_copy(
        update={
            "probe_cost": cost if layout.in_batches else cost * ALONE,
            "in_batches": layout.in_batches,
            "by_autograd": tuple(sorted(layout.by_autograd)),
            "reasons": plan.reasons | {"sign probes": f"gradients {gradients.way}"},
        }
    )


def _warnings(stage: Stage, forget_set: ForgetSet, pilot: Pilot, sigma: float) -> tuple[str, ...]:
    regime = pilot.tried.get(sigma)
    departs = None
    if regime is not None and not regime.quadratic:
        departs = f"σ = {sigma:g} is outside the regime in which MRD grows with σ²: {regime.reason}"
    likelier = likelier_form(stage.reader, stage.encoder, forget_set)
    return (*stage.passes.encoded.notes, *filter(None, (likelier, departs)))


def _sigma_reason(config: EstimatorConfig, pilot: Pilot, sigma: float) -> str:
    chosen = "as asked"
    if config.sigma == "auto":
        largest = "the pilot's largest in the quadratic regime"
        chosen = (
            largest if sigma == pilot.sigma else f"{largest}, {pilot.sigma:g}, less what would bias the probes"
        )
    regime = pilot.tried.get(sigma)
    return f"{sigma:g} ({chosen}" + (f"; {regime.reason.removesuffix('.')})" if regime else ")")


def weights_in(stage: Stage) -> int:
    """Return the number of the model's weights."""
    return sum(parameter.numel() for parameter in stage.scorer.parameters())


def must_stream(stage: Stage) -> bool:
    """Tell whether a second copy of the weights is too much for the memory that is left."""
    parameters = list(stage.scorer.parameters())
    needed = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    spread = len({parameter.device for parameter in parameters}) > 1
    return not spread and needed > 0.9 * models.free_bytes(stage.model.device)
