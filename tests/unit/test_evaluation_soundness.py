"""Which models count as damaged, and where the blessing of one is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.kind import EVALUATE
from mrd_core.evaluation.overlap import repetition
from mrd_core.evaluation.soundness import caution, flaws
from mrd_core.runs.files import read_json, write_json
from tests.support.evaluations import answers_of, write_evaluation

ROLES = {"forget": "forget", "retain": "retain"}


def values_of(split: str, **metrics: Sequence[float]) -> pd.DataFrame:
    frames = [
        pd.DataFrame({"split": split, "metric": metric, "value": values}) for metric, values in metrics.items()
    ]
    return pd.concat(frames)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (None, np.nan),
        ("", 1.0),
        (" \n", 1.0),
        ("Paris", 0.0),
        ("she wrote the book", 0.0),
        ("in the In the in the in the", 1 - 2 / 7),
        ("a a a a a", 0.75),
    ],
)
def test_repetition_counts_pairs_of_words(text: str | None, share: float) -> None:
    assert repetition(text) == pytest.approx(share, nan_ok=True)


def test_a_model_that_answers_has_no_flaw() -> None:
    kept = values_of("retain", rouge=[0.8, 0.6], rouge_shuffled=[0.2, 0.1], repetition=[0.0, 0.1])
    assert flaws(kept, ROLES, "kept") == ()
    assert flaws(pd.DataFrame(columns=["split", "metric", "value"]), ROLES) == ()


def test_each_flaw_is_found_by_itself() -> None:
    assert flaws(values_of("retain", rouge=[0.9], rouge_shuffled=[0.1]), ROLES, "damaged") == (
        "its unlearning run lost the retain set",
    )
    (silent,) = flaws(values_of("retain", rouge=[0.2, 0.1], rouge_shuffled=[0.12, 0.1]), ROLES)
    assert "no more of the answers of the retain set" in silent
    # Nearly all answers are "Yes": a whole model, too, meets those of others.
    assert flaws(values_of("retain", rouge=[0.9, 0.9], rouge_shuffled=[0.86, 0.86]), ROLES) == ()
    (repeats,) = flaws(values_of("forget", repetition=[1.0, 0.6, 0.1, np.nan]), ROLES)
    assert repeats.startswith("67% of what it writes to the forget set")
    # Half is not more than half.
    assert flaws(values_of("forget", repetition=[1.0, 0.1]), ROLES) == ()


def test_only_a_blessing_is_doubted() -> None:
    assert "a and b" not in caution(0.04, ("a", "b"))
    assert caution(0.05, ()) == caution(np.nan, ("a",)) == ""
    assert caution(0.05, ("a", "b")).startswith("The model is damaged: a, and b.")


@pytest.mark.parametrize(("rest", "marked"), [("damaged", True), ("kept", False)])
def test_the_command_marks_the_figure(tmp_path: Path, rest: str, marked: bool) -> None:
    values = answers_of(np.random.default_rng(0), 0.2)
    directory = write_evaluation(
        tmp_path / "run", values, method="ga", aggregates={("forget", "forget_quality"): 0.39}
    )
    files = EvaluationFiles(directory)
    unlearned = read_json(files.unlearned)
    write_json(files.unlearned, unlearned | {"summary": unlearned["summary"] | {"rest": rest}})
    description = EVALUATE.describe(directory, files.read_summary())
    assert list(description.table["value"]) == ["0.39 §" if marked else "0.39"]
    assert any("§ Forget quality is no good sign" in line for line in description.lines) is marked
