"""The estimator against Algorithm 1 by brute force, a Hessian in closed form, and an exact sampler."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mrd_core.model.encoding import Encoded
from mrd_core.model.likelihood import KeepDouble, Scorer
from mrd_core.model.perturbation import Noise
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.draws import Draws, scores
from mrd_core.scoring.mrd import LOG_PROB_FLOOR, Baseline, Estimator, per_sample
from tests.support import tiny

SIGMA = 1e-2
PAIRS = 4


class ExactRMSNorm(nn.Module):
    """An RMSNorm that computes in whatever precision it is given."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        return self.weight * hidden / (hidden.square().mean(-1, keepdim=True) + self.epsilon).sqrt()


def exact(network: nn.Module) -> nn.Module:
    """Return a copy of a Llama in which nothing casts fp64 to fp32."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                setattr(parent, name, ExactRMSNorm(child.weight, child.variance_epsilon))
    return network


def log_probs_of_one(network: nn.Module, tokens: np.ndarray) -> list[float]:
    """Return log p of every token after the first, one plain softmax at a time."""
    with torch.no_grad():
        logits = network(input_ids=torch.from_numpy(tokens)[None]).logits[0]
    return [float(logits[t].log_softmax(-1)[tokens[t + 1]]) for t in range(len(tokens) - 1)]


def perturb(network: nn.Module, noise: Noise, names: dict[str, str], draw: int, sign: int) -> None:
    """Add δ_draw to the weights in place."""
    for own_name, parameter in network.named_parameters():
        parameter.data += sign * noise.sigma * noise.standard(draw, names[own_name], parameter)


def algorithm_1(
    network: nn.Module, samples: Encoded, evaluations: list[tuple[int, int]], noise: Noise
) -> np.ndarray:
    """Feng et al., Algorithm 1, as printed: each sample, each draw, weights loaded again, tokens in a loop.

    Returns:
        Σ ΔP, Σ ΔP/P and Σ |ΔP/P| over the answer and over all tokens, shape (K, N, 2, 3).
    """
    truth, perturbed = exact(network), exact(network)
    stored = copy.deepcopy(truth.state_dict())
    scorer_names = {id(p): name for name, p in Scorer(network).named_parameters()}
    names = {name: scorer_names[id(p)] for name, p in network.named_parameters()}
    values = np.zeros((len(evaluations), len(samples), 2, 3))
    for i, sample in enumerate(samples.samples):
        for k, (draw, sign) in enumerate(evaluations):
            perturbed.load_state_dict(stored)
            perturb(perturbed, noise, names, draw, sign)
            before = log_probs_of_one(truth, sample.tokens)
            after = log_probs_of_one(perturbed, sample.tokens)
            for t, (p, moved) in enumerate(zip(before, after, strict=True)):
                terms = (p - moved, (p - moved) / p, abs((p - moved) / p))
                values[k, i, 1] += terms
                if sample.answer[t]:
                    values[k, i, 0] += terms
    return values


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A random Llama in fp64, head and embedding tied."""
    return tiny.in_double(tiny.llama(tie_word_embeddings=True))


@pytest.fixture(scope="module")
def samples() -> Encoded:
    """Samples of several lengths, so that batches have padding."""
    return tiny.encoded(7, 4, 12, 9)


def evaluations_of(mode: str) -> list[tuple[int, int]]:
    """Return (draw, sign) of eight evaluations."""
    if mode == "plain":
        return [(draw, 1) for draw in range(2 * PAIRS)]
    return [(draw, sign) for draw in range(PAIRS) for sign in (1, -1)]


def drawn(network: nn.Module, samples: Encoded, mode: str) -> tuple[Draws, Estimator]:
    """Return eight evaluations of the estimator under test."""
    with KeepDouble():
        source, _baseline = tiny.estimator(Scorer(network), samples, SIGMA, mode=mode, batch_tokens=24)
        count = PAIRS if mode == "antithetic" else 2 * PAIRS
        values = np.concatenate([source.unit(index).values for index in range(count)])
    return Draws(samples.sample_ids, values, source.kept, mode), source


@pytest.mark.parametrize("mode", ["antithetic", "plain"])
def test_draws_are_those_of_algorithm_1_by_brute_force(network: nn.Module, samples: Encoded, mode: str) -> None:
    draws, _ = drawn(network, samples, mode)
    expected = algorithm_1(network, samples, evaluations_of(mode), Noise(0, SIGMA))
    np.testing.assert_allclose(draws.values, expected, rtol=1e-6, atol=1e-9)
    assert np.abs(expected).min() > 1e-5


@pytest.mark.parametrize("mode", ["antithetic", "plain"])
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_every_variant_is_its_formula(
    network: nn.Module, samples: Encoded, mode: str, scope: Scope, normalisation: Normalisation
) -> None:
    draws, _ = drawn(network, samples, mode)
    values = algorithm_1(network, samples, evaluations_of(mode), Noise(0, SIGMA))
    values = values[:, :, 0 if scope is Scope.ANSWER else 1]
    tokens = [int(s.answer.sum()) if scope is Scope.ANSWER else len(s.tokens) - 1 for s in samples.samples]
    n = np.array(tokens) if normalisation is Normalisation.MEAN else np.ones(len(samples))
    for formula, expected in (
        (Formula.MRD, np.abs(values[..., 1].mean(axis=0)) / n),
        (Formula.MEAN_ABSOLUTE, values[..., 2].mean(axis=0) / n),
        (Formula.INITIAL, np.abs(values[..., 0]).mean(axis=0) / n),
    ):
        frame = scores(draws, scope, normalisation, formula)
        np.testing.assert_allclose(frame["mrd"], expected, rtol=1e-6)
        assert list(frame["n_tokens"]) == tokens


def test_tokens_hold_the_mean_relative_change_of_a_pair(network: nn.Module, samples: Encoded) -> None:
    _, source = drawn(network, samples, "antithetic")
    with KeepDouble():
        unit = source.unit(0)
    np.testing.assert_allclose(per_sample(unit.tokens, samples), unit.values[:, :, 1, 1].mean(axis=0), rtol=1e-4)


def closed_form(scorer: tiny.LinearSoftmax, samples: Encoded, sigma: float) -> np.ndarray:
    """Return −(σ²/2) Σ_t Tr(H_t)/P_t, the expected relative change (Theorem 3.2, with its sign)."""
    expected = np.zeros(len(samples))
    for i, sample in enumerate(samples.samples):
        x = scorer.features[sample.tokens[:-1]]
        log_p = (x @ scorer.weight.T).log_softmax(-1)
        trace = -x.square().sum(-1) * (1 - log_p.exp().square().sum(-1))
        chosen = log_p[torch.arange(len(x)), torch.from_numpy(sample.tokens[1:])]
        expected[i] = -float((trace / chosen).sum()) * sigma**2 / 2
    return expected


@pytest.fixture(scope="module")
def linear() -> tiny.LinearSoftmax:
    """A model whose Hessian is known."""
    return tiny.LinearSoftmax()


def test_the_estimate_agrees_with_the_hessian_trace(linear: tiny.LinearSoftmax, samples: Encoded) -> None:
    units = tiny.relative_changes(linear, samples, 1e-3, 2000)
    expected = closed_form(linear, samples, 1e-3)
    error = tiny.standard_error(units)
    assert (error < 0.02 * np.abs(expected)).all()
    assert (np.abs(units.mean(axis=0) - expected) < 3 * error).all()


def test_mrd_grows_with_the_square_of_sigma(linear: tiny.LinearSoftmax, samples: Encoded) -> None:
    small = tiny.relative_changes(linear, samples, 1e-4, 20).mean(axis=0)
    large = tiny.relative_changes(linear, samples, 1e-3, 20).mean(axis=0)
    np.testing.assert_allclose(large / small, 100, rtol=1e-3)


def test_pairs_and_plain_draws_have_one_expectation(linear: tiny.LinearSoftmax, samples: Encoded) -> None:
    pairs = tiny.relative_changes(linear, samples, 0.1, 400, seed=1)
    plain = tiny.relative_changes(linear, samples, 0.1, 800, mode="plain", seed=2)
    error = np.hypot(tiny.standard_error(pairs), tiny.standard_error(plain))
    assert (np.abs(pairs.mean(axis=0) - plain.mean(axis=0)) < 3 * error).all()


def test_pairs_have_the_smaller_error_by_far_where_sigma_is_small(
    linear: tiny.LinearSoftmax, samples: Encoded
) -> None:
    pairs = tiny.standard_error(tiny.relative_changes(linear, samples, 1e-4, 50))
    plain = tiny.standard_error(tiny.relative_changes(linear, samples, 1e-4, 100, mode="plain"))
    assert (plain / pairs > 100).all()


def activation_space(
    linear: tiny.LinearSoftmax, tokens: np.ndarray, sigma: float, draws: int, seed: int
) -> np.ndarray:
    """Return `draws` relative changes of one sample from noise on the logits alone.

    For logits X Wᵀ the noise X δᵀ of the whole sequence is σ L Z with L Lᵀ = X Xᵀ and Z standard normal.
    """
    x = linear.features[tokens[:-1]]
    left, singular, _ = torch.linalg.svd(x, full_matrices=False)
    root = left * singular
    torch.testing.assert_close(root @ root.T, x @ x.T)
    generator = torch.Generator().manual_seed(seed)
    z = torch.empty(draws, root.shape[1], tiny.VOCABULARY, dtype=torch.float64).normal_(generator=generator)
    logits = x @ linear.weight.T
    targets = torch.from_numpy(tokens[1:])
    before = logits.log_softmax(-1)[torch.arange(len(x)), targets]
    after = (logits + sigma * root @ z).log_softmax(-1)[:, torch.arange(len(x)), targets]
    return ((before - after) / before).sum(-1).numpy()


@pytest.mark.parametrize("sigma", [0.03, 0.3])
def test_weight_space_and_activation_space_have_one_distribution(linear: tiny.LinearSoftmax, sigma: float) -> None:
    sample, count = tiny.encoded(9, seed=3), 2000
    weights = tiny.relative_changes(linear, sample, sigma, count, mode="plain")[:, 0]
    activations = activation_space(linear, sample.samples[0].tokens, sigma, count, seed=5)
    for moment in (lambda r: r, lambda r: (r - r.mean()) ** 2):
        one, other = moment(weights), moment(activations)
        error = np.hypot(tiny.standard_error(one), tiny.standard_error(other))
        assert error < 0.1 * max(abs(one.mean()), one.std())
        assert abs(one.mean() - other.mean()) < 3 * error


def test_certain_tokens_are_left_out_and_counted() -> None:
    baseline = Baseline(np.array([-1e-9, -0.5, -LOG_PROB_FLOOR, 0.0, float("nan")]))
    assert baseline.kept.tolist() == [False, True, True, False, False]
    change = baseline.relative_change(np.array([-1.0, -0.25, -2e-6, -1.0, -1.0]))
    np.testing.assert_allclose(change, [0, 0.5, -1, 0, 0])


def test_a_sample_of_one_token_has_no_score_and_disturbs_nobody(linear: tiny.LinearSoftmax) -> None:
    alone, _ = tiny.estimator(linear, tiny.encoded(7, 4), SIGMA)
    first, second = tiny.encoded(7, 4).samples
    single = tiny.encoded(1).samples[0]
    mixed = Encoded(("a", "b", "c"), (first, single, second), "plain")
    with_single, _ = tiny.estimator(linear, mixed, SIGMA)
    assert with_single.kept[1].tolist() == [0, 0]
    np.testing.assert_array_equal(with_single.unit(0).values[:, [0, 2]], alone.unit(0).values)
    draws = Draws(mixed.sample_ids, with_single.unit(0).values, with_single.kept, "antithetic")
    frame = scores(draws, Scope.FULL, Normalisation.MEAN)
    assert frame["mrd"].isna().tolist() == [False, True, False]


def test_one_sample_alone_is_scored(linear: tiny.LinearSoftmax) -> None:
    source, _ = tiny.estimator(linear, tiny.encoded(5), SIGMA)
    assert source.unit(0).values.shape == (2, 1, 2, 3)
    assert np.isfinite(source.unit(0).values).all()
