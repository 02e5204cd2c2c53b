"""`mrd-lens balance`: forget sets that are fair."""

from __future__ import annotations

from pathlib import Path

from analysis.audit.balance import OBSERVED, balanced
from analysis.audit.candidates import everything, named
from analysis.audit.command import BALANCE
from analysis.audit.config import BalanceConfig
from analysis.export.splits import balance_json, balance_table, write_splits
from cli.audit import home, scored_pool
from cli.form import command_of, json_option, out_option
from cli.jobs import run_directory
from cli.terminal import grid, note, out, print_json, say


def _balance(config: BalanceConfig, out_dir: Path | None, as_json: bool) -> None:
    """Draw forget sets, write them where asked, and print how they stand to what they were to be like."""
    pool = scored_pool(config.pool)
    if config.like is None:
        candidates = everything(pool, config.group)
    else:
        candidates = named(pool, config.like, home(), run_directory, config.group)
    balance = balanced(candidates, config)
    if out_dir:
        written = write_splits(out_dir, pool.samples, balance, config)
    if as_json:
        print_json(balance_json(balance, config))
    else:
        say(balance.sentence)
        table = balance.table[balance.table["role"] != OBSERVED]
        out.print(grid("* drawn by; differences in standard deviations of the pool", balance_table(table)))
        for text in balance.notes:
            say(f"Mind: {text}")
    if out_dir:
        note(f"Written to {out_dir}: {', '.join(written)}")


balance = command_of(
    BALANCE,
    _balance,
    [
        out_option(
            "New or empty folder for the sets, each with its retain part, and the balance; else none is written."
        ),
        json_option("Print one JSON object instead of the table."),
    ],
    starts_run=False,
)
