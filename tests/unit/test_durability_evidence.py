"""What comes back is judged by what the rows say: hand-worked examples, planted truths, every degenerate state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import optimize, special, stats

from analysis.evidence.forecast import forecast
from analysis.evidence.kinds import evidence_of
from analysis.evidence.kinds.durability import Durability
from analysis.evidence.leaks import best_of
from analysis.evidence.measurements import NOTHING_YET, read_measurements
from analysis.evidence.return_league import LEAST, MEAN, mean_league
from analysis.evidence.returns import Comeback, comebacks, courses_of
from analysis.export.evidence import evidence_json
from analysis.report import drawing
from analysis.report.content import Chart, Table
from analysis.report.evidence import experiment
from analysis.report.runs import Member
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.logistic import (
    FOLDS,
    REPEATS,
    calibration,
    calibration_table,
    fit,
    held_out,
    held_out_share,
)
from analysis.statistics.shares import difference, share
from analysis.statistics.survival import survival
from analysis.verdict import State, durable
from cli.door import main
from mrd_core.experiments.kinds.durability import REFERENCE, DurabilityConfig
from mrd_core.unlearning.damage import Rest
from tests.support.durability_rows import ALL_PARTS, LOOKS, config, course, durability_experiment, simulated, start
from tests.support.evidence_experiments import Rows, sample_table

SAMPLES = 40


def judged(
    folder: Path, wanted: DurabilityConfig, rows: Rows, table: pd.DataFrame | None = None, done: bool = True
) -> Durability:
    """Judge an experiment of 40 samples with these rows, and see that it can be written as JSON."""
    measured = sample_table(SAMPLES) if table is None else table
    found = read_measurements(durability_experiment(folder / "run", wanted, measured, rows, done))
    shown = evidence_of(found)
    content = evidence_json(found, shown)
    json.dumps(content, allow_nan=False)
    for sentence in [content["verdict"], content["paper"], *content["findings"], *content["caveats"]]:
        assert sentence[-1] == "."
        assert "nan" not in sentence
    assert isinstance(shown, Durability)
    return shown


# Shares


def test_shares_have_wilsons_interval() -> None:
    back, n, z = 7, 29, stats.norm.ppf(0.975)
    p = back / n
    middle, width = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    assert share(back, n)[:4] == pytest.approx((p, (middle - width) / scale, (middle + width) / scale, n))
    # None of four is not as if none of four hundred.
    assert share(0, 4).high > 0.45 > share(0, 400).high
    assert share(0, 0).n == 0


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Table II of Newcombe (1998), method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_differences_of_shares_have_the_published_intervals(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    found = difference(share(*first), share(*second))
    assert found[:3] == pytest.approx((first[0] / first[1] - second[0] / second[1], low, high), abs=5e-5)


# Survival


def test_survival_is_kaplan_and_meiers_with_the_log_log_band() -> None:
    times, kept = [1, 1, 2, 4, 4, 4, 8, 8], [0, 0, 0, 0, 1, 0, 1, 1]
    table = survival(times, kept, (0, 1, 2, 4, 8)).set_index("step")
    # At 4 two of five at risk go; the third is censored there, after them.
    steps = {0: 1.0, 1: 6 / 8, 2: 6 / 8 * 5 / 6, 4: 6 / 8 * 5 / 6 * 3 / 5, 8: 6 / 8 * 5 / 6 * 3 / 5}
    assert table["still"].to_dict() == pytest.approx(steps)
    greenwood = 2 / (8 * 6) + 1 / (6 * 5) + 2 / (5 * 3)
    still, z = steps[4], stats.norm.ppf(0.975)
    width = z * sqrt(greenwood) / abs(log(still))
    ends = sorted(exp(-exp(log(-log(still)) + side * width)) for side in (-1, 1))
    assert table.loc[4, ["low", "high"]].tolist() == pytest.approx(ends)
    assert np.isnan(table.loc[0, "low"])
    assert survival([8, 8], [True, True], (0, 8))["still"].tolist() == [1, 1]
    assert survival([], [], (0, 8)).empty


# leak@k


def test_the_best_of_k_is_the_mean_over_all_subsets() -> None:
    scores = np.random.default_rng(0).random((3, 6)).round(1)
    for k in range(1, 7):
        every = [np.mean([max(chosen) for chosen in combinations(row, k)]) for row in scores.tolist()]
        assert best_of(scores, k) == pytest.approx(every)


# Probabilities


def test_the_logistic_fit_is_the_penalised_optimum() -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(30, 2))
    happened = generator.random(30) < 1 / (1 + np.exp(-features[:, 0]))

    def loss(b: Any) -> float:
        margins = np.where(happened, 1, -1) * (features @ b[:2] + b[2])
        return float(np.log1p(np.exp(-margins)).sum() + 0.5 * (b[:2] ** 2).sum())

    expected = optimize.minimize(
        loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}
    ).x
    model = fit(features, happened)
    assert [*model.coefficients, model.intercept] == pytest.approx(expected.tolist(), abs=1e-4)
    assert model(features[:1]) == pytest.approx(
        1 / (1 + np.exp(-(features[:1] @ expected[:2] + expected[2]))), abs=1e-4
    )
    # What a threshold parts has no optimum without the penalty.
    assert np.isfinite(fit(features, features[:, 0] > 0).coefficients).all()


def test_no_probability_is_of_a_model_that_saw_the_sample() -> None:
    generator = np.random.default_rng(2)
    measures, happened = np.arange(23.0)[:, None], generator.random(23) < 0.5
    trained: list[set[float]] = []
    seen = 0

    def watched(train: Any, other: Any) -> Any:
        nonlocal seen
        if other is train:
            trained.append(set(train[:, 0]))
        else:
            assert not trained[-1] & set(other[:, 0])
            seen += len(other)
        return other

    held_out(measures, happened, watched)
    assert (len(trained), seen) == (FOLDS * REPEATS, 23 * REPEATS)


def test_probabilities_of_chance_are_no_better_than_the_share() -> None:
    generator = np.random.default_rng(3)
    measures, happened = generator.normal(size=(60, 4)), generator.random(60) < 0.4
    of_chance = calibration(held_out(measures, happened, lambda _train, other: other), happened)
    assert of_chance.skill.low < 0 < of_chance.skill.high < 0.2
    assert of_chance.auc.low < 0.5 < of_chance.auc.high
    measures[:, 0] += 4 * happened
    of_signal = calibration(held_out(measures, happened, lambda _train, other: other), happened)
    assert of_signal.skill.low > 0.3
    assert of_signal.auc.low > 0.9


@pytest.mark.parametrize(("n", "came_back"), [(20, 10), (40, 10), (25, 20)])
def test_probabilities_that_know_no_feature_are_neither_better_nor_worse_than_the_share(
    n: int, came_back: int
) -> None:
    happened = np.arange(n) < came_back
    found = calibration(held_out_share(happened), happened)
    assert (found.skill.value, found.skill.low, found.skill.high) == pytest.approx((0, 0, 0))
    assert found.auc.value == 0.5
    # Folds in which it happened equally often: the share of all, and what a fold more or less of them makes.
    assert found.brier_of_rate.value == pytest.approx(came_back / n * (1 - came_back / n), rel=0.03)
    without = held_out(np.zeros((n, 0)), happened, lambda _train, other: other)
    assert without == pytest.approx(held_out_share(happened), abs=1e-4)


def test_figures_of_probabilities_are_those_of_the_books() -> None:
    probabilities = np.array([0.1, 0.4, 0.4, 0.8, 0.9, 0.3])
    happened = np.array([False, False, True, True, True, False])
    found = calibration(probabilities, happened)
    beside = special.logit(probabilities) - special.logit(held_out_share(happened))
    pairs = [(yes > no) + (yes == no) / 2 for yes in beside[happened] for no in beside[~happened]]
    assert found.auc.value == pytest.approx(np.mean(pairs))
    assert found.brier.value == pytest.approx(np.mean((probabilities - happened) ** 2))
    shares = held_out_share(happened)
    assert found.brier_of_rate.value == pytest.approx(np.mean((shares - happened) ** 2))
    assert found.skill.value == pytest.approx(1 - found.brier.value / found.brier_of_rate.value)
    table = calibration_table(np.linspace(0, 1, 23), np.linspace(0, 1, 23) > 0.55)
    assert (table["n"].tolist(), table["observed"].tolist()) == ([6, 6, 6, 5], pytest.approx([0, 0, 5 / 6, 1]))


# What is back


def by_hand(folder: Path, **changes: Any) -> Path:
    """Write four samples: one returns, one returned in between, one stays away, one was never forgotten."""
    table = sample_table(SAMPLES)
    rows = start("first", {"s000": 0.2, "s001": 0.3, "s002": 0.0, "s003": 0.8})
    first = {"s000": [0.2, 0.4, 0.5, 0.8], "s001": [0.3, 0.9, 0.9, 0.1], "s002": [0.0, 0.0, 0.1, 0.2]}
    other = {"s000": [0.2, 0.4, 0.7, 0.6], "s001": [0.3, 0.1, 0.3, 0.5], "s002": [0.0, 0.0, 0.0, 0.9]}
    known = {"s003": [0.8, 0.8, 0.8, 0.8]}
    # The last of the first three is trained on in the second repeat.
    rows += course("first", "jogging", 0, first | known) + course("first", "jogging", 1, other | known, ["s002"])
    learnt = {"s000": [0.1, 0.1, 0.1, 0.2], "s001": [0.2, 0.2, 0.2, 0.2], "s002": [0.0, 0.1, 0.2, 0.6]}
    rows += course(REFERENCE, "jogging", 0, learnt | {"s003": [0.3] * 4})
    return durability_experiment(folder, config(accuracy=0.5, **changes), table, rows)


def test_a_sample_counts_by_its_mean_over_the_repeats_that_left_it_out(tmp_path: Path) -> None:
    courses = courses_of(read_measurements(by_hand(tmp_path / "run")))
    own = courses[0]
    assert own.accuracy.loc["s000"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.7])
    assert own.accuracy.loc["s002"].tolist() == [0, 0, 0.1, 0.2]
    table = own.table
    assert table["at_risk"].tolist() == [True, True, True, False]
    assert table["back"].tolist() == [True, False, False, False]
    # Looks after 1, 2 and 4 steps; the second was back at 1 and 2 and gone again.
    assert table["step"].tolist()[:3] == [2, 1, 4]
    assert table["censored"].tolist()[:3] == [False, False, True]
    assert table.loc["s000", "area"] == pytest.approx((0.3 * 1 + 0.5 * 1 + 0.65 * 2) / 4)
    assert own.values["rouge"].loc["s000"].tolist() == pytest.approx(
        [0.2 / 3, np.nan, np.nan, 0.7 / 3], nan_ok=True
    )


def test_the_reference_is_subtracted(tmp_path: Path) -> None:
    measurements = read_measurements(by_hand(tmp_path / "run"))
    (line,) = comebacks(measurements)
    assert (line.back, line.share.n, line.of_reference.n) == (1, 3, 4)
    assert line.of_reference.value == 1 / 4
    assert line.excess.value == pytest.approx(1 / 3 - 1 / 4)
    assert "of 3 forgotten samples 1 (33% [6, 79]) is back after 4 steps of training on 4 other" in line.sentence
    assert line.sentence.endswith("of the reference 25%")
    shown = evidence_of(measurements)
    assert isinstance(shown, Durability)
    samples = shown.samples.set_index(["model", "sample_id"])
    assert samples.loc[("first", "s000"), "excess_gain"] == pytest.approx(0.5 - 0.1)
    assert samples.loc[("first", "s002"), "excess_end"] == pytest.approx(0.2 - 0.6)
    (row,) = shown.returns[shown.returns["model"] == "first"].to_dict("records")
    assert (row["n"], row["kept"], row["back"]) == (3, 1, 1)
    assert "1 of 4 samples were not forgotten" in " ".join(shown.caveats)


def test_what_the_reference_knew_untaught_is_told(tmp_path: Path) -> None:
    learnt = {"s000": 0.7, "s001": 0.2, "s002": 0.3}
    rows = start("first", dict.fromkeys(learnt, 0.1)) + start(REFERENCE, learnt)
    rows += course("first", "benign", 0, {name: [0.1] * 4 for name in learnt})
    rows += course(REFERENCE, "benign", 0, {name: [value] * 4 for name, value in learnt.items()})
    shown = judged(tmp_path, config(), rows)
    assert "The reference knew 1 of 3 samples by MA ≥ 0.5 from the start" in " ".join(shown.caveats)
    assert shown.lines[0].of_reference.n == 2


def test_without_a_reference_the_share_stands_alone(tmp_path: Path) -> None:
    (line,) = comebacks(read_measurements(by_hand(tmp_path / "run", reference=None)))
    assert not line.has_reference
    assert line.excess == line.share
    assert "reference" not in line.sentence


def test_an_attack_that_ruins_the_model_is_told(tmp_path: Path) -> None:
    rows = start("first", {"s000": 0.1}) + course(
        "first", "benign", 0, {"s000": [0.1] * 4}, retained=[0.9, 0.8, 0.7, 0.5]
    )
    shown = judged(tmp_path, config(reference=False), rows)
    assert "MA on the retain set from 0.90 to 0.50. It ruined the model" in " ".join(shown.caveats)
    assert shown.lines[0].is_ruined
    assert durable("run", shown.lines).state is State.CANNOT_TELL


# The whole


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Durability:
    """Two runs with a reference, in which samples with a large MRD come back."""
    table, wanted = sample_table(SAMPLES), config(("first", "second"))
    rows = simulated(table.head(SAMPLES - 4), runs=("first", "second"))
    return judged(tmp_path_factory.mktemp("durability"), wanted, rows, table)


def test_models_of_one_name_are_told_apart(shown: Durability) -> None:
    names = {"first": "GradDiff, seed 0", "second": "GradDiff, seed 1", REFERENCE: "Reference"}
    assert shown.names == names
    assert shown.verdict.startswith("GradDiff, seed 0: of 35 forgotten samples ")


def test_what_drives_the_return_leads_the_league(shown: Durability) -> None:
    for model in ("first", "second", MEAN):
        league = shown.leagues[model, "benign"]
        alone = league.table[league.table["family"] != "combination"]
        # The arithmetic mean of one driver: whatever is made of it ranks alike.
        assert league.estimate("mrd_answer_mean").low > 0.8
        assert alone["measure"].iloc[0] == "mrd_answer_mean"
        assert league.estimate("mrd_answer_mean", "level", "level_").low > 0.5
        # Large MRD, early return.
        assert league.estimate("mrd_answer_mean", "step", "step_").high < 0
        assert {"accuracy_left", "nll_left", "extraction_left", "updates", "draws"} <= set(alone["measure"])
        held = league.estimate("answer_tokens", "partial", "partial_")
        assert np.isnan(held.value)
    assert ("first", "control") not in shown.leagues


def test_the_league_is_spearmans(shown: Durability) -> None:
    samples = shown.samples[(shown.samples["model"] == "first") & (shown.samples["attack"] == "benign")]
    at_risk = samples[samples["at_risk"]].merge(sample_table(SAMPLES), on="sample_id")
    for measure in ("gradient_norm", "nll"):
        expected = stats.spearmanr(at_risk[measure], at_risk["excess_gain"]).statistic
        assert shown.leagues["first", "benign"].estimate(measure).value == pytest.approx(expected)


def test_the_mean_over_models_is_of_what_is_found_in_each(shown: Durability) -> None:
    first, second, mean = (shown.leagues[model, "jogging"] for model in ("first", "second", MEAN))
    for measure in ("nll", "updates", "accuracy_left", "answer_tokens"):
        for column, prefix in (("rho", ""), ("level", "level_"), ("step", "step_")):
            each = [league.estimate(measure, column, prefix) for league in (first, second)]
            found = mean.estimate(measure, column, prefix)
            assert found.value == pytest.approx(np.mean([one.value for one in each]), nan_ok=True)
    # Of two models chance cancels in part, but the samples are the same.
    widths = [league.estimate("updates").high - league.estimate("updates").low for league in (first, second, mean)]
    assert widths[2] < max(widths[:2])
    # Samples that one of the models trained on in every repeat, or never forgot, count where they were at risk.
    assert mean.estimate("nll").n >= max(first.estimate("nll").n, second.estimate("nll").n)


def test_the_mean_does_not_depend_on_the_order_of_the_file(shown: Durability) -> None:
    leagues = [shown.leagues[model, "jogging"] for model in ("first", "second")]
    shuffled = [replace(each, outcomes=each.outcomes.sample(frac=1, random_state=0)) for each in leagues]
    pd.testing.assert_frame_equal(mean_league(shuffled, 40, {}).table, mean_league(leagues, 40, {}).table)


def test_a_model_that_forgot_next_to_nothing_takes_no_part_in_the_mean(shown: Durability) -> None:
    first, second = (shown.leagues[model, "jogging"] for model in ("first", "second"))
    few = replace(second, outcomes=second.outcomes.head(LEAST - 1))
    mean, alone = mean_league([first, few], 40, {}), mean_league([first], 40, {})
    assert mean.models == 1
    pd.testing.assert_frame_equal(mean.table, alone.table)
    assert mean_league([first, second], 40, {}).models == 2
    assert mean_league([few], 40, {}).table.empty


def test_a_model_that_forgot_nothing_does_not_choose_the_attack(tmp_path: Path) -> None:
    names = [f"s{i:02d}" for i in range(12)]
    rows: list[Any] = []
    for model, begun in (("first", 0.1), ("second", 0.9)):
        rows += start(model, dict.fromkeys(names, begun))
        rows += course(model, "jogging", 0, {name: [begun, begun, begun, 0.9] for name in names})
        rows += course(model, "benign", 0, {name: [begun] * 4 for name in names})
    assert judged(tmp_path, config(("first", "second"), reference=False), rows).primary == "jogging"


def test_equal_repeats_have_their_own_mean(tmp_path: Path) -> None:
    rows: list[Any] = start("first", {"s00": 0.7})
    for seed in range(3):
        rows += course("first", "benign", seed, {"s00": [0.7] * 4})
    found = judged(tmp_path, config(reference=False, accuracy=0.7, seeds=3), rows)
    assert not found.samples["at_risk"].any()


def test_where_benign_training_brings_back_nothing_jogging_is_foretold(tmp_path: Path) -> None:
    values = {f"s{at:03d}": [0.1, 0.1, 0.1, 0.9 if at < 20 else 0.1] for at in range(SAMPLES)}
    rows = start("first", {name: value[0] for name, value in values.items()})
    rows += course("first", "jogging", 0, values)
    rows += course("first", "benign", 0, {name: [0.1] * 4 for name in values})
    found = judged(tmp_path, config(reference=False), rows)
    assert (found.primary, found.attacks) == ("jogging", ["jogging", "benign"])
    assert "come back after some forget samples is foretold" in found.findings[-1]


def test_samples_are_foretold_with_the_others_of_the_run(shown: Durability) -> None:
    forecast = shown.forecasts["first", "benign"]
    assert forecast.figures is not None
    assert forecast.figures.auc.low > 0.8
    own = shown.samples.query("model == 'first' and attack == 'benign' and at_risk")
    left, came = own["start"], own["back"].astype(bool)
    wins = stats.mannwhitneyu(left[came], left[~came]).statistic / (came.sum() * (~came).sum())
    assert forecast.auc_of_left.value == pytest.approx(wins)
    attacked = forecast.samples["back"].notna()
    assert (attacked.sum(), (~attacked).sum()) == (35, 4)
    assert forecast.samples["probability"].is_monotonic_decreasing
    observed = set(forecast.samples.loc[forecast.samples["back"] == 1, "sample_id"])
    back = shown.samples.query("model == 'first' and attack == 'benign' and back")["sample_id"]
    assert observed == set(back)


def test_what_is_foretold_does_not_rest_on_the_order_of_the_rows(shown: Durability, tmp_path: Path) -> None:
    table, wanted = sample_table(SAMPLES), config(("first", "second"))
    rows = simulated(table.head(SAMPLES - 4), runs=("first", "second"))
    turned = table[::-1].reset_index(drop=True)
    found = read_measurements(durability_experiment(tmp_path / "run", wanted, turned, rows[::-1]))
    course = next(each for each in courses_of(found) if (each.model, each.attack) == ("first", "benign"))
    one, other = shown.forecasts["first", "benign"], forecast(course, found)
    by_id = [found.samples.set_index("sample_id").sort_index() for found in (one, other)]
    pd.testing.assert_frame_equal(*by_id)
    assert one.figures == other.figures


def test_too_few_returns_foretell_nothing(tmp_path: Path) -> None:
    table = sample_table(SAMPLES)
    values = {name: [0.1, 0.1, 0.1, 0.9 if at < LEAST - 1 else 0.1] for at, name in enumerate(table["sample_id"])}
    rows = start("first", {name: value[0] for name, value in values.items()})
    found = judged(tmp_path, config(reference=False), rows + course("first", "jogging", 0, values))
    forecast = found.forecasts["first", "jogging"]
    assert forecast.figures is None
    assert "9 of 40 forgotten samples came back: at least 10 that did" in " ".join(found.findings)


def test_what_shows_without_training_is_less_the_reference(shown: Durability) -> None:
    trips = shown.round_trips.set_index(["model", "bits"])
    assert trips.loc[("first", 4.0), "recovery"] == pytest.approx(0.2)
    assert trips.loc[("first", 4.0), "excess"] == pytest.approx(0.19)
    assert trips.loc[("first", 8.0), "recovery"] == pytest.approx(0)
    leaked = shown.leaks[shown.leaks["model"] == "first"]
    assert leaked["k"].tolist() == [1, 2, 4, 5]
    assert leaked["leak"].is_monotonic_increasing
    prompts = shown.prompts[shown.prompts["model"] == "first"].set_index("given")
    assert prompts["rouge"].tolist() == pytest.approx([0.15, 0.5, 0.25])
    # A sample of which nothing is left to write is not counted.
    assert prompts["n"].tolist() == [36, 35, 36]
    assert prompts["excess"].tolist() == pytest.approx([0, 0, 0])


def test_thirds_by_difficulty_part_the_forgotten_samples(shown: Durability) -> None:
    last = shown.survival[shown.survival["step"] == 4].set_index(["model", "attack", "group"]).sort_index()
    assert last.loc[("first", "benign"), "n"].to_dict() == {"all": 35, "hard": 12, "middle": 12, "easy": 11}
    still = last.loc[("first", "benign"), "still"]
    # Small MRD is hard, and here what is easy comes back.
    assert still["hard"] > still["middle"] > still["easy"]
    assert last.loc[("first", "control", "all"), "still"] == 1


@pytest.mark.parametrize(
    "parts", [(), *((part,) for part in ALL_PARTS), ("start", "course"), ("start", "round trip")]
)
def test_what_is_missing_is_no_obstacle(tmp_path: Path, parts: Sequence[str]) -> None:
    table = sample_table(SAMPLES)
    kept = {*parts, "kept"} if "course" in parts else set(parts)
    rows = [row for row in simulated(table.head(12)) if row["part"] in kept]
    found = judged(tmp_path, config(), rows, table, done=False)
    assert (found.verdict == NOTHING_YET) == ("course" not in parts)
    assert "The experiment has not finished" in found.caveats[0]


def test_the_command_line_tells_it(
    shown: Durability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evidence(*options: str) -> int:
        monkeypatch.setattr("sys.argv", ["mrd-lens", "evidence", str(directory), *options])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    monkeypatch.setattr("cli.evidence.out", Console(width=120))
    table = sample_table(SAMPLES)
    directory = durability_experiment(tmp_path / "run", config(), table, simulated(table))
    assert evidence() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "What is back at the last look" in printed
    assert "what foretells the gain after retain samples" in printed
    assert evidence("--json") == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert set(tables) == set(shown.tables)
    assert all(tables.values())


# The verdict

LINE = Comeback("first", "benign", 1, share(1, 60), share(1, 60), UNDEFINED, 16, 4, is_ruined=False)


def line(low: float, high: float, **changes: Any) -> Comeback:
    return replace(LINE, excess=Estimate((low + high) / 2, low, high, 60), **changes)


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ((), State.NOT_MEASURED),
        ((line(0.5, 0.9, attack="control"),), State.NOT_MEASURED),
        ((line(-0.05, 0.09),), State.HOLDS),
        # Nobody knows what became of the rest.
        ((line(-0.05, 0.09, is_ruined=None),), State.CANNOT_TELL),
        ((line(-0.05, 0.09), line(-0.02, 0.08, attack="jogging")), State.HOLDS),
        # The control is there to compare with.
        ((line(-0.05, 0.09), line(0.5, 0.9, attack="control")), State.HOLDS),
        ((line(-0.05, 0.11),), State.CANNOT_TELL),
        ((line(-0.05, 0.09), line(0.11, 0.4, attack="jogging")), State.FAILS),
        ((line(0.0, 0.09, of_reference=UNDEFINED),), State.CANNOT_TELL),
        ((line(0.2, 0.4, of_reference=UNDEFINED),), State.FAILS),
        ((line(-0.05, 0.09, is_ruined=True),), State.CANNOT_TELL),
        ((line(0.2, 0.4, is_ruined=True),), State.FAILS),
        ((line(float("nan"), float("nan"), share=UNDEFINED),), State.CANNOT_TELL),
    ],
)
def test_durable_has_its_rule(lines: tuple[Comeback, ...], state: State) -> None:
    assert durable("GradDiff", lines).state is state


def test_a_damaged_model_is_not_durable() -> None:
    verdict = durable("GradDiff", (line(-0.05, 0.09),), Rest.DAMAGED)
    assert verdict.state is State.DAMAGED
    assert verdict.sentence.startswith("GradDiff: of 60 forgotten samples 1 (2% [")
    # Nothing was tried: damage is told by the question before.
    assert durable("GradDiff", (), Rest.DAMAGED).state is State.NOT_MEASURED


def test_the_verdict_is_told_of_the_attack_that_brought_back_most() -> None:
    lines = [line(0.0, 0.05), line(0.3, 0.5, attack="jogging", of_reference=UNDEFINED)]
    sentence = durable("NPO", lines).sentence
    assert "training on 4 other forget samples" in sentence
    assert "learning is not told from remembering" in sentence


def test_every_sentence_is_whole(shown: Durability) -> None:
    for model, attack in product(("first", "second"), ("jogging", "benign", "control")):
        assert any(each.model == model and each.attack == attack for each in shown.lines)
    # What is said of each model stands with it, and of all what foretells the mean.
    (of_all,) = shown.findings
    assert of_all.startswith("Mean over 2 models, of ")
    findings = shown.of_models["second"]
    assert [finding.partition(" ")[0] for finding in findings] == [
        "Of",
        "Of",
        "Of",
        "Rounding",
        "A",
        "Of",
        "Which",
    ]
    assert all(finding[-1] == "." and "nan" not in finding for finding in findings)
    assert "a difference of" in findings[0]
    assert "to 8 bits little or nothing, MA +0.00 [+0.00, +0.00]; to 4 bits something, MA +0.20" in findings[3]
    assert list(shown.tables["findings"]["finding"]) == [*shown.of_models["first"], *findings]


# The report


def test_a_report_draws_what_comes_back(tmp_path: Path) -> None:
    table = sample_table(SAMPLES)
    wanted = config(("first", "second"))
    directory = durability_experiment(tmp_path / "run", wanted, table, simulated(table, runs=("first", "second")))
    section = experiment(Member(name="run", kind="durability", directory=directory))
    assert section.title.startswith("Durability: does what was forgotten come back")
    assert any(text.startswith("GradDiff, seed 1: Of ") for text in section.text)
    assert {"course_benign", "known_benign", "course_control", "foretold_1", "ties_3"} <= set(section.parts)
    course_of_benign = section.parts["course_benign"]
    assert isinstance(course_of_benign, Table)
    assert len(course_of_benign.rows) == 3 * len(LOOKS)
    for name, part in section.parts.items():
        if isinstance(part, Chart):
            origin = section.parts[part.table]
            assert isinstance(origin, Table)
            assert drawing.svg(part, origin), name
