"""The training loop: what is trained on, in which order, with which gradients, and how it goes on after a stop."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.errors import UserError
from mrd_core.model.encoding import EncodedSample
from mrd_core.model.memorization import Memorized, measure_memorization
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning import feed as feed_module
from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.feed import (
    CurriculumFeed,
    Evaluation,
    Measures,
    Rescored,
    RetainLimit,
    Rules,
    Samples,
    StepRecord,
)
from mrd_core.unlearning.losses import nll_loss
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Losses, Objective, StepBatch, steering
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum, retain_partner
from mrd_core.unlearning.stopping import Checks, Limits, StopReason, Thresholds, Verdict
from mrd_core.unlearning.texts import TextBatch, answers
from tests.support import tiny
from tests.support.training import train

FORGET = tiny.encoded(9, 14, 7, 11, 20, 8)
RETAIN = tiny.encoded(12, 6, 10, 15, seed=1)
SCORES = {sample: float(place + 1) for place, sample in enumerate(FORGET.sample_ids)}
# Of a small step nobody forgets what he knows by heart.
SMALL_STEP = 1e-5
NEVER = Thresholds.absolute(0.05, None)


class _Forgotten(Thresholds):
    """Finds every sample forgotten."""

    def verdict(self, accuracy: np.ndarray, measure_extraction: Any) -> Verdict:  # noqa: ARG002
        return Verdict(np.ones(len(accuracy), dtype=np.bool_), np.full(len(accuracy), np.nan))


FORGOTTEN = _Forgotten(1.0, None, "absolute")


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
    settings = {"retain_weight": weight, "reference": None} | changes
    if chosen.needs_starting_model:
        start = tiny.in_double(tiny.llama())
        settings["starting_model"] = lambda texts: answers(start, texts, settings.get("layer"))
    if chosen.steers:
        layer, direction = steering(chosen, parsed(chosen, {}), start.config, 0)
        settings |= {"layer": layer, "direction": direction}
    return Objective(chosen, parsed(chosen, {}), micro_batch=micro_batch, device=tiny.CPU, **settings)


@dataclass
class Keep:
    """A selection that trains on these rows of a draw, on all of them unless told."""

    kept: Sequence[int] | None = None
    seen: list[int] = field(default_factory=list)

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        assert len(rows) == len(accuracy)
        self.seen += [row for row in rows if self.kept is None or row in self.kept]
        return [row for row in rows if row in self.seen]

    def selected(self) -> list[int]:
        return self.seen


def feed_of(
    model: Any,
    records: list[StepRecord],
    sampler: str = "mrd",
    samples: Samples = Samples(FORGET, None, None, RETAIN),
    evaluation: Callable[[], Evaluation] | None = None,
    **changes: Any,
) -> CurriculumFeed:
    rules = {
        "batch_size": 3,
        "seed": 7,
        "thresholds": NEVER,
        "checks": Checks(),
        "limits": Limits(max_steps=8),
        "drop_forgotten": True,
    } | changes

    def memorized(places: np.ndarray) -> Memorized:
        return measure_memorization(tiny.reader(model, 1000), FORGET.subset(places))

    def rescored(places: np.ndarray) -> Rescored:
        return Rescored({FORGET.sample_ids[place]: 10.0 - place for place in places}, 5, 100)

    def retained() -> Memorized:
        return measure_memorization(tiny.reader(model, 1000), RETAIN)

    no_tokens = np.zeros(len(FORGET), dtype=np.int64)
    measures = Measures(
        memorized, lambda places: np.zeros(len(places)), no_tokens, retained, 7, rescored, evaluation
    )
    curriculum = Curriculum(SAMPLERS[sampler], SCORES, seed=3)
    return CurriculumFeed(curriculum, samples, measures, Rules(**rules), records.append)


def trained(
    model: Any, feed: CurriculumFeed, folder: Path | None = None, method: str = "graddiff", **changes: Any
) -> None:
    settings = {"learning_rate": SMALL_STEP, "folder": folder if "save_steps" in changes else None} | changes
    train(model, objective(method, micro_batch=2), feed, **settings)


def gradients(model: Any, method: str, micro_batch: int, kept: Sequence[int] | None = None) -> torch.Tensor:
    reference = torch.tensor([30.0, 20.0, 25.0, 40.0]) if METHODS[method].needs_reference else None
    drawn = StepBatch(
        [FORGET.samples[i] for i in (0, 3, 4, 1)], reference, [RETAIN.samples[i] for i in (2, 0, 0, 1)]
    )
    if METHODS[method].refuses_beside:
        drawn = drawn._replace(refusals=[RETAIN.samples[i] for i in (1, 3, 2, 0)])
    model.zero_grad()
    objective(method, micro_batch).accumulate(model, drawn, Keep(kept), torch.Tensor.backward)
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_four_micro_batches_of_one_move_the_weights_as_one_of_four(method: str) -> None:
    model = tiny.in_double(network())
    torch.testing.assert_close(gradients(model, method, 1), gradients(model, method, 4), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["ceu", "undial", "pdu"])
def test_what_a_loss_sees_of_predictions_is_that_of_the_samples_that_are_trained_on(method: str) -> None:
    model = tiny.in_double(network())
    first, both = gradients(model, method, 1, kept=[0, 2]), gradients(model, method, 4, kept=[0, 2])
    torch.testing.assert_close(first, both, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(first, gradients(model, method, 1))


def test_a_retain_loss_is_held_by_a_weight_that_follows_it() -> None:
    records: list[StepRecord] = []
    limit = RetainLimit(0.2, 2.0)
    model = network()
    trained(model, feed_of(model, records, retain_limit=limit), method="pdu")
    weights, losses = [record.retain_weight for record in records], [record.retain_loss for record in records]
    expected = [0.0]
    for loss in losses[:-1]:
        expected.append(max(0.0, expected[-1] + 2.0 * (loss - 0.2)))
    assert weights == pytest.approx(expected)
    assert max(weights) > 0
    # As long as nothing is held the step is that of the forget term alone.
    held, free = network(), network()
    trained(held, feed_of(held, [], retain_limit=RetainLimit(1e9, 1.0)), method="graddiff")
    trained(free, feed_of(free, []), method="ga")
    for one, other in zip(held.parameters(), free.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_that_a_limit_is_held_against_is_that_of_the_partners_that_were_trained_on() -> None:
    records: list[StepRecord] = []
    model = tiny.llama().requires_grad_(True)
    feed = feed_of(model, records, retain_limit=RetainLimit(0.1, 1.0), thresholds=Thresholds.absolute(1.0, None))
    trained(model, feed, method="graddiff")
    # All are forgotten: there is no retain loss that λ could follow.
    assert records[-1].retain_loss is None
    assert feed.standing.retain_weight == 0.0


def test_the_retain_loss_of_a_step_is_that_of_the_partners_that_were_trained_on() -> None:
    class FirstForgotten(Thresholds):
        """Finds the first of each micro-batch of two forgotten."""

        def verdict(self, accuracy: np.ndarray, measure_extraction: Any) -> Verdict:  # noqa: ARG002
            return Verdict(np.arange(len(accuracy)) == 0, np.full(len(accuracy), np.nan))

    records: list[StepRecord] = []
    model = network()
    measured = measure_memorization(tiny.reader(model, 1000), RETAIN).nll
    feed = feed_of(model, records, thresholds=FirstForgotten(0.5, None, "absolute"), limits=Limits(max_steps=1))
    trained(model, feed)
    (record,) = records
    (partner,) = [record.retain[look.row] for look in record.looks if look.trained]
    assert record.retain_loss == pytest.approx(measured[RETAIN.sample_ids.index(partner)], rel=1e-5)


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
    first = gradients(model, "ga", 1, kept=[0])
    drawn = StepBatch([FORGET.samples[0]], None, ())
    model.zero_grad()
    objective("ga").accumulate(model, drawn, Keep(), torch.Tensor.backward)
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
    before = measure_memorization(tiny.reader(model, 1000), FORGET).nll.mean()
    feed = feed_of(model, records, "uniform")
    trained(model, feed, tmp_path, "ga", learning_rate=1e-3)
    assert measure_memorization(tiny.reader(model, 1000), FORGET).nll.mean() > 10 * before
    assert feed.reason is StopReason.MAX_STEPS
    assert sum(feed.standing.updates.values()) == feed.standing.draws == 24


def test_forgotten_samples_leave_the_pool_and_end_the_run(tmp_path: Path) -> None:
    model, records = network(), []
    limits = Limits(max_steps=60)
    feed = feed_of(model, records, "easy-to-hard", thresholds=Thresholds.absolute(0.5, None), limits=limits)
    trained(model, feed, tmp_path, "ga", learning_rate=1e-2)
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
    trained(model, feed_of(model, begun, limits=limits), tmp_path / "two", save_steps=2)
    newest = checkpoints.existing(tmp_path / "two")[-1]
    assert [path.name for path in (tmp_path / "two").iterdir()] == [newest.name] == ["checkpoint-3"]

    rest: list[StepRecord] = []
    model = network()
    feed = feed_of(model, rest)
    feed.restore(newest, SAMPLERS["mrd"])
    trained(model, feed, tmp_path / "two", resume=newest, save_steps=100)
    found = [*begun, *rest]
    assert [(record.forget, record.retain) for record in found] == [
        (record.forget, record.retain) for record in whole
    ]
    losses = [[(r.forget_loss, r.text_nll, r.retain_loss) for r in records] for records in (found, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-6, atol=1e-6)


def test_retain_partners_of_forgotten_samples_add_nothing() -> None:
    model = tiny.in_double(network())
    kept = gradients(model, "graddiff", 4, kept=[1])
    drawn = StepBatch([FORGET.samples[3]], None, [RETAIN.samples[0]])
    model.zero_grad()
    shares = [int(FORGET.samples[3].answer.sum()), int(RETAIN.samples[0].answer.sum())]
    wholes = [
        sum(int(FORGET.samples[i].answer.sum()) for i in (0, 3, 4, 1)),
        sum(int(RETAIN.samples[i].answer.sum()) for i in (2, 0, 0, 1)),
    ]
    weight = shares[1] / wholes[1] / (shares[0] / wholes[0])
    objective("graddiff", retain_weight=weight).accumulate(model, drawn, Keep(), torch.Tensor.backward)
    alone = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
    torch.testing.assert_close(kept, alone * shares[0] / wholes[0], rtol=1e-3, atol=1e-7)


def test_a_step_that_finds_all_its_samples_forgotten_leaves_the_weights_alone(tmp_path: Path) -> None:
    model, records = network(), []
    # Momentum is there after the first step; then every sample counts as forgotten.
    feed = feed_of(model, records, "uniform", batch_size=6, limits=Limits(max_steps=1))
    trained(model, feed, tmp_path / "one", "ga", save_steps=1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    feed = feed_of(model, records, "uniform", batch_size=6, thresholds=FORGOTTEN, limits=Limits(max_steps=2))
    feed.restore(checkpoints.existing(tmp_path / "one")[-1], SAMPLERS["uniform"])
    trained(model, feed, tmp_path / "one", "ga", resume=checkpoints.existing(tmp_path / "one")[-1])
    assert [look.trained for look in records[-1].looks] == [False] * 6
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_a_sample_that_is_found_forgotten_was_not_updated_in_that_step(tmp_path: Path) -> None:
    model, records = network(), []
    limits = Limits(max_steps=60)
    feed = feed_of(model, records, "uniform", thresholds=Thresholds.absolute(0.5, None), limits=limits)
    trained(model, feed, tmp_path, "ga", learning_rate=1e-2)
    for record in records:
        for look in record.looks:
            assert look.trained == (look.accuracy >= 0.5) == (not look.forgotten)
    counted = Counter(record.forget[look.row] for record in records for look in record.looks if look.trained)
    assert feed.standing.updates == dict(counted)


def test_a_training_pass_finds_the_share_itself_so_a_sample_at_its_threshold_is_not_below_it() -> None:
    model = tiny.llama()
    tokens = [5, 9, 7]
    for _ in range(10):
        tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    # Nine of the ten are the first choice.
    tokens[-1] = (tokens[-1] + 1) % tiny.VOCABULARY
    sample = EncodedSample(np.array(tokens), np.arange(12) >= 2, tuple(map(str, tokens)), truncated=False)
    seen: list[float] = []

    class Noting(Keep):
        def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
            seen.extend(accuracy)
            return super().select(rows, accuracy)

    model.requires_grad_(True)
    objective("ga").accumulate(model, StepBatch([sample], None, ()), Noting(), torch.Tensor.backward)
    assert seen == [9 / 10]
    assert not Thresholds.absolute(0.9, None).verdict(np.array(seen), lambda _: np.zeros(1)).forgotten.any()


def test_the_standing_counts_the_tokens_of_every_pass(tmp_path: Path) -> None:
    model, records = network(), []
    feed = feed_of(model, records, probe_steps=4)
    trained(model, feed, tmp_path)
    length = dict(zip(FORGET.sample_ids, FORGET.lengths.tolist(), strict=True))
    kept = dict(zip(RETAIN.sample_ids, RETAIN.lengths.tolist(), strict=True))
    assert feed.standing.tokens_trained == sum(length[one] for record in records for one in record.forget)
    assert feed.standing.tokens_retained == sum(kept[one] for record in records for one in record.retain)
    assert feed.standing.tokens_checked == 2 * 7
    assert [record.probe is not None for record in records] == [False, False, False, True] * 2


def test_refusals_are_judged_by_the_samples_own_answers_on_a_schedule_of_their_updates(tmp_path: Path) -> None:
    model, records = network(), []

    def refused(sample: str, _step: int) -> EncodedSample:
        return RETAIN.samples[FORGET.sample_ids.index(sample) % 4]

    samples = Samples(FORGET, refused, None, RETAIN)
    limits = Limits(max_steps=30)
    feed = feed_of(model, records, "uniform", samples, checks=Checks(spacing="fixed", interval=2), limits=limits)
    trained(model, feed, tmp_path, "po")
    looked: dict[str, list[int]] = {}
    updates: Counter[str] = Counter()
    for record in records:
        for look in record.looks:
            if not np.isnan(look.accuracy):
                looked.setdefault(record.forget[look.row], []).append(updates[record.forget[look.row]])
        updates.update(record.forget)
    assert looked
    for counts in looked.values():
        assert all(later - earlier >= 2 for earlier, later in pairwise([0, *counts]) if later != earlier)


def test_a_sample_that_is_drawn_twice_for_refusals_was_looked_at_before_either_update() -> None:
    model, records = network(), []
    samples = Samples(FORGET, lambda _sample, _step: RETAIN.samples[0], None, None)
    checks = Checks(spacing="fixed", interval=2)
    feed = feed_of(model, records, "uniform", samples, checks=checks, batch_size=6)
    updates: Counter[str] = Counter()
    twice = 0
    for step in range(12):
        drawn = feed.draw(step)
        before, due = dict(updates), {one: updates[one] - feed.standing.checked.get(one, 0) >= 2 for one in SCORES}
        assert feed.select(range(6), [0.0] * len(drawn.forget)) == feed.selected() == list(range(6))
        feed.stepped(step + 1, Losses(0.0, 0.0, 0.0, 1, 6), SMALL_STEP)
        updates.update(records[-1].forget)
        for look in records[-1].looks:
            sample = records[-1].forget[look.row]
            assert np.isnan(look.accuracy) == (not due[sample])
            if due[sample]:
                twice += records[-1].forget.count(sample) > 1
                assert feed.standing.checked[sample] == before[sample]
    assert twice > 2
    assert feed.standing.updates == dict(updates)


def test_mrd_is_measured_anew_at_the_epochs_that_are_due_and_weighs_from_then_on(tmp_path: Path) -> None:
    model, records = network(), []
    feed = feed_of(model, records, "easy-to-hard", recompute_epochs=1, batch_size=6, limits=Limits(max_steps=3))
    trained(model, feed, tmp_path)
    hardest_last = list(FORGET.sample_ids)
    assert list(records[0].forget) == hardest_last[::-1]
    assert list(records[1].forget) == list(records[2].forget) == hardest_last
    assert feed.standing.mrd_evaluations == 15
    assert feed.standing.tokens_mrd == 300


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_moves_and_the_model_beneath_it_does_not(tmp_path: Path, checkpointing: bool) -> None:
    base, records = network(), []
    model = adapted(base, rank=2, alpha=4, seed=0, checkpointing=checkpointing)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trained(model, feed_of(model, records), tmp_path, learning_rate=1e-2, checkpointing=checkpointing)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora_" in name}


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    weights = []
    for checkpointing in (False, True):
        model = network()
        trained(model, feed_of(model, []), tmp_path, checkpointing=checkpointing)
        weights.append(torch.cat([weight.flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*weights)


def test_a_limit_of_time_does_not_count_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = 0.0

    def slow() -> Evaluation:
        nonlocal late
        late += 1000
        return Evaluation({}, 7)

    monkeypatch.setattr(feed_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late))
    model, records = network(), []
    limits = Limits(max_steps=3, max_seconds=500)
    feed = feed_of(model, records, limits=limits, evaluate_steps=2, evaluation=slow)
    trained(model, feed, tmp_path)
    standing = feed.standing
    assert (feed.reason, standing.evaluations, standing.tokens_evaluated) == (StopReason.MAX_STEPS, 2, 14)
    assert standing.seconds > standing.seconds_evaluations == pytest.approx(2000, abs=1)
    assert 0 < standing.seconds - standing.seconds_beside_training < 100


def test_half_precision_passes_still_unlearn(tmp_path: Path) -> None:
    model, records = network(), []
    trained(model, feed_of(model, records), tmp_path, "ga", learning_rate=1e-3, mixed_precision="bf16")
    assert records[-1].text_nll > records[0].text_nll
    assert all(weight.dtype is torch.float32 for weight in model.parameters())


def test_memory_that_runs_out_halves_the_micro_batch_and_changes_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, records = network(), []
    trained(whole, feed_of(whole, records), tmp_path / "whole")
    forward = type(whole).forward

    def small(self: Any, input_ids: torch.Tensor, **rest: Any) -> Any:
        if torch.is_grad_enabled() and len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(type(whole), "forward", small)
    model, again = network(), []
    trained(model, feed_of(model, again), tmp_path / "halved")
    assert [str(record.looks) for record in again] == [str(record.looks) for record in records]
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_sample_that_fits_into_no_memory_is_a_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()

    def full(self: Any, **_: Any) -> Any:  # noqa: ARG001
        raise torch.OutOfMemoryError("CUDA out of memory")

    feed = feed_of(model, [])
    monkeypatch.setattr(type(model), "forward", full)
    with pytest.raises(UserError, match="does not fit"):
        trained(model, feed, tmp_path)


def test_weights_that_are_spoilt_make_no_checkpoint(tmp_path: Path) -> None:
    model, records = network(), []
    feed = feed_of(model, records)
    trained(model, feed, tmp_path, learning_rate=1e30, save_steps=1)
    assert feed.reason is StopReason.LOSS_NOT_FINITE
    assert not np.isfinite(records[-1].text_nll)
    assert checkpoints.existing(tmp_path)[-1].name == f"checkpoint-{records[-1].step - 1}"


def test_the_states_that_are_steered_are_those_of_the_layer_where_the_answer_is_predicted() -> None:
    model, layer = network(), 1
    texts = TextBatch.of(FORGET.samples, tiny.CPU)
    found = answers(model, texts, layer).states
    expected = []
    for sample in FORGET.samples:
        ids = torch.tensor(sample.tokens)[None]
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[layer][0, :-1]
        expected.append(hidden[torch.tensor(sample.answer)])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_a_layer_that_a_small_model_has_not_got_is_its_middle_one() -> None:
    config = network().config
    layers = config.num_hidden_layers
    for asked, given in ((1, 1), (layers, max(1, layers // 2)), (7, 7 if layers > 7 else max(1, layers // 2))):
        layer, direction = steering(METHODS["rmu"], {"ell": float(asked)}, config, 5)
        assert layer == given
        assert float(direction.norm()) == pytest.approx(1)
    again = steering(METHODS["rmu"], {"ell": 1.0}, config, 5)[1]
    assert torch.equal(direction, again)
    assert steering(METHODS["ga"], {}, config, 5) == (None, None)
