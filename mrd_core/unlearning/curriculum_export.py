"""The order of the forget samples to take along, as JSON Lines: as it was drawn, or as it would be.

Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import json_value
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import CurriculumConfig, UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.request import curriculum_frame, weighing
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum

Row = dict[str, Any]


def realised(files: UnlearningFiles) -> Iterator[Row]:
    """Yield the draws of an unlearning run, in order: position (from 1), step, sample_id, weight, trained.

    `weight` is what the sampler weighed by at the start (None where undefined), `trained` whether the weights of
    the model moved for this draw.

    Raises:
        UserError: The run has not drawn a sample.
    """
    steps = files.read_steps()
    if not steps:
        raise UserError(
            f"The run in {files.directory}",
            "has not drawn a sample yet.",
            "Wait until it has, or resume it if it was stopped.",
        )
    weights = _by_sample(pd.read_parquet(files.curriculum), "weight")
    draws = ((step, *draw) for step in steps for draw in zip(step["forget"], step["trained"], strict=True))
    for position, (step, sample, trained) in enumerate(draws, start=1):
        yield {
            "position": position,
            "step": step["step"],
            "sample_id": sample,
            "weight": json_value(weights[sample]),
            "trained": trained,
        }


def planned(score_run: Path, curriculum: CurriculumConfig, seed: int) -> Iterator[Row]:
    """Yield one epoch as it would be drawn from all scored samples: position (from 1), sample_id, weight, share.

    A run with this seed draws just this as long as no sample has left the pool. `weight` is the value of the
    column (None where undefined), `share` the expected share of the sample in an epoch's draws.

    Raises:
        UserError: The score run is not finished, has no such column, or cannot be sampled by it.
    """
    model = read_config(score_run, ScoreConfig).model
    config = UnlearnConfig(score_run=score_run, model=model, curriculum=curriculum, seed=seed)
    scores = weighing((ScoreFiles.with_mrd if curriculum.uses_draws else ScoreFiles.finished)(score_run))
    frame = curriculum_frame(config, scores, list(scores["sample_id"]))
    weights, shares = (_by_sample(frame, name) for name in ("weight", "share"))
    stream = Curriculum(SAMPLERS[curriculum.sampler], weights, seed)
    for position, sample in enumerate(stream.next_batch(len(weights)), start=1):
        weight = json_value(weights[sample])
        yield {"position": position, "sample_id": sample, "weight": weight, "share": shares[sample]}


def json_lines(rows: Iterable[Row]) -> str:
    """Return the rows as JSON, one a line, in ASCII: an id may hold what some readers take for a line's end."""
    return "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows)


def _by_sample(curriculum: pd.DataFrame, column: str) -> dict[str, float]:
    return dict(zip(curriculum["sample_id"], curriculum[column].astype(float), strict=True))
