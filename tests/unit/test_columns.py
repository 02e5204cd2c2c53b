"""What is declared of the columns of `scores.parquet` is what a score run writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import MRD_TITLES, SCORE_COLUMNS, mrd_column
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import MRD_MEASURES
from tests.support.scored_demo import scored_demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run: Path = scored_demo(tmp_path_factory.getbasetemp())
    return pd.read_parquet(ScoreFiles(run).scores)


def test_a_run_writes_the_declared_columns_in_their_order_and_types(scores: pd.DataFrame) -> None:
    assert list(scores) == [column.name for column in SCORE_COLUMNS]
    types = {name: str(dtype) for name, dtype in scores.dtypes.items()}
    assert types == {column.name: column.dtype for column in SCORE_COLUMNS}


def test_every_variant_has_the_name_that_its_measure_has() -> None:
    assert mrd_column(Scope.ANSWER, Normalisation.MEAN) == "mrd_answer_mean"
    assert mrd_column(Scope.FULL, Normalisation.SUM, Formula.MEAN_ABSOLUTE) == "mean_absolute_full_sum"
    declared = {column.name: column for column in SCORE_COLUMNS}
    assert {name: measure.unit for name, measure in MRD_MEASURES.items()} == {
        name: declared[name].unit for name in MRD_MEASURES
    }
    assert set(MRD_TITLES) < set(MRD_MEASURES)


def test_documents_can_show_every_column_with_its_meaning() -> None:
    assert ScoreFiles.artifacts()["scores"].columns == SCORE_COLUMNS
    assert all(column.about for column in SCORE_COLUMNS)
