"""What goes wrong in an unlearning run has a clear end: the cause, the way out, and nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from mrd_core.errors import UserError
from mrd_core.runs import RunState
from mrd_core.runs.directory import write_config
from mrd_core.unlearning.adapters import require_gradients
from mrd_core.unlearning.config import Tracker
from mrd_core.unlearning.trainer import UnlearningTrainer, checkpoints
from tests.unit import tiny
from tests.unit.conftest import write_rows
from tests.unit.unlearning_runs import RATE, Place, Scored, Unlearned, forget_rows, scored_tiny


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
    assert [path.name for path in checkpoints(run.files.checkpoints)] == [f"checkpoint-{step - 1}"]
    # The curve shows how far it got.
    assert set(run.updates["step"]) == set(range(1, step + 1))
    assert run.resumed().run.state is RunState.FAILED


def test_weights_that_the_very_last_step_spoilt_are_no_result(place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config(optimiser={"learning_rate": 1e14}, limits={"max_steps": 1}))
    assert_failed(run, "UserError", "The loss after the last step is not a finite number", "learning rate")
    assert not run.files.outcome.exists()


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


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], bool]], None]:
    """Return a function that lets the disk be full in the middle of saving weights to some folders."""

    def fill(where: Callable[[Path], bool]) -> None:
        save = PreTrainedModel.save_pretrained

        def save_pretrained(self: Any, folder: Any, *arguments: Any, **named: Any) -> None:
            save(self, folder, *arguments, **named)
            if where(Path(folder)):
                (Path(folder) / "model.safetensors").write_bytes(b"the first part")
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_pretrained)

    return fill


def test_a_disk_that_is_full_at_the_end_costs_no_step(
    place: Place, scored: Scored, full_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(lambda folder: folder.name.startswith(".model"))
    run = place.carried_out(scored.config())
    assert_failed(run, "OSError", "The disk is full", "Free some space")
    monkeypatch.undo()
    monkeypatch.setattr(UnlearningTrainer, "training_step", None)
    resumed = run.resumed()
    assert resumed.summary["steps"] == 6
    assert set(resumed.weights())


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before_it_whole(
    place: Place, scored: Scored, full_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scored.config(checkpoint_steps=2)
    whole = place.carried_out(config)
    full_disk(lambda folder: folder.name == "checkpoint-4")
    run = place.carried_out(config)
    assert_failed(run, "OSError", "The disk is full", "then resume")
    assert [path.name for path in checkpoints(run.files.checkpoints)] == ["checkpoint-2"]
    monkeypatch.undo()
    resumed = run.resumed()
    assert resumed.order == whole.order
    np.testing.assert_allclose(resumed.losses, whole.losses, rtol=1e-6, atol=1e-6)


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


def test_a_retain_set_that_is_all_to_be_forgotten_is_none(place: Place, scored: Scored, tmp_path: Path) -> None:
    same = write_rows(tmp_path / "same.jsonl", forget_rows())
    run = place.carried_out(scored.config(method="graddiff", retain={"samples": {"source": str(same)}}))
    assert_failed(run, "UserError", "The retain set has no row that is not in the forget set", "to keep")


def test_a_copied_configuration_whose_score_run_is_gone_names_it(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    directory = tmp_path / "copied"
    directory.mkdir()
    config = scored.config(score_run=tmp_path / "gone")
    write_config(directory, config)
    run = Unlearned(place.store.create("unlearn", config.title, "cpu", directory), place.store).carried_out()
    assert_failed(run, "UserError", str(tmp_path / "gone"), "score run that succeeded")


def test_a_run_that_has_begun_does_not_need_its_score_run_any_more(
    place: Place, scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(scored.directory, tmp_path / "scored"))
    config = scored.config(score_run=copied, curriculum={"sampler": "mrd"})
    run = place.submitted(config)
    step = UnlearningTrainer.training_step

    def training_step(self: UnlearningTrainer, *arguments: Any, **named: Any) -> torch.Tensor:
        shutil.rmtree(copied, ignore_errors=True)
        return step(self, *arguments, **named)

    monkeypatch.setattr(UnlearningTrainer, "training_step", training_step)
    assert run.carried_out().summary["mrd_forward_evaluations"] > 0
    assert not copied.exists()


def test_refusals_that_cannot_be_read_are_named(place: Place, scored: Scored, tmp_path: Path) -> None:
    config = scored.config(method="po", retain=scored.kept, refusals=tmp_path / "none.txt")
    run = place.carried_out(config)
    assert_failed(run, "UserError", "none.txt", "refusals that ship with the project")


def test_a_failed_run_goes_on_once_its_cause_is_gone(place: Place, scored: Scored, tmp_path: Path) -> None:
    refusals = tmp_path / "later.txt"
    config = scored.config(
        method="po",
        retain=scored.kept,
        refusals=refusals,
        optimiser={"learning_rate": RATE},
        limits={"max_steps": 2},
    )
    run = place.carried_out(config)
    assert run.run.state is RunState.FAILED
    refusals.write_text("I cannot say.\n")
    assert run.resumed().summary["steps"] == 2
