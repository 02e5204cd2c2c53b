"""Before the first step: the model, the samples as tokens, and what the starting model makes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.encoder import Encoder
from mrd_core.model.encoding import (
    Encoded,
    EncodedSample,
    IntArray,
    answerable,
)
from mrd_core.model.generation import chosen_for_answers, own_answers
from mrd_core.model.loading import LoadedModel, name_of
from mrd_core.model.memorization import Memorized, answer_log_probs, extraction_likelihood, measure_memorization
from mrd_core.model.processes import ALONE, Processes
from mrd_core.model.reader import Reader
from mrd_core.runs import JobContext
from mrd_core.runs.files import read_json, write_frame, write_json
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.scoring.columns import MRD_ANSWER_MEAN
from mrd_core.scoring.encoded import stored_samples
from mrd_core.scoring.records import Scored
from mrd_core.settings.configuration import Choice
from mrd_core.unlearning import refusals
from mrd_core.unlearning.adapters import adapted, load_trainable
from mrd_core.unlearning.config import MOST_RETAIN_MEASURED, UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.memory import MemoryPlan, Shape, planned, remedies, size
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import Parameters, parsed, steered_layer
from mrd_core.unlearning.norms import SampleNorms, fault
from mrd_core.unlearning.optimisers import require_usable
from mrd_core.unlearning.request import copy_samples, held_out_set, overlap, require_retain
from mrd_core.unlearning.sampling import SAMPLERS, effective_share, nearly_uniform
from mrd_core.unlearning.stopping import Thresholds
from mrd_core.unlearning.texts import Answers, TextBatch, answers

# Of the starting model's retain loss, and in its unit: a limit that noise alone does not pass.
SLACK, MORE_SLACK = 1.1, 0.05
REMEMBERED = "remembered"


@dataclass(frozen=True)
class Prepared:
    """All that training needs.

    Attributes:
        model: The loaded model.
        trained: What is trained: its network, or the network in a peft wrapper.
        encoder: Turns prompts and answers into its tokens.
        forget: N samples, each with an answer token in the context.
        curriculum: One row for each of them, see `UnlearningFiles.curriculum`.
        retain: What is kept; None without a retain set.
        with_replacement: Whether the sampler draws by probabilities, and not in a strict order.
        learning_rate: As asked, or as chosen.
        reasons: For each automatic choice, what was chosen and why.
        warnings: What a reader of the run should know, in sentences.
        before_batch: Called before each batch that is measured; raises to stop.
        processes: Those that measure the same together.
        memory: What a step will hold; None where that is not known of such a model.
        margin: By how much a remembered token leads [logits].
        norms: Measures the norms of samples' gradients on the way; None where that is not asked for or impossible.
    """

    model: LoadedModel
    trained: Any
    encoder: Encoder
    forget: Encoded
    curriculum: pd.DataFrame
    retain: Encoded | None
    with_replacement: bool
    learning_rate: float
    reasons: dict[str, str]
    warnings: list[str]
    before_batch: Callable[[], None] = lambda: None
    processes: Processes = ALONE
    memory: MemoryPlan | None = None
    margin: float = 0.0
    norms: SampleNorms | None = None

    @property
    def parameters(self) -> int:
        """Weights of the model, without those of an adapter."""
        return sum(weight.numel() for name, weight in self.trained.named_parameters() if "lora_" not in name)

    @property
    def shares(self) -> FloatArray:
        """Expected share of each sample in the draws of the first epoch, shape (N,)."""
        shares = self.curriculum["share"].to_numpy(dtype=np.float64)
        return np.asarray(shares / shares.sum())

    @property
    def evenness(self) -> dict[str, Any]:
        """How far the draws are from uniform; a strict order has no probabilities that could be."""
        if not self.with_replacement:
            return {"effective_share": 1.0, "nearly_uniform": None}
        return {"effective_share": effective_share(self.shares), "nearly_uniform": nearly_uniform(self.shares)}

    @cached_property
    def reader(self) -> Reader:
        """What is trained, as it is read without gradients."""
        reader = self.model.reader(before_batch=self.before_batch)
        return replace(reader, network=self.trained, processes=self.processes)

    def memorized(self, samples: Encoded, chosen: IntArray | None = None) -> Memorized:
        """Measure MA and NLL on the present weights, and what is remembered at the margin."""
        return measure_memorization(
            self.reader, samples if chosen is None else samples.subset(chosen), self.margin
        )

    def extraction(self, samples: Encoded, chosen: IntArray | None = None) -> FloatArray:
        """Measure EL on the present weights."""
        return extraction_likelihood(self.reader, samples if chosen is None else samples.subset(chosen))

    def own_answers(self, chosen: IntArray) -> list[str]:
        """Let the model answer the prompts of these forget samples; "" where a sample has no prompt."""
        return own_answers(self.reader, self.model.tokenizer, self.forget.subset(chosen).samples)

    def answer_log_probs(self) -> pd.DataFrame:
        """Return log p of every answer token of the forget set on the present weights."""
        return answer_log_probs(self.reader, self.forget)


@dataclass(frozen=True)
class Start:
    """What the starting model makes of the samples.

    Attributes:
        accuracy: MA of each forget sample, shape (N,).
        nll: NLL per answer token of each [nats], shape (N,).
        remembered: MA at the margin of the run, shape (N,).
        retained: Mean MA and NLL on the retain set; None without one.
        thresholds: When a sample is forgotten.
        scored: What is kept of the score run.
    """

    accuracy: FloatArray
    nll: FloatArray
    remembered: FloatArray
    retained: tuple[float, float] | None
    thresholds: Thresholds
    scored: Scored

    @classmethod
    def stored(cls, files: UnlearningFiles) -> Start:
        """Read what `store` and `measure_start` wrote."""
        stored = read_json(files.start)
        before = pd.read_parquet(files.before)
        retained = stored["retain_accuracy"], stored["retain_nll"]
        return cls(
            before["accuracy"].to_numpy(),
            before["nll"].to_numpy(),
            # Runs of before there was a margin have none.
            before[REMEMBERED if REMEMBERED in before else "accuracy"].to_numpy(),
            None if retained[0] is None else retained,
            Thresholds(**stored["thresholds"]),
            Scored.model_validate(read_json(files.scored)),
        )

    def store(self, prepared: Prepared, files: UnlearningFiles) -> None:
        """Write the figures of the whole set, with what was decided in preparation; those of samples lie apart."""
        write_json(
            files.start,
            {
                "thresholds": asdict(self.thresholds),
                "forget_accuracy": float(self.accuracy.mean()),
                "forget_nll": float(self.nll.mean()),
                "retain_accuracy": self.retained and self.retained[0],
                "retain_nll": self.retained and self.retained[1],
                **prepared.evenness,
                "memory": prepared.memory and prepared.memory.model_dump(mode="json"),
                "reasons": prepared.reasons,
                "warnings": prepared.warnings,
            },
        )


def prepare(config: UnlearnConfig, files: UnlearningFiles, context: JobContext, processes: int = 1) -> Prepared:
    """Load the model and encode the samples for it.

    Args:
        config: Of the run.
        files: Of the run.
        context: Its link to the outside.
        processes: How many share the cores of the machine.

    Raises:
        UserError: Bad model, retain set or settings; nothing to forget.
    """
    require_retain(config)
    if not files.curriculum.exists():
        copy_samples(config, files)
    context.progress(0, 1, message="Loading the model")
    threads = models.set_threads(processes)
    reasons: dict[str, str] = {}
    warnings: list[str] = []
    keeps, frozen = ("float32", "bfloat16", "float64"), config.optimiser.lora_rank is not None
    model = load_trainable(config.model, reasons, keeps=keeps, frozen=frozen, spread=config.optimiser.spread)
    require_usable(config.optimiser, model.device, model.dtype)
    if model.dtype is torch.bfloat16 and not frozen:
        warnings.append(
            "The weights are trained in bfloat16, whose spacing is wider than most steps of a usual learning "
            "rate: many weights will not move. Mixed precision (bf16) keeps them in float32."
        )
    forget_set = ForgetSet.load(files.samples)
    retain_set = None
    if config.retain.samples is not None:
        # The run's own copy.
        retain_set = ForgetSet.load(files.retain)
        if left_out := retain_set.report.n_valid - len(retain_set):
            warnings.append(
                f"{left_out} rows of the retain set are in the forget set too and were left out of it."
            )
    elif config.evaluation.every_steps is not None:
        warnings.append(
            "Evaluations on the way have no retain set: completeness is the mean of UA and RR without MIA, and "
            "there is no utility."
        )
    encoder = model.encoder(config.model, stored_samples(config.score_run, model.tokenizer, config.model))
    forget = _encoded(forget_set, encoder, "forget", warnings)
    retain = None
    if retain_set is not None:
        retain = _encoded(retain_set, encoder, "retain", warnings)
    curriculum = _kept(pd.read_parquet(files.curriculum), forget, files)
    rate = config.optimiser.rate_for(sum(weight.numel() for weight in model.network.parameters()))
    memory = _memory(config, model, [forget, *([retain] if retain else [])], processes, warnings)
    reasons |= {"memory": memory.in_words} if memory else {}
    reasons |= {"learning rate": rate.stated, "template": encoder.template.stated, "threads": threads.stated}
    if margin := config.stopping.margin:
        reasons["remembered token"] = Choice(f"one that leads by more than {margin:g} logits", "as asked").stated
    if (method := METHODS[config.method]).steers:
        reasons["steered layer"] = _steered(parsed(method, config.parameters), model).stated
    trained = _trained(config, model)
    norms = _norms(config, trained, forget, model.device, reasons)
    return Prepared(
        model=model,
        trained=trained,
        encoder=encoder,
        forget=forget,
        curriculum=curriculum,
        retain=retain,
        with_replacement=SAMPLERS[config.curriculum.sampler].with_replacement,
        learning_rate=float(rate.value),
        reasons=reasons,
        warnings=warnings,
        memory=memory,
        margin=margin,
        norms=norms,
    )


def measure_start(config: UnlearnConfig, prepared: Prepared, files: UnlearningFiles, context: JobContext) -> Start:
    """Measure the starting model and store its measures; a resumed run reads what the first attempt stored.

    Raises:
        UserError: The thresholds cannot be had.
    """
    if files.start.exists():
        # What was decided or found only here is of the whole run.
        stored = read_json(files.start)
        prepared.reasons.update(stored["reasons"] | prepared.reasons)
        prepared.warnings.extend(text for text in stored["warnings"] if text not in prepared.warnings)
        return Start.stored(files)
    context.progress(0, 1, message="Measuring the model before unlearning")
    memorized = prepared.memorized(prepared.forget)
    frame = pd.DataFrame({"sample_id": prepared.forget.sample_ids} | memorized._asdict())
    retained = retain_measures(prepared)
    if config.retain_limit == "auto":
        unit = "" if config.retain_term == "states" else " nats per token"
        begins = f"{SLACK:g} times that of the starting model"
        if config.retain_term != "nll":
            begins = "0, which the term is of the starting model"
        why = f"{begins}, and {MORE_SLACK:g} more"
        prepared.reasons["retain limit"] = Choice(f"{retain_limit(config, retained):.3g}{unit}", why).stated
        context.event("info", f"retain limit: {prepared.reasons['retain limit']}")
    context.progress(0, 1, message="Setting the thresholds")
    thresholds = _thresholds(config, prepared, memorized, files)
    write_frame(files.before, frame)
    scored = Scored.model_validate(read_json(files.scored))
    start = Start(*memorized, retained, thresholds, scored)
    start.store(prepared, files)
    return start


def keep_answers(config: UnlearnConfig, prepared: Prepared, files: UnlearningFiles, context: JobContext) -> None:
    """Store what the starting model answers and holds likely, as long as its weights are there."""
    if files.tokens_before.exists():
        return
    context.progress(0, 1, message="Writing down the model's answers before unlearning")
    difficulty = prepared.curriculum[MRD_ANSWER_MEAN].to_numpy(dtype=np.float64)
    chosen = chosen_for_answers(difficulty, config.answers)
    ids = [prepared.forget.sample_ids[i] for i in chosen]
    answered = pd.DataFrame({"sample_id": ids, "own_answer": prepared.own_answers(chosen)})
    write_frame(files.answers_before, answered)
    write_frame(files.tokens_before, prepared.answer_log_probs())


def retain_measures(prepared: Prepared) -> tuple[float, float] | None:
    """Return mean MA and NLL on the retain set (of a large one, on part of it) on the present weights."""
    if prepared.retain is None:
        return None
    memorized = prepared.memorized(prepared.retain, evenly_spaced(len(prepared.retain), MOST_RETAIN_MEASURED))
    return float(memorized.accuracy.mean()), float(memorized.nll.mean())


def retain_limit(config: UnlearnConfig, retained: tuple[float, float] | None) -> float | None:
    """Return where the retain loss is held, in the unit of its term; None where it is weighed.

    Args:
        config: Of the run.
        retained: MA and NLL of the starting model on the retain set.
    """
    limit = config.retain_limit
    if limit != "auto":
        return limit
    assert retained is not None  # whoever holds a retain loss has a retain set
    # The other terms are how far the model is from the starting one.
    start = retained[1] if config.retain_term == "nll" else 0.0
    return SLACK * start + MORE_SLACK


def starting_model_of(
    config: UnlearnConfig, prepared: Prepared, layer: int | None = None
) -> Callable[[TextBatch], Answers] | None:
    """Return what the starting model says, with the states of a layer, where the loss needs it; else None.

    It is the model without its adapter, or else a second copy of the weights.
    """
    if not config.needs_starting_model:
        return None
    start, as_it_was = prepared.trained, nullcontext
    if config.optimiser.lora_rank:
        as_it_was = start.disable_adapter
    else:
        start = copy.deepcopy(prepared.model.network).eval().requires_grad_(False)

    def starting_model(batch: TextBatch) -> Answers:
        with torch.no_grad(), as_it_was():
            return answers(start, batch, layer)

    return starting_model


def refused_of(
    config: UnlearnConfig, prepared: Prepared, prompts: Mapping[str, str], files: UnlearningFiles
) -> Any:
    """Return the function that gives a forget sample a refusal for its answer; None where the method needs none.

    Args:
        config: Of the run.
        prepared: The model and its samples.
        prompts: By sample id.
        files: Of the run, its copy of the refusals among them.
    """
    if not METHODS[config.method].has_refusals:
        return None
    lines = refusals.load(files.refusals)

    def refused(sample_id: str, step: int) -> EncodedSample:
        refusal = refusals.choose(lines, config.seed, sample_id, step)
        return prepared.encoder.one(prompts[sample_id], refusal, sample_id)

    return refused


def _memory(
    config: UnlearnConfig, model: LoadedModel, encoded: Sequence[Encoded], processes: int, warnings: list[str]
) -> MemoryPlan | None:
    """Plan what a step holds beside the loaded model, and hold it against what is free; `warnings` is told.

    Returns:
        None for a model of unknown sizes, and for one that is spread over several devices.

    Raises:
        UserError: Not even one sample at a time fits.
    """
    network = model.network
    parameters = sum(weight.numel() for weight in network.parameters())
    shape = Shape.of(network.config.to_dict(), parameters)
    if shape is None or len(set(getattr(network, "hf_device_map", {}).values())) > 1:
        return None
    samples = [sample for texts in encoded for sample in texts.samples]
    longest = max(samples, key=lambda sample: len(sample.tokens))
    on_gpu = model.device.type == "cuda"

    def plan(wanted: UnlearnConfig) -> MemoryPlan:
        sizes = len(longest.tokens), int(longest.answer.sum())
        return planned(wanted, shape, *sizes, dtype=name_of(model.dtype), on_gpu=on_gpu, processes=processes)

    # The model is there already.
    free = models.free_bytes(model.device) + parameters * model.dtype.itemsize
    memory = plan(config).model_copy(update={"free": free})
    if memory.peak <= free:
        return memory
    found = remedies(config, lambda wanted: plan(wanted).peak, free)
    advice = f"It would fit with {' or with '.join(found)}." if found else "Use a device with more memory."
    if memory.least > free:
        raise UserError(
            "A training step with a single sample in memory",
            f"holds {size(memory.least)}, and {model.device} has {size(free)} free for it and the model.",
            advice,
        )
    warnings.append(
        f"A step is planned to hold {size(memory.peak)}, and {model.device} has {size(free)} free for it and the "
        f"model: where memory runs out, micro-batches are halved, which takes time. {advice}"
    )
    return memory


def _steered(parameters: Parameters, model: LoadedModel) -> Choice:
    """Return the layer whose states are steered, and why."""
    layers = int(model.network.config.get_text_config().num_hidden_layers)
    layer = steered_layer(parameters, layers)
    return Choice(str(layer), "as asked" if layer == parameters["ell"] else f"the model has {layers} layers")


def _kept(curriculum: pd.DataFrame, forget: Encoded, files: UnlearningFiles) -> pd.DataFrame:
    """Leave those samples out of the curriculum, and of its file, that cannot be trained on."""
    if len(curriculum) == len(forget):
        return curriculum
    kept = curriculum[curriculum["sample_id"].isin(forget.sample_ids)].reset_index(drop=True)
    kept["share"] /= kept["share"].sum()
    write_frame(files.curriculum, kept)
    return kept


def _trained(config: UnlearnConfig, model: LoadedModel) -> Any:
    settings = config.optimiser
    if settings.lora_rank is None:
        return model.network.requires_grad_(True)
    rank, alpha, checkpointing = settings.lora_rank, settings.lora_alpha, settings.gradient_checkpointing
    return adapted(model.network, rank, alpha, config.seed, checkpointing=checkpointing)


def _norms(
    config: UnlearnConfig, trained: Any, forget: Encoded, device: torch.device, reasons: dict[str, str]
) -> SampleNorms | None:
    """Return what measures the norms of samples' gradients; None where that is not asked for or impossible."""
    if not config.gradient_steps:
        return None
    reason = "gradient checkpointing does not keep what they are made of"
    if not config.optimiser.gradient_checkpointing:
        few = forget.subset(np.argsort(forget.lengths, kind="stable")[[0, -1]])
        reason = fault(trained, few.samples[: len(forget)], device)
    every = f"every {config.gradient_steps} steps"
    reasons["gradient shares"] = (
        Choice("not measured", reason).stated if reason else Choice(every, "from the pass that trains").stated
    )
    return None if reason else SampleNorms(trained)


def _thresholds(config: UnlearnConfig, prepared: Prepared, start: Memorized, files: UnlearningFiles) -> Thresholds:
    """Return when a sample counts as forgotten.

    Args:
        config: Of the run.
        prepared: The starting model.
        start: MA of its forget samples.
        files: Of the run.
    """
    stopping, subject, texts = config.stopping, prepared, prepared.forget
    forget_set = ForgetSet.load(files.samples)
    if stopping.source == "absolute":
        extraction_likelihood = stopping.extraction_likelihood if stopping.extraction else None
        return Thresholds.absolute(stopping.accuracy, extraction_likelihood, stopping.margin)
    if stopping.source == "held-out":
        # Runs of earlier versions have no copy.
        held_out = ForgetSet.load(files.held_out) if files.held_out.exists() else held_out_set(stopping)
        prepared.warnings.extend(overlap(held_out, forget_set))
        texts = _encoded(held_out, prepared.encoder, "held-out", [])
    if stopping.source == "reference":
        # The forget set on a model that was trained without it.
        assert stopping.reference is not None  # the configuration sees to it
        changes = {"device": config.model.device, "dtype": "float32"}
        model = models.load(config.model.beside(stopping.reference).model_copy(update=changes))
        subject = replace(prepared, model=model, trained=model.network)
        texts = _encoded(forget_set, model.encoder(config.model), "forget", [])
    memorized = start if stopping.source == "initial-average" else subject.memorized(texts)
    extraction = subject.extraction(texts) if stopping.extraction else None
    return Thresholds.average(memorized.remembered, extraction, stopping.source, stopping.margin)


def _encoded(texts: ForgetSet, encoder: Encoder, name: str, warnings: list[str]) -> Encoded:
    """Return those of these texts as tokens that have an answer token within the context."""
    encoded = encoder.encode(texts)
    warnings += [f"Of the {name} set {note}" for note in encoded.notes]
    return answerable(encoded, name, warnings)
