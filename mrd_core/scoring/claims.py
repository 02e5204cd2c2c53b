"""Who draws which unit of a score run: claims that processes of any number of machines take and inherit.

A claim is a lease on a unit: a file that names its holder, who touches it while it draws. Of a holder of this
system the process is looked at; one of another system is there while its last touch is fresh by the clock of the
file system, since those of machines differ. A lease that was abandoned stays where it is, and whoever makes the
file of the next generation first has inherited the unit: of two only one can, and nobody takes a living claim away
by mistake. Only time rests on it: a unit that is drawn twice comes out the same. Loads no torch.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from mrd_core.runs.files import write_atomically
from mrd_core.runs.liveness import ProcessIdentity, process_exists, system
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.schedule import UnitKey

# A holder touches its lease so often; on another system it is gone when it has not for so long [s].
HEARTBEAT, LEASE = 2.0, 20.0
# From one look at a lease to the next [s], and how many leases are looked at after one listing.
LOOK_AGAIN, MOST_LOOKS = 1.0, 4
# While nothing changes, from one listing to the next, at first and at most [s].
SHORTEST, LONGEST = 0.05, 1.0
# When a lease was touched that its holder gave up.
GIVEN_UP = 0.0
ENDING = ".claim"


def time_in(folder: Path) -> float:
    """Return the time by the clock that dates the files of a folder [s since the epoch]."""
    clock = folder / "clock"
    clock.touch()
    return clock.stat().st_mtime


@dataclass(frozen=True)
class Lease:
    """A file that says which process holds something, for as long as it is touched.

    Attributes:
        path: The file.
    """

    path: Path

    def take(self) -> bool:
        """Make the file, and tell whether this process was the first to do so."""
        try:
            with self.path.open("x", encoding="utf-8") as stream:
                stream.write(_own_name())
        except FileExistsError:
            return False
        return True

    def replace(self) -> None:
        """Make the file in the place of any other."""
        write_atomically(self.path, lambda stream: stream.write(_own_name().encode()))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Touch it within; where what is done there ends early, give it up."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                # It goes with the directory of a run, and a network may be away for a moment.
                with suppress(OSError):
                    os.utime(self.path)

        thread = threading.Thread(target=beat, name=f"lease-{self.path.name}", daemon=True)
        thread.start()
        done = False
        try:
            yield
            done = True
        finally:
            ended.set()
            thread.join()
            if not done:
                with suppress(OSError):
                    os.utime(self.path, (GIVEN_UP, GIVEN_UP))

    @property
    def holder(self) -> ProcessIdentity | None:
        """Who holds it; None where it is not there, or its holder has not written its name yet."""
        try:
            return _name_in(self.path.read_text(encoding="utf-8"))
        except OSError:
            return None

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody holds it, or its holder is gone."""
        try:
            # An open file's dates are fresh on a network file system, too.
            with self.path.open(encoding="utf-8") as stream:
                touched, holder = os.fstat(stream.fileno()).st_mtime, _name_in(stream.read())
            if touched == GIVEN_UP:
                return True
            if holder and holder.system == system():
                return not process_exists(holder.pid, holder.started)
            return time_in(self.path.parent) - touched > LEASE
        except FileNotFoundError:
            return True


def _own_name() -> str:
    return json.dumps(asdict(ProcessIdentity.current()))


def _name_in(text: str) -> ProcessIdentity | None:
    try:
        return ProcessIdentity(**json.loads(text))
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Standing:
    """What has become of the units, from one listing of their folder.

    Attributes:
        finished: Stems of the units that are drawn.
        claims: Of each unit that somebody claimed the newest generation of claims, by stem.
    """

    finished: frozenset[str]
    claims: dict[str, int]

    @classmethod
    def of(cls, folder: Path) -> Standing:
        """List a folder of units; one that is gone is empty."""
        finished: set[str] = set()
        claims: dict[str, int] = {}
        with suppress(FileNotFoundError):
            # Names alone: of thousands of entries that is half of the time.
            for name in os.listdir(folder):  # noqa: PTH208
                if name.endswith(".npz"):
                    finished.add(name.removesuffix(".npz"))
                elif name.endswith(ENDING):
                    stem, _, generation = name.removesuffix(ENDING).partition(".")
                    # Claims of earlier versions have none.
                    if generation.isdecimal():
                        claims[stem] = max(claims.get(stem, 0), int(generation))
        return cls(frozenset(finished), claims)


class Pause:
    """Waits from one look at something to the next, the longer the longer it has been the same."""

    def __init__(self) -> None:
        self._before: object = None
        self._seconds = SHORTEST

    def __call__(self, look: object) -> None:
        """Sleep; `look` is what was seen."""
        self._seconds = min(2 * self._seconds, LONGEST) if look == self._before else SHORTEST
        self._before = look
        time.sleep(self._seconds)


class Claims:
    """The claims on the units of a run, as one of the processes that draw them sees them.

    Args:
        files: Of the run.
        arrays: Draws a unit: what its file holds.
    """

    def __init__(self, files: ScoreFiles, arrays: Callable[[UnitKey], dict[str, Any]]) -> None:
        self._files = files
        self._arrays = arrays
        self._looks: dict[UnitKey, float] = {}
        self._left = 0
        self._pause = Pause()

    def draw(self, wanted: Iterable[UnitKey], ahead: Iterable[UnitKey] = ()) -> bool:
        """Draw the first unit that is nobody's, or wait a moment where there is none; tell whether there was one.

        Args:
            wanted: Units in the order of their urgency; abandoned ones are inherited.
            ahead: Units that nobody may want in the end.
        """
        standing = Standing.of(self._files.units)
        lease, key = self._taken(standing, wanted, ahead)
        if key is None or lease is None:
            self._pause(standing)
            return False
        with lease.kept():
            content = self._arrays(key)
            write_atomically(self._files.unit(key), partial(np.savez, **content))
        return True

    def _taken(
        self, standing: Standing, wanted: Iterable[UnitKey], ahead: Iterable[UnitKey]
    ) -> tuple[Lease, UnitKey] | tuple[None, None]:
        begun: list[tuple[Lease, UnitKey]] = []
        self._left = MOST_LOOKS
        for key, is_wanted in chain(zip(wanted, repeat(True)), zip(ahead, repeat(False))):
            if key.stem in standing.finished:
                continue
            generation = standing.claims.get(key.stem)
            lease = Lease(self._files.claim(key, 0 if generation is None else generation + 1))
            if generation is None:
                if lease.take():
                    return lease, key
            elif not is_wanted:
                begun.append((lease, key))
            elif self._inherits(lease, key, generation):
                return lease, key
        # Nobody waits for those, but there is nothing else to do.
        for lease, key in sorted(begun, key=lambda each: self._looks.get(each[1], 0.0)):
            if self._inherits(lease, key, standing.claims[key.stem]):
                return lease, key
        return None, None

    def _inherits(self, lease: Lease, key: UnitKey, generation: int) -> bool:
        """Take the lease of the next generation where that of this one is abandoned."""
        now = time.monotonic()
        # Not each is looked at each time.
        if not self._left or now - self._looks.get(key, -LOOK_AGAIN) < LOOK_AGAIN:
            return False
        self._left -= 1
        self._looks[key] = now
        before = Lease(self._files.claim(key, generation))
        # Whoever held it may have finished the unit just before it ended.
        return before.is_abandoned and lease.take() and not self._files.unit(key).exists()
