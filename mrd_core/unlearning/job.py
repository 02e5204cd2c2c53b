"""The job behind `mrd_core run` for an unlearning run."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import get_scheduler

from mrd_core.errors import UserError
from mrd_core.model.encoding import IntArray
from mrd_core.model.memorization import Memorized, extraction_cost
from mrd_core.model.processes import ALONE, Processes, Team, team
from mrd_core.runs import Cancelled, JobContext
from mrd_core.runs.files import write_json
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning.best import UNRANKED, BestKeeper
from mrd_core.unlearning.card import best_card
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.evaluating import evaluator
from mrd_core.unlearning.feed import (
    CurriculumFeed,
    EvaluationRecord,
    Measures,
    Rescored,
    RetainLimit,
    Rules,
    Samples,
)
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Objective, steering
from mrd_core.unlearning.optimisers import optimiser_of
from mrd_core.unlearning.outcome import Ending, conclude, save_model, save_weights, spoilt
from mrd_core.unlearning.preparation import (
    Prepared,
    Start,
    keep_answers,
    measure_start,
    prepare,
    refused_of,
    retain_limit,
    starting_model_of,
)
from mrd_core.unlearning.recorder import Recorder
from mrd_core.unlearning.records import BestStep
from mrd_core.unlearning.rescoring import rescored
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum
from mrd_core.unlearning.texts import Answers, TextBatch
from mrd_core.unlearning.trainer import Trainer, accelerator_on, decayed_groups


def unlearn_job(config: UnlearnConfig, context: JobContext) -> dict[str, Any]:
    """Unlearn a forget set and return the run's summary; picks up at the newest checkpoint.

    In a process that follows the worker of the run it takes its part in the training, and returns nothing.

    Raises:
        UserError: Bad settings, samples or model; the loss is not finite; memory runs out; another process of the
            run is gone.
        Cancelled: The run was asked to stop; a checkpoint holds what it did.
        Parted: The worker that this process follows is gone.
    """
    files = UnlearningFiles(context.directory)
    if not files.summary.exists():
        with team(config.processes, context.directory, config.model.device) as workers:
            config = config.model_copy(
                update={"model": config.model.model_copy(update={"device": workers.device})}
            )
            if not workers.leads:
                _follow(config, files, context, workers)
                return {}
            _unlearn(config, files, context, workers)
    # Also where the summary was written and the process killed right after it.
    files.remove_scaffolding()
    return files.read_summary()


def _unlearn(config: UnlearnConfig, files: UnlearningFiles, context: JobContext, workers: Team) -> None:
    began = time.monotonic()
    for tracker in config.report_to:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(
                f"The experiment tracker {tracker}",
                "is not installed.",
                f"Install it with `pip install {tracker}`, or leave it out.",
            )
    prepared = prepare(config, files, context, workers.seat.count)
    # A resumed run has said before what was decided and what to mind.
    if not files.start.exists():
        for choice, reason in prepared.reasons.items():
            context.event("info", f"{choice}: {reason}")
        for warning in prepared.warnings:
            context.event("warning", warning)
    stoppable = replace(prepared, before_batch=context.check_cancelled)
    start = measure_start(config, stoppable, files, context)
    keep_answers(config, stoppable, files, context)
    run = Training(config, prepared, start, files, context, _met(workers, prepared, context))
    earlier = run.feed.standing.seconds
    ending = run.train()
    summary = conclude(config, stoppable, start, ending, files, context)
    changes = {"seconds": round(earlier + time.monotonic() - began, 3), "best": run.best()}
    summary = summary.model_copy(update=changes)
    save_model(config, prepared, summary, files)
    write_json(files.summary, summary.as_json())


def _follow(config: UnlearnConfig, files: UnlearningFiles, context: JobContext, workers: Team) -> None:
    """Train beside the worker of the run, from what it has measured and written."""
    workers.await_file(files.tokens_before)
    prepared = prepare(config, files, context, workers.seat.count)
    start = Start.stored(files)
    Training(config, prepared, start, files, context, _met(workers, prepared, context)).follow()


def _met(workers: Team, prepared: Prepared, context: JobContext) -> Processes:
    """Return the processes that train together, which must have met before any of them reads a checkpoint."""
    workers.require_one_device(prepared.model.network)
    return workers.meet(context)


class Training:
    """One run's trainer with its feed and recorder, begun anew or taken up at the newest checkpoint.

    Each of several processes has one; that of the worker alone writes anything.

    Attributes:
        feed: The state of the run.
    """

    def __init__(
        self,
        config: UnlearnConfig,
        prepared: Prepared,
        start: Start,
        files: UnlearningFiles,
        context: JobContext,
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self._config = config
        self._model = prepared.trained
        self._files = files
        self._context = context
        self._cancelled: Cancelled | None = None
        most_steps = config.most_steps(len(prepared.forget))
        self._accelerator = _accelerator(config, prepared, files, processes)
        self._recorder = Recorder(
            files,
            context,
            dict(zip(prepared.forget.sample_ids, start.remembered.tolist(), strict=True)),
            most_steps,
            most_steps * min(config.optimiser.batch_size, len(prepared.forget)),
            prepared.model.device,
            self._log if config.report_to and processes.leads else None,
        )
        frame = prepared.curriculum
        weights = dict(zip(frame["sample_id"], frame["weight"].astype(float), strict=True))
        self.feed = CurriculumFeed(
            Curriculum(SAMPLERS[config.curriculum.sampler], weights, config.seed),
            _samples(config, prepared, start, files, self._accelerator),
            _measures(config, prepared, start, files, processes),
            _rules(config, start),
            report=self._recorder if processes.leads else _unheard,
            asked_to_stop=self._asked_to_stop,
            before_save=self._recorder.flush,
            gather=processes.gather,
            report_evaluation=self._evaluated if processes.leads else _unheard,
        )
        self._keeper = BestKeeper(
            files, lambda folder: save_weights(config, prepared, folder), lambda: _step_of(_newest(files))
        )
        groups = decayed_groups(prepared.trained, config.optimiser.weight_decay)
        optimiser = optimiser_of(config.optimiser, groups, prepared.learning_rate)
        self._trainer = Trainer(
            prepared.trained,
            optimiser,
            _objective(config, prepared, processes),
            self.feed,
            self._accelerator,
            schedule=get_scheduler(config.optimiser.schedule, optimiser, 0, most_steps),
            max_grad_norm=config.optimiser.max_grad_norm,
            checkpoint_folder=files.checkpoints,
            checkpoint_steps=config.checkpoint_steps,
        )
        self._checkpoint = self._take_up()

    def train(self) -> Ending:
        """Train until the feed says stop, and return how it ended.

        Raises:
            UserError: The weights are spoilt, or a step does not fit into the memory.
            Cancelled: The run was asked to stop.
        """
        self._take_steps()
        self._recorder.flush(ended=True)
        if self.feed.spoilt:
            raise spoilt(f"The loss of step {self.feed.standing.steps}", self._trainer.learning_rate)
        if self.feed.reason is None:
            raise self._cancelled or Cancelled("Training stopped without a reason of its own.")
        drawn = Counter(sample for step in self._files.read_steps() for sample in step["forget"])
        return Ending(self.feed.reason, self.feed.standing, dict(drawn), self._recorder.peak_memory_mb)

    def follow(self) -> None:
        """Train beside the worker of the run until it stops, and write nothing down.

        Raises:
            Parted: It is gone.
        """
        self._take_steps()

    def best(self) -> BestStep | None:
        """Put the best weights on the way into their place; return which they are, None where none are kept."""
        if not self._keeps_best:
            return None
        best = self._keeper.settle(lambda step: best_card(self._config, step))
        self._context.event("info", best.sentence if best else UNRANKED)
        return best

    @property
    def _keeps_best(self) -> bool:
        return self._config.evaluation.every_steps is not None and self._config.evaluation.keep_best

    def _evaluated(self, evaluation: EvaluationRecord) -> None:
        self._recorder.evaluated(evaluation)
        if self._keeps_best:
            self._keeper.look(evaluation.step)

    def _take_steps(self) -> None:
        self.feed.start_clock()
        if self._checkpoint is None and self._config.evaluation.every_steps is not None:
            self.feed.evaluate(0)
        if self._config.optimiser.gradient_checkpointing:
            self._model.activation_checkpointing_enable()
        torch.manual_seed(self._config.seed)
        if self._checkpoint is not None:
            self._trainer.resume(self._checkpoint)
        # A run may have been killed between its last step and its result.
        if self.feed.reason is None:
            self._trainer.train()
        if self._config.report_to and self._processes.leads:
            self._accelerator.end_training()

    def _take_up(self) -> Path | None:
        """Restore the feed from the newest checkpoint, if there is one, and cut what was written down to there."""
        newest = _newest(self._files)
        steps, probed = -1, None
        if newest is not None:
            self.feed.restore(newest, SAMPLERS[self._config.curriculum.sampler])
            steps = self.feed.standing.steps
            self._context.event("info", f"Goes on after step {steps}.")
        else:
            probed = self.feed.probe_start()
        if not self._processes.leads:
            return newest
        self._files.keep_steps(self.feed.standing.steps)
        self._files.keep_evaluations(steps)
        self._keeper.go_back(steps)
        self._context.go_back(steps)
        if newest is None:
            self._recorder.begin(probed)
        else:
            self._recorder.resume(self.feed.standing)
        return newest

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._accelerator.log({f"train/{name}": value for name, value in values.items()}, step=step)

    def _asked_to_stop(self) -> bool:
        try:
            self._context.check_cancelled()
        except Cancelled as cancelled:
            self._cancelled = cancelled
        return self._cancelled is not None


def _samples(
    config: UnlearnConfig, prepared: Prepared, start: Start, files: UnlearningFiles, accelerator: Accelerator
) -> Samples:
    method = METHODS[config.method]
    frame = ForgetSet.load(files.samples).frame
    reference_nll = None
    if method.needs_reference:
        nll = start.nll
        if config.optimiser.mixed_precision != "no":
            # What mixed passes are compared with has their rounding; the weights are still those of the start.
            with accelerator.autocast():
                nll = prepared.memorized(prepared.forget).nll
        reference_nll = nll * np.array([sample.answer.sum() for sample in prepared.forget.samples])
    refused = refused_of(config, prepared, dict(zip(frame["sample_id"], frame["prompt"], strict=True)), files)
    return Samples(
        forget=prepared.forget,
        refused=refused if method.needs_refusals else None,
        reference_nll=reference_nll,
        retain=prepared.retain if config.retain_weight else None,
        beside=refused if method.refuses_beside else None,
    )


def _newest(files: UnlearningFiles) -> Path | None:
    """Return the newest checkpoint of a run; None without one."""
    return next(reversed(checkpoints.existing(files.checkpoints)), None)


def _step_of(checkpoint: Path | None) -> int:
    return -1 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def _unheard(record: object) -> None:
    """Keep nothing: the worker has the same record."""


def _measures(
    config: UnlearnConfig, prepared: Prepared, start: Start, files: UnlearningFiles, processes: Processes
) -> Measures:
    forget, retain = prepared.forget, prepared.retain
    # What all look at at the same time; of forget samples each process looks at its own.
    together = replace(prepared, processes=processes)
    probed = retain and retain.subset(evenly_spaced(len(retain), config.stopping.probe_samples))

    def retained() -> Memorized:
        assert probed is not None
        return together.memorized(probed)

    def anew(samples: IntArray) -> Rescored:
        curriculum, sigma = config.curriculum, start.scored.sigma
        assert sigma is not None  # of a preview no order depends on draws
        # Each process measures all, and what the first one finds counts for all.
        own = rescored(prepared, samples, curriculum.column, sigma, curriculum.recompute_pairs, config.seed)
        anew: Rescored = processes.gather([own])[0]
        return anew

    # A prefix is read or written once by its generation, which in operations is about one pass of its sample.
    prefixes = [extraction_cost(forget, np.array([i])).prefixes for i in range(len(forget))]
    return Measures(
        memorized=lambda samples: prepared.memorized(forget, samples),
        extraction=lambda samples: prepared.extraction(forget, samples),
        extraction_tokens=np.array(prefixes) * forget.lengths,
        retained=retained if probed else None,
        retained_tokens=int(probed.lengths.sum()) if probed else 0,
        rescored=anew,
        evaluation=evaluator(config, together, files),
    )


def _rules(config: UnlearnConfig, start: Start) -> Rules:
    limit = retain_limit(config, start.retained)
    return Rules(
        batch_size=config.optimiser.batch_size,
        seed=config.seed,
        thresholds=start.thresholds,
        checks=config.stopping.checks,
        limits=config.limits,
        drop_forgotten=config.curriculum.drop_forgotten,
        probe_steps=config.stopping.probe_steps,
        recompute_epochs=config.curriculum.recompute_epochs,
        evaluate_steps=config.evaluation.every_steps,
        retain_limit=None if limit is None else RetainLimit(limit, config.retain.limit_rate),
        gradient_steps=config.gradient_steps,
    )


def _objective(config: UnlearnConfig, prepared: Prepared, processes: Processes) -> Objective:
    method = METHODS[config.method]
    parameters = parsed(method, config.parameters)
    layer, direction = steering(method, parameters, prepared.model.network.config, config.seed)
    starting_model = starting_model_of(config, prepared, layer)
    return Objective(
        method=method,
        parameters=parameters,
        retain_weight=config.retain_weight,
        reference=_predictions_of(starting_model) if starting_model and config.retain.term == "kl" else None,
        layer=layer,
        direction=direction,
        starting_model=starting_model if method.needs_starting_model else None,
        micro_batch=config.micro_batch(processes.count),
        device=prepared.model.device,
        processes=processes,
        margin=config.stopping.margin,
        norms=prepared.norms,
    )


def _predictions_of(model: Callable[[TextBatch], Answers]) -> Callable[[TextBatch], Tensor]:
    return lambda texts: model(texts).log_softmax


def _accelerator(
    config: UnlearnConfig, prepared: Prepared, files: UnlearningFiles, processes: Processes
) -> Accelerator:
    """Return accelerate's side of the run, with the experiment trackers that were asked for."""
    trackers = list(config.report_to) if processes.leads else []
    accelerator = accelerator_on(
        prepared.model.device,
        mixed_precision=config.optimiser.mixed_precision,
        log_with=trackers or None,
        project_dir=os.environ.get("TENSORBOARD_LOGGING_DIR", str(files.tensorboard)),
    )
    if trackers:
        settings = {name: json.dumps(value) for name, value in config.model_dump(mode="json").items()}
        names = {"wandb": {"name": config.title}, "mlflow": {"run_name": config.title}}
        accelerator.init_trackers(os.environ.get("WANDB_PROJECT", "mrd-lens"), settings, names)
    return accelerator
