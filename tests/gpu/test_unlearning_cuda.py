"""Unlearning on a GPU: it forgets in both precisions, goes on in the same order, and says what memory it takes."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.model.memorization import Memorized, measure_memorization
from mrd_core.model.reader import Reader
from mrd_core.runs import JobContext
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.feed import CurriculumFeed, Measures, Rescored, Rules, Samples, StepRecord
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Objective
from mrd_core.unlearning.recorder import Recorder
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum
from mrd_core.unlearning.stopping import Checks, Limits, Thresholds
from tests.support import tiny, training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

GPU = torch.device("cuda", 0)
FORGET = tiny.encoded(9, 14, 7, 11, 20, 8)
RETAIN = tiny.encoded(12, 6, 10, 15, seed=1)
SCORES = MappingProxyType({sample: float(place + 1) for place, sample in enumerate(FORGET.sample_ids)})
STEPS = 8


def network() -> Any:
    return tiny.llama().requires_grad_(True).to(GPU)


def measured(model: Any) -> Memorized:
    return measure_memorization(Reader(model, GPU, 1000), FORGET)


def feed_of(model: Any, records: list[StepRecord], steps: int = STEPS) -> CurriculumFeed:
    measures = Measures(
        memorized=lambda places: measure_memorization(Reader(model, GPU, 1000), FORGET.subset(places)),
        # Nothing is ever forgotten: all of each answer can be extracted.
        extraction=lambda places: np.ones(len(places)),
        extraction_tokens=np.zeros(len(FORGET), dtype=np.int64),
        retained=lambda: measure_memorization(Reader(model, GPU, 1000), RETAIN),
        retained_tokens=int(RETAIN.lengths.sum()),
        rescored=lambda _places: Rescored(SCORES, 0, 0),
    )
    rules = Rules(
        batch_size=3,
        seed=7,
        thresholds=Thresholds.absolute(0.5, 0.5),
        checks=Checks(),
        limits=Limits(max_steps=steps),
    )
    curriculum = Curriculum(SAMPLERS["mrd"], SCORES, seed=3)
    return CurriculumFeed(curriculum, Samples(FORGET, None, None, RETAIN), measures, rules, records.append)


def train(model: Any, feed: CurriculumFeed, **changes: Any) -> None:
    method = METHODS["graddiff"]
    objective = Objective(method, parsed(method, {}), 1.0, None, micro_batch=2, device=GPU)
    training.train(model, objective, feed, **{"learning_rate": 1e-3} | changes)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_forget_set_becomes_less_likely(precision: str) -> None:
    model, records = network(), []
    before = measured(model).nll.mean()
    train(model, feed_of(model, records), mixed_precision=precision)
    assert measured(model).nll.mean() > before + 0.1
    assert all(weight.dtype is torch.float32 and weight.is_cuda for weight in model.parameters())
    assert all(np.isfinite(record.forget_loss) for record in records)


def test_a_resumed_run_draws_the_same_order_and_finds_the_same_losses(tmp_path: Path) -> None:
    whole: list[StepRecord] = []
    model = network()
    train(model, feed_of(model, whole))

    found: list[StepRecord] = []
    model = network()
    train(model, feed_of(model, found, steps=3), folder=tmp_path, save_steps=3)
    newest = checkpoints.existing(tmp_path)[-1]
    model = network()
    feed = feed_of(model, found)
    feed.restore(newest, SAMPLERS["mrd"])
    train(model, feed, resume=newest)
    orders = [[(record.step, record.forget, record.retain) for record in records] for records in (found, whole)]
    assert orders[0] == orders[1]
    losses = [[(record.forget_loss, record.retain_loss) for record in records] for records in (found, whole)]
    # Kernels of a GPU need not add in the same order twice.
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-5)


def test_an_adapter_moves_with_checkpointing_on_and_the_model_beneath_it_does_not() -> None:
    model = adapted(network(), rank=2, alpha=4, seed=0, checkpointing=True)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train(model, feed_of(model, []), learning_rate=1e-2, checkpointing=True)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora_" in name}


class _Kept(JobContext):
    """Keeps the metrics."""

    def steps(self, metrics: Any, updates: Any) -> None:  # noqa: ARG002
        self.kept = {metric.name: metric.value for metric in metrics}


def test_the_memory_that_is_reported_is_the_devices(tmp_path: Path) -> None:
    model, records = network(), []
    feed = feed_of(model, records, steps=1)
    train(model, feed)
    context = _Kept(tmp_path)
    held = torch.zeros(64 * 2**20, dtype=torch.uint8, device=GPU)
    recorder = Recorder(UnlearningFiles(tmp_path), context, dict.fromkeys(SCORES, 1.0), 1, 3, GPU)
    recorder(records[0])
    recorder.flush()
    allocated = torch.cuda.memory_allocated(GPU) / 2**20
    assert held.numel() / 2**20 <= context.kept["memory_mb"] == pytest.approx(allocated, abs=1)
    assert recorder.peak_memory_mb >= context.kept["memory_mb"]
