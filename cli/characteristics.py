"""`mrd-lens characteristics`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from analysis.characteristics.claims import Claim
from analysis.characteristics.command import CHARACTERISTICS
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.judgement import Judgement, claims_json, judged, remains
from analysis.characteristics.runs import Characterised, characterised
from analysis.characteristics.strata import parsed
from analysis.difficulty import Variant
from analysis.export.characteristics import exports
from analysis.export.files import write_exports
from cli.form import command_of, json_option, out_option
from cli.jobs import carried_out, submitted
from cli.terminal import note, out, print_json, require_folder, say, warn
from mrd_core.runs import RunState
from mrd_core.runs.directory import read_config
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation, ScoreConfig


def _characteristics(
    config: CharacteristicsConfig,
    threshold: Sequence[str],
    scope: str | None,
    normalisation: str | None,
    formula: str,
    out_dir: Path | None,
    as_json: bool,
    without_texts: bool,
    launch: LaunchConfig,
) -> None:
    if out_dir:
        require_folder(out_dir)
    thresholds = dict(map(parsed, threshold))
    scored = read_config(config.score_run, ScoreConfig)
    run = submitted(config, launch=launch)
    if run.state is not RunState.SUCCEEDED:
        run = carried_out(run.directory, as_json)
    variant = Variant(
        Scope(scope or scored.estimator.scope),
        Normalisation(normalisation or scored.estimator.normalisation),
        Formula(formula),
    )
    characteristics = characterised(config.score_run, run.directory, variant)
    judgement = judged(characteristics, thresholds, run.directory)
    if without_texts:
        characteristics = characteristics.without_texts()
    folder, contents = out_dir or run.directory, exports(characteristics, judgement)
    write_exports(folder, contents)
    if as_json:
        print_json(claims_json(judgement))
    else:
        _print(characteristics, judgement)
    note(f"Written to {folder}: {', '.join(contents)}")


def _print(characteristics: Characterised, judgement: Judgement) -> None:
    about = characteristics.about
    say(f"Read by {about.pipeline} ({about.pipeline_reason})")
    warn(about.cautions)
    for normalisation, claims in judgement.claims.items():
        table = Table(title=f"MRD, {normalisation} over the tokens (small: hard)", title_justify="left", box=None)
        # In a narrow terminal it is the words that are broken: no figure and no verdict is cut.
        table.add_column("criterion")
        for name in ("high, low", "difference, δ, p (Holm)", "length held", "verdict"):
            table.add_column(name, no_wrap=True)
        for claim in claims:
            table.add_row(*map(escape, _row(claim, judgement, normalisation)))
        out.print(table)
    for claim in judgement.shown:
        measured = f"{claim.feature}, high is {claim.rule}" if claim.feature else "not measured"
        say(f"{claim.criterion.title}: {measured}; {claim.reason}")


def _row(claim: Claim, judgement: Judgement, normalisation: Normalisation) -> tuple[str, ...]:
    name = (claim.criterion.title, f"{claim.n_high}, {claim.n_low}")
    if claim.comparison is None:
        return (*name, "–", "–", claim.verdict)
    difference, delta = claim.comparison.difference, claim.comparison.cliffs_delta
    left = remains(judgement, claim, normalisation)
    return (
        *name,
        f"{difference.value:+.3g}\n[{difference.low:+.3g}, {difference.high:+.3g}]\n"
        f"δ {delta.value:+.2f}, p {claim.p_holm:.2g}",
        f"{left['length_held']:+.2f}\n[{left['length_held_low']:+.2f}, {left['length_held_high']:+.2f}]",
        claim.verdict,
    )


characteristics = command_of(
    CHARACTERISTICS,
    _characteristics,
    [
        click.Option(
            ["--threshold"],
            multiple=True,
            help="CRITERION=quartile|mean|median|NUMBER, may be repeated; by default the paper's.",
        ),
        click.Option(
            ["--scope"], type=click.Choice([*map(str, Scope)]), help="Scored tokens; by default those of the run."
        ),
        click.Option(
            ["--normalisation"],
            type=click.Choice([*map(str, Normalisation)]),
            help="Normalisation of MRD; by default that of the run.",
        ),
        click.Option(
            ["--formula"], type=click.Choice([*map(str, Formula)]), default="mrd", help="Variant of the score."
        ),
        out_option("Folder for the files; by default that of the reading."),
        json_option("Print one JSON object instead of the table.", starts_run=True),
        click.Option(
            ["--without-texts"],
            is_flag=True,
            help="Leave prompts and answers out of the tables; ids and figures stay.",
        ),
    ],
)
