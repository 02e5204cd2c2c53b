"""Which variants of a test are for the gate, and which for the full run alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few_in_the_gate(names: Iterable[str], *in_the_gate: str) -> list[Any]:
    """Return the names as parameters of a test, in order; all but those of the gate are marked long."""
    return [name if name in in_the_gate else pytest.param(name, marks=pytest.mark.long) for name in sorted(names)]
