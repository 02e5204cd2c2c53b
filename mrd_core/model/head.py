"""From the last hidden states to the logits, as the model itself goes there: scale, soft cap, bias and all.

Families differ in what they do to hidden states behind their body: Cohere and Granite scale the logits, Gemma
caps them, others transform the states first. Nothing of that is written anew here. The model's own forward pass
runs, with its body giving back states that are there already, so that only those that are asked for become logits,
in chunks and in the precision that is asked for, and a new family is right without a word about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.modeling_outputs import BaseModelOutputWithPast


def body_of(network: Any) -> nn.Module:
    """Return the module from token ids to the last hidden states: all of a causal language model but its head."""
    decoder: nn.Module = network.get_decoder()
    head = network.get_output_embeddings()
    if decoder is head:
        # ModernBERT's decoder calls its output embeddings so.
        decoder = network.base_model
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
            hidden: Shape (M, d), or (B, M, d) of B samples.
            linear: Takes the place of the output embeddings, from (…, d) to (…, V): the same weights in a finer
                precision, or perturbed ones.

        Returns:
            Shape (M, V), or (B, M, V).
        """
        batch = hidden if hidden.dim() > 2 else hidden.unsqueeze(0)
        ids = torch.zeros(batch.shape[:2], dtype=torch.int64, device=hidden.device)
        with ExitStack() as stack:
            states = _States(last_hidden_state=batch)
            stack.enter_context(answering(self.body, lambda *_args, **_kwargs: states))
            if linear is not None:
                stack.enter_context(answering(self.output, linear))
            logits: Tensor = self.network(input_ids=ids, use_cache=False).logits
        return logits if hidden.dim() > 2 else logits[0]

    def with_weights(self, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """Return the output embeddings with other weights, from (…, d) to (…, V), to take their place in a call.

        Args:
            weights: By name, all of one dtype, in which they compute.
        """
        own = self.output.forward
        dtype = next(iter(weights.values())).dtype

        def linear(hidden: Tensor) -> Tensor:
            with answering(self.output, own):
                logits: Tensor = functional_call(self.output, dict(weights), (hidden.to(dtype),))
            return logits

        return linear


class _States(BaseModelOutputWithPast):
    """The output of a body as far as a head reads it: attributes by name, a tuple, or what a wrapper passes on."""

    def __getattr__(self, name: str) -> None:
        # Neither router logits nor what was made of images, as of a pass that was asked for none.
        if name.startswith("__"):
            raise AttributeError(name)


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
