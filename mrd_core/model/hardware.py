"""What a model computes on, as far as it decides how results are rounded."""

from __future__ import annotations

import torch


def kind_of(device: torch.device, dtype: torch.dtype) -> str:
    """Return a name for how a device rounds: two of one name end on the same bits.

    On a GPU its model and its compute capability, on a CPU the instructions that torch uses there; with the
    precision of the passes and the version of torch.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        where = f"{torch.cuda.get_device_name(device)} ({major}.{minor})"
    else:
        where = f"a CPU with {torch.backends.cpu.get_cpu_capability()}"
    return f"{where} in {str(dtype).removeprefix('torch.')}, torch {torch.__version__}"
