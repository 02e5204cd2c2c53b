"""Sign probes and the parts of MRD, against plain autograd and against many draws in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.arrays import FloatArray
from mrd_core.model import likelihood
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import Probe, SampleGradients, competitors_direction
from mrd_core.model.likelihood import KeepDouble, Passes, Scorer
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import SIGNS, EstimatorConfig, Normalisation
from mrd_core.scoring.draws import Draws, parts, scores
from mrd_core.scoring.exact import parts_of_tokens
from mrd_core.scoring.mrd import SPREAD_PAIRS, Baseline, Estimator, measure_baseline
from mrd_core.scoring.probes import SignProbes
from tests.support import tiny

SAMPLES = tiny.encoded(9, 5, 14, 4, 7)
SIGMA = 2e-4


def network() -> Any:
    """Return a small model in double precision, whose gradients are known exactly."""
    return tiny.in_double(tiny.llama(tie_word_embeddings=True))


def baseline_of(model: Any, samples: Encoded = SAMPLES) -> Baseline:
    with KeepDouble():
        return Baseline(tiny.log_probs(model, samples))


def token_speeds(model: Any, samples: Encoded) -> FloatArray:
    """Return p(1−p)‖∇m‖²/|P| of every scored position by plain autograd, a token at a time, shape (T,)."""
    weights = [weight.requires_grad_(True) for weight in model.parameters()]
    speeds = []
    for sample in samples.samples:
        ids = torch.from_numpy(sample.tokens).unsqueeze(0)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        targets = ids[0, 1:, None]
        odds = (logits.gather(1, targets) - logits.scatter(1, targets, -torch.inf).logsumexp(1, True)).squeeze(1)
        for one in odds:
            gradients = torch.autograd.grad(one, weights, retain_graph=True)
            p = torch.sigmoid(one.detach())
            square = sum(gradient.square().sum() for gradient in gradients)
            speeds.append(float(p * (1 - p) * square / -torch.log(p)))
    model.requires_grad_(False)
    return np.array(speeds)


def probes_of(
    model: Any, scope: Scope, seed: int = 0, samples: Encoded = SAMPLES, *, with_spread: bool = False
) -> SignProbes:
    reader = tiny.reader(model, 40)
    with KeepDouble():
        gradients = SampleGradients(reader, samples)
    assert gradients.in_batches
    return SignProbes(gradients, samples, baseline_of(model, samples), scope, seed, with_spread=with_spread)


def estimates(source: SignProbes, units: int, part: str = "speed") -> FloatArray:
    with KeepDouble():
        return np.concatenate([source.unit(index)[part] for index in range(units)])


@pytest.mark.parametrize("scope", Scope)
def test_probes_are_the_speed_on_average(scope: Scope) -> None:
    model = network()
    with KeepDouble():
        speeds = token_speeds(model, SAMPLES)
    found = estimates(probes_of(model, scope), 100)
    assert found.shape == (100 * SIGNS, 5, 2)
    for place, each in enumerate(Scope):
        if each is Scope.FULL and scope is Scope.ANSWER:
            assert np.isnan(found[:, :, place]).all()
            continue
        expected = np.bincount(SAMPLES.owner, weights=speeds * SAMPLES.in_scope(each), minlength=5)
        error = found[:, :, place].std(axis=0, ddof=1) / np.sqrt(len(found))
        np.testing.assert_array_less(np.abs(found[:, :, place].mean(axis=0) - expected), 4 * error + 1e-9)


class Counted(SampleGradients):
    """Gradients that remember how many backward passes were asked for."""

    passes = 0

    def squared_norms(self, encoded: Encoded, probes: Sequence[Probe]) -> FloatArray:
        self.passes += len(probes)
        return super().squared_norms(encoded, probes)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, 2),
        ({"scope": Scope.FULL}, 4),
        ({"preview": True}, 4),
        ({"scope": Scope.FULL, "preview": True}, 8),
    ],
)
def test_a_unit_makes_as_many_backward_passes_as_are_booked(wishes: dict[str, Any], expected: int) -> None:
    config, model = EstimatorConfig.model_validate(wishes), network()
    with KeepDouble():
        gradients = Counted(tiny.reader(model, 40), SAMPLES)
        probes = SignProbes(
            gradients, SAMPLES, baseline_of(model), config.scope, seed=0, with_spread=config.preview
        )
        probes.unit(0)
    assert gradients.passes == config.backward_passes_per_unit == expected


def token_spreads(model: Any, samples: Encoded) -> FloatArray:
    """Return (1−p) Σ_v q_v‖∇z_v − ∇z̄‖²/|P| of every scored position by plain autograd, a logit at a time, (T,)."""
    weights = [weight.requires_grad_(True) for weight in model.parameters()]
    spreads = []
    for sample in samples.samples:
        ids = torch.from_numpy(sample.tokens).unsqueeze(0)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        for of_token, target in zip(logits, ids[0, 1:], strict=True):
            rows = [torch.autograd.grad(logit, weights, retain_graph=True) for logit in of_token]
            jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
            q = of_token.detach().scatter(0, target, -torch.inf).softmax(0)
            around = jacobian - q @ jacobian
            log_p = float(of_token.detach().log_softmax(0)[target])
            spreads.append(-np.expm1(log_p) * float(q @ around.square().sum(1)) / -log_p)
    model.requires_grad_(False)
    return np.array(spreads)


@pytest.mark.parametrize("scope", Scope)
def test_probes_of_a_preview_are_the_spread_on_average(scope: Scope) -> None:
    model, samples = network(), tiny.encoded(5, 7, 4)
    with KeepDouble():
        spreads = token_spreads(model, samples)
    source = probes_of(model, scope, samples=samples, with_spread=True)
    found = estimates(source, 40, "spread")
    assert found.shape == (40 * SIGNS, 3, 2)
    for place, each in enumerate(Scope):
        if each is Scope.FULL and scope is Scope.ANSWER:
            assert np.isnan(found[:, :, place]).all()
            continue
        expected = np.bincount(samples.owner, weights=spreads * samples.in_scope(each), minlength=3)
        error = found[:, :, place].std(axis=0, ddof=1) / np.sqrt(len(found))
        np.testing.assert_array_less(np.abs(found[:, :, place].mean(axis=0) - expected), 3 * error)
    # The speed is not disturbed by it.
    alone = probes_of(model, scope, samples=samples)
    np.testing.assert_allclose(estimates(source, 2), estimates(alone, 2), rtol=1e-12)


def test_tokens_taken_apart_are_those_of_plain_autograd() -> None:
    model, sample = network(), tiny.encoded(9, answer_from=4)
    baseline = baseline_of(model, sample)
    with KeepDouble():
        speeds, spreads = token_speeds(model, sample), token_spreads(model, sample)
        gradients = SampleGradients(tiny.reader(model, 20), sample)
        speed, probed = parts_of_tokens(gradients, sample, baseline, 200)
    np.testing.assert_allclose(speed, speeds, rtol=1e-9)
    error = probed.std(axis=0, ddof=1) / np.sqrt(200)
    np.testing.assert_array_less(np.abs(probed.mean(axis=0) - spreads), 4 * error)


def test_tokens_that_are_left_out_are_not_taken_apart() -> None:
    model, sample = network(), tiny.encoded(6)
    log_probs = baseline_of(model, sample).log_probs.copy()
    log_probs[2] = -1e-9
    with KeepDouble():
        gradients = SampleGradients(tiny.reader(model), sample)
        speed, spreads = parts_of_tokens(gradients, sample, Baseline(log_probs), 1)
    for values in (speed, spreads[0]):
        np.testing.assert_array_equal(np.isnan(values), [False, False, True, False, False])
    speed, spreads = parts_of_tokens(gradients, sample, Baseline(np.full(5, -1e-9)), 1)
    assert np.isnan([speed, spreads[0]]).all()


def test_over_all_signs_the_direction_gives_the_spread_exactly() -> None:
    words, generator = 6, torch.Generator().manual_seed(0)
    logits = torch.randn(words, generator=generator, dtype=torch.float64)
    jacobian = torch.randn(words, 9, generator=generator, dtype=torch.float64)
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=words)), dtype=torch.float64)
    target = torch.tensor(2)
    at_logits = competitors_direction(logits.expand_as(signs), target.expand(len(signs)), signs)
    q = logits.scatter(0, target, -torch.inf).softmax(0)
    expected = (q * (jacobian - q @ jacobian).square().sum(1)).sum()
    torch.testing.assert_close((at_logits @ jacobian).square().sum(1).mean(), expected)


def test_of_a_single_token_one_probe_is_the_speed() -> None:
    model, single = network(), tiny.encoded(4, 4, answer_from=2)
    with KeepDouble():
        expected = token_speeds(model, single)[single.answer]
    np.testing.assert_allclose(estimates(probes_of(model, Scope.ANSWER, samples=single), 1)[0, :, 0], expected)


def test_a_probe_is_the_same_whatever_was_drawn_before_and_in_whatever_batches() -> None:
    model = network()
    first, second = (probes_of(model, Scope.FULL, with_spread=True) for _ in range(2))
    with KeepDouble():
        expected = [first.unit(index) for index in (0, 1, 2)][2]
        again, other = second.unit(2), probes_of(model, Scope.FULL, seed=1, with_spread=True).unit(2)
        gradients = SampleGradients(tiny.reader(model, 1), SAMPLES)
        alone = SignProbes(gradients, SAMPLES, baseline_of(model), Scope.FULL, 0, with_spread=True).unit(2)
    for part in ("speed", "spread"):
        np.testing.assert_array_equal(again[part], expected[part])
        np.testing.assert_allclose(alone[part], expected[part], rtol=1e-12)
        assert not np.allclose(other[part], expected[part])


def drawn(model: Any, sigma: float, pairs: int, units: int) -> Draws:
    """Draw pairs with their parts, and probes of the answer."""
    passes = Passes(tiny.reader(Scorer(model), 40), SAMPLES)
    with KeepDouble():
        baseline = measure_baseline(passes, torch.float64)
        noise = PerturbedModel(passes.scorer, Noise(0, sigma), streamed=False)
        estimator = Estimator(passes, noise, baseline, "antithetic", with_parts=True)
        drawn = [estimator.unit(index) for index in range(pairs)]
    return Draws(
        SAMPLES.sample_ids,
        np.concatenate([unit.values for unit in drawn]),
        estimator.kept,
        "antithetic",
        sigma,
        np.stack([unit.parts for unit in drawn]),
        estimates(probes_of(model, Scope.ANSWER), units),
    )


@pytest.mark.slow
def test_pairs_with_probes_and_many_plain_pairs_have_the_same_mean() -> None:
    model = network()
    many = scores(drawn(model, SIGMA, 200, 1), Scope.ANSWER, Normalisation.MEAN)
    plain = Draws(**{**vars(drawn(model, SIGMA, 200, 1)), "parts": None, "probes": None})
    expected = scores(plain, Scope.ANSWER, Normalisation.MEAN)
    few = scores(drawn(model, SIGMA, 12, 6), Scope.ANSWER, Normalisation.MEAN)
    for frame in (many, few):
        error = np.hypot(frame["mrd_se"], expected["mrd_se"])
        assert (np.abs(frame["mrd_signed"] - expected["mrd_signed"]) < 3 * error).all()
    # Probes are worth several times as many pairs.
    assert (few["mrd_se"] / np.sqrt(200 / 12) < expected["mrd_se"]).mean() > 0.5


@pytest.mark.slow
def test_what_depends_on_sigma_is_far_below_the_error() -> None:
    model = network()
    half, whole = (
        scores(drawn(model, sigma, 12, 1), Scope.ANSWER, Normalisation.MEAN) for sigma in (SIGMA / 2, SIGMA)
    )
    # The same noise: what is left is of second order, and its limit at σ → 0 is a third of it away from σ/2.
    shift = np.abs(whole["mrd_signed"] / SIGMA**2 - 4 * half["mrd_signed"] / SIGMA**2)
    assert (4 / 3 * shift < 0.1 * whole["mrd_se"] / SIGMA**2).all()


def test_the_parts_of_a_pair_make_up_the_pair() -> None:
    model = network()
    draws = drawn(model, SIGMA, SPREAD_PAIRS + 2, 8)
    found = parts(draws, Scope.ANSWER, Normalisation.SUM)
    assert np.isfinite(draws.parts[:SPREAD_PAIRS]).all()
    assert np.isnan(draws.parts[SPREAD_PAIRS:, :, :, 1]).all()
    whole = -2 * scores(draws, Scope.ANSWER, Normalisation.SUM)["mrd_signed"] / SIGMA**2
    together = found["speed"] + found["spread"] + found["curvature"]
    # Two pairs tell of the whole that were not looked at for the spread.
    assert (np.abs(whole - together) < 5 * found["curvature_se"]).all()
    assert (found[["speed", "spread"]] > 0).all(axis=None)


def test_the_spread_of_a_pair_is_that_of_its_logits() -> None:
    model = network()
    passes = Passes(tiny.reader(Scorer(model), 40), SAMPLES)
    baseline = baseline_of(model)
    noise = PerturbedModel(passes.scorer, Noise(0, SIGMA), streamed=False)
    with KeepDouble():
        unit = Estimator(passes, noise, baseline, "antithetic", with_parts=True).unit(0)
        logits = []
        for sign in (1, -1):
            with noise.draw(0, sign), torch.no_grad():
                of_sign = [
                    model(input_ids=torch.from_numpy(sample.tokens)[None], use_cache=False).logits[0, :-1]
                    for sample in SAMPLES.samples
                ]
                logits.append(torch.cat(of_sign).numpy())
    targets = np.concatenate([sample.tokens[1:] for sample in SAMPLES.samples])
    expected = []
    for t, y in enumerate(targets):
        others = np.arange(tiny.VOCABULARY) != y
        first, second = (of_sign[t, others] for of_sign in logits)
        q = np.exp((first + second) / 2)
        q /= q.sum()
        half = (first - second) / 2
        spread = (q * (half - (q * half).sum()) ** 2).sum()
        p = np.exp(baseline.log_probs[t])
        expected.append((1 - p) * spread / -np.log(p) / SIGMA**2)
    np.testing.assert_allclose(unit.token_parts[1], expected, rtol=1e-5)


class CountedNoise(PerturbedModel):
    """Noise that counts how often weights are put in the place of others."""

    count = 0

    def draw(self, index: int, sign: int = 1) -> AbstractContextManager[None]:
        self.count += 1
        return super().draw(index, sign)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_pair_of_a_large_set_is_drawn_in_portions_to_the_very_same_bits(
    monkeypatch: pytest.MonkeyPatch, is_streamed: bool
) -> None:
    model = tiny.llama()
    samples = tiny.encoded(
        *[30] * (5 + sum(map(torch.numel, model.parameters())) // (29 * model.config.hidden_size))
    )
    units = []
    for most, times in ((likelihood.KEPT, 2), (1, 4)):
        monkeypatch.setattr(likelihood, "KEPT", most)
        passes = Passes(tiny.reader(Scorer(model), 100), samples)
        noise = CountedNoise(passes.scorer, Noise(0, SIGMA), streamed=is_streamed)
        units.append(Estimator(passes, noise, Baseline(passes()), "antithetic", with_parts=True).unit(0))
        assert noise.count == times
    for name, values in vars(units[0]).items():
        np.testing.assert_array_equal(values, getattr(units[1], name))


def test_a_pair_that_runs_out_of_memory_is_drawn_anew_in_smaller_batches() -> None:
    roomy, cramped = (Passes(tiny.reader(Scorer(network()), 40), SAMPLES) for _ in range(2))
    noise = [PerturbedModel(passes.scorer, Noise(0, SIGMA), streamed=False) for passes in (roomy, cramped)]
    calls = []

    def crowd(_scorer: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        calls.append(arguments[0].numel())
        # In the second of both passes.
        if len(calls) > len(roomy.batches) and calls[-1] > 20:
            raise torch.OutOfMemoryError("no room")

    cramped.scorer.register_forward_pre_hook(crowd)
    baseline = baseline_of(network())
    with KeepDouble():
        units = [
            Estimator(passes, weights, baseline, "antithetic", with_parts=True).unit(0)
            for passes, weights in zip((roomy, cramped), noise, strict=True)
        ]
    assert cramped.batch_tokens <= 20
    for name, values in vars(units[0]).items():
        np.testing.assert_allclose(values, getattr(units[1], name), rtol=1e-6, err_msg=name)


def test_a_probe_says_how_far_it_is() -> None:
    shares: list[float] = []
    reader = tiny.reader(network(), 20, on_batch=shares.append)
    gradients = SampleGradients(reader, SAMPLES)
    shares.clear()
    SignProbes(gradients, SAMPLES, baseline_of(network()), Scope.ANSWER, 0).unit(0)
    assert len(shares) > 2
    assert shares == [place / len(shares) for place in range(len(shares))]
