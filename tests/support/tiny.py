"""Language models, tokenizers and forget sets so small that a test builds them in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mrd_core.model.encoder import Encoder, choose_template
from mrd_core.model.encoding import Encoded, EncodedSample
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.model.reader import Reader
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import ColumnMapping, Layout
from mrd_core.samples.forget_set import ValidationReport, digest_of
from mrd_core.scoring.mrd import Baseline, Estimator, measure_baseline
from mrd_core.unlearning.adapters import adapted

CPU = torch.device("cpu")
VOCABULARY = 40
CONTEXT = 64
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def seeded(build: Callable[[], Any], seed: int = 0) -> Any:
    """Return `build()` with torch's generator at `seed`, and put the generator back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def tokenizer(**special: Any) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a few merges, BOS, EOS and padding unless `special` says None."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(["Question: Who wrote it?\nAnswer: Ann wrote the old letter."], trainer)
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | special
    return PreTrainedTokenizerFast(
        tokenizer_object=model, **{name: token for name, token in named.items() if token is not None}
    )


def settings(**changes: Any) -> dict[str, Any]:
    """Return the sizes that all tiny models share, in the names of most transformers configurations."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    } | changes


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """Return a random Llama whose predictions are far from uniform."""
    network = seeded(lambda: LlamaForCausalLM(LlamaConfig(**settings(**changes))), seed)
    return network.eval().requires_grad_(False)


def reader(network: Any, batch_tokens: int = 10_000, **how: Any) -> Reader:
    """Return a network, or a scorer, as it is read on the CPU."""
    return Reader(network, CPU, batch_tokens, **how)


def in_double(network: Any) -> Any:
    """Turn the parameters to fp64 as the loader does: buffers stay what they are."""
    for parameter in network.parameters():
        parameter.data = parameter.data.double()
    return network


def encoded(*lengths: int, answer_from: int = 2, seed: int = 0, vocabulary: int = VOCABULARY) -> Encoded:
    """Return random samples of these lengths; predictions from position `answer_from` on are the answer."""
    generator = np.random.default_rng(seed)
    samples = []
    for length in lengths:
        tokens = generator.integers(3, vocabulary, length)
        answer = np.arange(length - 1) >= answer_from
        samples.append(EncodedSample(tokens, answer, tuple(map(str, tokens)), truncated=False))
    return Encoded(tuple(f"s{i}" for i in range(len(lengths))), tuple(samples), "plain")


def encoder(tokenizer: Any, context: int = CONTEXT, template: str = "plain", **how: Any) -> Encoder:
    """Return what makes tokens for a model whose embedding is large enough."""
    return Encoder(tokenizer, context, 1 << 20, choose_template(tokenizer, template), **how)


def encode(samples: ForgetSet, tokenizer: Any, context: int, template: str) -> Encoded:
    """Return validated samples as tokens."""
    return encoder(tokenizer, context, template).encode(samples)


def encode_one(prompt: str, answer: str, tokenizer: Any, context: int, template: str) -> EncodedSample:
    """Return one prompt and answer as tokens."""
    return encoder(tokenizer, context, template).one(prompt, answer)


def forget_set(*rows: tuple[str, str]) -> ForgetSet:
    """Return (prompt, answer) rows as a forget set."""
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(len(rows))],
            "prompt": [prompt for prompt, _answer in rows],
            "answer": [answer for _prompt, answer in rows],
        }
    )
    report = ValidationReport(
        n_rows=len(rows),
        n_valid=len(rows),
        n_skipped_blank=0,
        skipped_rows=(),
        n_duplicate_rows=0,
        duplicates="keep",
        notes=(),
    )
    return ForgetSet(frame, ColumnMapping(), Layout.COLUMNS, report, digest_of(frame))


class LinearSoftmax(nn.Module):
    """log p(y | token) = log softmax(W x)_y with a fixed feature vector x per token.

    The Hessian of log p with respect to W is −(diag(p) − p pᵀ) ⊗ x xᵀ, so its trace is −|x|² (1 − Σ p²).
    """

    def __init__(self, features: int = 6, vocabulary: int = VOCABULARY, seed: int = 0) -> None:
        super().__init__()
        draw = np.random.default_rng(seed).normal
        self.register_buffer("features", torch.from_numpy(draw(size=(vocabulary, features))))
        self.weight = nn.Parameter(torch.from_numpy(draw(size=(vocabulary, features))), requires_grad=False)

    def forward(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        log_probs = (self.features[ids[rows, columns]] @ self.weight.T).log_softmax(-1)
        return log_probs.gather(1, ids[rows, columns + 1].unsqueeze(1)).squeeze(1)


def estimator(
    scorer: nn.Module,
    samples: Encoded,
    sigma: float,
    *,
    mode: str = "antithetic",
    seed: int = 0,
    batch_tokens: int = 10_000,
    streamed: bool = False,
) -> tuple[Estimator, Baseline]:
    """Return an estimator over `samples` and the baseline it measures against."""
    passes = Passes(reader(scorer, batch_tokens), samples)
    baseline = measure_baseline(passes, next(scorer.parameters()).dtype)
    model = PerturbedModel(scorer, Noise(seed, sigma), streamed=streamed)
    return Estimator(passes, model, baseline, mode), baseline


def relative_changes(scorer: nn.Module, samples: Encoded, sigma: float, units: int, **how: Any) -> np.ndarray:
    """Return Σ ΔP/P over all tokens, mean over each unit's evaluations, shape (units, N)."""
    source, _baseline = estimator(scorer, samples, sigma, **how)
    return np.stack([source.unit(index).values[:, :, 1, 1].mean(axis=0) for index in range(units)])


def log_probs(network: Any, samples: Encoded, batch_tokens: int = 10_000) -> np.ndarray:
    """Return P_t of every scored position of a transformers model."""
    return Passes(reader(Scorer(network), batch_tokens), samples)()


def standard_error(units: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return the standard error of the mean over the first axis."""
    units = np.asarray(units)
    return units.std(axis=0, ddof=1) / np.sqrt(len(units))


def save_adapter(model: Path, folder: Path) -> Path:
    """Write a LoRA adapter for the model in a folder that changes what it says, and return where it lies."""
    adapter = adapted(LlamaForCausalLM.from_pretrained(model), 2, 4, seed=1)
    with torch.no_grad():
        for name, weight in adapter.named_parameters():
            if "lora_B" in name:
                weight += 0.01
    adapter.save_pretrained(folder)
    return folder
