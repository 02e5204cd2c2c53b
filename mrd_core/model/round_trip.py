"""The round trip through whole numbers: what rounding weights to a few bits, and back, does to a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Weights of an input that share a scale, at 4 bits; at 8 bits it is a whole row.
GROUP = 64
# What transformers notes at a module whose experts are matrices of one tensor: whether they are (in, out).
EXPERTS = "is_transposed"


def rounded(weight: Tensor, bits: int, group: int | None) -> Tensor:
    """Return W′ = s·round(W/s) with s = max|W| / (2^(bits−1) − 1), in fp32 arithmetic and the weight's own dtype.

    Symmetric and to nearest, ties to even. Where all weights of a group are 0, they stay.

    Args:
        weight: Shape (out, in).
        bits: At least 2.
        group: Neighbours along the input that share s; the last group may be smaller. None: a row of the matrix.
    """
    most = 2 ** (bits - 1) - 1
    parts = torch.split(weight.to(torch.float32), group or weight.shape[1], dim=1)
    whole = []
    for part in parts:
        scale = part.abs().amax(dim=1, keepdim=True) / most
        whole.append(torch.where(scale > 0, scale * (part / scale).round(), part))
    return torch.cat(whole, dim=1).to(weight.dtype)


@torch.no_grad()
def round_weights(network: Any, bits: int) -> int:
    """Round the weights of all linear layers, experts too, but the head, in place; return how many were rounded.

    At 8 bits a row of a matrix shares its scale, at 4 bits 64 neighbours do. Embeddings, norms and biases stay.

    Args:
        network: A transformers causal language model.
        bits: 8 or 4.
    """
    head, embeddings = network.get_output_embeddings(), network.get_input_embeddings()
    kept = {id(module.weight) for module in (head, embeddings) if module is not None}
    count = 0
    for weight, as_rows in _matrices(network):
        if id(weight) not in kept:
            matrix = as_rows(weight)
            matrix.copy_(rounded(matrix, bits, GROUP if bits == 4 else None))
            count += weight.numel()
    return count


def _matrices(network: Any) -> list[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Return the weights of linear layers and experts, each with what gives it the shape (out, in) as a view."""
    from transformers.pytorch_utils import Conv1D

    matrices: list[tuple[Tensor, Callable[[Tensor], Tensor]]] = []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            matrices.append((module.weight, lambda weight: weight))
        elif isinstance(module, Conv1D):
            matrices.append((module.weight, lambda weight: weight.T))
        elif (is_transposed := getattr(module, EXPERTS, None)) is not None:
            as_rows = (lambda weight: weight.T) if is_transposed else (lambda weight: weight)
            stacks = (stack for stack in module.parameters(recurse=False) if stack.dim() == 3)
            matrices += [(expert, as_rows) for stack in stacks for expert in stack]
    return matrices
