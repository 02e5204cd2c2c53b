"""What is concluded from a scored and read forget set agrees with the samples it is concluded from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.characteristics import judgement as judging
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import CharacteristicsFiles
from analysis.characteristics.job import characteristics_job
from analysis.characteristics.judgement import (
    EXAMPLES,
    GROUP_COLUMNS,
    TERM_COLUMNS,
    TOKENS,
    Judgement,
    claims_json,
    claims_table,
    group_table,
    judged,
    regression_frame,
    remains,
    replicates_for,
)
from analysis.characteristics.runs import Characterised, characterised
from analysis.characteristics.strata import CRITERIA, Rule, Threshold
from analysis.difficulty import Variant
from analysis.export.characteristics import exports
from analysis.statistics.groups import Measured
from mrd_core.runs import JobContext
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import Units
from tests.support.scored_demo import ROWS, scored_demo

pytestmark = pytest.mark.slow

MOVED = {
    "rare_words": Threshold(Rule.FIXED, 2),
    "semantic_complexity": Threshold(Rule.MEDIAN),
    "association": Threshold(Rule.MEAN),
}


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A score run of the demo and the directory of its reading."""
    score_run, directory = scored_demo(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("reading")
    config = CharacteristicsConfig(score_run=score_run, corpus=ForgetSetConfig(source="demo"))
    characteristics_job(config, JobContext(directory))
    return score_run, directory


@pytest.fixture(scope="module")
def found(reading: tuple[Path, Path]) -> Characterised:
    return characterised(*reading, Variant())


@pytest.fixture(scope="module")
def judgement(found: Characterised) -> Judgement:
    return judged(found, {})


def part(found: Characterised, rows: slice) -> Characterised:
    """Return the same of some of the samples."""
    measured = {name: Measured(measured.units.at(rows)) for name, measured in found.measured.items()}
    return replace(found, table=found.table[rows].reset_index(drop=True), measured=measured)


def test_every_file_of_a_score_run_is_read_once(
    reading: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read = pd.read_parquet

    def counted(path: Path, **options: Any) -> pd.DataFrame:
        reads[path.name] += 1
        return read(path, **options)

    monkeypatch.setattr(pd, "read_parquet", counted)
    characterised(*reading, Variant())
    assert reads == dict.fromkeys(("draws.parquet", "probes.parquet", "scores.parquet", "measures.parquet"), 1)


def test_the_claims_are_judged_under_both_normalisations(found: Characterised, judgement: Judgement) -> None:
    assert set(judgement.claims) == set(Normalisation)
    for claims in judgement.claims.values():
        assert [claim.criterion for claim in claims] == list(CRITERIA)
    mean, total = judgement.claims[Normalisation.MEAN], judgement.claims[Normalisation.SUM]
    assert [claim.level for claim in mean] == [claim.level for claim in total]
    assert judgement.shown is mean
    for name, claims in judgement.claims.items():
        for claim in claims:
            high = judgement.strata[claim.criterion.name] == "high"
            mrd = found.measured[name].mrd
            assert claim.comparison is not None
            assert claim.comparison.difference.value == pytest.approx(mrd[high].mean() - mrd[~high].mean())


def test_the_scores_that_are_looked_at_choose_the_claims_that_are_shown(reading: tuple[Path, Path]) -> None:
    by_sum = judged(characterised(*reading, Variant(normalisation=Normalisation.SUM)), {})
    assert by_sum.shown is by_sum.claims[Normalisation.SUM]


def test_what_takes_a_bootstrap_is_done_once_for_a_choice_and_kept_with_the_reading(
    reading: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, directory = reading
    folder = CharacteristicsFiles(directory).judgements
    assert len(list(folder.iterdir())) == 1, "the job keeps what the page asks for first"
    by_sum = characterised(run, directory, Variant(normalisation=Normalisation.SUM))
    bootstraps: Counter[str] = Counter()
    for name in ("judge", "rank_regression"):
        original = getattr(judging, name)
        monkeypatch.setattr(
            judging, name, lambda *a, _n=name, _f=original, **k: (bootstraps.update([_n]), _f(*a, **k))[1]
        )
    everything = {criterion.name: criterion.default for criterion in CRITERIA}
    kept = judged(by_sum, everything, directory)
    assert not bootstraps
    now = judged(by_sum, {})
    assert bootstraps
    for part_of in (kept, now):
        assert part_of.chosen is Normalisation.SUM
    pd.testing.assert_frame_equal(claims_table(kept), claims_table(now))
    pd.testing.assert_frame_equal(regression_frame(kept.regression), regression_frame(now.regression))
    pd.testing.assert_frame_equal(kept.strata, now.strata)
    assert [claim.criterion for claim in kept.shown] == list(CRITERIA)
    bootstraps.clear()
    judged(by_sum, MOVED, directory)
    assert bootstraps, "another choice is judged anew"


@pytest.mark.parametrize("content", [b"", b"{}", b"not JSON"])
def test_a_judgement_that_is_not_whole_is_made_again(tmp_path: Path, found: Characterised, content: bytes) -> None:
    few = part(found, slice(0, 24))
    first = claims_table(judged(few, {}, tmp_path))
    (kept,) = CharacteristicsFiles(tmp_path).judgements.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(content)
    pd.testing.assert_frame_equal(claims_table(judged(few, {}, tmp_path)), first)
    assert kept.read_bytes() == whole


@pytest.mark.parametrize("thresholds", [{}, MOVED])
def test_strata_are_what_the_thresholds_make_of_the_features(
    found: Characterised, thresholds: Mapping[str, Threshold]
) -> None:
    judgement = judged(found, thresholds)
    assert judgement.strata["sample_id"].tolist() == found.table["sample_id"].tolist()
    for claim in judgement.shown:
        values = found.table[claim.feature].astype(float)
        threshold = thresholds.get(claim.criterion.name, claim.criterion.default)
        level = {
            Rule.FIXED: threshold.value,
            Rule.MEAN: found.about.training_averages.get(str(claim.feature), values.mean()),
            Rule.MEDIAN: values.median(),
            Rule.QUARTILE: values.quantile(0.75),
        }[threshold.rule]
        assert claim.level == pytest.approx(level)
        groups = judgement.strata[claim.criterion.name]
        assert (groups == "high").tolist() == (values > claim.level).tolist()
        assert (claim.n_high, claim.n_low) == ((groups == "high").sum(), (groups == "low").sum())


def test_a_sample_without_an_mrd_has_a_group_and_does_not_count(found: Characterised) -> None:
    measured = {
        name: Measured(Units.of(measured.units.values.copy())) for name, measured in found.measured.items()
    }
    for values in measured.values():
        values.units.values[:, -5:] = np.nan
    table = found.table.assign(mrd=measured[Normalisation.MEAN].mrd)
    judgement = judged(replace(found, table=table, measured=measured), {})
    assert judgement.strata.notna().all(axis=None)
    for claim in judgement.shown:
        assert claim.n_high + claim.n_low == ROWS - 5
    assert group_table(replace(found, table=table), judgement).groupby("criterion")["n"].sum().eq(ROWS - 5).all()


def test_the_examples_of_a_group_belong_to_it_and_lie_nearest_to_its_median(
    found: Characterised, judgement: Judgement
) -> None:
    groups = group_table(found, judgement)
    assert tuple(groups) == GROUP_COLUMNS
    assert groups["criterion"].tolist() == [criterion.name for criterion in CRITERIA for _side in "hl"]
    sides = {
        name: side for criterion in CRITERIA for side, name in (("high", criterion.high), ("low", criterion.low))
    }
    for row in groups.itertuples():
        members = found.table[judgement.strata[row.criterion] == sides[row.group]]
        assert (row.n, row.mean_mrd) == (len(members), pytest.approx(members["mrd"].mean()))
        assert row.median_mrd == pytest.approx(members["mrd"].median())
        assert row.low <= row.mean_mrd <= row.high
        distance = (members["mrd"] - members["mrd"].median()).abs().set_axis(members["sample_id"])
        assert len(row.examples) == len(set(row.examples)) == min(EXAMPLES, len(members))
        assert distance[row.examples].max() == pytest.approx(distance.nsmallest(EXAMPLES).max())


def test_the_papers_values_stand_beside_the_group_they_are_of(found: Characterised, judgement: Judgement) -> None:
    groups = group_table(found, judgement).set_index(["criterion", "group"])["paper_mrd"]
    assert groups["occurrence_frequency", "frequent"] == 0.2529
    assert groups["occurrence_frequency", "rare"] == 0.6374
    assert np.isnan(groups["association", "apart"])


def test_length_comes_first_and_alone_it_says_what_spearman_says(
    found: Characterised, judgement: Judgement
) -> None:
    frame = regression_frame(judgement.regression)
    assert tuple(frame) == TERM_COLUMNS
    assert frame["feature"][0] == TOKENS
    assert frame["alone"][0] == pytest.approx(stats.spearmanr(found.table[TOKENS], found.table["mrd"]).statistic)
    assert ((frame["remains_low"] <= frame["remains"]) & (frame["remains"] <= frame["remains_high"])).all()


def test_correlations_are_those_of_mrd_length_and_the_features_that_were_judged(
    found: Characterised, judgement: Judgement
) -> None:
    names = ["mrd", TOKENS, *(claim.feature for claim in judgement.shown)]
    assert list(judgement.correlations) == names
    expected = stats.spearmanr(found.table[names]).statistic
    np.testing.assert_allclose(judgement.correlations, expected)


@pytest.mark.parametrize("count", [0, 1, 60, 2_000, 2_001, 5_000, 20_000, 10**7])
def test_replicates_are_a_thousand_and_fewer_for_large_sets_but_never_too_few(count: int) -> None:
    expected = 1_000 if count <= 2_000 else max(200, 2_000_000 // count)
    assert replicates_for(count) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_handful_of_samples_gets_no_verdict_and_files_with_a_head(found: Characterised, count: int) -> None:
    few = part(found, slice(count))
    judgement = judged(few, {})
    assert {claim.verdict for claim in judgement.shown} == {"cannot tell"}
    assert tuple(group_table(few, judgement)) == GROUP_COLUMNS
    assert tuple(regression_frame(judgement.regression)) == TERM_COLUMNS
    contents = exports(few, judgement)
    assert all(content() for content in contents.values())
    assert contents["regression.csv"]().decode().splitlines()[0] == ",".join(TERM_COLUMNS)
    assert contents["groups.csv"]().decode().splitlines()[0] == ",".join(GROUP_COLUMNS)


def test_the_order_of_the_samples_does_not_matter(found: Characterised, judgement: Judgement) -> None:
    turned = judged(part(found, slice(None, None, -1)), {})
    assert [claim.comparison for claim in turned.shown] == [claim.comparison for claim in judgement.shown]
    pd.testing.assert_frame_equal(turned.strata[::-1].reset_index(drop=True), judgement.strata)


def test_the_claims_table_says_what_is_left_with_length_held_and_with_all_others_held(
    judgement: Judgement,
) -> None:
    table = claims_table(judgement).set_index(["criterion", "normalisation"])
    for norm, claims in judgement.claims.items():
        terms = {term.name: term.coefficient for term in judgement.regressions[norm].terms}
        for claim in claims:
            row = table.loc[(claim.criterion.name, norm)]
            found = tuple(row[["others_held", "others_held_low", "others_held_high"]])
            np.testing.assert_array_equal(found, terms.get(claim.feature, (np.nan,) * 3)[:3])


def test_with_length_held_a_feature_keeps_what_a_partial_rank_regression_leaves_of_it(
    found: Characterised, judgement: Judgement
) -> None:
    claim = next(claim for claim in judgement.shown if claim.feature == "rare_words")
    x, length, mrd = (stats.zscore(stats.rankdata(found.table[name])) for name in (claim.feature, TOKENS, "mrd"))
    coefficients, *_ = np.linalg.lstsq(np.column_stack([x, length]), mrd)
    left = remains(judgement, claim, judgement.chosen)
    assert left["length_held"] == pytest.approx(coefficients[0], abs=1e-9)
    assert left["length_held_low"] < left["length_held"] < left["length_held_high"]


def test_nothing_is_said_to_be_held_where_length_is_no_term(found: Characterised) -> None:
    alike = replace(found, table=found.table.assign(n_tokens=7))
    judgement = judged(alike, {})
    for claim in judgement.shown:
        assert np.isnan(list(remains(judgement, claim, judgement.chosen).values())).all()


def test_the_json_has_what_is_left_of_each_claim(judgement: Judgement) -> None:
    found = claims_json(judgement)
    for claim in judgement.shown:
        left = remains(judgement, claim, judgement.chosen)
        assert {name: found[claim.criterion.name][name] for name in left} == pytest.approx(left, nan_ok=True)
        assert set(left) <= set(found[claim.criterion.name]["by_normalisation"]["sum"])
