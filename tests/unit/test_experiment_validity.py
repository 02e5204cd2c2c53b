"""Validity experiments: their rows are those of lone unlearnings, and an interrupted one ends as if it was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrd_core.experiments.config import Arm
from mrd_core.experiments.kinds.validity import Validity, ValidityConfig, others
from mrd_core.experiments.unlearner import Unlearner
from tests.support.experiment_runs import Quiet, config, directory_of, halved, material, run, units_of
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


def test_rows_are_those_of_lone_unlearnings(scored: Scored, tmp_path: Path) -> None:
    wanted = config(ValidityConfig, scored, methods=("ga", "graddiff"), samples=4, repeats=2)
    rows, summary = run(wanted, directory_of(tmp_path / "run", scored))
    assert list(rows["part"].unique()) == ["retain", "entanglement", "unlearning", "fisher"]
    unlearner = Unlearner(wanted, material(scored), Quiet(tmp_path))
    parts = dict(list(rows.groupby("part")))
    fisher, rows = parts["fisher"], parts["unlearning"]
    assert set(fisher["sample_id"]) == set(rows["sample_id"])
    places = np.array([unlearner.forget.sample_ids.index(sample_id) for sample_id in fisher["sample_id"]])
    np.testing.assert_allclose(fisher["fisher_norm"], unlearner.fisher_norms(places))
    assert (fisher["fisher_norm"] > 0).all()
    # Nothing is random about GA.
    assert rows.groupby(["sample_id", "method"]).size().unstack().eq([1, 2]).all(axis=None)
    for row in rows.to_dict("records"):
        sample = unlearner.forget.sample_ids.index(row["sample_id"])
        ended = unlearner.unlearn(
            Arm(row["method"], row["optimiser"]), 2e-3, np.array([sample]), row["sample_id"], int(row["repeat"])
        )
        assert (row["updates"], row["forgotten"], row["diverged"]) == (ended.updates, ended.forgotten, False)
        assert row["accuracy"] == ended.accuracy
        assert row["nll"] == ended.nll
        np.testing.assert_allclose(row["trace"], ended.trace, atol=5e-5)
        np.testing.assert_allclose(row["retain_nll"], unlearner.retain_nll(40), atol=1e-7)
    assert summary["reasons"]["repeats"] == (
        "2 (GradDiff with AdamW: retain partners or refusals are random), "
        "1 (GA with AdamW: nothing is random, a repeat would be the same)"
    )
    assert rows["updates"].nunique() > 1


def test_an_interrupted_run_ends_as_if_it_was_not(scored: Scored, tmp_path: Path) -> None:
    wanted = config(
        ValidityConfig,
        scored,
        methods=("ga", "graddiff"),
        samples=4,
        repeats=1,
        learning_rate="auto",
        max_updates=8,
    )
    whole = directory_of(tmp_path / "whole", scored)
    rows, summary = run(wanted, whole)
    assert set(rows["part"]) == {"retain", "entanglement", "calibration", "unlearning", "fisher"}
    # The cut falls into the search for the second learning rate.
    resumed = halved(whole, tmp_path / "resumed")
    again, summary_again = run(wanted, resumed)
    pd.testing.assert_frame_equal(again, rows)
    assert resumed.rows.read_bytes() == whole.rows.read_bytes()
    assert units_of(resumed) == units_of(whole)
    assert summary["learning_rates"] == summary_again["learning_rates"]
    assert {one["learning_rate"] for one in summary["learning_rates"]} <= set(rows["learning_rate"])


def test_samples_are_done_one_after_the_other_in_random_order(scored: Scored, tmp_path: Path) -> None:
    def order(seed: int) -> list[str]:
        wanted = config(ValidityConfig, scored, methods=("ga", "npo"), samples=6, seed=seed)
        first, *units, last = Validity(wanted, material(scored), Quiet(tmp_path)).measurements
        assert (first, last) == ("retain set", "fisher")
        assert len(units) == len(set(units)) == 6 * (1 + 3)
        names = [unit.split()[1] for unit in units]
        return list(dict.fromkeys(names)) if names == sorted(names, key=names.index) else []

    assert len(order(0)) == 6
    assert order(0) == order(0) != order(1)


def test_a_set_that_is_smaller_is_studied_whole(scored: Scored, tmp_path: Path) -> None:
    wanted = config(ValidityConfig, scored, samples=60, retain=None)
    experiment = Validity(wanted, material(scored, retain=False), Quiet(tmp_path))
    assert len(experiment.measurements) == N_FORGET


def test_learning_rates_are_found_on_other_samples_where_there_are_enough() -> None:
    order, known = np.arange(20)[::-1], np.ones(20, dtype=bool)
    apart, on_studied = others(order, 15, 5, known)
    assert not set(apart) & set(order[:15])
    assert not on_studied
    taken, on_studied = others(order, 18, 5, known)
    assert len(taken) == 5
    assert on_studied
    assert len(others(order[:3], 3, 5, known)[0]) == 3


def test_learning_rates_are_found_on_samples_with_something_to_forget() -> None:
    order, known = np.arange(20), np.arange(20) % 2 == 0
    assert list(others(order, 10, 5, known)[0]) == [10, 12, 14, 16, 18]
    taken, on_studied = others(order, 15, 5, known)
    assert known[taken].all()
    assert on_studied
    assert len(others(order, 15, 5, np.zeros(20, dtype=bool))[0]) == 5


def test_what_a_small_step_costs_the_retain_set_is_foretold(scored: Scored, tmp_path: Path) -> None:
    wanted = config(
        ValidityConfig, scored, samples=4, optimisers=("sgd",), learning_rate=1e-7, max_updates=2, retain_samples=3
    )
    rows, _summary = run(wanted, directory_of(tmp_path / "run", scored))
    parts = dict(iter(rows.groupby("part")))
    before, foretold = parts["retain"]["nll"].to_numpy(), parts["entanglement"].set_index("sample_id")
    assert len(before) == 3
    assert len(foretold) == 4
    for row in parts["unlearning"].to_dict("records"):
        own = foretold.loc[row["sample_id"]]
        # Rounded to 1e-7 nats, and two steps of 1e-7.
        change = np.array(row["retain_nll"]) - before
        np.testing.assert_allclose(change, 2e-7 * np.array(own["products"]), atol=1.1e-7, rtol=0.01)
        assert own["entanglement"] == pytest.approx(np.mean(own["products"]))
        assert set(own["nearest"]) == set(parts["retain"]["sample_id"])


def test_a_learning_rate_from_studied_samples_is_said_to_be(scored: Scored, tmp_path: Path) -> None:
    for samples, said in ((N_FORGET, True), (N_FORGET - 5, False)):
        wanted = config(ValidityConfig, scored, samples=samples, learning_rate="auto", max_updates=2)
        _rows, summary = run(wanted, directory_of(tmp_path / str(samples), scored))
        assert any("studied too" in warning for warning in summary["warnings"]) == said
        (reason,) = (text for name, text in summary["reasons"].items() if name.startswith("learning rate"))
        assert ("5 studied samples" in reason) == said
