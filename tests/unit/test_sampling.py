"""Samplers and the stream of draws, against sorts, chi-square tests and replays."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import chain, permutations, zip_longest

import numpy as np
import pytest
from scipy import stats

from mrd_core.errors import UserError
from mrd_core.model.processes import Processes
from mrd_core.unlearning.sampling import (
    FORGET_STREAM,
    RETAIN_STREAM,
    SAMPLERS,
    Curriculum,
    Place,
    Pool,
    Sampler,
    _generator,
    effective_share,
    nearly_uniform,
    probabilities,
    retain_partner,
)

SCORES = {"a": 1.0, "b": 4.0, "c": 0.5, "d": 2.0, "e": 2.5}
NEW_SCORES = {"a": 3.0, "b": 0.1, "c": 5.0, "d": 1.0, "e": 2.0}
WITH_REPLACEMENT = [name for name, sampler in SAMPLERS.items() if sampler.with_replacement]
STRICT = [name for name, sampler in SAMPLERS.items() if not sampler.with_replacement]
SORTED = [name for name in STRICT if not SAMPLERS[name].shuffles]

# Chance of failing a right sampler; the seeds are fixed, so that it is decided once.
LEVEL = 1e-3


def curriculum(name: str, scores: dict[str, float] | None = None, seed: int = 7) -> Curriculum:
    return Curriculum(SAMPLERS[name], SCORES if scores is None else scores, seed)


def saved_and_restored(name: str, stream: Curriculum) -> Curriculum:
    """Return the curriculum after a way through strict JSON."""
    return Curriculum.restore(SAMPLERS[name], json.loads(json.dumps(stream.state(), allow_nan=False)))


def realised(batches: list[list[str]], ids: tuple[str, ...]) -> np.ndarray:
    """Return how often each id was drawn."""
    counts = Counter(chain.from_iterable(batches))
    return np.array([counts[sample] for sample in ids])


def chi_square_p(counts: np.ndarray, p: np.ndarray) -> float:
    return float(stats.chisquare(counts, counts.sum() * p).pvalue)


# Probabilities


def test_probabilities_are_the_weights_over_their_sum_in_the_pool() -> None:
    p = probabilities(np.array([1.0, 2.0, 5.0]), np.array([True, False, True]))
    assert p == pytest.approx([1 / 6, 0, 5 / 6], abs=1e-15)


def test_an_undefined_weight_counts_as_the_mean_of_the_defined_ones() -> None:
    weights = np.array([1.0, np.nan, 3.0])
    assert probabilities(weights, np.ones(3, bool)) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert probabilities(weights, np.array([False, True, True])) == pytest.approx([0, 2 / 5, 3 / 5])


def test_a_pool_of_undefined_weights_only_is_sampled_uniformly() -> None:
    p = probabilities(np.array([1.0, np.nan, np.nan]), np.array([False, True, True]))
    assert p == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.1, -2.0], "negative for 2 of 3"),
        ([0.0, 0.0, 0.0], "zero for all 3"),
        ([np.nan, np.nan, np.nan], "undefined for all 3"),
    ],
)
def test_weights_that_make_no_distribution_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        probabilities(np.array(weights), np.ones(3, bool))
    with pytest.raises(UserError, match=message):
        curriculum("column", dict(zip("abc", weights, strict=True)))


def test_an_infinite_score_is_refused_by_the_name_of_its_sample() -> None:
    with pytest.raises(UserError, match="sample b is infinite"):
        curriculum("mrd", {"a": 1.0, "b": np.inf})


def test_uniform_sampling_needs_no_scores() -> None:
    assert curriculum("uniform", dict.fromkeys("abcd", np.nan)).shares() == pytest.approx([0.25] * 4)


def test_a_strict_order_takes_negative_scores_but_not_undefined_ones_alone() -> None:
    assert curriculum("easy-to-hard", {"a": -2.0, "b": -1.0}).next_batch(2) == ["b", "a"]
    with pytest.raises(UserError, match="undefined"):
        curriculum("easy-to-hard", {"a": np.nan})


@pytest.mark.parametrize("n", [1, 2, 17])
def test_the_effective_share_is_one_when_uniform_and_one_nth_when_one_hot(n: int) -> None:
    assert effective_share(np.full(n, 1 / n)) == pytest.approx(1)
    assert effective_share(np.eye(n)[0]) == pytest.approx(1 / n)


def test_the_effective_share_follows_from_the_coefficient_of_variation() -> None:
    weights = np.random.default_rng(0).gamma(2, size=50)
    cv = stats.variation(weights)
    assert effective_share(weights / weights.sum()) == pytest.approx(1 / (1 + cv**2))


def test_nearly_uniform_ends_where_the_weights_vary_by_23_percent() -> None:
    def alternating(cv: float) -> np.ndarray:
        return np.tile([1 + cv, 1 - cv], 10) / 20

    assert nearly_uniform(alternating(0.22))
    assert not nearly_uniform(alternating(0.24))


# What is drawn


@pytest.mark.parametrize("name", WITH_REPLACEMENT)
def test_realised_frequencies_are_the_probabilities(name: str) -> None:
    stream = curriculum(name)
    counts = realised([stream.next_batch(16) for _ in range(250)], stream.pool.ids)
    by_name = {"uniform": np.full(5, 0.2), "entanglement-weighted": np.array([4, 1, 5, 3, 2]) / 15}
    expected = by_name.get(name, np.array([1, 4, 0.5, 2, 2.5]) / 10)
    assert chi_square_p(counts, expected) > LEVEL


def test_shuffled_gives_every_sample_once_an_epoch_in_orders_that_are_all_equally_likely() -> None:
    scores = dict.fromkeys("abc", 1.0)
    epochs = [
        tuple(stream.next_batch(3)) for seed in range(40) for stream in [curriculum("shuffled", scores, seed)]
    ]
    stream = curriculum("shuffled", scores)
    epochs += [tuple(stream.next_batch(3)) for _ in range(560)]
    counts = Counter(epochs)
    assert set(counts) == set(permutations("abc"))
    assert chi_square_p(np.array(list(counts.values())), np.full(6, 1 / 6)) > LEVEL
    # Of two seeds the streams are two.
    assert curriculum("shuffled", seed=1).next_batch(20) != curriculum("shuffled", seed=2).next_batch(20)


def test_the_chi_square_test_notices_a_wrong_distribution() -> None:
    stream = curriculum("mrd")
    counts = realised([stream.next_batch(16) for _ in range(250)], stream.pool.ids)
    assert chi_square_p(counts, np.full(5, 0.2)) < LEVEL
    assert chi_square_p(counts, np.array([1.4, 4, 0.5, 2, 2.1]) / 10) < LEVEL


def test_the_frequencies_after_a_removal_are_the_renormalised_probabilities() -> None:
    stream = curriculum("mrd")
    stream.next_batch(3)
    stream.remove(["b"])
    counts = realised([stream.next_batch(16) for _ in range(250)], stream.pool.ids)
    assert counts[1] == 0
    assert chi_square_p(np.delete(counts, 1), np.array([1, 0.5, 2, 2.5]) / 6) > LEVEL


@pytest.mark.parametrize("lag", [1, 5])
def test_successive_draws_are_independent(lag: int) -> None:
    drawn = np.array(curriculum("uniform").next_batch(4000))
    table = [[np.sum((drawn[:-lag] == x) & (drawn[lag:] == y)) for y in SCORES] for x in SCORES]
    assert stats.chi2_contingency(table).pvalue > LEVEL


def test_seeds_and_epochs_give_other_draws() -> None:
    one, other = curriculum("uniform", seed=0).next_batch(40), curriculum("uniform", seed=1).next_batch(40)
    assert one != other
    assert one[:20] != one[20:]


def test_a_sample_of_weight_zero_is_never_drawn_and_does_not_keep_the_curriculum_going() -> None:
    stream = curriculum("column", {"a": 0.0, "b": 1.0, "c": 0.0, "d": 2.0, "e": 0.0})
    assert set(stream.next_batch(300)) == {"b", "d"}
    stream.remove(["b", "d"])
    assert stream.exhausted
    assert stream.next_batch(4) == []


def test_strict_orders_are_the_sort_by_score_with_ties_by_id() -> None:
    scores = dict(zip("hgfedcba", [1.0, 3.0, 3.0, 0.0, 2.0, 3.0, 1.0, 2.0], strict=True))
    easy_first = sorted(scores, key=lambda sample: (-scores[sample], sample))
    hard_first = sorted(scores, key=lambda sample: (scores[sample], sample))
    assert curriculum("easy-to-hard", scores).next_batch(16) == easy_first * 2
    assert curriculum("hard-to-easy", scores).next_batch(16) == hard_first * 2


def test_what_costs_the_retain_set_least_comes_first_or_more_often() -> None:
    costs = {"a": 3.0, "b": -2.0, "c": 0.5, "d": 0.5, "e": np.nan}
    # What is undefined stands in the middle of an order.
    assert curriculum("entanglement", costs).next_batch(5) == ["b", "c", "d", "e", "a"]
    weights = {"a": 1, "b": 4, "c": 2.5, "d": 2.5, "e": 2.5}
    shares = curriculum("entanglement-weighted", costs).shares()
    assert shares == pytest.approx(np.array(list(weights.values())) / sum(weights.values()))


def test_an_undefined_score_stands_in_the_middle_of_a_strict_order() -> None:
    scores = {"a": np.nan, "b": 1.0, "c": 5.0}
    assert curriculum("easy-to-hard", scores).next_batch(3) == ["c", "a", "b"]
    assert curriculum("hard-to-easy", scores).next_batch(3) == ["b", "a", "c"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_order_of_the_rows_changes_nothing(name: str) -> None:
    shuffled = {sample: SCORES[sample] for sample in "debac"}
    assert curriculum(name, shuffled).next_batch(40) == curriculum(name).next_batch(40)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_has_as_many_draws_as_the_pool_at_its_beginning(name: str) -> None:
    stream = curriculum(name)
    stream.next_batch(4)
    assert stream.place == Place(0, 4)
    stream.next_batch(1)
    stream.remove(["a", "b"])
    assert stream.place == Place(1, 0)
    stream.next_batch(3)
    assert stream.place == Place(2, 0)


def test_a_removal_shortens_the_epoch_of_a_strict_order_only() -> None:
    for name in SAMPLERS:
        stream = curriculum(name)
        left = sorted(SCORES.keys() - set(stream.next_batch(2)))
        stream.remove(left)
        assert stream.place == (Place(1, 0) if name in STRICT else Place(0, 2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_size_of_the_batches_does_not_change_the_stream(name: str) -> None:
    whole, pieces = curriculum(name), curriculum(name)
    assert whole.next_batch(24) == [*chain.from_iterable(pieces.next_batch(size) for size in (1, 7, 3, 13))]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_pool_of_one_fills_every_batch(name: str) -> None:
    stream = curriculum(name, {"only": 0.3})
    assert stream.next_batch(3) == ["only"] * 3
    assert stream.place == Place(3, 0)


@pytest.mark.parametrize("name", SORTED)
def test_a_batch_larger_than_the_pool_goes_round(name: str) -> None:
    batch = curriculum(name).next_batch(12)
    assert batch[:5] == batch[5:10]
    assert batch[10:] == batch[:2]


# Removing and reweighing


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("read", range(1, 12))
def test_a_removed_sample_is_in_no_later_batch_and_earlier_ones_stay(name: str, read: int) -> None:
    untouched, stream = curriculum(name), curriculum(name)
    before = stream.next_batch(read)
    stream.remove(["b", "d"])
    assert before == untouched.next_batch(read)
    assert set(stream.next_batch(60)) == {"a", "c", "e"}


def test_a_strict_order_skips_what_was_removed() -> None:
    stream = curriculum("easy-to-hard")
    assert stream.next_batch(2) == ["b", "e"]
    stream.remove(["e", "a"])
    assert stream.next_batch(5) == ["d", "c", "b", "d", "c"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_end_of_the_pool_is_an_empty_batch(name: str) -> None:
    stream = curriculum(name)
    stream.next_batch(3)
    stream.remove("abcd")
    assert not stream.exhausted
    stream.remove(["e", "a"])
    assert stream.exhausted
    assert stream.next_batch(4) == []


def test_removing_what_is_not_in_the_forget_set_is_an_error() -> None:
    with pytest.raises(KeyError, match="zebra"):
        curriculum("uniform").remove(["zebra"])


def test_new_scores_sort_what_is_unread_of_a_strict_order_and_repeat_nothing() -> None:
    stream = curriculum("easy-to-hard")
    assert stream.next_batch(2) == ["b", "e"]
    stream.reweigh(NEW_SCORES)
    assert stream.next_batch(3) == ["c", "a", "d"]
    assert stream.next_batch(5) == ["c", "a", "e", "d", "b"]


def test_new_scores_give_the_next_draws_their_probabilities() -> None:
    stream = curriculum("mrd")
    stream.next_batch(3)
    stream.reweigh({"c": 1.0, "d": 3.0} | dict.fromkeys("abe", 0.0))
    assert stream.shares() == pytest.approx([0, 0, 0.25, 0.75, 0])
    assert set(stream.next_batch(40)) == {"c", "d"}


def test_a_sample_without_a_new_score_is_undefined() -> None:
    stream = curriculum("mrd")
    stream.remove(["a", "b", "c"])
    stream.reweigh({"d": 6.0})
    assert stream.shares() == pytest.approx([0, 0, 0, 0.5, 0.5])


def test_scores_that_are_refused_leave_the_stream_as_it_was() -> None:
    stream = curriculum("mrd")
    with pytest.raises(UserError):
        stream.reweigh(dict.fromkeys(SCORES, -1.0))
    assert stream.next_batch(20) == curriculum("mrd").next_batch(20)


# Resuming and sharing

Action = Callable[[Curriculum], None]
HISTORY: dict[int, Action] = {
    2: lambda stream: stream.remove(["e"]),
    4: lambda stream: stream.reweigh(NEW_SCORES | {"d": np.nan}),
    8: lambda stream: stream.remove(["b"]),
    9: lambda stream: stream.reweigh(SCORES),
    13: lambda stream: stream.remove(["a", "c"]),
    16: lambda stream: stream.remove(["d"]),
}


def history(stream: Curriculum, begin: int = 0, end: int = 18) -> list[str]:
    """Return the draws `begin` … `end` of a run whose pool changes before some of them."""
    drawn: list[str] = []
    for draw in range(begin, end):
        if draw in HISTORY:
            HISTORY[draw](stream)
        drawn += stream.next_batch(1)
    return drawn


@pytest.mark.parametrize("name", SAMPLERS)
def test_resuming_anywhere_gives_the_same_remaining_order(name: str) -> None:
    whole = history(curriculum(name))
    assert len(whole) == 16
    for cut in range(18):
        stream = curriculum(name)
        before = history(stream, 0, cut)
        assert before + history(saved_and_restored(name, stream), cut) == whole


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_stream_depends_on_the_place_and_the_pool_but_not_on_what_was_drawn(name: str) -> None:
    def from_second_epoch(first_scores: dict[str, float]) -> list[str]:
        stream = curriculum(name, first_scores)
        stream.next_batch(5)
        stream.reweigh(SCORES)
        return stream.next_batch(20)

    assert from_second_epoch(NEW_SCORES) == from_second_epoch(SCORES)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_parts_of_several_processes_interleave_to_the_order_of_one(name: str, processes: int) -> None:
    alone, streams = curriculum(name), [curriculum(name) for _ in range(processes)]
    for step in range(5):
        batch = alone.next_batch(7)
        parts = [Processes(rank, processes).share(stream.next_batch(7)) for rank, stream in enumerate(streams)]
        assert [item for row in zip_longest(*parts) for item in row if item is not None] == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for stream in (alone, *streams):
            stream.remove([sorted(SCORES)[step % 4]])


def test_a_sampler_of_ones_own_may_look_at_the_place() -> None:
    def paced(pool: Pool, place: Place) -> np.ndarray:
        return np.where(pool.scores >= np.quantile(pool.scores, max(0, 0.8 - 0.4 * place.epoch)), 1.0, 0.0)

    stream = Curriculum(Sampler("paced", "Paced", "", "", True, paced), SCORES, 0)
    assert [set(stream.next_batch(5)) - {"b"} for _ in range(2)] == [set(), {"e", "d"}]


# Retain partners


def test_retain_partners_are_uniform() -> None:
    drawn = [retain_partner(3, step, slot, 7) for step in range(500) for slot in range(8)]
    counts = np.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert chi_square_p(counts, np.full(7, 1 / 7)) > LEVEL


def test_a_retain_partner_is_a_function_of_its_arguments() -> None:
    one = [retain_partner(3, step, slot, 1000) for step in range(4) for slot in range(6)]
    slots = Processes(1, 2).share(range(6))
    two_processes = [retain_partner(3, step, slot, 1000) for step in range(4) for slot in slots]
    assert two_processes == [one[6 * step + slot] for step in range(4) for slot in (1, 3, 5)]
    assert one != [retain_partner(4, step, slot, 1000) for step in range(4) for slot in range(6)]
    assert len(set(one)) > 20


def test_retain_partners_are_independent_of_the_forget_draws_of_the_same_seed() -> None:
    forget = np.array(Curriculum(SAMPLERS["uniform"], dict.fromkeys("abcd", 1.0), 5).next_batch(4000))
    # Step and slot counted as the curriculum counts epoch and position: the same counter, another key.
    retain = np.array([retain_partner(5, draw // 4, draw % 4, 4) for draw in range(4000)])
    table = [[np.sum((forget == x) & (retain == y)) for y in range(4)] for x in "abcd"]
    assert stats.chi2_contingency(table).pvalue > LEVEL


def test_no_two_places_share_random_numbers() -> None:
    words = [
        word
        for stream in (FORGET_STREAM, RETAIN_STREAM)
        for major in range(5)
        for minor in range(5)
        for word in _generator(0, stream, major, minor).bit_generator.random_raw(100)
    ]
    assert len(set(words)) == len(words)


# The log
