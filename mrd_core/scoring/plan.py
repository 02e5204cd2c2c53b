"""Before the first draw: load, measure the baseline, calibrate σ, and decide what the run will do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.compilation import compiled, obstacle
from mrd_core.model.encoder import Encoder
from mrd_core.model.gradients import Layout, SampleGradients
from mrd_core.model.hardware import kind_of
from mrd_core.model.hidden_states import HiddenStates
from mrd_core.model.layer_major import NestedLayersError
from mrd_core.model.likelihood import KeepDouble, Passes, Scorer
from mrd_core.model.loading import LoadedModel
from mrd_core.model.perturbation import Noise, PerturbedModel, checksum
from mrd_core.model.reader import Reader
from mrd_core.runs import JobContext
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import json_value, write_atomically
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.draws import SCOPES, SUMS, Draws, Mode
from mrd_core.scoring.encoded import digest_of_words, keep_encoded, stored_samples
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.forms import likelier_form
from mrd_core.scoring.measures import BACKWARD, FORWARD
from mrd_core.scoring.mrd import FINER, Baseline, Estimator, Unit, kept_tokens, measure_baseline
from mrd_core.scoring.pilot import START_SIGMA, Pilot, PrecisionGate, pilot_samples, precision_gate, run_pilot
from mrd_core.scoring.probes import SignProbes
from mrd_core.scoring.records import Plan
from mrd_core.scoring.schedule import Schedule, UnitKey
from mrd_core.scoring.workers import Workers

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

    def estimator(self, config: EstimatorConfig) -> Estimator | None:
        """Return the estimator that the plan describes; None where there is no noise."""
        if self.plan.sigma is None:
            return None
        noise = Noise(config.seed, self.plan.sigma)
        model = PerturbedModel(self.stage.scorer, noise, streamed=self.plan.streamed)
        return Estimator(
            self.stage.passes,
            model,
            self.baseline,
            config.mode,
            with_parts=self.plan.with_parts,
            within=compiled(self.stage.scorer) if self.plan.compiled else nullcontext,
            by_layers=self.plan.by_layers,
        )

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
            probes = SignProbes(
                gradients, encoded, self.baseline, config.scope, config.seed, with_spread=config.preview
            )
        sample_ids, kept = (
            self.stage.passes.encoded.sample_ids,
            kept_tokens(self.baseline, self.stage.passes.encoded),
        )
        sigma = np.nan if self.plan.sigma is None else self.plan.sigma
        schedule = Schedule(config, self.plan.probe_cost)
        return Source(sample_ids, kept, sigma, config.mode, schedule, self.estimator(config), probes)


@dataclass(frozen=True)
class Source:
    """Where the units of a run come from.

    Attributes:
        sample_ids: N ids.
        kept: See `Draws`.
        sigma: Standard deviation σ of the noise; NaN without.
        mode: Whether units are pairs.
        schedule: Their order.
        estimator: Draws pairs; None in a preview.
        probes: Draws sign probes.
    """

    sample_ids: tuple[str, ...]
    kept: npt.NDArray[np.int64]
    sigma: float
    mode: Mode
    schedule: Schedule
    estimator: Estimator | None
    probes: SignProbes | None

    def arrays(self, key: UnitKey) -> dict[str, Any]:
        """Draw a unit, from scratch: what its file holds."""
        if key.kind == "probe":
            assert self.probes is not None  # nobody asks for them otherwise
            return self.probes.unit(key.index)
        assert self.estimator is not None  # nor for these
        unit = self.estimator.unit(key.index)
        return {name: array for name, array in vars(unit).items() if array is not None}

    def draws(self, units: list[Unit], probes: list[dict[str, FloatArray]]) -> Draws:
        """Join units, pairs and those of sign probes."""
        nothing = np.empty((0, len(self.sample_ids), len(SCOPES), len(SUMS)))
        parts = [unit.parts for unit in units if unit.parts is not None]
        by_part = {name: np.concatenate([unit[name] for unit in probes]) for name in (probes[0] if probes else ())}
        return Draws(
            self.sample_ids,
            np.concatenate([nothing, *(unit.values for unit in units)]),
            self.kept,
            self.mode,
            self.sigma,
            np.stack(parts) if parts else None,
            by_part.get("speed"),
            by_part.get("spread"),
        )


def precision(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return a context within which passes in `dtype` are really computed in it."""
    return KeepDouble() if dtype is torch.float64 else nullcontext()


def prepare(config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles, context: JobContext) -> Prepared:
    """Decide everything, store it, and return it; move to a finer dtype while the precision gate says no.

    Raises:
        UserError: Bad model, nothing to score, or the precision gate refuses.
    """
    dtype: torch.dtype | None = None
    while True:
        context.progress(0, 1, message="Loading the model")
        stage = load_stage(config, forget_set, files.directory, context, dtype)
        context.progress(0, 1, message="Measuring the baseline")
        hidden_states = HiddenStates()
        baseline = measure_baseline(stage.passes, stage.model.dtype, hidden_states)
        _require_scored_tokens(baseline, stage, config.estimator.scope)
        if config.estimator.preview:
            plan = _plan(config, stage)
            break
        context.progress(0, 1, message="Calibrating σ")
        pilot, sigma, gate = _calibrated(config.estimator, stage, baseline)
        if gate.passed or config.estimator.preset == "paper":
            plan = _with_noise(_plan(config, stage), config, stage, pilot, sigma, gate)
            if not gate.passed:
                context.event("warning", f"Precision gate not passed: {gate.reason}")
            break
        dtype = _finer_dtype(config, stage, gate, context)
    likelier = likelier_form(stage.reader, stage.encoder, forget_set)
    warnings = (*stage.passes.encoded.notes, *filter(None, (likelier,)), *plan.warnings)
    kind, weights = kind_of(stage.model.device, stage.model.dtype), weights_checksum(stage.scorer)
    plan = plan.model_copy(update={"warnings": warnings, "device_kind": kind, "weights": weights})
    if config.estimator.has_probes:
        context.progress(0, 1, message="Trying gradients")
        plan = with_probes(plan, stage, context, config.estimator)
    if config.estimator.compile:
        context.progress(0, 1, message="Compiling the model")
        plan = _with_compilation(plan, stage, context)
    keep_encoded(files, stage.passes.encoded)
    write_atomically(files.hidden_states, lambda stream: np.save(stream, hidden_states.means()))
    write_atomically(files.baseline, lambda stream: np.save(stream, baseline.log_probs))
    text = plan.model_dump_json(indent=2).encode()
    write_atomically(files.plan, lambda stream: stream.write(text))
    return Prepared(plan, stage, baseline)


def resume(config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles, context: JobContext) -> Prepared:
    """Return what an earlier process prepared, loaded again.

    Raises:
        UserError: The model has other weights by now, or here.
    """
    plan = files.read_plan()
    torch.set_num_threads(plan.threads)
    stage = load_stage(config, forget_set, files.directory, context, models.DTYPES[plan.dtype], plan)
    plan = plan.model_copy(update={"weights": _same_weights(plan, config.model.source, stage.scorer)})
    return Prepared(plan, stage, Baseline(np.load(files.baseline, allow_pickle=False)))


def scored_model(files: ScoreFiles) -> tuple[LoadedModel, Encoder]:
    """Return the model of a score run in the precision of its draws, and what gives the tokens that were scored.

    Raises:
        UserError: Bad model, or it has other weights by now.
    """
    config, plan = read_config(files.directory, ScoreConfig).model, files.read_plan()
    model = models.load(config, models.DTYPES[plan.dtype])
    _same_weights(plan, config.source, Scorer(model.network))
    return model, model.encoder(config, stored_samples(files.directory, model.tokenizer, config))


def _same_weights(plan: Plan, source: str, scorer: Scorer) -> str:
    """Return the checksum of a model's weights, those that a run began with; one of an earlier version knows none.

    Raises:
        UserError: They are others.
    """
    weights = weights_checksum(scorer)
    if plan.weights not in ("", weights):
        raise UserError(
            f"The model '{source}'",
            "has other weights than those that the score run began with.",
            "Put the model back as it was, on every machine that uses the run, or launch a new score run.",
        )
    return weights


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
    reader = replace(model.reader(most, context.check_cancelled), on_batch=context.within)

    def report_halving(tokens: int) -> None:
        context.event("warning", f"Out of memory: batches are halved to {tokens} tokens and scoring goes on.")

    whole = replace(reader, network=scorer)
    passes = Passes(whole, encoded, on_halved=report_halving)
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
    asked = None if config.sigma == "auto" else config.sigma

    def piloted(*, largest: bool) -> Pilot:
        return run_pilot(few, few_baseline, config.seed, stage.model.dtype, config.scope, asked, largest=largest)

    with precision(stage.model.dtype):
        pilot = piloted(largest=asked is None and not config.has_probes)
        if asked is None and config.has_probes:
            # Probes have no σ, so what a pair says beside them must not depend on it either: a small one will do.
            gate = precision_gate(few, few_baseline, pilot, pilot.least_departing, config.scope)
            if gate.passed:
                return pilot, gate.sigma, gate
            pilot = piloted(largest=True)
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


def _plan(config: ScoreConfig, stage: Stage) -> Plan:
    """Return the plan of a run without noise."""
    workers = Workers.of(config.estimator, config.model)
    return Plan(
        device=str(stage.model.device),
        dtype=models.name_of(stage.model.dtype),
        sigma=None,
        template=stage.encoder.template.value,
        batch_tokens=stage.passes.batch_tokens,
        threads=workers.threads,
        workers=len(workers.devices),
        streamed=False,
        with_parts=False,
        gate_passed=True,
        gate={},
        pilot={},
        reasons={
            **{name: choice.stated for name, choice in stage.model.choices.items()},
            "template": stage.encoder.template.stated,
            "workers": workers.stated,
        },
        vocabulary=digest_of_words(stage.model.tokenizer),
    )


def _with_noise(
    plan: Plan, config: ScoreConfig, stage: Stage, pilot: Pilot, sigma: float, gate: PrecisionGate
) -> Plan:
    """Return a plan with noise of this σ."""
    streamed = must_stream(stage, config.estimator)
    by_layers = streamed and may_go_by_layers(stage)
    figures = asdict(gate) | {"signal_to_floor": gate.signal_to_floor, "reason": gate.reason}
    regime = pilot.tried.get(sigma)
    departs = regime is not None and not regime.quadratic
    return plan.model_copy(
        update={
            "sigma": sigma,
            "streamed": streamed,
            "by_layers": by_layers,
            "with_parts": config.estimator.mode == "antithetic",
            "gate_passed": gate.passed,
            "gate": {name: json_value(figure) for name, figure in figures.items()},
            "pilot": {f"{tried:g}": json_value(each.median) for tried, each in pilot.tried.items()},
            "reasons": plan.reasons
            | {
                "σ": _sigma_reason(config.estimator, pilot, sigma),
                "memory": memory_reason(streamed=streamed, by_layers=by_layers),
                "precision gate": ("passed: " if gate.passed else "not passed: ") + gate.reason,
            },
            "warnings": (f"σ = {sigma:g} is outside the regime in which MRD grows with σ²: {regime.reason}",)
            if regime is not None and departs
            else (),
        }
    )


def _with_compilation(plan: Plan, stage: Stage, context: JobContext) -> Plan:
    """Return a plan with a compiled model, or the same where it cannot be compiled."""
    if plan.streamed:
        reason: str | None = "its weights change within a pass, a layer at a time"
    elif plan.sigma is None:
        reason = "a preview makes no draws"
    else:
        shortest = stage.passes.of(np.argsort(stage.passes.encoded.lengths, kind="stable")[:2])
        reason = obstacle(compiled(stage.scorer), shortest)
    if reason:
        context.event("warning", f"The model is not compiled: {reason}.")
    reasons = plan.reasons | {"compilation": f"none: {reason}" if reason else "the model's body, as asked"}
    return plan.model_copy(update={"compiled": reason is None, "reasons": reasons})


def with_probes(plan: Plan, stage: Stage, context: JobContext, config: EstimatorConfig) -> Plan:
    """Return a plan with sign probes, or the same without where memory does not hold a backward pass.

    Raises:
        UserError: It does not, and a preview is asked for, which is made of them.
    """
    try:
        with precision(stage.model.dtype):
            gradients = SampleGradients(stage.reader, stage.passes.encoded)
    except UserError as error:
        if config.preview:
            raise
        context.event("warning", f"No sign probes: {error.what} {error.why}")
        return plan.model_copy(update={"reasons": plan.reasons | {"sign probes": f"none: {error.why}"}})
    layout = gradients.layout
    tokens = float(stage.passes.encoded.lengths.mean())
    cost = round(FORWARD + config.backward_passes_per_unit * (BACKWARD + gradients.norms_cost(tokens)), 2)
    return plan.model_copy(
        update={
            "probe_cost": cost if layout.in_batches else cost * ALONE,
            "in_batches": layout.in_batches,
            "by_autograd": tuple(sorted(layout.by_autograd)),
            "reasons": plan.reasons | {"sign probes": f"gradients {gradients.way}"},
        }
    )


def _sigma_reason(config: EstimatorConfig, pilot: Pilot, sigma: float) -> str:
    chosen = "as asked"
    if config.sigma == "auto":
        small = config.has_probes and sigma <= pilot.least_departing
        chosen = (
            "so small that it does not bias the probes" if small else "the pilot's largest in the quadratic regime"
        )
    regime = pilot.tried.get(sigma)
    return f"{sigma:g} ({chosen}" + (f"; {regime.reason.removesuffix('.')})" if regime else ")")


def weights_checksum(scorer: Scorer) -> str:
    """Return a checksum of the model's weights as they are scored, in hexadecimal."""
    return f"{checksum(scorer):016x}"


def weights_in(stage: Stage) -> int:
    """Return the number of the model's weights."""
    return sum(parameter.numel() for parameter in stage.scorer.parameters())


def must_stream(stage: Stage, config: EstimatorConfig) -> bool:
    """Tell whether a second copy of the weights is too much for the memory that is left."""
    parameters = list(stage.scorer.parameters())
    needed = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    spread = len({parameter.device for parameter in parameters}) > 1
    left = models.free_bytes(stage.model.device)
    if config.device_memory is not None:
        left = min(left, int(config.device_memory * 2**30) - needed)
    return not spread and needed > 0.9 * left


@torch.no_grad()
def may_go_by_layers(stage: Stage) -> bool:
    """Try on some samples whether passes that go through the model together end on the bits of each alone."""
    few = stage.passes.of(pilot_samples(stage.passes.encoded))
    model = PerturbedModel(stage.scorer, Noise(0, START_SIGMA), streamed=True)
    with precision(stage.model.dtype):
        try:
            together, _ = few.by_layers([model.transform(0, sign) for sign in (1, -1)])
        except NestedLayersError:
            return False
        for sign, log_probs in zip((1, -1), together, strict=True):
            with model.draw(0, sign):
                if not np.array_equal(few(), log_probs):
                    return False
    return True


def memory_reason(*, streamed: bool, by_layers: bool) -> str:
    """Return what noise takes of the memory, and why, for people."""
    if not streamed:
        return "one extra copy of the weights"
    way = "both signs of a pair and all batches go through it before the next" if by_layers else "batch by batch"
    return f"one extra layer, {way}: a second copy of the weights does not fit"
