"""On a GPU: an evaluation finds what it finds on the CPU."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mrd_core.evaluation.answering import measure_answers
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Subject
from mrd_core.model.loading import LoadedModel
from tests.support import tiny
from tests.unit.conftest import rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
CONTEXT = 128
# A text may part where two tokens are all but equally likely.
WRITTEN = ("rouge", "rouge_f1", "rouge_shuffled", "answer_match")


def values_on(device: torch.device) -> pd.Series[float]:
    """Return what a random model makes of a few samples, by sample and metric."""
    tokenizer = tiny.tokenizer()
    network = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT).to(device)
    model = LoadedModel(network, tokenizer, device, torch.float32, CONTEXT, {})
    frame = pd.DataFrame(rows(16)).rename(columns={"question": "prompt"})
    frame["sample_id"] = frame.index.astype(str)
    asked = EvaluationSet("forget", "forget set", "forget", "answers", frame)
    values = measure_answers(Subject(model, tiny.encoder(tokenizer, CONTEXT), 512, 16, 40.0), asked).values
    return values[~values["metric"].isin(WRITTEN)].set_index(["sample_id", "metric"])["value"]


def test_likelihoods_and_attacks_are_those_of_the_cpu() -> None:
    expected, found = values_on(tiny.CPU), values_on(torch.device("cuda", 0))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
