"""`mrd-lens score` and `mrd-lens demo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import pandas as pd

from analysis.evidence.brief import number_cells
from analysis.evidence.headlines import headlines
from cli.form import command_of, json_option, launch_options, out_option
from cli.jobs import finish, store, submitted
from cli.share import MIXED, SHARD, Shard, score_shard
from cli.terminal import grid, note, out, print_json, say
from mrd_core.runs import RunState
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.token_parts import TOKEN_PARTS, TOKENS, TokenPartsConfig
from mrd_core.settings.options import DEMO


def _score(
    config: ScoreConfig,
    out_dir: Path | None,
    as_json: bool,
    launch: LaunchConfig,
    dry_run: bool = False,
    shard: str | None = None,
    mixed: bool = False,
) -> None:
    """Score the samples as they are now, and print what was noticed in them."""
    forget_set = read(config.forget_set)
    for text in forget_set.report.notes:
        note(text)
    if dry_run:
        _forecast(config, forget_set, as_json)
        return
    estimator = config.estimator.model_copy(update={"time_floor": as_json})
    changes = {"forget_set_digest": forget_set.digest, "estimator": estimator}
    config = config.model_copy(update=changes)
    if shard:
        score_shard(Shard.of(shard), config, forget_set, out_dir, mixed=mixed, as_json=as_json)
        return
    run = submitted(config, out_dir, launch, prepare=lambda draft: forget_set.save(ScoreFiles(draft).samples))
    finish(run.directory, as_json)
    for check in store().list(kinds=("validity",), score_run=run, states=(RunState.SUCCEEDED,)):
        for line in headlines(check.directory):
            note(f"{line.text}.")


def _forecast(config: ScoreConfig, forget_set: ForgetSet, as_json: bool) -> None:
    """Print what a run would do and cost, timed on a few samples here and now; nothing is stored."""
    from mrd_core.scoring.forecast import forecast

    expected = forecast(config, forget_set)
    if as_json:
        print_json(asdict(expected) | {"total_seconds": expected.total_seconds})
        return
    table = pd.DataFrame({"forward passes": pd.Series(expected.passes), "seconds": pd.Series(expected.seconds)})
    rows = table.loc[list(expected.seconds)].apply(number_cells, form=".1f")
    say(f"{config.title}: {expected.samples} samples, {expected.tokens:,} tokens", style="bold")
    for what, choice in expected.choices.items():
        say(f"{what}: {choice}")
    out.print(grid("What the run will probably take", rows.rename_axis("what").reset_index()))
    drawn = f"for {expected.evaluations} evaluations, at most {expected.most_seconds:.0f} s for {expected.cap}"
    say(
        f"About {expected.total_seconds:.0f} s {drawn if expected.cap else 'for a preview by sign probes'}; "
        f"{expected.workers} process(es) of "
        f"{expected.memory / 2**30:.1f} GiB."
    )
    say("Nothing was started.")


_DRY_RUN = click.Option(
    ["--dry-run"],
    is_flag=True,
    help="Start nothing: load the model, time a few samples, and print what was chosen and what a run will take.",
)
score = command_of(
    SCORE,
    _score,
    [
        out_option(),
        SHARD,
        MIXED,
        json_option("End with one line of JSON; also times the bare model.", starts_run=True),
        _DRY_RUN,
    ],
)


def _tokens(config: TokenPartsConfig, as_json: bool, launch: LaunchConfig) -> None:
    """Take a sample apart, unless that is done."""
    run = submitted(config, launch=launch)
    if run.state is RunState.SUCCEEDED:
        description = TOKEN_PARTS.describe(run.directory, run.summary or {})
        for line in description.lines:
            note(line)
        if as_json:
            print_json(run.summary)
    else:
        finish(run.directory, as_json)


tokens = command_of(TOKENS, _tokens, [json_option(starts_run=True)])


_MAKE = click.Option(
    ["--make"],
    type=click.Path(path_type=Path, file_okay=False),
    help="Make the finished runs that ship with the program anew, in this folder, and score nothing else: about "
    "twenty minutes.",
)


@click.command(params=[out_option(), _MAKE])
@launch_options
def demo(out_dir: Path | None, make: Path | None, launch: LaunchConfig) -> None:
    """Score the demo with the recommended settings, or make the runs that ship with the program."""
    if make:
        from mrd_core.dossier.making import make as make_dossier

        dossier = make_dossier(make)
        say(f"{len(dossier.contents())} files in {dossier.directory}")
        return
    _score(ScoreConfig(forget_set=ForgetSetConfig(source=DEMO)), out_dir, as_json=False, launch=launch)
