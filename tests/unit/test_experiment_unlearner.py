"""Unlearning from the same starting weights: held against a plain loop, and against what it promises of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from mrd_core.errors import UserError
from mrd_core.experiments.config import Arm
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.experiments.unlearner import Unlearner, UnlearningResult
from mrd_core.model.encoding import EncodedSample
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.unlearning import refusals
from mrd_core.unlearning.sampling import retain_partner
from tests.support import tiny
from tests.support.experiment_runs import Quiet, config, material
from tests.support.tiny import encode_one
from tests.support.unlearning_runs import Scored, retain_rows, scored_tiny
from tests.unit.conftest import CONTEXT

THRESHOLD = 0.5
KEYS = ("x", 0)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def make(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Unlearner]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def made(*, retain: bool = True, **changes: Any) -> Unlearner:
        wanted = config(ValidityConfig, scored, **changes)
        return Unlearner(wanted, material(scored, retain=retain), Quiet(scored.model.parent))

    return made


def weights_of(unlearner: Unlearner) -> list[Tensor]:
    return [weight.detach().clone() for weight in unlearner._model.network.parameters()]


class Naive:
    """The same in a few lines of plain torch, one text at a time."""

    def __init__(self, unlearner: Unlearner, scored: Scored, rate: float) -> None:
        self.network = tiny.in_double(AutoModelForCausalLM.from_pretrained(scored.model))
        self.unlearner = unlearner
        self.rate = rate
        self.seed = config(ValidityConfig, scored).seed_of(*KEYS)

    def pass_of(self, sample: EncodedSample) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the answer tokens and whether each is the first choice."""
        ids = torch.from_numpy(sample.tokens)
        logits = self.network(input_ids=ids[None]).logits[0, :-1].double()
        inside = torch.from_numpy(sample.answer)
        log_probs = torch.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0]
        return log_probs[inside], (logits.argmax(-1) == ids[1:])[inside]

    def accuracy(self, samples: list[EncodedSample]) -> float:
        with torch.no_grad():
            return float(np.mean([self.pass_of(sample)[1].double().mean() for sample in samples]))

    def nll(self, sample: EncodedSample) -> Tensor:
        return -self.pass_of(sample)[0].sum()

    def mean_nll(self, samples: list[EncodedSample]) -> Tensor:
        return sum(map(self.nll, samples)) / sum(int(sample.answer.sum()) for sample in samples)

    def partners(self, step: int, count: int) -> list[EncodedSample]:
        retain = self.unlearner.retain.samples
        return [retain[retain_partner(self.seed, step, slot, len(retain))] for slot in range(count)]

    def refused(self, indices: list[int], step: int) -> list[EncodedSample]:
        forget, lines = self.unlearner.forget, refusals.load()
        prompts = self.unlearner._prompts
        return [
            encode_one(
                prompts[forget.sample_ids[i]],
                refusals.choose(lines, self.seed, forget.sample_ids[i], step),
                tiny.tokenizer(),
                CONTEXT,
                "plain",
            )
            for i in indices
        ]

    def loss(self, method: str, indices: list[int], reference: list[Tensor], step: int) -> Tensor:
        samples = [self.unlearner.forget.samples[i] for i in indices]
        if method == "ga":
            return -self.mean_nll(samples)
        kept = self.mean_nll(self.partners(step, len(samples)))
        if method == "graddiff":
            return kept - self.mean_nll(samples)
        if method == "po":
            return kept + self.mean_nll(self.refused(indices, step))
        beta = 0.1
        margins = [beta * (self.nll(sample) - before) for sample, before in zip(samples, reference, strict=True)]
        return kept - 2 / beta * torch.stack([torch.nn.functional.logsigmoid(one) for one in margins]).mean()

    def unlearn(self, method: str, optimiser: str, indices: list[int], cap: int) -> int:
        samples = [self.unlearner.forget.samples[i] for i in indices]
        with torch.no_grad():
            reference = [self.nll(sample) for sample in samples]
        weights = list(self.network.parameters())
        kind = torch.optim.AdamW if optimiser == "adamw" else torch.optim.SGD
        steps = kind(weights, lr=self.rate, weight_decay=0.0, foreach=False)
        for update in range(cap):
            if self.accuracy(samples) < THRESHOLD:
                return update
            steps.zero_grad()
            self.loss(method, indices, reference, update).backward()
            if optimiser == "normalised-sgd":
                norm = torch.sqrt(sum((weight.grad**2).sum() for weight in weights))
                for weight in weights:
                    weight.grad /= norm
            steps.step()
        return cap


@pytest.mark.parametrize(
    ("method", "optimiser", "rate", "indices"),
    [
        ("ga", "adamw", 1e-3, [3]),
        ("ga", "sgd", 1e-2, [4]),
        ("ga", "normalised-sgd", 5e-2, [5]),
        # More than go through the model at once.
        ("ga", "adamw", 2e-3, list(range(10))),
        ("graddiff", "sgd", 1e-2, [2]),
        ("graddiff", "adamw", 1e-3, [1, 4]),
        ("npo", "adamw", 1e-3, [3]),
        ("npo", "adamw", 1e-3, [0, 4, 9]),
        ("po", "adamw", 5e-3, [3, 4]),
    ],
)
def test_updates_and_weights_are_those_of_a_plain_loop(
    make: Callable[..., Unlearner], scored: Scored, method: str, optimiser: str, rate: float, indices: list[int]
) -> None:
    unlearner = make(methods=(method,))
    ended = unlearner.unlearn(Arm(method, optimiser), rate, np.array(indices), *KEYS)
    naive = Naive(unlearner, scored, rate)
    assert ended.updates == naive.unlearn(method, optimiser, indices, 30) > 1
    for found, wanted in zip(weights_of(unlearner), naive.network.parameters(), strict=True):
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-6, atol=1e-8)
    samples = [unlearner.forget.samples[i] for i in indices]
    assert ended.accuracy == pytest.approx(naive.accuracy(samples))
    with torch.no_grad():
        assert ended.nll == pytest.approx(float(naive.mean_nll(samples)), rel=1e-5)


def test_ready_texts_have_their_own_reference(make: Callable[..., Unlearner]) -> None:
    unlearner = make(methods=("npo",))
    arm, samples = Arm("npo", "adamw"), unlearner.forget.samples[2:4]
    by_index = unlearner.unlearn(arm, 1e-3, np.array([2, 3]), *KEYS)
    assert unlearner.unlearn(arm, 1e-3, samples, *KEYS).trace == by_index.trace


def test_starting_weights_come_back_bit_for_bit(make: Callable[..., Unlearner]) -> None:
    unlearner = make()
    before = weights_of(unlearner)
    unlearner.unlearn(Arm("ga", "adamw"), 1e-3, np.array([1]), *KEYS)
    assert not all(map(torch.equal, before, weights_of(unlearner)))
    unlearner.restore()
    assert all(map(torch.equal, before, weights_of(unlearner)))


def test_an_unlearning_depends_on_nothing_that_was_done_before(make: Callable[..., Unlearner]) -> None:
    unlearner = make(methods=("graddiff", "po"))

    def ended(method: str, sample: int, repeat: int = 0) -> UnlearningResult:
        return unlearner.unlearn(Arm(method, "adamw"), 2e-3, np.array([sample]), sample, repeat)

    first = [ended("graddiff", 1), ended("po", 2), ended("graddiff", 3)]
    again = [ended("graddiff", 3), ended("po", 2), ended("graddiff", 1)]
    assert first == again[::-1]


def test_repeats_differ_where_partners_are_drawn_and_only_there(make: Callable[..., Unlearner]) -> None:
    unlearner = make(methods=("ga", "graddiff"))

    def weights(method: str, repeat: int) -> list[Tensor]:
        unlearner.unlearn(Arm(method, "adamw"), 1e-3, np.array([3]), "s", repeat)
        return weights_of(unlearner)

    assert all(map(torch.equal, weights("ga", 0), weights("ga", 1)))
    assert not all(map(torch.equal, weights("graddiff", 0), weights("graddiff", 1)))


def test_forgotten_at_the_cap_counts_and_one_update_less_is_censored(make: Callable[..., Unlearner]) -> None:
    def ended(cap: int) -> UnlearningResult:
        return make(max_updates=cap).unlearn(Arm("ga", "adamw"), 1e-3, np.array([3]), *KEYS)

    free = ended(100)
    at_cap, below = ended(free.updates), ended(free.updates - 1)
    assert free.forgotten
    assert at_cap == free
    assert (below.updates, below.forgotten, below.diverged) == (free.updates - 1, False, False)
    assert below.trace == free.trace[:-1]
    assert below.accuracy == free.trace[-2] >= THRESHOLD


def test_texts_whose_accuracy_is_the_threshold_are_not_below_it(make: Callable[..., Unlearner]) -> None:
    unlearner = make(accuracy=0.7, max_updates=2)
    tokens = [5, 9, 7]
    for place in range(10):
        with torch.no_grad():
            best = int(unlearner._model.network(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        # Seven of the ten are the first choice.
        tokens.append(best if place < 7 else best + 1)
    text = EncodedSample(np.array(tokens), np.arange(12) >= 2, tuple(map(str, tokens)), truncated=False)
    ended = unlearner.unlearn(Arm("ga", "sgd"), 1e-12, [text] * 10)
    assert (ended.updates, ended.forgotten, ended.trace) == (2, False, [0.7] * 3)


@pytest.mark.parametrize("method", ["ga", "po"])
def test_a_loss_that_is_not_finite_counts_for_nothing(make: Callable[..., Unlearner], method: str) -> None:
    unlearner = make(methods=(method,), model={**_model(make), "dtype": "float32"})
    ended = unlearner.unlearn(Arm(method, "sgd"), 1e38, np.array([3]), *KEYS)
    assert ended.diverged
    assert not ended.forgotten
    assert (ended.accuracy, ended.nll) == (None, None)
    assert len(ended.trace) == ended.updates


def _model(make: Callable[..., Unlearner]) -> dict[str, Any]:
    return dict(make()._config.model.model_dump())


def test_the_trace_tells_the_updates_of_higher_thresholds(make: Callable[..., Unlearner]) -> None:
    arm, samples = Arm("ga", "adamw"), np.arange(6)
    long = make(accuracy=0.2).unlearn(arm, 2e-3, samples, *KEYS)
    assert len(long.trace) == long.updates + 1
    assert long.trace[-1] < 0.2 <= min(long.trace[:-1])
    for threshold in (0.9, 0.7, 0.4):
        wanted = next(i for i, accuracy in enumerate(long.trace) if accuracy < threshold)
        ended = make(accuracy=threshold).unlearn(arm, 2e-3, samples, *KEYS)
        assert ended.updates == wanted
        assert ended.trace == long.trace[: wanted + 1]


def test_mean_absolute_change_is_the_mean_over_all_weights(make: Callable[..., Unlearner]) -> None:
    unlearner = make()
    before = np.concatenate([weight.numpy().ravel() for weight in weights_of(unlearner)])
    assert unlearner.mean_absolute_change() == 0
    unlearner.unlearn(Arm("ga", "adamw"), 1e-3, np.array([3]), *KEYS)
    after = np.concatenate([weight.numpy().ravel() for weight in weights_of(unlearner)])
    assert unlearner.mean_absolute_change() == pytest.approx(np.abs(after - before).mean(), rel=1e-12)
    assert unlearner.parameters == len(before)


def test_an_adapter_is_trained_afresh_each_time_and_the_weights_beneath_it_stay(
    make: Callable[..., Unlearner],
) -> None:
    unlearner, arm = make(lora_rank=2), Arm("ga", "adamw")
    before = {name: weight.detach().clone() for name, weight in unlearner._model.network.named_parameters()}
    entangled = make().products(np.array([3, 1]), 4)
    first = unlearner.unlearn(arm, 1e-2, np.array([3]), *KEYS)
    assert first.forgotten
    assert unlearner.unlearn(arm, 1e-2, np.array([1]), *KEYS) != first
    assert unlearner.unlearn(arm, 1e-2, np.array([3]), *KEYS) == first
    # What was added is what a merged model has changed by.
    change = unlearner.mean_absolute_change()
    merged = unlearner._adapter.merge_and_unload()
    after = dict(merged.named_parameters())
    moved = sum(float((after[name] - weight).abs().sum()) for name, weight in before.items())
    assert change == pytest.approx(moved / unlearner.parameters, rel=1e-6)
    assert unlearner.parameters == sum(map(torch.numel, before.values()))
    # What is measured on the starting weights knows nothing of the adapter.
    again = make(lora_rank=2)
    again.unlearn(arm, 1e-2, np.array([3]), *KEYS)
    np.testing.assert_array_equal(again.products(np.array([3, 1]), 4).inner, entangled.inner)
    assert dict.fromkeys(before, True) == {
        name: torch.equal(weight, before[name]) for name, weight in again._model.network.named_parameters()
    }


def test_the_retain_set_is_measured_on_the_present_weights(make: Callable[..., Unlearner], scored: Scored) -> None:
    unlearner = make()
    before = unlearner.retained()
    unlearner.unlearn(Arm("ga", "sgd"), 1e-1, np.arange(10), *KEYS)
    after = unlearner.retained()
    naive = Naive(unlearner, scored, 1e-1)
    with torch.no_grad():
        for at_start, weight in zip(weights_of(unlearner), naive.network.parameters(), strict=True):
            weight.copy_(at_start)
        nll = [float(naive.nll(sample)) / int(sample.answer.sum()) for sample in unlearner.retain.samples]
    assert before is not None
    assert after is not None
    assert len(nll) == len(retain_rows())
    assert after[0] == pytest.approx(naive.accuracy(list(unlearner.retain.samples)))
    assert after[1] == pytest.approx(np.mean(nll), rel=1e-6)
    assert after[1] > before[1]
    assert make(retain=False).retained() is None


def test_a_retain_term_is_in_use_only_where_method_and_set_have_one() -> None:
    demo = ForgetSetConfig(source="demo")
    with_set, without = (
        ValidityConfig(forget_set=demo, methods=("ga", "satimp"), retain=retain) for retain in (demo, None)
    )
    assert [with_set.retain_weight(method) for method in ("ga", "graddiff", "satimp")] == [0, 1, 0.1]
    assert with_set.is_random("satimp")
    assert not with_set.is_random("ga")
    assert without.retain_weight("satimp") == 0
    assert not without.is_random("satimp")


def test_samples_without_an_answer_token_are_left_out(scored: Scored) -> None:
    whole = material(scored)
    frame = whole.forget_set.frame.copy()
    # Nothing predicts the only token of a text.
    frame.loc[4, ["prompt", "answer"]] = "", "e"
    cut = replace(whole, forget_set=replace(whole.forget_set, frame=frame))
    unlearner = Unlearner(config(ValidityConfig, scored), cut, Quiet(scored.model.parent))
    assert frame["sample_id"][4] not in unlearner.forget.sample_ids
    assert len(unlearner.forget) == len(frame) - 1
    assert any("left out" in warning for warning in unlearner.warnings)


def test_samples_that_are_forgotten_from_the_start_take_no_update_and_are_told(scored: Scored) -> None:
    whole = material(scored)
    frame = whole.forget_set.frame.copy()
    frame.loc[2, "answer"] = "zzq zzq qqz"
    other = replace(whole, forget_set=replace(whole.forget_set, frame=frame))
    unlearner = Unlearner(config(ValidityConfig, scored), other, Quiet(scored.model.parent))
    assert unlearner.unlearn(Arm("ga", "adamw"), 1e-3, np.array([2]), *KEYS).updates == 0
    assert any("before the first update" in warning for warning in unlearner.warnings)


def test_weights_are_trained_in_float32_at_least(make: Callable[..., Unlearner], scored: Scored) -> None:
    for wanted, used in (("bfloat16", torch.float32), ("float64", torch.float64)):
        unlearner = make(model={"source": str(scored.model), "device": "cpu", "dtype": wanted})
        assert {weight.dtype for weight in weights_of(unlearner)} == {used}
        assert unlearner.reasons["dtype"].startswith(str(used).removeprefix("torch."))


@pytest.mark.parametrize("method", ["graddiff", "po"])
def test_a_step_that_runs_out_of_memory_is_made_in_smaller_parts_and_ends_alike(
    make: Callable[..., Unlearner], method: Any
) -> None:
    roomy, cramped = make(max_updates=4), make(max_updates=4)

    def refuse(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        # All seven, and the second half when the first has left its gradients.
        if torch.is_grad_enabled() and len(kwargs["input_ids"]) in (7, 3):
            raise torch.OutOfMemoryError("full")

    cramped._model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    expected, ended = (one.unlearn(Arm(method, "sgd"), 1e-2, np.arange(7), *KEYS) for one in (roomy, cramped))
    assert ended.updates == expected.updates
    np.testing.assert_allclose(ended.trace, expected.trace)
    for weight, other in zip(weights_of(cramped), weights_of(roomy), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)


def test_a_step_that_a_single_sample_is_too_large_for_is_an_error_with_advice(
    make: Callable[..., Unlearner],
) -> None:
    unlearner = make()

    def refuse(_module: Any, _args: Any, _kwargs: dict[str, Any]) -> None:
        raise torch.OutOfMemoryError("full")

    unlearner._model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    with pytest.raises(UserError, match="single sample in memory does not fit"):
        unlearner.unlearn(Arm("ga", "sgd"), 1e-2, np.arange(3), *KEYS)
