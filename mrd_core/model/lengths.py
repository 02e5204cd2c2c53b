"""How long a text may be for a model, and where the model begins to read texts otherwise."""

from __future__ import annotations

from math import inf
from typing import Any

# Families differ in what they call it.
CONTEXT_NAMES = ("max_position_embeddings", "max_seq_len", "context_length")


def context_of(config: Any) -> float:
    """Return the longest text that a model takes [tokens]; infinite where its configuration does not say.

    Rotary frequencies of the type `dynamic` depend, beyond the length they were trained for, on what else was read
    before: there the context ends.
    """
    text = config.get_text_config()
    named = [getattr(text, name, None) for name in CONTEXT_NAMES]
    context: float = next((length for length in named if length and length > 0), inf)
    return min([context, *(length for kind, length in _trained_lengths(text) if kind == "dynamic")])


def rope_switch(config: Any) -> float:
    """Return the longest text [tokens] that a model reads with the rotary frequencies of short texts.

    The longest text of a batch decides for all of it (`longrope`, Phi-3 and 4), so texts on both sides of this
    length share no batch. Infinite where there is one set of frequencies.
    """
    return min(
        (length for kind, length in _trained_lengths(config.get_text_config()) if kind == "longrope"), default=inf
    )


def _trained_lengths(text_config: Any) -> list[tuple[str, float]]:
    """Return type and trained length of each set of rotary parameters; there may be one for each kind of layer."""
    parameters = getattr(text_config, "rope_parameters", None) or {}
    sets = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    lengths = []
    for each in sets:
        length = each.get("original_max_position_embeddings") or getattr(
            text_config, "original_max_position_embeddings", None
        )
        if length:
            lengths.append((str(each.get("rope_type", "")), float(length)))
    return lengths
