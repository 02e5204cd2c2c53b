"""Training of larger models on a GPU: the plan of its memory, and several GPUs on one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mrd_core.unlearning.files import UnlearningFiles
from tests.support.commands import ended, started
from tests.support.unlearning_runs import scored_tiny
from tests.unit.test_memory_plan import CASES, NEAR, configured, measured

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

GPU = torch.device("cuda", 0)
# 0.1 billion weights, so that what the libraries take is little.
SHAPE = {
    "vocab_size": 8000,
    "hidden_size": 1024,
    "intermediate_size": 2752,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("case", ["full weights, AdamW", "SGD", "LoRA", "checkpointing", "LoRA on bf16"])
def test_a_step_holds_what_was_planned(case: str) -> None:
    changes = dict(CASES[case])
    dtype = changes.pop("dtype", "float32")
    held, plan = measured(SHAPE, configured(**changes), 256, 128, dtype, GPU)
    assert plan.peak == pytest.approx(held, rel=NEAR)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees a single CUDA device")
def test_two_gpus_unlearn_what_one_does(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    scored = scored_tiny(tmp_path_factory.getbasetemp())
    command = ("unlearn", "--scores", scored.directory, "--method", "graddiff", "--retain-set", scored.retain)
    how = (
        "--device",
        "auto",
        "--micro-batch",
        "2",
        "--max-steps",
        "6",
        "--learning-rate",
        "2e-3",
        "--answers",
        "2",
    )
    weights: list[dict[str, Any]] = []
    for count in (1, 2):
        outcome = ended(started(*command, *how, "--processes", str(count), "--out", tmp_path / str(count)))
        assert outcome.code == 0, outcome.err
        weights.append(load_file(UnlearningFiles(tmp_path / str(count)).model / "model.safetensors"))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-5)
