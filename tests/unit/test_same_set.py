"""One set by several runs: the correlation is Spearman's, its interval knows the draws, changes are signed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis import difficulty
from analysis.difficulty import ScoredRun, Variant
from analysis.sets import same as same_set
from analysis.statistics.groups import Measured, spearman, spearman_between
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.files import write_atomically
from mrd_core.samples import ForgetSet
from mrd_core.samples.forget_set import digest_of
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.draws import Draws, Units
from mrd_core.scoring.files import ScoreFiles
from tests.support.scored_demo import ROWS, copied, scored_demo


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_demo(tmp_path_factory.getbasetemp())


@pytest.fixture
def reversed_run(scored: Path, tmp_path: Path) -> Path:
    """A copy of the score run whose samples took one another's draws, the first that of the last."""
    other = copied(scored, tmp_path / "other")
    files = ScoreFiles(other)
    draws = Draws.load(files.draws, files.probes)
    units = difficulty.measured(ScoredRun(scored), Variant())
    order = np.argsort(units.mrd)
    swapped = np.empty_like(order)
    swapped[order] = order[::-1]
    changed = replace(
        draws,
        values=draws.values[:, swapped],
        kept=draws.kept[swapped],
        parts=None if draws.parts is None else draws.parts[:, swapped],
        probes=None if draws.probes is None else draws.probes[:, swapped],
    )
    write_atomically(files.draws, changed.save)
    write_atomically(files.probes, changed.save_probes)
    return other


def measured(values: np.ndarray) -> Measured:
    return Measured(Units.of(values))


def test_the_correlation_is_spearmans_and_noise_widens_its_interval() -> None:
    random = np.random.default_rng(0)
    truth, other = random.exponential(size=(2, 40)) + 1
    other += 2 * truth
    still = [np.tile(side, (16, 1)) for side in (truth, other)]
    noisy = [side + random.normal(scale=2, size=side.shape) for side in still]
    exact = spearman_between(*map(measured, still))
    assert exact.value == pytest.approx(spearmanr(truth, other).statistic)
    # Without noise it is the correlation with a feature.
    alone = spearman(truth, measured(still[1]))
    assert (exact.low, exact.high) == pytest.approx((alone.low, alone.high), abs=0.05)
    shaken = spearman_between(*map(measured, noisy))
    assert shaken.high - shaken.low > exact.high - exact.low
    assert np.isnan(spearman_between(measured(still[0][:, :2]), measured(still[1][:, :2])).value)


def test_a_run_agrees_with_itself(scored: Path, tmp_path: Path) -> None:
    result = same_set.compared([scored, copied(scored, tmp_path / "copy")], Variant())
    (pair,) = result.pairs
    assert (pair.agreement.value, pair.agreement.n) == (pytest.approx(1), ROWS)
    assert (result.table["change"] == 0).all()
    assert pair.differing == ()
    assert pair.ceiling == pytest.approx(difficulty.trust(ScoredRun(scored), Variant()).reliability["mean"])


def test_noise_of_one_seed_is_told(scored: Path, tmp_path: Path) -> None:
    other = copied(scored, tmp_path / "other")
    (pair,) = same_set.compared([scored, other], Variant()).pairs
    assert pair.same_seed
    config = read_config(other, ScoreConfig)
    estimator = config.estimator.model_copy(update={"seed": 7})
    write_config(other, config.model_copy(update={"estimator": estimator}))
    (pair,) = same_set.compared([scored, other], Variant()).pairs
    assert not pair.same_seed


def test_a_run_that_lost_its_probes_is_named(scored: Path, tmp_path: Path) -> None:
    other = copied(scored, tmp_path / "other")
    ScoreFiles(other).probes.unlink()
    with pytest.raises(UserError, match=r"has lost probes\.parquet"):
        same_set.compared([scored, other], Variant())


def test_two_rankings_of_noise_leave_nothing_to_agree_on() -> None:
    assert same_set.ceiling(0.81, 0.64) == pytest.approx(0.72)
    assert same_set.ceiling(-0.2, -0.3) == same_set.ceiling(-0.2, 0.9) == 0
    assert np.isnan(same_set.ceiling(np.nan, 0.9))


def test_planted_changes_of_rank_are_told_with_their_sign(scored: Path, reversed_run: Path) -> None:
    result = same_set.compared([scored, reversed_run], Variant())
    (pair,) = result.pairs
    assert pair.agreement.value == pytest.approx(-1, abs=0.05)
    first = result.table.iloc[0]
    assert abs(first["change"]) == ROWS - 1
    assert first["change"] == first["rank_1"] - first["rank_0"]
    ranks = result.table.set_index("sample_id")["rank_0"].astype(int)
    expected = difficulty.ranking(ScoredRun(scored), Variant()).set_index("sample_id")["rank"]
    assert (ranks == expected.reindex(ranks.index)).all()


def test_other_texts_are_another_set(scored: Path, tmp_path: Path) -> None:
    other = copied(scored, tmp_path / "other")
    assert same_set.holds_one_set([scored, other])
    path = ScoreFiles(other).samples
    samples = ForgetSet.load(path)
    turned, changed = samples.frame.iloc[::-1].reset_index(drop=True), samples.frame.assign(answer="another")
    replace(samples, frame=turned, digest=digest_of(turned)).save(path)
    assert same_set.holds_one_set([scored, other])
    replace(samples, frame=changed, digest=digest_of(changed)).save(path)
    assert not same_set.holds_one_set([scored, other])


def test_a_run_without_its_samples_is_named(scored: Path, tmp_path: Path) -> None:
    other = copied(scored, tmp_path / "other")
    ScoreFiles(other).samples.unlink()
    with pytest.raises(UserError, match=r"has lost samples\.parquet"):
        same_set.holds_one_set([scored, other])
