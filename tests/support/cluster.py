"""A Slurm of the tests' own: one node, on the loopback interface, ended with the test session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
PATIENCE = 30.0
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
JobRequeue=1
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm.

    Attributes:
        folder: Where it keeps its state.
        host: Name of its node.
    """

    folder: Path
    host: str

    @property
    def variables(self) -> dict[str, str]:
        """What its commands need to find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Return what one of its commands prints."""
        done = subprocess.run(command, env=os.environ | self.variables, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Return the state of a job in Slurm's words; "" where it has forgotten it."""
        said = self.ask("squeue", "--noheader", "--states=all", "--format=%F %T").splitlines()
        return next((line.split()[1] for line in said if line.split()[0] == job), "")

    def clear(self) -> None:
        """Cancel what is left, and put the node back to work."""
        self.ask("scancel", f"--user={os.environ.get('USER', 'root')}")
        with suppress(subprocess.CalledProcessError):
            self.ask("scontrol", "update", f"NodeName={self.host}", "State=RESUME")
        _until(lambda: not self.ask("squeue", "--noheader"), "the queue is empty")


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start a cluster in a folder; the test is skipped with the reason where that is not possible."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no Slurm here: {', '.join(missing)} not installed (apt-get install slurm-wlm munge)")
    if os.getuid() != 0:
        pytest.skip("a Slurm of the tests' own is started by root")
    host = socket.gethostname().partition(".")[0]
    cluster = Cluster(folder, host)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    text = CONFIGURATION.format(
        host=host, folder=folder, controller=free_port(), node=free_port(), cores=psutil.cpu_count()
    )
    (folder / "slurm.conf").write_text(text.lstrip())
    daemons = [_munge(folder), *(_daemon(name, folder, cluster) for name in ("slurmctld", "slurmd"))]
    try:
        idle = ("sinfo", "--noheader", "--partition=main", "--format=%t")
        _until(lambda: _quietly(cluster, *idle) == "idle", f"the node is idle; see {folder}")
        yield cluster
    finally:
        with suppress(subprocess.CalledProcessError):
            cluster.ask("scancel", "--user=root")
        for daemon in reversed(daemons):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(PATIENCE)
            daemon.kill()


def _munge(folder: Path) -> subprocess.Popen[bytes]:
    """Start the service that Slurm trusts its users by, with a key of its own."""
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    options = {
        "--socket": folder / "munge.socket",
        "--key-file": key,
        "--pid-file": folder / "munge" / "pid",
        "--seed-file": folder / "munge" / "seed",
        "--log-file": folder / "munge" / "log",
    }
    words = [f"{name}={value}" for name, value in options.items()]
    # Its socket lies in a folder that others can write to, as temporary folders do.
    daemon = subprocess.Popen(["munged", "--foreground", "--force", *words])
    _until((folder / "munge.socket").exists, "munge listens")
    return daemon


def _daemon(name: str, folder: Path, cluster: Cluster) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen([name, "-D"], env=os.environ | cluster.variables, stdout=out, stderr=out)


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _quietly(cluster: Cluster, *command: str) -> str:
    with suppress(subprocess.CalledProcessError):
        return cluster.ask(*command)
    return ""


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.1)
