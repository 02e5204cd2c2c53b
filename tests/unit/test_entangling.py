"""What a retain set would lose by each sample of a score run is a column that orders unlearning."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from mrd_core.model import loading
from mrd_core.model.encoding import answerable
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.entanglement import entanglement, nearest
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import imported
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES
from mrd_core.unlearning.config import CurriculumConfig
from mrd_core.unlearning.curriculum_export import planned
from tests.support import replay
from tests.support.commands import Outcome
from tests.support.unlearning_runs import Scored, scored_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scored]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield scored_tiny(tmp_path_factory.getbasetemp())


def test_the_column_is_made_of_products_and_orders_the_samples(
    scored: Scored, cli: Callable[..., Outcome]
) -> None:
    files = ScoreFiles(scored.directory)
    ended = cli("columns", "entanglement", scored.directory, "--retain-set", scored.retain, "--json")
    assert ended.code == 0, ended.said
    assert json.loads(ended.out)["name"] == "entanglement"
    column = imported(files).columns["entanglement"]
    again = cli("columns", "entanglement", scored.directory, "--retain-set", scored.retain)
    assert again.code == 2
    assert "columns remove" in again.said
    # By whole gradients.
    model = loading.load(scored.config().model)
    encoder = model.encoder(scored.config().model)
    forget, retain = ForgetSet.load(files.samples), read(ForgetSetConfig(source=str(scored.retain)))
    own = replay.gradients(model.network, encoder.encode(forget))
    kept = replay.gradients(model.network, answerable(encoder.encode(retain), "retain", []))
    expected = (own @ kept.T).mean(axis=1)
    values = np.array([column.values[sample] for sample in forget.frame["sample_id"]])
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    order = planned(scored.directory, CurriculumConfig(sampler="entanglement"), seed=0)
    assert [row["weight"] for row in order] == sorted(values)
    shown = cli("curriculum", "--scores", scored.directory, "--sampler", "entanglement")
    assert [json.loads(line)["weight"] for line in shown.out.splitlines()] == sorted(values)
    assert cli("columns", "remove", scored.directory, "entanglement").code == 0


@pytest.mark.parametrize(
    ("options", "measure"),
    [((), ""), (("--column", "entanglement-cosine"), " --measure entanglement_cosine")],
)
def test_an_order_by_a_column_that_is_not_measured_names_the_command(
    scored: Scored, cli: Callable[..., Outcome], options: tuple[str, ...], measure: str
) -> None:
    order = ("--scores", scored.directory, "--sampler", "entanglement-weighted", *options)
    retain = ("--method", "ga", "--retain-set", scored.retain)
    for command, source in ((("unlearn", *order, *retain), scored.retain), (("curriculum", *order), "RETAIN_SET")):
        ended = cli(*command)
        assert ended.code == 2
        assert "is not measured yet" in ended.said
        entangle = f"mrd-lens columns entanglement {scored.directory} --retain-set {source}{measure}"
        assert entangle.replace(" ", "") in ended.said.replace(" ", "")


def test_an_order_by_entanglement_takes_no_other_column(scored: Scored, cli: Callable[..., Outcome]) -> None:
    ended = cli(
        "curriculum", "--scores", scored.directory, "--sampler", "entanglement", "--column", "n_tokens_answer"
    )
    assert ended.code == 2
    assert "takes a column of entanglement" in ended.said


def test_measures_of_products_by_hand() -> None:
    inner, cosines = np.array([[1.0, 3, -1], [0, 0, 0]]), np.array([[0.5, 0.1, -0.3], [np.nan] * 3])
    columns = entanglement(inner, cosines, np.array([4.0, 0.0]))
    assert set(columns) == set(ENTANGLEMENT_MEASURES)
    assert {name: list(values) for name, values in columns.items() if name != "entanglement_price"} == {
        "entanglement": [1, 0],
        "entanglement_max": [3, 0],
        "entanglement_cosine": [pytest.approx(0.1), 0],
        "entanglement_cosine_max": [0.5, 0],
    }
    np.testing.assert_array_equal(columns["entanglement_price"], [0.25, np.nan])
    assert nearest(cosines, ["a", "b", "c"])[0] == ["a", "b", "c"]
    unanswered = entanglement(np.full((1, 2), np.nan), np.full((1, 2), np.nan), np.array([np.nan]))
    assert all(np.isnan(values).all() for values in unanswered.values())
