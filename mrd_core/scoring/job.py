"""The job behind `mrd_core run` for a score run."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.model.hardware import kind_of
from mrd_core.runs import JobContext
from mrd_core.runs.files import write_frame
from mrd_core.samples import ForgetSet, read
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.drawing import Helpers, draw, leading
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.plan import prepare, resume, weights_checksum
from mrd_core.scoring.results import (
    floor_pass_seconds,
    measure_frame,
    score_frame,
    summarise,
    token_frame,
    write_results,
)


def score_job(config: ScoreConfig, context: JobContext) -> dict[str, Any]:
    """Score a forget set and return the run's summary; picks up where an interrupted run stopped.

    Raises:
        UserError: Bad forget set or model, or the precision gate refuses.
        Cancelled: The run was asked to stop.
    """
    files = ScoreFiles(context.directory)
    if not files.summary.exists():
        # The run's own copy, made from the source where there is none yet.
        if files.samples.exists():
            forget_set = ForgetSet.load(files.samples)
        else:
            forget_set = read(config.forget_set)
            forget_set.save(files.samples)
        if config.forget_set_digest not in (None, forget_set.digest):
            raise UserError(
                f"The forget set '{config.forget_set.source}'",
                "is not the one that this run was launched with: its digest differs.",
                "Put the original file back, or launch a new run.",
            )
        with leading(config, files) as helpers:
            _score(config, forget_set, files, helpers, context)
    # Also where the summary was written and the process killed right after it.
    files.remove_scaffolding()
    return files.read_summary()


def _score(
    config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles, helpers: Helpers, context: JobContext
) -> None:
    began = time.monotonic()
    again = files.plan.exists() and files.baseline.exists()
    prepared = (resume if again else prepare)(config, forget_set, files, context)
    for what, reason in prepared.plan.reasons.items():
        context.event("info", f"{what}: {reason}")
    own = kind_of(prepared.stage.model.device, prepared.stage.model.dtype)
    if prepared.plan.device_kind not in ("", own):
        context.event("warning", f"The run began on {prepared.plan.device_kind}, and goes on with {own}.")
    drawn = draw(config.estimator, prepared, files, context)
    helpers.stop()
    # The measures that are held beside MRD, unless an earlier process has taken them.
    began_measures = time.monotonic()
    if not files.measures.exists():
        context.progress(round(drawn.passes), round(drawn.passes), message="Measuring")
        write_frame(files.measures, measure_frame(prepared, config.estimator, forget_set, context))
    seconds_measures = time.monotonic() - began_measures
    if weights_checksum(prepared.stage.scorer) != prepared.plan.weights:
        raise RuntimeError("the model's weights changed during scoring, so the scores are void")
    frame = score_frame(drawn.draws, prepared, config.estimator)
    tokens = token_frame(drawn.units, prepared.stage.passes.encoded, prepared.baseline, prepared.plan.sigma)
    costs = {
        # MRD alone: what it costs must not depend on what is measured beside it.
        "seconds": round(time.monotonic() - began - seconds_measures, 3),
        "seconds_measures": round(seconds_measures, 3),
        "weights_untouched": True,
    }
    if config.estimator.time_floor:
        context.progress(round(drawn.passes), round(drawn.passes), message="Timing the bare model")
        costs["seconds_floor_pass"] = round(floor_pass_seconds(prepared), 5)
    summary = summarise(drawn, frame, pd.read_parquet(files.measures), prepared, config.estimator)
    write_results(files, frame, drawn.draws, tokens, summary.model_copy(update=costs))
