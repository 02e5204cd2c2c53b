"""Which metrics tell what a model knows, and still do after four bits and after relearning?

    python -m benchmarks.metrics_judged models --out FOLDER [--processes 2]
    python -m benchmarks.metrics_judged measure --out FOLDER [--processes 2]
    python -m benchmarks.metrics_judged table --out FOLDER > mrd_core/evaluation/judged.md

What is done is written down model by model, and not done again. What is asked, and by which rule a metric
survives, is in docs/LOG.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks.judges import (
    BASES,
    PERTURBED,
    RATES,
    REFERENCE,
    Lesson,
    begin,
    lessons,
    loaded,
    relearn,
    samples,
    teach,
    unlearn,
)
from mrd_core.arrays import FloatArray
from mrd_core.demo.corpus import wrong_answers
from mrd_core.evaluation.aggregates import auc, harmonic_mean, mean_defined
from mrd_core.evaluation.answering import measure_answers, single_answer_metrics, truth_ratios
from mrd_core.evaluation.config import K_PERCENT
from mrd_core.evaluation.fade import Size, fade, membership
from mrd_core.evaluation.likelihoods import answer_likelihoods
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.privacy import forgotten_auc
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Subject
from mrd_core.evaluation.truth import forget_quality
from mrd_core.model.config import ModelConfig
from mrd_core.model.loading import LoadedModel
from mrd_core.model.memorization import extraction_likelihood
from mrd_core.model.round_trip import round_weights

MOST_WRITTEN, FADE_TEXTS, EL_EVERY, WRONG = 48, 1, 6, 5
ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
MEANS = ("extraction_strength", "exact_memorization", "probability", "truth_ratio", "rouge", "rouge_f1")
COSTLY = ("extraction_likelihood", "fade", "fade_per_token")
JUDGED = (
    *(*MEANS, *COSTLY, "token_membership", "forget_quality"),
    *(f"{attack}_{other}" for attack in ATTACKS for other in ("unseen", "retain")),
)
CHANGES = ("-rounded", "-relearned")
DRAWS, SEED = 2000, 0
SURVIVES = (0.75, 0.5)  # lower ends of faithfulness and of robustness

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Folder of the models and of what was measured.")]
Processes = Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")]


@app.command()
def models(out: Out, processes: Processes = 2) -> None:
    """Train the models, those that are not there yet."""
    in_processes(begin, [(out, name) for name in BASES], processes)
    in_processes(teach, [(out, lesson) for lesson in [REFERENCE, *lessons()]], processes)


@app.command()
def measure(out: Out, processes: Processes = 2) -> None:
    """Unlearn the taught models, and measure all of them as they are, rounded and relearned."""
    taught = [lesson for lesson in lessons() if lesson.taught]
    in_processes(unlearn, [(out, lesson, turn) for turn, lesson in enumerate(taught)], processes)
    in_processes(_measure, [(out, state) for state in states()], processes)


@app.command()
def table(out: Out) -> None:
    """Print how faithful and how robust each metric is, as Markdown."""
    values = {
        state: {name: np.nan if value is None else value for name, value in json.loads(path.read_text()).items()}
        for state, path in ((state.name, out / "measured" / f"{state.name}.json") for state in states())
        if path.exists()
    }
    frame = pd.DataFrame(values).T
    typer.echo(
        "Faithfulness is the AUC over 12 models that were taught the forget set and 12 that were not; Q and R are "
        f"over {len(attacked(frame))} unlearned models, R beside {len(relearnt(frame))} of retain rows alone; "
        "95 % intervals over models. Made by `python -m benchmarks.metrics_judged`; what was asked, and what it "
        "comes to, is in [what we tried](LOG.md). With no overlap between so few models an AUC of 1 has no width: "
        "that is not perfect.\n"
    )
    typer.echo(as_markdown(frame))


@dataclass(frozen=True)
class State:
    """A model as it is measured.

    Attributes:
        folder: Its folder within that of the benchmark.
        change: What is done to it first: "", "rounded" or "relearned".
        seed: Of that.
    """

    folder: str
    change: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the file with what was measured."""
        return self.folder.replace("/", "-") + (f"-{self.change}" if self.change else "")


def states() -> list[State]:
    """Return every state that is measured: all models as they are, then what is done to them, by base and rate."""
    plain = [State(f"models/{lesson.name}") for lesson in lessons()]
    retrained = [State(f"models/{each.name}", "relearned", each.seed) for each in lessons() if is_retrained(each)]
    unlearned = [
        State(f"unlearned/{lesson.name}", change, lesson.seed)
        for lesson in lessons()
        if lesson.taught
        for change in ("", "rounded", "relearned")
    ]
    variations = [f"{base}-{rate:g}" for base, rate in product(BASES, RATES)]
    changed = sorted(
        [*retrained, *unlearned], key=lambda state: variations.index("-".join(state.folder.split("-")[-2:]))
    )
    return [*plain, *changed]


def is_retrained(lesson: Lesson) -> bool:
    """Tell whether a model saw retain rows alone."""
    return lesson.name.startswith("untaught")


def in_processes(work: Callable[..., None], asked: Iterable[tuple[Any, ...]], processes: int) -> None:
    """Do the same to several things, some at a time, in processes of one thread."""
    spawned = get_context("spawn")
    with ProcessPoolExecutor(processes, spawned, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done in [pool.submit(work, *each) for each in asked]:
            done.result()


def _measure(out: Path, state: State) -> None:
    path = out / "measured" / f"{state.name}.json"
    if path.exists():
        return
    model = loaded(out / state.folder)
    if state.change == "rounded":
        round_weights(model.network, 4)
    elif state.change == "relearned":
        relearn(model, state.seed)
    is_plain = not state.change and state.folder.startswith("models")
    values = measured(model, out / "models" / REFERENCE.name, with_costly=is_plain)
    path.parent.mkdir(exist_ok=True)
    # JSON has no NaN.
    path.write_text(json.dumps({name: None if np.isnan(value) else value for name, value in values.items()}))
    typer.echo(state.name)


def measured(model: LoadedModel, reference: Path, *, with_costly: bool = True) -> dict[str, float]:
    """Return every metric of the forget set; EL and FADE, which write the most, only where they are wanted."""
    subject, (other, reference_ratios) = subject_of(model), _reference(reference)
    forget = asked("forget")
    wide = measure_answers(subject, forget).values.pivot(index="sample_id", columns="metric", values="value")
    found = {name: mean_defined(wide[name]) for name in MEANS}
    encoded = subject.encoder.encode(samples("forget"))
    found |= dict.fromkeys(COSTLY, np.nan)
    if with_costly:
        some = encoded.subset(np.arange(0, len(encoded), EL_EVERY))
        found["extraction_likelihood"] = mean_defined(extraction_likelihood(subject.reader, some))
        distances = fade(subject, other, encoded, Size(FADE_TEXTS, MOST_WRITTEN, model.context))
        found |= {name: mean_defined(distances[name]) for name in distances}
    tokens = membership(subject, other, forget, encoded)
    ratios = encoded.answer_means((tokens["log_prob"] - tokens["log_prob_reference"]).to_numpy())
    found["token_membership"] = mean_defined(ratios)
    found["forget_quality"] = forget_quality(wide["truth_ratio_raw"], reference_ratios).p_value
    for name, split in (("unseen", "held_out"), ("retain", "retain")):
        scores = _scores(subject, asked(split))
        for attack in ATTACKS:
            found[f"{attack}_{name}"] = forgotten_auc(wide[attack], scores[attack]).value
    return {name: float(found[name]) for name in JUDGED}


def subject_of(model: LoadedModel) -> Subject:
    """Return a model as it is asked."""
    return Subject(model, model.encoder(ModelConfig()), 4096, MOST_WRITTEN, K_PERCENT)


@cache
def _reference(folder: Path) -> tuple[Subject, FloatArray]:
    """Return the retrained reference, and its truth ratios of the forget set."""
    reference = subject_of(loaded(folder))
    return reference, truth_ratios(reference, asked("forget"))


def asked(split: str) -> EvaluationSet:
    """Return a split as it is asked; questions of the forget set have perturbed answers."""
    frame = samples(split).frame[["sample_id", "prompt", "answer"]]
    if split == "forget":
        wrong = wrong_answers(WRONG, PERTURBED)
        frame = frame.assign(perturbed_answer=[wrong[sample] for sample in frame["sample_id"]])
    return EvaluationSet(split, split, "forget" if split == "forget" else "retain", "answers", frame)


def _scores(subject: Subject, asked_set: EvaluationSet) -> pd.DataFrame:
    """Return the scores of membership of a set of which nothing is generated."""
    frame = asked_set.frame
    encoded = subject.encoder.pairs(frame["prompt"], frame["answer"], frame["sample_id"])
    likelihoods = answer_likelihoods(subject.reader, encoded)
    unwritten = [None] * len(frame)
    return single_answer_metrics(likelihoods, frame["answer"], unwritten, K_PERCENT, of_text=False)


@dataclass(frozen=True)
class Judgement:
    """How faithful and how robust a metric is, each with its replicates, shape (1 + B,), the first as measured."""

    faithfulness: FloatArray
    quantisation: FloatArray
    relearning: FloatArray

    @property
    def robustness(self) -> FloatArray:
        """Harmonic mean of the two."""
        return harmonic_mean([self.quantisation, self.relearning])

    @property
    def figure(self) -> FloatArray:
        """Harmonic mean of faithfulness and robustness."""
        return harmonic_mean([self.faithfulness, self.robustness])

    @property
    def survives(self) -> bool:
        """Whether the lower ends are high enough."""
        lows = [ends(values)[0] for values in (self.faithfulness, self.robustness)]
        return all(low >= least for low, least in zip(lows, SURVIVES, strict=True))


def attacked(values: pd.DataFrame) -> list[str]:
    """Return the unlearned models of which all states were measured."""
    names = [f"unlearned-{each.name}" for each in lessons() if each.taught]
    return [name for name in names if {name, *(f"{name}{suffix}" for suffix in CHANGES)} <= set(values.index)]


def relearnt(values: pd.DataFrame) -> list[str]:
    """Return the models of retain rows alone that were measured before and after relearning."""
    names = [f"models-{each.name}" for each in lessons() if is_retrained(each)]
    return [name for name in names if {name, f"{name}{CHANGES[1]}"} <= set(values.index)]


def judged(values: pd.DataFrame, metric: str) -> Judgement:
    """Judge a metric.

    Args:
        values: A row per state by name, a column per metric.
        metric: Its name.
    """
    column = values[metric]
    taught, untaught = (
        column[[f"models-{each.name}" for each in lessons() if each.taught is known]].to_numpy()
        for known in (True, False)
    )
    before, rounded, relearned = (
        column[[f"{name}{suffix}" for name in attacked(values)]].to_numpy() for suffix in ("", *CHANGES)
    )
    retrained, learnt = (
        column[[f"{name}{suffix}" for name in relearnt(values)]].to_numpy() for suffix in ("", CHANGES[1])
    )
    draws = np.random.default_rng(SEED)
    pools = {
        "taught": len(taught),
        "untaught": len(untaught),
        "unlearned": len(before),
        "retrained": len(retrained),
    }
    counts = {name: _counts(draws, size) for name, size in pools.items()}
    # What is low where it is forgotten is high where it is known.
    sign = 1 if METRICS[metric].forget in ("low", "zero") else -1
    faithful = auc(sign * taught, counts["taught"], sign * untaught, counts["untaught"])
    kept = 1 - _share(np.abs(rounded - before), np.abs(rounded) + np.abs(before))
    gained = relearned - before
    learning = _mean(learnt - retrained, counts["retrained"])[:, None]
    alike = 1 - _share(np.abs(gained - learning), np.abs(gained) + np.abs(learning))
    weights = counts["unlearned"]
    return Judgement(faithful, _mean(kept, weights), (weights * alike).sum(axis=1) / weights.sum(axis=1))


def ordered(judgements: Mapping[str, Judgement]) -> list[str]:
    """Return the metrics in the order in which a comparison should show them.

    Survivors come first, by their figure; of those that are within the interval of the best, the ones first that
    need neither a reference nor a text that is written. ROUGE-L is the last of the survivors.
    """
    figures = {metric: float(np.nan_to_num(own.figure[0])) for metric, own in judgements.items()}
    surviving = [metric for metric, own in judgements.items() if own.survives]
    leading = [metric for metric in surviving if not metric.startswith("rouge")]
    best = max(leading, key=lambda metric: figures[metric], default=None)
    least = ends(judgements[best].figure)[0] if best else np.inf

    def place(metric: str) -> tuple[bool, bool, bool, bool, float]:
        equal = figures[metric] >= least
        costly = bool({"generation", "retrained reference"} & set(METRICS[metric].needs))
        return (
            metric not in surviving,
            metric.startswith("rouge"),
            not equal,
            equal and costly,
            -figures[metric],
        )

    return sorted(judgements, key=place)


def as_markdown(values: pd.DataFrame) -> str:
    """Return a row per metric, in the order in which a comparison shows them, with 95 % intervals over models."""
    judgements: Mapping[str, Judgement] = {metric: judged(values, metric) for metric in JUDGED}
    order = ordered(judgements)
    heads = ("metric", "faithfulness", "Q, 4 bits", "R, relearning", "robustness", "figure", "survives")
    lines = [heads, ["---"] * len(heads)]
    for metric in order:
        own = judgements[metric]
        cells = (own.faithfulness, own.quantisation, own.relearning, own.robustness, own.figure)
        lines.append((f"`{metric}`", *map(_cell, cells), "yes" if own.survives else "no"))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def ends(values: FloatArray) -> tuple[float, float]:
    """Return the ends of the 95 % percentile interval of replicates, those that are undefined left out."""
    if np.isnan(values).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return float(low), float(high)


def _counts(draws: np.random.Generator, size: int) -> FloatArray:
    """Return how often each of so many models is drawn, shape (1 + B, n), the first row ones."""
    drawn = draws.multinomial(size, np.full(size, 1 / size), DRAWS)
    return np.concatenate([np.ones((1, size)), drawn])


def _mean(values: FloatArray, counts: FloatArray) -> FloatArray:
    mean: FloatArray = (counts * values).sum(axis=1) / counts.sum(axis=1)
    return mean


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Return part / whole, 0 where both are: what does not change is as it was."""
    share: FloatArray = np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)
    return share


def _cell(values: FloatArray) -> str:
    low, high = ends(values)
    if np.isnan(values[0]):
        return "–"
    return f"{values[0]:.3f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    app()
