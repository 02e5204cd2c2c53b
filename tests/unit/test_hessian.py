"""The trace estimate agrees with exact traces, of a quadratic form and of a language model's own Hessian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrd_core.model.encoding import Encoded, EncodedSample
from mrd_core.model.likelihood import KeepDouble, Scorer
from mrd_core.scoring.hessian import AnswerRatio, hutchinson, rademacher
from mrd_core.scoring.mrd import LOG_PROB_FLOOR
from tests.support import tiny

SMALL = {
    "vocab_size": 12,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 1,
    "initializer_range": 0.6,
}
TOKENS = np.array([3, 7, 4, 9, 5, 8])


def network(**changes: Any) -> Any:
    """Return a Llama of a few hundred weights in fp64."""
    return tiny.in_double(tiny.llama(**SMALL | changes))


def sample() -> EncodedSample:
    """Return a text of six tokens whose last three are the answer."""
    return EncodedSample(TOKENS, np.arange(5) >= 2, tuple(map(str, TOKENS)), truncated=False)


def encoded() -> Encoded:
    """Return a forget set of that text alone."""
    return Encoded(("s0",), (sample(),), "plain")


def basis(like: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return every unit vector of the space of the parameters."""
    vectors = []
    for name, weight in like.items():
        for place in range(weight.numel()):
            vectors.append({other: torch.zeros_like(tensor) for other, tensor in like.items()})
            vectors[-1][name].view(-1)[place] = 1.0
    return vectors


def differences_of_gradients(ratio: AnswerRatio) -> float:
    """Return the trace of the Hessian from central differences of first derivatives."""
    step, trace = 1e-5, 0.0
    for unit in basis(ratio.parameters):
        for sign in (1, -1):
            leaves = {
                name: (weight + sign * step * unit[name]).requires_grad_()
                for name, weight in ratio.parameters.items()
            }
            gradients = torch.autograd.grad(ratio(leaves), list(leaves.values()))
            along = sum(float((g * unit[name]).sum()) for name, g in zip(leaves, gradients, strict=True))
            trace += sign * along / (2 * step)
    return trace


def signs(ratio: AnswerRatio, count: int) -> list[dict[str, Tensor]]:
    """Return random vectors for the parameters of `ratio`."""
    return [rademacher(0, "s0", probe, ratio.parameters) for probe in range(count)]


def test_each_value_of_a_quadratic_form_is_the_form_itself() -> None:
    draw = np.random.default_rng(0).normal
    matrix = torch.from_numpy(draw(size=(5, 5)))
    matrix = matrix + matrix.T
    point = {"a": torch.from_numpy(draw(size=2)), "b": torch.from_numpy(draw(size=(3, 1)))}
    vector = {"a": torch.from_numpy(draw(size=2)), "b": torch.from_numpy(draw(size=(3, 1)))}

    def flat(parts: Any) -> Tensor:
        return torch.cat([parts["a"], parts["b"].flatten()])

    found = hutchinson(lambda at: flat(at) @ matrix @ flat(at) / 2 + flat(at).sum(), point, [vector])
    assert found == pytest.approx([float(flat(vector) @ matrix @ flat(vector))], rel=1e-12)


def test_signs_give_a_diagonal_matrix_its_trace_without_any_error() -> None:
    point = {"w": torch.linspace(-1, 1, 7, dtype=torch.float64), "unused": torch.ones(2, dtype=torch.float64)}
    vectors = [rademacher(0, "s0", probe, point) for probe in range(3)]
    found = hutchinson(lambda at: (at["w"] ** 3).sum(), point, vectors)
    assert found == pytest.approx([float(6 * point["w"].sum())] * 3, abs=1e-12)


def test_signs_are_keyed_by_seed_sample_probe_and_name() -> None:
    like = {"a": torch.zeros(2000), "b": torch.zeros(2000)}
    one = rademacher(0, "s0", 0, like)
    assert set(one["a"].tolist()) == {-1.0, 1.0}
    assert torch.equal(one["a"], rademacher(0, "s0", 0, {"a": like["a"]})["a"])
    others = [one["b"], *(rademacher(*key, like)["a"] for key in ((1, "s0", 0), (0, "s1", 0), (0, "s0", 1)))]
    for other in others:
        # Of 2,000 products of independent signs the mean is beyond 0.1 once in 130,000 times.
        assert abs(float((one["a"] * other).mean())) < 0.1


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.slow
def test_the_sum_over_the_basis_is_the_trace_of_a_language_model(tied: bool) -> None:
    ratio = AnswerRatio(network(tie_word_embeddings=tied), sample(), tiny.CPU)
    trace = sum(hutchinson(ratio, ratio.parameters, basis(ratio.parameters)))
    assert trace == pytest.approx(differences_of_gradients(ratio), rel=1e-6)
    assert abs(trace) > 1


def test_a_tied_weight_is_one_parameter() -> None:
    tied, untied = (AnswerRatio(network(tie_word_embeddings=tied), sample(), tiny.CPU) for tied in (True, False))
    assert len(untied.parameters) == len(tied.parameters) + 1


def test_the_mean_over_random_signs_is_the_trace_within_its_standard_error() -> None:
    ratio = AnswerRatio(network(), sample(), tiny.CPU)
    trace = sum(hutchinson(ratio, ratio.parameters, basis(ratio.parameters)))
    values = np.array(hutchinson(ratio, ratio.parameters, signs(ratio, 400)))
    error = float(tiny.standard_error(values))
    assert abs(values.mean() - trace) < 3 * error
    assert error < abs(trace) / 5


@pytest.mark.slow
def test_mrd_over_sigma_squared_is_minus_half_of_the_trace() -> None:
    model = network()
    ratio = AnswerRatio(model, sample(), tiny.CPU)
    trace = sum(hutchinson(ratio, ratio.parameters, basis(ratio.parameters)))
    sigma = 1e-3
    with KeepDouble():
        source, _baseline = tiny.estimator(Scorer(model), encoded(), sigma)
        values = np.array([source.unit(index).values[:, 0, 0, 1].mean() for index in range(800)]) / sigma**2
    error = float(tiny.standard_error(values))
    assert abs(values.mean() + trace / 2) < 3 * error
    assert error < abs(trace) / 10


def test_the_ratio_is_the_number_of_kept_tokens_where_nothing_has_moved() -> None:
    ratio = AnswerRatio(network(), sample(), tiny.CPU)
    assert ratio.n_tokens == 3
    assert float(ratio(ratio.parameters)) == pytest.approx(3, abs=1e-12)


def test_a_token_that_is_certain_is_left_out() -> None:
    model = network(tie_word_embeddings=False)
    # A head that shouts the first answer token, whatever it is shown.
    model.get_output_embeddings().bias = torch.nn.Parameter(torch.zeros(12, dtype=torch.float64))
    model.get_output_embeddings().bias.data[TOKENS[3]] = 40.0
    ratio = AnswerRatio(model, sample(), tiny.CPU)
    assert ratio.n_tokens == 2
    log_probs = tiny.log_probs(model, encoded())
    assert abs(log_probs[2]) < LOG_PROB_FLOOR < abs(log_probs[3])
    assert np.isfinite(hutchinson(ratio, ratio.parameters, signs(ratio, 2))).all()


def test_the_models_own_weights_and_flags_stay_as_they_are() -> None:
    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    ratio = AnswerRatio(model, sample(), tiny.CPU)
    hutchinson(ratio, ratio.parameters, signs(ratio, 2))
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
