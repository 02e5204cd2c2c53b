"""What is measured beside stored scores is measured on the weights that were scored, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mrd_core.scoring.files import ScoreFiles
from tests.support.commands import Outcome
from tests.support.unlearning_runs import Scored, scored_tiny

pytestmark = pytest.mark.slow


@pytest.fixture
def scored(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Scored:
    """A score run with a model of its own, which a test may overwrite."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shared = scored_tiny(tmp_path_factory.getbasetemp())
    model = shutil.copytree(shared.model, tmp_path / "model")
    run = shutil.copytree(shared.directory, tmp_path / "run")
    config = run / "config.json"
    config.write_text(config.read_text().replace(str(shared.model), str(model)))
    return Scored(model, shared.forget, shared.retain, run)


def overwrite(model: Path) -> None:
    """Move one weight by a thousandth."""
    weights = load_file(model / "model.safetensors")
    next(iter(weights.values()))[0, 0] += 1e-3
    save_file(weights, model / "model.safetensors", {"format": "pt"})


def test_a_model_that_was_overwritten_after_scoring_is_not_measured_beside_the_scores(
    scored: Scored, cli: Callable[..., Outcome]
) -> None:
    entangle = ("columns", "entanglement", scored.directory, "--retain-set", scored.retain)
    assert cli("tokens", scored.directory, "f0").code == 0
    overwrite(scored.model)
    files = ScoreFiles(scored.directory)
    for command in (("tokens", scored.directory, "f1"), entangle):
        ended = cli(*command)
        assert ended.code != 0
        assert "has other weights than those that the score run began with" in " ".join(ended.said.split())
    assert not (files.exact_parts("f1") / "tokens.parquet").exists()
    assert not files.imported_column("entanglement").exists()


def test_a_run_that_kept_no_checksum_is_measured_with_the_model_that_is_there(
    scored: Scored, cli: Callable[..., Outcome]
) -> None:
    files = ScoreFiles(scored.directory)
    files.plan.write_text(files.read_plan().model_copy(update={"weights": ""}).model_dump_json())
    overwrite(scored.model)
    assert cli("tokens", scored.directory, "f0").code == 0
