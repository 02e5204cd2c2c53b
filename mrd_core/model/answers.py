"""What a model says of the forget set: its own answers, and the probability of each true answer token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import TemplateError

from mrd_core.model.encoding import Encoded, EncodedSample, IntArray, special_ids
from mrd_core.model.generation import prompt_of, text_of
from mrd_core.model.likelihood import FloatArray
from mrd_core.model.memorization import (
    Prefix,
    continuations,
    evaluating,
    plainly_greedy,
    teacher_forced,
    within_memory,
)

# An answer of the model's own may be this much longer than the true one [tokens], and is never cut below LEAST.
SPARE, LEAST = 32, 64


def own_answers(
    network: Any,
    encoded: Encoded,
    tokenizer: Any,
    device: torch.device,
    batch_tokens: int,
    end_ids: Collection[int],
    samples: IntArray,
    before_batch: Callable[[], None] = lambda: None,
) -> list[str]:
    """Return what the model itself answers to each sample's prompt, greedily, as text without special tokens.

    Args:
        network: A transformers causal language model or its peft wrapper; it gets back the mode it was in.
        encoded: The samples as tokens.
        tokenizer: That of the model.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch, generated ones included; halved while memory runs out.
        end_ids: Tokens that end an answer, see `end_tokens`.
        samples: Which samples, in which order, shape (M,).
        before_batch: Called before each batch; raises to stop.

    Returns:
        M answers, blanks around them stripped; "" for a sample without a prompt, and for one whose answer lies
        beyond the context.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    context = getattr(network.config, "max_position_embeddings", None)
    prompts = [_prompt(encoded.samples[i], context) for i in samples]
    wanted = [prompt for prompt in prompts if prompt is not None]
    with evaluating(network), plainly_greedy(network) as generator:
        written = within_memory(
            lambda most: continuations(generator, wanted, device, most, end_ids, before_batch), batch_tokens
        )
    texts = iter([text_of(tokens, tokenizer, end_ids) for tokens in written])
    return ["" if prompt is None else next(texts) for prompt in prompts]


def _prompt(sample: EncodedSample, context: int | None) -> Prefix | None:
    """Return what stands before the answer and how long an answer may get, or None where there is no prompt."""
    before = prompt_of(sample)
    if before is None:
        return None
    budget = max(int(sample.answer.sum()) + SPARE, LEAST)
    return Prefix(before, min(budget, context - len(before)) if context else budget)


def chosen_for_answers(scores: FloatArray, most: int) -> IntArray:
    """Return which samples' own answers are written: evenly spaced over the ranks of difficulty, ends included.

    Args:
        scores: MRD or another score, shape (N,); those with NaN rank last.
        most: How many at most.

    Returns:
        Indices in ascending order, shape (min(N, most),).
    """
    ranked = np.argsort(scores, kind="stable")
    count = min(len(ranked), most)
    chosen: IntArray = np.sort(ranked[np.arange(count) * (len(ranked) - 1) // max(count - 1, 1)])
    return chosen


def answer_log_probs(network: Any, encoded: Encoded, device: torch.device, batch_tokens: int) -> pd.DataFrame:
    """Return log p(x_t | x_<t) of every answer token, in one pass without gradients, dropout off.

    Args:
        network: A transformers causal language model or its peft wrapper; it gets back the mode it was in.
        encoded: The samples as tokens.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch; halved while memory runs out.

    Returns:
        One row a token, in the order of the samples: sample_id, position (index of the token in its sample),
        piece (its text), log_prob [nats].

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    with evaluating(network):
        passed = within_memory(lambda most: teacher_forced(network, encoded, device, most), batch_tokens)
    inside = np.flatnonzero(encoded.answer)
    owner = encoded.owner[inside]
    position = inside - encoded.starts[owner] + 1
    return pd.DataFrame(
        {
            "sample_id": np.array(encoded.sample_ids, dtype=object)[owner],
            "position": position,
            "piece": [encoded.samples[i].pieces[at] for i, at in zip(owner, position, strict=True)],
            "log_prob": passed.log_probs[inside],
        }
    )


def end_tokens(tokenizer: Any, network: Any) -> list[int]:
    """Return the ids that end an answer: EOS, those of the model's settings, the end of an assistant's turn."""
    settings = getattr(network, "generation_config", None)
    named = (tokenizer.eos_token_id, getattr(settings, "eos_token_id", None))
    return sorted({id for ids in named for id in _ids(ids)} | set(_turn_end(tokenizer)))


def _ids(given: int | list[int] | None) -> list[int]:
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _turn_end(tokenizer: Any) -> Iterator[int]:
    """Yield the special token with which the chat template closes an assistant's turn, if there is one."""
    if not getattr(tokenizer, "chat_template", None):
        return
    answer = "answer"
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError:
        return
    _before, found, after = text.rpartition(answer)
    tokens = tokenizer(after, add_special_tokens=False)["input_ids"] if found else []
    if tokens and tokens[0] in special_ids(tokenizer):
        yield tokens[0]
