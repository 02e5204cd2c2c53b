"""Inner products of the gradients of two sets of samples: of all pairs, and no gradient is ever whole.

The pieces of a block of the first set are held while the second passes by. Each of its pieces meets those of the
same parameter and is gone; products are linear in the uses of a parameter, so none has to wait for another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded, IntArray
from mrd_core.model.gradients import Norms, Probe, SampleGradients, nll_direction, total_of
from mrd_core.model.pieces import Piece, entries_of, products
from mrd_core.model.reader import Reader, within_memory

# Entries of the pieces that are held; one batch more may be.
HELD = {"cpu": 1 << 27, "cuda": 1 << 30}


@dataclass(frozen=True, eq=False)
class Products:
    """What the gradients of N samples have in common with those of M others.

    Attributes:
        inner: Shape (N, M); NaN where one of the two has no answer token.
        squared: Squared norms of the N, shape (N,).
        others_squared: Those of the M, shape (M,).
    """

    inner: FloatArray
    squared: FloatArray
    others_squared: FloatArray

    @property
    def cosines(self) -> FloatArray:
        """Cosines of the angles between the gradients, shape (N, M); NaN where one of the two vanishes."""
        lengths = np.sqrt(self.squared[:, None] * self.others_squared)
        cosines: FloatArray = self.inner / np.where(lengths > 0, lengths, np.nan)
        return cosines


def gradient_products(
    reader: Reader,
    encoded: Encoded,
    others: Encoded,
    announce: Callable[[str], None] = warnings.warn,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Products:
    """Return g_i·g_r of all pairs, g = ∇_θ of the NLL averaged over the answer's tokens, dropout off.

    θ is every floating-point parameter, frozen or not; tied weights are one parameter.

    Args:
        reader: The model; its modes, gradients and flags stay as they are.
        encoded: N samples.
        others: M samples.
        announce: Told, once, what is left to autograd.
        progress: Told pairs that are done, and how many there are.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    gradients = SampleGradients(reader, encoded, announce=announce)
    passing = _Passing(gradients, encoded, others, reader.device, progress)
    with gradients.ready():
        return within_memory(passing, gradients.batch_tokens)


def mean_nll(encoded: Encoded) -> Probe:
    """Return the NLL of each sample averaged over its answer's tokens."""
    tokens = np.bincount(encoded.owner, weights=encoded.answer, minlength=len(encoded))
    return Probe(encoded.answer / np.maximum(tokens, 1)[encoded.owner], nll_direction)


class _Block:
    """Samples whose pieces are held.

    Attributes:
        chosen: Their indices.
        pieces: By parameter: places within the block, and what the samples there add.
        entries: Numbers that are held.
    """

    def __init__(self) -> None:
        self.chosen: IntArray = np.empty(0, dtype=np.int64)
        self.pieces: dict[str, list[tuple[Tensor, Piece]]] = {}
        self.entries = 0


class _Held(Norms):
    """Adds a batch to a block."""

    def __init__(self, block: _Block, chosen: IntArray) -> None:
        super().__init__(len(chosen))
        self._block = block
        self._places = torch.arange(len(block.chosen), len(block.chosen) + len(chosen))
        block.chosen = np.append(block.chosen, chosen)

    def take(self, name: str, piece: Piece) -> None:
        """Take what one use of a parameter adds."""
        super().take(name, piece)
        self._block.pieces.setdefault(name, []).append((self._places[self.part], piece))
        self._block.entries += entries_of(piece)


class _Met(Norms):
    """Multiplies a batch with a block.

    Attributes:
        inner: In fp64, shape (samples of the block, samples of the batch).
    """

    def __init__(self, block: _Block, samples: int, device: torch.device) -> None:
        super().__init__(samples)
        self._pieces = block.pieces
        self.inner = torch.zeros(len(block.chosen), samples, dtype=torch.float64, device=device)

    def take(self, name: str, piece: Piece) -> None:
        """Take what one use of a parameter adds."""
        super().take(name, piece)
        for places, held in self._pieces.get(name, ()):
            inner = products([held], [piece]).to(self.inner)
            self.inner[:, self.part].index_add_(0, places.to(inner.device), inner)


@dataclass(frozen=True, eq=False)
class _Passing:
    """One set held in blocks, another passing by each of them."""

    gradients: SampleGradients
    encoded: Encoded
    others: Encoded
    device: torch.device
    progress: Callable[[int, int], None]

    def __call__(self, most: int) -> Products:
        """Do it with batches of at most so many padded tokens."""
        n, m = len(self.encoded), len(self.others)
        pairs = Products(np.full((n, m), np.nan), np.full(n, np.nan), np.full(m, np.nan))
        held = HELD[self.device.type] * most // self.gradients.batch_tokens
        probe, block = mean_nll(self.encoded), _Block()
        at_once = max(1, min(most, held // self.gradients.entries_a_token))
        for chosen, batch in self.gradients.batches(self.encoded, [probe], at_once):
            sink = _Held(block, chosen)
            self.gradients.backward(batch, [probe.direction], [sink])
            pairs.squared[chosen] = _total(sink)
            if block.entries >= held:
                self._meet(block, most, pairs)
                block = _Block()
        if len(block.chosen):
            self._meet(block, most, pairs)
        return pairs

    def _meet(self, block: _Block, most: int, pairs: Products) -> None:
        probe = mean_nll(self.others)
        for chosen, batch in self.gradients.batches(self.others, [probe], most):
            sink = _Met(block, len(chosen), self.device)
            self.gradients.backward(batch, [probe.direction], [sink])
            pairs.inner[np.ix_(block.chosen, chosen)] = sink.inner.cpu().numpy()
            pairs.others_squared[chosen] = _total(sink)
            self.progress(int(np.isfinite(pairs.inner).sum()), pairs.inner.size)


def _total(norms: Norms) -> FloatArray:
    total: FloatArray = total_of([norms.finished()])[0].double().cpu().numpy()
    return total
