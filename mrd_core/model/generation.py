"""What a model writes: greedy or by chance, in batches, until an end token or a given length."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList

from mrd_core.arrays import FloatArray
from mrd_core.model.encoder import special_ids
from mrd_core.model.encoding import EncodedSample, IntArray, padded, padding_mask
from mrd_core.model.lengths import context_of
from mrd_core.model.perturbation import streamed
from mrd_core.model.reader import Reader, agreed, evaluating, is_out_of_memory, within_memory

# Stands where nothing is looked at, so any id does.
PADDING = 0
# An answer of the model's own may be this much longer than the true one [tokens], and is never cut below LEAST.
SPARE, LEAST = 32, 64
# Logits of a text that is written may differ by so much of the largest; rounding is a hundred times smaller.
LOGITS_TOLERANCE = 1e-4


class Way(Enum):
    """How a model writes what its plain pass says, the fastest first."""

    BATCHES = "texts of different lengths together"
    SINGLY = "text by text"
    PLAINLY = "text by text, read anew for every token"


# Of each model that was looked at.
_WAYS: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


@dataclass(frozen=True)
class Prefix:
    """Where a generation starts, and how many tokens it may have."""

    tokens: IntArray
    budget: int


@dataclass(frozen=True)
class Chance:
    """A random number by seed, text and token, which says where in the model's softmax a draw falls.

    So a text does not depend on what is written beside it, nor in how large batches.

    Attributes:
        seed: Of all texts.
        texts: The place of each text in what is written, which is part of its key.
    """

    seed: int
    texts: tuple[int, ...]

    def drawn(self, logits: Tensor, token: int) -> Tensor:
        """Return the next token of each text, shape (B,), from logits (B, V); the first token of a text is 0."""
        numbers = [np.random.default_rng([self.seed, text, token]).random() for text in self.texts]
        passed = logits.double().softmax(-1).cumsum(-1)
        wanted = torch.tensor(numbers, dtype=torch.float64, device=logits.device).unsqueeze(1) * passed[:, -1:]
        return torch.searchsorted(passed, wanted, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)


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
    tokens = open_tokens(text, tokenizer) if text.strip() else []
    return np.array(tokens, dtype=np.int64) if tokens else None


def open_tokens(text: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a text with the BOS token, if the tokenizer sets one, and without an EOS token.

    What looks like a special token within the text is text, as in samples.
    """
    tokens = list(tokenizer(text, add_special_tokens=True, split_special_tokens=True)["input_ids"])
    return tokens[:-1] if tokens and tokens[-1] == tokenizer.eos_token_id else tokens


def write(
    reader: Reader,
    tokenizer: Any,
    prompts: Sequence[IntArray | None],
    budgets: Sequence[int],
    seed: int | None = None,
) -> list[str | None]:
    """Let the model write on after each prompt, as text without special tokens.

    Prompts of a batch are padded on the left and masked, so that each has what it would have alone, up to ties
    within the rounding of the model's dtype.

    Args:
        reader: The model, and the tokens that end a text.
        tokenizer: That of the model.
        prompts: Token ids of N prompts, see `prompt_of` and `completion_prompt`.
        budgets: Most tokens to write after each, at least 1; fewer where the context ends.
        seed: As in `continuations`.

    Returns:
        N texts, blanks around them stripped; None where there is no prompt or it leaves no room in the context.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    context = context_of(reader.network.config)
    prefixes = [
        None if prompt is None else Prefix(prompt, int(min(budget, context - len(prompt))))
        for prompt, budget in zip(prompts, budgets, strict=True)
    ]
    wanted = [prefix for prefix in prefixes if prefix is not None and prefix.budget > 0]
    texts = iter([text_of(tokens, tokenizer, reader.end_ids) for tokens in continuations(reader, wanted, seed)])
    return [next(texts) if prefix is not None and prefix.budget > 0 else None for prefix in prefixes]


def own_answers(reader: Reader, tokenizer: Any, samples: Sequence[EncodedSample]) -> list[str]:
    """Return what the model itself answers to each sample's prompt, with room beyond the true answer.

    Returns:
        N texts, see `write`; "" for a sample without a prompt, and for one whose answer lies beyond the context.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    budgets = [max(int(sample.answer.sum()) + SPARE, LEAST) for sample in samples]
    return [text or "" for text in write(reader, tokenizer, [prompt_of(sample) for sample in samples], budgets)]


def text_of(tokens: Sequence[int], tokenizer: Any, end_ids: Collection[int]) -> str:
    """Return what stands before the first end token as text, without special tokens and blanks around it."""
    # What a batch generates beyond a text's end is padding, which the tokenizer may take for a word.
    return str(tokenizer.decode(tokens[: end_of(tokens, end_ids)], skip_special_tokens=True)).strip()


def end_of(tokens: Sequence[int], end_ids: Collection[int]) -> int:
    """Return the place of the first token that ends a text; that behind the last where none does."""
    return next((i for i, token in enumerate(tokens) if token in end_ids), len(tokens))


def continuations(reader: Reader, prefixes: Sequence[Prefix], seed: int | None = None) -> list[list[int]]:
    """Return what the model writes after each prefix, at most its budget, as token ids.

    Args:
        reader: The model, and the tokens that end a text.
        prefixes: Where each text starts.
        seed: Draws each token from the model's softmax, at temperature 1; None takes the likeliest.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """

    def in_batches(batch_tokens: int) -> list[list[int]]:
        written: list[list[int]] = [[] for _ in prefixes]
        for share in agreed(reader.processes, lambda: own_share(batch_tokens)):
            for i, text in share:
                written[i] = text
        return written

    def own_share(batch_tokens: int) -> list[tuple[int, list[int]]]:
        """Return what follows on the prefixes of this process's batches, with their places."""
        written: list[tuple[int, list[int]]] = []
        way = way_of(generator, reader.device) if prefixes else Way.BATCHES
        most = batch_tokens if way is Way.BATCHES else 1
        written_by = _write_plainly if way is Way.PLAINLY else _generate
        batches = _alike(prefixes, most, context_of(generator.config), reader.switch)
        for batch in reader.processes.share(batches):
            reader.before_batch()
            chance = None if seed is None else Chance(seed, tuple(batch))
            texts = written_by(generator, [prefixes[i] for i in batch], reader, chance)
            written += [(i, text[: prefixes[i].budget]) for i, text in zip(batch, texts, strict=True)]
        return written

    with evaluating(reader.network), plainly_greedy(reader.network) as generator:
        return within_memory(in_batches, reader.generation_tokens)


def way_of(generator: Any, device: torch.device) -> Way:
    """Return how a model is to write: recurrent models may read padding, and some count positions otherwise.

    It is looked at once for every model, in fp32 or finer, by what follows on two prompts of any tokens, held
    against the model's plain pass.
    """
    if generator not in _WAYS:
        dtype = torch.promote_types(next(generator.parameters()).dtype, torch.float32)
        words = generator.get_input_embeddings().weight.shape[0]
        prompts = [torch.arange(1, 1 + length, device=device) % words for length in (4, 12)]
        with streamed(generator, lambda _name, weight: weight.to(dtype)):
            plain = torch.stack([_plain_logits(generator, prompt) for prompt in prompts], dim=1)

            def is_plain(batches: list[list[Tensor]]) -> bool:
                logits = torch.cat([_logits(generator, batch) for batch in batches], dim=1)
                return bool((logits - plain).abs().max() <= LOGITS_TOLERANCE * plain.abs().max())

            _WAYS[generator] = _fastest(is_plain, prompts)
    return _WAYS[generator]


def _fastest(is_plain: Callable[[list[list[Tensor]]], bool], prompts: list[Tensor]) -> Way:
    for way, batches in ((Way.BATCHES, [prompts]), (Way.SINGLY, [[prompt] for prompt in prompts])):
        try:
            if is_plain(batches):
                return way
        # Whatever a model's own code raises that is not made for generation.
        except Exception as error:
            if is_out_of_memory(error):
                raise
    return Way.PLAINLY


def _plain_logits(generator: Any, prompt: Tensor) -> Tensor:
    """Return the logits after a prompt (L,) and after the token that is written then, shape (2, V)."""
    first = _last_logits(generator, prompt)
    return torch.stack([first, _last_logits(generator, torch.cat([prompt, first.argmax().reshape(1)]))])


def _last_logits(generator: Any, tokens: Tensor) -> Tensor:
    ids = tokens.unsqueeze(0)
    logits: Tensor = generator(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0, -1]


def _logits(generator: Any, prompts: list[Tensor]) -> Tensor:
    """Return the logits after each of B prompts and after the token that is written then, shape (2, B, V)."""
    ids = nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=PADDING, padding_side="left")
    mask = nn.utils.rnn.pad_sequence(
        [torch.ones_like(prompt) for prompt in prompts], batch_first=True, padding_side="left"
    )
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=2, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=PADDING
    )
    return torch.stack(generator.generate(ids, attention_mask=mask, generation_config=settings).logits)


def _alike(prefixes: Sequence[Prefix], batch_tokens: int, context: float, switch: float) -> list[list[int]]:
    """Split generations into batches of similar budget, longest first.

    None is wider than the context, and none holds texts on both sides of `rope_switch`, at their begin or end.
    """
    batches: list[list[int]] = []
    width = budget = 0
    side = (False, False)
    sides = [(len(prefix.tokens) > switch, len(prefix.tokens) + prefix.budget > switch) for prefix in prefixes]
    for i in sorted(range(len(prefixes)), key=lambda i: (sides[i], -prefixes[i].budget, -len(prefixes[i].tokens))):
        size = len(prefixes[i].tokens)
        widened = max(width, size)
        total = widened + budget
        is_apart = not batches or sides[i] != side
        if is_apart or total > context or total * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            widened, budget, side = size, prefixes[i].budget, sides[i]
        batches[-1].append(i)
        width = widened
    return batches


def _generate(
    generator: Any, prefixes: Sequence[Prefix], reader: Reader, chance: Chance | None
) -> list[list[int]]:
    """Generate from prefixes that are padded on the left, as many tokens as the largest budget."""
    tokens = [prefix.tokens for prefix in prefixes]
    ids = torch.from_numpy(padded(tokens, filling=PADDING, left=True)).to(reader.device)
    mask = torch.from_numpy(padding_mask(tokens, left=True)).to(reader.device, torch.int64)
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max(prefix.budget for prefix in prefixes),
        do_sample=False,
        eos_token_id=sorted(reader.end_ids),
        pad_token_id=PADDING,
    )
    width = ids.shape[1]

    def by_chance(written: Tensor, logits: Tensor) -> Tensor:
        assert chance is not None
        alone = torch.full_like(logits, -torch.inf)
        return alone.scatter(1, chance.drawn(logits, written.shape[1] - width).unsqueeze(1), 0.0)

    processors = LogitsProcessorList([] if chance is None else [by_chance])
    output = generator.generate(ids, attention_mask=mask, generation_config=settings, logits_processor=processors)
    texts: list[list[int]] = output[:, width:].tolist()
    return texts


def _write_plainly(
    generator: Any, prefixes: Sequence[Prefix], reader: Reader, chance: Chance | None
) -> list[list[int]]:
    """Write as `_generate` does, by the model's plain pass over the whole text for every token."""
    texts = []
    for place, prefix in enumerate(prefixes):
        own = None if chance is None else Chance(chance.seed, (chance.texts[place],))
        tokens = torch.from_numpy(prefix.tokens).to(reader.device)
        written: list[int] = []
        while len(written) < prefix.budget and not (written and written[-1] in reader.end_ids):
            logits = _last_logits(generator, tokens)
            token = logits.argmax().reshape(1) if own is None else own.drawn(logits.unsqueeze(0), len(written))
            tokens = torch.cat([tokens, token.to(tokens.device)])
            written.append(int(token))
        texts.append(written)
    return texts


@contextmanager
def plainly_greedy(network: Any) -> Iterator[Any]:
    """Yield the model that generates, without what its own settings would add (repetition penalty and such)."""
    # An adapter's wrapper copies settings into the model beneath; that one has the adapter's layers in it.
    model = network.get_base_model() if hasattr(network, "get_base_model") else network
    settings = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield model
    finally:
        model.generation_config = settings


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


def end_tokens(tokenizer: Any, network: Any) -> list[int]:
    """Return the ids that end an answer: EOS, those of the model's settings, the end of an assistant's turn."""
    settings = getattr(network, "generation_config", None)
    ids: set[Any] = set(_turn_end(tokenizer))
    for named in (tokenizer.eos_token_id, getattr(settings, "eos_token_id", None)):
        ids |= set(named if isinstance(named, list) else [named])
    return sorted(ids - {None})


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
    _before, kept, after = text.rpartition(answer)
    special = special_ids(tokenizer)
    for token in tokenizer(after, add_special_tokens=False)["input_ids"] if kept else []:
        if token in special:
            yield token
        if token in special or tokenizer.decode([token]).strip():
            return
