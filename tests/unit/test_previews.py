"""Previews: speed + spread by sign probes alone, and honest about it wherever they are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import difficulty
from analysis.difficulty import ScoredRun, Variant
from analysis.sets.different import compared
from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Cancelled, JobContext
from mrd_core.runs.directory import write_config
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring import exact
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.draws import Draws
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.job import score_job
from mrd_core.scoring.schedule import FIRST_PREVIEW, MOST_PREVIEW
from tests.support.commands import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("home")]

TABLES = ("scores", "draws", "probes", "tokens", "measures")


@pytest.fixture(scope="module")
def config_of(tiny_model: Path, tiny_forget_set: Path) -> Callable[..., ScoreConfig]:
    """Return a maker of configurations of previews with the tiny model."""
    return lambda **wishes: ScoreConfig(
        forget_set=ForgetSetConfig(source=str(tiny_forget_set)),
        model=ModelConfig(source=str(tiny_model)),
        estimator=EstimatorConfig(**{"preview": True, "workers": 1, "batch_tokens": 200} | wishes),
    )


def carried_out(config: ScoreConfig, directory: Path, context: JobContext | None = None) -> ScoreFiles:
    directory.mkdir(exist_ok=True)
    write_config(directory, config)
    score_job(config, context or JobContext(directory))
    return ScoreFiles(directory)


@pytest.fixture(scope="module")
def preview(config_of: Callable[..., ScoreConfig], tmp_path_factory: pytest.TempPathFactory) -> ScoreFiles:
    """The files of a preview that nothing disturbed."""
    return carried_out(config_of(), tmp_path_factory.mktemp("preview"))


def assert_same_bits(found: ScoreFiles, expected: ScoreFiles) -> None:
    for name in TABLES:
        frames = [pd.read_parquet(getattr(files, name)) for files in (found, expected)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_preview_has_speed_and_spread_with_errors_and_no_mrd(preview: ScoreFiles) -> None:
    scores, figures = pd.read_parquet(preview.scores), preview.read_figures()
    assert scores[["speed", "spread", "speed_and_spread"]].notna().all(axis=None)
    assert (scores[["speed_se", "spread_se", "speed_and_spread_se"]] > 0).all(axis=None)
    np.testing.assert_allclose(scores["speed"] + scores["spread"], scores["speed_and_spread"])
    of_mrd = [name for name in scores if str(name).startswith(("mrd", "mean_absolute", "initial", "curvature"))]
    assert scores[[*of_mrd, "relative_se"]].isna().all(axis=None)
    assert (figures.evaluations, figures.sigma, figures.gate) == (0, None, {})
    assert 2 * FIRST_PREVIEW <= figures.probes <= 2 * MOST_PREVIEW
    assert figures.reliability_mean is not None
    assert figures.warnings[0].startswith("Preview: speed + spread, not MRD.")


def test_a_preview_agrees_with_the_parts_that_pairs_show(
    preview: ScoreFiles, config_of: Any, tmp_path: Path
) -> None:
    pairs = {"preview": False, "probes": False, "draws": 80, "stop": "never", "sigma": 1e-3}
    full = pd.read_parquet(carried_out(config_of(**pairs), tmp_path / "full").scores)
    scores = pd.read_parquet(preview.scores)
    error = np.hypot(scores["speed_and_spread_se"], full["speed_and_spread_se"])
    assert (np.abs(scores["speed_and_spread"] - full["speed_and_spread"]) < 4 * error).all()


def test_draws_of_a_preview_are_read_as_they_were_written(preview: ScoreFiles) -> None:
    draws = Draws.load(preview.draws, preview.probes)
    assert draws.is_preview
    assert draws.evaluations == 0
    assert draws.kept.sum() > 0
    assert difficulty.ranking(ScoredRun(preview.directory), Variant())["speed_and_spread"].is_monotonic_increasing
    trust = difficulty.trust(ScoredRun(preview.directory), Variant(scope=Scope.ANSWER))
    assert 0 < trust.median_relative_se < 1


def test_two_workers_end_on_the_bits_of_one(config_of: Any, tmp_path: Path) -> None:
    wishes = {"scope": Scope.FULL, "stop": "never"}
    files = [carried_out(config_of(**wishes, workers=workers), tmp_path / str(workers)) for workers in (1, 2)]
    assert_same_bits(*files)
    assert files[0].read_figures().probes == 2 * MOST_PREVIEW


class _Stops(JobContext):
    """A context that asks to stop at a look at it."""

    looks = 25

    def check_cancelled(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise Cancelled("enough")


def test_a_preview_that_was_stopped_goes_on_to_the_same_bits(
    preview: ScoreFiles, config_of: Any, tmp_path: Path
) -> None:
    with pytest.raises(Cancelled):
        carried_out(config_of(), tmp_path / "run", _Stops(tmp_path / "run"))
    assert list((tmp_path / "run" / "units").glob("probe-*.npz"))
    assert_same_bits(carried_out(config_of(), tmp_path / "run"), preview)


# Front doors


@pytest.fixture
def score(cli: Callable[..., Outcome], tiny_model: Path, tiny_forget_set: Path) -> Callable[..., Outcome]:
    """Return a function that runs `score` on the tiny model in this process."""
    return lambda *options: cli("score", "--model", tiny_model, "--forget-set", tiny_forget_set, *options)


def test_the_command_line_says_that_a_preview_is_one(score: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = score("--preview", "--workers", "1", "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert (summary["preview"], summary["sigma"], summary["preview_rho"]) == (True, None, None)
    assert "Preview: speed + spread, not MRD." in outcome.said
    assert "preview by" in outcome.said
    assert "small speed_and_spread: probably hard to unlearn" in outcome.said


def test_a_full_run_says_what_a_preview_of_it_is_worth(score: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = score("--sigma", "1e-3", "--draws", "16", "--workers", "1", "--out", tmp_path / "run", "--json")
    scores = pd.read_parquet(tmp_path / "run" / "scores.parquet")
    expected = scores["speed_and_spread"].corr(scores["mrd"], method="spearman")
    assert json.loads(outcome.out)["preview_rho"] == pytest.approx(expected)
    assert f"ranks like MRD with ρ = {expected:.2f}" in outcome.said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--sigma", "1e-3"), "draws no noise: leave it out, or `sigma`"),
        (("--draws", "40"), "draws no noise: leave it out, or `draws`"),
        (("--mode", "plain"), "is made of sign probes"),
        (("--preset", "paper"), "is made of sign probes"),
    ],
)
def test_what_a_preview_has_not_is_refused(
    score: Callable[..., Outcome], options: tuple[str, ...], reason: str
) -> None:
    outcome = score("--preview", *options)
    assert outcome.code == 2
    assert "--preview" in outcome.said
    assert reason in outcome.said


@pytest.mark.parametrize(
    "command",
    [
        ("unlearn", "--scores", "RUN", "--method", "ga", "--sampler", "mrd"),
        ("curriculum", "--scores", "RUN", "--sampler", "easy-to-hard"),
        ("experiment", "validity", "--scores", "RUN", "--methods", "ga"),
        ("characteristics", "RUN"),
    ],
)
def test_whatever_needs_mrd_refuses_a_preview_by_name(
    cli: Callable[..., Outcome], preview: ScoreFiles, command: tuple[str, ...]
) -> None:
    outcome = cli(*(str(preview.directory) if word == "RUN" else word for word in command))
    assert outcome.code == 2, outcome.err
    assert "is a preview: speed + spread, not MRD" in outcome.said
    assert "without --preview" in outcome.said


def test_two_sets_are_not_compared_by_a_preview(preview: ScoreFiles) -> None:
    with pytest.raises(UserError, match="preview: speed \\+ spread, not MRD"):
        compared(preview.directory, preview.directory, Variant())


def test_a_preview_can_order_a_curriculum_by_what_it_measured(
    cli: Callable[..., Outcome], preview: ScoreFiles
) -> None:
    order = ("curriculum", "--scores", preview.directory, "--sampler", "easy-to-hard", "--column")
    outcome = cli(*order, "speed_and_spread")
    drawn = [json.loads(line)["sample_id"] for line in outcome.out.splitlines()]
    scores = pd.read_parquet(preview.scores).sort_values("speed_and_spread", ascending=False)
    assert drawn == list(scores["sample_id"])


# One sample token by token


def test_a_sample_is_taken_apart_once_and_its_tokens_are_then_exact(
    cli: Callable[..., Outcome], preview: ScoreFiles
) -> None:
    sample = pd.read_parquet(preview.scores)["sample_id"].iloc[0]
    assert "speed" not in difficulty.tokens_of(preview.directory, sample)
    for _ in range(2):
        outcome = cli("tokens", preview.directory, sample, "--json")
        assert outcome.code == 0, outcome.err
        assert "their speed exactly, their spread by 8 sign probes" in outcome.said
    tokens = difficulty.tokens_of(preview.directory, sample)
    assert json.loads(outcome.out)["tokens"] == (~tokens["excluded"].iloc[1:]).sum()
    assert tokens["speed"].iloc[1:].notna().all()
    assert (tokens["speed_se"].iloc[1:] == 0).all()
    assert np.isnan(tokens["speed"].iloc[0])
    # The sample's speed is the mean of its answer's tokens.
    of_sample = pd.read_parquet(preview.scores).set_index("sample_id").loc[sample]
    answer = tokens[tokens["in_answer"]]
    for part in ("speed", "spread"):
        error = np.hypot(of_sample[f"{part}_se"], np.sqrt((answer[f"{part}_se"] ** 2).sum()) / len(answer))
        assert abs(answer[part].mean() - of_sample[part]) < 5 * error


def test_a_sample_that_is_not_there_and_one_that_takes_too_long_are_refused(
    cli: Callable[..., Outcome], preview: ScoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = pd.read_parquet(preview.scores)["sample_id"].iloc[1]
    assert "is none of the score run" in cli("tokens", preview.directory, "nobody").said
    monkeypatch.setattr(exact, "MOST_SECONDS", 0.0)
    outcome = cli("tokens", preview.directory, sample)
    assert outcome.code == 2
    assert "a backward pass of the model for each token" in outcome.said
