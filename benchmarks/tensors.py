"""The bytes of all tensors that are held at a time, counted by torch's own dispatcher."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class Held(TorchDispatchMode):
    """Counts the storages of tensors that are made within, those of `before` included.

    Args:
        before: Tensors that are there already.

    Attributes:
        now: Held at present [bytes].
        peak: The most that was held at a time [bytes].
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: Any = WeakIdKeyDictionary()
        for tensor in before:
            self._count(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do what is asked, and count what came of it."""
        if func is torch.ops.aten.index_put.default:
            # The gradient of an indexed tensor, which torch makes in place where nobody watches.
            func = torch.ops.aten.index_put_.default
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        held = storage.nbytes()
        self._known[storage] = held
        self.now += held
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, held)

    def _drop(self, held: int) -> None:
        self.now -= held
