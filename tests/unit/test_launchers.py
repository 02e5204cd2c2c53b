"""What becomes of runs that a scheduler has, told by programs that answer as Slurm's do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import ValidationError

from mrd_core.errors import UserError
from mrd_core.runs import Run, RunError, RunState, RunStore
from mrd_core.runs.launchers import reach, watch
from mrd_core.runs.launchers.choice import launcher_again, launcher_of, reachable
from mrd_core.runs.launchers.config import LAUNCH, LaunchConfig, read_launch
from mrd_core.runs.launchers.local import LocalLauncher
from mrd_core.runs.launchers.node import looked, probed
from mrd_core.runs.launchers.port import JobState, own_job
from mrd_core.runs.launchers.slurm import Slurm, nodes
from mrd_core.runs.liveness import LAUNCH_GRACE, STALE, ProcessIdentity
from mrd_core.runs.submission import resume
from mrd_core.settings.installation import Settings
from tests.support.commands import ended, started
from tests.support.runs import claimed_by_a_dead_process, moved, set_row, settings_in, submitted

S = RunState
# Answers from a file, and counts how often it is asked.
PROGRAM = """#!{python}
import pathlib, sys
folder = pathlib.Path(__file__).parent
with (folder / "asked").open("a") as asked:
    print(*[pathlib.Path(sys.argv[0]).name, *sys.argv[1:]], file=asked)
answer = folder / (pathlib.Path(sys.argv[0]).name + ".answer")
sys.exit(1) if not answer.exists() else print(answer.read_text(), end="")
"""


class Programs:
    """Slurm's programs in a folder on the search path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("squeue", "sacct", "scancel", "sinfo", "sbatch", "srun"):
            (folder / name).write_text(PROGRAM.format(python=sys.executable))
            (folder / name).chmod(0o755)

    def answer(self, program: str, text: str) -> None:
        (self.folder / f"{program}.answer").write_text(text)

    def asked(self, program: str) -> list[str]:
        log = self.folder / "asked"
        return [line for line in log.read_text().splitlines() if line.startswith(program)] if log.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(watch, "_watches", {})
    return Programs(folder)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> RunStore:
    return RunStore.open(settings)


@pytest.fixture
def run(store: RunStore, settings: Settings) -> Run:
    """A run that Slurm has as job 17."""
    made = submitted(store, settings)
    store.assign(made.id, "slurm", "17")
    return store.get(made.id)


def asked_again() -> None:
    """Let the scheduler be asked before its pause is over."""
    for watched in watch._watches.values():
        watched._asked_at = float("-inf")


def long_queued(store: RunStore, run: Run) -> None:
    set_row(store, run, queued_at=datetime.now(UTC) - 10 * LAUNCH_GRACE)


def silent_elsewhere(store: RunStore, run: Run) -> None:
    """Have the run claimed by a worker of another machine that has said nothing for long."""
    assert store.claim(run, ProcessIdentity("node7", "another system", 1, 1.0))
    moved(store, run, S.STARTING, S.RUNNING)
    set_row(store, run, heartbeat_at=datetime.now(UTC) - 2 * STALE)


def reaped(store: RunStore, run: Run) -> Run:
    asked_again()
    store.reap()
    return store.get(run.id)


def test_a_job_may_wait_for_days(slurm: Programs, store: RunStore, run: Run) -> None:
    slurm.answer("squeue", "17|PENDING|Resources|\n")
    long_queued(store, run)
    assert reaped(store, run).state is S.QUEUED
    assert watch.job_of(run).stated == "Slurm job 17: waiting (Resources)"
    # A scheduler that is away for a moment says nothing of its jobs.
    (slurm.folder / "squeue.answer").unlink()
    assert reaped(store, run).state is S.QUEUED


@pytest.mark.parametrize(
    ("answer", "state", "cause"),
    [
        ("17|CANCELLED|None|\n", S.CANCELLED, "Slurm job 17 was cancelled at its scheduler."),
        ("17|TIMEOUT|TimeLimit|\n", S.INTERRUPTED, "Slurm job 17 was stopped at the end of its time."),
        ("17|NODE_FAIL|NodeDown|\n", S.INTERRUPTED, "Slurm job 17 was stopped, as its node failed."),
        ("17|OUT_OF_MEMORY|OutOfMemory|\n", S.FAILED, "Slurm job 17 was killed for its memory."),
        ("17|FAILED|NonZeroExitCode|\n", S.LOST, "Slurm job 17 failed: NonZeroExitCode."),
        ("", S.LOST, "No worker took the run up."),
    ],
)
def test_how_a_job_ended_before_its_worker_began_is_told(
    slurm: Programs, store: RunStore, run: Run, answer: str, state: RunState, cause: str
) -> None:
    slurm.answer("squeue", answer)
    long_queued(store, run)
    ended = reaped(store, run)
    assert (ended.state, ended.error.cause) == (state, cause)


@pytest.mark.parametrize(
    ("answer", "state", "cause"),
    [
        ("17|TIMEOUT|TimeLimit|\n", S.INTERRUPTED, "Slurm job 17 was stopped at the end of its time."),
        ("17|OUT_OF_MEMORY|OutOfMemory|\n", S.FAILED, "Slurm job 17 was killed for its memory."),
        ("18|RUNNING|None|node7\n", S.LOST, "No sign of life from node7 for more than 120 seconds."),
    ],
)
def test_how_a_job_ended_under_its_worker_is_told(
    slurm: Programs, store: RunStore, run: Run, answer: str, state: RunState, cause: str
) -> None:
    slurm.answer("squeue", answer)
    silent_elsewhere(store, run)
    ended = reaped(store, run)
    assert (ended.state, ended.error.cause) == (state, cause)


def test_a_worker_is_not_lost_while_its_job_runs(slurm: Programs, store: RunStore, run: Run) -> None:
    slurm.answer("squeue", "17|RUNNING|None|node7\n")
    silent_elsewhere(store, run)
    assert reaped(store, run).state is S.RUNNING


def test_a_job_that_was_put_back_into_the_queue_takes_its_run_along(
    slurm: Programs, store: RunStore, run: Run
) -> None:
    slurm.answer("squeue", "17|PENDING|BeginTime|\n")
    silent_elsewhere(store, run)
    waiting = reaped(store, run)
    assert (waiting.state, waiting.attempt, waiting.job, waiting.pid) == (S.QUEUED, 2, "17", None)
    messages = list(store.events(run.id)["message"])
    assert messages == [
        "Slurm job 17 was taken from its node and waits in the queue again.",
        "Slurm job 17 waits in the queue again.",
    ]


def test_a_run_whose_job_takes_it_up_again_gets_no_second_worker(
    slurm: Programs, store: RunStore, run: Run
) -> None:
    moved(store, run, S.STARTING, S.RUNNING, S.INTERRUPTED)
    slurm.answer("squeue", "17|PENDING|BeginTime|\n")
    with pytest.raises(UserError, match="Slurm job 17 waits in the queue and takes it up again by itself"):
        resume(run.id, store=store)


def test_an_interrupted_run_is_told_what_its_scheduler_did_and_once(
    slurm: Programs, store: RunStore, run: Run
) -> None:
    moved(store, run, S.STARTING, S.RUNNING, S.INTERRUPTED)
    slurm.answer("squeue", "17|CANCELLED|None|\n")
    told = reaped(store, run)
    assert (told.state, told.error.cause, told.job) == (
        S.INTERRUPTED,
        "Slurm job 17 was cancelled at its scheduler.",
        None,
    )
    before = len(slurm.asked("squeue"))
    reaped(store, run)
    assert len(slurm.asked("squeue")) == before


def test_a_run_that_was_killed_here_is_not_held_by_another_ones_job(store: RunStore, settings: Settings) -> None:
    run = submitted(store, settings)
    claimed_by_a_dead_process(store, run)
    store.reap()
    assert store.get(run.id).state is S.LOST


def test_cancelling_a_run_that_waits_cancels_its_job(slurm: Programs, store: RunStore, run: Run) -> None:
    assert store.request_cancel(run.id) is S.CANCELLED
    assert slurm.asked("scancel") == ["scancel 17"]


def test_what_runs_of_schedulers_wait_for_is_not_waited_for_here(
    store: RunStore, settings: Settings, run: Run
) -> None:
    mine = submitted(store, settings)
    assert (store.get(run.id).state, store.queue_place(mine.id)) == (S.QUEUED, 1)


def test_a_page_that_polls_asks_once_in_ten_seconds(slurm: Programs, store: RunStore, run: Run) -> None:
    slurm.answer("squeue", "17|PENDING|Resources|\n")
    long_queued(store, run)
    for _ in range(20):
        store.reap()
        watch.job_of(run)
    assert len(slurm.asked("squeue")) == 1


def test_accounting_knows_what_the_controller_has_forgotten(slurm: Programs) -> None:
    slurm.answer("squeue", "")
    slurm.answer("sacct", "CANCELLED by 1000\n")
    assert Slurm().jobs(["17"])["17"].state is JobState.CANCELLED


def test_an_array_is_alive_as_long_as_one_of_its_tasks(slurm: Programs) -> None:
    slurm.answer("squeue", "17|COMPLETED|None|\n17|RUNNING|None|node7\n17|FAILED|None|\n")
    assert Slurm().jobs(["17"])["17"].state is JobState.RUNNING


def test_lists_say_what_a_job_waits_for(
    slurm: Programs, store: RunStore, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.answer("squeue", "17|PENDING|Resources|\n")
    monkeypatch.setenv("MRD_HOME", str(settings.home))
    for words in (("runs", "list"), ("runs", "show", run.id)):
        said = ended(started(*words, COLUMNS="200")).out
        assert "Slurm job 17: waiting (Resources)" in said
    assert store.get(run.id).state is S.QUEUED


def test_every_state_of_slurm_is_known() -> None:
    from mrd_core.runs.launchers.slurm import _STATES

    # `JOB STATE CODES` of squeue(1), those that jobs end and wait in.
    told = "BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING "
    told += (
        "PREEMPTED RUNNING REQUEUE_FED REQUEUE_HOLD REQUEUED REVOKED SIGNALING STAGE_OUT STOPPED SUSPENDED TIMEOUT"
    )
    assert set(told.split()) <= set(_STATES)


def mounted(monkeypatch: pytest.MonkeyPatch, kinds: dict[str, str]) -> None:
    """Have the system say that places lie on file systems of these types, and all others on NFS."""
    parts = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in ({"/": "nfs4"} | kinds).items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: parts)


def test_a_run_directory_that_nodes_cannot_see_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted(monkeypatch, {str(tmp_path): "ext4"})
    shared = settings.model_copy(update={"store_url": "postgresql+psycopg://me@db/mrd"})
    with pytest.raises(UserError, match=r"lies on a disk of this machine \(ext4\), which node7 cannot see"):
        reach.check(shared, tmp_path / "runs" / "one", {"node7"})
    # On the only node there is, it can.
    reach.check(settings, tmp_path / "runs" / "one", set())


def test_sqlite_on_a_network_file_system_is_refused_wherever_the_nodes_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted(monkeypatch, {})
    for elsewhere in (set(), {"node7"}):
        with pytest.raises(UserError, match="SQLite loses what several machines write") as refused:
            reach.check(settings, tmp_path / "runs" / "one", elsewhere)
        assert "MRD_STORE_URL=postgresql" in refused.value.fix
    reach.check(settings.model_copy(update={"store_url": "postgresql+psycopg://me@db/mrd"}), tmp_path, {"node7"})


def test_an_interpreter_that_nodes_cannot_see_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted(monkeypatch, {sys.prefix: "overlay"})
    shared = settings.model_copy(update={"store_url": "postgresql+psycopg://me@db/mrd"})
    with pytest.raises(UserError, match="interpreter"):
        reach.check(shared, tmp_path / "runs" / "one", {"node7", "node8", "node9", "node10"})


def test_the_file_system_of_this_test_is_that_of_the_kernel(tmp_path: Path) -> None:
    # The last line of mountinfo whose place the path lies under, by the longest place.
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words, kind = line.split(" - ")
        found[words.split()[4]] = kind.split()[0]
    place = max((place for place in found if tmp_path.is_relative_to(place)), key=len)
    assert reach.file_system(tmp_path) == found[place]


def test_without_slurm_it_is_said_before_anything_is_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MRD_HOME", str(settings.home))
    done = ended(started("demo", "--launcher", "slurm"))
    assert done.code == 2
    assert "finds no sbatch on this machine" in done.err
    assert RunStore.open(settings).list() == []
    assert not list((settings.home / "runs").iterdir())


@pytest.mark.parametrize("wish", [(), ("--json",)], ids=["for people", "for scripts"])
def test_a_run_that_a_scheduler_takes_is_printed_with_its_job_where_json_is_asked_for(
    slurm: Programs, store: RunStore, settings: Settings, monkeypatch: pytest.MonkeyPatch, wish: tuple[str, ...]
) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-slurm.txt")
    slurm.answer("sbatch", "Submitted batch job 17\n")
    slurm.answer("squeue", "17|PENDING|Resources|\n")
    monkeypatch.setenv("MRD_HOME", str(settings.home))
    done = ended(started("score", "--model", "demo", "--forget-set", "demo", "--launcher", "slurm", *wish))
    (run,) = store.list()
    assert done.code == 0, done.err
    assert f"Run {run.id} is slurm job 17" in done.err
    job = {"run": run.id, "directory": str(run.directory), "launcher": "slurm", "job": "17", "state": "queued"}
    assert list(map(json.loads, done.out.splitlines())) == [job] * len(wish)


def failed(store: RunStore, settings: Settings) -> Run:
    """A run that failed, and what is known of it."""
    run = submitted(store, settings)
    assert store.claim(run, ProcessIdentity.current())
    moved(store, run, S.STARTING, S.RUNNING)
    error = RunError("ValueError", "The loss is no number.", "Use a smaller learning rate.", "Traceback …")
    assert store.finish(run.id, S.FAILED, error)
    return store.get(run.id)


@pytest.mark.parametrize("reason", ["finds no sbatch on this machine", "Slurm refused the job"])
def test_a_run_that_a_launcher_does_not_take_up_again_stays_as_it_was(
    slurm: Programs,
    store: RunStore,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reason: str,
) -> None:
    if reason.startswith("finds"):
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-slurm.txt")
    before = failed(store, settings)
    monkeypatch.setenv("MRD_HOME", str(settings.home))
    done = ended(started("runs", "resume", before.id, "--launcher", "slurm", "--partition", "gqu"))
    assert (done.code, reason in done.said) == (2, True)
    assert store.get(before.id) == before
    assert bool(slurm.asked("sbatch")) == reason.endswith("job")
    messages = list(store.events(before.id)["message"])
    assert messages[0] == "Resumed as attempt 2."
    assert messages[1].startswith("Attempt 2 did not begin: ")
    assert reason in messages[1]
    # Nor is it sent there again by whoever resumes it without saying where.
    assert isinstance(launcher_again(before, settings), LocalLauncher)


def test_a_run_keeps_its_figures_where_no_worker_can_be_started_to_make_its_results_anew(
    store: RunStore, settings: Settings
) -> None:
    run = submitted(store, settings)
    moved(store, run, S.STARTING, S.RUNNING)
    assert store.finish(run.id, S.SUCCEEDED, summary={"seconds": 3.5})
    before = store.get(run.id)
    # The log cannot be opened, as on a full disk.
    (run.directory / "worker.log").mkdir()
    with pytest.raises(IsADirectoryError):
        resume(run.id, store=store, launcher=LocalLauncher(settings), anew=True)
    assert store.get(run.id) == before


def test_what_is_for_jobs_alone_is_refused_here() -> None:
    with pytest.raises(ValidationError, match="gpus: only a scheduler's job has that"):
        LaunchConfig(launcher="local", gpus=1)


def test_a_launcher_of_no_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRD_LAUNCHER", "kubernetes")
    with pytest.raises(UserError, match=r"MRD_LAUNCHER=kubernetes is no launcher\. Set it to local, slurm, ray"):
        Settings.from_environment()


@pytest.mark.usefixtures("slurm")
def test_the_installation_says_where_runs_go_unless_a_run_does(settings: Settings) -> None:
    at_slurm = settings.model_copy(update={"launcher": "slurm"})
    assert launcher_of(LaunchConfig(), at_slurm).name == "slurm"
    assert isinstance(launcher_of(LaunchConfig(launcher="local"), at_slurm), LocalLauncher)
    assert reachable(settings) == ["local", "slurm"]


def test_a_run_goes_on_where_it_was_before(run: Run, settings: Settings) -> None:
    assert isinstance(launcher_again(run, settings), LocalLauncher)
    LaunchConfig(launcher="slurm", gpus=2, sbatch=("constraint=h100",)).write(run.directory)
    again = launcher_again(run, settings)
    assert (again.name, again.config.gpus, again.config.sbatch) == ("slurm", 2, ("constraint=h100",))
    assert launcher_again(run, settings, LaunchConfig(launcher="slurm", minutes=5)).config.gpus == 0


def test_a_launch_that_an_editor_of_windows_saved_is_read(run: Run) -> None:
    (run.directory / "launch.json").write_text('{"launcher": "slurm", "gpus": 2}', encoding="utf-8-sig")
    assert read_launch(run.directory) == LaunchConfig(launcher="slurm", gpus=2)


def test_a_launch_that_is_no_good_is_named(run: Run) -> None:
    (run.directory / "launch.json").write_text('{"launcher": "slurm", "gpus": -1}')
    with pytest.raises(UserError, match=r"launch\.json"):
        read_launch(run.directory)


def test_options_are_read_back_as_they_are_shown() -> None:
    config = LaunchConfig(launcher="slurm", gpus=4, memory=64, minutes=90, partition="gpu", sbatch=("qos=high",))
    words = LAUNCH.shown(config).split()[1:]
    typed = dict(zip([word.removeprefix("--") for word in words[::2]], words[1::2], strict=True))
    assert LAUNCH.read(typed | {"sbatch": [typed["sbatch"]]}) == config


def test_a_worker_knows_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_job() is None
    monkeypatch.setenv("MRD_JOB", "slurm 17")
    assert own_job() == ("slurm", "17")


def test_nodes_are_asked_for_by_partition(slurm: Programs) -> None:
    slurm.answer("sinfo", "node1.lab.example\nnode2\n")
    assert nodes("gpu") == {"node1", "node2"}
    assert slurm.asked("sinfo")[0].endswith("--partition=gpu")


def test_a_node_that_sees_another_home_or_no_locks_says_so(settings: Settings) -> None:
    with probed(settings.home) as folder:
        assert looked(folder).faults == []
        elsewhere = folder.with_name("elsewhere")
        assert "does not see" in looked(elsewhere).faults[0]
        shutil.copytree(folder, elsewhere)
        (elsewhere / "token").write_text("elsewhere")
        # Nobody holds the lock of the copy, as if locks did not reach this machine.
        assert "two workers could be at work in one run" in looked(elsewhere).faults[0]
    assert not folder.exists()
