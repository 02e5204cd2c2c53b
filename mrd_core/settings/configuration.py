"""What can be set, declared once: default, unit and help, for the command line, the pages and the documentation.

Every configuration is frozen and refuses unknown keys, so that a `config.json` read back is either the run
that was launched or an error.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all configurations: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_asked(self) -> Self:
        """Return the configuration without what follows from the runs that it builds on."""
        return self


class Choice(NamedTuple):
    """A setting that was decided automatically or as asked, and why."""

    value: str
    reason: str

    @property
    def stated(self) -> str:
        """The value with its reason in brackets."""
        return f"{self.value} ({self.reason})"


# The queue of runs that read texts and no model.
WITHOUT_MODEL = "texts"


class RunConfig(Frozen):
    """What a run does: `config.json` of its directory. Each kind of run has its own."""

    kind: str

    @property
    def device(self) -> str:
        """The device that the run waits for, as it was configured: that of its model.

        A run without a model waits for others of that kind alone, and not for hours of unlearning.
        """
        return str(getattr(getattr(self, "model", None), "device", WITHOUT_MODEL))

    @property
    def most_gpus(self) -> int | None:
        """How many GPUs of its machine it works on where its device names none of them; None: all."""
        return int(getattr(self, "processes", 1))

    @property
    def title(self) -> str:
        """A title for people."""
        return self.kind.capitalize()
