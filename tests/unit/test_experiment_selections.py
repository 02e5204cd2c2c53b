"""Experiments on groups: parameter change of composites, and selection bias."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrd_core.errors import UserError
from mrd_core.experiments.config import Arm
from mrd_core.experiments.kinds.parameter_change import ParameterChangeConfig, joined
from mrd_core.experiments.kinds.selection import Selection, SelectionConfig, balanced
from mrd_core.experiments.unlearner import Unlearner
from tests.support import tiny
from tests.support.experiment_runs import Quiet, config, directory_of, halved, material, run
from tests.support.unlearning_runs import N_FORGET, Scored, scored_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


def test_a_balanced_selection_has_one_sample_of_each_block() -> None:
    ranked = np.random.default_rng(1).permutation(23)
    blocks = np.array_split(ranked, 5)
    for seed in range(20):
        chosen = balanced(ranked, 5, np.random.default_rng(seed))
        assert [int(np.isin(chosen, block).sum()) for block in blocks] == [1] * 5


def test_a_balanced_single_sample_is_of_the_middle_third() -> None:
    ranked = np.random.default_rng(1).permutation(10)
    drawn = {int(balanced(ranked, 1, np.random.default_rng(seed))[0]) for seed in range(100)}
    assert drawn == set(ranked[3:7].tolist())


def test_joined_texts_score_all_answers_and_no_border() -> None:
    samples = tiny.encoded(6, 4, 9).samples
    text = joined(samples, 19)
    assert text is not None
    assert text.tokens.tolist() == [token for sample in samples for token in sample.tokens]
    scored_tokens = text.tokens[1:][text.answer]
    assert scored_tokens.tolist() == [token for sample in samples for token in sample.tokens[1:][sample.answer]]
    assert joined(samples, 18) is None


def test_composites_say_how_far_the_weights_moved(scored: Scored, tmp_path: Path) -> None:
    wanted = config(
        ParameterChangeConfig, scored, composites=4, size=6, optimisers=("adamw", "sgd"), max_updates=10
    )
    rows, summary = run(wanted, directory_of(tmp_path / "run", scored))
    assert rows.groupby(["method", "optimiser"])["composite"].apply(list).tolist() == [[0, 1, 2, 3]] * 2
    assert rows.groupby("composite")["sample_ids"].agg(lambda ids: len(set(map(tuple, ids)))).eq(1).all()
    unlearner = Unlearner(wanted, material(scored), Quiet(tmp_path))
    for row in rows.to_dict("records"):
        texts = np.array([unlearner.forget.sample_ids.index(sample_id) for sample_id in row["sample_ids"]])
        chosen = [unlearner.forget.samples[i] for i in texts]
        text = joined(chosen, unlearner.context_tokens)
        # Sample by sample the model knows these by heart, and not as one text.
        if text is not None and unlearner.recalled(text) < unlearner.start.accuracy[texts].mean() - 0.1:
            text = None
        assert row["joined"] == (text is not None)
        ended = unlearner.unlearn(
            Arm("ga", row["optimiser"]), 2e-3, texts if text is None else [text], "composite", row["composite"]
        )
        assert (row["updates"], row["accuracy"]) == (ended.updates, ended.accuracy)
        assert row["mean_absolute_change"] == unlearner.mean_absolute_change()
        assert (row["mean_absolute_change"] > 0) == (row["updates"] > 0)
    moved = rows["updates"] > 0
    assert moved.any()
    assert any("took no update" in warning for warning in summary["warnings"]) == (not moved.all())


def test_refusals_and_texts_beyond_the_context_make_a_batch(scored: Scored, tmp_path: Path) -> None:
    wanted = config(ParameterChangeConfig, scored, methods=("ga", "po"), composites=4, size=1, max_updates=2)
    rows, summary = run(wanted, directory_of(tmp_path / "small", scored))
    assert rows.groupby("method")["joined"].all().to_dict() == {"ga": True, "po": False}
    assert "4 texts, 4 batches" in summary["reasons"]["composites"]
    wanted = config(ParameterChangeConfig, scored, composites=4, size=40, max_updates=2)
    rows, summary = run(wanted, directory_of(tmp_path / "large", scored))
    assert not rows["joined"].any()
    assert summary["reasons"]["composites"].startswith("one batch each")


def test_a_text_is_recalled_by_the_starting_weights(scored: Scored, tmp_path: Path) -> None:
    unlearner = Unlearner(config(ParameterChangeConfig, scored), material(scored), Quiet(tmp_path))
    unlearner.unlearn(Arm("ga", "adamw"), 1e-2, np.array([0]), "spoilt")
    for text, accuracy in zip(unlearner.forget.samples, unlearner.start.accuracy, strict=True):
        assert unlearner.recalled(text) == pytest.approx(accuracy)


def test_selections_are_the_same_for_every_method_and_measured_where_they_end(
    scored: Scored, tmp_path: Path
) -> None:
    wanted = config(SelectionConfig, scored, methods=("ga", "npo"), selections=2, size=3)
    rows, summary = run(wanted, directory_of(tmp_path / "run", scored))
    key = ["scheme", "size", "selection"]
    assert rows.groupby(["method", *key]).size().eq(1).all()
    assert len(rows) == 2 * 2 * 2 * 2
    assert rows.groupby(key)["sample_ids"].agg(lambda ids: len(set(map(tuple, ids)))).eq(1).all()
    assert (rows["sample_ids"].map(lambda ids: len(set(ids))) == rows["size"]).all()
    unlearner = Unlearner(wanted, material(scored), Quiet(tmp_path))
    assert (summary["retain_accuracy_before"], summary["retain_nll_before"]) == unlearner.retained()
    scores = material(scored).scores["mrd_answer_mean"]
    for row in rows.to_dict("records"):
        texts = np.array([unlearner.forget.sample_ids.index(sample_id) for sample_id in row["sample_ids"]])
        ended = unlearner.unlearn(
            Arm(row["method"], "adamw"), 2e-3, texts, row["scheme"], row["size"], row["selection"]
        )
        assert (row["updates"], row["forget_accuracy"], row["forget_nll"]) == (
            ended.updates,
            ended.accuracy,
            ended.nll,
        )
        assert (row["retain_accuracy"], row["retain_nll"]) == unlearner.retained()
        assert row["mean_mrd"] == pytest.approx(scores.loc[list(row["sample_ids"])].mean())


def test_groups_are_no_more_than_half_of_the_set(scored: Scored, tmp_path: Path) -> None:
    wanted = config(SelectionConfig, scored, methods=("ga", "simnpo"), selections=2, size=40, max_updates=2)
    rows, summary = run(wanted, directory_of(tmp_path / "run", scored))
    assert set(rows["size"]) == {1, N_FORGET // 2}
    assert any("and not 40" in warning for warning in summary["warnings"])


def test_a_run_without_a_retain_set_has_no_retain_measures(scored: Scored, tmp_path: Path) -> None:
    wanted = config(
        SelectionConfig, scored, methods=("ga", "simnpo"), selections=2, size=2, max_updates=2, retain=None
    )
    rows, summary = run(wanted, directory_of(tmp_path / "run", scored))
    assert rows[["retain_accuracy", "retain_nll"]].isna().all(axis=None)
    assert summary["retain_nll_before"] is None


def test_an_interrupted_selection_ends_as_if_it_was_not(scored: Scored, tmp_path: Path) -> None:
    wanted = config(
        SelectionConfig,
        scored,
        methods=("ga", "npo"),
        selections=2,
        size=2,
        learning_rate="auto",
        max_updates=6,
    )
    whole = directory_of(tmp_path / "whole", scored)
    rows, summary = run(wanted, whole)
    resumed = halved(whole, tmp_path / "resumed")
    again, _summary = run(wanted, resumed)
    pd.testing.assert_frame_equal(again, rows)
    assert set(rows["part"]) == {"calibration", "selection"}
    assert {(one["method"], one["size"]) for one in summary["learning_rates"]} == {
        (method, size) for method in ("ga", "npo") for size in (1, 2)
    }
    assert "learning rate of NPO with AdamW, single samples" in summary["reasons"]


def test_samples_without_a_difficulty_are_never_selected(scored: Scored, tmp_path: Path) -> None:
    whole = material(scored)
    scores = whole.scores.copy()
    scores.loc["f3", "mrd_answer_mean"] = np.nan
    wanted = config(SelectionConfig, scored, methods=("ga", "simnpo"), selections=5, size=3)
    experiment = Selection(wanted, replace(whole, scores=scores), Quiet(tmp_path))
    chosen = [experiment._chosen(scheme, 3, number) for scheme in ("random", "balanced") for number in range(50)]
    assert 3 not in np.concatenate(chosen)
    assert set(np.concatenate(chosen)) == set(range(N_FORGET)) - {3}
    with pytest.raises(UserError, match="is not among the scores"):
        Selection(wanted.model_copy(update={"column": "nothing"}), whole, Quiet(tmp_path))


def test_a_learning_rate_is_not_sought_on_what_is_forgotten_already(scored: Scored, tmp_path: Path) -> None:
    whole = material(scored)
    frame = whole.forget_set.frame.copy()
    unknown = frame.index[: N_FORGET // 2]
    frame.loc[unknown, "answer"] = list(frame["answer"][::-1])[: len(unknown)]
    changed = replace(whole, forget_set=replace(whole.forget_set, frame=frame))
    wanted = config(SelectionConfig, scored, methods=("ga", "simnpo"), selections=2, size=2)
    experiment = Selection(wanted, changed, Quiet(tmp_path))
    known = experiment._unlearner.start.accuracy >= wanted.accuracy
    assert 0 < known.sum() < N_FORGET
    for size in (1, 2):
        assert known[np.concatenate(experiment._other(size))].all()
