"""Who got the gradient: shares by third of the samples, counted by hand, and over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.figures.unlearning import gradient_by_tercile
from analysis.unlearning.gradients import WEIGHT, by_tercile, column_of, over_seeds
from mrd_core.errors import UserError

CURRICULUM = pd.DataFrame(
    {
        "sample_id": list("abcdef"),
        "mrd_answer_mean": [3.0, 1.0, 2.0, 6.0, 5.0, 4.0],
        "weight": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    }
)
# By MRD b and c are hard, a and f in the middle, d and e easy.
STEPS = [
    {"forget": ["a", "b"], "trained": [True, True], "gradient_norms": [3.0, 1.0]},
    {"forget": ["d", "e"], "trained": [True, True]},
    {"forget": ["b", "d"], "trained": [False, True], "gradient_norms": [None, 5.0]},
    {"forget": ["b", "b"], "trained": [True, True], "gradient_norms": [2.0, 2.0]},
    {"forget": ["c", "c"], "trained": [False, False]},
]


def test_a_third_has_its_updates_and_the_mean_of_its_part_of_each_measured_step() -> None:
    table = by_tercile(CURRICULUM, STEPS, "mrd_answer_mean").set_index("tercile")
    assert list(table.index) == ["hard", "middle", "easy"]
    assert list(table["samples"]) == [2, 2, 2]
    assert list(table["even"]) == pytest.approx([1 / 3] * 3)
    # Seven updates: b three, a one, d two, e one; of the three measured steps b had a quarter, nothing and all.
    assert list(table["updates"]) == pytest.approx([3 / 7, 1 / 7, 3 / 7])
    assert list(table["gradient"]) == pytest.approx([(0.25 + 0 + 1) / 3, 0.75 / 3, 1 / 3])


def test_thirds_of_a_column_that_is_no_mrd_are_not_called_hard_or_easy() -> None:
    table = by_tercile(CURRICULUM, STEPS, WEIGHT).set_index("tercile")
    assert list(table.index) == ["low", "middle third", "high"]
    assert table.loc["low", "gradient"] == pytest.approx((1 + 0 + 1) / 3)


@pytest.mark.parametrize(
    ("sampler", "column", "by"),
    [
        ("uniform", "median_log_odds", "mrd_answer_mean"),
        ("mrd", "mrd_answer_sum", "mrd_answer_sum"),
        ("hard-to-easy", "median_log_odds", WEIGHT),
        ("entanglement", "entanglement", WEIGHT),
    ],
)
def test_thirds_are_by_what_the_order_goes_by(sampler: str, column: str, by: str) -> None:
    assert column_of(sampler, column) == by


def test_a_log_of_before_there_were_norms_has_updates_alone() -> None:
    old = [{name: step[name] for name in ("forget", "trained")} for step in STEPS]
    table = by_tercile(CURRICULUM, old, "mrd_answer_mean")
    assert table["updates"].sum() == pytest.approx(1)
    assert table["gradient"].isna().all()
    assert by_tercile(CURRICULUM, [], "mrd_answer_mean")["updates"].tolist() == [0, 0, 0]
    with pytest.raises(UserError, match="is not in the curriculum"):
        by_tercile(CURRICULUM, STEPS, "no_such")


def test_samples_without_a_value_are_a_group_of_their_own() -> None:
    curriculum = CURRICULUM.assign(mrd_answer_mean=[np.nan, 1.0, 2.0, 6.0, 5.0, 4.0])
    table = by_tercile(curriculum, STEPS, "mrd_answer_mean").set_index("tercile")
    assert table.loc["undefined", "gradient"] == pytest.approx(0.75 / 3)
    assert table["gradient"].sum() == pytest.approx(1)


def runs_of(*runs: tuple[str, int], **changed: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(runs, columns=["label", "seed"])
    return frame.assign(sampler="mrd", column="mrd_answer_mean", setting="a").assign(**changed)


def test_runs_that_share_a_label_and_a_seed_are_settings_of_their_own() -> None:
    slow, fast = (by_tercile(CURRICULUM, STEPS[:count], "mrd_answer_mean") for count in (1, 4))
    for changed, names in (
        ({"setting": ["a", "b"]}, ["GA + MRD, setting 1", "GA + MRD, setting 2"]),
        (
            {"column": ["mrd_answer_mean", "mrd_answer_sum"]},
            ["GA + MRD (mrd_answer_mean)", "GA + MRD (mrd_answer_sum)"],
        ),
    ):
        shares = over_seeds(runs_of(("GA + MRD", 0), ("GA + MRD", 0), **changed), [slow, fast])
        assert list(dict.fromkeys(shares["label"])) == names
        assert (shares["updates_seeds"] == 1).all()


def test_where_samples_have_no_value_a_third_is_no_third_of_all() -> None:
    curriculum = CURRICULUM.assign(mrd_answer_mean=[np.nan, np.nan, np.nan, 6.0, 5.0, 4.0])
    shares = over_seeds(runs_of(("GA", 0)), [by_tercile(curriculum, STEPS, "mrd_answer_mean")])
    assert shares.set_index("tercile")["even"].to_dict() == pytest.approx(
        {"hard": 1 / 6, "middle": 1 / 6, "easy": 1 / 6, "undefined": 1 / 2}
    )
    assert not gradient_by_tercile(shares).layout.shapes


def test_over_seeds_a_setting_has_its_mean_and_the_t_interval_and_a_seed_counts_once() -> None:
    tables = [by_tercile(CURRICULUM, STEPS[:count], "mrd_answer_mean") for count in (1, 3, 4)]
    runs = runs_of(("GA", 0), ("GA", 0), ("GA", 1), ("GA", 2), ("GA + MRD", 0))
    shares = over_seeds(runs, [tables[2], *tables, tables[0]])
    hard = shares.set_index(["label", "tercile"]).loc[("GA", "hard")]
    values = np.array([0.25, 0.25 / 2, 1.25 / 3])
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    assert hard["gradient_seeds"] == 3
    assert list(hard[["gradient", "gradient_low", "gradient_high"]]) == pytest.approx(
        [values.mean(), values.mean() - half, values.mean() + half]
    )
    alone = shares.set_index(["label", "tercile"]).loc[("GA + MRD", "hard")]
    assert (alone["updates_seeds"], alone["updates"]) == (1, 0.5)
    assert np.isnan(alone["updates_low"])
    assert over_seeds(runs_of(), []).empty
    figure = gradient_by_tercile(shares)
    assert {bar.legendgroup for bar in figure.data} == {"GA", "GA + MRD"}
    assert [list(bar.y) for bar in figure.data if bar.legendgroup == "GA"] == [
        list(shares.loc[shares["label"] == "GA", name]) for name in ("updates", "gradient")
    ]
