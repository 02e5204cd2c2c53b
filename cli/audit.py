"""`mrd-lens audit …`: is a forget set easier than it should be, and what risk is left after unlearning?"""

from __future__ import annotations

from pathlib import Path

import click

from analysis.audit.candidates import named
from analysis.audit.command import AUDIT, RISK
from analysis.audit.config import AuditConfig, RiskConfig
from analysis.audit.ease import audited
from analysis.audit.risk import risk_of
from analysis.difficulty import ScoredRun
from analysis.export.audit import audit_json, audit_table, exports, risk_exports, risk_json, risk_table
from cli.exports import write_files
from cli.form import InOrder, command_of, json_option, out_option
from cli.jobs import run_directory
from cli.terminal import grid, out, print_json, require_folder, say
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.installation import Settings


def scored_pool(directory: Path) -> ScoredRun:
    """Return a finished score run that measured MRD."""
    read_config(directory, ScoreConfig)
    return ScoredRun(ScoreFiles.with_mrd(directory).directory)


def home() -> Path:
    """Return the data root, where selections are saved."""
    return Settings.from_environment().home


def _set(config: AuditConfig, out_dir: Path | None, as_json: bool) -> None:
    """Hold a forget set against random ones of its pool, and print or write what that shows."""
    if out_dir:
        require_folder(out_dir)
    pool = scored_pool(config.pool)
    audit = audited(named(pool, config.forget_set, home(), run_directory, config.group), config)
    if as_json:
        print_json(audit_json(audit, config))
    else:
        say(audit.sentence)
        if audit.others:
            say(audit.others)
        out.print(grid("* more than chance and the noise of MRD explain", audit_table(audit)))
        for text in audit.notes:
            say(f"Mind: {text}")
    if out_dir:
        write_files(out_dir, exports(audit, config))


def _risk(config: RiskConfig, out_dir: Path | None, as_json: bool, without_texts: bool) -> None:
    """List the samples of an unlearning run that are hard and still there."""
    if out_dir:
        require_folder(out_dir)
    risk = risk_of(config)
    if without_texts:
        risk = risk.without_texts()
    if as_json:
        print_json(risk_json(risk, config))
    else:
        say(risk.sentence)
        if len(risk.listed):
            out.print(grid("At risk", risk_table(risk)))
        for text in risk.notes:
            say(f"Mind: {text}")
    if out_dir:
        write_files(out_dir, risk_exports(risk, config))


audit = InOrder(
    no_args_is_help=True,
    commands=[
        command_of(
            AUDIT,
            _set,
            [
                out_option("Folder for the audit as JSON, CSV and Markdown."),
                json_option("Print one JSON object instead of the table."),
            ],
            "Is a forget set easier to unlearn than random sets of its size from its pool?",
            starts_run=False,
        ),
        command_of(
            RISK,
            _risk,
            [
                out_option("Folder for the list as JSON and Markdown, and all samples as CSV."),
                json_option("Print one JSON object instead of the table."),
                click.Option(
                    ["--without-texts"], is_flag=True, help="Leave prompts and answers out; ids and figures stay."
                ),
            ],
            "Which samples are hard to unlearn, and still there after unlearning?",
            starts_run=False,
        ),
    ],
)
