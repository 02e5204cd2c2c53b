"""What all passes share: padding, halving, and one pass whose head can be finer than the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mrd_core.errors import UserError
from mrd_core.model.encoding import padded, padding_mask
from mrd_core.model.memorization import log_probs_and_hits
from mrd_core.model.reader import within_memory
from tests.support import tiny


def test_sequences_are_filled_up_behind_or_before() -> None:
    sequences = [np.array([1, 2, 3]), np.array([4]), np.empty(0, dtype=np.int64)]
    assert padded(sequences).tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]
    assert padded(sequences, filling=9, left=True).tolist() == [[1, 2, 3], [9, 9, 4], [9, 9, 9]]
    assert padding_mask(sequences).sum(axis=1).tolist() == [3, 1, 0]
    assert padding_mask(sequences, left=True)[1].tolist() == [False, False, True]


def fitting(room: int) -> tuple[list[int], object]:
    tried: list[int] = []

    def run(most: int) -> int:
        tried.append(most)
        if most > room:
            raise torch.OutOfMemoryError("full")
        return most

    return tried, run


def test_work_is_done_anew_with_half_as_much_until_it_fits() -> None:
    halved: list[int] = []
    tried, run = fitting(12)
    assert within_memory(run, 100, on_halved=halved.append) == 12
    assert tried == [100, 50, 25, 12]
    assert halved == [50, 25, 12]


def test_where_nothing_is_left_to_halve_it_is_an_error_with_advice() -> None:
    tried, run = fitting(0)
    with pytest.raises(UserError, match="The text does not fit") as caught:
        within_memory(run, 40, least=10, what="The text")
    assert tried == [40, 20, 10]
    assert "more memory" in caught.value.fix


def test_another_error_is_none_of_memory() -> None:
    def run(_most: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        within_memory(run, 40)


def test_the_head_is_the_models_own_or_finer() -> None:
    network, dtypes = tiny.llama().bfloat16(), []

    def note(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        dtypes.append(logits.dtype)
        return log_probs_and_hits(logits, targets)

    samples = tiny.encoded(9, 5)
    own, fine = (tiny.reader(network).answers(samples, note, fine_head=fine)[0] for fine in (False, True))
    assert dtypes == [torch.bfloat16, torch.float32]
    assert own.shape == fine.shape == (samples.answer.sum(),)
    assert 0 < np.abs(own - fine).max() < 0.2


def test_samples_without_a_prediction_have_none() -> None:
    for samples in (tiny.encoded(1, 1), tiny.encoded(9).subset(np.empty(0, dtype=np.int64))):
        log_probs, hits = tiny.reader(tiny.llama()).answers(samples, log_probs_and_hits)
        assert log_probs.shape == hits.shape == (0,)


def test_what_follows_from_the_samples_is_worked_out_once() -> None:
    samples = tiny.encoded(9, 5)
    for name in ("lengths", "starts", "owner", "answer", "answer_slices"):
        assert getattr(samples, name) is getattr(samples, name)
