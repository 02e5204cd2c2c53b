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
from mrd_core.model.reader import Batch


class HiddenStates:
    """Collects what the body of a scorer gives while one whole pass goes through it."""

    def __init__(self) -> None:
        self._passes: Passes | None = None
        self._batch: Batch | None = None
        self._means: npt.NDArray[np.float32] | None = None

    @contextmanager
    def of(self, passes: Passes) -> Iterator[None]:
        """Listen to the pass that is made within."""
        self._passes = passes
        hooks = [
            passes.scorer.register_forward_pre_hook(self._note_batch),
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
        assert self._means is not None  # nothing was listened to
        return self._means

    def _note_batch(self, _scorer: Any, arguments: tuple[Tensor, Tensor, Tensor]) -> None:
        assert self._passes is not None
        # By identity, because a pass that ran out of memory begins again with other batches.
        self._batch = next(batch for batch in self._passes.batches if batch.ids is arguments[0])

    def _note_means(self, _body: Any, _arguments: Any, output: Any) -> None:
        if self._batch is None or self._passes is None:
            # The head asks for the body once more, and is given the states that are noted already.
            return
        batch, self._batch = self._batch, None
        hidden: Tensor = output.last_hidden_state
        rows, columns = batch.rows.to(hidden.device), batch.columns.to(hidden.device)
        sums = hidden.new_zeros(len(hidden), hidden.shape[-1]).index_add_(0, rows, hidden[rows, columns])
        counts = torch.bincount(rows, minlength=len(hidden)).clamp(min=1).unsqueeze(1)
        means = (sums / counts).float().cpu().numpy()
        if self._means is None:
            self._means = np.full((len(self._passes.encoded), means.shape[1]), np.nan, dtype=np.float32)
        scored, first = np.unique(batch.rows.cpu().numpy(), return_index=True)
        self._means[self._passes.encoded.owner[batch.flat][first]] = means[scored]
