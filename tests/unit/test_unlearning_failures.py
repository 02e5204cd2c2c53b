"""What goes wrong in an unlearning run has a clear end: the cause, the way out, and nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from mrd_core.errors import UserError
from mrd_core.runs import RunState
from mrd_core.runs import context as run_context
from mrd_core.runs.directory import write_config
from mrd_core.unlearning import checkpoints, feed, job
from mrd_core.unlearning.adapters import require_gradients
from mrd_core.unlearning.config import Tracker, UnlearnConfig
from mrd_core.unlearning.objective import Losses, StepBatch
from mrd_core.unlearning.trainer import Trainer
from tests.support import tiny
from tests.support.unlearning_runs import DRAWS, Place, Scored, Unlearned, forget_rows, retain_rows, scored_tiny
from tests.unit.conftest import write_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def assert_failed(run: Unlearned, kind: str, cause: str, advice: str) -> None:
    """It failed, said so, and left nothing that could be taken for a result."""
    assert run.run.state is RunState.FAILED
    assert run.run.error is not None
    assert (run.run.error.type, run.run.summary) == (kind, None)
    assert cause in run.run.error.cause
    assert advice in run.run.error.advice
    errors = [event.message for event in run.store.events(run.run.id).itertuples() if event.level == "error"]
    assert errors == [f"{run.run.error.cause} {run.run.error.advice}"]
    assert not run.files.model.exists()
    assert not run.files.summary.exists()
    assert not [path.name for path in run.run.directory.iterdir() if path.name.startswith(".")]


# The loss


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    place: Place, scored: Scored
) -> None:
    config = scored.config(optimiser={"learning_rate": 1e14}, checkpoint_steps=1)
    run = place.carried_out(config)
    assert_failed(run, "UserError", "The loss of step", "smaller learning rate (it was 1e+14)")
    step = run.steps[-1]["step"]
    assert run.steps[-1]["forget_nll"] is None
    assert [path.name for path in checkpoints.existing(run.files.checkpoints)] == [f"checkpoint-{step - 1}"]
    # The curve shows how far it got.
    assert set(run.updates["step"]) == set(range(1, step + 1))
    assert run.resumed().run.state is RunState.FAILED


def test_weights_that_the_very_last_step_spoilt_are_no_result(place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config(optimiser={"learning_rate": 1e14}, limits={"max_steps": 1}))
    assert_failed(run, "UserError", "The loss after the last step is not a finite number", "learning rate")
    assert not run.files.outcome.exists()


@pytest.mark.parametrize("last", [False, True])
def test_weights_that_are_spoilt_make_no_checkpoint_though_their_own_loss_was_good(
    last: bool, place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulate = Trainer._accumulate

    def spoils(self: Trainer, batch: StepBatch) -> Losses:
        losses = accumulate(self, batch)
        if self.steps == 2:
            next(self._model.parameters()).grad.fill_(math.nan)
        return losses

    monkeypatch.setattr(Trainer, "_accumulate", spoils)
    run = place.carried_out(scored.config(checkpoint_steps=1, limits={"max_steps": 3 if last else 6}))
    assert_failed(run, "UserError", "is not a finite number", "learning rate")
    assert run.steps[2]["forget_nll"] is not None
    assert [path.name for path in run.files.checkpoints.iterdir()] == ["checkpoint-2"]
    monkeypatch.undo()
    # The last good checkpoint is one to go on from.
    assert run.resumed().summary["steps"] == (3 if last else 6)


# Memory and disk


def test_a_step_that_fits_into_no_memory_says_what_needs_less(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = LlamaForCausalLM.forward

    def full(self: Any, *arguments: Any, **named: Any) -> Any:
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *arguments, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", full)
    run = place.carried_out(scored.config())
    assert_failed(run, "UserError", "does not fit into the memory", "LoRA adapter")
    monkeypatch.undo()
    assert run.resumed().summary["steps"] == 6


def test_an_optimiser_that_fits_into_no_memory_says_what_needs_less(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any, **_named: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    run = place.carried_out(scored.config())
    cause = "The optimiser's state beside weights and gradients does not fit into the memory of the device."
    assert_failed(run, "UserError", cause, "plain SGD")
    assert not run.steps
    monkeypatch.undo()
    assert run.resumed().summary["steps"] == 6


def full_disk(path: Path) -> None:
    """Leave a file as it is where the disk was full in the middle of it."""
    path.write_bytes(b"the first part")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_at_the_end_costs_no_step(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = PreTrainedModel.save_pretrained

    def save_pretrained(self: Any, folder: Any, *arguments: Any, **named: Any) -> None:
        save(self, folder, *arguments, **named)
        full_disk(Path(folder) / "model.safetensors")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_pretrained)
    run = place.carried_out(scored.config())
    assert_failed(run, "OSError", "The disk is full", "Free some space")
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "step", None)
    resumed = run.resumed()
    assert resumed.summary["steps"] == 6
    assert set(resumed.weights())


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before_it_whole(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scored.config(checkpoint_steps=2)
    whole = place.carried_out(config)
    save_file = checkpoints.save_file

    def second_time_full(tensors: Any, path: Path) -> None:
        save_file(tensors, path)
        if path.name == checkpoints.OPTIMISER and (path.parents[1] / "checkpoint-2").exists():
            full_disk(path)

    monkeypatch.setattr(checkpoints, "save_file", second_time_full)
    run = place.carried_out(config)
    assert_failed(run, "OSError", "The disk is full", "then resume")
    # What was half-written is gone too: it would take the room that is wanted.
    assert [path.name for path in run.files.checkpoints.iterdir()] == ["checkpoint-2"]
    monkeypatch.undo()
    resumed = run.resumed()
    assert resumed.order == whole.order
    np.testing.assert_allclose(resumed.losses, whole.losses, rtol=1e-6, atol=1e-6)


# A run that is stopped


@pytest.mark.parametrize("piece", ["measure_start", "keep_answers", "conclude"])
def test_a_run_that_is_cancelled_while_it_measures_stops_at_once_and_can_go_on(
    piece: str, place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_context, "CANCEL_POLL_INTERVAL", 0.0)
    run = place.submitted(scored.config(retain=scored.kept))
    measure = getattr(job, piece)

    def cancelled(*arguments: Any) -> Any:
        place.store.request_cancel(run.run.id)
        return measure(*arguments)

    monkeypatch.setattr(job, piece, cancelled)
    stopped = run.carried_out()
    assert (stopped.run.state, stopped.run.error) == (RunState.CANCELLED, None)
    begun = {"measure_start": False, "keep_answers": True, "conclude": True}[piece]
    assert run.files.start.exists() == begun
    assert run.files.answers_before.exists() == run.files.steps.exists() == (piece == "conclude")
    assert not run.files.outcome.exists()
    monkeypatch.undo()
    assert run.resumed().summary["steps"] == 6


def stopped_after_three_steps(place: Place, config: UnlearnConfig, monkeypatch: pytest.MonkeyPatch) -> Unlearned:
    step = Trainer.step

    def dies(self: Trainer, *arguments: Any, **named: Any) -> bool:
        if self.steps == 3:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    monkeypatch.setattr(Trainer, "step", dies)
    run = place.carried_out(config)
    monkeypatch.undo()
    return run


def test_what_was_decided_is_said_once_and_not_again_by_a_run_that_goes_on(
    place: Place, scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = write_rows(tmp_path / "both.jsonl", [*retain_rows(), *forget_rows()[:3]])
    config = scored.config(method="graddiff", retain={"samples": {"source": str(both)}}, checkpoint_steps=2)
    run = stopped_after_three_steps(place, config, monkeypatch)
    summary = run.resumed().summary
    said = place.store.events(run.run.id)
    reasons = [f"{what}: {reason}" for what, reason in summary["reasons"].items()]
    assert len(reasons) > 3
    told = list(said["message"])
    assert [told.count(reason) for reason in reasons] == [1] * len(reasons)
    (warning,) = [text for text in summary["warnings"] if text.startswith("3 rows of the retain set")]
    assert list(said[said["level"] == "warning"]["message"]) == [warning]


def test_a_run_that_goes_on_keeps_what_was_decided_and_found_before_its_first_step(
    place: Place, scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = write_rows(tmp_path / "held-out.jsonl", [*retain_rows(), *forget_rows()[:3]])
    config = scored.config(
        method="pdu",
        retain=scored.kept,
        stopping={"source": "held-out", "held_out": {"source": str(held_out)}},
        checkpoint_steps=2,
    )
    whole = place.carried_out(config).summary
    assert "retain limit" in whole["reasons"]
    assert (
        "3 rows of the held-out set are in the forget set too: the threshold leans on them." in whole["warnings"]
    )
    run = stopped_after_three_steps(place, config, monkeypatch)
    resumed = run.resumed().summary
    assert (resumed["reasons"], resumed["warnings"]) == (whole["reasons"], whole["warnings"])


def test_the_time_in_which_the_model_writes_its_answers_is_no_training_time(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that moves only while answers are written.
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(feed, "time", SimpleNamespace(monotonic=lambda: clock.now))
    keep_answers = job.keep_answers

    def slowly(*arguments: Any) -> None:
        clock.now += 1000.0
        keep_answers(*arguments)

    monkeypatch.setattr(job, "keep_answers", slowly)
    run = place.carried_out(scored.config(limits={"max_steps": 3, "max_seconds": 500.0}))
    assert clock.now == 1000
    assert (run.summary["seconds_training"], run.summary["stop_reason"]) == (0, "max-steps")


# What a run builds on


def test_weights_without_gradients_are_refused_with_a_way_out() -> None:
    whole_numbers = torch.nn.Linear(2, 2)
    whole_numbers.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    flagged = tiny.llama()
    flagged.is_quantized = True
    for network in (whole_numbers, flagged):
        with pytest.raises(UserError, match="The model 'org/small' is quantised") as refused:
            require_gradients(network, "org/small")
        assert "--lora-rank" in refused.value.fix
    require_gradients(tiny.llama(), "org/small")
    require_gradients(SimpleNamespace(parameters=list), "org/small")


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(place: Place, scored: Scored) -> None:
    absent = [name for name in get_args(Tracker) if importlib.util.find_spec(name) is None]
    if not absent:
        pytest.skip("all trackers are installed")
    run = place.carried_out(scored.config(report_to=absent[:1]))
    assert_failed(run, "UserError", f"tracker {absent[0]} is not installed", f"pip install {absent[0]}")
    assert not run.files.start.exists()


def test_a_copied_configuration_whose_score_run_is_gone_names_it(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    directory = tmp_path / "copied"
    directory.mkdir()
    config = scored.config(score_run=tmp_path / "gone")
    write_config(directory, config)
    run = Unlearned(place.store.create("unlearn", config.title, "cpu", directory), place.store).carried_out()
    assert_failed(run, "UserError", str(tmp_path / "gone"), "one that succeeded")


def test_a_queued_run_needs_neither_its_score_run_nor_its_retain_set_nor_its_refusals_any_more(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(scored.directory, tmp_path / "scored"))
    retain = Path(shutil.copy(scored.retain, tmp_path / "retain.jsonl"))
    refusals = tmp_path / "refusals.txt"
    refusals.write_text("I cannot say.\n")
    config = scored.config(
        score_run=copied,
        method="po",
        retain={"samples": {"source": str(retain)}},
        refusals=refusals,
        curriculum={"sampler": "mrd"},
        limits={"max_steps": 2},
    )
    run = place.submitted(config)
    shutil.rmtree(copied)
    retain.unlink()
    refusals.unlink()
    summary = run.carried_out().summary
    assert (summary["steps"], summary["mrd_forward_evaluations"]) == (2, DRAWS)
    assert summary["tokens_retained"] > 0


def test_a_failed_run_goes_on_once_its_cause_is_gone(place: Place, scored: Scored, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run = place.carried_out(scored.config(model={"source": str(model), "device": "cpu"}, limits={"max_steps": 2}))
    assert_failed(run, "UserError", str(model), "")
    shutil.copytree(scored.model, model)
    assert run.resumed().summary["steps"] == 2
