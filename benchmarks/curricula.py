"""Does the order of the forget samples save updates, and what does it cost the retain set?

    python -m benchmarks.curricula --scores RUN_DIR [--model demo --forget-set demo --retain-set demo]
        [--samples 40] [--seeds 0-4] [--methods ga,graddiff] [--candidates all] [--out ROWS.jsonl]

Each candidate unlearns the same samples until every one was found forgotten (MA below the threshold), with the
trainer of the product. A seed fixes the samples (another part of the forget set, or with `--same-samples` the
first part always) and the retain partners, so candidates are compared seed by seed: the mean paired difference
to `uniform` with its 95 % t interval, in updates and in MA and NLL on retain samples that are never trained on.
Cost is counted in forward passes of one sample: 3 for an update, 3 more for its retain partner, 1 for a draw
that was found forgotten, and what the scores cost that a candidate needs.

One candidate looks at what training shows for nothing, the MA of a sample when it was last drawn. On the same
samples strict orders are one and the same run for every seed under a method without retain partners: the
interval of their difference then shows the spread of `uniform` alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.model.encoding import Encoded
from mrd_core.model.loading import LoadedModel
from mrd_core.model.memorization import Memorized, measure_memorization
from mrd_core.samples import evenly_spaced, read_split
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import ENTANGLEMENT
from mrd_core.unlearning.feed import CurriculumFeed, Measures, Rules, Samples
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Objective
from mrd_core.unlearning.request import weighing
from mrd_core.unlearning.sampling import ENTANGLED, SAMPLERS, START, Curriculum, Place, Pool
from mrd_core.unlearning.stopping import Checks, Limits, Thresholds
from mrd_core.unlearning.trainer import Trainer, accelerator_on, decayed_groups

REFERENCE = "uniform"
BATCH, LEARNING_RATE, WEIGHT_DECAY, THRESHOLD = 4, 1e-4, 0.01, 0.5
MOST_STEPS, BATCH_TOKENS, HELD_RETAIN = 400, 4096, 100
COMPARED = ("updates", "retain_accuracy", "retain_nll")

app = typer.Typer(pretty_exceptions_enable=False)


class Passes:
    """A stream of draws without replacement: each sample of a window of the pool once, then the next pass.

    Args:
        scores: One row a sample, sorted by id.
        seed: Of the random keys.
        key: The order of a pass, the largest first, shape (N,); called when it begins.
        window: Which samples take part, shape (N,); called before each draw. All by default.
    """

    effective_share = 1.0

    def __init__(self, scores: pd.DataFrame, seed: int, key: Key, window: Window | None = None) -> None:
        self.scores = scores
        self.seed = seed
        self.pool = Pool.of(scores["mrd_answer_mean"].to_dict())
        self.place = START
        self._key, self._window = key, window
        self._unread = np.zeros(len(scores), dtype=np.bool_)
        self._order = np.zeros(len(scores))

    @property
    def exhausted(self) -> bool:
        """Whether every sample has left the pool."""
        return self.pool.size == 0

    @property
    def fixed_numbers(self) -> FloatArray:
        """A random number for each sample that stays the whole run, shape (N,)."""
        return np.random.default_rng([self.seed, 5]).random(len(self.scores))

    def next_batch(self, size: int) -> list[str]:
        """Return the next `size` sample ids."""
        return [] if self.exhausted else [self._draw() for _ in range(size)]

    def remove(self, ids: Iterable[str]) -> None:
        """Take forgotten samples out of the pool."""
        self.pool = self.pool.without(ids)

    def generator(self) -> np.random.Generator:
        """Return the random numbers of this pass."""
        return np.random.default_rng([self.seed, self.place.epoch, 77])

    def _draw(self) -> str:
        inside = self.pool.in_pool & self._window(self) if self._window else self.pool.in_pool
        if not (inside & self._unread).any():
            self._begin_pass()
        chosen = int(np.where(inside & self._unread, self._order, -np.inf).argmax())
        self._unread[chosen] = False
        return self.pool.ids[chosen]

    def _begin_pass(self) -> None:
        self._unread[:] = True
        self.place = Place(self.place.epoch + 1, 0)
        self._order = self._key(self)


Key = Callable[[Passes], FloatArray]
Window = Callable[[Passes], BoolArray]
Stream = Curriculum | Passes


def shuffled(passes: Passes) -> FloatArray:
    """Give each sample a random key in each pass."""
    return passes.generator().random(len(passes.scores))


def in_blocks(column: str) -> Key:
    """Sort the pool by a column, cut it into blocks of a batch at a random offset, and shuffle the blocks.

    Samples of like difficulty are trained together, so that a batch's mean over tokens favours none of them,
    and yet neither end of the order comes first.
    """

    def key(passes: Passes) -> FloatArray:
        random = passes.generator()
        alive = np.flatnonzero(passes.pool.in_pool)
        values = passes.scores[column].to_numpy()[alive]
        ordered = alive[np.argsort(values + 1e-12 * random.random(len(alive)), kind="stable")]
        offset = int(random.integers(BATCH)) or BATCH
        blocks = np.split(ordered, range(offset, len(ordered), BATCH))
        order = np.concatenate([blocks[block] for block in random.permutation(len(blocks))])
        keys = np.full(len(passes.scores), -np.inf)
        keys[order] = -np.arange(len(order))
        return keys

    return key


def largest(values: Callable[[Passes], FloatArray], count: int) -> Window:
    """Keep to the samples of the pool with the largest values until they are forgotten: depth before breadth."""

    def window(passes: Passes) -> BoolArray:
        alive = np.flatnonzero(passes.pool.in_pool)
        inside = np.zeros(len(passes.scores), dtype=np.bool_)
        inside[alive[np.argsort(-values(passes)[alive], kind="stable")[:count]]] = True
        return inside

    return window


def widening(passes: Passes) -> BoolArray:
    """Begin with the easiest quarter of the samples; each that is forgotten lets in two more (pacing)."""
    mrd = passes.scores["mrd_answer_mean"].to_numpy()
    count = int(np.ceil(len(mrd) / 4)) + 2 * int((~passes.pool.in_pool).sum())
    inside = np.zeros(len(mrd), dtype=np.bool_)
    inside[np.argsort(-mrd, kind="stable")[:count]] = True
    # Where all of the window is forgotten the rest comes in, so that a run cannot get stuck.
    return inside if (inside & passes.pool.in_pool).any() else np.ones_like(inside)


class Remaining(Curriculum):
    """With replacement, p_i ∝ max(MA_i − 0.45, 0.02): the further from forgotten when last seen, the likelier."""

    def __init__(self, scores: pd.DataFrame, seed: int) -> None:
        self.accuracy: Mapping[str, float] = {}
        super().__init__(
            replace(SAMPLERS["uniform"], weigh=self._weigh), scores["mrd_answer_mean"].to_dict(), seed
        )

    def _weigh(self, pool: Pool, _place: Place) -> FloatArray:
        return np.array([max(self.accuracy.get(sample, 1.0) - 0.45, 0.02) for sample in pool.ids])


@dataclass(frozen=True)
class Candidate:
    """A curriculum that is tried.

    Attributes:
        name: What tables call it.
        help: One line that says what it does.
        stream: Makes its stream of draws from the scores and a seed.
        scored: Whether it needs MRD. Length, and what training shows, cost nothing.
    """

    name: str
    help: str
    stream: Callable[[pd.DataFrame, int], Stream]
    scored: bool = True


def by_sampler(name: str, column: str = "mrd_answer_mean") -> Callable[[pd.DataFrame, int], Stream]:
    """Return the maker of a stream of one of the product's samplers."""
    return lambda scores, seed: Curriculum(SAMPLERS[name], scores[column].to_dict(), seed)


def by_length(scores: pd.DataFrame, seed: int) -> Curriculum:
    """Return the stream that takes the longest answer first, which needs no scores."""
    return Curriculum(SAMPLERS["easy-to-hard"], scores["n_tokens_answer"].astype(float).to_dict(), seed)


def in_passes(key: Key, window: Window | None = None) -> Callable[[pd.DataFrame, int], Stream]:
    """Return the maker of a stream of passes."""
    return lambda scores, seed: Passes(scores, seed, key, window)


def easiness(passes: Passes) -> FloatArray:
    """Return MRD, the mean over tokens."""
    return passes.scores["mrd_answer_mean"].to_numpy()


CANDIDATES = (
    Candidate("uniform", "with replacement, all equally likely", by_sampler("uniform"), scored=False),
    Candidate("permutation", "a random order of the pool each epoch", in_passes(shuffled), scored=False),
    Candidate("mrd", "p ∝ MRD, mean over tokens", by_sampler("mrd")),
    Candidate("easy-to-hard", "strict, by the mean", by_sampler("easy-to-hard")),
    Candidate("hard-to-easy", "strict, by the mean", by_sampler("hard-to-easy")),
    Candidate("easy-to-hard-sum", "strict, by the sum", by_sampler("easy-to-hard", "mrd_answer_sum")),
    Candidate("long-first", "strict, by the answer's tokens", by_length, scored=False),
    Candidate("hard-to-easy-sum", "strict, by the sum", by_sampler("hard-to-easy", "mrd_answer_sum")),
    Candidate("blocks-sum", "batches of like MRD sum, in random order", in_passes(in_blocks("mrd_answer_sum"))),
    Candidate(
        "depth8-random",
        "eight random samples at a time until forgotten",
        in_passes(shuffled, largest(lambda passes: passes.fixed_numbers, 8)),
        scored=False,
    ),
    Candidate("depth8-easy", "the eight easiest until forgotten", in_passes(shuffled, largest(easiness, 8))),
    Candidate("remaining", "p ∝ last seen MA − 0.45", Remaining, scored=False),
    Candidate("pacing-easy", "from the easiest quarter, widening", in_passes(shuffled, widening)),
    # Where the run has the column, see `mrd-lens columns entanglement`; it costs a backward pass, and no scores.
    *(
        Candidate(name, SAMPLERS[name].help, by_sampler(name, ENTANGLEMENT), scored=False)
        for name in sorted(ENTANGLED)
    ),
)


@dataclass(frozen=True)
class Bench:
    """What all runs share.

    Attributes:
        model: The model; its weights are put back before each run.
        weights: As they were loaded.
        forget: The forget set, of which each run takes a part.
        stride: Every so many samples are a part.
        partners: Retain samples that are trained on.
        held: Retain samples that are only measured.
        scores: One row a forget sample, sorted by id.
        evaluations: Forward evaluations of a sample that the scores cost.
    """

    model: LoadedModel
    weights: Mapping[str, torch.Tensor]
    forget: Encoded
    stride: int
    partners: Encoded
    held: Encoded
    scores: pd.DataFrame
    evaluations: int

    def part(self, offset: int) -> Bench:
        """Return what a run on one part of the forget set needs."""
        forget = self.forget.subset(np.arange(offset % self.stride, len(self.forget), self.stride))
        return replace(self, forget=forget, stride=1, scores=self.scores.loc[sorted(forget.sample_ids)])

    def memorized(self, samples: Encoded) -> Memorized:
        """Measure MA and NLL on the present weights."""
        return measure_memorization(self.model.reader(BATCH_TOKENS), samples)


@dataclass(frozen=True)
class Row:
    """What one run came to. NLL is in nats per answer token; cost in forward passes of one sample."""

    method: str
    candidate: str
    seed: int
    reason: str
    updates: int
    draws: int
    steps: int
    still_forgotten: int
    retain_accuracy: float
    retain_nll: float
    cost: int
    cost_scores: int


@app.command()
def main(
    scores: Annotated[Path, typer.Option(help="Directory of a score run of the forget set on the model.")],
    model: Annotated[str, typer.Option(help="Model folder, hub id, or `demo`.")] = "demo",
    forget_set: Annotated[str, typer.Option(help="Forget set, or `demo`.")] = "demo",
    retain_set: Annotated[str, typer.Option(help="Retain set, or `demo`.")] = "demo",
    samples: Annotated[int, typer.Option(min=4, help="Samples, every so many of the forget set.")] = 40,
    seeds: Annotated[str, typer.Option(help="First and last seed.")] = "0-4",
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = "ga,graddiff",
    candidates: Annotated[str, typer.Option(help="Candidates, separated by commas; `uniform` is added.")] = "all",
    same_samples: Annotated[bool, typer.Option("--same-samples", help="The same samples for every seed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Append a line of JSON a run to this file.")] = None,
) -> None:
    """Unlearn the same samples in different orders and compare updates and retain measures."""
    chosen = [one for one in CANDIDATES if candidates == "all" or one.name in {REFERENCE, *candidates.split(",")}]
    first, _, last = seeds.partition("-")
    bench = load(model, forget_set, retain_set, scores, samples)
    if ENTANGLEMENT not in bench.scores:
        chosen = [one for one in chosen if one.name not in ENTANGLED]
    rows = []
    for method, one, seed in product(methods.split(","), chosen, range(int(first), int(last or first) + 1)):
        rows.append(unlearn(bench.part(0 if same_samples else seed), method, one, seed))
        if out:
            with out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(rows[-1])) + "\n")
    print_table(pd.DataFrame([asdict(row) for row in rows]))


def load(model: str, forget_set: str, retain_set: str, score_run: Path, samples: int) -> Bench:
    """Load everything; a fourth of the retain set is held, at most `HELD_RETAIN` samples of it measured."""
    loaded = models.load(ModelConfig(source=model, dtype="float32"))
    loaded.network.requires_grad_(True)
    encoder = loaded.encoder(ModelConfig(source=model))
    forget, retain = (
        encoder.encode(read_split(ForgetSetConfig(source=source), split))
        for source, split in ((forget_set, "forget"), (retain_set, "retain"))
    )
    everything = np.arange(len(retain))
    held = everything[::4]
    return Bench(
        model=loaded,
        weights={name: value.clone() for name, value in loaded.network.state_dict().items()},
        forget=forget,
        stride=max(1, len(forget) // samples),
        partners=retain.subset(np.setdiff1d(everything, held)),
        held=retain.subset(held[evenly_spaced(len(held), HELD_RETAIN)]),
        scores=weighing(ScoreFiles(score_run)).set_index("sample_id"),
        evaluations=1 + json.loads((score_run / "summary.json").read_text(encoding="utf-8"))["evaluations"],
    )


def unlearn(bench: Bench, method: str, candidate: Candidate, seed: int) -> Row:
    """Unlearn from the starting weights until every sample was found forgotten."""
    bench.model.network.load_state_dict(bench.weights)
    feed = feed_of(bench, method, candidate, seed)
    network = bench.model.network
    optimiser = torch.optim.AdamW(decayed_groups(network, WEIGHT_DECAY), lr=LEARNING_RATE, fused=True)
    accelerator = accelerator_on(bench.model.device)
    Trainer(network, optimiser, objective(bench, method), feed, accelerator, max_grad_norm=1.0).train()
    standing = feed.standing
    updates = sum(standing.updates.values())
    retained = bench.memorized(bench.held)
    return Row(
        method=method,
        candidate=candidate.name,
        seed=seed,
        reason=str(feed.reason),
        updates=updates,
        draws=standing.draws,
        steps=standing.steps,
        still_forgotten=int((bench.memorized(bench.forget).accuracy < THRESHOLD).sum()),
        retain_accuracy=float(np.nanmean(retained.accuracy)),
        retain_nll=float(np.nanmean(retained.nll)),
        cost=(3 if METHODS[method].retain == "none" else 6) * updates + standing.draws - updates,
        cost_scores=bench.evaluations * len(bench.forget) if candidate.scored else 0,
    )


def feed_of(bench: Bench, method: str, candidate: Candidate, seed: int) -> CurriculumFeed:
    """Return where a run's draws come from; a stream that asks for the last seen MA is shown it."""
    stream: Any = candidate.stream(bench.scores, seed)
    partners = None if METHODS[method].retain == "none" else bench.partners
    feed = CurriculumFeed(
        stream,
        Samples(bench.forget, refused=None, reference_nll=None, retain=partners),
        Measures(
            memorized=lambda chosen: bench.memorized(bench.forget.subset(chosen)),
            extraction=_never,
            extraction_tokens=np.zeros(len(bench.forget), dtype=np.int64),
            retained=None,
            retained_tokens=0,
            rescored=_never,
        ),
        Rules(BATCH, seed, Thresholds.absolute(THRESHOLD, None), Checks(), Limits(max_steps=MOST_STEPS)),
        report=lambda _record: None,
    )
    if isinstance(stream, Remaining):
        stream.accuracy = feed.standing.accuracy
    return feed


def _never(_chosen: Any) -> Any:
    raise AssertionError("nothing here asks for EL, or for MRD on the present weights")


def objective(bench: Bench, method: str) -> Objective:
    """Return the loss of a method with its default settings."""
    known = METHODS[method]
    weight = 0.0 if known.retain == "none" else known.default_retain_weight
    return Objective(known, parsed(known, {}), weight, None, 2 * BATCH, bench.model.device)


def print_table(rows: pd.DataFrame) -> None:
    """Print, for each method and candidate, mean ± sd and the paired difference to uniform with its interval."""
    headings = [f"{name}{suffix}" for name in COMPARED for suffix in ("", " − uniform [95 %]")]
    table = Table("method", "candidate", *headings, "still", "cost", "+ scores", box=None, pad_edge=False)
    for (method, candidate), found in rows.groupby(["method", "candidate"], sort=False):
        of_method = rows[rows["method"] == method]
        reference = of_method[of_method["candidate"] == REFERENCE].set_index("seed")
        cells = [cell for name in COMPARED for cell in compare(found.set_index("seed")[name], reference[name])]
        means = found[["still_forgotten", "cost", "cost_scores"]].mean()
        table.add_row(str(method), str(candidate), *cells, *(f"{mean:.0f}" for mean in means))
    Console(width=200, highlight=False).print(table)


def compare(values: pd.Series, reference: pd.Series) -> tuple[str, str]:
    """Return mean ± sd, and the mean paired difference with its 95 % t interval; both are by seed."""
    digits = 0 if values.mean() > 20 else 3
    difference = values - reference
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.std() / np.sqrt(len(difference))
    mean = difference.mean()
    return (
        f"{values.mean():.{digits}f} ± {values.std():.{digits}f}",
        f"{mean:+.{digits}f} [{mean - half:+.{digits}f}, {mean + half:+.{digits}f}]",
    )


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
