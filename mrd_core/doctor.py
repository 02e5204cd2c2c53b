"""What this installation runs on, and why it chose so."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import NamedTuple

import psutil
import torch

from mrd_core import __version__
from mrd_core.model import loading as models
from mrd_core.runs import RunStore
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.plan import workers_and_threads
from mrd_core.settings.installation import Settings

PACKAGES = ("torch", "transformers", "datasets", "peft", "pandas", "streamlit", "plotly")


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    value: str
    why: str


def findings(settings: Settings) -> list[Finding]:
    """Return versions, device, dtype, threads, memory and store, each with the reason of the choice."""
    device, device_choice = models.choose_device("auto")
    dtype, dtype_choice = models.choose_dtype("auto", device, torch.bfloat16)
    workers, threads = workers_and_threads(EstimatorConfig(), device)
    store = RunStore.open(settings)
    return [
        Finding("mrd-lens", __version__, ""),
        Finding("python", platform.python_version(), platform.platform()),
        *(Finding(package, version(package), "") for package in PACKAGES),
        Finding("device", device_choice.value, device_choice.reason),
        Finding("dtype", models.name_of(dtype), f"for a model stored in bfloat16: {dtype_choice.reason}"),
        Finding("workers", str(workers), _workers_reason(device)),
        Finding("threads", f"{threads} a worker", f"{models.cores()} core(s) shared by the workers"),
        Finding("memory", f"{models.free_bytes(device) / 2**30:.1f} GiB free", f"on {device}"),
        Finding("RAM", f"{psutil.virtual_memory().total / 2**30:.1f} GiB", ""),
        Finding("home", str(settings.home), "MRD_HOME, or ~/.mrd-lens"),
        Finding("store", settings.store_url, f"MRD_STORE_URL, or SQLite in the home; {len(store.list())} run(s)"),
        Finding("upload limit", f"{settings.upload_limit_mb} MB", "MRD_UPLOAD_LIMIT_MB, or 50"),
        Finding(
            "allowed roots",
            ", ".join(map(str, settings.allowed_roots)),
            "MRD_ALLOWED_ROOTS; for paths typed in pages",
        ),
    ]


def _workers_reason(device: torch.device) -> str:
    if device.type == "cuda":
        return "one process keeps a GPU busy"
    return f"processes beat threads on a CPU; up to {models.cores()} core(s)"
