"""What unlearning costs beside the bare training loop, and how far a sample is trained past its forgetting.

    python -m benchmarks.unlearn [--model demo --scores RUN_DIR] [--method graddiff] [--steps 60] [--json]

Overhead: our loop (sampler, looks, probes, log, store) and a bare `transformers.Trainer` on the same padded
batches run in turns, and each step is compared with the same step. Forgotten samples stay in the pool there, so
that both loops make the same passes. Overshoot: whole runs, in which each sample's own MA is measured after each
of its updates, besides what the run itself looks at.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.passes import synchronise
from benchmarks.score import Comparison, print_json, print_table, run_directory
from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.model.encoding import EncodedSample
from mrd_core.runs import JobContext, RunStore, submit
from mrd_core.runs.context import StoredContext
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.runs.record import RunState
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.job import score_job
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.config import CurriculumConfig, RetainConfig, UnlearnConfig
from mrd_core.unlearning.feed import Standing
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.job import Training
from mrd_core.unlearning.losses import nll_loss
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import ForgetBatch, parsed
from mrd_core.unlearning.preparation import Prepared, Start, measure_start, prepare, refused_of
from mrd_core.unlearning.stopping import Limits
from mrd_core.unlearning.texts import TextBatch, answers

OVERHEAD, OVERSHOOT = 1.15, 0.1
# The curriculum needs scores; how good they are changes nothing here.
ROUGH = EstimatorConfig(sigma=1e-3, draws=8, stop="never", workers=1)
Row = dict[str, Any]

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or `demo`.")] = "demo",
    forget_set: Annotated[str, typer.Option(help="Forget set that is scored roughly first.")] = "demo",
    scores: Annotated[Path | None, typer.Option(help="Take samples and scores from this score run.")] = None,
    retain_set: Annotated[str, typer.Option(help="Retain set, or `demo`.")] = "demo",
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "graddiff",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    steps: Annotated[int, typer.Option(min=10, help="Steps of a timed loop.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each loop runs.")] = 5,
    overshoot: Annotated[bool, typer.Option(help="Also measure the overshoot, of this method and of PO.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the overhead of our loop over the bare one, and the overshoot of the checks."""
    chosen = ModelConfig(source=model, device=device)
    with TemporaryDirectory(prefix="mrd-benchmark-") as folder:
        home = Path(folder)
        config = UnlearnConfig(
            score_run=scores or rough_scores(ForgetSetConfig(source=forget_set), chosen, home),
            model=chosen,
            method=method,
            retain=RetainConfig(samples=ForgetSetConfig(source=retain_set)),
            answers=0,
        )
        bench = Bench(home)
        comparisons, setting = overhead(bench, config, steps, rounds)
        if overshoot:
            comparisons += [overshoot_of(bench, config, name) for name in dict.fromkeys((method, "po"))]
    (print_json if as_json else print_table)(setting, comparisons)


def rough_scores(forget_set: ForgetSetConfig, model: ModelConfig, home: Path) -> Path:
    """Score a forget set with a few draws and return the run's directory."""
    config = ScoreConfig(forget_set=forget_set, model=model, estimator=ROUGH)
    directory = run_directory(home, "scores", config, read(forget_set))
    score_job(config, JobContext(directory))
    return directory


class Watched(StoredContext):
    """The context of a run in the store, with something else done after each step but the last."""

    after_step: Callable[[], None]

    def check_cancelled(self) -> None:
        """Do that too."""
        super().check_cancelled()
        self.after_step()


class Bench:
    """A data root with a run store of its own."""

    def __init__(self, home: Path) -> None:
        self._settings = Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=(home,))
        self._store = RunStore.open(self._settings)

    def submitted(self, config: UnlearnConfig) -> tuple[UnlearningFiles, Watched]:
        """Return the files and the context of a new run that counts as running in this process."""
        run = submit(config, store=self._store, settings=self._settings)
        self._store.claim(run, ProcessIdentity.current())
        self._store.transition(run.id, RunState.STARTING, expected=RunState.QUEUED)
        self._store.transition(run.id, RunState.RUNNING, expected=RunState.STARTING)
        return UnlearningFiles(run.directory), Watched(self._store, self._store.get(run.id), threading.Event())


@dataclass
class Clock:
    """Reads the time after each step.

    Attributes:
        device: What is waited for first.
        readings: Time on the wall and of this process's processors [s].
    """

    device: torch.device
    readings: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self) -> None:
        """Take a reading."""
        synchronise(self.device)
        self.readings.append((time.perf_counter(), time.process_time()))

    def steps(self, count: int) -> np.ndarray:
        """Return both times of the steps 2 … `count` [s], shape (count − 1, 2)."""
        return np.diff(self.readings, axis=0)[: count - 1]


def overhead(
    bench: Bench, config: UnlearnConfig, steps: int, rounds: int
) -> tuple[list[Comparison], dict[str, Any]]:
    """Run both loops in turns on the same batches and compare their steps."""
    config = config.model_copy(
        update={
            "curriculum": CurriculumConfig(sampler="mrd", drop_forgotten=False),
            # Our clock does not see the last step.
            "limits": Limits(max_steps=steps + 1),
            "checkpoint_steps": 10 * steps,
        }
    )
    files, context = bench.submitted(config)
    prepared = prepare(config, files, context)
    start = measure_start(config, prepared, files, context)
    weights = {name: weight.clone() for name, weight in prepared.trained.state_dict().items()}
    ours, bare = [], []
    # The first round pays for caches.
    for _ in range(rounds + 1):
        files, clock = our_loop(bench, config, prepared, start)
        prepared.trained.load_state_dict(weights)
        ours.append(clock.steps(steps))
        bare.append(bare_loop(config, prepared, start, files).steps(steps))
        prepared.trained.load_state_dict(weights)
    setting = {
        "method": config.method,
        "parameters": prepared.parameters,
        "samples": len(prepared.forget),
        "batch": config.optimiser.batch_size,
        "steps": steps,
        "rounds": rounds,
        "device": str(prepared.model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return compare_loops(np.array(ours[1:]), np.array(bare[1:])), setting


def our_loop(
    bench: Bench, config: UnlearnConfig, prepared: Prepared, start: Start
) -> tuple[UnlearningFiles, Clock]:
    """Train as a run in the store does, and return its files and the clock."""
    files, context = bench.submitted(config)
    clock = Clock(prepared.model.device)
    context.after_step = clock
    Training(config, prepared, start, files, context).train()
    return files, clock


def bare_loop(config: UnlearnConfig, prepared: Prepared, start: Start, files: UnlearningFiles) -> Clock:
    """Train a plain Trainer on the batches that our loop has written down, and return the clock."""
    settings, clock = config.optimiser, Clock(prepared.model.device)
    rows = batches(config, prepared, start, files)
    arguments = TrainingArguments(
        output_dir=str(files.directory / "bare"),
        max_steps=len(rows),
        per_device_train_batch_size=1,
        optim=settings.name,
        learning_rate=prepared.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type=settings.schedule,
        max_grad_norm=settings.max_grad_norm,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=prepared.model.device.type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
    )
    trainer = Bare(config, prepared.trained, arguments, rows, clock)
    trainer.train()
    return clock


def batches(config: UnlearnConfig, prepared: Prepared, start: Start, files: UnlearningFiles) -> list[Row]:
    """Return what each step of a run trained on."""
    frame = ForgetSet.load(files.samples).frame
    refused = refused_of(config, prepared, dict(zip(frame["sample_id"], frame["prompt"], strict=True)), files)
    place = {sample: i for i, sample in enumerate(prepared.forget.sample_ids)}
    kept = dict(zip(prepared.retain.sample_ids, prepared.retain.samples, strict=True)) if prepared.retain else {}
    nll = start.nll * [int(sample.answer.sum()) for sample in prepared.forget.samples]

    def text(sample: str, step: int) -> EncodedSample:
        return refused(sample, step) if refused else prepared.forget.samples[place[sample]]

    return [
        {
            "forget": [text(sample, line["step"] - 1) for sample in line["forget"]],
            "retain": [kept[sample] for sample in line["retain"]],
            "reference_nll": [nll[place[sample]] for sample in line["forget"]],
        }
        for line in files.read_steps()
    ]


class Bare(Trainer):
    """transformers' Trainer with a loss, and nothing else of ours."""

    def __init__(
        self, config: UnlearnConfig, model: Any, arguments: TrainingArguments, rows: list[Row], clock: Clock
    ) -> None:
        super().__init__(
            model=model, args=arguments, train_dataset=rows, data_collator=padded, callbacks=[Ticking(clock)]
        )
        self.remove_callback(PrinterCallback)
        method = METHODS[config.method]
        self._term, self._parameters = method.loss, parsed(method, config.parameters)
        self._weight = method.default_retain_weight if config.retain.weight is None else config.retain.weight

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: ARG002
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the loss of one step."""
        forget = _texts(inputs["forget_ids"], inputs["forget_mask"])
        term = ForgetBatch(answers(model, forget).log_probs, forget.mask, inputs["reference_nll"])
        loss = self._term(term, **self._parameters)
        if "retain_ids" in inputs:
            retain = _texts(inputs["retain_ids"], inputs["retain_mask"])
            loss = loss + self._weight * nll_loss(answers(model, retain).log_probs, retain.mask, "tokens")
        return loss


def _texts(ids: Tensor, mask: Tensor) -> TextBatch:
    return TextBatch(ids, mask, torch.full((len(ids),), ids.shape[1]))


class Ticking(TrainerCallback):
    """Reads a clock after each step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Read it."""
        self._clock()


def padded(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Pad the texts of the one step that a batch is."""
    (row,) = rows
    tensors = {"reference_nll": torch.tensor(row["reference_nll"], dtype=torch.float32)}
    for name in ("forget", "retain"):
        if row[name]:
            batch = TextBatch.of(row[name], torch.device("cpu"))
            tensors |= {f"{name}_ids": batch.ids, f"{name}_mask": batch.mask}
    return tensors


def compare_loops(ours: np.ndarray, bare: np.ndarray) -> list[Comparison]:
    """Compare wall and processor seconds of the same steps, both of shape (rounds, steps, 2)."""
    # Each step at its median over the rounds, so that probes count and a busy machine's hiccups do not.
    (steps, busy), (bare_steps, bare_busy) = (np.median(times, axis=0).T for times in (ours, bare))
    rounds = sorted(ours[..., 0].sum(axis=1) / bare[..., 0].sum(axis=1))
    step, bare_step = 1000 * np.median(ours[..., 0]), 1000 * np.median(bare[..., 0])
    return [
        Comparison(
            "median step / bare loop's",
            step / bare_step,
            OVERHEAD,
            True,
            f"{step:.1f} ms against {bare_step:.1f} ms",
        ),
        Comparison(
            "all steps / bare loop's",
            steps.sum() / bare_steps.sum(),
            OVERHEAD,
            True,
            f"{steps.sum():.2f} s against {bare_steps.sum():.2f} s, with the probes of the retain set; rounds "
            f"{rounds[0]:.2f} to {rounds[-1]:.2f}",
        ),
        Comparison(
            "processor time / bare loop's",
            busy.sum() / bare_busy.sum(),
            OVERHEAD,
            True,
            f"{busy.sum():.2f} s against {bare_busy.sum():.2f} s for all steps; other processes do not count, "
            "nor does waiting for the disk",
        ),
    ]


def overshoot_of(bench: Bench, config: UnlearnConfig, method: str) -> Comparison:
    """Measure how far samples are trained past their forgetting in a whole run, at the default checks."""
    config = UnlearnConfig.model_validate(config.model_dump() | {"method": method, "parameters": {}})
    files, context = bench.submitted(config)
    prepared = prepare(config, files, context)
    start = measure_start(config, prepared, files, context)
    observer = Observer(prepared, files)
    context.after_step = observer
    training = Training(config, prepared, start, files, context)
    training.train()
    return passed_over(METHODS[method].label, observer, training.feed.standing, start.thresholds.accuracy)


class Observer:
    """Measures the MA of samples after each of their updates.

    Attributes:
        accuracy: MA after the first, second, … update of a sample, by id.
    """

    def __init__(self, prepared: Prepared, files: UnlearningFiles) -> None:
        self.accuracy: dict[str, list[float]] = defaultdict(list)
        self._prepared, self._files = prepared, files
        self._place = {sample: i for i, sample in enumerate(prepared.forget.sample_ids)}

    def __call__(self) -> None:
        """Measure those that the last step trained on."""
        step = self._files.read_steps()[-1]
        updated = [sample for sample, trained in zip(step["forget"], step["trained"], strict=True) if trained]
        if updated:
            places = np.array([self._place[sample] for sample in updated])
            found = self._prepared.memorized(self._prepared.forget, places).accuracy
            for sample, accuracy in zip(updated, found.tolist(), strict=True):
                self.accuracy[sample].append(accuracy)


def passed_over(label: str, observer: Observer, standing: Standing, threshold: float) -> Comparison:
    """Compare the updates after samples were forgotten with the updates that this took.

    A sample is forgotten for good after the update from which on its MA stayed below the threshold.
    """
    found = {sample: standing.updates[sample] for sample in standing.forgotten if sample in standing.updates}
    if not found:
        what = f"none was found forgotten in {sum(standing.updates.values())} updates"
        return Comparison(f"{label}: updates too many / needed", float("nan"), OVERSHOOT, True, what)
    needed = {sample: for_good(observer.accuracy[sample][:count], threshold) for sample, count in found.items()}
    first = {sample: for_once(observer.accuracy[sample][:count], threshold) for sample, count in found.items()}
    shares = [(found[sample] - needed[sample]) / needed[sample] for sample in found]
    once = (sum(found.values()) - sum(first.values())) / sum(first.values())
    within = statistics.fmean(share <= OVERSHOOT for share in shares)
    return Comparison(
        f"{label}: updates too many / needed",
        (sum(found.values()) - sum(needed.values())) / sum(needed.values()),
        OVERSHOOT,
        True,
        f"{sum(found.values())} updates, {sum(needed.values())} needed until MA stayed below {threshold:g}; "
        f"{within:.0%} of {len(found)} samples within {OVERSHOOT:.0%}, at most {max(shares):.0%}; most updates "
        f"of a sample {max(found.values())}; counted from the first time below, which need not last: {once:.3f}; "
        f"passes without an update: {checking_share(standing):.1%} of the run's operations",
    )


def for_good(accuracy: Sequence[float], threshold: float) -> int:
    """Return after how many updates MA stayed below the threshold; all of them where it did not."""
    known = [update for update, value in enumerate(accuracy, start=1) if not value < threshold]
    return min(max(known, default=0) + 1, len(accuracy))


def for_once(accuracy: Sequence[float], threshold: float) -> int:
    """Return after how many updates MA was first below the threshold; all of them where it never was."""
    below = (update for update, value in enumerate(accuracy, start=1) if value < threshold)
    return next(below, len(accuracy))


def checking_share(standing: Standing) -> float:
    """Return the share of looks and probes in the operations; a pass forward is a third of an update."""
    trained = 3 * (standing.tokens_trained + standing.tokens_retained)
    return standing.tokens_checked / max(trained + standing.tokens_checked, 1)


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
