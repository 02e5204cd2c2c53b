"""Inner products of the gradients of all pairs of two sets, held against plain autograd, one sample at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.model import products, reader
from mrd_core.model.encoding import Encoded
from mrd_core.model.likelihood import KeepDouble
from mrd_core.model.loading import settle
from mrd_core.model.pieces import Dense, Outer, Piece, Rows
from mrd_core.model.products import Products, gradient_products
from tests.support import families, replay, tiny
from tests.support.marks import few_in_the_gate
from tests.unit.test_measures import Opaque, adapted, cramped, gpt2, in_bf16, tied

SOME, OTHERS = tiny.encoded(17, 5, 24, 4), tiny.encoded(9, 30, 6, 12, 21, seed=1)
ROOM = 10_000


def pairs(
    network: Any, some: Encoded = SOME, others: Encoded = OTHERS, tokens: int = ROOM, **how: Any
) -> Products:
    before_batch = how.pop("before_batch", lambda: None)
    return gradient_products(tiny.reader(network, tokens, before_batch=before_batch), some, others, **how)


def slow(network: Any, some: Encoded = SOME, others: Encoded = OTHERS) -> Products:
    """Return the same of whole gradients of the mean NLL, each from a backward pass of its own."""
    own, rest = (replay.gradients(network, encoded) for encoded in (some, others))
    return Products(own @ rest.T, (own**2).sum(1), (rest**2).sum(1))


def assert_same(found: Products, expected: Products, tolerance: float) -> None:
    """A product near 0 is as exact as the norms that it is made of."""
    size = np.sqrt(expected.squared[:, None] * expected.others_squared)
    np.testing.assert_allclose(found.inner / size, expected.inner / size, atol=tolerance, rtol=0)
    np.testing.assert_allclose(found.squared, expected.squared, rtol=tolerance)
    np.testing.assert_allclose(found.others_squared, expected.others_squared, rtol=tolerance)


def opaque() -> Any:
    """Return a model with a layer that no rule is known for."""
    network = tiny.llama()
    network.model.layers[0].self_attn.o_proj = Opaque(network.model.layers[0].self_attn.o_proj.weight.T.clone())
    return network


NETWORKS: dict[str, Callable[[], Any]] = {
    "llama": tiny.llama,
    "gpt2": gpt2,
    "tied": tied,
    "adapted": adapted,
    "opaque": opaque,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:Gradients")
def test_products_are_those_of_whole_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.in_double(NETWORKS[name]())
    with KeepDouble():
        assert_same(pairs(network), slow(network), 1e-9)
    # Block after block, batch after batch.
    monkeypatch.setitem(products.HELD, "cpu", 1)
    network = NETWORKS[name]()
    assert_same(pairs(network, tokens=40), slow(network), 1e-4)


@pytest.mark.parametrize("model_type", few_in_the_gate(("mixtral", "gpt_oss", "gemma2", "gpt2"), "gpt_oss"))
def test_products_of_families(model_type: str) -> None:
    network, announced = tiny.in_double(families.built(model_type).eval()), []
    settle(network)
    some, others = families.samples().subset(np.array([0, 2])), families.samples()
    with KeepDouble():
        found = pairs(network, some, others, announce=announced.append)
        assert_same(found, slow(network, some, others), 1e-9)
    assert bool(announced) == (model_type in ("mixtral", "gpt_oss"))


def test_bf16_is_near() -> None:
    network = in_bf16()
    finer = tiny.llama()
    finer.load_state_dict(network.state_dict())
    assert_same(pairs(network), slow(finer), 0.05)


def test_a_set_with_itself_has_the_squared_norms_on_its_diagonal() -> None:
    found = pairs(tiny.llama(), SOME, SOME)
    np.testing.assert_allclose(np.diag(found.inner), found.squared, rtol=1e-5)
    np.testing.assert_allclose(found.inner, found.inner.T, rtol=1e-4)
    np.testing.assert_allclose(np.diag(found.cosines), 1, rtol=1e-5)


def test_the_first_order_says_what_a_small_step_of_ascent_does() -> None:
    network = tiny.in_double(tiny.llama())
    found, rate = pairs(network), 1e-6
    before = replay.mean_nlls(network, OTHERS)
    for i, gradient in enumerate(replay.gradients(network, SOME)):
        moved = copy.deepcopy(network)
        torch.nn.utils.vector_to_parameters(
            torch.nn.utils.parameters_to_vector(network.parameters()) + rate * torch.from_numpy(gradient),
            moved.parameters(),
        )
        np.testing.assert_allclose((replay.mean_nlls(moved, OTHERS) - before) / rate, found.inner[i], rtol=2e-3)


def test_samples_without_an_answer_have_no_products() -> None:
    some, others = tiny.encoded(2, 9), tiny.encoded(7, 2)
    found = pairs(tiny.llama(), some, others)
    assert np.isnan(found.inner).tolist() == [[True, True], [False, True]]
    assert np.isnan(found.cosines).tolist() == [[True, True], [False, True]]
    assert np.isnan(found.squared).tolist() == [True, False]


def test_chunks_of_the_head_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for network in (gpt2(), tied()):
        expected = slow(network)
        for samples in (1, 2):
            monkeypatch.setattr(reader, "LEAST_ROWS", 1)
            monkeypatch.setitem(reader.CHUNK_ELEMENTS, "cpu", samples * 30 * tiny.VOCABULARY)
            assert_same(pairs(network), expected, 1e-4)


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    meet = products._Passing._meet
    monkeypatch.setattr(
        products._Passing,
        "_meet",
        lambda passing, block, most, found: (held.append(block.entries), meet(passing, block, most, found)),
    )
    many = tiny.encoded(*[12] * 24)
    pairs(tiny.llama(), many, OTHERS)
    (whole,) = held
    held.clear()
    monkeypatch.setitem(products.HELD, "cpu", whole // 6)
    pairs(tiny.llama(), many, OTHERS)
    assert len(held) > 3
    # The bound, and one batch more.
    assert max(held) <= 2 * (whole // 6)


def test_progress_counts_pairs_and_memory_that_runs_out_starts_anew() -> None:
    told: list[tuple[int, int]] = []
    found = pairs(cramped(tiny.llama(), 40), progress=lambda *counts: told.append(counts))
    assert told[-1] == (20, 20)
    assert_same(found, slow(tiny.llama()), 1e-4)


class CancelledError(Exception):
    """What a run raises to stop a pass."""


def test_cancelling_stops_at_the_next_batch() -> None:
    network, calls = tiny.llama().train(), []

    def stop_late() -> None:
        calls.append(1)
        if len(calls) == 6:
            raise CancelledError

    with pytest.raises(CancelledError):
        pairs(network, tokens=30, before_batch=stop_late)
    assert network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


P, Q = 5, 4


def made(seed: int, samples: int, tokens: int) -> dict[str, Piece]:
    """Return a piece of each kind."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return {
        "outer": Outer(normal(samples, tokens, P), normal(samples, tokens, Q)),
        "rows": Rows(torch.randint(P, (samples, tokens), generator=generator), normal(samples, tokens, Q)),
        "dense": Dense(normal(samples, P * Q)),
    }


def whole(piece: Piece) -> FloatArray:
    """Return the gradients that a piece stands for, (B, P·Q)."""
    match piece:
        case Outer(left, right):
            gradient = torch.einsum("btp,btq->bpq", left, right)
        case Rows(ids, right):
            gradient = torch.einsum("btp,btq->bpq", torch.nn.functional.one_hot(ids, P).double(), right)
        case Dense(values):
            gradient = values
    return gradient.flatten(1).numpy()


# Few tokens are multiplied token by token, many as the gradient that they add up to.
@pytest.mark.parametrize("tokens", [(2, 1), (9, 3), (1, 9)])
@pytest.mark.parametrize(
    ("first", "second"),
    [("outer", "outer"), ("outer", "rows"), ("rows", "outer"), ("rows", "rows"), ("dense", "dense")],
)
def test_products_of_pieces_are_those_of_what_they_stand_for(
    first: str, second: str, tokens: tuple[int, int]
) -> None:
    some, others = made(0, 3, tokens[0])[first], made(1, 4, tokens[1])[second]
    found = products.products([some, some], [others]).numpy()
    np.testing.assert_allclose(found, 2 * whole(some) @ whole(others).T, rtol=1e-12)


def test_pieces_of_two_parameters_have_no_product() -> None:
    with pytest.raises(TypeError, match="Dense and Outer"):
        products.products([made(0, 1, 2)["dense"]], [made(0, 1, 2)["outer"]])
