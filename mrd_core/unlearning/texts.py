"""Chosen samples as right-padded rectangles to train on, and what a model says of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mrd_core.model.encoding import EncodedSample, padded
from mrd_core.model.lengths import rope_switch


@dataclass(frozen=True)
class TextBatch:
    """B samples, padded on the right to L tokens.

    Attributes:
        ids: Token ids, shape (B, L).
        mask: True where the *next* token belongs to the answer or is its EOS, shape (B, L − 1).
        lengths: Tokens of each sample, shape (B,).
    """

    ids: Tensor
    mask: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, samples: Sequence[EncodedSample], device: torch.device) -> TextBatch:
        """Pad these samples into one batch on `device`."""
        # The padding is behind the text, where a causal model does not look, so any id does.
        tokens = [sample.tokens for sample in samples]
        ids, mask = padded(tokens), padded([sample.answer for sample in samples])
        return cls(
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
            torch.tensor([len(text) for text in tokens], device=device),
        )


class Answers(NamedTuple):
    """What a model says of the answers of a batch.

    Attributes:
        log_probs: log p(x_t | x_<t) at the scored positions, 0 elsewhere [nats], shape (B, L − 1).
        log_softmax: log p(· | x_<t) at the scored positions, row after row [nats], shape (M, V).
        hits: Whether the true token is the first choice, False where nothing is scored, shape (B, L − 1).
    """

    log_probs: Tensor
    log_softmax: Tensor
    hits: Tensor


def answers(model: Any, batch: TextBatch) -> Answers:
    """Run a transformers causal language model over a batch; only answer positions become probabilities.

    The probabilities are in fp32 or finer. A plain log-softmax is exact enough here: what training needs is its
    gradient, p − 1 for the true token, and not the relative size of a log p near 0.
    """
    rows, columns = batch.mask.nonzero(as_tuple=True)
    logits = _logits(model, batch)[rows, columns]
    log_softmax = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    targets = batch.ids[rows, columns + 1]
    chosen = log_softmax.gather(1, targets.unsqueeze(1)).squeeze(1)
    log_probs = chosen.new_zeros(batch.mask.shape).index_put((rows, columns), chosen)
    hits = torch.zeros_like(batch.mask).index_put((rows, columns), log_softmax.detach().argmax(dim=-1) == targets)
    return Answers(log_probs, log_softmax, hits)


def _logits(model: Any, batch: TextBatch) -> Tensor:
    """Return the logits of a batch, shape (B, L, V); texts that are read otherwise than others apart from them."""
    is_long = batch.lengths > rope_switch(model.config)
    if is_long.all() or not is_long.any():
        logits: Tensor = model(input_ids=batch.ids, use_cache=False).logits
        return logits
    sides = [side.nonzero().squeeze(1) for side in (is_long, ~is_long)]
    parts = [
        model(input_ids=batch.ids[side, : int(batch.lengths[side].max())], use_cache=False).logits
        for side in sides
    ]
    # Behind a text stands nothing that is scored.
    wide = [nn.functional.pad(part, (0, 0, 0, batch.ids.shape[1] - part.shape[1])) for part in parts]
    return torch.cat(wide)[torch.cat(sides).argsort()]
