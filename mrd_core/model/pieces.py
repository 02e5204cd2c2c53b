"""Gradients of single samples, kept as the factors that they are made of.

The gradient of a linear layer's weight is Σ_t g_t x_tᵀ: its norm, and its product with another sample's, follow
from products of the inputs x and of the output gradients g alone (Goodfellow 2015; "ghost norms"). A piece is what
one use of a parameter adds to the gradients of the B samples of a batch; a parameter that is used several times
has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

# Entries of per-sample gradients that exist at once.
ENTRIES = {"cpu": 1 << 22, "cuda": 1 << 28}


@dataclass(frozen=True)
class Outer:
    """Σ_t left_t right_tᵀ: a weight that multiplies.

    Attributes:
        left: Shape (B, T, p); T need not be that of other pieces.
        right: Shape (B, T, q).
    """

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Rows:
    """Σ_t e_(ids_t) right_tᵀ: a weight whose rows are looked up.

    Attributes:
        ids: Shape (B, T).
        right: Shape (B, T, q).
    """

    ids: Tensor
    right: Tensor


@dataclass(frozen=True)
class Dense:
    """A gradient as it is, of shape (B, n)."""

    values: Tensor


@dataclass(frozen=True)
class Crossing:
    """What `Outer` needs to be multiplied with `Rows` of the same samples, when its own norm is known already.

    Attributes:
        left: left_t at the ids of the rows, shape (B, T, S).
        right: Shape (B, T, q).
    """

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, outer: Outer, ids: Tensor) -> Crossing:
        """Keep of `outer` what meets rows at `ids`, shape (B, S)."""
        return cls(_at(outer.left, ids), outer.right)


Piece = Outer | Rows | Dense | Crossing


def squared_norms(pieces: Sequence[Piece]) -> Tensor:
    """Return ‖Σ pieces‖² of every sample, shape (B,); pieces of one parameter and of the same B samples.

    The own norm of a `Crossing` is left out.
    """
    own = [_own(piece) for piece in pieces if not isinstance(piece, Crossing)]
    return torch.stack(own + [2 * _paired(a, b) for a, b in combinations(pieces, 2)]).sum(0)


def products(some: Sequence[Piece], others: Sequence[Piece]) -> Tensor:
    """Return the inner product of every sample's gradient with every other's, (B, B′), of one parameter."""
    return torch.stack([_crossed(a, b) for a in some for b in others]).sum(0)


def entries_of(piece: Piece) -> int:
    """Return how many numbers a piece holds."""
    return sum(values.numel() for values in vars(piece).values())


def _own(piece: Outer | Rows | Dense) -> Tensor:
    if isinstance(piece, Dense):
        return piece.values.square().sum(1)
    if isinstance(piece, Outer) and not _by_tokens(piece):
        size = piece.left.shape[2] * piece.right.shape[2]
        at_once = max(1, ENTRIES[piece.left.device.type] // size)
        parts = zip(torch.split(piece.left, at_once), torch.split(piece.right, at_once), strict=True)
        return torch.cat([(left.mT @ right).square().sum((1, 2)) for left, right in parts])
    return _paired(piece, piece)


def _by_tokens(outer: Outer) -> bool:
    """Tell whether products of tokens are cheaper than the gradient itself."""
    tokens, p, q = outer.left.shape[1], outer.left.shape[2], outer.right.shape[2]
    return tokens * (p + q) < p * q


def _paired(a: Piece, b: Piece) -> Tensor:
    """Return the inner product of each sample's a with its b, shape (B,)."""
    match a, b:
        case Dense(), Dense():
            return (a.values * b.values).sum(1)
        case Outer(), Outer():
            return ((a.left @ b.left.mT) * (a.right @ b.right.mT)).sum((1, 2))
        case Rows(), Rows():
            same = a.ids.unsqueeze(2) == b.ids.unsqueeze(1)
            return torch.where(same, a.right @ b.right.mT, 0).sum((1, 2))
        case Outer() | Crossing(), Rows():
            left = a.left if isinstance(a, Crossing) else _at(a.left, b.ids)
            return (left * (a.right @ b.right.mT)).sum((1, 2))
        case Rows(), Outer() | Crossing():
            return _paired(b, a)
    raise TypeError(f"{type(a).__name__} and {type(b).__name__} are no pieces of one parameter")


def _at(left: Tensor, ids: Tensor) -> Tensor:
    """Return the columns of left (B, T, p) that each sample's ids (B, S) name, shape (B, T, S)."""
    return left.gather(2, ids.unsqueeze(1).expand(-1, left.shape[1], -1))


def _crossed(a: Piece, b: Piece) -> Tensor:
    """Return the inner product of each sample's a with each sample's b, shape (B, B′)."""
    match a, b:
        case Dense(), Dense():
            return a.values @ b.values.T
        case Outer(), Outer() if not _by_tokens(a):
            return _crossed(_whole(a), _whole(b))
        case Outer(), Outer():
            return _over_tokens(_flat(a.left) @ _flat(b.left).T, a, b)
        case Rows(), Rows():
            return _over_tokens((a.ids.reshape(-1, 1) == b.ids.reshape(1, -1)).to(a.right.dtype), a, b)
        case Outer(), Rows():
            return _over_tokens(_flat(a.left)[:, b.ids.flatten()], a, b)
        case Rows(), Outer():
            return _crossed(b, a).T
    raise TypeError(f"{type(a).__name__} and {type(b).__name__} are no pieces of one parameter")


def _whole(outer: Outer) -> Dense:
    return Dense((outer.left.mT @ outer.right).flatten(1))


def _over_tokens(left: Tensor, a: Outer | Rows, b: Outer | Rows) -> Tensor:
    """Sum left ∘ (right of a)(right of b)ᵀ, shape (B·T, B′·T′), over the tokens of each pair of samples."""
    by_token = left * (_flat(a.right) @ _flat(b.right).T)
    shape = (len(a.right), a.right.shape[1], len(b.right), b.right.shape[1])
    return by_token.reshape(shape).sum((1, 3))


def _flat(values: Tensor) -> Tensor:
    return values.flatten(0, 1)
