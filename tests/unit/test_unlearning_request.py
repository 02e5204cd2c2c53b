"""Asking for an unlearning run: what cannot work is refused at once and leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest

from mrd_core.errors import UserError
from mrd_core.runs import RunState, submit
from mrd_core.runs.files import read_json
from mrd_core.samples import ForgetSet, read, read_split, save_stratum
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.draws import Draws, variants
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import ImportConfig, import_column, read_file
from mrd_core.unlearning import refusals
from mrd_core.unlearning.config import DRAWN_COLUMNS
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.request import curriculum_frame, weighing
from tests.support import tiny
from tests.support.unlearning_runs import DRAWS, N_FORGET, N_RETAIN, RATE, Place, Scored, forget_rows, scored_tiny
from tests.unit.conftest import write_rows


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
    assert "it does not exist, has not finished" in error.why
    assert "runs list" in error.fix


def test_a_score_run_that_has_not_finished_is_refused(place: Place, scored: Scored, tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(scored.directory, tmp_path / "unfinished"))
    # Killed between its scores and its summary.
    ScoreFiles(unfinished).summary.unlink()
    assert "has not finished" in refused(place, scored.config(score_run=unfinished)).why


@pytest.mark.parametrize("column", ["mrd_of_yesterday", "sample_id"])
def test_a_column_that_is_no_number_of_the_scores_is_refused_with_those_that_are(
    column: str, place: Place, scored: Scored
) -> None:
    error = refused(place, scored.config(curriculum={"sampler": "column", "column": column}))
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
    first = submit(scored.config(), **where)
    before = sorted(path.name for path in first.directory.iterdir())
    with pytest.raises(UserError, match="already holds a run"):
        submit(scored.config(seed=1), **where)
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
        ({"curriculum": {"sampler": "random"}}, "no such sampler; there are uniform, shuffled, mrd"),
        ({"stopping": {"source": "held-out"}}, "need `held_out`"),
        ({"stopping": {"source": "reference"}}, "need `reference`"),
        (
            {"optimiser": {"lora_rank": 2}, "curriculum": {"sampler": "mrd", "recompute_epochs": 1}},
            "while a LoRA adapter is trained",
        ),
        (
            {"curriculum": {"sampler": "mrd", "column": "mean_log_prob_answer"}},
            "use the sampler `column` for `mean_log_prob_answer`",
        ),
        ({"curriculum": {"recompute_epochs": 1}}, "only an order that depends on MRD has anything"),
        (
            {"curriculum": {"sampler": "easy-to-hard", "column": "n_tokens_answer", "recompute_epochs": 1}},
            "only an order that depends on MRD has anything",
        ),
        ({"limits": {"max_steps": 5, "max_retain_loss_rise": 0.1}}, "a utility guard watches the retain set"),
        ({"limits": {"max_steps": 5, "min_retain_accuracy": 0.5}}, "a utility guard watches the retain set"),
        ({"optimiser": {"learning_rate": 0}}, "greater than 0"),
        ({"method": "magic"}, "there are ga, graddiff"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_run_are_refused(settings: dict[str, Any], reason: str, scored: Scored) -> None:
    with pytest.raises(pydantic.ValidationError, match=reason):
        scored.config(**settings)


@pytest.mark.parametrize(
    ("sampler", "column", "uses"),
    [
        ("mrd", "mrd_full_sum", True),
        ("column", "mean_absolute_answer_mean", True),
        ("hard-to-easy", "initial_full_sum", True),
        ("uniform", "mrd_answer_mean", False),
        ("column", "n_tokens_answer", False),
        ("easy-to-hard", "mean_log_prob_answer", False),
        ("column", "mrd_answer_mean_se", False),
    ],
)
def test_an_order_depends_on_mrd_where_it_is_by_a_column_that_is_made_from_the_draws(
    sampler: str, column: str, uses: bool, scored: Scored
) -> None:
    curriculum = scored.config(curriculum={"sampler": sampler, "column": column}).curriculum
    assert curriculum.uses_draws == uses
    if uses:
        assert scored.config(curriculum=curriculum.model_dump() | {"recompute_epochs": 2})


def test_the_columns_that_are_made_from_the_draws_are_those_that_are_measured_anew() -> None:
    draws = Draws(("a", "b"), np.ones((2, 2, 2, 3)), np.full((2, 2), 3), "antithetic")
    assert set(variants(draws)) == DRAWN_COLUMNS


@pytest.mark.parametrize(
    ("batch_size", "samples", "limits", "most"),
    [
        (4, 10, {"max_epochs": 2}, 5),
        (4, 10, {"max_epochs": 1.5}, 4),
        # A step draws no more than there is, so that an epoch is a step at least.
        (16, 3, {"max_epochs": 2}, 2),
        (16, 3, {"max_epochs": 2, "max_steps": 1}, 1),
        (4, 10, {"max_steps": 7}, 7),
    ],
)
def test_a_run_ends_at_the_latest_after_the_steps_that_draw_its_epochs(
    batch_size: int, samples: int, limits: dict[str, float], most: int, scored: Scored
) -> None:
    config = scored.config(optimiser={"batch_size": batch_size}, limits=limits)
    assert config.most_steps(samples) == most


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},
        {"study": "a study"},
        {"curriculum": {"sampler": "mrd"}},
        {"curriculum": {"sampler": "easy-to-hard", "column": "n_tokens_answer"}},
        {"curriculum": {"sampler": "mrd", "recompute_epochs": 1}},
        {"answers": 7, "checkpoint_steps": 3, "report_to": ["wandb"]},
    ],
)
def test_runs_of_one_setting_differ_in_seed_and_curriculum_and_in_what_moves_no_weight(
    changes: dict[str, Any], scored: Scored
) -> None:
    assert scored.config(**changes).setting == scored.config().setting


def test_what_else_differs_makes_another_setting(scored: Scored, tmp_path: Path) -> None:
    others: list[dict[str, Any]] = [
        {},
        {"method": "npo"},
        {"method": "npo", "parameters": {"beta": 0.5}},
        {"retain": scored.kept},
        {"retain": scored.kept | {"weight": 0.5}},
        {"optimiser": {"learning_rate": 1e-3}},
        {"optimiser": {"learning_rate": RATE, "batch_size": 2}},
        {"stopping": {"accuracy": 0.25}},
        {"limits": {"max_steps": 7}},
        {"curriculum": {"drop_forgotten": False}},
        {"stratum": tmp_path / "hard.jsonl"},
        {"score_run": tmp_path},
    ]
    assert len({scored.config(**changes).setting for changes in others}) == len(others)


def test_a_request_makes_a_queued_run_with_its_own_copy_of_the_samples(place: Place, scored: Scored) -> None:
    run = place.submitted(scored.config(method="npo", retain=scored.kept, curriculum={"sampler": "mrd"}))
    assert (run.run.state, run.run.kind, run.run.title) == (
        RunState.QUEUED,
        "unlearn",
        f"NPO + MRD, seed 0 on {scored.forget.name}",
    )
    whole = ForgetSet.load(ScoreFiles(scored.directory).samples)
    assert ForgetSet.load(run.files.samples).frame.equals(whole.frame)
    frame = pd.read_parquet(run.files.curriculum)
    assert list(frame["sample_id"]) == list(whole.frame["sample_id"])
    np.testing.assert_allclose(frame["share"], frame["weight"] / frame["weight"].sum())
    assert list(ForgetSet.load(run.files.retain).frame["sample_id"]) == [f"r{i}" for i in range(N_RETAIN)]
    summary = ScoreFiles(scored.directory).read_summary()
    kept = read_json(run.files.scored)
    assert kept["evaluations"] == summary["evaluations"] == DRAWS
    assert {name: summary.get(name) for name in kept if name != "title"} == {
        name: value for name, value in kept.items() if name != "title"
    }
    # NPO teaches no refusals.
    assert not run.files.refusals.exists()


def test_the_refusals_are_copied_with_the_request(place: Place, scored: Scored, tmp_path: Path) -> None:
    path = tmp_path / "refusals.txt"
    path.write_text("\ufeffI cannot say.\n\n  Ask Ann. \n", encoding="utf-8")
    run = place.submitted(scored.config(method="po", retain=scored.kept, refusals=path))
    path.unlink()
    assert refusals.load(run.files.refusals) == ("I cannot say.", "Ask Ann.")
    shipped = place.submitted(scored.config(method="po", retain=scored.kept))
    assert refusals.load(shipped.files.refusals) == refusals.load()


def test_refusals_that_cannot_be_read_are_refused(place: Place, scored: Scored, tmp_path: Path) -> None:
    error = refused(place, scored.config(method="po", retain=scored.kept, refusals=tmp_path / "none.txt"))
    assert error.what == str(tmp_path / "none.txt")
    assert "refusals that ship with the project" in error.fix


def test_a_retain_set_that_is_all_to_be_forgotten_is_none(place: Place, scored: Scored, tmp_path: Path) -> None:
    same = write_rows(tmp_path / "same.jsonl", forget_rows())
    error = refused(place, scored.config(method="graddiff", retain={"samples": {"source": str(same)}}))
    assert error.cause == "The retain set has no row that is not in the forget set."
    assert "to keep" in error.fix


def test_a_retain_set_that_is_not_there_is_named(place: Place, scored: Scored, tmp_path: Path) -> None:
    retain = {"samples": {"source": str(tmp_path / "gone.jsonl")}}
    assert "gone.jsonl" in str(refused(place, scored.config(method="graddiff", retain=retain)))


def test_a_held_out_set_that_is_not_there_is_named(place: Place, scored: Scored, tmp_path: Path) -> None:
    stopping = {"source": "held-out", "held_out": {"source": str(tmp_path / "gone.jsonl")}}
    assert "gone.jsonl" in str(refused(place, scored.config(stopping=stopping)))
    # Where the thresholds are others, nobody reads it.
    waiting = place.submitted(scored.config(stopping=stopping | {"source": "absolute"}))
    assert not waiting.files.held_out.exists()


def test_an_undefined_score_weighs_as_much_as_the_mean_and_rows_come_in_the_order_of_the_samples(
    scored: Scored,
) -> None:
    scores = pd.read_parquet(ScoreFiles(scored.directory).scores)[:4].assign(
        mrd_answer_sum=[1.0, np.nan, 6.0, 2.0]
    )
    ids = list(scores["sample_id"])[::-1]
    config = scored.config(curriculum={"sampler": "mrd", "column": "mrd_answer_sum"})
    frame = curriculum_frame(config, scores, ids)
    assert list(frame["sample_id"]) == ids
    np.testing.assert_array_equal(frame["weight"], [2, 6, np.nan, 1])
    np.testing.assert_allclose(frame["share"], np.array([2, 6, 3, 1]) / 12)


@pytest.mark.parametrize("weights", [[0.0] * 4, [np.nan] * 4, [np.inf, 1.0, 1.0, 1.0]])
def test_weights_that_say_nothing_are_refused(weights: list[float], scored: Scored) -> None:
    scores = pd.read_parquet(ScoreFiles(scored.directory).scores)[:4].assign(mrd_answer_mean=weights)
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


def test_a_measure_orders_samples_and_an_imported_column_of_its_name_goes_before_it(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    files = ScoreFiles(Path(shutil.copytree(scored.directory, tmp_path / "scored")))
    measures = pd.read_parquet(files.measures).set_index("sample_id")
    run = place.submitted(
        scored.config(
            score_run=files.directory, curriculum={"sampler": "hard-to-easy", "column": "median_log_odds"}
        )
    )
    frame = pd.read_parquet(run.files.curriculum).set_index("sample_id")
    assert list(frame["weight"]) == list(measures["median_log_odds"].loc[frame.index])
    entropies = write_rows(tmp_path / "f.jsonl", [{"id": f"f{i}", "entropy": i} for i in range(N_FORGET)])
    import_column(read_file(entropies), ImportConfig(column="entropy"), files)
    weights = weighing(files).set_index("sample_id")
    assert list(weights["entropy"].loc[[f"f{i}" for i in range(N_FORGET)]]) == list(range(N_FORGET))
    scores = pd.read_parquet(files.scores)
    pd.testing.assert_frame_equal(weights.reset_index()[list(scores)], scores)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "GradDiff"),
        ({"curriculum": {"sampler": "mrd"}}, "GradDiff + MRD"),
        ({"curriculum": {"sampler": "mrd", "recompute_epochs": 1}}, "GradDiff + MRD anew"),
        ({"curriculum": {"sampler": "easy-to-hard", "column": "nll"}}, "GradDiff, easy-to-hard nll"),
        ({"curriculum": {"sampler": "entanglement"}}, "GradDiff, entanglement"),
        ({"retain": {"limit": "auto"}}, "GradDiff (retain held)"),
        ({"retain": {"limit": 0.5}, "curriculum": {"sampler": "mrd"}}, "GradDiff (retain held) + MRD"),
        ({"method": "pdu"}, "PDU"),
    ],
)
def test_settings_that_are_compared_have_names_of_their_own(
    changes: dict[str, Any], label: str, scored: Scored
) -> None:
    settings = {"method": "graddiff"} | changes
    config = scored.config(**settings | {"retain": scored.kept | settings.get("retain", {})})
    assert config.label == label
