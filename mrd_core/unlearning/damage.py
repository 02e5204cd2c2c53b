"""Whether unlearning broke what was to be kept: a model that lost its retain set is no success."""

from __future__ import annotations

from math import log

# Of the retain answers' tokens, the share that the model still chooses itself (MA, relative to before).
LEAST_KEPT = 0.9
# A token of a retain answer half as probable as before [nats].
MOST_LOST = log(2)
RULE = (
    "A model counts as damaged where MA on the retain set fell by more than a tenth of what it was, or NLL rose by "
    "more than ln 2 = 0.69 nats per answer token, which halves a token's probability."
)


def is_damaged(accuracy: tuple[float, float], nll: tuple[float, float]) -> bool:
    """Return whether a model lost more of its retain set than `RULE` allows.

    Args:
        accuracy: MA on the retain set before and after unlearning.
        nll: NLL before and after [nats per answer token]; a value that is no number is a loss.
    """
    kept = accuracy[1] >= LEAST_KEPT * accuracy[0] and nll[1] - nll[0] <= MOST_LOST
    return not kept
