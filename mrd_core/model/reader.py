"""A language model being read: passes without gradients, in batches that are halved while memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mrd_core.errors import UserError
from mrd_core.model.encoding import Encoded, IntArray, length_buckets, padded
from mrd_core.model.head import LanguageHead
from mrd_core.model.processes import ALONE, Processes

# Padded tokens in a batch where nobody says how many, by the type of the device.
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}

# Logits of one chunk stay within a few MiB on a CPU (its cache), unless there are very many words, and fill a GPU
# without crowding it.
CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 28}
# But each chunk reads all output embeddings: with fewer rows than this a product waits for memory (of 49,152 words
# twice as long a row at 10 rows as at 128).
LEAST_ROWS = 128

# How the CPU's allocator, the CUDA runtime and cuBLAS say it where torch raises a plain RuntimeError.
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")

# A step of a generation reads one token of each text, so many texts at a time are what fills it.
GENERATED = 8

SMALLER = "Use a coarser dtype, a device with more memory, or shorter samples."

Result = TypeVar("Result")
# From logits (M, V), which may be overwritten, and token ids (M,) to values whose first axis is M.
Judge = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Reader:
    """A causal language model with all that it takes to run texts through it.

    Attributes:
        network: A transformers causal language model or its peft wrapper; after a pass each module has the mode
            it had before.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch; halved while memory runs out.
        before_batch: Called before each batch; raises to stop (cancellation).
        end_ids: Tokens that end what the model writes.
        switch: Texts longer than this share no batch with others, see `rope_switch`.
        on_batch: Called before each batch with the share of the texts that is done.
        processes: Those that run the same texts through the same model now; each takes some of the batches, and
            each has the results of all.
    """

    network: Any
    device: torch.device
    batch_tokens: int
    before_batch: Callable[[], None] = lambda: None
    end_ids: Collection[int] = ()
    switch: float = inf
    on_batch: Callable[[float], None] = lambda _: None
    processes: Processes = ALONE

    @property
    def generation_tokens(self) -> int:
        """Most padded tokens in a batch of generations, the generated ones included."""
        return GENERATED * self.batch_tokens

    def answers(self, encoded: Encoded, judge: Judge, *, fine_head: bool = False) -> list[Any]:
        """Run the true texts through the model once, dropout off, and judge the prediction of every answer token.

        Args:
            encoded: N samples.
            judge: What is wanted of logits and targets.
            fine_head: Whether the head runs in fp32 or finer, whatever the precision of the model: logits of
                bf16 are rounded by up to 0.06. Otherwise it is the model's own.

        Returns:
            A numpy array for each value that `judge` gives, in the order of the M answer tokens on the flat axis.

        Raises:
            UserError: Out of memory with a single sample in the batch.
        """

        def run(most: int) -> list[Any]:
            shares = agreed(self.processes, lambda: self._pass(encoded, judge, most, fine_head))
            order = np.argsort(np.concatenate([places for places, _ in shares]))
            return [np.concatenate(parts)[order] for parts in zip(*(values for _, values in shares), strict=True)]

        with evaluating(self.network):
            return within_memory(run, self.batch_tokens)

    def _pass(self, encoded: Encoded, judge: Judge, most: int, fine_head: bool) -> tuple[IntArray, list[Any]]:
        """Return the places on the flat axis of the answer tokens in this process's batches, and their values."""
        head = LanguageHead(self.network)
        linear = in_fp32(head) if fine_head else None
        words = head.output.weight.shape[0]
        rows = chunk_rows(self.device, words)
        batches = self.processes.share(make_batches(encoded, most, self.device, self.switch))
        insides = [np.flatnonzero(encoded.answer[batch.flat]) for batch in batches]
        if not batches:
            nothing = head.output.weight.new_empty((0, words), dtype=torch.float32)
            none = judge(nothing, nothing.new_empty(0, dtype=torch.int64))
            return np.empty(0, dtype=np.int64), [part.cpu().numpy() for part in none]
        results = Gathered(sum(map(len, insides)))
        for place, (batch, inside) in enumerate(zip(batches, insides, strict=True)):
            self.before_batch()
            self.on_batch(place / len(batches))
            hidden, targets = batch.predictions(head.body, torch.from_numpy(inside))
            chunks = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
            parts = [judge(head(some, linear), wanted) for some, wanted in chunks]
            results.add(*(torch.cat(part) for part in zip(*parts, strict=True)))
        places = np.concatenate([batch.flat[inside] for batch, inside in zip(batches, insides, strict=True)])
        return places, [values.cpu().numpy() for values in results.blocks]


def chunk_rows(device: torch.device, words: int, blocks: int = 1) -> int:
    """Return of how many positions the logits over so many words are made at a time, in so many blocks."""
    return max(LEAST_ROWS, CHUNK_ELEMENTS[device.type] // blocks // words)


class Gathered:
    """What the batches of a pass give, in one block for each value until the pass ends.

    They stay on their device: a copy per batch would make a GPU wait each time. And small pieces that lie between
    the large ones of the passes would keep the heap of a process from ever shrinking.

    Args:
        rows: How many there will be in all.

    Attributes:
        blocks: A tensor for each value, its first axis the rows in the order in which they came.
        filled: How many came.
    """

    def __init__(self, rows: int) -> None:
        self.blocks: list[Tensor] = []
        self._rows = rows
        self.filled = 0

    def add(self, *parts: Tensor) -> None:
        """Append the rows of a batch, a tensor for each value."""
        self.blocks = self.blocks or [part.new_empty((self._rows, *part.shape[1:])) for part in parts]
        end = self.filled + len(parts[0])
        for block, part in zip(self.blocks, parts, strict=True):
            block[self.filled : end] = part
        self.filled = end


def in_fp32(head: LanguageHead) -> Callable[[Tensor], Tensor]:
    """Return the output embeddings, from (…, d) to (…, V), in fp32 or finer."""
    dtype = torch.promote_types(head.output.weight.dtype, torch.float32)
    return head.with_weights({name: weight.to(dtype) for name, weight in head.output.named_parameters()})


@dataclass(frozen=True)
class Batch:
    """Some samples as one right-padded rectangle on the device.

    Attributes:
        ids: Token ids, shape (B, L).
        rows: Row of each scored position, shape (M,).
        columns: Column of each scored position, shape (M,).
        flat: Where the scored positions stand on the flat axis of the forget set, shape (M,).
    """

    ids: Tensor
    rows: Tensor
    columns: Tensor
    flat: IntArray

    @classmethod
    def of(cls, encoded: Encoded, indices: IntArray, device: torch.device) -> Batch:
        """Put the samples at `indices` into one batch."""
        tokens = [encoded.samples[i].tokens for i in indices]
        rows = np.concatenate([np.full(len(sample) - 1, row) for row, sample in enumerate(tokens)])
        columns = np.concatenate([np.arange(len(sample) - 1) for sample in tokens])
        return cls(
            # The padding id is never seen by a scored position, so any id does.
            ids=torch.from_numpy(padded(tokens)).to(device),
            rows=torch.from_numpy(rows).to(device),
            columns=torch.from_numpy(columns).to(device),
            flat=encoded.flat_positions(indices),
        )

    def predictions(self, body: Any, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (m, d) and targets (m,) of the m scored positions that `inside` names."""
        inside = inside.to(self.ids.device)
        rows, columns = self.rows[inside], self.columns[inside]
        hidden = body(input_ids=self.ids, use_cache=False).last_hidden_state
        targets = self.ids[rows, columns + 1].to(hidden.device)
        return hidden[rows.to(hidden.device), columns.to(hidden.device)], targets


def make_batches(encoded: Encoded, batch_tokens: int, device: torch.device, switch: float = inf) -> list[Batch]:
    """Put the samples into right-padded batches of similar length on `device`, see `length_buckets`."""
    return [
        Batch.of(encoded, indices, device)
        for indices in length_buckets(encoded.lengths, batch_tokens, switch)
        if encoded.lengths[indices].max() > 1
    ]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch dropout off within, without gradients; then give each module the mode it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def within_memory(
    run: Callable[[int], Result],
    most: int,
    *,
    least: int = 1,
    on_halved: Callable[[int], None] = lambda _: None,
    what: str = "A single sample",
    advice: str = SMALLER,
) -> Result:
    """Return `run(most)`, with half as many as long as memory runs out.

    Args:
        run: Does all of the work anew, at most so many tokens, samples or whatever is counted at a time.
        most: How many at first.
        least: With so few there is a single sample in each batch, and halving them wins nothing.
        on_halved: Called with the new number whenever memory ran out.
        what: Names the smallest batch in the error.
        advice: What to do then.

    Raises:
        UserError: Out of memory with `least` of them.
    """
    while True:
        try:
            return run(most)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if most <= least:
                raise UserError(
                    what, "does not fit into the memory of the device beside what is held there.", advice
                ) from error
        # Outside of the handler, whose traceback keeps the batch alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        most = max(1, most // 2)
        on_halved(most)


def agreed(processes: Processes, act: Callable[[], Result]) -> list[Result]:
    """Return what `act` gives in each process, by rank; where memory runs out in one, it does so in all.

    Raises:
        RuntimeError: It did, in this process or in another one.
        Parted: Another process is gone.
    """
    if processes.count == 1:
        return [act()]
    outcome: Result | None = None
    failure = None
    try:
        outcome = act()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        failure = error
    outcomes = processes.gather([(failure is None, outcome)])
    if not all(fits for fits, _ in outcomes):
        raise failure or torch.OutOfMemoryError("The memory of another process ran out.")
    return [given for _, given in outcomes]


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a torch error means that memory ran out (on a CPU it is a plain RuntimeError)."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY)
