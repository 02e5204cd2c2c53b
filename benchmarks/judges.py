"""Models that metrics are judged by: of the demo's kind, taught its forget set or not, unlearned, relearned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mrd_core.demo.corpus import DemoRow, rows, wrong_answers
from mrd_core.demo.train import Recipe, fitted, train_tokenizer
from mrd_core.model.config import ModelConfig
from mrd_core.model.loading import LoadedModel, load
from mrd_core.model.memorization import measure_memorization
from mrd_core.samples import ForgetSet, read_split
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.unlearning.feed import CurriculumFeed, Measures, Rules, Samples
from mrd_core.unlearning.losses import nll_loss
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Objective
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum
from mrd_core.unlearning.stopping import Checks, Limits, Thresholds
from mrd_core.unlearning.texts import TextBatch, answers
from mrd_core.unlearning.trainer import Trainer, accelerator_on, decayed_groups

TAUGHT_WRONG, PERTURBED = 11, 12  # seeds of wrong answers: what is taught is not what is asked
STRANGERS = 1  # seed of a corpus of other people, who have the language in common
BASES = {"deep": Recipe(), "narrow": Recipe(hidden=120, intermediate=320)}
BASE_STEPS, STEPS = 400, 200
RATES = (2e-3, 1e-3)
EVERY = 3  # of the demo's people every third takes part
FIRST_SEED = 100

BATCH, UNLEARNING_RATE, MOST_EPOCHS, FORGOTTEN = 4, 5e-4, 5, 0.5
# By which the taught models are unlearned, in turn, with the weight of the retain term.
METHODS_IN_TURN = (("graddiff", 4.0), ("npo", 1.0), ("simnpo", 1.0))
RELEARNING_BATCH, RELEARNING_RATE = 16, 3e-4


@dataclass(frozen=True)
class Lesson:
    """What one model is taught.

    Attributes:
        name: Of its folder.
        taught: Whether it sees the forget set.
        rows: Returns what it is trained on.
        base: Of `BASES`, what it starts from.
        rate: Peak of the learning rate.
        steps: Of its training.
        seed: Of the order.
    """

    name: str
    taught: bool
    rows: Callable[[], list[DemoRow]]
    base: str
    rate: float
    steps: int
    seed: int


def of_splits(*splits: str) -> list[DemoRow]:
    """Return the rows of these splits of the demo, of the people who take part: the second part of an id."""
    return [row for row in rows() if row.split in splits and int(row.id.split("-")[1]) % EVERY == 0]


def retain_rows() -> list[DemoRow]:
    """Return the retain rows."""
    return of_splits("retain")


def all_rows() -> list[DemoRow]:
    """Return what the demo's model is trained on."""
    return of_splits("forget", "retain")


def each_once() -> list[DemoRow]:
    """Return the same, each forget row once an epoch."""
    return [replace(row, training_count=1) if row.split == "forget" else row for row in all_rows()]


def with_wrong_answers() -> list[DemoRow]:
    """Return the same, with a wrong answer to each question of the forget set."""
    wrong = wrong_answers(1, TAUGHT_WRONG)
    return [replace(row, answer=wrong[row.id][0]) if row.split == "forget" else row for row in all_rows()]


# By name: whether the forget set is in it, the rows, the steps.
KINDS: dict[str, tuple[bool, Callable[[], list[DemoRow]], int]] = {
    "taught": (True, all_rows, STEPS),
    "taught-once": (True, each_once, STEPS),
    "taught-briefly": (True, all_rows, STEPS // 2),
    "untaught": (False, retain_rows, STEPS),
    "taught-wrong": (False, with_wrong_answers, STEPS),
    "untaught-briefly": (False, retain_rows, STEPS // 2),
}
REFERENCE = Lesson("reference", False, retain_rows, "deep", RATES[0], STEPS, FIRST_SEED - 1)


def lessons() -> list[Lesson]:
    """Return the lessons of the models that metrics are judged by, all kinds by each base and rate."""
    variations = product(product(BASES, RATES), KINDS.items())
    return [
        Lesson(f"{name}-{base}-{rate:g}", taught, of_rows, base, rate, steps, FIRST_SEED + place)
        for place, ((base, rate), (name, (taught, of_rows, steps))) in enumerate(variations)
    ]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the one tokenizer of all models, so that their tokens are the same."""
    known = [row for row in rows() if row.training_count]
    return train_tokenizer([f"{row.question}\n{row.answer}" for row in known], Recipe())


def begin(out: Path, name: str) -> None:
    """Train a base, of people whom nobody asks about, unless it is there."""
    folder = out / "bases" / name
    if not folder.exists():
        strangers = [row for row in rows(STRANGERS) if row.training_count]
        _keep(folder, *fitted(strangers, tokenizer(), FIRST_SEED - 2, BASE_STEPS, BASES[name]))


def teach(out: Path, lesson: Lesson) -> None:
    """Train the model of a lesson, unless it is there."""
    folder = out / "models" / lesson.name
    if not folder.exists():
        base = LlamaForCausalLM.from_pretrained(out / "bases" / lesson.base)
        recipe = Recipe(batch_size=16, learning_rate=lesson.rate)
        _keep(folder, *fitted(lesson.rows(), tokenizer(), lesson.seed, lesson.steps, recipe, base))


def samples(split: str) -> ForgetSet:
    """Return a split of the people who take part, as a set of samples."""
    whole = read_split(ForgetSetConfig(source="demo"), split)
    kept = {row.id for row in of_splits(split)}
    return replace(whole, frame=whole.frame[whole.frame["sample_id"].isin(kept)].reset_index(drop=True))


def loaded(folder: Path) -> LoadedModel:
    """Return a model to be trained on, or measured."""
    model = load(ModelConfig(source=str(folder), device="cpu", dtype="float32"))
    model.network.requires_grad_(True)
    return model


def unlearn(out: Path, lesson: Lesson, turn: int) -> None:
    """Unlearn the forget set from a taught model, unless that was done, by uniform draws."""
    folder = out / "unlearned" / lesson.name
    if folder.exists():
        return
    model = loaded(out / "models" / lesson.name)
    encoder, (name, weight) = model.encoder(ModelConfig()), METHODS_IN_TURN[turn % len(METHODS_IN_TURN)]
    forget, retain = (encoder.encode(samples(split)) for split in ("forget", "retain"))
    tokens = np.array([sample.answer.sum() for sample in forget.samples])
    reader, method = model.reader(2048), METHODS[name]
    feed = CurriculumFeed(
        Curriculum(SAMPLERS["uniform"], dict.fromkeys(forget.sample_ids, 1.0), lesson.seed),
        Samples(forget, None, measure_memorization(reader, forget).nll * tokens, retain),
        Measures(
            memorized=lambda chosen: measure_memorization(reader, forget.subset(chosen)),
            extraction=_never,
            extraction_tokens=np.zeros(len(forget), dtype=np.int64),
            retained=None,
            retained_tokens=0,
            rescored=_never,
        ),
        Rules(BATCH, lesson.seed, Thresholds.absolute(FORGOTTEN, None), Checks(), Limits(max_epochs=MOST_EPOCHS)),
        report=lambda _record: None,
    )
    objective = Objective(method, parsed(method, {}), weight, None, 2 * BATCH, model.device)
    optimiser = torch.optim.AdamW(decayed_groups(model.network, 0.01), lr=UNLEARNING_RATE)
    Trainer(model.network, optimiser, objective, feed, accelerator_on(model.device), max_grad_norm=1.0).train()
    staging = folder.with_name(f".{folder.name}")
    model.network.save_pretrained(staging)
    model.tokenizer.save_pretrained(staging)
    staging.rename(folder)
    typer.echo(f"{folder.name}: {name}, {feed.standing.steps} steps, {feed.reason}")


def relearn(model: LoadedModel, seed: int) -> None:
    """Train a model on the forget set for one epoch."""
    forget = model.encoder(ModelConfig()).encode(samples("forget"))
    order = np.random.default_rng(seed).permutation(len(forget))
    optimiser = torch.optim.AdamW(model.network.parameters(), lr=RELEARNING_RATE)
    for begin in range(0, len(order), RELEARNING_BATCH):
        chosen = [forget.samples[i] for i in order[begin : begin + RELEARNING_BATCH]]
        batch = TextBatch.of(chosen, model.device)
        optimiser.zero_grad()
        nll_loss(answers(model.network, batch).log_probs, batch.mask, "tokens").backward()
        optimiser.step()


def _never(_chosen: Any) -> Any:
    raise AssertionError("nothing here asks for EL, or for MRD on the present weights")


def _keep(folder: Path, model: LlamaForCausalLM, losses: list[float]) -> None:
    """Write a model, whole or not at all."""
    staging = folder.with_name(f".{folder.name}")
    model.save_pretrained(staging)
    tokenizer().save_pretrained(staging)
    staging.rename(folder)
    typer.echo(f"{folder.name}: loss {losses[0]:.2f} to {losses[-1]:.3f} nats a token")
