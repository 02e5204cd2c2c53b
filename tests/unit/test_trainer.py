"""The training loop: what is trained on, in which order, with which gradients, and how it goes on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from mrd_core.memorization import Memorized, measure_memorization
from mrd_core.unlearning.feed import CurriculumFeed, Measures, Rules, Samples, StepRecord
from mrd_core.unlearning.losses import nll_loss
from mrd_core.unlearning.methods import METHODS, parsed
from mrd_core.unlearning.objective import Drawn, Objective
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum, retain_partner
from mrd_core.unlearning.stopping import Checks, Limits, StopReason, Thresholds
from mrd_core.unlearning.texts import TextBatch, answers
from mrd_core.unlearning.trainer import UnlearningTrainer, checkpoints
from tests.unit import tiny

FORGET = tiny.encoded(9, 14, 7, 11, 20, 8)
RETAIN = tiny.encoded(12, 6, 10, 15, seed=1)
SCORES = {sample: float(place + 1) for place, sample in enumerate(FORGET.sample_ids)}
# Of a small step nobody forgets what he knows by heart.
SMALL_STEP = 1e-5
NEVER = Thresholds.absolute(0.05, None)


@cache
def _memorising() -> dict[str, torch.Tensor]:
    """Return weights that know the forget set by heart."""
    model = tiny.llama().requires_grad_(True)
    batch, optimiser = TextBatch.of(FORGET.samples, tiny.CPU), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        nll_loss(answers(model, batch).log_probs, batch.mask, "tokens").backward()
        optimiser.step()
    return model.state_dict()


def network() -> Any:
    """Return a model that knows the forget set by heart."""
    model = tiny.llama().requires_grad_(True)
    model.load_state_dict(_memorising())
    return model


def objective(method: str, micro_batch: int = 100, **changes: Any) -> Objective:
    chosen = METHODS[method]
    weight = 0.0 if chosen.retain == "none" else chosen.default_retain_weight
    settings = {"retain_weight": weight, "retain_term": "nll", "reference": None} | changes
    return Objective(chosen, parsed(chosen, {}), micro_batch=micro_batch, device=tiny.CPU, **settings)


def keep_all(rows: slice, accuracy: list[float]) -> list[int]:  # noqa: ARG001
    return list(range(len(accuracy)))


def feed_of(model: Any, records: list[StepRecord], sampler: str = "mrd", **changes: Any) -> CurriculumFeed:
    rules = {
        "batch_size": 3,
        "seed": 7,
        "thresholds": NEVER,
        "checks": Checks(),
        "limits": Limits(max_steps=8),
        "drop_forgotten": True,
    } | changes

    def memorized(places: np.ndarray) -> Memorized:
        return measure_memorization(model, FORGET, tiny.CPU, 1000, places)

    measures = Measures(memorized, lambda places: np.zeros(len(places)), None)
    curriculum = Curriculum(SAMPLERS[sampler], SCORES, seed=3)
    return CurriculumFeed(
        curriculum, Samples(FORGET, None, None, RETAIN), measures, Rules(**rules), records.append
    )


def trained(
    model: Any,
    feed: CurriculumFeed,
    folder: Path,
    method: str = "graddiff",
    resume: Path | None = None,
    **changes: Any,
) -> None:
    settings = {"max_steps": 8, "save_strategy": "no", "learning_rate": SMALL_STEP} | changes
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        lr_scheduler_type="constant",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **settings,
    )
    UnlearningTrainer(model, arguments, objective(method, micro_batch=2), feed).train(
        resume_from_checkpoint=str(resume) if resume else None
    )


def gradients(
    model: Any, method: str, micro_batch: int, judge: Callable[..., list[int]] = keep_all
) -> torch.Tensor:
    reference = torch.tensor([30.0, 20.0, 25.0, 40.0]) if METHODS[method].needs_reference else None
    drawn = Drawn([FORGET.samples[i] for i in (0, 3, 4, 1)], reference, [RETAIN.samples[i] for i in (2, 0, 0, 1)])
    model.zero_grad()
    objective(method, micro_batch).accumulate(model, drawn, judge, torch.Tensor.backward)
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_four_micro_batches_of_one_move_the_weights_as_one_of_four(method: str) -> None:
    model = tiny.in_double(network())
    torch.testing.assert_close(gradients(model, method, 1), gradients(model, method, 4), rtol=1e-9, atol=1e-12)


def test_the_log_probabilities_of_a_batch_are_those_that_scoring_finds() -> None:
    model = tiny.llama()
    expected = tiny.log_probs(model, FORGET)
    found = answers(model, TextBatch.of(FORGET.samples, tiny.CPU))
    for row, (start, sample) in enumerate(zip(FORGET.starts, FORGET.samples, strict=False)):
        scored = found.log_probs[row, : len(sample.answer)].detach().numpy()
        alone = expected[start : start + len(sample.answer)]
        np.testing.assert_allclose(scored[sample.answer], alone[sample.answer], rtol=1e-4, atol=1e-5)
        assert (scored[~sample.answer] == 0).all()


def test_a_sample_that_is_found_forgotten_adds_nothing_to_the_step() -> None:
    model = tiny.in_double(network())
    first = gradients(model, "ga", 1, lambda rows, _accuracy: [0] if rows.start == 0 else [])
    drawn = Drawn([FORGET.samples[0]], None, ())
    model.zero_grad()
    objective("ga").accumulate(model, drawn, keep_all, torch.Tensor.backward)
    alone = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    tokens = [int(FORGET.samples[i].answer.sum()) for i in (0, 3, 4, 1)]
    # Normalisation layers round to fp32, differently for a padded batch.
    torch.testing.assert_close(first, alone * tokens[0] / sum(tokens), rtol=1e-3, atol=1e-7)


def test_the_log_holds_what_the_curriculum_hands_out_and_the_partners_of_each_step(tmp_path: Path) -> None:
    model, records = network(), []
    trained(model, feed_of(model, records), tmp_path)
    curriculum = Curriculum(SAMPLERS["mrd"], SCORES, seed=3)
    assert [list(record.forget) for record in records] == [curriculum.next_batch(3) for _ in range(8)]
    partners = [[RETAIN.sample_ids[retain_partner(7, step, slot, 4)] for slot in range(3)] for step in range(8)]
    assert [list(record.retain) for record in records] == partners
    assert [record.step for record in records] == list(range(1, 9))


def test_unlearning_makes_the_forget_set_less_likely_and_the_run_says_why_it_ended(tmp_path: Path) -> None:
    model, records = network(), []
    before = measure_memorization(model, FORGET, tiny.CPU, 1000).nll.mean()
    feed = feed_of(model, records, "uniform")
    trained(model, feed, tmp_path, "ga", learning_rate=1e-3)
    assert measure_memorization(model, FORGET, tiny.CPU, 1000).nll.mean() > 10 * before
    assert feed.reason is StopReason.MAX_STEPS
    assert sum(feed.standing.updates.values()) == feed.standing.draws == 24


def test_forgotten_samples_leave_the_pool_and_end_the_run(tmp_path: Path) -> None:
    model, records = network(), []
    limits = Limits(max_steps=60)
    feed = feed_of(model, records, "easy-to-hard", thresholds=Thresholds.absolute(0.5, None), limits=limits)
    trained(model, feed, tmp_path, "ga", max_steps=60, learning_rate=1e-2)
    assert feed.reason is StopReason.ALL_FORGOTTEN
    assert set(feed.standing.forgotten) == set(FORGET.sample_ids)
    gone: set[str] = set()
    for record in records:
        assert not gone & set(record.forget)
        gone |= set(record.forgotten)


def test_a_resumed_run_draws_the_same_order_and_finds_the_same_losses(tmp_path: Path) -> None:
    whole: list[StepRecord] = []
    model = network()
    trained(model, feed_of(model, whole), tmp_path / "whole")

    begun: list[StepRecord] = []
    model = network()
    limits = Limits(max_steps=3)
    trained(model, feed_of(model, begun, limits=limits), tmp_path / "two", save_strategy="steps", save_steps=2)
    newest = checkpoints(tmp_path / "two")[-1]
    assert [path.name for path in (tmp_path / "two").iterdir()] == [newest.name] == ["checkpoint-3"]

    rest: list[StepRecord] = []
    model = network()
    feed = feed_of(model, rest)
    feed.restore(newest, SAMPLERS["mrd"])
    trained(model, feed, tmp_path / "two", resume=newest, save_strategy="steps", save_steps=100)
    found = [*begun, *rest]
    assert [(record.forget, record.retain) for record in found] == [
        (record.forget, record.retain) for record in whole
    ]
    np.testing.assert_allclose([r.losses for r in found], [r.losses for r in whole], rtol=1e-6, atol=1e-6)
