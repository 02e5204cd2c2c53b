"""How close texts are in meaning, by a sentence-embedding model such as all-MiniLM-L6-v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model.loading import explained, require_safetensors
from mrd_core.model.location import location_of

# What says how the vectors of tokens become that of a text.
MODULES = "modules.json"
# Texts between two looks at whether the run was cancelled.
TEXTS = 256


def load(source: str, device: torch.device) -> Any:
    """Load a `SentenceTransformer` from safetensors; no code that comes with it is run.

    Raises:
        UserError: sentence-transformers is not installed; the model is missing, unreachable, gated, has no
            safetensors, or is no sentence-embedding model.
    """
    folder = location_of(source, "sentence-embedding model")
    require_safetensors(folder, source)
    if not (folder / MODULES).is_file():
        # Of another model sentence-transformers would make one by taking the mean of its token vectors.
        raise UserError(
            f"The sentence-embedding model '{source}'",
            f"has no {MODULES}: it was not trained to tell how close two texts are.",
            "Choose one that sentence-transformers lists, such as sentence-transformers/all-MiniLM-L6-v2.",
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            "Accuracy by sentence embeddings",
            "needs the package sentence-transformers, which is not installed.",
            "Install it (`pip install -r requirements-embeddings.txt`), or leave --embedding-model out: accuracy "
            "is told by ROUGE-L then.",
        ) from error
    with explained(source):
        return SentenceTransformer(
            str(folder),
            device=str(device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )


def closeness(
    model: Any,
    written: Sequence[str | None],
    answers: Sequence[Sequence[str]],
    before_batch: Callable[[], None] = lambda: None,
) -> list[FloatArray]:
    """Return how close what was written is to each of its answers, cosines of shape (number of answers,).

    Args:
        model: A `SentenceTransformer`.
        written: N texts; None where nothing could be written.
        answers: Of each of them.
        before_batch: Called before each batch; raises to stop (cancellation).

    Returns:
        N arrays; NaN where nothing could be written.
    """
    texts = list(dict.fromkeys([*filter(None, written), *(text for row in answers for text in row)]))
    vectors: dict[str, FloatArray] = {}
    for begin in range(0, len(texts), TEXTS):
        before_batch()
        batch = texts[begin : begin + TEXTS]
        found = model.encode(batch, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
        vectors |= zip(batch, found.astype(np.float64), strict=True)
    return [
        np.array([vectors[text] @ vectors[answer] if text else _of_nothing(text) for answer in row])
        for text, row in zip(written, answers, strict=True)
    ]


def _of_nothing(text: str | None) -> float:
    """Return how close an empty text is to anything; NaN where none could be written."""
    return float("nan") if text is None else 0.0
