"""Peak memory of the bare model and of scoring, each in a process of its own.

    python -m benchmarks.memory bare|scoring RUN_DIR

RUN_DIR holds the `config.json` and the samples of a run. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from benchmarks.passes import bare_pass
from mrd_core.runs import JobContext
from mrd_core.runs.directory import read_config
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.plan import Stage, load_stage, precision, prepare

Workload = Literal["bare", "scoring"]

SAMPLING_SECONDS = 0.001
# glibc gives freed memory back at once, so that what is counted was in use and is not its reserve.
NO_RESERVE = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Peak:
    """Memory [bytes].

    Attributes:
        weights: The model's weights.
        bare: Most that loading the model and passes of the bare model held at a time.
        scoring: Most that a run held at a time: loading, baseline, pilot and one unit of draws.
    """

    weights: int
    bare: int
    scoring: int


def measure_peak(directory: Path) -> Peak:
    """Run both workloads, each in a fresh process, and return their peaks."""
    bare, scoring = _in_a_process("bare", directory), _in_a_process("scoring", directory)
    return Peak(bare["weights"], bare["peak"], scoring["peak"])


def _in_a_process(workload: Workload, directory: Path) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.memory", workload, str(directory)]
    environment = os.environ | NO_RESERVE
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    figures: dict[str, int] = json.loads(answer)
    return figures


@dataclass
class _Measured:
    """Most memory that was held at a time [bytes], filled in when the measurement ends."""

    peak: int = 0


@contextmanager
def _peak_above_now() -> Iterator[_Measured]:
    """Look at this process's own memory every millisecond; what it holds already is not counted.

    Pages of files (libraries, mapped weights) are left out, because they come and go with the system's cache.
    """
    process, measured, ended = psutil.Process(), _Measured(), threading.Event()

    def held() -> int:
        memory = process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))

    before = held()

    def look() -> None:
        while not ended.wait(SAMPLING_SECONDS):
            measured.peak = max(measured.peak, held() - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield measured
    finally:
        ended.set()
        thread.join()


def _measure(workload: Workload, directory: Path) -> dict[str, int]:
    config, files = read_config(directory, ScoreConfig), ScoreFiles(directory)
    run: Callable[[ScoreConfig, ForgetSet, ScoreFiles], Stage] = _run_bare if workload == "bare" else _run_scoring
    with _peak_above_now() as measured:
        stage = run(config, ForgetSet.load(files.samples), files)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in stage.scorer.parameters())
    on_device = stage.model.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(stage.model.device) if on_device else measured.peak
    return {"weights": weights, "peak": peak}


def _run_bare(config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles) -> Stage:
    stage = load_stage(config, forget_set, None, JobContext(files.directory))
    bare_pass(stage)
    return stage


def _run_scoring(config: ScoreConfig, forget_set: ForgetSet, files: ScoreFiles) -> Stage:
    prepared = prepare(config, forget_set, files, JobContext(files.directory))
    with precision(prepared.stage.model.dtype):
        prepared.estimator(config.estimator).unit(0)
    return prepared.stage


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))  # type: ignore[arg-type]
