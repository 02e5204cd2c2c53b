"""What evaluations found of the answers on the retain set, by the finished runs of the demo."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.comparison.kept import kept_answers
from mrd_core.dossier.files import Part
from mrd_core.dossier.opening import store_in
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.directory import read_config, write_config


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    return {run.id: run.directory for run in store_in(tmp_path).list()}


def rouge(directory: Path) -> pd.Series[float]:
    values = pd.read_parquet(EvaluationFiles(directory).values).query("split == 'retain' and metric == 'rouge'")
    return values.set_index("sample_id")["value"].sort_index()


def test_answers_before_and_after_are_held_against_each_other_sample_by_sample(runs: dict[str, Path]) -> None:
    evaluations = [runs[part] for part in (Part.BEFORE, Part.AFTER_UNIFORM, Part.AFTER_WEIGHTED)]
    for part, evaluation in ((Part.UNIFORM, Part.AFTER_UNIFORM), (Part.WEIGHTED, Part.AFTER_WEIGHTED)):
        kept = kept_answers(runs[part], evaluations)
        before, after = rouge(runs[Part.BEFORE]), rouge(runs[evaluation])
        assert kept is not None
        assert (kept.before, kept.after, kept.n) == pytest.approx((before.mean(), after.mean(), len(before)))
        assert kept.error == pytest.approx(stats.sem(after - before))
        assert kept.are_lost


def test_the_model_before_is_the_one_that_unlearning_began_with(runs: dict[str, Path]) -> None:
    before, after = runs[Part.BEFORE], runs[Part.AFTER_UNIFORM]
    config = read_config(before, EvaluateConfig)
    bare = config.model.model_copy(update={"adapter": ("elsewhere",)})
    write_config(before, config.model_copy(update={"model": bare}))
    assert kept_answers(runs[Part.UNIFORM], [before, after]) is None


def test_models_that_were_not_asked_alike_are_not_compared(runs: dict[str, Path]) -> None:
    before, after = runs[Part.BEFORE], runs[Part.AFTER_UNIFORM]
    assert kept_answers(runs[Part.UNIFORM], [after]) is None
    assert kept_answers(runs[Part.UNIFORM], [before, runs[Part.AFTER_WEIGHTED]]) is None
    write_config(before, read_config(before, EvaluateConfig).model_copy(update={"max_new_tokens": 7}))
    assert kept_answers(runs[Part.UNIFORM], [before, after]) is None
