"""The mean last hidden state of each sample, taken along on a pass that is made anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrd_core.model.likelihood import Passes


class HiddenStates:
    """Collects what the body of a scorer gives while one whole pass goes through it."""

    def __init__(self) -> None:
        self._passes: Passes | None = None
        self._means: list[Tensor] = []
        self._scored: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def of(self, passes: Passes) -> Iterator[None]:
        """Listen to the pass that is made within."""
        self._passes = passes
        hooks = [
            passes.scorer.register_forward_pre_hook(self._note_positions),
            passes.scorer.get_submodule("body").register_forward_hook(self._note_means),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def means(self) -> npt.NDArray[np.float32]:
        """Return the mean over the scored positions of each sample.

        Returns:
            Shape (N, width), in the order of the samples; NaN for samples without a scored position.
        """
        passes = self._passes
        assert passes is not None  # nothing was listened to
        # A pass that ran out of memory left the means of its first batches behind.
        last = self._means[-len(passes.batches) :]
        states = np.full((len(passes.encoded), last[0].shape[1]), np.nan, dtype=np.float32)
        for batch, means in zip(passes.batches, last, strict=True):
            samples = passes.encoded.owner[batch.flat]
            rows, first = np.unique(batch.rows.cpu().numpy(), return_index=True)
            states[samples[first]] = means[torch.from_numpy(rows)].numpy()
        return states

    def _note_positions(self, _scorer: Any, arguments: tuple[Tensor, Tensor, Tensor]) -> None:
        self._scored = arguments[1:]

    def _note_means(self, _body: Any, _arguments: Any, output: Any) -> None:
        if self._scored is None:
            # The head asks for the body once more, and is given the states that are noted already.
            return
        hidden: Tensor = output.last_hidden_state
        rows, columns = (index.to(hidden.device) for index in self._scored)
        self._scored = None
        sums = hidden.new_zeros(len(hidden), hidden.shape[-1]).index_add_(0, rows, hidden[rows, columns])
        counts = torch.bincount(rows, minlength=len(hidden)).clamp(min=1).unsqueeze(1)
        self._means.append((sums / counts).float().cpu())
