"""A model's body as one compiled graph, for passes that are many enough to pay for its compilation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from mrd_core.model.head import answering
from mrd_core.model.likelihood import Scorer

Compiled = Callable[[], AbstractContextManager[None]]


def compiled(scorer: Scorer) -> Compiled:
    """Return what puts a compiled body in the place of the model's own, within; it is compiled when first called.

    Of any number of samples and any length it is one graph. Weights are its inputs, so noise may take their place.
    """
    body = scorer.body
    graph: Callable[..., Any] = torch.compile(body.forward, dynamic=True)
    return lambda: answering(body, graph)


def obstacle(body: Compiled, one_pass: Callable[[], object]) -> str | None:
    """Return why the body cannot be compiled, from a pass with it; None where it can."""
    try:
        with body():
            one_pass()
    # The compiler's own errors and those of the graph are of this kind.
    except RuntimeError as error:
        return str(error).strip().partition("\n")[0]
    return None
