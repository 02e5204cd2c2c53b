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

    def is_mixed(self, config: Any) -> bool:
        """Tell whether a model with this configuration reads some of the texts apart from the others."""
        is_long = self.lengths > rope_switch(config)
        return bool(is_long.any() and not is_long.all())


class Answers(NamedTuple):
    """What a model says of the answers of a batch.

    Attributes:
        log_probs: log p(x_t | x_<t) at the scored positions, 0 elsewhere [nats], shape (B, L − 1).
        log_softmax: log p(· | x_<t) at the scored positions, row after row [nats], shape (M, V).
        hits: Whether the true token is the first choice, False where nothing is scored, shape (B, L − 1).
        states: Output of a layer at the scored positions, shape (M, d); None where none was asked for.
    """

    log_probs: Tensor
    log_softmax: Tensor
    hits: Tensor
    states: Tensor | None = None


def answers(model: Any, batch: TextBatch, layer: int | None = None) -> Answers:
    """Run a transformers causal language model over a batch; only answer positions become probabilities.

    With a layer (1 is the first), its output is returned, too.

    The probabilities are in fp32 or finer. A plain log-softmax is exact enough here: what training needs is its
    gradient, p − 1 for the true token, and not the relative size of a log p near 0.
    """
    rows, columns = batch.mask.nonzero(as_tuple=True)
    everywhere, hidden = _passed(model, batch, layer)
    logits = everywhere[rows, columns]
    log_softmax = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    targets = batch.ids[rows, columns + 1]
    chosen = log_softmax.gather(1, targets.unsqueeze(1)).squeeze(1)
    log_probs = chosen.new_zeros(batch.mask.shape).index_put((rows, columns), chosen)
    hits = torch.zeros_like(batch.mask).index_put((rows, columns), log_softmax.detach().argmax(dim=-1) == targets)
    return Answers(log_probs, log_softmax, hits, None if hidden is None else hidden[rows, columns])


def _passed(model: Any, batch: TextBatch, layer: int | None) -> tuple[Tensor, Tensor | None]:
    """Return the logits of a batch, shape (B, L, V), and a layer's output, shape (B, L, d).

    Texts that are read otherwise than others go apart from them.
    """
    is_long = batch.lengths > rope_switch(model.config)
    if is_long.all() or not is_long.any():
        return _pass(model, batch.ids, layer)
    sides = [side.nonzero().squeeze(1) for side in (is_long, ~is_long)]
    parts = [_pass(model, batch.ids[side, : int(batch.lengths[side].max())], layer) for side in sides]
    back = torch.cat(sides).argsort()

    def together(of_sides: Sequence[Tensor]) -> Tensor:
        # Behind a text stands nothing that is scored.
        wide = [nn.functional.pad(part, (0, 0, 0, batch.ids.shape[1] - part.shape[1])) for part in of_sides]
        return torch.cat(wide)[back]

    states = [hidden for _, hidden in parts if hidden is not None]
    return together([logits for logits, _ in parts]), together(states) if states else None


def _pass(model: Any, ids: Tensor, layer: int | None) -> tuple[Tensor, Tensor | None]:
    said = model(input_ids=ids, use_cache=False, output_hidden_states=layer is not None)
    # The first of the states are the embeddings.
    return said.logits, None if layer is None else said.hidden_states[layer]
