"""Does the model know its forget set in another form than the one that is asked for?

MRD measures how firmly texts are remembered. In a form that the model was not trained on, with another template or
under a foreign system line, it remembers little, and what is measured is something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from mrd_core.errors import UserError
from mrd_core.model.encoder import Encoder, choose_template
from mrd_core.model.memorization import measure_memorization
from mrd_core.model.reader import Reader
from mrd_core.samples import ForgetSet, evenly_spaced

MOST_SAMPLES = 16
# Another form is much likelier where an answer token costs it less than half, and this much less [nats].
RATIO, LEAST_DIFFERENCE = 2.0, 0.05


def likelier_form(reader: Reader, encoder: Encoder, forget_set: ForgetSet) -> str | None:
    """Return a sentence where a few answers are much likelier in another form; None where they are not."""
    frame = forget_set.frame[forget_set.frame["prompt"] != ""]
    frame = frame.iloc[evenly_spaced(len(frame), MOST_SAMPLES)] if len(frame) else frame
    costs = {name: _cost(reader, form, frame) for name, form in _forms(encoder)} if len(frame) else {}
    if not costs:
        return None
    own = _cost(reader, encoder, frame)
    best = min(costs, key=costs.__getitem__)
    if not (own > RATIO * costs[best] and own - costs[best] > LEAST_DIFFERENCE):
        return None
    return (
        f"The answers are much likelier {best}: over {len(frame)} samples the mean log p of a token is "
        f"{-costs[best]:.3f} nats there, and {-own:.3f} in the form that is scored. The model may have been "
        "trained in that form."
    )


def _forms(encoder: Encoder) -> Iterator[tuple[str, Encoder]]:
    """Yield the other forms by name."""
    if encoder.template.value == "chat":
        yield (
            "as plain text (--template plain)",
            replace(encoder, template=choose_template(encoder.tokenizer, "plain")),
        )
        if encoder.system is None:
            yield 'without a system line (--system "")', replace(encoder, system="")
        else:
            yield "without that system line (leave --system out)", replace(encoder, system=None)
    elif encoder.tokenizer.chat_template:
        chat = replace(encoder, template=choose_template(encoder.tokenizer, "chat"))
        yield "in the chat template (--template chat)", chat


def _cost(reader: Reader, encoder: Encoder, frame: pd.DataFrame) -> float:
    """Return the mean NLL of an answer token [nats]; infinite where the form cannot be had."""
    try:
        encoded = replace(encoder, stored={}).pairs(frame["prompt"], frame["answer"], frame["sample_id"])
    except UserError:
        return np.inf
    return float(np.nanmean(measure_memorization(reader, encoded).nll))
