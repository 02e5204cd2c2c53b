"""Unlearned models under attack: what they know of the forget samples before, on the way and after."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.evaluation.overlap import rouge_l
from mrd_core.experiments.experiment import Material
from mrd_core.experiments.files import ExperimentFiles, Row
from mrd_core.experiments.kinds.durability import (
    COURSE,
    ENOUGH,
    KEPT,
    PROMPTED,
    RATE,
    REFERENCE,
    ROUND_TRIP,
    RUNG,
    RUNGS,
    SAMPLED,
    START,
    DurabilityConfig,
)
from mrd_core.experiments.samples import drawn, drawn_reason
from mrd_core.model.config import ModelConfig
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray, answerable
from mrd_core.model.generation import prompt_of, write
from mrd_core.model.loading import LoadedModel
from mrd_core.model.memorization import log_probs_and_hits
from mrd_core.model.reader import Reader, within_memory
from mrd_core.model.round_trip import round_weights
from mrd_core.runs import JobContext
from mrd_core.runs.files import read_json
from mrd_core.runs.kind import kind_named
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.scoring.encoded import stored_samples
from mrd_core.scoring.measuring import extraction_strength
from mrd_core.unlearning.adapters import load_trainable
from mrd_core.unlearning.config import OptimiserConfig
from mrd_core.unlearning.losses import sample_nll
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.texts import TextBatch, answers

if TYPE_CHECKING:
    from mrd_core.experiments.kinds.durability import Attack

# Most rows in memory at a time while training; halved while memory runs out.
MICRO_BATCH = 8
# Of a retain set so many samples, evenly spaced, are looked at.
RETAIN_SAMPLES = 40
# The training loss that is noted is the mean of so many last steps.
LAST_STEPS = 4
MAX_GRAD_NORM = 1.0


class Look(NamedTuple):
    """What a model knows of N samples.

    Attributes:
        accuracy: MA, shape (N,).
        nll: NLL [nats per answer token], shape (N,).
        extraction: Extraction strength, shape (N,).
        rouge: ROUGE-L recall of its own answers, shape (N,); NaN where none was written.
    """

    accuracy: FloatArray
    nll: FloatArray
    extraction: FloatArray
    rouge: FloatArray

    def at(self, sample: int) -> dict[str, float | None]:
        """Return it for one sample, as JSON values."""
        return {name: _rounded(values[sample]) for name, values in self._asdict().items()}


@dataclass(frozen=True, eq=False)
class Victim:
    """A model under attack.

    Attributes:
        model: As it is loaded; trained without dropout.
        reader: The same as it is read.
        origin: Its weights before any attack.
        forget: The studied samples as its tokens.
        retain: Retain samples that benign relearning trains on; None without any.
        unrelated: The texts of the control.
        paraphrases: Samples asked otherwise; None without any.
    """

    model: LoadedModel
    reader: Reader
    origin: list[Tensor]
    forget: Encoded
    retain: Encoded | None
    unrelated: Encoded
    paraphrases: Encoded | None

    def restore(self) -> None:
        """Give the model the weights that it had before any attack."""
        weights = list(self.model.network.parameters())
        with torch.no_grad():
            torch._foreach_copy_(weights, self.origin)
        for weight in weights:
            weight.grad = None


class Relearner:
    """Carries out the attacks of a durability experiment, one model in memory at a time.

    Args:
        config: Of the experiment.
        material: Its samples.
        files: Of its directory.
        context: Tells whether somebody cancelled the run.

    Attributes:
        warnings: What a reader of the run should know, in sentences.

    Raises:
        UserError: No sample is in all runs.
    """

    def __init__(
        self, config: DurabilityConfig, material: Material, files: ExperimentFiles, context: JobContext
    ) -> None:
        self._config = config
        self._context = context
        self._files = files
        self._retain = material.retain_set
        self._told = {entry["model"]: entry for entry in read_json(files.unlearned)}
        unlearned = pd.read_parquet(files.outcomes, columns=["model", "sample_id"])
        shared = unlearned.groupby("sample_id")["model"].nunique() == len(config.runs)
        in_all = material.forget_set.frame["sample_id"].isin(shared.index[shared])
        if not in_all.any():
            raise UserError(
                "The unlearning runs", "have no sample in common.", "Attack them in experiments of their own."
            )
        common = material.forget_set.subset(in_all)
        self._forget_set = drawn(common, config.samples, config.seed_of("samples"))
        self._reasons = {"samples": drawn_reason(self._forget_set, common, config.seed)}
        self.warnings: list[str] = []
        frame = self._forget_set.frame
        pools = {"jogging": self._forget_set, "control": ForgetSet.load(files.unrelated)}
        if self._retain is not None:
            pools["benign"] = self._retain
        self._pools = {attack: pool.frame["sample_id"].to_numpy(object) for attack, pool in pools.items()}
        self._answers: dict[str, str] = dict(zip(frame["sample_id"], frame["answer"], strict=True))
        # Of the model in memory, by its name.
        self._victim: tuple[str, Victim] | None = None
        self._first: tuple[str, Look] | None = None

    @property
    def reasons(self) -> dict[str, str]:
        """For each automatic choice, what was chosen and why; a model is loaded where none was yet."""
        if self._victim is None:
            self._loaded(self._config.models[0])
        return self._reasons

    @property
    def studied(self) -> int:
        """How many samples are studied."""
        return len(self._forget_set)

    def tries(self, name: str, attack: Attack) -> list[Row]:
        """Try learning rates until enough of what a model had forgotten is back, the lowest first."""
        began = self._first_rate(name)
        rows: list[Row] = []
        for rung in range(RUNGS):
            rate = began * RUNG**rung
            looks = self._course(name, attack, 0, rate, "none").looks
            finite = len(looks) == len(self._config.looks)
            gone = (looks[0].accuracy < self._config.accuracy) & ~self._trained(name, attack, 0)
            back = gone & (looks[-1].accuracy >= self._config.accuracy)
            share = float(back.sum() / gone.sum()) if finite and gone.any() else 0.0
            rows.append(RATE.row(learning_rate=rate, returned=share, finite=finite))
            if not finite or share >= ENOUGH:
                break
        return rows

    def _first_rate(self, name: str) -> float:
        """Return the learning rate that a model was unlearned at, or where that was not AdamW's, AdamW's own."""
        told = self._told[name]
        if told["config"].get("optimiser", {}).get("name") == "sgd":
            weights = sum(weight.numel() for weight in self._loaded(name).model.network.parameters())
            return float(OptimiserConfig().rate_for(weights).value)
        return UnlearningSummary.model_validate(told["summary"]).rate_of_all_weights

    def start(self, name: str) -> list[Row]:
        """Look at a model before any attack."""
        look = self._before(name)
        return [
            START.row(model=name, sample_id=sample_id, **look.at(i))
            for i, sample_id in enumerate(self._loaded(name).forget.sample_ids)
        ]

    def course(self, name: str, attack: Attack, seed: int, rate: float) -> list[Row]:
        """Train a model on other rows and look at the forget samples on the way; no rows where that diverged."""
        course = self._course(name, attack, seed, rate, self._config.answers)
        if len(course.looks) < len(self._config.looks):
            return []
        trained = self._trained(name, attack, seed)
        ids = self._loaded(name).forget.sample_ids
        rows: list[Row] = [
            KEPT.row(
                model=name,
                attack=attack,
                seed=seed,
                retain_accuracy=course.retain_accuracy,
                loss=round(float(np.mean(course.losses[-LAST_STEPS:])), 6),
            )
        ]
        for i, sample_id in enumerate(ids):
            values = [look.at(i) for look in course.looks]
            rows.append(
                COURSE.row(
                    model=name,
                    attack=attack,
                    seed=seed,
                    sample_id=sample_id,
                    trained=bool(trained[i]),
                    **{f"{column}_course": [value[column] for value in values] for column in Look._fields},
                )
            )
        return rows

    def rounded(self, name: str, bits: int) -> list[Row]:
        """Look at a model whose weights were rounded to so many bits."""
        victim = self._fresh(name)
        round_weights(victim.model.network, bits)
        look = self._look(victim, victim.forget)
        return [
            ROUND_TRIP.row(model=name, bits=bits, sample_id=sample_id, **look.at(i))
            for i, sample_id in enumerate(victim.forget.sample_ids)
        ]

    def prompted(self, name: str) -> list[Row]:
        """Begin the answers for a model, and ask it otherwise."""
        victim = self._fresh(name)
        rows: list[Row] = []
        for given in self._config.given:
            for sample_id, rouge in zip(victim.forget.sample_ids, self._begun(victim, given), strict=True):
                rows.append(PROMPTED.row(model=name, given=given, sample_id=sample_id, rouge=_rounded(rouge)))
        if victim.paraphrases is not None:
            look = self._look(victim, victim.paraphrases)
            for i, sample_id in enumerate(victim.paraphrases.sample_ids):
                rows.append(PROMPTED.row(model=name, given=None, sample_id=sample_id, rouge=look.at(i)["rouge"]))
        return rows

    def sampled(self, name: str) -> list[Row]:
        """Draw answers of a model, one of each sample after the other, until there are enough or time is up."""
        victim = self._fresh(name)
        chosen = victim.forget.subset(evenly_spaced(len(victim.forget), self._config.sampled))
        prompts, budgets = _asked(chosen)
        rows: list[Row] = []
        began = time.monotonic()
        for draw in range(self._config.draws):
            seed = self._config.seed_of("sampling", draw)
            texts = write(victim.reader, victim.model.tokenizer, prompts, budgets, seed)
            for sample_id, text in zip(chosen.sample_ids, texts, strict=True):
                recall = rouge_l(text, self._answers[sample_id]).recall
                rows.append(SAMPLED.row(model=name, draw=draw, sample_id=sample_id, rouge=_rounded(recall)))
            if time.monotonic() - began > self._config.sampling_seconds:
                break
        return rows

    def _course(self, name: str, attack: Attack, seed: int, rate: float, written: str) -> _Course:
        victim = self._fresh(name)
        network = victim.model.network
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0, fused=True)
        course, before = _Course(), self._before(name)
        if written == "none":
            before = before._replace(rouge=np.full_like(before.rouge, np.nan))
        retain = self._looked_at(victim, attack, seed)
        course.add(before, self._retained(victim, retain))
        for step, batch in enumerate(self._batches(victim, attack, seed), start=1):
            self._context.check_cancelled()
            loss = self._step(victim, batch, optimiser)
            if not math.isfinite(loss):
                break
            course.losses.append(loss)
            if step in self._config.looks:
                writes = written == "looks" or (written == "ends" and step == self._config.steps)
                course.add(self._look(victim, victim.forget, writes=writes), self._retained(victim, retain))
        return course

    def _step(self, victim: Victim, batch: Sequence[EncodedSample], optimiser: torch.optim.Optimizer) -> float:
        """Move the weights once towards these answers; return the loss before [nats per token]."""
        network, tokens = victim.model.network, sum(int(sample.answer.sum()) for sample in batch)

        def accumulate(most: int) -> float:
            optimiser.zero_grad()
            total = 0.0
            for begin in range(0, len(batch), most):
                texts = TextBatch.of(batch[begin : begin + most], victim.model.device)
                loss = sample_nll(answers(network, texts).log_probs, texts.mask).sum() / tokens
                torch.autograd.backward(loss)
                total += float(loss.detach())
            return total

        network.train()
        loss = within_memory(accumulate, MICRO_BATCH, what="A training step with a single row in memory")
        if math.isfinite(loss):
            norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRAD_NORM))
            # Clipped by a norm that is no number, no weight would be one, and the last look would say "forgotten".
            loss = loss if math.isfinite(norm) else norm
        if math.isfinite(loss):
            optimiser.step()
        network.eval()
        return loss

    def _batches(self, victim: Victim, attack: Attack, seed: int) -> Iterator[list[EncodedSample]]:
        """Yield the rows of each step: those of the attack, in an order drawn anew each time all were had."""
        pool = {"jogging": victim.forget, "benign": victim.retain, "control": victim.unrelated}[attack]
        assert pool is not None  # an attack without rows is left out
        places = self._places(pool, attack, seed)
        generator = np.random.default_rng(self._config.seed_of(attack, seed, "order"))
        waiting: list[int] = []
        for _ in range(self._config.steps):
            while len(waiting) < self._config.batch_size:
                waiting += generator.permutation(places).tolist()
            batch, waiting = waiting[: self._config.batch_size], waiting[self._config.batch_size :]
            yield [pool.samples[place] for place in batch]

    def _places(self, pool: Encoded, attack: Attack, seed: int) -> IntArray:
        """Return where in a pool the rows are that an attack trains on.

        They are drawn by id from all that there are: the same in a model that cannot read one of them.

        Raises:
            UserError: It can read none of them.
        """
        known = self._pools[attack]
        order = np.random.default_rng(self._config.seed_of(attack, seed, "rows")).permutation(len(known))
        chosen = known[order[: self._config.rows(self.studied)]]
        places = np.flatnonzero(np.isin(np.asarray(pool.sample_ids, dtype=object), chosen))
        if not len(places):
            raise UserError(
                f"Relearning on {attack} rows",
                "has nothing to train on: the context of a model ends before the answers of all that were drawn.",
                "Use shorter samples, or a larger --share.",
            )
        return places

    def _trained(self, name: str, attack: Attack, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which studied samples an attack trains on, shape (N,)."""
        forget = self._loaded(name).forget
        trained = np.zeros(len(forget), dtype=bool)
        if attack == "jogging":
            trained[self._places(forget, attack, seed)] = True
        return trained

    def _look(self, victim: Victim, samples: Encoded, *, writes: bool = True) -> Look:
        log_probs, hits = victim.reader.answers(samples, log_probs_and_hits)
        strengths = [extraction_strength(hits[where]) for where in samples.answer_slices]
        rouge = np.full(len(samples), np.nan)
        if writes:
            prompts, budgets = _asked(samples)
            texts = write(victim.reader, victim.model.tokenizer, prompts, budgets)
            rouge = np.array(
                [
                    rouge_l(text, self._answers[sample_id]).recall
                    for sample_id, text in zip(samples.sample_ids, texts, strict=True)
                ]
            )
        return Look(samples.answer_means(hits), -samples.answer_means(log_probs), np.array(strengths), rouge)

    def _begun(self, victim: Victim, given: int) -> list[float]:
        """Return the ROUGE-L recall of the rest of answers whose first tokens are given; NaN without a rest."""
        prompts: list[IntArray | None] = []
        budgets, rests = [], []
        for sample in victim.forget.samples:
            positions = np.flatnonzero(sample.answer)
            # The answer's EOS is no word.
            inside = len(positions) > given + 1
            prompts.append(sample.tokens[: positions[given] + 1] if inside else None)
            rest = sample.tokens[positions[given:] + 1] if inside else ()
            rests.append(str(victim.model.tokenizer.decode(rest, skip_special_tokens=True)))
            budgets.append(max(len(positions) - given, 1))
        texts = write(victim.reader, victim.model.tokenizer, prompts, budgets)
        return [rouge_l(text, rest).recall for text, rest in zip(texts, rests, strict=True)]

    def _looked_at(self, victim: Victim, attack: Attack, seed: int) -> Encoded | None:
        """Return the retain samples that tell what an attack does to the rest: none that it trains on."""
        if victim.retain is None:
            return None
        others = np.arange(len(victim.retain))
        if attack == "benign":
            others = np.setdiff1d(others, self._places(victim.retain, attack, seed))
        chosen = others[evenly_spaced(len(others), RETAIN_SAMPLES)]
        return victim.retain.subset(chosen) if len(chosen) else None

    def _retained(self, victim: Victim, samples: Encoded | None) -> float | None:
        if samples is None:
            return None
        _log_probs, hits = victim.reader.answers(samples, log_probs_and_hits)
        return _rounded(float(np.nanmean(samples.answer_means(hits))))

    def _before(self, name: str) -> Look:
        """Look at a model before any attack; every course begins with it."""
        if self._first is None or self._first[0] != name:
            victim = self._fresh(name)
            self._first = name, self._look(victim, victim.forget)
        return self._first[1]

    def _fresh(self, name: str) -> Victim:
        """Return a model with the weights that it had before any attack."""
        victim = self._loaded(name)
        victim.restore()
        return victim

    def _loaded(self, name: str) -> Victim:
        if self._victim is None or self._victim[0] != name:
            # One model at a time: the one before it goes first.
            self._victim = None
            self._victim = name, self._load(name)
        return self._victim[1]

    def _load(self, name: str) -> Victim:
        config = self._config.model
        wanted = {"device": config.device, "dtype": config.dtype}
        source = self._source(name).model_copy(update=wanted)
        reasons: dict[str, str] = {}
        model = load_trainable(source, reasons, keeps=("float64",))
        model.network.requires_grad_(True)
        self._reasons |= reasons
        stored = stored_samples(self._config.score_run, model.tokenizer, source)
        encoder = model.encoder(source, stored)
        self._reasons["template"] = encoder.template.stated

        def encoded(samples: ForgetSet, what: str) -> Encoded:
            lost: list[str] = []
            kept = answerable(encoder.encode(samples), what, lost)
            # Of the forget samples each first look tells, also after a stop.
            new = [warning for warning in lost if what != "forget" and warning not in self.warnings]
            self.warnings += new
            return kept

        paraphrases = None
        if self._files.paraphrases.exists():
            asked = ForgetSet.load(self._files.paraphrases)
            studied = asked.frame["sample_id"].isin(self._forget_set.frame["sample_id"])
            paraphrases = encoded(asked.subset(studied), "paraphrases") if studied.any() else None
        return Victim(
            model=model,
            reader=model.reader(before_batch=self._context.check_cancelled),
            origin=[weight.detach().clone() for weight in model.network.parameters()],
            forget=encoded(self._forget_set, "forget"),
            retain=None if self._retain is None else encoded(self._retain, "retain"),
            unrelated=encoded(ForgetSet.load(self._files.unrelated), "unrelated"),
            paraphrases=paraphrases,
        )

    def _source(self, name: str) -> ModelConfig:
        if name == REFERENCE:
            assert self._config.reference is not None
            return self._config.model.beside(self._config.reference)
        directory = next(run for run in self._config.runs if run.name == name)
        model_of = kind_named("unlearn").model
        assert model_of is not None
        model: ModelConfig = model_of(directory)
        return model


class _Course:
    """A relearning as it goes.

    Attributes:
        looks: At the forget samples; fewer than were planned where it diverged.
        retain_accuracy: Mean MA on the retain set at each of them; None without one.
        losses: Of each step [nats per token].
    """

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self.retain_accuracy: list[float | None] = []
        self.losses: list[float] = []

    def add(self, look: Look, retained: float | None) -> None:
        """Note a look."""
        self.looks.append(look)
        self.retain_accuracy.append(retained)


def _asked(samples: Encoded) -> tuple[list[IntArray | None], list[int]]:
    """Return the prompts of N samples, and as many tokens to write as their answers have."""
    return [prompt_of(sample) for sample in samples.samples], [
        max(int(sample.answer.sum()), 1) for sample in samples.samples
    ]


def _rounded(value: float) -> float | None:
    rounded = float(round(value, 6))
    return rounded if math.isfinite(rounded) else None
