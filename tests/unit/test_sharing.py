"""One score run, drawn by any number of processes: who draws what, who inherits it, and the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.sharing import Simulation, simulate
from mrd_core.model.config import ModelConfig
from mrd_core.model.hardware import kind_of
from mrd_core.runs import JobContext
from mrd_core.runs.directory import write_config
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring import claims as claims_module
from mrd_core.scoring.claims import GIVEN_UP, LEASE, Claims, Lease, Standing, time_in
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.job import score_job
from mrd_core.scoring.schedule import UnitKey
from mrd_core.settings.command import process as command_line
from tests.conftest import REPOSITORY
from tests.support.commands import ended, started
from tests.support.namespaces import namespace

PATIENCE = 60.0
PAIRS = [UnitKey("pair", index) for index in range(6)]
FORK = multiprocessing.get_context("fork")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.005)


@pytest.fixture
def files(tmp_path: Path) -> ScoreFiles:
    """A run directory in which units are drawn."""
    made = ScoreFiles(tmp_path / "run")
    made.units.mkdir(parents=True)
    return made


def arrays(key: UnitKey) -> dict[str, np.ndarray]:
    return {"value": np.array([key.index])}


def held_by(lease: Lease, holder: ProcessIdentity, seconds_ago: float) -> Lease:
    """Have a lease held by some process, which touched it last so long ago by the clock of the file system."""
    lease.path.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    touched = time_in(lease.path.parent) - seconds_ago
    os.utime(lease.path, (touched, touched))
    return lease


def elsewhere() -> ProcessIdentity:
    return replace(ProcessIdentity.current(), host="node-2", system="another boot pid:[1]")


def dead() -> ProcessIdentity:
    return replace(ProcessIdentity.current(), started=1.0)


@pytest.mark.parametrize(
    ("holder", "seconds_ago", "abandoned"),
    [
        (elsewhere, LEASE - 5, False),
        (elsewhere, LEASE + 5, True),
        # Of this system the process is looked at, however long it draws without a sign.
        (ProcessIdentity.current, 10 * LEASE, False),
        (dead, 0, True),
    ],
)
def test_a_holder_is_judged_by_its_process_here_and_by_its_last_touch_elsewhere(
    files, holder, seconds_ago, abandoned
):
    lease = held_by(Lease(files.claim(PAIRS[0])), holder(), seconds_ago)
    assert lease.is_abandoned is abandoned
    claims = Claims(files, arrays)
    assert claims.draw(PAIRS[:1]) is abandoned
    assert files.unit(PAIRS[0]).exists() is abandoned


def test_the_age_of_a_touch_is_taken_by_the_clock_of_the_file_system(files, monkeypatch):
    fresh = held_by(Lease(files.claim(PAIRS[0])), elsewhere(), 0)
    # A machine whose own clock is days off.
    monkeypatch.setattr(time, "time", lambda: 1e6)
    assert not fresh.is_abandoned


def test_a_claim_that_bears_no_name_yet_is_somebodys_until_it_is_old(files):
    lease = Lease(files.claim(PAIRS[0]))
    lease.path.touch()
    assert not lease.is_abandoned
    touched = time_in(files.units) - LEASE - 5
    os.utime(lease.path, (touched, touched))
    assert lease.is_abandoned


def test_a_lease_is_touched_while_it_is_kept_and_given_up_where_the_work_ends_early(files, monkeypatch):
    monkeypatch.setattr(claims_module, "HEARTBEAT", 0.01)
    lease = Lease(files.leader)
    assert lease.take()
    os.utime(lease.path, (1.0, 1.0))
    with lease.kept():
        until(lambda: lease.path.stat().st_mtime > 1.0, "the lease is touched")
    assert not lease.is_abandoned
    with pytest.raises(KeyError), lease.kept():
        raise KeyError
    assert lease.path.stat().st_mtime == GIVEN_UP
    # Also for this very process, which lives.
    assert lease.is_abandoned


def test_units_that_are_wanted_come_before_those_ahead_and_what_was_begun_ahead_comes_last(files):
    held_by(Lease(files.claim(PAIRS[1])), dead(), 0)
    held_by(Lease(files.claim(PAIRS[2])), dead(), 0)
    held_by(Lease(files.claim(PAIRS[4])), elsewhere(), 0)
    order: list[int] = []

    def noted(key: UnitKey) -> dict[str, np.ndarray]:
        order.append(key.index)
        return arrays(key)

    claims = Claims(files, noted)
    while claims.draw(PAIRS[:2], PAIRS[2:]):
        pass
    assert order == [0, 1, 3, 5, 2]
    assert Standing.of(files.units).claims == {key.stem: int(key.index in (1, 2)) for key in PAIRS}


def inherit(files: ScoreFiles, begin: object, won: object) -> None:
    def arrays_of_one(key: UnitKey) -> dict[str, np.ndarray]:
        won.put(os.getpid())
        # All others look meanwhile.
        time.sleep(0.5)
        return arrays(key)

    begin.wait()
    Claims(files, arrays_of_one).draw(PAIRS[:1])


def test_of_many_processes_one_inherits_an_abandoned_claim(files):
    held_by(Lease(files.claim(PAIRS[0])), dead(), 0)
    begin, won = FORK.Barrier(8), FORK.Queue()
    processes = [FORK.Process(target=inherit, args=(files, begin, won)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    winner = won.get(timeout=PATIENCE)
    assert won.empty()
    assert Lease(files.claim(PAIRS[0], 1)).holder.pid == winner
    assert Standing.of(files.units).claims == {PAIRS[0].stem: 1}


def test_a_folder_of_units_can_be_removed_while_somebody_writes_into_it(files):
    def write() -> None:
        for number in range(100_000):
            (files.units / f"{number}").touch()

    writer = FORK.Process(target=write)
    writer.start()
    until(lambda: (files.units / "100").exists(), "it writes")
    files.remove_scaffolding()
    assert list(files.directory.iterdir()) == []
    writer.join()
    assert writer.exitcode == 1


# By the front door

STEADY = {"sigma": 1e-3, "stop": "never", "batch_tokens": 1, "seed": 7, "workers": 1, "draws": 300}


@pytest.fixture
def command(home: Path, tiny_model: Path, tiny_forget_set: Path) -> Callable[..., list[object]]:  # noqa: ARG001
    """Return a maker of the words that score the tiny set in units of one sample a batch."""

    def make(directory: Path, *more: object, **wishes: object) -> list[object]:
        options = [(f"--{name.replace('_', '-')}", value) for name, value in (STEADY | wishes).items()]
        of_what = ("score", "--model", tiny_model, "--forget-set", tiny_forget_set, "--out", directory)
        return [*of_what, *(word for option in options for word in option), *more]

    return make


@pytest.fixture(scope="module")
def alone(tiny_model: Path, tiny_forget_set: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoreFiles:
    """The same in one process that nobody disturbed."""
    files = ScoreFiles(tmp_path_factory.mktemp("alone"))
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(tiny_forget_set)),
        model=ModelConfig(source=str(tiny_model)),
        estimator=EstimatorConfig(**STEADY),
    )
    write_config(files.directory, config)
    score_job(config, JobContext(files.directory))
    return files


def assert_same_bits(some: ScoreFiles, others: ScoreFiles) -> None:
    for name in ("scores", "draws", "probes", "tokens", "measures"):
        frames = [pd.read_parquet(getattr(files, name)) for files in (some, others)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


def drawers(files: ScoreFiles) -> set[int]:
    """Return the processes that have claimed a unit so far."""
    return {holder.pid for holder in holders(files)}


def holders(files: ScoreFiles) -> list[ProcessIdentity]:
    names = (Lease(path).holder for path in files.units.glob("*.claim"))
    return [holder for holder in names if holder]


def is_in_a_unit(pid: int, files: ScoreFiles) -> bool:
    """Stop a process, and let it go on unless it holds a unit."""
    os.kill(pid, signal.SIGSTOP)
    standing = Standing.of(files.units)
    for stem in standing.claims.keys() - standing.finished:
        holder = Lease(files.units / f"{stem}.{standing.claims[stem]}.claim").holder
        if holder and holder.pid == pid:
            return True
    os.kill(pid, signal.SIGCONT)
    return False


def kill_in_a_unit(process: subprocess.Popen[str], files: ScoreFiles) -> None:
    """Kill -9 a process in the middle of a unit."""
    until(lambda: is_in_a_unit(process.pid, files), "it is in a unit")
    process.kill()
    process.communicate()


@pytest.mark.long
def test_processes_that_join_late_and_die_leave_the_bits_of_one(command, alone, tmp_path):
    files = ScoreFiles(tmp_path / "shared")
    leader = started(*command(files.directory))
    until(files.units.exists, "the run begins")
    joined = [started("share", files.directory, "--workers", 1) for _ in range(2)]
    kill_in_a_unit(joined[0], files)
    until(lambda: joined[1].pid in drawers(files), "the other goes on")
    led = ended(leader)
    assert led.code == 0, led.said
    outcome = ended(joined[1])
    assert (outcome.code, "all units that it needs" in outcome.said) == (0, True), outcome.said
    assert_same_bits(files, alone)
    assert not files.units.exists()


@pytest.mark.long
def test_what_a_process_of_another_system_left_behind_is_inherited_when_its_lease_ends(command, alone, tmp_path):
    if not namespace():
        pytest.skip("the kernel makes no PID namespaces here")
    files = ScoreFiles(tmp_path / "run")
    leader = started(*command(files.directory))
    until(lambda: files.units.exists() and drawers(files), "it draws")
    os.kill(leader.pid, signal.SIGSTOP)
    words = [*namespace(), *command_line("share", files.directory, "--workers", 1)]
    elsewhere = subprocess.Popen(words, cwd=REPOSITORY)
    own = Lease(files.leader).holder.system
    while all(holder.system == own for holder in holders(files)):
        # The leading process goes on for a moment now and then, and touches its lease.
        os.kill(leader.pid, signal.SIGCONT)
        time.sleep(0.02)
        os.kill(leader.pid, signal.SIGSTOP)
        time.sleep(2.0)
    # Process 1 of the namespace takes all others of it along.
    children = psutil.Process(elsewhere.pid).children(recursive=True)
    elsewhere.kill()
    for child in children:
        child.kill()
    elsewhere.wait()
    os.kill(leader.pid, signal.SIGCONT)
    outcome = ended(leader)
    assert outcome.code == 0, outcome.said
    assert_same_bits(files, alone)


def test_nobody_shares_a_run_that_nobody_leads(cli, command, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.share.PATIENCE", 0.0)
    files = ScoreFiles(tmp_path / "run")
    process = started(*command(files.directory))
    until(lambda: files.units.exists() and len(drawers(files)), "it draws")
    process.kill()
    process.communicate()
    outcome = cli("share", files.directory)
    assert (outcome.code, "has no process that leads it" in outcome.said) == (2, True)
    assert f"mrd-lens run {files.directory}" in outcome.said


@pytest.mark.slow
def test_a_process_that_joined_says_so_when_the_leading_one_is_killed(command, tmp_path):
    files = ScoreFiles(tmp_path / "run")
    leader = started(*command(files.directory, draws=40_000))
    until(files.units.exists, "the run begins")
    joined = started("share", files.directory, "--workers", 1)
    until(lambda: joined.pid in drawers(files), "it draws")
    leader.kill()
    leader.communicate()
    outcome = ended(joined)
    assert (outcome.code, "has ended before the run did" in outcome.said) == (2, True)


# Jobs of a scheduler


@pytest.mark.slow
def test_jobs_that_begin_in_any_order_share_a_run_and_each_prints_its_result(command, cli, alone, tmp_path):
    files = ScoreFiles(tmp_path / "shared")
    jobs = {number: started(*command(files.directory, "--shard", f"{number}/3", "--json")) for number in (3, 1, 2)}
    outcomes = {number: ended(job) for number, job in jobs.items()}
    assert [outcome.code for outcome in outcomes.values()] == [0, 0, 0], outcomes
    summaries = [json.loads(outcome.out.splitlines()[-1]) for outcome in outcomes.values()]
    assert summaries[0] == summaries[1] == summaries[2]
    assert_same_bits(files, alone)
    for number in (1, 3):
        again = cli(*command(files.directory, "--shard", f"{number}/3", "--json"))
        assert again.code == 0
        assert json.loads(again.out.splitlines()[-1]) == summaries[0]


@pytest.mark.long
def test_a_first_job_that_was_killed_goes_on_when_it_is_run_again(command, alone, tmp_path):
    files = ScoreFiles(tmp_path / "shared")
    words = command(files.directory, "--shard", "1/2")
    first = started(*words)
    until(lambda: files.units.exists() and len(Standing.of(files.units).finished) > 3, "it draws")
    kill_in_a_unit(first, files)
    second = started(*command(files.directory, "--shard", "2/2"))
    outcome = ended(started(*words))
    assert outcome.code == 0, outcome.said
    other = ended(second)
    assert other.code == 0, other.said
    assert_same_bits(files, alone)


def test_a_job_of_another_run_is_refused(command, cli, tmp_path):
    directory = tmp_path / "shared"
    assert cli(*command(directory, "--shard", "1/2", draws=8)).code == 0
    for number in (1, 2):
        outcome = cli(*command(directory, "--shard", f"{number}/2", draws=10))
        assert (outcome.code, "another forget set, model or estimator" in outcome.said) == (2, True)
    # How many processes a job has is its own affair.
    assert cli(*command(directory, "--shard", "2/2", draws=8, workers=2)).code == 0


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/2/3", "a/b", "-1/2"])
def test_a_shard_that_is_none_is_refused(command, cli, tmp_path, shard):
    outcome = cli(*command(tmp_path / "shared", "--shard", shard))
    assert (outcome.code, "is none of 1/n to n/n" in outcome.said) == (2, True)
    assert not (tmp_path / "shared").exists()


def test_jobs_need_a_directory_that_they_share(command, cli, tmp_path):
    words = command(tmp_path / "shared", "--shard", "1/2")
    place = words.index("--out")
    outcome = cli(*words[:place], *words[place + 2 :])
    assert (outcome.code, "Name it with --out." in outcome.said) == (2, True)


# What rounds differently


@pytest.mark.long
def test_a_machine_that_rounds_otherwise_shares_a_run_only_where_it_is_told_to(command, tmp_path):
    files = ScoreFiles(tmp_path / "run")
    leader = started(*command(files.directory, "--json"))
    until(lambda: files.units.exists() and drawers(files), "it draws")
    os.kill(leader.pid, signal.SIGSTOP)
    # Torch takes other instructions, as on an older machine.
    words, older = ("share", files.directory, "--workers", 1), {"ATEN_CPU_CAPABILITY": "default"}
    refused = ended(started(*words, **older))
    assert (refused.code, "rounds otherwise than those of the run" in refused.said) == (2, True), refused.said
    assert drawers(files) == {leader.pid}
    mixed = started(*words, "--mixed-devices", **older)
    until(lambda: mixed.pid in drawers(files), "it draws")
    os.kill(leader.pid, signal.SIGCONT)
    outcome = ended(leader)
    assert (outcome.code, ended(mixed).code) == (0, 0)
    summary = json.loads(outcome.out.splitlines()[-1])
    own = kind_of(torch.device("cpu"), torch.float32)
    assert len(summary["device_kinds"]) == 2
    assert own in summary["device_kinds"]
    (warning,) = (text for text in summary["warnings"] if "round differently" in text)
    assert all(kind in warning for kind in summary["device_kinds"])


def test_a_run_of_one_kind_of_device_says_which(alone):
    assert alone.read_figures().device_kinds == (kind_of(torch.device("cpu"), torch.float32),)
    assert alone.read_plan().device_kind == kind_of(torch.device("cpu"), torch.float32)


@pytest.mark.slow
def test_a_machine_with_another_model_under_the_same_name_shares_nothing(command, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    files = ScoreFiles(tmp_path / "run")
    leader = started(*command(files.directory, model=model))
    until(lambda: files.units.exists() and drawers(files), "it draws")
    os.kill(leader.pid, signal.SIGSTOP)
    weights = load_file(model / "model.safetensors")
    next(iter(weights.values()))[0, 0] += 1e-3
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    outcome = ended(started("share", files.directory, "--workers", 1))
    assert outcome.code == 2
    assert "has other weights than those that the score run began with" in outcome.said
    leader.kill()
    leader.communicate()


# At scale


def test_of_eight_processes_on_two_nodes_one_dies_and_every_unit_is_drawn_once(tmp_path):
    simulation = Simulation(tmp_path, workers=8, units=64, seconds=0.05, node=4)
    (victim,) = simulation.doomed
    drawn = simulate(simulation)
    assert drawn.died == 1
    finished = {stretch.unit: stretch for stretch in drawn.stretches if stretch.end is not None}
    (abandoned,) = (stretch for stretch in drawn.stretches if stretch.end is None)
    # Nobody began a unit that somebody else was drawing, but the one that was left behind.
    assert len(drawn.stretches) == len(finished) + 1
    assert finished.keys() == set(range(64))
    assert abandoned.worker == victim != finished[abandoned.unit].worker
    assert abandoned.begin < finished[abandoned.unit].begin
