"""What a model writes after a prompt: greedy, in batches, until an end token or a given length."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch

from mrd_core.model.encoding import EncodedSample, IntArray
from mrd_core.model.memorization import Prefix, continuations, evaluating, plainly_greedy, within_memory


def prompt_of(sample: EncodedSample) -> IntArray | None:
    """Return the tokens before a sample's answer, or None where there are none or the answer was cut off whole.

    An empty prompt, before which at most a BOS token stands, is none.
    """
    positions = np.flatnonzero(sample.answer)
    return sample.tokens[: positions[0] + 1] if len(positions) and positions[0] > 0 else None


def completion_prompt(text: str, tokenizer: Any) -> IntArray | None:
    """Return the tokens of a text that is to be written on, without a template; None where it is blank.

    A BOS token stays where the tokenizer sets one, an EOS token at the end does not: after it, the text is over.
    """
    tokens = list(tokenizer(text, add_special_tokens=True)["input_ids"]) if text.strip() else []
    if tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens.pop()
    return np.array(tokens, dtype=np.int64) if tokens else None


def generate(
    network: Any,
    prompts: Sequence[IntArray | None],
    tokenizer: Any,
    device: torch.device,
    batch_tokens: int,
    end_ids: Collection[int],
    max_new_tokens: int,
    before_batch: Callable[[], None] = lambda: None,
) -> list[str | None]:
    """Let the model write on after each prompt, greedily, as text without special tokens.

    Prompts of a batch are padded on the left and masked, so that each has what it would have alone, up to ties
    within the rounding of the model's dtype.

    Args:
        network: A transformers causal language model or its peft wrapper; it gets back the mode it was in.
        prompts: Token ids of N prompts, see `prompt_of` and `completion_prompt`.
        tokenizer: That of the model.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch, generated ones included; halved while memory runs out.
        end_ids: Tokens that end a text, see `unlearning.answers.end_tokens`.
        max_new_tokens: Most tokens to write, at least 1; fewer where the context ends.
        before_batch: Called before each batch; raises to stop (cancellation).

    Returns:
        N texts, blanks around them stripped; None where there is no prompt or it leaves no room in the context.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    context = getattr(network.config, "max_position_embeddings", None) or np.inf
    budgets = [0 if prompt is None else int(min(max_new_tokens, context - len(prompt))) for prompt in prompts]
    prefixes = [
        Prefix(prompt, budget)
        for prompt, budget in zip(prompts, budgets, strict=True)
        if prompt is not None and budget > 0
    ]
    with evaluating(network), plainly_greedy(network) as generator:
        written = within_memory(
            lambda most: continuations(generator, prefixes, device, most, end_ids, before_batch), batch_tokens
        )
    texts = iter(written)
    return [text_of(next(texts), tokenizer, end_ids) if budget > 0 else None for budget in budgets]


def text_of(tokens: Sequence[int], tokenizer: Any, end_ids: Collection[int]) -> str:
    """Return what stands before the first end token as text, without special tokens and blanks around it."""
    # What a batch generates beyond a text's end is padding, which the tokenizer may take for a word.
    end = next((i for i, token in enumerate(tokens) if token in end_ids), len(tokens))
    return str(tokenizer.decode(tokens[:end], skip_special_tokens=True)).strip()
