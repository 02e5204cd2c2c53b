"""What a step holds at a time, planned, against what torch's dispatcher counts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.tensors import Held
from mrd_core.demo import MODEL_DIR
from mrd_core.model import loading
from mrd_core.runs.files import read_json
from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.memory import MemoryPlan, Shape, planned, remedies, size
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Losses, Objective, StepBatch, steering
from mrd_core.unlearning.texts import Answers, TextBatch, answers
from mrd_core.unlearning.trainer import Trainer, accelerator_on, decayed_groups
from tests.support import tiny
from tests.support.unlearning_runs import Place, Unlearned, scored_tiny

DEMO = read_json(MODEL_DIR / "config.json")
# Grouped queries, an output layer of its own, a larger vocabulary.
OTHER = {
    "vocab_size": 6000,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
SHAPES = {"the demo's model": DEMO, "another shape": OTHER}
CASES: dict[str, dict[str, Any]] = {
    "full weights, AdamW": {},
    "SGD": {"name": "sgd"},
    "LoRA": {"lora_rank": 8},
    "checkpointing": {"gradient_checkpointing": True},
    "LoRA and checkpointing": {"lora_rank": 8, "gradient_checkpointing": True},
    "one sample at a time": {"micro_batch": 1},
    "mixed precision": {"mixed_precision": "bf16"},
    "LoRA on bf16": {"lora_rank": 8, "dtype": "bfloat16"},
}
# The plan is to be this near to what is held.
NEAR = 0.15


class Steps:
    """A feed of three steps on one batch."""

    spoilt = False

    def __init__(self, batch: StepBatch) -> None:
        self._batch = batch

    def draw(self, step: int) -> StepBatch | None:
        return self._batch if step < 3 else None

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:  # noqa: ARG002
        return list(rows)

    def selected(self) -> list[int]:
        return list(range(len(self._batch.forget)))

    def undo(self) -> None:
        raise AssertionError("Memory ran out.")

    def stepped(self, step: int, losses: Losses, learning_rate: float) -> bool:  # noqa: ARG002
        return False

    def save(self, folder: Path) -> None:
        """Write nothing."""


def configured(*, retain: bool = False, method: str = "", **optimiser: Any) -> UnlearnConfig:
    kept: dict[str, Any] = {"samples": {"source": "demo"}} if retain else {}
    settings = {"score_run": "run", "model": {}, "method": method or ("graddiff" if retain else "ga")}
    return UnlearnConfig.model_validate(settings | {"retain": kept, "optimiser": optimiser})


def measured(
    sizes: dict[str, Any], config: UnlearnConfig, length: int, scored: int, dtype: str, device: torch.device
) -> tuple[int, MemoryPlan]:
    """Return the most that training held on the device, and what was planned [bytes]."""
    settings, optimiser = LlamaConfig(**sizes), config.optimiser
    before = 0
    if device.type == "cuda":
        # The libraries of a GPU keep some room of their own from the first product on.
        torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device))
        before = torch.cuda.memory_allocated(device)
    network: Any = tiny.seeded(lambda: LlamaForCausalLM(settings)).to(loading.DTYPES[dtype]).to(device)
    shape = Shape.of(settings.to_dict(), sum(weight.numel() for weight in network.parameters()))
    assert shape is not None
    if optimiser.lora_rank:
        network.requires_grad_(False)
        network = adapted(network, optimiser.lora_rank, 16, seed=0, checkpointing=optimiser.gradient_checkpointing)
    if optimiser.gradient_checkpointing:
        network.activation_checkpointing_enable()
    samples = tiny.encoded(*[length] * 4, answer_from=length - 1 - scored, vocabulary=settings.vocab_size).samples
    method = METHODS[config.method]
    parameters = parsed(method, {})
    layer, direction = steering(method, parameters, settings, 0)
    start = copy.deepcopy(network).requires_grad_(False) if config.needs_starting_model else None

    @torch.no_grad()
    def starting_model(texts: TextBatch) -> Answers:
        return answers(start, texts, layer)

    objective = Objective(
        method,
        parameters,
        config.retain_weight,
        None,
        config.micro_batch(),
        device,
        starting_model=starting_model if start else None,
        layer=layer,
        direction=direction,
    )
    kind: Any = {"adamw_torch": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimiser.name]
    accelerator = accelerator_on(device, mixed_precision=optimiser.mixed_precision)
    trainer = Trainer(
        network,
        kind(decayed_groups(network, 0.01), lr=1e-5),
        objective,
        Steps(
            StepBatch(
                samples,
                torch.full((len(samples),), 100.0) if method.needs_reference else None,
                samples if config.retain_weight else (),
                refusals=samples if method.refuses_beside else (),
            )
        ),
        accelerator,
        max_grad_norm=1.0,
    )
    plan = planned(config, shape, length, scored, dtype=dtype, on_gpu=device.type == "cuda")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        trainer.train()
        return torch.cuda.max_memory_allocated(device) - before, plan
    standing = [*network.parameters(), *network.buffers(), *(start.parameters() if start else ())]
    with Held(standing) as held:
        trainer.train()
    return held.peak, plan


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_holds_what_was_planned(shape: str, case: str) -> None:
    changes = dict(CASES[case])
    dtype = changes.pop("dtype", "float32")
    for length, scored in ((60, 40), (160, 50)):
        held, plan = measured(SHAPES[shape], configured(**changes), length, scored, dtype, tiny.CPU)
        assert plan.peak == pytest.approx(held, rel=NEAR)


def test_with_retain_partners_the_gradients_of_the_first_pass_wait_for_the_second() -> None:
    held, plan = measured(OTHER, configured(retain=True), 60, 40, "float32", tiny.CPU)
    assert plan.peak == pytest.approx(held, rel=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npo", "dpo", "ceu", "undial", "pdu", "rmu"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_loss_looks_at_is_planned(shape: str, method: str) -> None:
    for length, scored in ((60, 40), (160, 50)):
        config = configured(retain=METHODS[method].default_retain_weight > 0, method=method)
        held, plan = measured(SHAPES[shape], config, length, scored, "float32", tiny.CPU)
        assert plan.peak == pytest.approx(held, rel=NEAR)


# By hand: LLaMA2-7B.
LLAMA = Shape(6_738_415_616, 4096, 11_008, 32, 4096, 4096, 32_000)


def plan_of(length: int = 64, dtype: str = "float32", processes: int = 1, **optimiser: Any) -> MemoryPlan:
    config = configured(**{"batch_size": 4} | optimiser)
    return planned(config, LLAMA, length, length // 2, dtype=dtype, on_gpu=True, processes=processes)


def test_full_weights_of_7b_take_four_copies_and_an_adapter_next_to_nothing() -> None:
    full = plan_of()
    assert full.weights == full.gradients == 4 * LLAMA.parameters
    assert full.optimiser == 8 * LLAMA.parameters
    # A copy more while the optimiser moves the weights.
    assert full.peak == 20 * LLAMA.parameters
    lora = plan_of(lora_rank=8, dtype="bfloat16", gradient_checkpointing=True)
    trained = 32 * 8 * (4 * 2 * 4096 + 3 * (4096 + 11_008))
    assert LLAMA.adapter(8) == trained == 19_988_480
    assert (lora.gradients, lora.optimiser) == (4 * trained, 8 * trained)
    assert lora.weights == 2 * LLAMA.parameters + 4 * trained
    assert lora.weights < lora.peak < 1.05 * lora.weights


def test_what_is_not_kept_is_not_counted() -> None:
    assert plan_of(name="sgd").optimiser == 0
    assert plan_of(gradient_checkpointing=True).activations < plan_of().activations / 10
    assert plan_of(micro_batch=1).activations == pytest.approx(plan_of().activations / 4, rel=0.01)
    assert plan_of().least == plan_of(micro_batch=1).peak
    # Of two processes each has half of the batch, and sums of earlier rounds beside its gradients.
    assert plan_of(processes=2).activations == pytest.approx(plan_of().activations / 2, rel=0.01)
    assert plan_of(processes=2, micro_batch=1).gradients == 2 * plan_of().gradients


def test_a_model_of_unknown_sizes_has_no_plan() -> None:
    assert Shape.of({"hidden_size": 8}, 10) is None
    gpt = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_inner": None}
    assert Shape.of(gpt, 10) == Shape(10, 8, 32, 2, 8, 8, 50)
    assert Shape.of({"text_config": gpt, "hidden_size": 99}, 10) == Shape.of(gpt, 10)


def test_what_helps_is_said_the_mildest_first() -> None:
    config = configured(batch_size=4)

    def peak(wanted: UnlearnConfig) -> int:
        return planned(wanted, LLAMA, 2000, 1000, dtype="float32", on_gpu=True).peak

    found = remedies(config, peak, peak(config) - 1)
    assert found[:3] == ["--micro-batch 2", "--micro-batch 1", "--gradient-checkpointing"]
    assert remedies(config, peak, 40 * 2**30) == ["--lora-rank 8 --gradient-checkpointing"]
    assert remedies(config, peak, 2**30) == []


def test_bytes_are_told_in_the_unit_that_suits() -> None:
    assert (size(3 * 2**29), size(2**20 * 12)) == ("1.5 GiB", "12 MiB")
    assert plan_of(name="sgd").in_words.startswith("75.")


def test_a_run_says_before_the_first_step_that_memory_will_be_short(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, place = scored_tiny(tmp_path_factory.getbasetemp()), Place.of(tmp_path)
    # The model itself is loaded as ever.
    monkeypatch.setattr(loading, "placement", lambda *_: None)

    def ran(free: int) -> Unlearned:
        monkeypatch.setattr(loading, "free_bytes", lambda _device: free)
        return place.carried_out(scored.config(limits={"max_steps": 1}))

    def warned(unlearned: Unlearned) -> bool:
        return any("is planned to hold" in text for text in unlearned.summary["warnings"])

    enough = ran(10**12)
    memory, weights = enough.summary["memory"], 4 * enough.summary["model_parameters"]
    assert (memory["weights"], memory["free"]) == (weights, 10**12 + weights)
    assert memory["peak"] > memory["least"] > 4 * weights
    assert "on each device at most" in enough.summary["reasons"]["memory"]
    assert not warned(enough)
    assert warned(ran((memory["peak"] + memory["least"]) // 2 - weights))
    refused = ran(memory["least"] - weights - 1).run.error
    assert refused is not None
    assert "A training step with a single sample in memory holds" in refused.cause
    assert "--lora-rank 8" in refused.advice
