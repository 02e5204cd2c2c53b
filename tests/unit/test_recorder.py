"""What a run writes down: a step's line and rows, handed on in time, with the strangest numbers and names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mrd_core.runs import JobContext, Metric, SampleUpdate
from mrd_core.unlearning import recorder as module
from mrd_core.unlearning.feed import EvaluationRecord, Look, Standing, StepRecord
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.recorder import Recorder
from tests.support import tiny

NAN = math.nan
# Python takes the second and third for ends of lines, and JSON does not.
IDS = ("a", "b\u2028c", "d\x85e", 'Ä\n"f')


class Kept(JobContext):
    """A context that keeps what it is told."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.metrics_told: list[Metric] = []
        self.updates_told: list[SampleUpdate] = []
        self.progress_told: list[dict[str, Any]] = []

    def steps(self, metrics: Iterable[Metric], updates: Iterable[SampleUpdate]) -> None:
        self.metrics_told += metrics
        self.updates_told += updates

    def progress(self, done: int, total: int, **extra: Any) -> None:
        self.progress_told.append({"done": done, "total": total} | extra)

    def of_step(self, step: int) -> dict[str, float]:
        return {metric.name: metric.value for metric in self.metrics_told if metric.step == step}


@pytest.fixture
def context(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def recorder_of(context: Kept, **changes: Any) -> Recorder:
    settings = {"accuracy": dict.fromkeys(IDS, 1.0), "most_steps": 10, "most_updates": 20} | changes
    return Recorder(UnlearningFiles(context.directory), context, device=tiny.CPU, **settings)


def record_of(step: int = 1, **changes: Any) -> StepRecord:
    looks = (Look(0, 0.75, NAN, False, True), Look(1, 0.25, 0.05, True, False))
    settings = {
        "step": step,
        "forget": IDS[:2],
        "retain": ("r",) * 2,
        "looks": looks,
        "forget_loss": -1.5,
        "text_nll": 1.5,
        "refusals": False,
        "retain_loss": 0.25,
        "learning_rate": 0.5,
        "forgotten": IDS[1:2],
        "updates": 3,
        "forgotten_so_far": 1,
        "probe": None,
        "effective_share": None,
    }
    return StepRecord(**settings | changes)


def test_a_step_becomes_a_line_and_rows(context: Kept) -> None:
    recorder = recorder_of(context)
    recorder(record_of())
    recorder.flush()
    (line,) = UnlearningFiles(context.directory).read_steps()
    assert line == {
        "step": 1,
        "forget": list(IDS[:2]),
        "retain": ["r", "r"],
        "trained": [True, False],
        "accuracy": [0.75, 0.25],
        "forget_loss": -1.5,
        "forget_nll": 1.5,
        "retain_loss": 0.25,
        "forgotten": [IDS[1]],
        "learning_rate": 0.5,
    }
    values = context.of_step(1)
    assert values.pop("memory_mb") > 10
    assert values == {
        "forget_loss": -1.5,
        "forget_nll": 1.5,
        "retain_loss": 0.25,
        "learning_rate": 0.5,
        "updates": 3,
        "forgotten": 1,
        # Of four samples that had 1, one was seen with 3/4 and one with 1/4.
        "accuracy": 0.75,
        "forget_accuracy": 0.5,
        "extraction": 0.05,
    }
    assert context.updates_told == [
        SampleUpdate(1, "a", 0.75, True, False),
        SampleUpdate(1, IDS[1], 0.25, False, True),
    ]


def test_what_was_not_measured_has_no_row(context: Kept) -> None:
    recorder = recorder_of(context)
    recorder(record_of(looks=(Look(0, NAN, NAN, False, True),), retain=(), retain_loss=None))
    recorder.flush()
    assert not {"forget_accuracy", "extraction", "retain_loss", "retain_nll", "effective_share"} & set(
        context.of_step(1)
    )
    (line,) = UnlearningFiles(context.directory).read_steps()
    assert (line["accuracy"], line["retain_loss"]) == ([None], None)
    assert math.isnan(context.updates_told[0].accuracy)


def test_probes_and_new_weights_of_the_samples_are_rows_of_their_step(context: Kept) -> None:
    recorder = recorder_of(context)
    recorder.begin((0.9, 0.1))
    recorder(record_of(2, probe=(0.8, 0.2), effective_share=0.5))
    recorder.flush()
    assert context.of_step(0) == {
        "updates": 0,
        "forgotten": 0,
        "accuracy": 1,
        "retain_accuracy": 0.9,
        "retain_nll": 0.1,
    }
    found = context.of_step(2)
    assert (found["retain_accuracy"], found["retain_nll"], found["effective_share"]) == (0.8, 0.2, 0.5)


def test_ids_with_characters_that_end_a_line_elsewhere_do_not_break_the_log(context: Kept) -> None:
    recorder = recorder_of(context)
    for step in (1, 2):
        recorder(record_of(step, forget=IDS, forgotten=()))
    files = UnlearningFiles(context.directory)
    assert [line["forget"] for line in files.read_steps()] == [list(IDS)] * 2
    files.keep_steps(1)
    assert [line["step"] for line in files.read_steps()] == [1]


@pytest.mark.parametrize("loss", [NAN, math.inf])
def test_a_loss_that_is_not_finite_is_null_in_the_log(context: Kept, loss: float) -> None:
    recorder_of(context)(record_of(forget_loss=loss, text_nll=loss))
    (line,) = UnlearningFiles(context.directory).read_steps()
    assert line["forget_loss"] is line["forget_nll"] is None


def test_rows_are_held_back_for_a_moment_and_handed_on_once(
    context: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorder_of(context)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 1e9)
    recorder(record_of(1))
    assert context.updates_told == []
    # The line is there at once.
    assert len(UnlearningFiles(context.directory).read_steps()) == 1
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)
    recorder(record_of(2))
    assert [update.step for update in context.updates_told] == [1, 1, 2, 2]
    recorder.flush()
    assert len(context.updates_told) == 4


def test_the_mean_accuracy_goes_on_where_an_earlier_attempt_was(context: Kept) -> None:
    standing = Standing(steps=5, accuracy={"a": 0.0, IDS[1]: 0.5})
    recorder = recorder_of(context)
    recorder.resume(standing)
    recorder(record_of(6, looks=(Look(0, 0.5, NAN, False, True),)))
    recorder.flush()
    assert context.of_step(6)["accuracy"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)


def test_trackers_are_handed_the_same_values(context: Kept) -> None:
    logged: list[tuple[Any, int]] = []
    recorder = recorder_of(context, log=lambda *values: logged.append(values))
    recorder(record_of())
    recorder.flush()
    assert logged == [(context.of_step(1), 1)]


def test_an_evaluation_is_a_line_and_rows_at_once_and_trackers_get_those_after_the_first_step(
    context: Kept,
) -> None:
    logged: list[tuple[Any, int]] = []
    recorder = recorder_of(context, log=lambda *values: logged.append(values))
    for step in (0, 2, 4):
        recorder.evaluated(EvaluationRecord(step, 3 * step, 0.5, {"forget_rouge": step / 8}, 70))
    files = UnlearningFiles(context.directory)
    about = {"seconds": 0.5, "tokens": 70}
    lines = [{"step": step, "updates": 3 * step, **about, "forget_rouge": step / 8} for step in (0, 2, 4)]
    assert files.read_evaluations() == lines
    assert context.of_step(4) == {"evaluation_forget_rouge": 0.5}
    assert logged == [({"evaluation_forget_rouge": 0.25}, 2), ({"evaluation_forget_rouge": 0.5}, 4)]
    # A kill cut a line short; a checkpoint after step 2 is gone on from.
    with files.evaluations.open("a") as stream:
        stream.write('{"step": 6, "upd')
    files.keep_evaluations(2)
    assert files.read_evaluations() == lines[:2]


@pytest.mark.parametrize("refusals", [False, True])
def test_the_nll_of_refusals_is_not_that_of_the_samples(context: Kept, refusals: bool) -> None:
    recorder = recorder_of(context)
    recorder(record_of(refusals=refusals, text_nll=2.5))
    recorder.flush()
    (line,) = UnlearningFiles(context.directory).read_steps()
    name, other = ("refusal_nll", "forget_nll") if refusals else ("forget_nll", "refusal_nll")
    for found in (line, context.of_step(1)):
        assert found[name] == 2.5
        assert other not in found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock whose time `now` [s] stands still unless the test moves it."""
    stands = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: stands.now))
    return stands


@pytest.mark.parametrize(
    ("most_steps", "forgotten", "expected"),
    [
        # Four steps take 8 s: 2 s each.
        (10, 0, 2.0 * 3),
        # Two forgotten samples are too few to tell a pace.
        (10, 2, 2.0 * 3),
        # Three of four took 8 s, so the fourth takes 8/3 s: sooner than the limit of steps, or later.
        (10, 3, 8 / 3),
        (8, 3, 2.0),
    ],
)
def test_the_time_left_is_up_to_the_limit_of_steps_or_until_all_are_forgotten(
    most_steps: int, forgotten: int, expected: float, context: Kept, clock: SimpleNamespace
) -> None:
    recorder = recorder_of(context, most_steps=most_steps)
    recorder.resume(Standing(steps=2))
    for step in range(3, 8):
        # The first step of this attempt does what the others need not.
        clock.now += 1000.0 if step == 3 else 2.0
        recorder(record_of(step, forgotten_so_far=forgotten if step >= 5 else 0))
        recorder.flush()
        told = context.progress_told[-1]
        assert (told["eta_seconds"] is None) == (step == 3)
    assert told["eta_seconds"] == pytest.approx(expected)
    assert (told["done"], told["total"], told["is_most"]) == (3, 20, True)
    assert told["message"] == f"{forgotten} of 4 forgotten"


def test_before_the_first_step_nobody_knows_how_long_it_takes(context: Kept) -> None:
    recorder = recorder_of(context)
    recorder.resume(Standing(steps=4))
    recorder.flush()
    assert context.progress_told[-1]["eta_seconds"] is None
