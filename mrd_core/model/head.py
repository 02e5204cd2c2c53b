"""From the last hidden states to the logits, as the model itself goes there: scale, soft cap, bias and all.

Families differ in what they do to hidden states behind their body: Cohere and Granite scale the logits, Gemma
caps them, others transform the states first. Nothing of that is written anew here. The model's own forward pass
runs, with its body giving back states that are there already, so that only those that are asked for become logits,
in chunks and in the precision that is asked for, and a new family is right without a word about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def body_of(network: Any) -> nn.Module:
    """Return the module from token ids to the last hidden states: all of a causal language model but its head."""
    decoder: nn.Module = network.get_decoder()
    head = network.get_output_embeddings()
    while any(module is head for module in decoder.modules()):
        # Some families call the whole model its decoder.
        inside = [child for child in decoder.children() if all(module is not head for module in child.modules())]
        decoder = max(inside, key=lambda child: sum(parameter.numel() for parameter in child.parameters()))
    return decoder


class LanguageHead:
    """What a causal language model does behind its body.

    Args:
        network: A transformers causal language model or its peft wrapper.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.body = body_of(network)
        self.output: Any = network.get_output_embeddings()

    def __call__(self, hidden: Tensor, linear: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the logits of hidden states.

        Args:
            hidden: Shape (M, d).
            linear: Takes the place of the output embeddings, from (…, d) to (…, V): the same weights in a finer
                precision, or perturbed ones.

        Returns:
            Shape (M, V).
        """
        ids = torch.zeros((1, len(hidden)), dtype=torch.int64, device=hidden.device)
        with ExitStack() as stack:
            stack.enter_context(answering(self.body, lambda *_args, **_kwargs: _States(hidden.unsqueeze(0))))
            if linear is not None:
                stack.enter_context(answering(self.output, linear))
            logits: Tensor = self.network(input_ids=ids, use_cache=False).logits
        return logits[0]


class _States:
    """The output of a body as far as a head reads it: attributes by name, or a tuple."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, place: int | slice) -> Any:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, _name: str) -> None:
        # Neither a cache nor attentions, as of a pass that was asked for none.
        return None


@contextmanager
def answering(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module answer with another function within, whoever calls it."""
    # Placement over several devices hangs a forward of its own on the module.
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
