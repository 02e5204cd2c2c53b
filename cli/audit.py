"""`mrd-lens audit …`: is a forget set easier than it should be?"""

from __future__ import annotations

from pathlib import Path

from analysis.audit.candidates import named
from analysis.audit.command import AUDIT
from analysis.audit.config import AuditConfig
from analysis.audit.ease import audited
from analysis.difficulty import ScoredRun
from analysis.export.audit import audit_json, audit_table, exports
from analysis.export.files import write_exports
from cli.form import InOrder, command_of, json_option, out_option
from cli.jobs import run_directory
from cli.terminal import grid, note, out, print_json, require_folder, say
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.installation import Settings


def _set(config: AuditConfig, out_dir: Path | None, as_json: bool) -> None:
    """Hold a forget set against random ones of its pool, and print or write what that shows."""
    if out_dir:
        require_folder(out_dir)
    read_config(config.pool, ScoreConfig)
    pool = ScoredRun(ScoreFiles.with_mrd(config.pool).directory)
    home = Settings.from_environment().home
    audit = audited(named(pool, config.forget_set, home, run_directory, config.group), config)
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
        contents = exports(audit, config)
        write_exports(out_dir, contents)
        note(f"Written to {out_dir}: {', '.join(contents)}")


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
        ),
    ],
)
