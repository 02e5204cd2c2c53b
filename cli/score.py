"""`mrd-lens score` and `mrd-lens demo`."""

from __future__ import annotations

from pathlib import Path

import click

from cli.form import command_of, json_option, out_option
from cli.jobs import finish, submitted
from cli.terminal import note
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.options import DEMO


def _score(config: ScoreConfig, out_dir: Path | None, as_json: bool) -> None:
    """Score the samples as they are now, and print what was noticed in them."""
    forget_set = read(config.forget_set)
    for text in forget_set.report.notes:
        note(text)
    estimator = config.estimator.model_copy(update={"time_floor": as_json})
    changes = {"forget_set_digest": forget_set.digest, "estimator": estimator}
    run = submitted(
        config.model_copy(update=changes),
        out_dir,
        prepare=lambda draft: forget_set.save(ScoreFiles(draft).samples),
    )
    finish(run.directory, as_json)


score = command_of(
    SCORE, _score, [out_option(), json_option("End with one line of JSON; also times the bare model.")]
)


@click.command(params=[out_option()])
def demo(out_dir: Path | None) -> None:
    """Score the demo with the recommended settings."""
    _score(ScoreConfig(forget_set=ForgetSetConfig(source=DEMO)), out_dir, as_json=False)
