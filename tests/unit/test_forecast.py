"""A dry run says what was chosen and what a run will take, by passes timed here, and starts nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.cost import passes_of
from tests.support.commands import Outcome

Cli = Callable[..., Outcome]
QUICK = ("--sigma", "1e-3", "--draws", "20", "--workers", "1")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dry_run_prints_choices_and_cost_as_json_and_leaves_nothing_behind(
    cli: Cli, home: Path, tmp_path: Path, tiny_model: Path, tiny_forget_set: Path, dtype: str
) -> None:
    out = tmp_path / "out"
    named = ("--model", tiny_model, "--forget-set", tiny_forget_set, "--dtype", dtype, "--out", out, *QUICK)
    outcome = cli("score", *named, "--dry-run", "--json")
    assert outcome.code == 0, outcome.said
    told = json.loads(outcome.out.splitlines()[-1])
    config = EstimatorConfig(sigma=1e-3, draws=20, workers=1)
    assert (told["samples"], told["evaluations"], told["cap"], told["workers"]) == (12, 20, 20, 1)
    assert told["passes"] == passes_of(config, 12, 20)
    assert set(told["seconds"]) == {"start", *told["passes"]}
    assert all(seconds > 0 for seconds in told["seconds"].values())
    assert told["total_seconds"] == told["most_seconds"] == pytest.approx(sum(told["seconds"].values()))
    assert told["choices"]["dtype"].startswith(dtype)
    assert told["choices"]["σ"] == "0.001 (as asked)"
    assert told["memory"] > 0
    assert not out.exists()
    assert not (home / "runs").exists() or not any((home / "runs").iterdir())
    assert "No runs yet" in cli("runs", "list").out


def test_a_dry_run_tells_people_the_same(cli: Cli, tiny_model: Path, tiny_forget_set: Path) -> None:
    told = cli("score", "--model", tiny_model, "--forget-set", tiny_forget_set, "--dry-run")
    assert told.code == 0, told.said
    assert "for 24 evaluations, at most" in told.said
    assert "σ: chosen by a pilot" in told.said
    assert "Nothing was started." in told.said
    refused = cli("score", "--model", tiny_forget_set, "--forget-set", tiny_forget_set, "--dry-run")
    assert refused.code == 2
