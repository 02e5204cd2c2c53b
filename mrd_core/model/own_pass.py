"""A loaded model held against its own forward pass, before any number comes from it.

Texts go through the body without a mask, in padded batches, and through the head in chunks; a layer's weights
are there while it runs. That this is what the model means by p(token | tokens before) is checked for every model
that is loaded, whatever for, on a few tokens of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrd_core.errors import UserError
from mrd_core.model.encoding import padded, padding_mask
from mrd_core.model.lengths import context_of, rope_switch
from mrd_core.model.likelihood import Scorer, target_log_probs
from mrd_core.model.location import brief
from mrd_core.model.perturbation import streamed
from mrd_core.model.reader import is_out_of_memory

# Lengths of the texts that are read, long enough for a chunk or a window of the tiniest model.
LENGTHS = (24, 9)
# Relative, for each log p: rounding in fp32 is a hundred times smaller, a scale or a cap of the logits far larger.
TOLERANCE = 1e-3


def require_own_log_probs(network: Any, device: torch.device) -> None:
    """Hold log p of random tokens and of the likeliest ones against the model's own masked pass, text by text.

    Both are taken in fp32 or finer, one layer at a time, whatever the precision of the weights.

    Raises:
        UserError: They differ: the model is not causal, or reads weights or texts in a way that is not known here.
            Or it takes more than a text.
    """
    model = f"The model {type(network).__name__}"
    try:
        difference = _difference(network, device)
    # Whatever a model's own code raises.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            model,
            f"gives no log-probabilities of a text alone as this program asks for them: {type(error).__name__}: "
            f"{brief(error)}",
            "Choose a decoder-only language model, which takes nothing but a text.",
        ) from error
    # NaN, of a weight that is read where its layer does not run, is no agreement.
    if not difference <= TOLERANCE:
        raise UserError(
            model,
            f"gives log-probabilities that differ by {difference:.2g} of their size from those of its own pass, "
            "so it is no causal language model as this program reads them.",
            "Choose a decoder-only model, in which no token sees those behind it.",
        )


@torch.no_grad()
def _difference(network: Any, device: torch.device) -> float:
    """Return by how much of their size log-probabilities differ from those of a model's own pass, at most."""
    scorer = Scorer(network)
    dtype = torch.promote_types(next(network.parameters()).dtype, torch.float32)

    def finer(_name: str, weight: Tensor) -> Tensor:
        return weight.to(dtype)

    words = network.get_input_embeddings().weight.shape[0]
    most = min(context_of(network.config), rope_switch(network.config))
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, words, int(min(length, most))) for length in LENGTHS]
    with streamed(network, finer):
        # Each text alone, as nobody could misread it.
        own = torch.cat([_own_logits(network, torch.from_numpy(text).to(device)) for text in texts])
    # The padding differs from anything that it could stand for: a model that looks ahead cannot miss it.
    ids = torch.from_numpy(padded(texts, filling=int(texts[1][0]))).to(device)
    inside = torch.from_numpy(padding_mask(texts))
    differences = []
    with streamed(scorer, finer):
        hidden = scorer.body(input_ids=ids, use_cache=False).last_hidden_state
        hidden = hidden[inside.to(hidden.device)]
        # The likeliest token shows what scales or caps the logits, any other what shifts them.
        for targets in (own.argmax(1), (own.argmax(1) + 1) % own.shape[1]):
            expected = target_log_probs(own.double().clone(), targets)
            log_probs = scorer.head(hidden, targets.to(hidden.device)).double().to(expected.device)
            differences.append(((log_probs - expected) / expected).abs().max())
    return float(torch.stack(differences).max())


def _own_logits(network: Any, text: Tensor) -> Tensor:
    """Return what a network's own pass gives for a text (L,), shape (L, V)."""
    ids = text.unsqueeze(0)
    logits: Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0]
