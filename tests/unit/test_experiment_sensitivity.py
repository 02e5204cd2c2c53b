"""The sensitivity experiment shows the product's own numbers at every σ, precision and number of draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.experiment import Material
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.instrument import FIRST_DRAW, require_dtype
from mrd_core.experiments.job import experiment_job
from mrd_core.experiments.kinds.sensitivity import EVALUATIONS, Sensitivity, SensitivityConfig
from mrd_core.experiments.samples import drawn
from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.runs import JobContext
from mrd_core.runs.context import Cancelled
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import Draws, scores
from mrd_core.scoring.mrd import Estimator, measure_baseline
from tests.support import tiny
from tests.support.experiment_runs import SCORED
from tests.support.tiny import encode

pytestmark = pytest.mark.slow

SAMPLES = 6
SIGMAS = (1e-6, 1e-3, 2e-3)
Run = tuple[SensitivityConfig, ForgetSet, dict[str, Any], pd.DataFrame]


class CancelledAfter(JobContext):
    """A context that lets `checks` checks pass."""

    def __init__(self, directory: Path, checks: int) -> None:
        super().__init__(directory)
        self._left = checks

    def check_cancelled(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cancelled("The run was cancelled.")


def place_material(directory: Path, source: Path) -> ForgetSet:
    """Put into a run directory what an experiment takes from a score run, and return the samples."""
    directory.mkdir(exist_ok=True)
    files = ExperimentFiles(directory)
    forget_set = read(ForgetSetConfig(source=str(source)))
    forget_set.save(files.samples)
    forget_set.frame[["sample_id"]].to_parquet(files.scores)
    forget_set.frame[["sample_id"]].to_parquet(files.measures)
    files.scored.write_text(json.dumps(SCORED | {"sigma": 3e-4}))
    return forget_set


def finish_in_attempts(config: ExperimentConfig, directory: Path, checks: int) -> int:
    """Carry out an experiment that is cancelled again and again; return how often it was."""
    cancellations = 0
    while True:
        try:
            experiment_job(config, CancelledAfter(directory, checks))
        except Cancelled:
            cancellations += 1
        else:
            return cancellations


def configured(model: Path, source: Path, **changes: Any) -> SensitivityConfig:
    """Return a small experiment."""
    settings: dict[str, Any] = {"samples": SAMPLES, "sigmas": SIGMAS, "pairs": 4, "draws": 15} | changes
    return SensitivityConfig(
        forget_set=ForgetSetConfig(source=str(source)),
        model=ModelConfig(source=str(model), device="cpu"),
        **settings,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_forget_set: Path) -> Run:
    """One finished experiment: configuration, forget set, summary and rows."""
    directory = tmp_path_factory.mktemp("sensitivity")
    forget_set = place_material(directory, tiny_forget_set)
    config = configured(tiny_model, tiny_forget_set)
    summary = experiment_job(config, JobContext(directory))
    return config, forget_set, summary, ExperimentFiles(directory).read_rows()


def by_hand(run: Run, sigma: float, mode: Any, indices: range) -> Draws:
    """Measure the same samples in fp32 with the estimator of a score run."""
    config, forget_set, _summary, _rows = run
    model = models.load(config.model, torch.float32)
    encoded = encode(drawn(forget_set, SAMPLES, config.seed), model.tokenizer, model.context, "plain")
    passes = Passes(tiny.reader(Scorer(model.network), 1024), encoded)
    perturbed = PerturbedModel(passes.scorer, Noise(config.seed, sigma), streamed=False)
    estimator = Estimator(passes, perturbed, measure_baseline(passes, torch.float32), mode)
    values = np.concatenate([estimator.unit(index).values for index in indices])
    return Draws(encoded.sample_ids, values, estimator.kept, mode)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_rows_of_a_sigma_are_the_scores_of_an_estimator(run: Run, sigma: float) -> None:
    first = FIRST_DRAW["sigma"]
    draws = by_hand(run, sigma, "antithetic", range(first, first + 4))
    rows = run[3].query("part == 'sigma' and dtype == 'float32' and sigma == @sigma")
    assert list(rows["sample_id"]) == list(draws.sample_ids)
    for how in Normalisation:
        expected = scores(draws, Scope.ANSWER, how)
        assert rows[f"mrd_{how}"].to_numpy() == pytest.approx(expected["mrd"].to_numpy(), rel=1e-9)
        assert rows[f"mrd_{how}_se"].to_numpy() == pytest.approx(expected["mrd_se"].to_numpy(), rel=1e-9)


@pytest.mark.parametrize(("mode", "count"), [("plain", 15), ("antithetic", 14)])
def test_the_draws_are_those_of_an_estimator_one_by_one(run: Run, mode: str, count: int) -> None:
    first = FIRST_DRAW[mode]
    units = count // 2 if mode == "antithetic" else count
    draws = by_hand(run, 3e-4, mode, range(first, first + units))
    rows = run[3].query("part == 'draws' and mode == @mode")
    found = rows.pivot(index="evaluation", columns="sample_id", values="relative")[list(draws.sample_ids)]
    assert list(found.index) == list(range(count))
    assert found.to_numpy() == pytest.approx(draws.values[:, :, 0, 1], rel=1e-9)
    assert set(rows["sigma"]) == {3e-4}
    assert list(rows["n_tokens"][: len(draws.kept)]) == list(draws.kept[:, 0])


def test_plain_and_antithetic_draws_share_no_noise(run: Run) -> None:
    draws = run[3].query("part == 'draws'")
    assert draws["relative"].nunique() == len(draws)


def test_mrd_over_sigma_squared_is_constant_in_the_quadratic_regime(run: Run) -> None:
    fine = run[3].query("part == 'sigma' and dtype == 'float32'")
    low, high = (
        fine[fine["sigma"] == sigma].reset_index()[["mrd_sum", "mrd_sum_se"]] / sigma**2 for sigma in SIGMAS[1:]
    )
    apart = (low["mrd_sum"] - high["mrd_sum"]).abs()
    # The same directions at both: the pairs' own error, many times larger, cancels.
    assert (apart < 0.1 * high["mrd_sum_se"]).all()
    assert (apart / high["mrd_sum"]).median() < 0.01


def test_a_sigma_below_what_bfloat16_resolves_gives_its_rounding_floor(run: Run) -> None:
    coarse = run[3].query("dtype == 'bfloat16'")
    floor = coarse.query("part == 'floor'").set_index("sample_id")
    least = coarse.query("part == 'sigma' and sigma == 1e-6").set_index("sample_id")
    fine = run[3].query("part == 'sigma' and dtype == 'float32' and sigma == 1e-6")
    assert least["mrd_sum"].to_numpy() == pytest.approx(floor["floor_sum"].to_numpy(), rel=0.5)
    assert floor["floor_sum"].median() > 1000 * fine["mrd_sum"].median()


def test_the_floor_of_a_fine_precision_lies_far_below_that_of_a_coarse_one(run: Run) -> None:
    floor = run[3].query("part == 'floor'").groupby("dtype")[["floor_mean", "floor_sum"]].median()
    assert (floor.loc["float32"] < floor.loc["bfloat16"] / 1000).all()
    by_sample = (
        run[3]
        .query("part == 'floor'")
        .merge(
            run[3].query("part == 'draws'")[["sample_id", "n_tokens"]].drop_duplicates(),
            on="sample_id",
            suffixes=("_", ""),
        )
    )
    assert by_sample["floor_sum"].to_numpy() == pytest.approx(
        (by_sample["floor_mean"] * by_sample["n_tokens"]).to_numpy()
    )


def test_the_summary_says_what_was_chosen_and_why(run: Run) -> None:
    summary = run[2]
    assert summary["study_sigma"] == 3e-4
    assert summary["reasons"]["samples"] == "6 of 12 (drawn at random with seed 0)"
    assert summary["reasons"]["σ of the study of K"] == "0.0003 (that of the scores)"
    assert summary["warnings"] == []


def test_a_cancelled_experiment_goes_on_to_the_same_rows(run: Run, tmp_path: Path, tiny_forget_set: Path) -> None:
    place_material(tmp_path, tiny_forget_set)
    assert finish_in_attempts(run[0], tmp_path, checks=40) >= 2
    pd.testing.assert_frame_equal(ExperimentFiles(tmp_path).read_rows(), run[3])


def test_every_unit_stands_alone(run: Run, tmp_path: Path) -> None:
    config, forget_set, _summary, rows = run
    experiment = Sensitivity(config, Material(forget_set, pd.DataFrame(), None, 3e-4), JobContext(tmp_path))
    last = list(experiment.measurements)[-1]
    assert last == f"antithetic {EVALUATIONS}"
    alone = pd.DataFrame(experiment.measurements[last]({}))
    whole = rows.query("part == 'draws' and mode == 'antithetic' and evaluation >= @EVALUATIONS")
    assert alone["relative"].tolist() == whole["relative"].tolist()


def test_each_precision_is_loaded_once_and_that_of_the_study_last(
    tmp_path: Path, tiny_model: Path, tiny_forget_set: Path
) -> None:
    config = configured(tiny_model, tiny_forget_set, dtypes=("float32", "bfloat16"))
    material = Material(place_material(tmp_path, tiny_forget_set), pd.DataFrame(), None, 3e-4)
    names = [unit.split()[:2] for unit in Sensitivity(config, material, JobContext(tmp_path)).measurements]
    order = [name[1] if name[0] in ("floor", "sigma") else "float32" for name in names]
    assert order == sorted(order)


def test_a_sample_without_a_scored_token_has_no_value_and_is_reported(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "forget.jsonl"
    # Nothing predicts the only token of the first.
    source.write_text(
        "".join(f'{{"text": "{text}"}}\n' for text in ("e", "the old letter", "Ann wrote", "late one"))
    )
    place_material(tmp_path, source)
    config = configured(tiny_model, source, dtypes=("float32",), draws=8)
    summary = experiment_job(config, JobContext(tmp_path))
    rows = ExperimentFiles(tmp_path).read_rows()
    lost = rows[rows["sample_id"] == rows["sample_id"].iloc[0]]
    assert lost[["mrd_mean", "mrd_sum_se", "floor_mean", "floor_sum"]].isna().all(axis=None)
    assert set(lost["n_tokens"].dropna()) == {0}
    assert "1 sample(s) have no answer token" in summary["warnings"][0]
    assert rows["mrd_sum"].notna().sum() == 3 * len(SIGMAS)


def test_all_samples_are_taken_where_there_are_fewer(tiny_forget_set: Path) -> None:
    forget_set = read(ForgetSetConfig(source=str(tiny_forget_set)))
    assert drawn(forget_set, 60, 0).digest == forget_set.digest


def test_samples_are_drawn_by_the_seed_in_their_order(tiny_forget_set: Path) -> None:
    forget_set = read(ForgetSetConfig(source=str(tiny_forget_set)))
    everyone = list(forget_set.frame["sample_id"])
    chosen = [list(drawn(forget_set, 5, seed).frame["sample_id"]) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [sample for sample in everyone if sample in chosen[0]] == chosen[0]
    assert len(set(chosen[0])) == 5


def test_a_precision_that_the_device_lacks_is_refused() -> None:
    require_dtype(torch.bfloat16, tiny.CPU)
    with pytest.raises(UserError, match="float8_e8m0fnu is not supported by cpu"):
        require_dtype(torch.float8_e8m0fnu, tiny.CPU)
