"""Noise that depends on its key alone, and weights that are untouched afterwards whatever happens."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mrd_core.model.likelihood import Scorer
from mrd_core.model.perturbation import Noise, PerturbedModel, checksum, copied, layers, streamed
from tests.support import tiny

NOISE = Noise(seed=3, sigma=0.05)
SAMPLES = tiny.encoded(6, 9, 5)


def bits(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Tell whether all parameters are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log_probs(scorer: Scorer, *, is_streamed: bool, draw: int = 0, sign: int = 1) -> Any:
    """Return the perturbed log-probabilities of the samples."""
    source, _ = tiny.estimator(scorer, SAMPLES, NOISE.sigma)
    with PerturbedModel(scorer, NOISE, streamed=is_streamed).draw(draw, sign):
        return source._passes()


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """A tiny Llama with its head tied to its embedding or not."""
    return Scorer(tiny.llama(tie_word_embeddings=request.param))


def test_what_is_called_is_a_layer_of_a_list_as_a_whole_and_everything_else_by_itself() -> None:
    block = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    lists = nn.ModuleList([nn.ModuleList([nn.Linear(4, 4)]), nn.ModuleDict({"one": nn.Linear(5, 5)})])
    model = nn.ModuleDict({"body": nn.Sequential(nn.Embedding(7, 2), nn.ModuleList([block])), "lists": lists})
    model["head"] = nn.Linear(2, 7, bias=False)
    shapes = [(type(module).__name__, [tuple(weight.shape) for weight in own]) for module, own in layers(model)]
    assert shapes == [
        ("Embedding", [(7, 2)]),
        ("Sequential", [(3, 2), (3,), (2, 3), (2,)]),
        ("Linear", [(4, 4), (4,)]),
        ("Linear", [(5, 5), (5,)]),
        ("Linear", [(7, 2)]),
    ]


def test_noise_depends_on_seed_draw_and_name_and_on_nothing_else() -> None:
    like = torch.zeros(8, 8)
    wanted = Noise(1, 1.0).standard(2, "a", like)
    torch.randn(5)
    Noise(1, 1.0).standard(3, "b", like)
    assert torch.equal(Noise(1, 1.0).standard(2, "a", like), wanted)
    for other in (
        Noise(2, 1.0).standard(2, "a", like),
        Noise(1, 1.0).standard(3, "a", like),
        Noise(1, 1.0).standard(2, "b", like),
    ):
        assert abs(float(torch.corrcoef(torch.stack([wanted.flatten(), other.flatten()]))[0, 1])) < 0.5


def test_noise_is_the_same_in_every_version() -> None:
    digest = hashlib.blake2b(b"3/5/layer.weight", digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") // 2)
    expected = torch.empty(4, 3).normal_(generator=generator)
    assert Noise(3, 1e-3).standard(5, "layer.weight", torch.zeros(4, 3)).equal(expected)


def test_a_draw_adds_its_noise_unless_it_is_told_to_take_it_away(scorer: Scorer) -> None:
    model = PerturbedModel(scorer, Noise(0, 1e-2), streamed=False)
    with model.draw(0):
        plus = copy.deepcopy(bits(scorer))
    with model.draw(0, 1):
        assert same(plus, bits(scorer))


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    NOISE.standard(0, "a", torch.zeros(100))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_is_standard_normal() -> None:
    z = NOISE.standard(0, "a", torch.zeros(20_000)).numpy()
    assert stats.kstest(z, "norm").pvalue > 0.01


def test_bf16_weights_get_noise_that_is_rounded_once() -> None:
    weight = torch.full((64,), 0.02, dtype=torch.bfloat16)
    perturbed = NOISE.perturbed(0, -1, "a", weight)
    assert perturbed.dtype is torch.float32
    torch.testing.assert_close(perturbed, weight.float() - 0.05 * NOISE.standard(0, "a", weight.float()))


def test_copied_and_streamed_agree_bit_for_bit(scorer: Scorer) -> None:
    for sign in (1, -1):
        whole = log_probs(scorer, is_streamed=False, sign=sign)
        by_layer = log_probs(scorer, is_streamed=True, sign=sign)
        assert (whole == by_layer).all()


def test_the_perturbed_model_is_a_model_with_those_weights(scorer: Scorer) -> None:
    independent = copy.deepcopy(scorer)
    for name, parameter in independent.named_parameters():
        parameter.data = parameter.data - NOISE.sigma * NOISE.standard(4, name, parameter)
    source, _ = tiny.estimator(independent, SAMPLES, NOISE.sigma)
    torch.testing.assert_close(
        torch.from_numpy(log_probs(scorer, is_streamed=True, draw=4, sign=-1)), torch.from_numpy(source._passes())
    )


@pytest.mark.parametrize("replace", [copied, streamed])
def test_a_tied_weight_gets_one_noise(replace: Callable[..., Any]) -> None:
    scorer = Scorer(tiny.llama(tie_word_embeddings=True))
    seen: dict[str, list[Tensor]] = {"embedding": [], "head": []}

    def note(role: str) -> Callable[..., None]:
        return lambda layer, *_args: seen[role].append(layer.weight.detach().clone())

    with replace(scorer, lambda name, weight: NOISE.perturbed(0, 1, name, weight)):
        scorer.body.embed_tokens.register_forward_hook(note("embedding"), prepend=True)
        scorer.head.register_forward_hook(note("head"), prepend=True)
        source = SAMPLES.samples[0].tokens
        ids = torch.from_numpy(source)[None]
        with torch.no_grad():
            scorer(ids, torch.tensor([0]), torch.tensor([0]))
    assert torch.equal(seen["embedding"][0], seen["head"][0])
    assert not torch.equal(seen["head"][0], scorer.head.weight)
    names = [name for name, _ in scorer.named_parameters()]
    assert not any("head" in name for name in names)


def test_weights_are_bit_equal_after_a_run(scorer: Scorer) -> None:
    before, sum_before = bits(scorer), checksum(scorer)
    for is_streamed in (True, False):
        source, _ = tiny.estimator(scorer, SAMPLES, NOISE.sigma, streamed=is_streamed)
        for index in range(3):
            source.unit(index)
        assert same(bits(scorer), before)
    assert checksum(scorer) == sum_before


class Breaks(nn.Module):
    """A layer that breaks while its weights are replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, *_args: Tensor) -> Tensor:
        assert not torch.equal(self.weight, torch.ones(3))
        raise torch.OutOfMemoryError("broke inside the layer")


@pytest.mark.parametrize("is_streamed", [True, False])
def test_weights_come_back_when_a_pass_breaks(is_streamed: bool) -> None:
    network = nn.Sequential(nn.Linear(3, 3), Breaks()).requires_grad_(False)
    before = bits(network)
    storage = [parameter.data_ptr() for parameter in network.parameters()]
    model = PerturbedModel(network, NOISE, streamed=is_streamed)
    with pytest.raises(torch.OutOfMemoryError), model.draw(0):
        network(torch.ones(1, 3))
    assert same(bits(network), before)
    assert [parameter.data_ptr() for parameter in network.parameters()] == storage


@pytest.mark.parametrize("replace", [copied, streamed])
def test_weights_come_back_when_the_noise_itself_does_not_fit(replace: Callable[..., Any]) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).requires_grad_(False)
    before = bits(network)

    def transform(name: str, weight: Tensor) -> Tensor:
        if name == "1.bias":
            raise torch.OutOfMemoryError("no room for the last tensor")
        return weight + 1

    with pytest.raises(torch.OutOfMemoryError), replace(network, transform):
        network(torch.ones(1, 3))
    assert same(bits(network), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_checksum_sees_one_weight_and_two_that_swap(dtype: torch.dtype) -> None:
    network = tiny.llama().to(dtype)
    before = checksum(network)
    assert checksum(copy.deepcopy(network)) == before
    weight = network.model.layers[1].mlp.up_proj.weight.data
    swapped = copy.deepcopy(network)
    swapped.model.layers[1].mlp.up_proj.weight.data[0, :2] = weight[0, :2].flip(0)
    assert checksum(swapped) != before
    weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0, dtype=dtype))
    assert checksum(network) != before
