"""Verdicts: planted effects get one, null features and small groups do not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.characteristics.claims import Claim, as_json, claims_frame, judge
from analysis.characteristics.strata import CRITERIA, Rule, Threshold
from analysis.statistics.groups import Measured
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import Units

COLUMNS = [criterion.features[0] for criterion in CRITERIA]


def features(generator: np.random.Generator, n: int) -> pd.DataFrame:
    """Return five features, a coarse count among them."""
    table = pd.DataFrame(generator.normal(size=(n, len(COLUMNS))), columns=COLUMNS)
    table["rare_words"] = generator.poisson(3, n)
    return table


def measured(generator: np.random.Generator, truth: np.ndarray) -> Measured:
    """Return noisy draws of a skewed truth, with noise of each sample and noise that all share."""
    noise = 0.2 * generator.normal(size=(16, len(truth))) + 0.2 * generator.normal(size=(16, 1))
    return Measured(Units.of(truth * (1 + noise)))


def by_name(claims: list[Claim]) -> dict[str, Claim]:
    """Return the claims by criterion."""
    return {claim.criterion.name: claim for claim in claims}


def planted(effects: dict[str, float], n: int = 160) -> dict[str, Claim]:
    """Judge a set whose log MRD rises by so much with each standard deviation of a feature."""
    generator = np.random.default_rng(1)
    table = features(generator, n)
    rise = sum(effect * stats.zscore(table[name]) for name, effect in effects.items())
    truth = np.exp(0.5 * generator.normal(size=n) + rise)
    return by_name(judge(table, measured(generator, truth), {}, {}))


def test_planted_effects_get_the_verdict_that_their_sign_calls_for() -> None:
    claims = planted({"semantic_complexity": 0.5, "rare_words": -0.5, "initial_probability": -0.5})
    verdicts = {name: claim.verdict for name, claim in claims.items()}
    assert verdicts == {
        "semantic_complexity": "agrees",
        "occurrence_frequency": "cannot tell",
        "initial_probability": "agrees",
        "rare_words": "disagrees",
        "association": "cannot tell",
    }
    assert claims["rare_words"].reason.startswith("smaller: difference in means -")
    assert "spans 0" in claims["association"].reason
    assert "after Holm's correction is not below 0.05" in claims["association"].reason


@pytest.mark.slow
def test_null_features_get_a_verdict_in_at_most_one_set_of_twenty() -> None:
    generator = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        table = features(generator, 120)
        run = measured(generator, np.exp(0.7 * generator.normal(size=120)))
        found += any(claim.verdict != "cannot tell" for claim in judge(table, run, {}, {}, replicates=100))
    assert found <= stats.binom.ppf(0.999, 200, 0.05)


def test_a_small_group_is_refused_and_does_not_count_in_holms_correction() -> None:
    generator = np.random.default_rng(3)
    table = features(generator, 100)
    table["rare_words"] = [9] * 4 + [0] * 96
    truth = np.where(table["rare_words"] > 3, 100.0, 1.0) * np.exp(0.1 * generator.normal(size=100))
    claims = by_name(judge(table, measured(generator, truth), {}, {}, replicates=100))
    refused = claims["rare_words"]
    assert refused.reason == "only 4 samples in the group “rare words”; a verdict needs 10"
    assert (refused.verdict, refused.n_high, refused.n_low) == ("cannot tell", 4, 96)
    assert refused.comparison is not None
    assert np.isnan(refused.p_holm)
    tested = [claim for claim in claims.values() if claim.testable]
    smallest = min(tested, key=lambda claim: claim.comparison.p)
    assert smallest.p_holm == pytest.approx(4 * smallest.comparison.p)


def test_samples_without_an_mrd_do_not_count_towards_a_group() -> None:
    generator = np.random.default_rng(4)
    table = pd.DataFrame({"rare_words": [5] * 12 + [0] * 30})
    units = 1 + generator.random((8, 42))
    units[:, :3] = np.nan
    claim = by_name(judge(table, Measured(Units.of(units)), {}, {}, replicates=50))["rare_words"]
    assert (claim.n_high, claim.n_low, claim.testable) == (9, 30, False)


def test_what_was_not_measured_is_said_to_need_something() -> None:
    table = pd.DataFrame({"rare_words": [0] * 20})
    claims = by_name(judge(table, Measured(Units.of(np.ones((4, 20)))), {}, {}))
    absent, flat = claims["occurrence_frequency"], claims["rare_words"]
    assert (absent.feature, absent.comparison, absent.spearman) == (None, None, None)
    assert absent.reason.startswith("not measured: it needs the training corpus")
    assert flat.reason == "no samples in the group “rare words”; a verdict needs 10"
    assert flat.comparison is None


def test_means_and_ranks_that_disagree_give_no_verdict() -> None:
    # Most of the high group lies below the low group, a few samples far above it.
    mrd = np.array([1.0] * 30 + [1000.0] * 20 + [10.0] * 50) + np.arange(100) * 1e-3
    table = pd.DataFrame({"rare_words": [5] * 50 + [0] * 50})
    claim = by_name(judge(table, Measured(Units.of(np.tile(mrd, (4, 1)))), {}, {}))["rare_words"]
    assert claim.comparison.cliffs_delta.value < 0
    assert claim.comparison.difference.low > 0
    assert (claim.verdict, "different directions" in claim.reason) == ("cannot tell", True)


def test_thresholds_and_averages_of_the_caller_are_used() -> None:
    generator = np.random.default_rng(5)
    table = features(generator, 60).assign(occurrences=np.arange(60))
    run = measured(generator, np.exp(generator.normal(size=60)))
    thresholds = {"rare_words": Threshold(Rule.MEDIAN)}
    claims = by_name(judge(table, run, thresholds, {"occurrences": 20.5}, replicates=50))
    frequency = claims["occurrence_frequency"]
    assert (frequency.level, frequency.n_high, frequency.n_low) == (20.5, 39, 21)
    assert frequency.rule == "above the average of the training corpus"
    assert claims["rare_words"].level == table["rare_words"].median()
    assert claims["rare_words"].rule == "above the median"


@pytest.fixture(scope="module")
def both() -> dict[Normalisation, list[Claim]]:
    """Claims under both normalisations; nothing is known of occurrences or association."""
    generator = np.random.default_rng(6)
    table = features(generator, 60).drop(columns=["occurrences", "association"])
    runs = {name: measured(generator, np.exp(generator.normal(size=60))) for name in Normalisation}
    return {name: judge(table, run, {}, {}, replicates=50) for name, run in runs.items()}


def test_the_frame_has_a_row_per_criterion_and_normalisation(both: dict[Normalisation, list[Claim]]) -> None:
    frame = claims_frame(both).set_index(["criterion", "normalisation"])
    assert len(frame) == len(CRITERIA) * len(Normalisation)
    claim = by_name(both[Normalisation.SUM])["rare_words"]
    row = frame.loc[("rare_words", "sum")]
    assert (row["difference"], row["low"], row["high"]) == claim.comparison.difference[:3]
    assert (row["spearman"], row["spearman_low"], row["spearman_high"]) == claim.spearman[:3]
    assert (row["cliffs_delta"], row["cliffs_low"], row["cliffs_high"]) == claim.comparison.cliffs_delta[:3]
    assert (row["mean_high"], row["median_low"]) == (
        claim.comparison.mean_high.value,
        claim.comparison.median_low.value,
    )
    absent = frame.loc[("association", "mean")]
    assert absent["this_model"] == "not measured"
    assert absent[["difference", "p", "spearman"]].isna().all()


def test_the_json_has_the_chosen_normalisation_flat_and_both_beneath(
    both: dict[Normalisation, list[Claim]],
) -> None:
    found = json.loads(json.dumps(as_json(both, Normalisation.SUM), allow_nan=False))
    assert list(found) == [criterion.name for criterion in CRITERIA]
    complexity = found["semantic_complexity"]
    nested = complexity.pop("by_normalisation")
    assert complexity == nested["sum"] != nested["mean"]
    promised = {"n_high", "n_low", "difference", "low", "high", "cliffs_delta", "p_holm", "verdict"}
    assert promised <= set(complexity)
    assert found["association"]["difference"] is None
    assert found["association"]["n_high"] == 0
