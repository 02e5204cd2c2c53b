"""How far a sample's gradient reaches where a set of samples has nothing to say: gᵀ(F + λ)⁻¹g, F diagonal.

F is the empirical Fisher information of the set, the mean of its samples' squared gradients (Kirkpatrick et al.
2017, there of the task that is to be kept). Gradients are whole here, one sample's at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.gradients import Norms, SampleGradients
from mrd_core.model.pieces import Dense, Outer, Piece, Rows
from mrd_core.model.products import mean_nll
from mrd_core.model.reader import Reader, within_memory

# λ in units of the mean of F: weights that the set never moves do not decide alone.
DAMPING = 1.0

Gradient = dict[str, Tensor]


def fisher_norms(
    reader: Reader,
    encoded: Encoded,
    kept: Encoded,
    damping: float = DAMPING,
    announce: Callable[[str], None] = warnings.warn,
) -> FloatArray:
    """Return gᵀ(F + λ)⁻¹g of every sample, g and F of the NLL averaged over the answer's tokens, dropout off.

    θ is every floating-point parameter, frozen or not; tied weights are one parameter.

    Args:
        reader: The model; its modes, gradients and flags stay as they are.
        encoded: N samples.
        kept: The samples that F is taken over.
        damping: λ over the mean of F.
        announce: Told, once, what is left to autograd.

    Returns:
        Shape (N,), pure numbers; NaN where a sample has no answer token, and where F vanishes.

    Raises:
        UserError: Out of memory with a single sample.
    """
    gradients = SampleGradients(reader, encoded, announce=announce)
    rows = {name: len(parameter) for name, parameter in reader.network.named_parameters() if parameter.dim()}

    def measure(_most: int) -> FloatArray:
        norms = np.full(len(encoded), np.nan)
        fisher: Gradient = {}
        count = 0
        for _, gradient in _whole(gradients, kept, rows):
            count += 1
            for name, values in gradient.items():
                fisher[name] = fisher.get(name, torch.zeros_like(values)) + values.square()
        total = sum(float(values.sum()) for values in fisher.values())
        mean = total / max(1, sum(map(Tensor.numel, fisher.values())))
        if not mean:
            return norms
        for sample, gradient in _whole(gradients, encoded, rows):
            # Both over the count, which so falls away from their ratio.
            shares = (
                (values.square() / (fisher.get(name, 0.0) + damping * mean)).double().sum()
                for name, values in gradient.items()
            )
            norms[sample] = count * float(sum(shares))
        return norms

    with gradients.ready():
        return within_memory(measure, 1)


def _whole(gradients: SampleGradients, encoded: Encoded, rows: dict[str, int]) -> Iterator[tuple[int, Gradient]]:
    """Yield the gradient of each sample with an answer, by parameter, with the sample's index."""
    probe = mean_nll(encoded)
    for chosen, batch in gradients.batches(encoded, [probe], 1):
        sink = _Whole(rows)
        gradients.backward(batch, [probe.direction], [sink])
        yield int(chosen[0]), sink.gradient


class _Whole(Norms):
    """Adds up the gradient of a single sample."""

    def __init__(self, rows: dict[str, int]) -> None:
        super().__init__(1)
        self._rows = rows
        self.gradient: Gradient = {}

    def take(self, name: str, piece: Piece) -> None:
        """Take what one use of a parameter adds."""
        match piece:
            case Outer():
                values = piece.left[0].mT @ piece.right[0]
            case Rows():
                values = piece.right.new_zeros(self._rows[name], piece.right.shape[2])
                values.index_add_(0, piece.ids[0], piece.right[0])
            case Dense():
                values = piece.values[0]
            case _:
                raise TypeError(f"{type(piece).__name__} is no gradient")
        flat = values.flatten()
        self.gradient[name] = self.gradient[name] + flat if name in self.gradient else flat
