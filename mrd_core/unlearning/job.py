"""The job behind `mrd_core run` for an unlearning run."""

from __future__ import annotations

import importlib.util
import os
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from transformers import TrainingArguments

from mrd_core.errors import UserError
from mrd_core.model.encoding import IntArray
from mrd_core.model.memorization import Memorized, extraction_cost
from mrd_core.model.reader import is_out_of_memory
from mrd_core.runs import Cancelled, JobContext
from mrd_core.runs.files import write_json
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.evaluating import evaluator
from mrd_core.unlearning.feed import CurriculumFeed, Measures, Rescored, Rules, Samples
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS, parsed
from mrd_core.unlearning.objective import Objective
from mrd_core.unlearning.outcome import Ended, conclude, save_model, spoilt
from mrd_core.unlearning.preparation import (
    Prepared,
    Start,
    keep_answers,
    measure_start,
    prepare,
    reference_of,
    refused_of,
)
from mrd_core.unlearning.recorder import Recorder
from mrd_core.unlearning.rescoring import rescored
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum
from mrd_core.unlearning.trainer import UnlearningTrainer, checkpoints, too_little_memory


def unlearn_job(config: UnlearnConfig, context: JobContext) -> dict[str, Any]:
    """Unlearn a forget set and return the run's summary; picks up at the newest checkpoint.

    Raises:
        UserError: Bad settings, samples or model; the loss is not finite; memory runs out.
        Cancelled: The run was asked to stop; a checkpoint holds what it did.
    """
    files = UnlearningFiles(context.directory)
    if not files.summary.exists():
        _unlearn(config, files, context)
    # Also where the summary was written and the process killed right after it.
    files.remove_scaffolding()
    return files.read_summary()


def _unlearn(config: UnlearnConfig, files: UnlearningFiles, context: JobContext) -> None:
    began = time.monotonic()
    _require_trackers(config)
    prepared = prepare(config, files, context)
    _announce(prepared, files, context)
    stoppable = replace(prepared, before_batch=context.check_cancelled)
    start = measure_start(config, stoppable, files, context)
    run = Training(config, prepared, start, files, context)
    keep_answers(config, stoppable, files, context)
    earlier = run.feed.standing.seconds
    ended = run.train(files)
    summary = conclude(config, stoppable, start, ended, files, context)
    summary["seconds"] = round(earlier + time.monotonic() - began, 3)
    save_model(config, prepared, start, summary, files)
    write_json(files.summary, summary)


def _announce(prepared: Prepared, files: UnlearningFiles, context: JobContext) -> None:
    """Say what was decided and what to mind, once: a resumed run has said it."""
    if files.start.exists():
        return
    for what, reason in prepared.reasons.items():
        context.event("info", f"{what}: {reason}")
    for warning in prepared.warnings:
        context.event("warning", warning)


class Training:
    """One run's trainer with its feed and recorder, begun anew or taken up at the newest checkpoint.

    Attributes:
        feed: The state of the run.
        recorder: What writes it down.
    """

    def __init__(
        self,
        config: UnlearnConfig,
        prepared: Prepared,
        start: Start,
        files: UnlearningFiles,
        context: JobContext,
    ) -> None:
        self._config = config
        self._context = context
        self._cancelled: Cancelled | None = None
        most_steps = config.most_steps(len(prepared.forget))
        measures = _measures(config, prepared, start, files)
        self.feed = CurriculumFeed(
            _curriculum(config, prepared),
            _samples(config, prepared, start, files),
            measures,
            _rules(config, start),
            report=lambda record: self.recorder(record),
            asked_to_stop=self._asked_to_stop,
            before_save=lambda: self.recorder.flush(),
            report_evaluation=lambda evaluation: self.recorder.evaluated(evaluation),
        )
        self._trainer = UnlearningTrainer(
            prepared.trained,
            _arguments(config, files, prepared, most_steps),
            _objective(config, prepared),
            self.feed,
        )
        self._checkpoint = self._take_up(files)
        self.recorder = Recorder(
            files,
            context,
            self.feed.standing,
            dict(zip(prepared.forget.sample_ids, start.accuracy.tolist(), strict=True)),
            most_steps,
            prepared.model.device,
            lambda: self._trainer.learning_rate,
            self._trainer.log if config.report_to else None,
        )
        if self._checkpoint is None:
            self.recorder.begin(self.feed.probe_start())

    def train(self, files: UnlearningFiles) -> Ended:
        """Train until the feed says stop, and return how it ended.

        Raises:
            UserError: The weights are spoilt.
            Cancelled: The run was asked to stop.
        """
        self.feed.start_clock()
        if self._checkpoint is None and self._config.evaluation.every_steps is not None:
            self.feed.evaluate(0)
        if self.feed.reason is None:
            self._train()
        else:
            # Killed between its last step and its result.
            self._trainer.load(str(self._checkpoint))
        self.recorder.flush(ended=True)
        if self.feed.spoilt:
            raise spoilt(f"The loss of step {self.feed.standing.steps}", self._trainer.learning_rate)
        if self.feed.reason is None:
            raise self._cancelled or Cancelled("Training stopped without a reason of its own.")
        drawn = Counter(sample for step in files.read_steps() for sample in step["forget"])
        return Ended(self.feed.reason, self.feed.standing, dict(drawn), self.recorder.peak_memory_mb)

    def _train(self) -> None:
        try:
            self._trainer.train(resume_from_checkpoint=self._checkpoint)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise too_little_memory("The optimiser's state beside weights and gradients") from error
            raise

    def _take_up(self, files: UnlearningFiles) -> str | None:
        """Restore the newest checkpoint, if there is one, and cut what was written down to where it stands."""
        found = checkpoints(files.checkpoints)
        if found:
            self.feed.restore(found[-1], SAMPLERS[self._config.curriculum.sampler])
            self._context.event("info", f"Goes on after step {self.feed.standing.steps}.")
        files.keep_steps(self.feed.standing.steps)
        files.keep_evaluations(self.feed.standing.steps if found else -1)
        self._context.go_back(self.feed.standing.steps if found else -1)
        return str(found[-1]) if found else None

    def _asked_to_stop(self) -> bool:
        try:
            self._context.check_cancelled()
        except Cancelled as cancelled:
            self._cancelled = cancelled
        return self._cancelled is not None


def _curriculum(config: UnlearnConfig, prepared: Prepared) -> Curriculum:
    frame = prepared.curriculum
    weights = dict(zip(frame["sample_id"], frame["weight"].astype(float), strict=True))
    return Curriculum(SAMPLERS[config.curriculum.sampler], weights, config.seed)


def _samples(config: UnlearnConfig, prepared: Prepared, start: Start, files: UnlearningFiles) -> Samples:
    method = METHODS[config.method]
    frame = ForgetSet.load(files.samples).frame
    answer_tokens = np.array([sample.answer.sum() for sample in prepared.forget.samples])
    return Samples(
        forget=prepared.forget,
        refused=refused_of(config, prepared, dict(zip(frame["sample_id"], frame["prompt"], strict=True)), files),
        reference_nll=start.nll * answer_tokens if method.needs_reference else None,
        retain=prepared.retain if config.retain_weight else None,
    )


def _measures(config: UnlearnConfig, prepared: Prepared, start: Start, files: UnlearningFiles) -> Measures:
    forget, retain = prepared.forget, prepared.retain
    probed = retain and retain.subset(evenly_spaced(len(retain), config.stopping.probe_samples))

    def retained() -> Memorized:
        assert probed is not None
        return prepared.memorized(probed)

    def anew(samples: IntArray) -> Rescored:
        curriculum, sigma = config.curriculum, start.scored.sigma
        return rescored(prepared, samples, curriculum.column, sigma, curriculum.recompute_pairs, config.seed)

    # A prefix is read or written once by its generation, which in operations is about one pass of its sample.
    prefixes = [extraction_cost(forget, np.array([i])).prefixes for i in range(len(forget))]
    return Measures(
        memorized=lambda samples: prepared.memorized(forget, samples),
        extraction=lambda samples: prepared.extraction(forget, samples),
        extraction_tokens=np.array(prefixes) * forget.lengths,
        retained=retained if probed else None,
        retained_tokens=int(probed.lengths.sum()) if probed else 0,
        rescored=anew,
        evaluated=evaluator(config, prepared, files),
    )


def _rules(config: UnlearnConfig, start: Start) -> Rules:
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
    )


def _objective(config: UnlearnConfig, prepared: Prepared) -> Objective:
    method = METHODS[config.method]
    return Objective(
        method=method,
        parameters=parsed(method, config.parameters),
        retain_weight=config.retain_weight,
        reference=reference_of(config, prepared),
        micro_batch=config.optimiser.micro_batch,
        device=prepared.model.device,
    )


def _arguments(
    config: UnlearnConfig, files: UnlearningFiles, prepared: Prepared, most_steps: int
) -> TrainingArguments:
    settings = config.optimiser
    on_cpu = prepared.model.device.type == "cpu"
    if "tensorboard" in config.report_to:
        # By default it lies among the checkpoints, which do not stay.
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(files.directory / "tensorboard"))
    return TrainingArguments(
        output_dir=str(files.checkpoints),
        run_name=config.title,
        max_steps=most_steps,
        # One item of the loop is one step, whatever it draws.
        per_device_train_batch_size=1,
        optim=settings.name,
        learning_rate=prepared.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type=settings.schedule,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.mixed_precision == "bf16",
        activation_checkpointing=settings.gradient_checkpointing,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        logging_strategy="no",
        report_to=list(config.report_to),
        disable_tqdm=True,
        use_cpu=on_cpu,
        dataloader_pin_memory=False,
        seed=config.seed % 2**32,
    )


def _require_trackers(config: UnlearnConfig) -> None:
    for tracker in config.report_to:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(
                f"The experiment tracker {tracker}",
                "is not installed.",
                f"Install it with `pip install {tracker}`, or leave it out.",
            )
