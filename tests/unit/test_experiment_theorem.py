"""The theorem experiment: two estimates of the same curvature, unit by unit, on models that are small enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mrd_core.errors import UserError
from mrd_core.experiments.experiment import Material
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.job import experiment_job
from mrd_core.experiments.kinds.theorem import MOST_WEIGHTS, Theorem, TheoremConfig, require_small
from mrd_core.experiments.samples import drawn
from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.runs import JobContext
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.hessian import AnswerRatio, hutchinson, rademacher
from tests.support import tiny
from tests.support.tiny import encode
from tests.unit.test_experiment_sensitivity import finish_in_attempts, place_material

pytestmark = pytest.mark.slow

SAMPLES, PROBES, PAIRS = 5, 60, 60
Run = tuple[TheoremConfig, Path, dict[str, Any], pd.DataFrame]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_forget_set: Path) -> Run:
    """One finished experiment: configuration, directory, summary and rows."""
    directory = tmp_path_factory.mktemp("theorem")
    place_material(directory, tiny_forget_set)
    config = TheoremConfig(
        forget_set=ForgetSetConfig(source=str(tiny_forget_set)),
        model=ModelConfig(source=str(tiny_model), device="cpu"),
        samples=SAMPLES,
        probes=PROBES,
        pairs=PAIRS,
    )
    summary = experiment_job(config, JobContext(directory))
    return config, directory, summary, ExperimentFiles(directory).read_rows()


def test_every_sample_has_its_probes_and_pairs_over_the_same_tokens(run: Run) -> None:
    rows = run[3]
    assert set(rows.groupby("sample_id")["probe"].nunique()) == {PROBES}
    assert set(rows.groupby("sample_id")["pair"].nunique()) == {PAIRS}
    assert len(rows) == SAMPLES * (PROBES + PAIRS)
    assert set(rows.groupby("sample_id")["n_tokens"].nunique()) == {1}


def test_minus_twice_mrd_over_sigma_squared_is_the_trace(run: Run) -> None:
    by_part = run[3].groupby(["part", "sample_id"])["value"]
    mean, error = by_part.mean(), by_part.sem()
    apart = (-2 * mean["mrd"] - mean["trace"]) / np.hypot(2 * error["mrd"], error["trace"])
    assert (apart.abs() < 3).all()
    assert np.corrcoef(mean["mrd"], mean["trace"])[0, 1] < -0.9


def test_the_traces_are_those_of_each_sample(run: Run) -> None:
    config, directory, _summary, rows = run
    model = models.load(config.model, torch.float64)
    chosen = drawn(place_material(directory, Path(config.forget_set.source)), SAMPLES, config.seed)
    encoded = encode(chosen, model.tokenizer, model.context, "plain")
    ratio = AnswerRatio(model.network, encoded.samples[2], tiny.CPU)
    vectors = [rademacher(config.seed, encoded.sample_ids[2], probe, ratio.parameters) for probe in range(10)]
    found = rows[(rows["part"] == "trace") & (rows["sample_id"] == encoded.sample_ids[2])]
    assert found["value"][:10].tolist() == pytest.approx(hutchinson(ratio, ratio.parameters, vectors), rel=1e-9)


def test_the_values_do_not_depend_on_a_small_sigma(run: Run, tmp_path: Path) -> None:
    config, _directory, _summary, rows = run
    finer = config.model_copy(update={"sigma": 2e-5})
    material = Material(place_material(tmp_path, Path(config.forget_set.source)), pd.DataFrame(), None, 3e-4)
    values = [row["value"] for row in Theorem(finer, material, JobContext(tmp_path)).measurements["mrd 0"]({})]
    assert values == pytest.approx(rows.query("part == 'mrd'")["value"][: len(values)].tolist(), rel=1e-3, abs=0.1)


def test_the_summary_names_weights_and_precision(run: Run) -> None:
    summary = run[2]
    model = tiny.llama(vocab_size=len(tiny.tokenizer()), max_position_embeddings=128)
    assert summary["weights"] == sum(parameter.numel() for parameter in model.parameters())
    assert summary["dtype"] == "float64"
    assert summary["reasons"]["samples"] == "5 of 12 (drawn at random with seed 0)"
    assert summary["warnings"] == []


def test_a_cancelled_experiment_goes_on_to_the_same_rows(run: Run, tmp_path: Path) -> None:
    config = run[0].model_copy(update={"probes": 9, "pairs": 5})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for directory in (whole, stopped):
        place_material(directory, Path(config.forget_set.source))
    experiment_job(config, JobContext(whole))
    assert finish_in_attempts(config, stopped, checks=30) >= 2
    rows = [ExperimentFiles(directory).read_rows() for directory in (whole, stopped)]
    pd.testing.assert_frame_equal(*rows)


def test_samples_without_a_scored_token_have_no_value(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "forget.jsonl"
    # Nothing predicts the only token of the first.
    source.write_text(
        "".join(f'{{"text": "{text}"}}\n' for text in ("e", "the old letter", "Ann wrote", "late one"))
    )
    place_material(tmp_path, source)
    config = run[0].model_copy(update={"forget_set": ForgetSetConfig(source=str(source)), "probes": 4, "pairs": 4})
    summary = experiment_job(config, JobContext(tmp_path))
    values = ExperimentFiles(tmp_path).read_rows().groupby(["sample_id", "part"], sort=False)["value"].count()
    assert values.tolist().count(0) == 2
    assert values.tolist().count(4) == 6
    assert "1 sample(s) have no answer token" in summary["warnings"][0]


def test_a_large_model_is_refused_with_the_reason_and_a_way_out() -> None:
    require_small(MOST_WEIGHTS)
    with pytest.raises(
        UserError, match=r"225 million weights is too large.*twice in double precision.*smaller model"
    ):
        require_small(225_000_000)
