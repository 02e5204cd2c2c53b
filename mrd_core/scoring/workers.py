"""The processes of one machine that draw a score run: how many, where, and with how many threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.cost import MOST_WORKERS


@dataclass(frozen=True)
class Workers:
    """Processes that draw.

    Attributes:
        devices: Where each of them draws; the first is the one that starts the others.
        threads: Of torch, in each.
        reason: Why so many.
    """

    devices: tuple[torch.device, ...]
    threads: int
    reason: str

    @property
    def stated(self) -> str:
        """Their number with its reason, for people."""
        return f"{len(self.devices)}, {self.threads} thread(s) each: {self.reason}"

    @classmethod
    def of(cls, config: EstimatorConfig, model: ModelConfig) -> Workers:
        """Return the processes of a run.

        Threads follow from the machine alone and not from the number of processes, so that this number never
        changes a bit of the result. On a CPU several processes beat several threads; a GPU is kept busy by one.

        Raises:
            UserError: The device is not there, or more processes are asked for than there are GPUs.
        """
        devices = models.devices(model.device)
        cores = models.cores()
        if devices[0].type == "cpu":
            automatic = min(cores, MOST_WORKERS)
            count = automatic if config.workers == "auto" else config.workers
            reason = f"processes beat threads on a CPU of {cores} core(s)"
            return cls(devices * count, max(1, cores // automatic), reason)
        # Others of the machine would end on other bits.
        name = torch.cuda.get_device_name(devices[0])
        devices = tuple(device for device in devices if torch.cuda.get_device_name(device) == name)
        threads = max(1, cores // len(devices))
        if models.is_spread(model):
            return cls(devices[:1], threads, f"the model lies on all {len(devices)} GPUs")
        count = len(devices) if config.workers == "auto" else config.workers
        if count > len(devices):
            raise UserError(
                f"{count} workers",
                f"are more than the {len(devices)} GPU(s) of --device {model.device}: several on one GPU take "
                "turns there and gain nothing.",
                "Leave --workers out, or ask for as many as there are GPUs.",
            )
        return cls(devices[:count], threads, f"one keeps a GPU busy, and there are {len(devices)} of {name}")
