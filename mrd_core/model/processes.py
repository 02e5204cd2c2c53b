"""What processes that work on one run do together: they meet, hand each other what they found, and add up.

Work is cut in the same pieces however many there are, and what comes of the pieces is put together in their order.
So the numbers are those of one process.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import patch_environment
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # handed on by name alone
from torch.distributed.rendezvous import rendezvous

from mrd_core.errors import UserError
from mrd_core.runs import JobContext
from mrd_core.runs.team import LEADER, PARTING_SECONDS, PORT, WATCH_SECONDS, Followers, Parted, Seat, at_home

HERE = "127.0.0.1"
# One may measure for hours what the others wait for; whoever is gone is noticed otherwise.
NEVER = timedelta(days=30)
# How long it may take until all have found the place where their launcher lets them meet.
MEETING = timedelta(minutes=30)
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Processes that have met.

    Attributes:
        rank: This one.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes what comes of the work."""
        return self.rank == 0

    def share(self, pieces: Sequence[T]) -> Sequence[T]:
        """Return the pieces of this process: every `count`-th, beginning with its own rank."""
        return pieces[self.rank :: self.count]

    def gather(self, items: list[Any]) -> list[Any]:
        """Return what all processes hold, those of the lowest rank first.

        Raises:
            Parted: Another process is gone.
        """
        if self.count == 1:
            return items
        held: list[list[Any]] = [[] for _ in range(self.count)]
        with _met():
            distributed.all_gather_object(held, items)
        return [item for of_one in held for item in of_one]

    def hand_out(self, tensor: Tensor, rank: int) -> None:
        """Write what the process of this rank holds in a contiguous tensor over that of every other one.

        Raises:
            Parted: Another process is gone.
        """
        with _met():
            distributed.broadcast(tensor, rank)

    def wait(self) -> None:
        """Return when all processes are here.

        Raises:
            Parted: Another process is gone.
        """
        self.gather([])


ALONE = Processes()


@contextmanager
def _met() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Parted(str(error)) from error


@dataclass(frozen=True)
class Team:
    """The processes of a run before they meet.

    Attributes:
        seat: Of this one.
        device: That of this one, as it is configured.
        store: Where they meet; None where their launcher knows the place.
        followers: Those that this process has started; None without.
    """

    seat: Seat
    device: str
    store: Any = None
    followers: Followers | None = None

    @property
    def leads(self) -> bool:
        """Whether this process is the worker of the run."""
        return self.seat.leads

    def await_file(self, path: Path) -> None:
        """Return when the leader has written this file."""
        while not path.exists():
            time.sleep(WATCH_SECONDS)

    def require_one_device(self, network: Any) -> None:
        """Refuse a model that lies on several devices, which are the other processes' own.

        Raises:
            UserError: It does.
        """
        places = set((getattr(network, "hf_device_map", None) or {}).values())
        if self.seat.count > 1 and len(places) > 1:
            raise UserError(
                "The model",
                f"does not fit on one GPU, and each of the {self.seat.count} processes has a single one.",
                "Use one process (--processes 1): it spreads the model over all GPUs.",
            )

    def meet(self, context: JobContext) -> Processes:
        """Wait for the others, and return them.

        Raises:
            UserError: One of them ended before.
            Cancelled: The run was asked to stop.
        """
        rank, count = self.seat.rank, self.seat.count
        if count == 1:
            return ALONE
        with _met():
            store = self.store or next(iter(rendezvous("env://", timeout=MEETING)))[0]
        if self.leads:
            arrivals = [_arrival(other) for other in range(1, count)]
            while not store.check(arrivals):
                context.check_cancelled()
                if self.followers:
                    self.followers.require()
                time.sleep(WATCH_SECONDS / 5)
        else:
            store.set(_arrival(rank), "")
        store.set_timeout(NEVER)
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(self.device)
        with _met(), patch_environment(**(at_home() if self.followers else {})):
            distributed.init_process_group(
                # What is no tensor goes by the CPU.
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=store,
                rank=rank,
                world_size=count,
                timeout=NEVER,
            )
        if on_gpu and self.followers:
            self.followers.watch()
        return Processes(rank, count)


@contextmanager
def team(wanted: int, directory: Path, device: str) -> Iterator[Team]:
    """Lend the processes of a run, which this one may be one of already; those it starts end with the block.

    Args:
        wanted: How many, where nobody has started them.
        directory: Of the run.
        device: As it is configured.

    Raises:
        UserError: There are not as many GPUs, or one of the processes ended before its time.
    """
    seat = Seat.own(wanted)
    device = device_of(seat, device)
    followers = store = None
    if seat.count > 1 and not seat.started:
        store, port = _meeting_place()
        followers = Followers(directory, seat.count, port)
    elif LEADER in os.environ:
        store = TCPStore(HERE, int(os.environ[PORT]), is_master=False, timeout=NEVER)
    patience = 0.0
    try:
        yield Team(seat, device, store, followers)
        patience = PARTING_SECONDS
    except Parted as parted:
        if followers:
            followers.require(PARTING_SECONDS)
        if not seat.leads:
            raise
        raise UserError(
            f"One of the {seat.count} processes that work on this run",
            "is gone.",
            "Its launcher has its last words. Put the cause right and resume the run: it goes on where it was.",
        ) from parted
    finally:
        if followers:
            followers.end(patience)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def device_of(seat: Seat, wanted: str) -> str:
    """Return the device of a process, given the one that is configured: of several each has a GPU of its own.

    Raises:
        UserError: There are not as many GPUs, or a single one is asked for by its number.
    """
    if seat.count == 1 or wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return wanted
    if wanted not in ("auto", "cuda"):
        raise UserError(
            f"The device '{wanted}'",
            f"is one, and {seat.count} processes take one each.",
            "Use --device auto (or cuda, cpu), and choose among the GPUs with CUDA_VISIBLE_DEVICES.",
        )
    # Those on other machines count theirs.
    needed = seat.local + 1 if seat.started else seat.count
    if needed > torch.cuda.device_count():
        raise UserError(
            f"Working with {seat.count} processes",
            f"takes a GPU for each, and torch sees {torch.cuda.device_count()}.",
            "Use fewer (--processes), or --device cpu.",
        )
    return f"cuda:{seat.local}"


def _meeting_place() -> tuple[Any, int]:
    """Return a store that only processes of this machine reach, and its port."""
    listening = socket.socket()
    listening.bind((HERE, 0))
    listening.listen()
    port: int = listening.getsockname()[1]
    store = TCPStore(
        HERE, port, is_master=True, wait_for_workers=False, timeout=NEVER, master_listen_fd=listening.detach()
    )
    return store, port


def _arrival(rank: int) -> str:
    return f"arrived/{rank}"
