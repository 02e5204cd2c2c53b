"""Which units a run draws: as their precision asks for, the same whoever draws them."""

from __future__ import annotations

import numpy as np
import pytest

from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.draws import Draws
from mrd_core.scoring.schedule import Schedule, UnitKey


def draws_of(keys: list[UnitKey], of_pair: float, of_probe: float) -> Draws:
    """Return what units give whose noise has these standard deviations, beside a score of 1."""
    generator = np.random.default_rng(0)
    pairs, probes = (sum(key.kind == kind for key in keys) for kind in ("pair", "probe"))
    values = np.zeros((2 * pairs, 200, 2, 3))
    values[:, :, :, 1] = np.repeat(-1 + of_pair * generator.normal(size=(pairs, 200, 1)), 2, axis=0)
    estimates = of_probe * generator.normal(size=(2 * probes, 200, 2))
    kept = np.ones((200, 2), dtype=np.int64)
    ids = tuple(map(str, range(200)))
    # σ² / 2 = 1, and no pair says anything of the speed.
    return Draws(ids, values, kept, "antithetic", np.sqrt(2), np.zeros((pairs, 200, 2, 2)), estimates)


def counts(keys: list[UnitKey]) -> tuple[int, int]:
    """Return how many pairs and how many units of probes these are."""
    return sum(key.kind == "pair" for key in keys), sum(key.kind == "probe" for key in keys)


def run(schedule: Schedule, of_pair: float, of_probe: float, looks: int) -> list[UnitKey]:
    """Return what is drawn until so many looks have been taken."""
    keys = schedule.first()
    for _ in range(looks):
        keys += schedule.following(keys, draws_of(keys, of_pair, of_probe))
    return keys


def test_pairs_alone_are_looked_at_after_eight_and_then_every_four() -> None:
    schedule = Schedule(EstimatorConfig(draws=45), 0)
    keys = schedule.first()
    assert keys == [UnitKey("pair", index) for index in range(8)]
    sizes = []
    while following := schedule.following(keys, draws_of(keys, 1, 1)):
        keys += following
        sizes.append(len(keys))
    assert sizes == [12, 16, 20, 22]
    assert len(Schedule(EstimatorConfig(draws=4), 0).first()) == 2
    assert len(Schedule(EstimatorConfig(mode="plain", draws=45), 0).first()) == 16


def test_pairs_and_probes_begin_with_what_split_halves_need() -> None:
    assert counts(Schedule(EstimatorConfig(), 3.4).first()) == (4, 1)
    assert counts(Schedule(EstimatorConfig(draws=4), 3.4).first()) == (2, 1)


@pytest.mark.parametrize("cost", [2.0, 3.4, 8.0])
@pytest.mark.parametrize("of_probe", [0.1, 0.5, 1.0])
def test_what_is_drawn_shares_the_cost_out_as_its_noise_asks(of_probe: float, cost: float) -> None:
    schedule = Schedule(EstimatorConfig(draws=10_000), cost)
    pairs, probes = counts(run(schedule, 1.0, of_probe, 30))
    # Neyman: numbers go as the standard deviation over the root of the cost; a unit has two probes.
    expected = of_probe / np.sqrt(2) / np.sqrt(cost) * np.sqrt(2)
    assert probes / pairs == pytest.approx(expected, rel=0.2, abs=1.5 / pairs)


def test_a_run_ends_at_its_cap_of_pairs() -> None:
    schedule = Schedule(EstimatorConfig(draws=40), 3.4)
    keys = run(schedule, 1.0, 0.3, 40)
    assert counts(keys)[0] == 20
    assert schedule.following(keys, draws_of(keys, 1.0, 0.3)) == []
    assert schedule.cost(keys) == pytest.approx(40 + 3.4 * counts(keys)[1])


def test_the_same_values_ask_for_the_same_units() -> None:
    schedule = Schedule(EstimatorConfig(), 3.4)
    assert run(schedule, 1.0, 0.4, 5) == run(schedule, 1.0, 0.4, 5)
    assert len({key.stem for key in run(schedule, 1.0, 0.4, 5)}) == len(run(schedule, 1.0, 0.4, 5))
