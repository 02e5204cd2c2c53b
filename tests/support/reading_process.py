"""A process that does nothing but read files, so that what reading costs can be told from what being there costs.

`python -m tests.support.reading_process` answers each file on its input, a line of JSON (`name`, `length`) before
its bytes, with a line of JSON: `outcome`, and `peak` as the growth of its memory since it was idle [bytes].
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mrd_core.errors import UserError
from mrd_core.samples import read_upload
from mrd_core.samples.config import ForgetSetConfig
from tests.conftest import REPOSITORY

LIMIT_BYTES = 50_000_000
# Of a core for one file, after which the system ends the process; on the clock it may take longer beside others.
LIMIT_SECONDS, PATIENCE_SECONDS = 10, 120
# Beyond what is asserted, so that a fault does not take the machine with it.
ADDRESS_SPACE = 8 * 2**30


class Reply(NamedTuple):
    """What became of a file.

    Attributes:
        outcome: `rows`, `refused`, the traceback of another error, or how the process ended.
        peak: How much memory the process has ever had more than when it was idle [bytes].
    """

    outcome: str
    peak: int


class ReadingProcess:
    """Reads files one by one; a new process takes over from one that was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str, data: bytes) -> Reply:
        """Return what becomes of a file of that name."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=REPOSITORY,
            )
        process = self._process
        assert process.stdin
        assert process.stdout
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        process.stdin.write(json.dumps({"name": name, "length": len(data)}).encode() + b"\n" + data)
        process.stdin.flush()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            self._process = None
            return Reply(f"ended by signal {-process.wait()}", 0)
        return Reply(**json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait()


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _outcome(name: str, data: bytes) -> str:
    try:
        read_upload(name, data, ForgetSetConfig(source=name, invalid_rows="skip"), limit_bytes=LIMIT_BYTES)
    except UserError as error:
        # What is said must be printable, too.
        str(error).encode()
        return "refused"
    except BaseException:  # whatever it is, it should have been explained
        return traceback.format_exc()
    return "rows"


def _serve(files: BinaryIO) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    _outcome("a.jsonl", b'{"text": "Everything that is needed is imported by now."}')
    _outcome("a.csv", b"text\na\n")
    idle = _status("VmRSS")
    for line in files:
        file: dict[str, Any] = json.loads(line)
        data = files.read(file["length"])
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        outcome = _outcome(file["name"], data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"outcome": outcome, "peak": _status("VmHWM") - idle}), flush=True)


if __name__ == "__main__":
    _serve(sys.stdin.buffer)
