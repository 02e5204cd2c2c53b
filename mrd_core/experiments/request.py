"""What an experiment takes along when it is asked for: samples, scores and retain set.

Loads no torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds import experiments
from mrd_core.runs.files import PRIVATE_FOLDER, write_json
from mrd_core.samples import ForgetSet, read, read_split
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.request import scored_by, without


def prepare(config: ExperimentConfig, draft: Path) -> ExperimentConfig:
    """Copy samples and retain set into the directory of a new run, and the scores where it builds on a score run.

    Raises:
        UserError: The score run is not finished, or the forget or the retain set is no good.
    """
    files = ExperimentFiles(draft)
    if config.score_run is not None:
        copy_scores(config, files)
        copy_retain(config, files, files.samples)
        experiments()[config.kind].prepare(config, files)
    else:
        # Its own scoring, which comes first, takes the samples from there.
        scoring = ScoreFiles(files.scoring)
        scoring.directory.mkdir(mode=PRIVATE_FOLDER)
        read(config.forget_set).save(scoring.samples)
        copy_retain(config, files, scoring.samples)
    return config


def copy_scores(config: ExperimentConfig, files: ExperimentFiles) -> None:
    """Copy samples, scores and measures of the score run, or of the run's own scoring, into its directory.

    Raises:
        UserError: The score run is not finished, is a preview, or lacks a file.
    """
    directory = config.score_run or files.scoring
    scored = ScoreFiles.with_mrd(directory)
    if not scored.measures.exists():
        raise UserError(
            f"The score run in {directory}",
            f"has no {scored.measures.name}: it was made by an earlier version, or the file was removed.",
            "Score the forget set again.",
        )
    for source, copy in (
        (scored.samples, files.samples),
        (scored.scores, files.scores),
        (scored.measures, files.measures),
    ):
        shutil.copyfile(source, copy)
    # Last, since its presence says that all is there.
    write_json(files.scored, scored_by(directory).model_dump())


def copy_retain(config: ExperimentConfig, files: ExperimentFiles, samples: Path) -> None:
    """Read the retain set, without the forget samples, into the run's directory, unless it is there.

    Args:
        config: Of the run.
        files: Of the run.
        samples: The forget set, as it is kept.

    Raises:
        UserError: As in `samples.read`, or nothing is left.
    """
    retain: ForgetSetConfig | None = getattr(config, "retain", None)
    if retain is None or files.retain.exists():
        return
    without(read_split(retain, "retain"), ForgetSet.load(samples)).save(files.retain)
