"""On a GPU: the CPU's numbers, in the memory that was promised, also when memory runs out."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mrd_core.model.encoding import Encoded
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.model.own_pass import require_own_log_probs
from mrd_core.model.perturbation import Noise, PerturbedModel, checksum
from mrd_core.model.reader import Reader
from mrd_core.scoring.mrd import Estimator, measure_baseline
from mrd_core.scoring.pilot import precision_gate, run_pilot
from tests.support import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

SIGMA = 3e-3
SAMPLES = tiny.encoded(*range(8, 56, 2), vocabulary=512)


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The first GPU, with its memory empty and unlimited before and after."""
    device = torch.device("cuda", 0)
    torch.cuda.empty_cache()
    yield device
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


def llama(**changes: int) -> LlamaForCausalLM:
    """Return a random Llama of a few million weights on the CPU."""
    sizes = {"vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4} | changes
    config = LlamaConfig(**tiny.settings(initializer_range=0.08, **sizes))
    network = tiny.seeded(lambda: LlamaForCausalLM(config))
    return network.eval().requires_grad_(False)


def estimator(
    scorer: nn.Module,
    device: torch.device,
    *,
    sigma: float = SIGMA,
    streamed: bool = False,
    batch_tokens: int = 4096,
) -> tuple[Estimator, Passes]:
    """Return an antithetic estimator over the samples, and its passes."""
    passes = Passes(Reader(scorer, device, batch_tokens), SAMPLES)
    baseline = measure_baseline(passes, next(scorer.parameters()).dtype)
    model = PerturbedModel(scorer, Noise(0, sigma), streamed=streamed)
    return Estimator(passes, model, baseline, "antithetic"), passes


def relative_changes(source: Estimator, pairs: int) -> np.ndarray:
    """Return the mean of Σ ΔP/P over each pair, shape (pairs, N)."""
    return np.stack([source.unit(index).values[:, :, 1, 1].mean(axis=0) for index in range(pairs)])


def test_fp32_agrees_with_the_cpu_within_three_standard_errors(gpu: torch.device) -> None:
    # The two devices draw different noise, so the scores are two independent estimates.
    network = llama(hidden_size=64, num_hidden_layers=2)
    on_cpu = relative_changes(estimator(Scorer(network), tiny.CPU)[0], 100)
    scorer = Scorer(network.to(gpu))
    before = checksum(scorer)
    on_gpu = relative_changes(estimator(scorer, gpu)[0], 100)
    assert checksum(scorer) == before
    error = np.hypot(tiny.standard_error(on_cpu), tiny.standard_error(on_gpu))
    distance = np.abs(on_cpu.mean(axis=0) - on_gpu.mean(axis=0)) / error
    # Two dozen samples share each draw: one may lie beyond 3, none far beyond.
    assert (distance < 3).mean() > 0.95
    assert distance.max() < 4
    # Without this, agreement would say nothing.
    assert np.median(np.abs(on_cpu.mean(axis=0)) / error) > 3


def test_unperturbed_log_probs_agree_with_the_cpu(gpu: torch.device) -> None:
    network = llama()
    on_cpu = Passes(tiny.reader(Scorer(network), 4096), SAMPLES)()
    on_gpu = Passes(Reader(Scorer(network.to(gpu)), gpu, 4096), SAMPLES)()
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)


def test_copied_and_streamed_agree_bit_for_bit(gpu: torch.device) -> None:
    scorer = Scorer(llama().to(gpu))
    copied, streamed = (estimator(scorer, gpu, streamed=how)[0].unit(0).values for how in (False, True))
    np.testing.assert_array_equal(copied, streamed)


def test_bf16_refuses_the_papers_sigma(gpu: torch.device) -> None:
    network = llama().to(gpu, torch.bfloat16)
    require_own_log_probs(network, gpu)
    passes = Passes(Reader(Scorer(network), gpu, 4096), SAMPLES)
    baseline = measure_baseline(passes, torch.bfloat16)
    gate = precision_gate(passes, baseline, run_pilot(passes, baseline, 0, torch.bfloat16), 1e-5)
    assert not gate.passed
    assert "σ = 1e-05" in gate.reason


def test_what_bf16_scores_where_the_gate_passes_agrees_with_fp32(gpu: torch.device) -> None:
    # Loading models needs more libraries than measuring them; a bare GPU machine may lack those.
    models = pytest.importorskip("mrd_core.model.loading")
    network, sigma = llama().to(torch.bfloat16), 1e-2
    in_fp32 = Scorer(copy.deepcopy(network).float().to(gpu))
    fine = relative_changes(estimator(in_fp32, gpu, sigma=sigma)[0], 50)
    models.keep_norms_fine(network.to(gpu))
    source, passes = estimator(Scorer(network), gpu, sigma=sigma)
    baseline = measure_baseline(passes, torch.bfloat16)
    gate = precision_gate(passes, baseline, run_pilot(passes, baseline, 0, torch.bfloat16), sigma)
    if not gate.passed:
        pytest.skip(f"the gate refuses: {gate.reason}")
    coarse = relative_changes(source, 50)
    error = np.hypot(tiny.standard_error(coarse), tiny.standard_error(fine))
    assert (np.abs(coarse.mean(axis=0) - fine.mean(axis=0)) < 3 * error).mean() > 0.9


def test_out_of_memory_halves_the_batch_and_ends_with_the_same_scores(gpu: torch.device) -> None:
    samples = repeat(SAMPLES, 40)
    scorer = Scorer(llama().to(gpu))
    expected = Passes(Reader(scorer, gpu, 2048), samples)()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(gpu)
    Passes(Reader(scorer, gpu, 8192), samples)()
    room = torch.cuda.max_memory_reserved(gpu)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info(gpu)[1], gpu)
    halved: list[int] = []
    cramped = Passes(Reader(scorer, gpu, 10**6), samples, on_halved=halved.append)
    found = cramped()
    assert halved == sorted(halved, reverse=True)
    assert cramped.batch_tokens == halved[-1] < 10**6
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def repeat(samples: Encoded, times: int) -> Encoded:
    """Return the samples many times over."""
    return samples.subset(np.tile(np.arange(len(samples)), times))


def test_peak_memory_is_twice_the_weights_and_the_activations(gpu: torch.device) -> None:
    network = llama(hidden_size=1024, intermediate_size=4096, num_hidden_layers=8).to(gpu)
    scorer = Scorer(network)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    source, passes = estimator(scorer, gpu, batch_tokens=2048)
    largest = max(parameter.numel() * 4 for parameter in network.parameters())

    def peak(run: object) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(gpu)
        run()
        return torch.cuda.max_memory_allocated(gpu)

    source.unit(0)
    with torch.no_grad():
        activations = max(
            peak(lambda batch=batch: network(input_ids=batch.ids, use_cache=False).logits.log_softmax(-1))
            for batch in passes.batches
        ) - torch.cuda.memory_allocated(gpu)
    held = torch.cuda.memory_allocated(gpu) - weights
    perturbed = peak(lambda: source.unit(1))
    assert perturbed <= 2 * weights + activations + held + largest
    streamed, _ = estimator(scorer, gpu, streamed=True, batch_tokens=2048)
    assert peak(lambda: streamed.unit(1)) < 1.3 * weights + activations + held
