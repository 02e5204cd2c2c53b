"""Two processes on one batch: the run is that of one process, to the bit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mrd_core.model.encoding import EncodedSample
from mrd_core.model.memorization import measure_memorization
from mrd_core.model.processes import ALONE, Processes, team
from mrd_core.runs import JobContext
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning.feed import CurriculumFeed, Look, Measures, Rescored, Rules, Samples, StepRecord
from mrd_core.unlearning.losses import nll_loss
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.norms import SampleNorms
from mrd_core.unlearning.objective import Objective
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum
from mrd_core.unlearning.stopping import Checks, Limits, StopReason, Thresholds
from mrd_core.unlearning.texts import TextBatch, answers
from tests.conftest import REPOSITORY
from tests.support import tiny
from tests.support.training import train

pytestmark = [pytest.mark.slow, pytest.mark.long]

FORGET = tiny.encoded(9, 14, 7, 11, 20, 8)
RETAIN = tiny.encoded(12, 6, 10, 15, seed=1)
SCORES = {sample: float(place + 1) for place, sample in enumerate(FORGET.sample_ids)}


@dataclass(frozen=True)
class Scenario:
    """One run.

    Attributes:
        method: What is trained.
        sampler: In which order.
        steps: At most.
        batch_size: Forget samples of a step; 3 gives one process two of them and the other one.
        threshold: MA below which a sample is forgotten.
        extraction: Whether EL is asked for too; it is always below its threshold.
        learning_rate: Of AdamW.
        resume_after: Also stop after this many steps and go on from the checkpoint with another model.
        seconds: On the clock of the last process before the first step, where the limit is 1000.
        family: Of the model.
    """

    method: str
    sampler: str = "mrd"
    steps: int = 6
    batch_size: int = 3
    threshold: float = 0.05
    extraction: bool = False
    learning_rate: float = 1e-4
    resume_after: int | None = None
    seconds: float = 0.0
    family: str = "gpt2"


SCENARIOS = {
    "uneven shares": Scenario("graddiff"),
    "a reference": Scenario("npo", "uniform"),
    "refusals": Scenario("po", "uniform", steps=20, threshold=0.8, learning_rate=3e-3),
    "samples leave": Scenario("ga", "easy-to-hard", steps=60, threshold=0.5, extraction=True, learning_rate=3e-3),
    "one at a time": Scenario("graddiff", "easy-to-hard", steps=4, batch_size=1, family="llama"),
    "resumed": Scenario("graddiff", resume_after=3),
    "a slow process": Scenario("ga", seconds=2000.0),
}


def untrained(family: str) -> Any:
    """Return a random model in fp64; that of GPT-2 rounds nothing to fp32, that of Llama has buffers."""
    if family == "llama":
        return tiny.in_double(tiny.llama(num_hidden_layers=1).requires_grad_(True))
    sizes = {"vocab_size": tiny.VOCABULARY, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": tiny.CONTEXT}
    dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    return tiny.seeded(lambda: GPT2LMHeadModel(GPT2Config(**sizes, **dropout, initializer_range=0.3)).double())


@cache
def _memorising(family: str) -> dict[str, torch.Tensor]:
    model = untrained(family)
    batch, optimiser = TextBatch.of(FORGET.samples, tiny.CPU), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nll_loss(answers(model, batch).log_probs, batch.mask, "tokens").backward()
        optimiser.step()
    return model.state_dict()


def network(family: str) -> Any:
    """Return a model that knows the forget set by heart."""
    model = untrained(family)
    model.load_state_dict(_memorising(family))
    return model


def feed_of(
    model: Any,
    scenario: Scenario,
    records: list[StepRecord],
    processes: Processes,
    stop_after: int | None = None,
) -> CurriculumFeed:
    """Return the feed of a process; only the last one is ever asked to stop, or slow."""
    is_last = int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1

    def refused(sample: str, _step: int) -> EncodedSample:
        return RETAIN.samples[FORGET.sample_ids.index(sample) % 4]

    samples = Samples(
        FORGET,
        refused if scenario.method == "po" else None,
        np.linspace(20, 40, len(FORGET)) if METHODS[scenario.method].needs_reference else None,
        None if METHODS[scenario.method].retain == "none" else RETAIN,
    )
    measures = Measures(
        memorized=lambda places: measure_memorization(tiny.reader(model, 1000), FORGET.subset(places)),
        extraction=lambda places: np.zeros(len(places)),
        extraction_tokens=np.arange(100, 100 + len(FORGET)),
        retained=lambda: measure_memorization(tiny.reader(model, 1000), RETAIN),
        retained_tokens=7,
        rescored=lambda _places: Rescored(SCORES, 0, 0),
    )
    rules = Rules(
        batch_size=scenario.batch_size,
        seed=7,
        thresholds=Thresholds.absolute(scenario.threshold, 0.5 if scenario.extraction else None),
        checks=Checks(spacing="fixed", interval=2),
        limits=Limits(max_steps=scenario.steps, max_seconds=1000.0),
        probe_steps=4,
        gradient_steps=2,
    )
    feed = CurriculumFeed(
        Curriculum(SAMPLERS[scenario.sampler], SCORES, seed=3),
        samples,
        measures,
        rules,
        records.append,
        asked_to_stop=lambda: is_last and len(records) == stop_after,
        gather=processes.gather,
    )
    feed.standing.seconds = scenario.seconds if is_last else 0.0
    return feed


def trained(
    model: Any,
    scenario: Scenario,
    feed: CurriculumFeed,
    processes: Processes,
    folder: Path,
    resume: Path | None = None,
) -> None:
    method = METHODS[scenario.method]
    weight = 0.0 if method.retain == "none" else method.default_retain_weight
    objective = Objective(
        method, parsed(method, {}), weight, None, 1, tiny.CPU, processes, norms=SampleNorms(model)
    )
    train(model, objective, feed, learning_rate=scenario.learning_rate, folder=folder, resume=resume)


def ran(scenario: Scenario, folder: Path, processes: Processes = ALONE) -> dict[str, Any]:
    """Carry a scenario out and return what came of it, fit for JSON."""
    model, records, newest = network(scenario.family), [], None
    if scenario.resume_after:
        first = feed_of(model, scenario, records, processes, scenario.resume_after)
        trained(model, scenario, first, processes, folder)
        model, (newest,) = network(scenario.family), checkpoints.existing(folder)
    feed = feed_of(model, scenario, records, processes)
    if newest:
        feed.restore(newest, SAMPLERS[scenario.sampler])
    else:
        feed.probe_start()
    trained(model, scenario, feed, processes, folder, newest)
    return {
        "records": [asdict(record) for record in records],
        "standing": asdict(feed.standing),
        "reason": feed.reason,
        "weights": torch.cat([weight.detach().flatten() for weight in model.parameters()]).tolist(),
        "files": sorted(path.name for path in folder.iterdir()),
    }


def main(folder: Path) -> None:
    """Be one of several processes: carry all scenarios out and write what this process knows of them."""
    torch.set_num_threads(1)
    with team(1, folder, "cpu") as workers:
        processes = workers.meet(JobContext(folder))
        found = {name: ran(scenario, folder / name, processes) for name, scenario in SCENARIOS.items()}
        assert torch.distributed.get_world_size() == 2
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process finds in each scenario, and what the first and the second of two find."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [started(rank, port, folder) for rank in (0, 1)]
    try:
        alone = {name: ran(scenario, folder / "alone" / name) for name, scenario in SCENARIOS.items()}
        printed = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    pair = [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    return [json.loads(json.dumps(alone)), *pair]


def started(rank: int, port: int, folder: Path) -> subprocess.Popen[str]:
    """Start one of two processes as torchrun and accelerate do."""
    environment = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.test_two_processes", str(folder)],
        env=os.environ | environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def column(run: dict[str, Any], *names: str) -> list[Any]:
    return [[record[name] for name in names] for record in run["records"]]


def figures(run: dict[str, Any]) -> np.ndarray:
    """Return what each step found, NaN where it has none, shape (steps, 5)."""
    rows = column(run, "forget_loss", "text_nll", "retain_loss")
    probes = [record["probe"] or (None, None) for record in run["records"]]
    return np.array([[*row, *probe] for row, probe in zip(rows, probes, strict=True)], dtype=np.float64)


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_draw_the_order_of_one_and_find_the_same_samples_forgotten(
    found: list[dict[str, Any]], name: str
) -> None:
    alone, first, second = (each[name] for each in found)
    for run in (first, second):
        assert column(run, "step", "forget", "retain", "forgotten") == column(
            alone, "step", "forget", "retain", "forgotten"
        )
        assert run["reason"] == alone["reason"] is not None


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_count_what_one_counts(found: list[dict[str, Any]], name: str) -> None:
    counts = [
        {key: value for key, value in each[name]["standing"].items() if not key.startswith("seconds")}
        for each in found
    ]
    accuracies = [counted.pop("accuracy") for counted in counts]
    assert counts[1] == counts[2] == counts[0]
    assert accuracies[1] == accuracies[2] == accuracies[0]


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_find_the_losses_and_weights_of_one(found: list[dict[str, Any]], name: str) -> None:
    alone, first, second = (each[name] for each in found)
    for run in (first, second):
        np.testing.assert_array_equal(figures(run), figures(alone))
        assert str(column(run, "gradient_norms")) == str(column(alone, "gradient_norms"))
        assert run["weights"] == alone["weights"]


def test_whoever_trains_on_a_sample_all_know_the_norm_of_its_gradient(found: list[dict[str, Any]]) -> None:
    for each in found:
        norms = [record["gradient_norms"] for record in each["uneven shares"]["records"]]
        assert [len(norms[step]) for step in (0, 2, 4)] == [3, 3, 3]
        assert norms[1::2] == [None] * 3


def test_samples_leave_until_one_process_has_no_work_and_steps_train_on_nothing(
    found: list[dict[str, Any]],
) -> None:
    records = found[0]["samples leave"]["records"]
    assert {len(record["forget"]) for record in records} == {1, 2, 3}
    trained = [sum(look[Look._fields.index("trained")] for look in record["looks"]) for record in records]
    assert 0 in trained
    assert 3 in trained


def test_a_resumed_run_of_two_processes_is_the_uninterrupted_one(found: list[dict[str, Any]]) -> None:
    for each in found:
        whole, resumed = each["uneven shares"], each["resumed"]
        assert column(resumed, "step", "forget", "retain") == column(whole, "step", "forget", "retain")
        assert resumed["weights"] == whole["weights"]


def test_a_checkpoint_of_two_processes_is_whole_and_the_only_one(found: list[dict[str, Any]]) -> None:
    assert found[1]["uneven shares"]["files"] == found[2]["uneven shares"]["files"] == ["checkpoint-6"]


def test_the_clock_of_the_slowest_process_ends_the_run_of_all(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["a slow process"]["reason"] == StopReason.MAX_SECONDS
        assert len(each["a slow process"]["records"]) == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
