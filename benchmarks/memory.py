"""Peak memory of the bare model and of scoring, each in a process of its own.

    python -m benchmarks.memory bare|scoring RUN_DIR

RUN_DIR holds the `config.json` and the samples of a run. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from benchmarks.passes import bare_pass
from mrd_core.config import ScoreConfig
from mrd_core.runs import JobContext
from mrd_core.runs.directory import read_config
from mrd_core.samples import ForgetSet
from mrd_core.scoring.files import RunFiles
from mrd_core.scoring.plan import Stage, load_stage, precision, prepare

Workload = Literal["bare", "scoring"]


@dataclass(frozen=True)
class Peak:
    """Memory of one process [bytes].

    Attributes:
        weights: The model's weights.
        peak: Most that was held at a time, less what the interpreter and its libraries held before.
    """

    weights: int
    peak: int


def peak_of(workload: Workload, directory: Path) -> Peak:
    """Run the workload in a fresh process and return its peak.

    On Linux a new process starts with the peak of the one that started it, so this has to be called before a
    model is loaded here.
    """
    command = [sys.executable, "-m", "benchmarks.memory", workload, str(directory)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Peak(**json.loads(answer))


def _measure(workload: Workload, directory: Path) -> Peak:
    config, files = read_config(directory), RunFiles(directory)
    forget_set = ForgetSet.load(files.samples)
    before = psutil.Process().memory_info().rss
    stage = (_run_bare if workload == "bare" else _run_scoring)(config, forget_set, files)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in stage.scorer.parameters())
    if stage.model.device.type == "cuda":
        return Peak(weights, torch.cuda.max_memory_allocated(stage.model.device))
    return Peak(weights, _peak_resident() - before)


def _run_bare(config: ScoreConfig, forget_set: ForgetSet, files: RunFiles) -> Stage:
    stage = load_stage(config, forget_set, JobContext(files.directory))
    bare_pass(stage)
    return stage


def _run_scoring(config: ScoreConfig, forget_set: ForgetSet, files: RunFiles) -> Stage:
    """Plan (baseline and pilot included) and draw one unit."""
    prepared = prepare(config, forget_set, files, JobContext(files.directory))
    with precision(prepared.stage.model.dtype):
        prepared.estimator(config.estimator).unit(0)
    return prepared.stage


def _peak_resident() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(sys.argv[1], Path(sys.argv[2])))))  # type: ignore[arg-type]
