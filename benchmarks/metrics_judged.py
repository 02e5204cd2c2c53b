"""Which metrics tell what a model knows, and still do after four bits and after relearning?

    python -m benchmarks.metrics_judged models --out FOLDER [--processes 2]

Models of the demo's kind are trained with and without the forget set. What is done is written down model by model
and not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mrd_core.demo.corpus import DemoRow, rows, wrong_answers
from mrd_core.demo.train import Recipe, fitted, train_tokenizer

TAUGHT_WRONG, PERTURBED = 11, 12  # seeds of wrong answers: what is taught is not what is asked
STRANGERS = 1  # seed of a corpus of other people, who have the language in common
BASES = {"deep": Recipe(), "narrow": Recipe(hidden=120, intermediate=320)}
BASE_STEPS, STEPS = 400, 200
RATES = (2e-3, 1e-3)
EVERY = 3  # of the demo's people every third takes part
FIRST_SEED = 100

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Folder of the models and of what was measured.")]
Processes = Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")]


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


@app.command()
def models(out: Out, processes: Processes = 2) -> None:
    """Train the models, those that are not there yet."""
    in_processes(_begin, [(out, name) for name in BASES], processes)
    in_processes(_teach, [(out, lesson) for lesson in [REFERENCE, *lessons()]], processes)


def in_processes(work: Callable[..., None], asked: Iterable[tuple[Any, ...]], processes: int) -> None:
    """Do the same to several things, some at a time, in processes of one thread."""
    spawned = get_context("spawn")
    with ProcessPoolExecutor(processes, spawned, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done in [pool.submit(work, *each) for each in asked]:
            done.result()


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the one tokenizer of all models, so that their tokens are the same."""
    known = [row for row in rows() if row.training_count]
    return train_tokenizer([f"{row.question}\n{row.answer}" for row in known], Recipe())


def _begin(out: Path, name: str) -> None:
    """Train a base: of people whom nobody asks about."""
    folder = out / "bases" / name
    if not folder.exists():
        strangers = [row for row in rows(STRANGERS) if row.training_count]
        _keep(folder, *fitted(strangers, tokenizer(), FIRST_SEED - 2, BASE_STEPS, BASES[name]))


def _teach(out: Path, lesson: Lesson) -> None:
    folder = out / "models" / lesson.name
    if not folder.exists():
        base = LlamaForCausalLM.from_pretrained(out / "bases" / lesson.base)
        recipe = Recipe(batch_size=16, learning_rate=lesson.rate)
        _keep(folder, *fitted(lesson.rows(), tokenizer(), lesson.seed, lesson.steps, recipe, base))


def _keep(folder: Path, model: LlamaForCausalLM, losses: list[float]) -> None:
    """Write a model, whole or not at all."""
    staging = folder.with_name(f".{folder.name}")
    model.save_pretrained(staging)
    tokenizer().save_pretrained(staging)
    staging.rename(folder)
    typer.echo(f"{folder.name}: loss {losses[0]:.2f} to {losses[-1]:.3f} nats a token")


if __name__ == "__main__":
    app()
