"""The best weights on the way: the rule by hand; the weights those of a run that ended there, killed or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunState, submit, worker
from mrd_core.runs.files import read_json
from mrd_core.unlearning import job
from mrd_core.unlearning.best import FORGET, RETAIN, BestKeeper, best_step
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.kind import UNLEARN
from mrd_core.unlearning.trainer import Trainer
from tests.support.unlearning_runs import Place, Scored, Unlearned, scored_tiny

EVALUATION = {"every_steps": 2, "samples": 6, "max_new_tokens": 4}
STEPS = 14


def line(step: int, forget: float | None, retain: float | None) -> dict[str, Any]:
    """Return a line of evaluations.jsonl; what is not defined is not there."""
    values = {FORGET: forget, RETAIN: retain}
    return {"step": step} | {name: value for name, value in values.items() if value is not None}


def test_the_best_forgets_and_keeps() -> None:
    lines = [line(0, 0.8, 0.5), line(2, 0.4, 0.5), line(4, 0.2, 0.4), line(6, 0.0, 0.1), line(8, 0.2, 0.4)]
    best = best_step(lines)
    assert best is not None
    # At 4: three quarters are forgotten, four fifths kept; at 8 the same, and later.
    assert (best.step, best.forgotten, best.retained) == (4, 0.75, pytest.approx(0.8))
    assert best.score == pytest.approx(0.775)
    assert (best.last_step, best.last_score) == (8, pytest.approx(0.775))
    assert best.sentence.startswith("The best on the way is step 4: ½ (forgotten 0.750 + retained 0.800) = 0.775;")


def test_more_than_before_is_no_more_than_all() -> None:
    best = best_step([line(0, 0.5, 0.5), line(1, 0.9, 0.9)])
    assert best is not None
    assert (best.forgotten, best.retained, best.score) == (0.0, 1.0, 0.5)
    assert best.sentence.endswith("it is the last one evaluated.")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [line(0, 0.8, 0.5)],
        [line(2, 0.1, 0.5), line(4, 0.1, 0.5)],
        [line(0, 0.8, None), line(2, 0.1, None)],
        [line(0, 0.0, 0.5), line(2, 0.0, 0.5)],
        [line(0, 0.8, 0.5), line(2, None, 0.5)],
        [line(0, 0.8, 0.5), line(2, math.nan, 0.5)],
    ],
)
def test_what_cannot_be_ranked_has_no_best(lines: list[dict[str, Any]]) -> None:
    assert best_step(lines) is None


def test_no_more_is_kept_than_a_killed_run_goes_back_to(tmp_path: Path) -> None:
    files, saved = UnlearningFiles(tmp_path), [-1]
    keeper = BestKeeper(files, lambda folder: folder.mkdir(parents=True), lambda: saved[0])
    strengths = {0: 1.0, 1: 0.5, 2: 0.4, 3: 0.6, 4: 0.3, 5: 0.2}
    kept = {}
    for step, strength in strengths.items():
        with files.evaluations.open("a") as stream:
            stream.write(str(line(step, strength, 1.0)).replace("'", '"') + "\n")
        keeper.look(step)
        saved[0] = 2 if step >= 3 else -1
        kept[step] = {folder.name for folder in files.candidates.glob("*")}
    assert kept[0] == set()
    assert kept[1] == {"step-1"}
    assert kept[2] == kept[3] == {"step-2"}
    assert kept[4] == {"step-2", "step-4"}
    assert kept[5] == {"step-2", "step-5"}
    keeper.go_back(2)
    assert {folder.name for folder in files.candidates.glob("*")} == {"step-2"}


# Whole runs


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def configured(scored: Scored, **changes: Any) -> Any:
    """Return a run that forgets, and from some step on loses what it should keep."""
    settings: dict[str, Any] = {
        "retain": scored.kept,
        "optimiser": {"learning_rate": 1.5e-3},
        "limits": {"max_steps": STEPS},
        "checkpoint_steps": 5,
        "evaluation": EVALUATION,
    }
    return scored.config(**settings | changes)


@pytest.fixture(scope="module")
def whole(scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> Unlearned:
    """A run without an interruption."""
    return Place.of(tmp_path_factory.mktemp("whole")).carried_out(configured(scored))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return dict(model.state_dict())


def assert_same(first: Path, second: Path) -> None:
    """Both folders hold the same weights, to the bit."""
    other = weights(second)
    assert all(torch.equal(weight, other[name]) for name, weight in weights(first).items())


@pytest.mark.slow
def test_the_best_is_the_model_of_a_run_that_ended_there(place: Place, scored: Scored, whole: Unlearned) -> None:
    best = best_step(whole.files.read_evaluations())
    assert best is not None
    assert 0 < best.step < STEPS, "the run should go past its best"
    assert best.score > best.last_score
    assert whole.summary["best"] == best.model_dump()
    ended = place.carried_out(configured(scored, limits={"max_steps": best.step}))
    assert_same(whole.files.best, ended.files.model)
    assert not whole.files.candidates.exists()
    card = (whole.files.best / "README.md").read_text()
    assert f"at step {best.step}" in card.splitlines()[0]
    assert best.sentence in card
    assert best.sentence in (whole.files.model / "README.md").read_text()
    lines = UNLEARN.describe(whole.run.directory, whole.summary).lines
    assert f"{best.sentence} It is in {whole.files.best}" in lines
    # By the front door of evaluations.
    config = EvaluateConfig(
        model=ModelConfig(source=str(whole.files.best), device="cpu"),
        forget={"source": str(scored.forget)},
        max_new_tokens=2,
    )
    run = submit(config, store=place.store, settings=place.settings)
    assert worker.run(run.directory, store=place.store) is RunState.SUCCEEDED
    assert read_json(EvaluationFiles(run.directory).aggregates)


@pytest.mark.slow
def test_the_model_at_the_end_is_that_of_a_run_without_a_best(
    place: Place, scored: Scored, whole: Unlearned
) -> None:
    plain = place.carried_out(configured(scored, evaluation=EVALUATION | {"keep_best": False}))
    assert_same(whole.files.model, plain.files.model)
    assert plain.summary.get("best") is None
    assert not plain.files.best.exists()
    assert not plain.files.candidates.exists()


def interrupt(*_arguments: Any) -> None:
    """Leave as a kill would: nothing gets written on the way out."""
    raise KeyboardInterrupt


def half_a_folder(_config: Any, _prepared: Any, folder: Path) -> None:
    """Begin to write weights, and be killed."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    interrupt()


def before_step(step: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what has a run killed right before it takes a step (the first is 0)."""

    def arrange(patch: pytest.MonkeyPatch) -> None:
        original = Trainer.step

        def step_of(self: Trainer, *arguments: Any) -> bool:
            if self.steps == step:
                interrupt()
            return original(self, *arguments)

        patch.setattr(Trainer, "step", step_of)

    return arrange


KILLS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before its first checkpoint": before_step(3),
    "past a checkpoint": before_step(9),
    "while a best is written": lambda patch: patch.setattr(job, "save_weights", half_a_folder),
    "before the best is put in place": lambda patch: patch.setattr(BestKeeper, "settle", interrupt),
    "after that": lambda patch: patch.setattr(job, "save_model", interrupt),
}


@pytest.mark.slow
@pytest.mark.parametrize("killed", KILLS)
def test_a_killed_run_ends_with_the_same_best(
    place: Place, scored: Scored, whole: Unlearned, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    KILLS[killed](monkeypatch)
    run = place.carried_out(configured(scored))
    assert run.run.state is RunState.CANCELLED
    assert run.files.best.exists() is (killed == "after that")
    monkeypatch.undo()
    resumed = run.resumed()
    assert resumed.summary["best"] == pytest.approx(whole.summary["best"], rel=1e-6)
    assert_same(resumed.files.best, whole.files.best)
    assert not resumed.files.candidates.exists()


@pytest.mark.slow
def test_without_a_retain_set_there_is_no_best(place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config(limits={"max_steps": 2}, evaluation=EVALUATION | {"max_new_tokens": 1}))
    assert run.summary["best"] is None
    assert not run.files.best.exists()
    assert any("takes a retain set" in message for message in place.store.events(run.run.id)["message"])


@pytest.mark.slow
def test_an_adapter_is_kept_as_an_adapter(place: Place, scored: Scored) -> None:
    run = place.carried_out(
        configured(scored, limits={"max_steps": 2}, optimiser={"learning_rate": 2e-3, "lora_rank": 2})
    )
    assert (run.files.best / "adapter_model.safetensors").exists()
    assert not (run.files.best / "model.safetensors").exists()
