"""The unlearning losses against closed forms in numpy, finite differences and the invariances they must have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mrd_core.arrays import FloatArray
from mrd_core.unlearning import losses
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import Average, ForgetBatch, Granularity, parsed

# Two samples, of three and of two scored tokens, over a vocabulary of four; position 0 of the first is the prompt.
LOGITS = np.array(
    [
        [[9.0, 9.0, 9.0, 9.0], [2.0, 0.5, -1.0, 0.0], [0.3, 1.7, 0.0, -0.4], [-1.0, 0.0, 0.2, 3.0]],
        [[0.1, 0.2, 0.3, 0.4], [1.0, -2.0, 0.5, 0.0], [5.0, 5.0, -5.0, 5.0], [7.0, -7.0, 7.0, 7.0]],
    ]
)
TARGETS = np.array([[1, 0, 2, 3], [3, 1, 0, 0]])
MASK = np.array([[False, True, True, True], [True, True, False, False]])
LENGTHS = np.array([3.0, 2.0])
REFERENCE_NLL = np.array([1.9, 4.1])

Loss = Callable[[Tensor, Tensor], Tensor]


def log_softmax(logits: FloatArray) -> FloatArray:
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


# By hand: log p of the targets, with zeros where nothing is scored.
LOG_P = np.where(MASK, np.take_along_axis(log_softmax(LOGITS), TARGETS[..., None], -1)[..., 0], 0.0)
NLL = -LOG_P.sum(1)
P = np.exp(LOG_P)
MEAN_P = np.exp(-NLL / LENGTHS)


def of_logits(loss: Loss, logits: Tensor) -> Tensor:
    chosen = logits.log_softmax(-1).gather(-1, torch.from_numpy(TARGETS)[..., None]).squeeze(-1)
    return loss(chosen, torch.from_numpy(MASK))


def forget_loss(name: str, reference_nll: FloatArray | None = None, **parameters: Any) -> Loss:
    """Return the loss of a method with these parameters, the others being its defaults."""
    method = METHODS[name]

    def loss(log_probs: Tensor, mask: Tensor) -> Tensor:
        reference = None
        if reference_nll is not None:
            reference = torch.from_numpy(reference_nll).to(log_probs.dtype)[: len(mask)]
        return method.loss(ForgetBatch(log_probs, mask, reference), **parsed(method, parameters))

    return loss


def npo(beta: float) -> Loss:
    return forget_loss("npo", REFERENCE_NLL, beta=beta)


def simnpo(beta: float, gamma: float) -> Loss:
    return forget_loss("simnpo", beta=beta, gamma=gamma)


def ga(average: Average = "tokens") -> Loss:
    return forget_loss("ga", average=average)


def nll(average: Average = "tokens") -> Loss:
    return lambda log_probs, mask: losses.nll_loss(log_probs, mask, average)


def wga(beta: float, granularity: Granularity = "token", average: Average = "tokens") -> Loss:
    return forget_loss("wga", beta=beta, granularity=granularity, average=average)


def simimp(beta: float, granularity: Granularity = "token", average: Average = "tokens") -> Loss:
    return forget_loss("simimp", beta=beta, granularity=granularity, average=average)


def satimp(beta1: float, beta2: float, granularity: Granularity = "token", average: Average = "tokens") -> Loss:
    return forget_loss("satimp", beta1=beta1, beta2=beta2, granularity=granularity, average=average)


UNWEIGHTED: dict[str, Loss] = {
    "nll tokens": nll(),
    "nll samples": nll("samples"),
    "ga tokens": ga(),
    "ga samples": ga("samples"),
    "npo": npo(0.1),
    "simnpo": simnpo(4.5, 0.5),
}
WEIGHTED: dict[str, Loss] = {
    "wga token": wga(1.5),
    "wga instance": wga(1.5, "instance"),
    "wga group": wga(1.5, "group"),
    "simimp token": simimp(2.0),
    "simimp instance": simimp(2.0, "instance", "samples"),
    "satimp token": satimp(5.0, 0.1),
    "satimp group": satimp(5.0, 0.1, "group", "samples"),
}
ALL = UNWEIGHTED | WEIGHTED
all_losses = pytest.mark.parametrize("loss", ALL.values(), ids=ALL.keys())


def softplus(x: FloatArray) -> FloatArray:
    return np.asarray(np.log(1 + np.exp(x)))


def ascent(weights: FloatArray) -> float:
    return float((weights * LOG_P).sum() / 5)


EXPECTED = {
    "nll tokens": NLL.sum() / 5,
    "nll samples": (NLL / LENGTHS).mean(),
    "ga tokens": -NLL.sum() / 5,
    "ga samples": -(NLL / LENGTHS).mean(),
    "npo": 2 / 0.1 * softplus(-0.1 * (NLL - REFERENCE_NLL)).mean(),
    "simnpo": 2 / 4.5 * softplus(-4.5 * (NLL / LENGTHS - 0.5)).mean(),
    "wga token": ascent(P**1.5),
    "wga instance": ascent((MEAN_P**1.5)[:, None]),
    "wga group": ascent(MEAN_P.mean() ** 1.5),
    "simimp token": ascent((1 - P) ** 2),
    "simimp instance": -((1 - MEAN_P) ** 2 * NLL / LENGTHS).mean(),
    "satimp token": ascent(P**5 * (1 - P) ** 0.1),
    "satimp group": -(MEAN_P.mean() ** 5 * (1 - MEAN_P.mean()) ** 0.1 * NLL / LENGTHS).mean(),
}


@pytest.mark.parametrize("name", ALL)
def test_a_loss_has_its_closed_form(name: str) -> None:
    assert of_logits(ALL[name], torch.from_numpy(LOGITS)).item() == pytest.approx(EXPECTED[name], rel=1e-12)


def test_hand_worked_numbers() -> None:
    log_probs = torch.tensor([[0.5, 0.25, 0.5], [0.1, 1.0, 1.0]], dtype=torch.float64).log()
    mask = torch.tensor([[True, True, True], [True, False, False]])
    ln2, ln10 = np.log(2), np.log(10)
    assert ga("tokens")(log_probs, mask).item() == pytest.approx(-(4 * ln2 + ln10) / 4)
    assert ga("samples")(log_probs, mask).item() == pytest.approx(-(4 * ln2 / 3 + ln10) / 2)
    wga_tokens = -(0.5 * ln2 + 0.25 * 2 * ln2 + 0.5 * ln2 + 0.1 * ln10) / 4
    assert wga(1.0)(log_probs, mask).item() == pytest.approx(wga_tokens)


@pytest.mark.parametrize("loss", UNWEIGHTED.values(), ids=UNWEIGHTED.keys())
def test_the_gradient_is_that_of_finite_differences(loss: Loss) -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: of_logits(loss, z), logits)


@pytest.mark.parametrize("average", ["tokens", "samples"])
def test_the_gradient_of_weighted_ascent_is_that_of_finite_differences(average: Average) -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    weights = torch.linspace(0, 1, 8, dtype=torch.float64).reshape(2, 4)
    assert torch.autograd.gradcheck(
        lambda z: of_logits(lambda p, m: losses.weighted_ascent(p, m, weights, average), z), logits
    )


def gradient(loss: Loss, log_probs: FloatArray = LOG_P, mask: npt.NDArray[np.bool_] = MASK) -> FloatArray:
    leaf = torch.from_numpy(log_probs).requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, torch.from_numpy(mask)), leaf)
    return np.asarray(found.numpy())


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (wga(1.5), P**1.5),
        (wga(1.5, "instance"), np.repeat(MEAN_P[:, None] ** 1.5, 4, axis=1)),
        (wga(1.5, "group"), np.full((2, 4), MEAN_P.mean() ** 1.5)),
        (simimp(2.0), (1 - P) ** 2),
        (satimp(5.0, 0.1), P**5 * (1 - P) ** 0.1),
    ],
    ids=["wga token", "wga instance", "wga group", "simimp", "satimp"],
)
def test_the_gradient_takes_the_weights_for_constants(loss: Loss, weights: FloatArray) -> None:
    np.testing.assert_allclose(gradient(loss), np.where(MASK, weights / 5, 0), rtol=1e-12)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_npo_of_the_reference_itself_is_two_log_two_over_beta_and_pushes_like_gradient_ascent(beta: float) -> None:
    def loss(log_probs: Tensor, mask: Tensor) -> Tensor:
        summed = losses.sample_nll(log_probs, mask)
        return forget_loss("npo", summed.detach().numpy(), beta=beta)(log_probs, mask)

    value = loss(torch.from_numpy(LOG_P), torch.from_numpy(MASK)).item()
    assert value == pytest.approx(2 * np.log(2) / beta, rel=1e-12)
    # 2 σ(0) = 1: the gradient of mean_i Σ_t log p_t.
    np.testing.assert_allclose(gradient(loss), MASK / 2, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_push_of_npo_fades_with_the_sigmoid_of_what_is_forgotten(beta: float) -> None:
    push = 2 / (1 + np.exp(beta * (NLL - REFERENCE_NLL)))
    np.testing.assert_allclose(gradient(npo(beta)), MASK * push[:, None] / 2, rtol=1e-12)


def test_npo_with_beta_towards_zero_is_gradient_ascent() -> None:
    np.testing.assert_allclose(gradient(npo(1e-6)), MASK / 2, rtol=1e-5)


def test_npo_far_below_the_reference_nll_is_twice_the_distance_at_full_push() -> None:
    nll = torch.zeros(2, requires_grad=True)
    value = losses.bounded_ascent(nll - 1e4, 1.0)
    assert value.item() == pytest.approx(2e4)
    assert torch.autograd.grad(value, nll)[0].tolist() == [-1.0, -1.0]


def test_simnpo_pushes_with_half_its_strength_where_the_mean_nll_is_gamma() -> None:
    log_probs = np.where(MASK, -1.5, 0.0)
    np.testing.assert_allclose(gradient(simnpo(4.5, 1.5), log_probs), MASK / (2 * LENGTHS[:, None]), rtol=1e-12)


def test_simnpo_with_twice_the_tokens_of_the_same_probability_is_the_same() -> None:
    single, double = np.full((1, 3), -0.7), np.full((1, 6), -0.7)
    values = [
        simnpo(2.5, 0.1)(torch.from_numpy(p), torch.ones(p.shape, dtype=torch.bool)).item()
        for p in (single, double)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-14)


@pytest.mark.parametrize(
    "loss",
    [wga(0.0), simimp(0.0), satimp(0.0, 0.0, "instance"), wga(0.0, "group")],
    ids=["wga", "simimp", "satimp instance", "wga group"],
)
def test_exponents_of_zero_are_gradient_ascent(loss: Loss) -> None:
    value = loss(torch.from_numpy(LOG_P), torch.from_numpy(MASK)).item()
    assert value == pytest.approx(EXPECTED["ga tokens"], rel=1e-14)


@all_losses
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, -7.0])
def test_what_stands_in_the_padding_reaches_neither_loss_nor_gradient(loss: Loss, junk: float) -> None:
    dirty = np.where(MASK, LOG_P, junk)
    mask = torch.from_numpy(MASK)
    assert loss(torch.from_numpy(dirty), mask).item() == loss(torch.from_numpy(LOG_P), mask).item()
    found = gradient(loss, dirty)
    np.testing.assert_array_equal(found, gradient(loss))
    assert (found[~MASK] == 0).all()


@all_losses
def test_more_padding_changes_nothing(loss: Loss) -> None:
    padding = ((0, 0), (0, 5))
    wide = torch.from_numpy(np.pad(LOG_P, padding)), torch.from_numpy(np.pad(MASK, padding))
    narrow = torch.from_numpy(LOG_P), torch.from_numpy(MASK)
    assert loss(*wide).item() == pytest.approx(loss(*narrow).item(), rel=1e-14)


@pytest.mark.parametrize(
    "loss",
    [loss for name, loss in ALL.items() if name != "npo"],
    ids=[name for name in ALL if name != "npo"],
)
def test_the_order_of_the_batch_does_not_matter(loss: Loss) -> None:
    forward = loss(torch.from_numpy(LOG_P), torch.from_numpy(MASK)).item()
    backward = loss(torch.from_numpy(LOG_P[::-1].copy()), torch.from_numpy(MASK[::-1].copy())).item()
    assert backward == pytest.approx(forward, rel=1e-14)


def test_the_order_of_the_batch_does_not_matter_to_npo_when_its_references_move_along() -> None:
    log_p, mask = torch.from_numpy(LOG_P), torch.from_numpy(MASK)
    value = npo(0.1)(log_p, mask).item()
    moved = forget_loss("npo", REFERENCE_NLL[::-1].copy(), beta=0.1)
    assert moved(log_p.flip(0), mask.flip(0)).item() == pytest.approx(value, rel=1e-14)
    assert npo(0.1)(log_p.flip(0), mask.flip(0)).item() != pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    "loss",
    [nll("samples"), ga("samples"), simnpo(4.5, 0.5), wga(1.5, "instance", "samples")],
    ids=["nll", "ga", "simnpo", "wga instance"],
)
def test_a_mean_over_samples_is_the_mean_of_each_sample_alone(loss: Loss) -> None:
    alone = [loss(torch.from_numpy(LOG_P[i : i + 1]), torch.from_numpy(MASK[i : i + 1])).item() for i in (0, 1)]
    together = loss(torch.from_numpy(LOG_P), torch.from_numpy(MASK)).item()
    assert together == pytest.approx(np.mean(alone), rel=1e-14)


@all_losses
def test_a_sample_alone_is_a_batch_of_one(loss: Loss) -> None:
    bare, mask = LOG_P[:1, 1:], MASK[:1, 1:]
    alone = loss(torch.from_numpy(bare.copy()), torch.from_numpy(mask.copy())).item()
    padded = loss(torch.from_numpy(LOG_P[:1]), torch.from_numpy(MASK[:1])).item()
    assert alone == pytest.approx(padded, rel=1e-14)


@pytest.mark.parametrize("make", [wga, simimp])
def test_the_group_of_one_sample_is_an_instance(make: Callable[..., Loss]) -> None:
    one = torch.from_numpy(LOG_P[:1]), torch.from_numpy(MASK[:1])
    assert make(1.5, "group")(*one).item() == pytest.approx(make(1.5, "instance")(*one).item(), rel=1e-14)


@all_losses
@pytest.mark.parametrize("log_p", [-1e4, -200.0, -1e-30, -0.0], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_probabilities_have_a_finite_loss_and_gradient(
    loss: Loss, log_p: float, dtype: torch.dtype
) -> None:
    leaf = torch.full((2, 4), log_p, dtype=dtype, requires_grad=True)
    value = loss(leaf, torch.from_numpy(MASK))
    (found,) = torch.autograd.grad(value, leaf)
    assert value.dtype is dtype
    assert value.isfinite()
    assert found.isfinite().all()


def test_the_weight_of_a_long_unlikely_answer_does_not_underflow() -> None:
    log_probs = torch.full((1, 500), -3.0)
    mask = torch.ones(1, 500, dtype=torch.bool)
    assert losses.sample_nll(log_probs, mask).neg().exp().item() == 0
    value = wga(1.0, "instance")(log_probs, mask).item()
    assert value == pytest.approx(-3 * np.exp(-3), rel=1e-5)


def test_a_small_power_of_a_probability_that_underflows_does_not() -> None:
    weight = losses.saturation(torch.tensor(-200.0), 0.1)
    assert weight.item() == pytest.approx(np.exp(-20), rel=1e-5)


def test_the_importance_of_an_almost_certain_token_is_exact() -> None:
    weight = losses.importance(torch.tensor(-1e-12), 1.0)
    assert weight.item() == pytest.approx(1e-12, rel=1e-5, abs=0)


@pytest.mark.parametrize("size", range(1, 40))
def test_a_group_that_is_certain_of_everything_weighs_nothing_and_is_not_nan(size: int) -> None:
    log_probs = torch.zeros(size, 3)
    mask = torch.ones(size, 3, dtype=torch.bool)
    confidence = losses.log_confidence(log_probs, mask, "group")
    assert 0 <= losses.importance(confidence, 0.5).item() < 1e-3


OTHER = log_softmax(np.flip(LOGITS, axis=-1) * 0.6 + 0.1)


def test_kl_has_its_closed_form_and_is_that_of_torch() -> None:
    own = log_softmax(LOGITS)
    by_hand = (np.exp(OTHER) * (OTHER - own)).sum(-1)[MASK].mean()
    reference, model, mask = torch.from_numpy(OTHER), torch.from_numpy(own), torch.from_numpy(MASK)
    value = losses.kl_loss(reference, model, mask).item()
    assert value == pytest.approx(by_hand, rel=1e-12)
    by_torch = functional.kl_div(model[mask], reference[mask].exp(), reduction="sum").item() / 5
    assert value == pytest.approx(by_torch, rel=1e-12)
    assert losses.kl_loss(reference[mask], model[mask], mask[mask]).item() == value


def test_kl_vanishes_at_the_reference_with_its_gradient_and_is_positive_elsewhere() -> None:
    reference, mask = torch.from_numpy(OTHER), torch.from_numpy(MASK)
    logits = torch.from_numpy(OTHER.copy()).requires_grad_()
    value = losses.kl_loss(reference, logits.log_softmax(-1), mask)
    assert value.item() == pytest.approx(0, abs=1e-15)
    assert torch.autograd.grad(value, logits)[0].abs().max().item() < 1e-15
    generator = np.random.default_rng(0)
    for _ in range(50):
        other = torch.from_numpy(log_softmax(generator.normal(size=LOGITS.shape)))
        assert losses.kl_loss(reference, other, mask).item() > 0


def test_the_gradient_of_kl_is_that_of_finite_differences() -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    reference, mask = torch.from_numpy(OTHER), torch.from_numpy(MASK)
    assert torch.autograd.gradcheck(lambda z: losses.kl_loss(reference, z.log_softmax(-1), mask), logits)


def test_kl_sees_nothing_of_the_padding() -> None:
    own = torch.from_numpy(log_softmax(LOGITS))
    reference, mask = torch.from_numpy(OTHER), torch.from_numpy(MASK)
    clean = losses.kl_loss(reference, own, mask).item()
    dirty = own.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    value = losses.kl_loss(reference.masked_fill(~mask[..., None], -torch.inf), dirty, mask)
    assert value.item() == clean
    (found,) = torch.autograd.grad(value, dirty)
    assert (found[~mask] == 0).all()
    assert found.isfinite().all()
