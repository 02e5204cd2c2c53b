"""Experiments are judged by what their rows say: known answers, hand-worked examples, every degenerate state."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from analysis.evidence.headlines import headlines
from analysis.evidence.kinds import evidence_of
from analysis.evidence.kinds.parameter_change import ParameterChange
from analysis.evidence.kinds.selection import Selection
from analysis.evidence.kinds.sensitivity import Sensitivity
from analysis.evidence.kinds.theorem import Theorem
from analysis.evidence.kinds.validity import Validity
from analysis.evidence.league import rows_drawn
from analysis.evidence.measurements import NOTHING_YET, read_measurements
from analysis.evidence.updates import (
    mean_rank,
    per_sample,
    spread,
    until,
    updates_until,
    with_something_to_forget,
)
from analysis.export.evidence import evidence_json
from cli.door import main
from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.validity import UNLEARNING as UNLEARNINGS
from mrd_core.runs.directory import write_config
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES
from tests.support.evidence_experiments import (
    CAP,
    CHANGE,
    RANDOM_AND_BALANCED,
    SELECTION,
    SENSITIVITY,
    SIGMAS,
    THEOREM,
    VALIDITY,
    Rows,
    change_rows,
    collateral_rows,
    every_experiment,
    experiment,
    sample_table,
    selection_rows,
    sensitivity_rows,
    theorem_rows,
    unlearned,
    validity_rows,
)

# Of so many samples so many are unlearned: few, since each judgement draws them anew a thousand times.
SAMPLES, UNLEARNED = 50, 34
WITH_RIVALS = ("mrd_answer_mean", "gradient_norm", "nll", "answer_tokens")
ALL = (VALIDITY, CHANGE, SELECTION, SENSITIVITY, THEOREM)


def judged(folder: Path, config: ExperimentConfig, rows: Rows, table: pd.DataFrame | None = None) -> Any:
    """Judge an experiment of 40 samples with these rows, and see that it can be written as JSON."""
    directory = experiment(folder / "run", config, sample_table(40) if table is None else table, rows)
    found = read_measurements(directory)
    shown = evidence_of(found)
    assert_plain(evidence_json(found, shown))
    return shown


def assert_plain(content: dict[str, Any]) -> None:
    """See that JSON takes it, and that every sentence is one."""
    text = json.dumps(content, allow_nan=False)
    for sentence in [content["verdict"], content["paper"], *content["findings"], *content["caveats"]]:
        assert sentence[-1] == "."
        assert "nan" not in sentence
    assert json.loads(text) == content


def repeats_of(*runs: tuple[float, bool, bool]) -> pd.DataFrame:
    """Return repeats of one sample: updates, forgotten, diverged."""
    return pd.DataFrame(runs, columns=["updates", "forgotten", "diverged"]).assign(sample_id="a")


# Updates per sample


@pytest.mark.parametrize(
    ("runs", "updates", "censored"),
    [
        ([(10, True, False), (30, True, False), (14, True, False)], 14, False),
        # The median of 10, 30 and more than 200 is known, that of 10 and twice more than 200 is not.
        ([(10, True, False), (30, True, False), (200, False, False)], 30, False),
        ([(10, True, False), (200, False, False), (200, False, False)], 200, True),
        ([(10, True, False), (200, False, False)], 105, True),
        # What diverged says nothing.
        ([(10, True, False), (3, False, True), (12, True, False)], 11, False),
    ],
)
def test_a_sample_takes_the_median_of_its_repeats(
    runs: list[tuple[float, bool, bool]], updates: float, censored: bool
) -> None:
    row = per_sample(repeats_of(*runs)).iloc[0]
    assert (row["updates"], row["censored"]) == (updates, censored)


def test_a_sample_that_always_diverged_is_left_out_and_counted() -> None:
    rows = repeats_of((5, False, True), (6, False, True))
    outcomes = per_sample(rows)
    assert outcomes.empty
    assert spread(rows, outcomes).diverged == 2


def test_updates_until_another_threshold_are_read_from_the_trace() -> None:
    trace = [1.0, 0.9, 0.8, 0.6, 0.45]
    # MA of 0.9 is not below 0.9: two updates are.
    assert [updates_until(trace, level) for level in (1.01, 0.9, 0.75, 0.5)] == [0, 2, 3, 4]
    assert np.isnan(updates_until(trace, 0.4))


def test_a_run_that_never_got_so_far_is_censored_where_it_ended() -> None:
    rows = repeats_of((4, True, False), (4, False, False)).assign(trace=[[1.0, 0.9, 0.7, 0.6, 0.4], [1.0] * 5])
    found = until(rows, 0.75)
    assert found["updates"].tolist() == [2, 4]
    assert found["forgotten"].tolist() == [True, False]
    assert until(rows.assign(trace=None), 0.75).empty


def test_ranks_of_arms_are_averaged_with_censored_samples_on_top() -> None:
    updates = pd.DataFrame({"GA": [5.0, 9, 9, 1], "NPO": [1.0, 2, 3, np.nan]}, index=list("abcd"))
    censored = pd.DataFrame({"GA": [False, True, True, False], "NPO": [False] * 4}, index=list("abcd"))
    # Of a, b, c: ranks 1, 2.5, 2.5 and 1, 2, 3, over three samples.
    assert mean_rank(updates, censored).to_dict() == pytest.approx({"a": 1 / 3, "b": 0.75, "c": 5.5 / 6})


def test_an_experiment_of_an_earlier_version_is_read_without_the_measures_that_it_lacks(tmp_path: Path) -> None:
    table = sample_table(12)
    directory = experiment(tmp_path / "run", VALIDITY, table, validity_rows(table))
    measures = ExperimentFiles(directory).measures
    pd.read_parquet(measures).drop(columns="margin_share").to_parquet(measures)
    samples = read_measurements(directory).samples
    assert samples["margin_share"].isna().all()
    assert samples["nll"].tolist() == table["nll"].tolist()


def test_what_an_experiment_measures_by_its_retain_set_is_a_measure_of_its_samples(tmp_path: Path) -> None:
    table = sample_table(12)
    norms = {"s003": 0.5, "s001": None, "s007": 2.0}
    own = [{"part": "fisher", "sample_id": name, "fisher_norm": norm} for name, norm in norms.items()]
    for rows, expected in ((validity_rows(table), {}), (validity_rows(table) + own, {"s003": 0.5, "s007": 2.0})):
        directory = experiment(tmp_path / str(len(expected)), VALIDITY, table, rows)
        measurements = read_measurements(directory)
        column = measurements.samples.set_index("sample_id")["fisher_norm"].dropna()
        assert column.to_dict() == expected
        assert len(measurements.part(UNLEARNINGS)) == len(validity_rows(table))


# Validity


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return sample_table(SAMPLES)


@pytest.fixture(scope="module")
def two_arms(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> Validity:
    rows = validity_rows(table[:UNLEARNED], noise=0.3, methods=("ga", "simnpo"), repeats=2)
    shown = judged(tmp_path_factory.mktemp("validity"), VALIDITY, rows, table)
    assert isinstance(shown, Validity)
    return shown


@pytest.mark.slow
def test_the_measure_that_updates_were_made_from_comes_first(two_arms: Validity) -> None:
    for arm in two_arms.arms:
        first = arm.league.table[arm.league.table["family"] != "combination"].iloc[0]
        assert first["measure"] == "mrd_answer_mean"
        assert first["verdict"] == "predicts updates as expected"
        mrd = arm.samples.set_index("sample_id")["mrd_answer_mean"]
        outcome = arm.samples["updates"].mask(arm.samples["censored"], np.inf)
        assert first["rho"] == pytest.approx(stats.spearmanr(mrd, outcome).statistic)
        assert first["cost"] == 26
    assert two_arms.all_arms is not None
    assert two_arms.all_arms.table["measure"].iloc[0] in ("mrd_answer_mean", "combination_with_mrd")


def test_a_headline_is_the_row_of_the_league_in_a_line(two_arms: Validity) -> None:
    arm = two_arms.arms[0]
    assert arm.headline.estimate == arm.league.rho("mrd_answer_mean")
    rho = arm.headline.estimate
    figures = f"ρ = {rho.value:.2f} [{rho.low:.2f}, {rho.high:.2f}]".replace("-", "−")
    assert arm.headline.text.startswith(f"MRD predicts updates: {figures}, n = {UNLEARNED}")
    assert arm.headline.text.endswith(", GA (AdamW)")


def test_mrd_adds_to_cheap_measures_that_know_nothing(two_arms: Validity) -> None:
    arm = two_arms.arms[0]
    assert arm.league.mrd_adds.low > 0
    assert arm.league.combined["combination_with_mrd"].held_out.low > 0
    assert not arm.league.combined["combination"].held_out.excludes_zero
    costs = arm.league.table.set_index("measure")["cost"]
    # One pass for the plain measures, 2.2 for the gradient, and 2 + 24 for MRD.
    assert costs[["combination", "combination_with_mrd"]].tolist() == pytest.approx([3.2, 29.2])


def test_every_other_sample_gets_a_prediction_and_every_pilot_sample_a_held_out_one(two_arms: Validity) -> None:
    arm = two_arms.arms[0]
    assert set(arm.predictions["sample_id"]) == {f"s{at:03d}" for at in range(UNLEARNED, SAMPLES)}
    for found, middle in ((arm.predictions, "updates"), (arm.samples, "predicted")):
        assert ((found["low"] <= found[middle]) & (found[middle] <= found["high"])).all()
    inside = arm.samples["updates"].between(arm.samples["low"], arm.samples["high"])
    assert inside[~arm.samples["censored"]].mean() >= 0.85


def test_a_length_that_makes_the_updates_takes_all_credit_from_mrd(tmp_path: Path, table: pd.DataFrame) -> None:
    made = table.assign(mrd_answer_mean=1 / table["answer_tokens"])
    rows = validity_rows(made[:20], "mrd_answer_mean", noise=0.3)
    shown = judged(tmp_path, VALIDITY, rows, made)
    assert "MRD predicts updates as expected" in shown.verdict
    assert shown.findings[0].startswith("MRD predicts updates no better than length")
    why = shown.arms[0].why.set_index(["measure", "relation"])
    assert why.loc[("mrd_answer_mean", "MRD and length"), "rho"] == pytest.approx(-1)
    assert np.isnan(why.loc[("mrd_answer_mean", "MRD and updates, length held"), "rho"])


def test_the_opposite_is_said_to_be_the_opposite(tmp_path: Path, table: pd.DataFrame) -> None:
    rows = validity_rows(table.assign(driver=1 / table["mrd_answer_mean"])[:20], "driver")
    shown = judged(tmp_path, VALIDITY, rows, table)
    assert shown.arms[0].headline.text.startswith("MRD predicts the opposite: ρ = 0.")
    assert "the opposite of what is expected" in shown.verdict


def test_noise_is_said_to_be_unknown_or_nothing(tmp_path: Path, table: pd.DataFrame) -> None:
    few = judged(tmp_path / "few", VALIDITY, validity_rows(table[:12], "entropy"), table)
    assert few.arms[0].headline.text.startswith("Cannot tell whether MRD predicts updates: ρ")
    assert any("12 samples only" in caveat for caveat in few.caveats)
    large = sample_table(500, seed=5)
    many = headlines(experiment(tmp_path / "many", VALIDITY, large, validity_rows(large, "entropy")))
    assert many[0].text.startswith("MRD does not predict updates, or weakly at most: ρ")


def test_repeats_bound_what_a_measure_can_reach(two_arms: Validity) -> None:
    repeatability = two_arms.arms[0].repeatability
    assert 0.95 < repeatability.value <= 1
    assert any("over repeats the updates have reliability" in caveat for caveat in two_arms.caveats)


def test_earlier_stops_are_those_above_the_runs_own(two_arms: Validity) -> None:
    stops = two_arms.arms[0].stops
    assert stops["threshold"].drop_duplicates().tolist() == [0.9, 0.75, 0.5]
    own = stops[(stops["threshold"] == 0.5) & (stops["measure"] == "mrd_answer_mean")].iloc[0]
    assert own["rho"] == pytest.approx(two_arms.arms[0].headline.estimate.value)
    # A trace that falls evenly is below any threshold in the same order.
    assert (stops.loc[stops["measure"] == "mrd_answer_mean", "rho"] < -0.5).all()


@pytest.mark.parametrize(
    ("sign", "noise", "answer"),
    [
        (1.0, 0.1, "Entanglement predicts the loss of the retain set as expected"),
        (-1.0, 0.1, "Entanglement predicts the opposite of the loss of the retain set"),
        (0.0, 1.0, "It cannot be told whether entanglement predicts the loss of the retain set"),
    ],
)
def test_what_predicts_the_loss_of_the_retain_set(tmp_path: Path, sign: float, noise: float, answer: str) -> None:
    table = sample_table(12)
    rows = collateral_rows(validity_rows(table, "entropy", repeats=2), sign=sign, noise=noise)
    shown = judged(tmp_path, VALIDITY, rows, table)
    assert isinstance(shown, Validity)
    arm = shown.arms[0]
    found = arm.collateral
    assert any(finding.startswith(f"{answer} (ρ = ") for finding in shown.findings)
    # By hand, of the rows as they were written.
    before = np.array([row["nll"] for row in rows if row["part"] == "retain"])
    foretold = {row["sample_id"]: row["products"] for row in rows if row["part"] == "entanglement"}
    changes = {row["sample_id"]: row["retain_nll"] - before for row in rows if row["part"] == "unlearning"}
    own = [stats.spearmanr(foretold[sample], changes[sample]).statistic for sample in foretold]
    assert found.rows.value == pytest.approx(np.mean(own))
    means = [(np.mean(foretold[sample]), changes[sample].mean()) for sample in foretold]
    expected = stats.spearmanr(*zip(*means, strict=True)).statistic
    assert found.rho("entanglement").value == pytest.approx(expected)
    assert found.samples["nearest"].eq("r1, r0").all()
    assert set(found.table["measure"]) == {*ENTANGLEMENT_MEASURES, *WITH_RIVALS}
    if sign:
        assert np.sign(found.rows.low) == np.sign(found.own.low) == sign
    if not sign:
        assert found.own.low < 0 < found.own.high
    assert "entanglement" in set(arm.league.table["measure"])
    assert [name for name in shown.brief if "loss of the retain set" in name]
    assert set(shown.tables["collateral"]["arm"]) == {arm.name}


def test_an_experiment_that_did_not_look_at_the_retain_set_says_nothing_of_it(two_arms: Validity) -> None:
    assert all(arm.collateral.table.empty and not arm.collateral.findings for arm in two_arms.arms)
    assert not {"collateral", "retain_losses"} & two_arms.tables.keys()
    assert not [name for name in two_arms.brief if "retain set" in name]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Validity:
    """One run censored, one diverged, a whole arm diverged, no gradient norms."""
    table = sample_table(20).assign(gradient_norm=np.nan, gradient_norm_sum=np.nan)
    rows = validity_rows(table, noise=0.1)
    rows[0] |= {"updates": CAP, "forgotten": False}
    rows[1] |= {"diverged": True, "updates": 3, "forgotten": False}
    rows += [unlearned(f"s{at:03d}", 3, "simnpo", diverged=True) for at in range(9)]
    shown = judged(tmp_path_factory.mktemp("damaged"), VALIDITY, rows, table)
    assert isinstance(shown, Validity)
    return shown


def test_caveats_count_what_is_censored_and_what_diverged(damaged: Validity) -> None:
    censored = damaged.arms[0].spread.n_censored
    assert (
        f"GA (AdamW): {censored} of 19 samples were not forgotten within 200 updates (censored)."
        in damaged.caveats
    )
    assert any("GA (AdamW): 1 runs diverged" in caveat for caveat in damaged.caveats)
    assert any("GA (AdamW) 3e-05" in caveat for caveat in damaged.caveats)


def test_updates_that_hardly_vary_are_pointed_out(tmp_path: Path, table: pd.DataFrame) -> None:
    rows = [unlearned(name, 20 + at % 3) for at, name in enumerate(table["sample_id"][:9])]
    shown = judged(tmp_path, VALIDITY, rows, table)
    assert any("updates hardly vary (3 different outcomes from 20 to 22)" in each for each in shown.caveats)


@pytest.mark.parametrize(
    ("updates", "said"),
    [
        ([CAP] * 20, "none of 20 samples was forgotten"),
        ([17] * 20, "all 20 samples took the same number of updates"),
        ([5, 6, 7], "3 samples are not enough"),
    ],
)
def test_nothing_to_predict_is_said_and_does_no_harm(tmp_path: Path, updates: list[int], said: str) -> None:
    rows = [unlearned(f"s{at:03d}", count) for at, count in enumerate(updates)]
    shown = judged(tmp_path, VALIDITY, rows)
    assert said in shown.verdict
    assert said in shown.arms[0].headline.text


def test_an_arm_that_only_diverged_beside_one_that_ran(damaged: Validity) -> None:
    assert "every run diverged" in damaged.arms[1].headline.text
    assert "it cannot be told whether MRD predicts updates in 1 of 2 arms (SimNPO (AdamW))" in damaged.verdict
    assert damaged.findings == tuple(arm.verdict for arm in damaged.arms)


def test_gradient_norms_may_be_missing(damaged: Validity) -> None:
    assert "gradient" not in set(damaged.arms[0].league.table["family"])
    assert any("Gradient norms were not measured" in caveat for caveat in damaged.caveats)


def test_a_chart_of_measures_reaches_down_to_mrd() -> None:
    table = pd.DataFrame({"measure": [*map(str, range(20)), "mrd_answer_mean"]})
    assert [rows_drawn(table, measure) for measure in ("3", "mrd_answer_mean", "none")] == [12, 21, 12]


def test_headlines_say_of_each_arm_what_its_league_says(tmp_path: Path) -> None:
    table = sample_table(60)
    directory = experiment(
        tmp_path / "run", VALIDITY, table, validity_rows(table, methods=("ga", "simnpo"), repeats=3)
    )
    found = headlines(directory)
    assert [line.method for line in found] == ["ga", "simnpo"]
    arms = evidence_of(read_measurements(directory)).arms  # type: ignore[attr-defined]
    for line, arm in zip(found, arms, strict=True):
        assert line.estimate[:3] == pytest.approx(arm.league.rho(line.measure)[:3])
        assert line.rival[:3] == pytest.approx(arm.league.rho("median_log_odds")[:3])
        assert np.isfinite(line.rival.low)


# Every experiment, in every state


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.kind)
def test_an_experiment_that_has_not_begun_has_nothing_to_show(tmp_path: Path, config: ExperimentConfig) -> None:
    write_config(tmp_path, config)
    found = read_measurements(tmp_path)
    shown = evidence_of(found)
    assert shown.verdict == NOTHING_YET
    assert "has not finished" in shown.caveats[0]
    assert_plain(evidence_json(found, shown))
    assert headlines(tmp_path) == []


def test_a_running_experiment_shows_what_it_has(tmp_path: Path) -> None:
    table = sample_table(40)
    rows = validity_rows(table)
    directory = experiment(tmp_path / "run", VALIDITY, table, rows[:15], done=False)
    found = read_measurements(directory)
    assert not found.finished
    assert headlines(directory)[0].estimate.n == 15
    calibration = [row | {"part": "calibration"} for row in rows[:3]]
    early = read_measurements(experiment(tmp_path / "early", VALIDITY, table, calibration, done=False))
    assert evidence_of(early).verdict == NOTHING_YET


def test_what_is_no_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a readable"):
        read_measurements(tmp_path)


# Parameter change


def test_harder_composites_move_the_weights_further(tmp_path: Path) -> None:
    table = sample_table(80)
    shown = judged(tmp_path, CHANGE, change_rows(table, censored=lambda at: at == 0), table)
    assert isinstance(shown, ParameterChange)
    assert "harder composites (smaller mean MRD) move the weights further" in shown.verdict
    changes = shown.composites["mean_absolute_change"]
    assert f"{changes.min():.3g} to {changes.max():.3g} over 40 composites" in shown.findings[0]
    assert "with the total tokens held, the relation to MRD remains" in shown.findings[1]
    first = shown.composites.iloc[0]
    ids = change_rows(table)[0]["sample_ids"]
    drawn = [table.set_index("sample_id").loc[name] for name in ids]
    assert first["mean_mrd"] == pytest.approx(np.mean([row["mrd_answer_mean"] for row in drawn]))
    assert first["total_tokens"] == sum(row["answer_tokens"] for row in drawn)
    rho = shown.correlations.set_index("predictor")["rho"]
    change = shown.composites["mean_absolute_change"]
    assert rho["mean_nll"] == pytest.approx(stats.spearmanr(change, shown.composites["mean_nll"]).statistic)
    assert shown.distribution["composites"].sum() == 40
    assert "GA (AdamW): 1 of 40 composites were not forgotten within 200 updates (censored)." in shown.caveats
    assert any(caveat.startswith("10 composites were unlearned as a batch") for caveat in shown.caveats)


@pytest.mark.parametrize("n", [1, 3])
def test_few_composites_tell_nothing(tmp_path: Path, n: int) -> None:
    shown = judged(tmp_path, CHANGE, change_rows(sample_table(40), n))
    assert f"cannot be told whether the change goes with MRD, from n = {n}" in shown.verdict


# Selection


def test_flips_are_those_counted_by_hand(tmp_path: Path) -> None:
    shown = judged(tmp_path, SELECTION, selection_rows(RANDOM_AND_BALANCED))
    assert isinstance(shown, Selection)
    pairs = shown.pairs.set_index(["size", "metric", "scheme"])
    # GA leads but for the second random selection; balanced it always leads.
    assert pairs.loc[("group", "retain_accuracy", "random"), ["flips", "n", "share"]].tolist() == [1, 5, 0.2]
    assert pairs.loc[("group", "retain_accuracy", "balanced"), "flips"] == 0
    # Updates are the same for both methods: ties are no flips.
    assert pairs.loc[("group", "updates", "random"), ["ties", "flips"]].tolist() == [5, 0]
    spread = shown.balanced_spread[shown.balanced_spread["metric"] == "retain_accuracy"].set_index("method")
    assert spread.loc["GA (AdamW)", "ratio"] == pytest.approx(0.1)
    assert "changes which of two methods looks better in 1 of 4 comparisons" in shown.verdict
    assert [finding.split(":")[0] for finding in shown.findings[:4]] == [
        f"{metric}, groups" for metric in ("Updates", "Retain MA", "Retain NLL", "Forget NLL")
    ]
    assert "the order flips in 1 of 5 selections, 20% [" in shown.findings[1]
    assert "the order flips in 0 of 5 selections, 0% [" in shown.findings[0]
    assert shown.metrics == ("updates", "retain_accuracy", "retain_nll", "forget_nll")


def test_selections_without_a_retain_set_or_a_second_method(tmp_path: Path) -> None:
    alone = {case: values for case, values in RANDOM_AND_BALANCED.items() if case[2] == "ga"}
    shown = judged(tmp_path / "alone", SELECTION, selection_rows(alone, retain=False))
    assert "no selection was run with two" in shown.verdict
    assert shown.metrics == ("updates", "forget_nll")
    assert any("Without a retain set" in caveat for caveat in shown.caveats)
    random = {case: values for case, values in RANDOM_AND_BALANCED.items() if case[0] == "random"}
    running = judged(tmp_path / "running", SELECTION, selection_rows(random))
    assert running.balanced_pairs.empty
    ended = [row | {"diverged": True} for row in selection_rows(random)]
    assert judged(tmp_path / "ended", SELECTION, ended).verdict == NOTHING_YET


# Sensitivity


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    table = sample_table(40)
    shown = judged(tmp_path_factory.mktemp("sensitivity"), SENSITIVITY, sensitivity_rows(table, SIGMAS), table)
    assert isinstance(shown, Sensitivity)
    return shown


def test_the_regime_lies_between_floor_and_quartic(sensitive: Sensitivity) -> None:
    regime = sensitive.regimes["float32", "mean"]
    assert (regime.low, regime.high) == (1e-4, 3e-3)
    assert np.isnan(sensitive.regimes["bfloat16", "mean"].low) or sensitive.regimes["bfloat16", "mean"].low >= 1e-3
    floors = sensitive.floors.set_index(["dtype", "normalisation"])["least_sigma"]
    assert floors["float32", "mean"] < floors["bfloat16", "mean"]
    assert "MRD (mean) grows as σ² from σ = 1e-04 to 3e-03 in float32" in sensitive.verdict


def test_rankings_are_held_against_the_finest_at_the_sigma_of_the_scores(sensitive: Sensitivity) -> None:
    assert (sensitive.reference_sigma, sensitive.reference_dtype) == (1e-3, "float32")
    rho = sensitive.sigmas[sensitive.sigmas["normalisation"] == "mean"].set_index(["dtype", "sigma"])["rho"]
    assert rho["float32", 1e-3] == pytest.approx(1)
    # What rounding alone has ranked.
    assert abs(rho["bfloat16", 1e-5]) < 0.4


def test_pairs_need_fewer_evaluations(sensitive: Sensitivity) -> None:
    assert any("the mean over tokens takes more plain evaluations" in each for each in sensitive.findings)
    suffices = sensitive.suffices.set_index(["mode", "normalisation"])["evaluations"]
    assert suffices["antithetic", "mean"] <= 12
    assert np.isnan(suffices["plain", "mean"])
    at = sensitive.evaluations.set_index(["mode", "normalisation", "evaluations"])
    assert at.loc[("antithetic", "mean", 8), "blocks"] == 6
    assert at.loc[("plain", "mean", 48), "relative_se"] > 5 * at.loc[("antithetic", "mean", 48), "relative_se"]
    # With one number of tokens mean and sum rank alike.
    assert at.loc[("plain", "sum", 24), "reliability"] == pytest.approx(
        at.loc[("plain", "mean", 24), "reliability"]
    )


@pytest.mark.parametrize("part", ["sigma", "draws", "floor"])
def test_sensitivity_shows_the_parts_that_are_there(tmp_path: Path, part: str) -> None:
    rows = [row for row in sensitivity_rows(sample_table(40), SIGMAS[:2], 7) if row["part"] == part]
    shown = judged(tmp_path, SENSITIVITY, rows)
    assert shown.sigmas.empty == (part != "sigma")
    assert shown.evaluations.empty == (part != "draws")


# Theorem


@pytest.mark.parametrize(("factor", "said"), [(1.0, "as the theorem says"), (0.7, "MRD/σ² is less than half")])
def test_the_theorem_is_held_against_its_slope(tmp_path: Path, factor: float, said: str) -> None:
    shown = judged(tmp_path, THEOREM, theorem_rows(factor=factor))
    assert isinstance(shown, Theorem)
    assert said in shown.verdict
    assert "Rank correlation" in shown.findings[0]
    slope = shown.slope.through_origin
    assert slope.low < factor < slope.high
    first = shown.samples.iloc[0]
    values = [row["value"] for row in theorem_rows() if row["part"] == "trace" and row["sample_id"] == "s000"]
    assert first["half_trace"] == pytest.approx(abs(np.mean(values)) / 2)
    assert first["half_trace_se"] == pytest.approx(stats.sem(values) / 2)
    assert shown.samples["same_sign"].all()
    assert shown.correlation.value == pytest.approx(1)


def test_a_theorem_of_few_or_half_measured_samples(tmp_path: Path) -> None:
    assert "n = 2" in judged(tmp_path / "few", THEOREM, theorem_rows(2)).verdict
    traces = [row for row in theorem_rows() if row["part"] == "trace"]
    assert judged(tmp_path / "half", THEOREM, traces).verdict == NOTHING_YET


# The command line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return every_experiment(tmp_path_factory.mktemp("experiments"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command in this process and return how it ended."""
    monkeypatch.setattr("sys.argv", ["mrd-lens", "evidence", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_json_has_an_object_for_each_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: list[Path], tmp_path: Path
) -> None:
    assert run(monkeypatch, *finished, "--json", "--out", tmp_path / "tables") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["experiment"] for each in shown] == [config.kind for config in ALL]
    for each in shown:
        assert_plain(each)
        assert set(each) >= {"verdict", "findings", "caveats", "paper", "tables", "finished"}
        assert all(each["tables"].values())
    written = {path.name for path in (tmp_path / "tables").iterdir()}
    promised = {
        f"{path.name}-{name}.csv" for path, each in zip(finished, shown, strict=True) for name in each["tables"]
    }
    assert written == promised
    league = pd.read_csv(tmp_path / "tables" / "validity-league.csv")
    assert set(league["arm"]) == {"GA (AdamW)", "SimNPO (AdamW)", "All arms"}


@pytest.mark.slow
def test_without_json_the_verdict_is_printed_with_its_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: list[Path]
) -> None:
    monkeypatch.setattr("cli.evidence.out", Console(width=120))
    assert run(monkeypatch, *finished) == 0
    lines = capsys.readouterr().out.splitlines()
    printed = " ".join(" ".join(lines).split())
    assert "harder composites (smaller mean MRD) move the weights further" in printed
    assert "as the theorem says" in printed
    for title in ("GA (AdamW): the 5 best measures, MRD and length", "Over composites", "Mean over tokens"):
        assert title in printed
    # An interval is on one line, and the best of the league is the first row.
    assert any(re.search(r"1\. .+ [+−]0\.\d\d \[[+−]0\.\d\d, [+−]\d\.\d\d\]", line) for line in lines)
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.kind)
def test_before_the_first_result_nothing_is_printed(tmp_path: Path, config: ExperimentConfig) -> None:
    assert not any(len(table) for table in judged(tmp_path, config, []).brief.values())


def test_samples_without_a_token_that_counts_do_not_make_a_ranking_reliable(
    tmp_path: Path, sensitive: Sensitivity
) -> None:
    rows = sensitivity_rows(sample_table(40), SIGMAS)
    drawn = [row for row in rows if row["part"] == "draws"]
    lost = [row | {"sample_id": f"x{row['sample_id']}", "relative": 0.0, "n_tokens": 0} for row in drawn]
    pd.testing.assert_frame_equal(judged(tmp_path, SENSITIVITY, rows + lost).evaluations, sensitive.evaluations)


def test_what_is_printed_is_what_was_found(two_arms: Validity, sensitive: Sensitivity) -> None:
    league = two_arms.brief["GA (AdamW): the 5 best measures, MRD and length"]
    first = two_arms.arms[0].league.table.iloc[0]
    figures = f"{first['rho']:+.2f} [{first['low']:+.2f}, {first['high']:+.2f}]"
    assert league.iloc[0, 1] == figures.replace("-", "−")
    assert sum("MRD (mean)" in name or "Length" in name for name in league["measure"]) >= 1
    assert list(sensitive.brief["Mean over tokens"]["σ"].unique()) == [f"{sigma:g}" for sigma in SIGMAS]


def test_the_command_refuses_what_it_cannot_judge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: list[Path], tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path) == 2
    assert "config.json" in capsys.readouterr().err
    assert run(monkeypatch, finished[0], finished[0], "--out", tmp_path / "tables") == 2
    assert "two directories" in capsys.readouterr().err


def test_samples_that_are_forgotten_before_the_first_update_are_left_out() -> None:
    rows = repeats_of((0, True, False), (5, True, False), (0, False, True))
    assert with_something_to_forget(rows)["updates"].tolist() == [5, 0]
    assert len(with_something_to_forget(rows[:1])) == 1
