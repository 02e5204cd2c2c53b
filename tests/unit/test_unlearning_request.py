"""Asking for an unlearning run: what cannot work is refused at once and leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest

from mrd_core.config import ForgetSetConfig
from mrd_core.errors import UserError
from mrd_core.runs import RunState
from mrd_core.samples import ForgetSet, read, save_stratum
from mrd_core.scoring.files import RunFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.request import curriculum_frame, read_split, request
from tests.unit import tiny
from tests.unit.unlearning_runs import N_FORGET, Place, Scored, scored_tiny


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def refused(place: Place, config: Any) -> UserError:
    """Ask for a run that is refused, see that nothing is left of it, and return the reason."""
    with pytest.raises(UserError) as error:
        place.submitted(config)
    assert place.store.list() == []
    runs = place.settings.home / "runs"
    assert not runs.exists() or not list(runs.iterdir())
    return error.value


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.needs_retain])
def test_a_method_that_needs_a_retain_set_is_refused_without_one(
    method: str, place: Place, scored: Scored
) -> None:
    error = refused(place, scored.config(method=method))
    assert error.cause.startswith(f"The method {METHODS[method].label} needs a retain set")
    assert "--retain-set" in error.fix


def test_a_score_run_that_does_not_exist_is_named(place: Place, scored: Scored, tmp_path: Path) -> None:
    error = refused(place, scored.config(score_run=tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in error.what
    assert "does not exist or has not finished" in error.why
    assert "runs list" in error.fix


def test_a_score_run_that_has_not_finished_is_refused(place: Place, scored: Scored, tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(scored.directory, tmp_path / "unfinished"))
    # Killed between its scores and its summary.
    RunFiles(unfinished).summary.unlink()
    assert "has not finished" in refused(place, scored.config(score_run=unfinished)).why


@pytest.mark.parametrize("column", ["mrd_of_yesterday", "sample_id"])
def test_a_column_that_is_no_number_of_the_scores_is_refused_with_those_that_are(
    column: str, place: Place, scored: Scored
) -> None:
    error = refused(place, scored.config(curriculum={"sampler": "mrd", "column": column}))
    assert error.cause == f"The column '{column}' is no number of the scores."
    assert "mrd_answer_sum" in error.fix


def test_a_column_with_negative_values_can_be_sorted_by_and_not_be_a_probability(
    place: Place, scored: Scored
) -> None:
    column = "mean_log_prob_answer"
    error = refused(place, scored.config(curriculum={"sampler": "column", "column": column}))
    assert f"negative for {N_FORGET} of {N_FORGET}" in error.why
    assert "a strict order takes any column" in error.fix
    run = place.submitted(scored.config(curriculum={"sampler": "easy-to-hard", "column": column}))
    assert run.run.state is RunState.QUEUED


def test_a_stratum_that_has_nothing_in_common_with_the_scores_is_named(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    other = tiny.forget_set(("Who?", "Ann"))
    stratum = save_stratum(other, ["s0"], "of another set", tmp_path)
    error = refused(place, scored.config(stratum=stratum))
    assert error.cause == "The stratum 'of another set' has no sample in common with the score run."
    assert "saved from this forget set" in error.fix


def test_a_stratum_that_is_not_there_is_named(place: Place, scored: Scored, tmp_path: Path) -> None:
    assert "gone.jsonl" in str(refused(place, scored.config(stratum=tmp_path / "gone.jsonl")))


def test_a_directory_that_holds_a_run_is_refused(place: Place, scored: Scored, tmp_path: Path) -> None:
    where = {"store": place.store, "settings": place.settings, "directory": tmp_path / "here"}
    first = request(scored.config(), **where)
    before = sorted(path.name for path in first.directory.iterdir())
    with pytest.raises(UserError, match="already holds a run"):
        request(scored.config(seed=1), **where)
    assert [run.id for run in place.store.list()] == [first.id]
    assert sorted(path.name for path in first.directory.iterdir()) == before


@pytest.mark.parametrize(
    ("method", "parameters", "reason"),
    [
        ("npo", {"beta": 1000}, "is not a number from"),
        ("npo", {"beta": "lots"}, "is not a number from"),
        ("npo", {"gamma": 1}, "is none of the method npo"),
        ("wga", {"granularity": "word"}, "is not one of token, instance, group"),
    ],
)
def test_a_bad_value_of_a_parameter_is_refused(
    method: str, parameters: dict[str, Any], reason: str, scored: Scored
) -> None:
    with pytest.raises(UserError, match=reason):
        scored.config(method=method, parameters=parameters)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"limits": {}}, "a run needs an end"),
        ({"curriculum": {"sampler": "random"}}, "no such sampler; there are uniform, mrd"),
        ({"stopping": {"source": "held-out"}}, "need `held_out`"),
        ({"stopping": {"source": "reference"}}, "need `reference`"),
        (
            {"optimiser": {"lora_rank": 2}, "curriculum": {"recompute_epochs": 1}},
            "while a LoRA adapter is trained",
        ),
        ({"optimiser": {"learning_rate": 0}}, "greater than 0"),
        ({"method": "magic"}, "'ga', 'graddiff'"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_run_are_refused(settings: dict[str, Any], reason: str, scored: Scored) -> None:
    with pytest.raises(pydantic.ValidationError, match=reason):
        scored.config(**settings)


def test_a_request_makes_a_queued_run_with_its_own_copy_of_the_samples(place: Place, scored: Scored) -> None:
    run = place.submitted(scored.config(method="npo", retain=scored.kept, curriculum={"sampler": "mrd"}))
    assert (run.run.state, run.run.kind, run.run.title) == (
        RunState.QUEUED,
        "unlearn",
        "Unlearn: NPO + MRD, seed 0",
    )
    whole = ForgetSet.load(RunFiles(scored.directory).samples)
    assert ForgetSet.load(run.files.samples).frame.equals(whole.frame)
    frame = pd.read_parquet(run.files.curriculum)
    assert list(frame["sample_id"]) == list(whole.frame["sample_id"])
    np.testing.assert_allclose(frame["share"], frame["weight"] / frame["weight"].sum())


def test_an_undefined_score_weighs_as_much_as_the_mean_and_rows_come_in_the_order_of_the_samples(
    scored: Scored,
) -> None:
    scores = pd.read_parquet(RunFiles(scored.directory).scores)[:4].assign(mrd_answer_sum=[1.0, np.nan, 6.0, 2.0])
    ids = list(scores["sample_id"])[::-1]
    config = scored.config(curriculum={"sampler": "mrd", "column": "mrd_answer_sum"})
    frame = curriculum_frame(config, scores, ids)
    assert list(frame["sample_id"]) == ids
    np.testing.assert_array_equal(frame["weight"], [2, 6, np.nan, 1])
    np.testing.assert_allclose(frame["share"], np.array([2, 6, 3, 1]) / 12)


@pytest.mark.parametrize("weights", [[0.0] * 4, [np.nan] * 4, [np.inf, 1.0, 1.0, 1.0]])
def test_weights_that_say_nothing_are_refused(weights: list[float], scored: Scored) -> None:
    scores = pd.read_parquet(RunFiles(scored.directory).scores)[:4].assign(mrd_answer_mean=weights)
    with pytest.raises(UserError, match=r"zero for all|undefined for all|is infinite"):
        curriculum_frame(scored.config(curriculum={"sampler": "mrd"}), scores, list(scores["sample_id"]))


def test_of_the_demo_each_part_is_the_demos_own_unless_another_is_named() -> None:
    parts = {
        split: set(read_split(ForgetSetConfig(source="demo"), split).frame["prompt"])
        for split in ("retain", "held_out")
    }
    forget = set(read(ForgetSetConfig(source="demo")).frame["prompt"])
    assert parts["retain"]
    assert parts["held_out"]
    assert not parts["retain"] & parts["held_out"]
    assert not parts["retain"] & forget
    named = read_split(ForgetSetConfig(source="demo", split="held_out"), "retain")
    assert set(named.frame["prompt"]) == parts["held_out"]
