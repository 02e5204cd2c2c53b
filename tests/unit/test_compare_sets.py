"""Two scored sets side by side: a difference is told with its sign, no difference and other settings are too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.difficulty import Variant
from analysis.sets.different import compared
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.files import write_atomically
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation, ScoreConfig
from mrd_core.scoring.draws import Draws
from mrd_core.scoring.files import ScoreFiles
from tests.support.scored_demo import ROWS, copied, scored_demo


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_demo(tmp_path_factory.getbasetemp())


@pytest.fixture
def other(scored: Path, tmp_path: Path) -> Path:
    """A copy of the score run that may be changed."""
    return copied(scored, tmp_path / "other")


def rewrite_draws(run: Path, factor: float = 1.0, count: int = ROWS) -> None:
    """Multiply the draws of a run, and keep those of its first samples."""
    files = ScoreFiles(run)
    draws = Draws.load(files.draws, files.probes)
    kept = replace(
        draws,
        sample_ids=draws.sample_ids[:count],
        values=draws.values[:, :count] * factor,
        kept=draws.kept[:count],
        parts=None if draws.parts is None else draws.parts[:, :count] * factor,
        probes=None if draws.probes is None else draws.probes[:, :count] * factor,
    )
    write_atomically(files.draws, kept.save)
    write_atomically(files.probes, kept.save_probes)


def change_plan(run: Path, **changes: object) -> None:
    files = ScoreFiles(run)
    files.plan.write_text(files.read_plan().model_copy(update=changes).model_dump_json())


def change_model(run: Path, **changes: object) -> None:
    config = read_config(run, ScoreConfig)
    write_config(run, config.model_copy(update={"model": config.model.model_copy(update=changes)}))


def test_a_set_is_not_told_apart_from_itself(scored: Path, other: Path) -> None:
    found = compared(scored, other, Variant())
    assert found.sentence.startswith("Cannot tell which one is easier: difference of the mean MRD +0 [")
    assert (found.comparison.difference.value, found.comparison.cliffs_delta.value) == (0, 0)
    assert found.comparison.p == pytest.approx(1)
    assert found.caveats == ()
    assert found.first.equals(found.second)


@pytest.mark.parametrize(
    "variant",
    [Variant(), Variant(Scope.FULL, Normalisation.SUM), Variant(formula=Formula.MEAN_ABSOLUTE)],
    ids=["mean", "sum of all tokens", "mean absolute"],
)
def test_a_planted_easier_set_is_told_with_the_right_sign(scored: Path, other: Path, variant: Variant) -> None:
    rewrite_draws(other, factor=3)
    easier, harder = compared(other, scored, variant), compared(scored, other, variant)
    assert easier.sentence.startswith("A is easier to unlearn than B: ")
    assert harder.sentence.startswith("A is harder to unlearn than B: ")
    difference = easier.second["mrd"].mean() * 2
    assert easier.comparison.difference.value == pytest.approx(difference)
    assert harder.comparison.difference.value == pytest.approx(-difference)
    assert f"{difference:+.3g} [" in easier.sentence
    assert easier.comparison.difference.low > 0
    assert f"({ROWS} and {ROWS} samples)" in easier.sentence


def test_what_the_model_does_not_know_is_not_called_harder(scored: Path, other: Path) -> None:
    rewrite_draws(other, factor=0.3)
    assert compared(other, scored, Variant()).sentence.startswith("A is harder")
    files = ScoreFiles(other)
    measures = pd.read_parquet(files.measures)
    measures.assign(exact_memorization=[0.0, *measures["exact_memorization"][1:]]).to_parquet(files.measures)
    found = compared(other, scored, Variant())
    assert found.sentence.startswith("A is harder")
    assert found.caveats[0].startswith(f"The model does not know 1 of the {ROWS} samples of A (MA below 0.5)")
    measures.assign(exact_memorization=0.4).to_parquet(files.measures)
    found = compared(other, scored, Variant())
    assert found.sentence.startswith(f"No verdict: the model does not know {ROWS} of the {ROWS} samples of A")
    files.measures.unlink()
    assert compared(other, scored, Variant()).sentence.startswith("A is harder")


def test_a_handful_of_samples_gets_no_verdict_however_large_the_difference(scored: Path, other: Path) -> None:
    rewrite_draws(other, factor=1_000, count=9)
    found = compared(other, scored, Variant())
    assert found.sentence.startswith("Cannot tell: a verdict needs 10 samples in either set; ")
    assert (len(found.first), len(found.second)) == (9, ROWS)


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (change_plan, {"sigma": 2e-3}, "σ of the noise (0.001 and 0.002)"),
        (change_plan, {"dtype": "bfloat16"}, "precision (float32 and bfloat16)"),
        (change_plan, {"template": "plain"}, "template (chat and plain)"),
        (change_model, {"source": "/models/other"}, "model (demo and /models/other)"),
        (change_model, {"adapter": "/models/lora"}, "adapter (none and /models/lora)"),
    ],
)
def test_what_makes_two_runs_hard_to_compare_is_said(
    scored: Path, other: Path, change: Callable[..., None], settings: dict[str, object], said: str
) -> None:
    change(other, **settings)
    found = compared(scored, other, Variant())
    if said.startswith("precision"):
        assert found.caveats == (f"The runs differ in their {said}, so MRD may differ for that reason alone.",)
        assert found.sentence.startswith("Cannot tell")
    else:
        assert (found.obstacle, found.caveats) == (found.sentence, ())
        assert found.sentence.startswith(f"No verdict: the runs differ in their {said}, and MRD depends on that.")


def test_settings_that_do_not_move_mrd_are_no_caveat(scored: Path, other: Path) -> None:
    change_plan(other, workers=2, batch_tokens=7)
    config = read_config(other, ScoreConfig)
    write_config(other, config.model_copy(update={"estimator": config.estimator.model_copy(update={"seed": 1})}))
    assert compared(scored, other, Variant()).caveats == ()


@pytest.mark.parametrize("name", ["draws.parquet", "samples.parquet", "plan.json", "config.json"])
def test_a_run_that_has_lost_a_file_is_named(scored: Path, other: Path, name: str) -> None:
    (other / name).unlink()
    with pytest.raises(UserError) as error:
        compared(scored, other, Variant())
    assert str(other) in error.value.what
    assert name in str(error.value)
