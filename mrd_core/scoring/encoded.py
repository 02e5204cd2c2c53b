"""The tokens of a score run, kept: what was scored is what is unlearned and evaluated, whatever the clock says."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from mrd_core.model.config import ModelConfig
from mrd_core.model.encoding import Encoded, EncodedSample
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import write_frame
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles

ROWS = 256


def digest_of_words(tokenizer: Any) -> str:
    """Return the SHA-256 (hexadecimal) over the words of a tokenizer with their ids."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def keep_encoded(files: ScoreFiles, encoded: Encoded) -> None:
    """Write the samples as tokens, a row each."""
    columns = {
        field.name: [getattr(sample, field.name) for sample in encoded.samples] for field in fields(EncodedSample)
    }
    write_frame(files.encoded, pd.DataFrame({"sample_id": encoded.sample_ids, **columns}))


def stored_samples(
    score_run: Path | None, tokenizer: Any, config: ModelConfig
) -> dict[tuple[str, str], EncodedSample]:
    """Return the samples of a score run as tokens, by prompt and answer.

    None of a run that kept none, and none where another vocabulary or another form is asked for.
    """
    files = ScoreFiles(score_run) if score_run else None
    if files is None or not (files.encoded.exists() and files.plan.exists()):
        return {}
    form = read_config(files.directory, ScoreConfig).model.form
    if (files.read_plan().vocabulary, form) != (digest_of_words(tokenizer), config.form):
        return {}
    frame = ForgetSet.load(files.samples).frame
    texts = dict(zip(frame["sample_id"], zip(frame["prompt"], frame["answer"], strict=True), strict=True))
    samples = {}
    # As objects of Python a large set takes fifty times the space: some rows at a time, each word once.
    for batch in pq.ParquetFile(files.encoded).iter_batches(ROWS):
        for row in batch.to_pylist():
            text, pieces = texts[row.pop("sample_id")], tuple(map(sys.intern, row.pop("pieces")))
            tokens, answer = np.array(row.pop("tokens"), np.int64), np.array(row.pop("answer"), np.bool_)
            samples[text] = EncodedSample(tokens, answer, pieces, **row)
    return samples
