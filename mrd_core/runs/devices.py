"""The devices that the runs of this machine take turns on, by name. Loads no torch."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from mrd_core.settings.configuration import RunConfig

DEVICES = Path("/dev")


def gpus() -> list[str]:
    """Return the GPUs that the NVIDIA driver shows and CUDA_VISIBLE_DEVICES leaves, as torch counts them."""
    count = sum(1 for _ in DEVICES.glob("nvidia[0-9]*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        count = min(count, sum(bool(name.strip()) for name in visible.split(",")))
    return [f"cuda:{index}" for index in range(count)]


def lock_name(device: str) -> str:
    """Return what the lock of a device of this machine is called, the same for all processes of all machines.

    Machines may share a home, and `cuda:0` is the first GPU that a process sees, whichever that is.
    """
    kind, _, number = device.partition(":")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if kind == "cuda" and number.isdecimal() and int(number) < len(visible):
        number = visible[int(number)]
    host = socket.gethostname()
    return re.sub(r"[^\w.-]", "-", "-".join(filter(None, (host, kind, number))))


def beside(device: str, config: RunConfig) -> list[str]:
    """Return the devices that a run works on besides the one that it waits for."""
    if config.device not in ("auto", "cuda") or not device.startswith("cuda"):
        return []
    return [gpu for gpu in gpus()[: config.most_gpus] if gpu != device]
