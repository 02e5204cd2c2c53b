"""What is held of a family of language models, each as its own plain pass means it: draws, batches, texts.

`python -m tests.support.matrix > docs/models.md` makes the table of all families.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model.generation import Prefix, continuations
from mrd_core.model.gradients import gradient_norms
from mrd_core.model.lengths import rope_switch
from mrd_core.model.likelihood import KeepDouble, Passes, Scorer, target_log_probs
from mrd_core.model.loading import switch_chance_off
from mrd_core.model.memorization import measure_memorization
from mrd_core.model.own_pass import require_own_log_probs
from mrd_core.model.perturbation import Noise, PerturbedModel, streamed
from mrd_core.model.reader import Reader
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Losses, Objective, StepBatch
from tests.support import families, replay, tiny
from tests.support.training import train

NOISE = Noise(seed=1, sigma=2e-3)
BETA = 0.1
STEPS = 3


class Check(NamedTuple):
    """A property of a family.

    Attributes:
        title: Head of its column.
        meaning: What the number is.
        bound: The largest number that passes.
        measure: From a model that nearly knows `families.samples` by heart to the number.
    """

    title: str
    meaning: str
    bound: float
    measure: Callable[[Any], float]


def reader(network: Any, batch_tokens: int = 64) -> Reader:
    """Return a network as a run reads it."""
    return tiny.reader(network, batch_tokens, end_ids=[2], switch=rope_switch(network.config))


def passes(network: Any, batch_tokens: int = 64) -> Passes:
    """Return the passes of a score run."""
    return Passes(replace(reader(network, batch_tokens), network=Scorer(network)), families.samples())


def baseline(network: Any, batch_tokens: int = 64) -> FloatArray:
    """Return log p in fp64, as a score run takes its baseline."""
    read = passes(network, batch_tokens)
    with streamed(read.scorer, lambda _name, weight: weight.double()), KeepDouble():
        return read()


def drawn(network: Any, *, is_streamed: bool) -> FloatArray:
    """Return log p of a perturbed pass."""
    read = passes(network)
    with PerturbedModel(read.scorer, NOISE, streamed=is_streamed).draw(0):
        return read()


def _replay(network: Any) -> float:
    require_own_log_probs(network, tiny.CPU)
    true = replay.log_probs(network, families.samples())
    return _worst(np.abs(baseline(network) - true) / np.abs(true))


def _draw(network: Any) -> float:
    samples = families.samples()
    true, base = replay.log_probs(network, samples), baseline(network)
    ratios = (
        (base - drawn(network, is_streamed=False)) / base,
        (true - replay.log_probs(network, samples, NOISE)) / true,
    )
    changes, replayed = (np.bincount(samples.owner, weights=ratio) for ratio in ratios)
    return _worst(np.abs(changes - replayed) / (np.abs(replayed) + np.abs(replayed).max()))


def _streamed(network: Any) -> float:
    return _worst(np.abs(drawn(network, is_streamed=True) - drawn(network, is_streamed=False)))


def _batch(network: Any) -> float:
    together, alone = baseline(network), baseline(network, batch_tokens=1)
    return _worst(np.abs(together - alone) / np.abs(alone))


def _unlearn(network: Any) -> float:
    """Return how far the first loss of NPO is from (2/β) ln 2; infinite where the training goes wrong."""
    samples, method = families.samples(), METHODS["npo"]
    trained = copy.deepcopy(network).requires_grad_(True)
    switch_chance_off(trained)
    reference = measure_memorization(reader(trained), samples).nll * [
        sample.answer.sum() for sample in samples.samples
    ]
    feed = _Whole(StepBatch(samples.samples, torch.from_numpy(reference), ()))
    objective = Objective(
        method, parsed(method, {"beta": BETA}), retain_weight=0, reference=None, micro_batch=4, device=tiny.CPU
    )
    train(trained, objective, feed, learning_rate=1e-3)
    is_moved = any(not torch.equal(a, b) for a, b in zip(network.parameters(), trained.parameters(), strict=True))
    if len(feed.losses) < STEPS or not is_moved or not np.isfinite(feed.losses).all():
        return math.inf
    return abs(feed.losses[0] / (2 / BETA * math.log(2)) - 1)


@dataclass
class _Whole:
    """Draws the same batch for some steps."""

    batch: StepBatch
    losses: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    spoilt = False

    def draw(self, step: int) -> StepBatch | None:
        return self.batch if step < STEPS else None

    def undo(self) -> None:
        raise AssertionError

    def select(self, rows: Sequence[int], _accuracy: Sequence[float]) -> list[int]:
        self.rows = list(rows)
        return self.rows

    def selected(self) -> list[int]:
        return self.rows

    def stepped(self, _step: int, losses: Losses, _learning_rate: float) -> bool:
        self.losses.append(losses.forget)
        return False

    def save(self, _folder: Path) -> None:
        raise AssertionError


def _evaluate(network: Any) -> float:
    samples = families.samples()
    (log_probs,) = reader(network).answers(
        samples, lambda logits, targets: (target_log_probs(logits, targets),), fine_head=True
    )
    true = replay.log_probs(network, samples)[samples.answer]
    # In fp32 a log p near 0 has fewer digits.
    return _worst(np.abs(log_probs - true) / (np.abs(true) + 2e-4))


def _generation(network: Any) -> float:
    prefixes = [
        Prefix(sample.tokens[:size], 6)
        for sample, size in zip(families.samples().samples, (9, 3, 5, 12), strict=True)
    ]
    written = continuations(reader(network, 32), prefixes)
    return float(sum(text != greedy(network, prefix) for text, prefix in zip(written, prefixes, strict=True)))


def greedy(network: Any, prefix: Prefix) -> list[int]:
    """Return what a plain loop writes, without cache, batch or padding."""
    ids = torch.from_numpy(prefix.tokens).unsqueeze(0)
    with torch.no_grad():
        for _ in range(prefix.budget):
            logits = network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -1]
            ids = torch.cat([ids, logits.argmax().reshape(1, 1)], dim=1)
            if ids[0, -1] == 2:
                break
    tokens: list[int] = ids[0, len(prefix.tokens) :].tolist()
    return tokens


def _gradients(network: Any) -> float:
    samples = families.samples()
    true = replay.gradient_norms(network, samples)
    return _worst(np.abs(gradient_norms(reader(network), samples, lambda _way: None) / true - 1))


def _worst(differences: FloatArray) -> float:
    # NaN counts as infinite.
    return float(np.nan_to_num(differences, nan=np.inf).max())


CHECKS = (
    Check("replay", "log p of every token against a plain fp64 pass, relative", 1e-4, _replay),
    Check("draw", "relative change of a sample under noise against the same noise put on by hand", 5e-4, _draw),
    Check("streamed", "weights perturbed layer by layer against a perturbed copy, absolute", 0, _streamed),
    Check("batch", "a sample in a batch against the sample alone, relative", 1e-7, _batch),
    Check(
        "unlearn", "first loss of NPO against (2/β) ln 2, relative; three steps with finite losses", 1e-3, _unlearn
    ),
    Check("evaluate", "log p of an evaluation in fp32 against the plain fp64 pass, relative", 5e-3, _evaluate),
    Check("gradients", "norm of a sample's gradient against plain autograd, relative", 1e-4, _gradients),
    Check("generation", "of four texts, those that a plain greedy loop writes otherwise", 0, _generation),
)

INTRODUCTION = """\
# Model families

Every family of causal language models that transformers can build, made tiny, and fitted to four texts until it
nearly knows them by heart. A number is the worst of its check; `!` marks one beyond its bound.
`python -m tests.support.matrix` makes this file, and `pytest tests/unit/test_families.py` holds the same.
"""


def document() -> Iterator[str]:
    """Yield the lines of docs/models.md."""
    yield INTRODUCTION
    yield f"transformers {transformers.__version__}, torch {torch.__version__}, on a CPU, {date.today()}.\n"
    yield "| column | what it is | bound |\n|---|---|---|"
    for check in CHECKS:
        yield f"| {check.title} | {check.meaning} | {check.bound:g} |"
    whole = sorted(families.MULTIMODAL.keys() - families.NOT_WHOLE)
    for title, chosen in (("Text", sorted(families.FAMILIES)), ("Text and more: the text part", whole)):
        titles = [check.title for check in CHECKS]
        yield f"\n## {title}\n\n| family | class | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 2)}"
        for family in chosen:
            network = families.network(family)
            cells = " | ".join(_cell(check, network) for check in CHECKS)
            yield f"| {family} | {type(network).__name__} | {cells} |"
    yield "\n## Not read, or not whole\n\n| family | why |\n|---|---|"
    for family in sorted(families.REFUSED):
        yield f"| {family} | is refused: {_refusal(family)} |"
    for family, reason in sorted(families.NOT_WHOLE.items()):
        yield f"| {family} | {reason} |"
    yield "\n## Not tried\n\n| family | why |\n|---|---|"
    for family, reason in sorted(families.LEFT_OUT.items()):
        yield f"| {family} | {reason} |"


def _cell(check: Check, network: Any) -> str:
    number = check.measure(network)
    return f"{number:.0e}" + ("" if number <= check.bound else " !")


def _refusal(family: str) -> str:
    try:
        require_own_log_probs(families.network(family), tiny.CPU)
    except UserError as error:
        return error.why
    raise AssertionError(family)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for line in document():
        print(line, flush=True)
