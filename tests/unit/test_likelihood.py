"""Log-probabilities to the last digit, the same however the samples are batched."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mrd_core.errors import UserError
from mrd_core.model import reader
from mrd_core.model.head import LanguageHead
from mrd_core.model.likelihood import (
    KeepDouble,
    LogProbHead,
    Passes,
    Scorer,
    target_log_probs,
)
from mrd_core.model.own_pass import require_own_log_probs
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.model.reader import is_out_of_memory, make_batches
from mrd_core.scoring.mrd import measure_baseline
from tests.support import families, tiny
from tests.unit.test_mrd import exact, log_probs_of_one

GPT2_SETTINGS = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
FAMILIES = {
    "llama": tiny.llama,
    "llama-tied": lambda: tiny.llama(tie_word_embeddings=True),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SETTINGS, initializer_range=0.3)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**tiny.settings())),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**tiny.settings(head_dim=8))),
}


def exact_log_p(logits: Tensor, target: int) -> float:
    """Return log p in fp64 without a difference of nearly equal numbers: −log(1 + Σ_{v≠y} e^{z_v − z_y})."""
    z = logits.double()
    others = torch.cat([z[:target], z[target + 1 :]])
    return -float(torch.log1p((others - z[target]).exp().sum()))


@pytest.mark.parametrize("wanted", [-1e-10, -1e-7, -5e-5, -1e-3, -0.7, -5.0, -20.0])
def test_certain_tokens_keep_five_digits_in_fp32(wanted: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(30, 50, generator=generator) * 3
    targets = torch.randint(50, (30,), generator=generator)
    rest = logits.scatter(1, targets[:, None], -torch.inf).double().logsumexp(1)
    # p / (1 − p) of the target puts its logit where log p is as wanted.
    logits[torch.arange(30), targets] = (rest + wanted - np.log(-np.expm1(wanted))).float()
    expected = np.array([exact_log_p(row, int(y)) for row, y in zip(logits, targets, strict=True)])
    np.testing.assert_allclose(expected, wanted, rtol=1e-4)
    np.testing.assert_allclose(target_log_probs(logits.clone(), targets).numpy(), expected, rtol=1e-5)


def test_ordinary_tokens_agree_with_log_softmax() -> None:
    logits = torch.randn(40, 60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    targets = torch.arange(40)
    expected = logits.log_softmax(1)[torch.arange(40), targets]
    torch.testing.assert_close(target_log_probs(logits.clone(), targets), expected, rtol=1e-12, atol=0)


def test_the_head_is_fp32_or_finer_for_bf16_hidden_states() -> None:
    network = tiny.llama().to(torch.bfloat16)
    layer = network.lm_head
    hidden = torch.randn(9, 16, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    targets = torch.arange(9)
    with torch.no_grad():
        found = LogProbHead(LanguageHead(network))(hidden, targets)
    expected = (hidden.double() @ layer.weight.double().T).log_softmax(1)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), expected[torch.arange(9), targets], rtol=1e-5, atol=0)


def test_the_head_goes_through_its_rows_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    head = LogProbHead(LanguageHead(tiny.llama()))
    hidden, targets = torch.randn(9, 16), torch.arange(9)
    whole = head(hidden, targets)
    monkeypatch.setattr(reader, "LEAST_ROWS", 2)
    monkeypatch.setitem(reader.CHUNK_ELEMENTS, "cpu", 80)
    sizes: list[int] = []
    head._head.output.register_forward_pre_hook(lambda _module, args: sizes.append(args[0].shape[-2]))
    torch.testing.assert_close(head(hidden, targets), whole)
    # Of so few elements a chunk would be one row, which reads all embeddings for next to nothing.
    assert set(sizes) == {2, 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_models_own(family: str) -> None:
    network = tiny.seeded(FAMILIES[family]).eval().requires_grad_(False)
    samples = tiny.encoded(12, 3, 7, 1, 2)
    require_own_log_probs(network, tiny.CPU)
    expected = [log_probs_of_one(network, s.tokens) for s in samples.samples if len(s.tokens) > 1]
    np.testing.assert_allclose(tiny.log_probs(network, samples), np.concatenate(expected), rtol=1e-4)


class LooksAhead(nn.Module):
    """The body of a language model without a causal mask: every token sees the mean of the whole text."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_how: Any) -> Any:
        output = self.body(input_ids=input_ids, use_cache=False)
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights = (seen / seen.sum(1, keepdim=True)).unsqueeze(2)
        output.last_hidden_state = output.last_hidden_state + (output.last_hidden_state * weights).sum(1, True)
        return output


def test_a_model_that_looks_ahead_is_refused() -> None:
    network = tiny.llama()
    network.model = LooksAhead(network.model)
    network.get_input_embeddings = lambda: network.model.body.embed_tokens
    with pytest.raises(UserError, match="no causal language model"):
        require_own_log_probs(network, tiny.CPU)


def test_a_model_that_reads_weights_where_their_layer_does_not_run_is_refused() -> None:
    network = tiny.llama()
    first, second = network.model.layers
    forward = second.forward
    second.forward = lambda hidden, *more, **how: forward(first.mlp.gate_proj.weight.mean() + hidden, *more, **how)
    with pytest.raises(UserError, match="differ by nan"):
        require_own_log_probs(network, tiny.CPU)


def test_an_encoder_with_a_language_head_is_refused() -> None:
    network = tiny.seeded(lambda: BertLMHeadModel(BertConfig(**tiny.settings()))).eval()
    network.get_decoder = lambda: network.bert
    with pytest.raises(UserError, match="BertLMHeadModel"):
        require_own_log_probs(network, tiny.CPU)


def test_a_bf16_model_is_looked_at_in_fp32() -> None:
    require_own_log_probs(tiny.llama().to(torch.bfloat16), tiny.CPU)


LENGTHS = (5, 17, 9, 2, 30, 1, 9, 12)


@pytest.mark.parametrize("batch_tokens", [1, 20, 35, 64, 10_000])
def test_log_probs_do_not_depend_on_batches_and_padding(batch_tokens: int) -> None:
    network, samples = tiny.llama(), tiny.encoded(*LENGTHS)
    one_by_one = [log_probs_of_one(network, s.tokens) for s in samples.samples]
    np.testing.assert_allclose(
        tiny.log_probs(network, samples, batch_tokens), np.concatenate(one_by_one), rtol=1e-5, atol=1e-6
    )


def test_draws_do_not_depend_on_batches_padding_and_order() -> None:
    scorer, samples = Scorer(tiny.llama()), tiny.encoded(*LENGTHS)
    expected = tiny.relative_changes(scorer, samples, 0.03, 3)
    for batch_tokens in (1, 20, 64):
        found = tiny.relative_changes(scorer, samples, 0.03, 3, batch_tokens=batch_tokens)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(LENGTHS))
    shuffled = tiny.relative_changes(scorer, samples.subset(order), 0.03, 3, batch_tokens=40)
    np.testing.assert_allclose(shuffled, expected[:, order], rtol=1e-5, atol=1e-6)


def test_batches_hold_every_scored_position_once() -> None:
    samples = tiny.encoded(*LENGTHS)
    flat = np.concatenate([batch.flat for batch in make_batches(samples, 24, tiny.CPU)])
    assert sorted(flat) == list(range(sum(LENGTHS) - len(LENGTHS)))


def test_an_fp64_baseline_is_finer_than_an_fp32_one() -> None:
    samples = tiny.encoded(*LENGTHS)
    network = tiny.llama()
    truth = np.concatenate(
        [log_probs_of_one(exact(tiny.in_double(tiny.llama())), sample.tokens) for sample in samples.samples]
    )
    passes = Passes(tiny.reader(Scorer(network), 100), samples)
    error = np.abs(measure_baseline(passes, torch.float32).log_probs - truth).max()
    error_fp32 = np.abs(passes() - truth).max()
    assert error < 1e-12
    assert error_fp32 > 1e-7


def test_without_keep_double_a_norm_layer_falls_back_to_fp32() -> None:
    network, samples = tiny.in_double(tiny.llama()), tiny.encoded(9)
    truth = np.array(log_probs_of_one(exact(network), samples.samples[0].tokens))
    assert np.abs(tiny.log_probs(network, samples) - truth).max() > 1e-9
    with KeepDouble():
        assert np.abs(tiny.log_probs(network, samples) - truth).max() < 1e-12


def test_keep_double_leaves_fp32_tensors_and_other_casts_alone() -> None:
    with KeepDouble():
        assert torch.ones(2).float().dtype is torch.float32
        assert torch.ones(2, dtype=torch.float64).float().dtype is torch.float64
        assert torch.ones(2).to(torch.float64).dtype is torch.float64
        assert torch.ones(2, dtype=torch.float64).to(torch.bfloat16).dtype is torch.bfloat16
        assert torch.ones(2, dtype=torch.float64).to(dtype=torch.float32).dtype is torch.float64
        assert torch.ones(2, dtype=torch.float64).softmax(0, dtype=torch.float32).dtype is torch.float64


class Cramped(nn.Module):
    """A scorer on a device that holds no more than `room` tokens at once."""

    def __init__(self, scorer: nn.Module, room: int) -> None:
        super().__init__()
        self.scorer = scorer
        self.room = room

    def forward(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        if ids.numel() > self.room:
            raise torch.OutOfMemoryError(f"{ids.numel()} tokens do not fit into {self.room}")
        log_probs: Tensor = self.scorer(ids, rows, columns)
        return log_probs


def test_out_of_memory_halves_the_batch_and_ends_with_the_same_result() -> None:
    samples, scorer = tiny.encoded(*LENGTHS), Scorer(tiny.llama())
    halved: list[int] = []
    passes = Passes(tiny.reader(Cramped(scorer, 40), 10_000), samples, on_halved=halved.append)
    found = passes()
    np.testing.assert_allclose(found, Passes(tiny.reader(scorer, 10_000), samples)(), rtol=1e-5, atol=1e-6)
    assert halved == sorted(halved, reverse=True)
    assert passes.batch_tokens == halved[-1] <= 40
    before = len(halved)
    passes()
    assert len(halved) == before


def test_out_of_memory_inside_a_draw_leaves_the_draw_the_same() -> None:
    samples, scorer = tiny.encoded(*LENGTHS), Scorer(tiny.llama())
    for is_streamed in (True, False):
        roomy, _ = tiny.estimator(Cramped(scorer, 10_000), samples, 0.03, streamed=is_streamed)
        cramped = Cramped(scorer, 10_000)
        source, _ = tiny.estimator(cramped, samples, 0.03, streamed=is_streamed)
        cramped.room = 40
        np.testing.assert_allclose(source.unit(1).values, roomy.unit(1).values, rtol=1e-4, atol=1e-5)


def test_one_sample_that_does_not_fit_is_an_error_with_advice() -> None:
    passes = Passes(tiny.reader(Cramped(Scorer(tiny.llama()), 20), 10_000), tiny.encoded(*LENGTHS))
    with pytest.raises(UserError, match="one sample \\(30 tokens\\)") as caught:
        passes()
    assert "coarser dtype" in caught.value.fix


def test_other_errors_are_not_taken_for_memory() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_pass_can_be_stopped_between_batches() -> None:
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    passes = Passes(tiny.reader(Scorer(tiny.llama()), 20, before_batch=stop), tiny.encoded(*LENGTHS))
    with pytest.raises(KeyboardInterrupt):
        passes()
    assert len(calls) == 2


def test_a_pass_says_how_far_it_is() -> None:
    shares: list[float] = []
    passes = Passes(tiny.reader(Scorer(tiny.llama()), 20, on_batch=shares.append), tiny.encoded(*LENGTHS))
    passes()
    count = len(passes.batches)
    assert count > 2
    assert shares == [place / count for place in range(count)]
    shares.clear()
    passes.pair(nullcontext, nullcontext, lambda first, _second, _targets: first[:, 0])
    assert shares == [place / count / 2 for place in range(2 * count)]


@pytest.mark.parametrize("family", ["llama", "camembert", "gpt2"])
def test_the_scorer_has_every_weight_of_its_model(family: str) -> None:
    # Between the body and the output of some there are layers of their own.
    model = families.built(family)
    assert {id(weight) for weight in Scorer(model).parameters()} == {id(weight) for weight in model.parameters()}


def test_the_scorer_shares_its_parameters_with_the_model() -> None:
    network = copy.deepcopy(tiny.llama(tie_word_embeddings=True))
    ours = {id(parameter) for parameter in Scorer(network).parameters()}
    assert ours == {id(parameter) for parameter in network.parameters()}


def test_passes_by_layers_are_those_of_one_pass_after_the_other() -> None:
    samples = tiny.encoded(9, 14, 7, 11)
    passes = Passes(tiny.reader(Scorer(tiny.llama()), 20), samples)
    assert len(passes.batches) > 1
    model = PerturbedModel(passes.scorer, Noise(3, 1e-2), streamed=True)
    together, compared = passes.by_layers([model.transform(0, sign) for sign in (1, -1)])
    assert together.shape == (2, int(samples.starts[-1]))
    for found, sign in zip(together, (1, -1), strict=True):
        with model.draw(0, sign):
            np.testing.assert_array_equal(found, passes())
    assert np.isnan(compared).all()
    assert compared.shape == together[0].shape
