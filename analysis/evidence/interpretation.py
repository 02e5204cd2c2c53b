"""How an experiment is read: the question that it answers, and what its rows show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.evidence.measurements import Measurements


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence(ABC):
    """What an experiment shows.

    Attributes:
        verdict: The answer in a sentence or two.
        findings: Sentences behind it, with their intervals: one for each thing that was compared.
        caveats: Sentences on why it may not be trusted or carried over, from what was measured.
        paper: What the paper found, in one sentence.
        elsewhere: What other models showed of it: of `analysis.elsewhere`.
    """

    verdict: str
    findings: tuple[str, ...]
    caveats: tuple[str, ...]
    paper: str
    elsewhere: str

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every frame by its name, flat: what the exports hold, in the order in which a kind declares them."""
        return {name: frame for name, frame in vars(self).items() if isinstance(frame, pd.DataFrame)}

    @property
    @abstractmethod
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """The tables that carry the verdict by their titles, every cell a text; none before there is anything."""


@dataclass(frozen=True)
class Interpretation:
    """How an experiment is read: a module of `analysis.evidence.kinds` has it as `INTERPRETATION`.

    Attributes:
        title: Of the experiment, for people.
        question: What it answers.
        procedure: What is done, in a sentence or two.
        evidence: Makes what is shown of what has been measured so far.
    """

    title: str
    question: str
    procedure: str
    evidence: Callable[[Measurements], Evidence]
