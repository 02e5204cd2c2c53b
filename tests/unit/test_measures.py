"""Difficulty measures, held against loops over one sample at a time and against closed forms."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from mrd_core.errors import UserError
from mrd_core.model import reader
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import SampleGradients, gradient_norms
from mrd_core.model.loading import keep_norms_fine
from mrd_core.model.memorization import measure_memorization
from mrd_core.samples.config import Scope
from mrd_core.scoring import measuring
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.draws import Draws, scores, variants
from mrd_core.scoring.measures import (
    ENTANGLEMENT_MEASURES,
    GRADIENT_MEASURES,
    MARGIN,
    MEASURES,
    MRD_MEASURES,
    PART_MEASURES,
    PLAIN_MEASURES,
    RETAIN_MEASURES,
    with_mrd,
)
from mrd_core.scoring.measuring import extraction_strength, log_odds, measure, predict, satimp_weight
from tests.support import tiny

SAMPLES = tiny.encoded(17, 5, 24, 4, 9, 30)
ROOM = 10_000


def gpt2() -> Any:
    settings = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3)
    return tiny.seeded(lambda: GPT2LMHeadModel(settings).eval())


def tied() -> Any:
    return tiny.llama(tie_word_embeddings=True)


def in_bf16() -> Any:
    network = tiny.llama().to(torch.bfloat16)
    keep_norms_fine(network)
    return network


def adapted() -> Any:
    """Return a model with an adapter that is at work, on the head too."""

    def build() -> Any:
        targets = ["q_proj", "v_proj", "lm_head"]
        network = get_peft_model(tiny.llama(), LoraConfig(r=2, target_modules=targets))
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.data += 0.3 * torch.randn_like(parameter)
        return network.eval()

    return tiny.seeded(build)


FAMILIES = {"llama": tiny.llama, "gpt2": gpt2, "tied": tied, "adapted": adapted}


def measured(network: Any, samples: Encoded = SAMPLES, batch_tokens: int = ROOM, **how: Any) -> pd.DataFrame:
    before_batch = how.pop("before_batch", lambda: None)
    return measure(tiny.reader(network, batch_tokens, before_batch=before_batch), samples, **how)


def norms_of(network: Any, samples: Encoded = SAMPLES, batch_tokens: int = ROOM, **how: Any) -> np.ndarray:
    return gradient_norms(tiny.reader(network, batch_tokens), samples, **how)


def slow_measures(network: Any, tokens: Sequence[int], answer: Sequence[bool]) -> dict[str, float]:
    """Measure one sample with a loop over its answer tokens, in fp64 from the logits on."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([list(tokens)])).logits[0].double()
    nll, entropy, weight, hits, margins = [], [], [], [], []
    for place in (i for i, inside in enumerate(answer) if inside):
        p = logits[place].softmax(0)
        true = float(p[tokens[place + 1]])
        nll.append(-np.log(true))
        entropy.append(-sum(float(q) * np.log(float(q)) for q in p))
        weight.append(true**5 * (1 - true) ** 0.1)
        hits.append(int(p.argmax()) == tokens[place + 1])
        others = [float(z) for v, z in enumerate(logits[place]) if v != tokens[place + 1]]
        margins.append(float(logits[place][tokens[place + 1]]) - max(others))
    n = len(nll)
    k = next((k for k in range(n) if all(hits[k:])), n - 1)
    return {
        "nll": sum(nll) / n,
        "nll_sum": sum(nll),
        "probability": np.exp(-sum(nll) / n),
        "min_probability": np.exp(-max(nll)),
        "median_log_odds": np.median([np.log(np.exp(-one) / (1 - np.exp(-one))) for one in nll]),
        "exact_memorization": sum(hits) / n,
        "extraction_strength": 1 - k / n,
        "entropy": sum(entropy) / n,
        "satimp_weight": sum(weight) / n,
        "margin_share": sum(margin > MARGIN for margin in margins) / n,
        "answer_tokens": n,
    }


def slow_frame(network: Any, samples: Encoded = SAMPLES) -> pd.DataFrame:
    return pd.DataFrame([slow_measures(network, s.tokens.tolist(), s.answer.tolist()) for s in samples.samples])


def slow_norms(network: Any, samples: Encoded = SAMPLES) -> np.ndarray:
    """Take each sample's gradient with a backward pass through the model's own logits."""
    network = copy.deepcopy(network).requires_grad_(True)
    found = []
    for sample in samples.samples:
        network.zero_grad()
        ids = torch.from_numpy(sample.tokens)
        logits = network(input_ids=ids[None]).logits[0, :-1]
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        inside = torch.from_numpy(sample.answer)
        (-log_p.gather(1, ids[1:, None])[inside]).sum().backward()
        squares = [(p.grad.double() ** 2).sum() for p in network.parameters() if p.grad is not None]
        found.append(float(torch.stack(squares).sum().sqrt()))
    return np.array(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_tokens", [1, 40, ROOM])
def test_measures_are_those_of_a_loop_over_tokens(family: str, batch_tokens: int) -> None:
    network = FAMILIES[family]()
    found, expected = measured(network, batch_tokens=batch_tokens, gradients=False), slow_frame(network)
    np.testing.assert_allclose(found[expected.columns], expected, rtol=2e-4)


def test_the_values_agree_with_those_that_unlearning_looks_at() -> None:
    found, expected = measured(gpt2()), measure_memorization(tiny.reader(gpt2(), ROOM), SAMPLES)
    np.testing.assert_array_equal(found["exact_memorization"], expected.accuracy)
    np.testing.assert_allclose(found["nll"], expected.nll, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_tokens", [1, 40, ROOM])
def test_gradient_norms_are_those_of_one_backward_pass_a_sample(family: str, batch_tokens: int) -> None:
    network = FAMILIES[family]()
    np.testing.assert_allclose(norms_of(network, batch_tokens=batch_tokens), slow_norms(network), rtol=1e-5)


def test_gradient_norms_in_double_agree_to_many_digits() -> None:
    network = tiny.in_double(gpt2())
    np.testing.assert_allclose(norms_of(network), slow_norms(network), rtol=1e-11)


def test_gradient_norms_of_a_bf16_model_are_near_those_in_fp32() -> None:
    network = in_bf16()
    finer = tiny.llama()
    finer.load_state_dict(network.state_dict())
    np.testing.assert_allclose(norms_of(network), slow_norms(finer), rtol=0.05)
    np.testing.assert_allclose(measured(network)["nll"], slow_frame(finer)["nll"], rtol=0.02)


def test_the_gradient_of_the_mean_is_that_of_the_sum_over_the_tokens() -> None:
    found = measured(tiny.llama())
    np.testing.assert_allclose(found["gradient_norm_sum"], slow_norms(tiny.llama()), rtol=1e-5)
    np.testing.assert_allclose(
        found["gradient_norm"], slow_norms(tiny.llama()) / found["answer_tokens"], rtol=1e-5
    )


def test_a_certain_token_keeps_the_digits_of_its_gradient() -> None:
    network = tiny.llama()
    network.lm_head.weight.data *= 40
    certain = np.argmax(tiny.log_probs(network, SAMPLES) * SAMPLES.answer - 1e9 * ~SAMPLES.answer)
    i = int(SAMPLES.owner[certain])
    inside = np.arange(len(SAMPLES.samples[i].answer)) == certain - SAMPLES.starts[i]
    alone = replace(SAMPLES.subset(np.array([i])), samples=(replace(SAMPLES.samples[i], answer=inside),))
    truth = slow_norms(tiny.in_double(copy.deepcopy(network)), alone)
    np.testing.assert_allclose(norms_of(network, alone), truth, rtol=1e-3)


def test_tied_weights_count_once() -> None:
    network, copied = tied(), tiny.llama()
    copied.load_state_dict(network.state_dict() | {"lm_head.weight": network.lm_head.weight.clone()})
    assert not np.allclose(norms_of(network), norms_of(copied), rtol=1e-3)


def test_order_batches_and_company_change_nothing() -> None:
    network = tiny.llama()
    whole = measured(network)
    for order, batch_tokens in product((np.arange(6)[::-1], np.array([3, 0]), np.array([5])), (1, 50, ROOM)):
        part = measured(network, SAMPLES.subset(order), batch_tokens)
        assert list(part["sample_id"]) == [SAMPLES.sample_ids[i] for i in order]
        expected = whole.iloc[order].drop(columns="sample_id")
        np.testing.assert_allclose(part.drop(columns="sample_id"), expected, rtol=2e-5)


def test_the_rows_of_logits_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for network in (gpt2(), tied()):
        expected = slow_norms(network)
        for samples in (1, 2, 5):
            monkeypatch.setattr(reader, "LEAST_ROWS", 1)
            monkeypatch.setitem(reader.CHUNK_ELEMENTS, "cpu", samples * 30 * tiny.VOCABULARY)
            np.testing.assert_allclose(norms_of(network), expected, rtol=1e-5)


class Opaque(nn.Module):
    """Multiplies by a matrix of its own, which nothing says."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.matrix


def test_what_no_rule_is_known_for_is_left_to_autograd_and_named() -> None:
    network, announced = tiny.llama(), []
    network.model.layers[0].self_attn.o_proj = Opaque(network.model.layers[0].self_attn.o_proj.weight.T.clone())
    assert norms_of(network, batch_tokens=40, announce=announced.append) == pytest.approx(
        slow_norms(tiny.llama()), rel=1e-5
    )
    assert announced == ["Gradients: one sample at a time, 1 of 21 tensors of weights by autograd (Opaque)."]
    with pytest.warns(UserWarning, match="by autograd"):
        measured(network)


def test_samples_that_a_layer_mixes_are_told_apart_one_at_a_time() -> None:
    class Turned(nn.Module):
        """Gives tokens first and samples second to a layer that does not care."""

        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.layer(hidden.transpose(0, 1)).transpose(0, 1)

    network = tiny.llama()
    network.model.layers[1].mlp.down_proj = Turned(network.model.layers[1].mlp.down_proj)
    gradients = SampleGradients(tiny.reader(network), SAMPLES)
    assert not gradients.in_batches
    assert not gradients.by_autograd
    np.testing.assert_allclose(norms_of(network), slow_norms(tiny.llama()), rtol=1e-5)


def test_the_row_of_the_padding_token_has_a_gradient_where_the_text_holds_it() -> None:
    samples = tiny.encoded(9, 6)
    samples.samples[0].tokens[1] = 0
    network = tiny.llama()
    unpadded = copy.deepcopy(network)
    unpadded.model.embed_tokens.padding_idx = None
    np.testing.assert_allclose(norms_of(network, samples), slow_norms(unpadded, samples), rtol=1e-5)
    assert network.model.embed_tokens.padding_idx == 0


@pytest.mark.filterwarnings("error")
def test_a_model_whose_layers_are_known_is_not_complained_about() -> None:
    measured(tiny.llama())


def test_entropy_of_hand_made_logits() -> None:
    even, certain = torch.zeros(4), torch.tensor([200.0, 0, 0, 0])
    quarter = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
    log_probs, hits, entropies = predict(torch.stack([even, certain, quarter]), torch.tensor([3, 0, 1]))
    np.testing.assert_allclose(entropies, [np.log(4), 0, 1.5 * np.log(2)], atol=1e-7)
    np.testing.assert_allclose(log_probs, [-np.log(4), 0, -np.log(4)], atol=1e-7)
    assert hits.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ("1111", 1.0),
        ("0111", 3 / 4),
        ("1011", 2 / 4),
        ("1101", 1 / 4),
        # OpenUnlearning stops looking at the last token, whether it matches or not.
        ("1110", 1 / 4),
        ("0000", 1 / 4),
        ("1", 1.0),
        ("0", 1.0),
    ],
)
def test_extraction_strength_of_hand_made_matches(hits: str, expected: float) -> None:
    assert extraction_strength(np.array([hit == "1" for hit in hits])) == pytest.approx(expected)


def test_the_satimp_weight_keeps_its_digits_where_the_model_is_certain() -> None:
    assert satimp_weight(np.log([0.5])) == pytest.approx(0.5**5.1)
    assert satimp_weight(np.array([-1e-20, -1e-20])) == pytest.approx(1e-2)
    assert satimp_weight(np.array([0.0, np.log(0.5)])) == pytest.approx(0.5**5.1 / 2)


@pytest.mark.parametrize("margin", [-1.0, 0.0, 0.4])
def test_the_share_of_tokens_above_a_margin_is_that_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, margin: float
) -> None:
    # A model that knows nothing clears no larger one.
    monkeypatch.setattr(measuring, "MARGIN", margin)
    monkeypatch.setitem(globals(), "MARGIN", margin)
    found, expected = measured(gpt2(), gradients=False), slow_frame(gpt2())
    assert 0 < expected["margin_share"].mean() < 1
    np.testing.assert_array_equal(found["margin_share"], expected["margin_share"])
    if not margin:
        # Above 0 is the first choice.
        np.testing.assert_array_equal(found["margin_share"], found["exact_memorization"])


def test_a_sample_without_an_answer_token_has_no_values_but_its_count() -> None:
    samples = tiny.encoded(2, 9, 1)
    found = measured(tiny.llama(), samples, training_counts=[4, None, 2])
    assert found.loc[[0, 2]].drop(columns=["sample_id", "training_count"]).isna().all(axis=None)
    expected = slow_frame(tiny.llama(), samples.subset(np.array([1])))
    np.testing.assert_allclose(found.loc[[1], expected.columns], expected, rtol=1e-4)
    np.testing.assert_array_equal(found["training_count"], [4, np.nan, 2])


def test_training_counts_are_taken_by_position_and_are_missing_where_unknown() -> None:
    counts = pd.Series([8, None, 1, 2, None, 4], dtype="Int64", index=list("fedcba"))
    found = measured(tiny.llama(), training_counts=counts, gradients=False)["training_count"]
    np.testing.assert_array_equal(found, [8, np.nan, 1, 2, np.nan, 4])
    assert measured(tiny.llama(), gradients=False)["training_count"].isna().all()


def test_one_column_for_each_declared_measure() -> None:
    assert list(measured(tiny.llama())) == ["sample_id", *PLAIN_MEASURES, *GRADIENT_MEASURES]
    assert list(measured(tiny.llama(), gradients=False)) == ["sample_id", *PLAIN_MEASURES]
    assert set(MEASURES) == {
        *PLAIN_MEASURES,
        *GRADIENT_MEASURES,
        *MRD_MEASURES,
        *PART_MEASURES,
        *RETAIN_MEASURES,
        *ENTANGLEMENT_MEASURES,
    }


def test_the_model_is_left_as_it_was() -> None:
    network = tiny.llama(attention_dropout=0.5).train().requires_grad_(True)
    network.model.layers[0].eval()
    network.lm_head.weight.requires_grad_(False)
    network.model.norm.weight.grad = torch.ones(16)
    before = copy.deepcopy(network)
    random_state = torch.get_rng_state()
    found = measured(network)
    pd.testing.assert_frame_equal(found, measured(tiny.llama()))
    assert [module.training for module in network.modules()] == [module.training for module in before.modules()]
    assert torch.equal(torch.get_rng_state(), random_state)
    for after, parameter in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(after, parameter)
        assert after.requires_grad == parameter.requires_grad
        assert (after.grad is None) == (parameter is not before.model.norm.weight)


class CancelledError(Exception):
    """What a run raises to stop a pass."""


@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_cancelled_pass_stops_at_the_next_batch_and_restores_the_mode(after: int) -> None:
    network, calls = tiny.llama().train(), []

    def stop_late() -> None:
        if len(calls) == after:
            raise CancelledError
        calls.append(1)

    with pytest.raises(CancelledError):
        measured(network, batch_tokens=30, before_batch=stop_late)
    assert network.training


def cramped(network: Any, room: int) -> Any:
    """Return the model on a device that holds no more than `room` tokens of input at once."""

    def refuse(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > room:
            raise torch.OutOfMemoryError("full")

    network.model.register_forward_pre_hook(refuse, with_kwargs=True)
    return network


def test_out_of_memory_halves_the_batches_and_changes_nothing() -> None:
    found, expected = measured(cramped(tiny.llama(), 40)), measured(tiny.llama())
    np.testing.assert_allclose(found.iloc[:, 1:], expected.iloc[:, 1:], rtol=2e-5)


def test_gradients_that_do_not_fit_leave_the_other_measures_alone() -> None:
    network, said = tiny.llama(), []
    expected = measured(tiny.llama(), gradients=False)

    def refuse(_module: nn.Module, _args: Any, _kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("full")

    network.model.register_forward_pre_hook(refuse, with_kwargs=True)
    found = measured(network, announce=said.append)
    assert found[["gradient_norm", "gradient_norm_sum"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(found[list(expected)], expected)
    assert "single sample does not fit" in said[0]


def test_one_sample_that_does_not_fit_is_an_error_with_advice() -> None:
    for run in (measured, norms_of):
        with pytest.raises(UserError, match="single sample does not fit"):
            run(cramped(tiny.llama(), 20))


def test_logits_never_exist_for_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LEAST_ROWS", 1)
    monkeypatch.setitem(reader.CHUNK_ELEMENTS, "cpu", 7 * tiny.VOCABULARY)
    network, rows = tiny.llama(), []
    network.lm_head.register_forward_pre_hook(lambda _head, args: rows.append(args[0].shape[-2]))
    found = measured(network, gradients=False)
    assert max(rows) == 7
    # Each is asked for in the model's precision, and answered in fp32.
    assert sum(rows) == 2 * SAMPLES.answer.sum()
    np.testing.assert_allclose(found["entropy"], slow_frame(tiny.llama())["entropy"], rtol=1e-4)


def drawn() -> Draws:
    generator = np.random.default_rng(0)
    kept = np.full((6, 2), 5)
    return Draws(SAMPLES.sample_ids, generator.normal(size=(8, 6, 2, 3)), kept, "antithetic")


def test_mrd_is_taken_from_the_scores_by_sample() -> None:
    draws = drawn()
    stored = pd.concat([scores(draws, Scope.ANSWER, Normalisation.MEAN), variants(draws)], axis=1)
    assert list(MRD_MEASURES) == list(variants(draws))
    mine = measured(tiny.llama(), gradients=False)
    joined = with_mrd(mine, stored.iloc[[4, 0, 2, 1, 5]])
    assert list(joined) == [*mine, *MRD_MEASURES]
    expected = variants(draws).to_numpy(copy=True)
    expected[3] = np.nan
    np.testing.assert_array_equal(joined[list(MRD_MEASURES)], expected)


def test_the_cost_of_mrd_grows_with_its_draws_and_no_other_does() -> None:
    default = MEASURES[f"{Formula.MRD}_{Scope.ANSWER}_{Normalisation.MEAN}"]
    assert default.cost(48) == 50
    assert MEASURES["gradient_norm"].cost(48) == 2.2 * MEASURES["nll"].cost(48) == 2.2
    assert MEASURES["answer_tokens"].cost(48) == 0


def test_names_are_unique_and_every_measure_is_declared_in_full() -> None:
    own = (PLAIN_MEASURES, GRADIENT_MEASURES, MRD_MEASURES, PART_MEASURES)
    groups = (*own, RETAIN_MEASURES, ENTANGLEMENT_MEASURES)
    assert len(MEASURES) == sum(map(len, groups))
    for measure_ in MEASURES.values():
        assert measure_.title
        assert measure_.help.endswith(".")
        assert measure_.formula.count("{") == measure_.formula.count("}")


def test_log_odds_keep_their_digits_where_the_model_is_certain() -> None:
    certain = np.array([-1e-12, -1e-5, np.log(0.5), 0.0])
    found = log_odds(certain)
    np.testing.assert_allclose(found[:3], [np.log(1e12), np.log(1e5), 0.0], rtol=1e-6, atol=1e-12)
    assert np.isfinite(found[3])
