"""What a suite declares: how its sets are read, how they are asked, and what else a form asks for it.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrd_core.evaluation.sets import Kind, Sets

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig

# As OpenUnlearning sets it.
USUAL_MAX_NEW_TOKENS = 200


@dataclass(frozen=True)
class Suite:
    """A suite: a module of `mrd_core.evaluation.suites` has it as `SUITE`.

    Attributes:
        title: For people.
        kind: How its forget sets are asked; the columns of a comparison are those of this kind.
        load: Reads its sets.
        data: What `data` may be, in a sentence.
        fields: Settings that a form asks for this suite beside those of all.
        tasks: Tasks of lm-evaluation-harness that fit, with commas between them; "" where none do.
        max_new_tokens: Most tokens that the model writes for a sample where nothing else is set.
    """

    title: str
    kind: Kind
    load: Callable[[EvaluateConfig], Sets]
    data: str
    fields: tuple[str, ...] = ()
    tasks: str = ""
    max_new_tokens: int = USUAL_MAX_NEW_TOKENS
