"""Two sets: a verdict where there can be one, a refusal in words where not, and one set by several runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.difficulty import Variant
from analysis.sets import same as same_set
from analysis.sets.different import compared
from analysis.statistics.wording import in_figures
from mrd_core.runs import Run, RunStore, annotation
from mrd_core.scoring.files import ScoreFiles
from tests.app.conftest import Home, adopted, numbers, settings_for, sound, texts
from tests.support.scored_demo import scored_demo

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]


@pytest.fixture
def larger(own: Home, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of another set in the same data root."""
    demo = scored_demo(tmp_path_factory.getbasetemp())
    run = RunStore.open(settings_for(demo.parents[1])).find_by_directory(demo)
    assert run is not None
    return adopted(own.store, run)


def beside(app: Open, home: Home, *runs: Run) -> AppTest:
    return app(home.path, "two_sets", run=home.run.id, sets=",".join(run.id for run in runs))


def test_one_run_is_nothing_to_compare(app: Open, own: Home, tmp_path: Path) -> None:
    assert "there are fewer" in texts(app(own.path, "two_sets"))
    assert "there are fewer" in texts(app(tmp_path / "empty", "two_sets"))


def test_two_sets_get_a_verdict_under_their_names(app: Open, own: Home, larger: Run) -> None:
    other = annotation.rename(own.store, larger, "Held **out**")
    test = beside(app, own, own.run, other)
    expected = compared(own.run.directory, other.directory, Variant())
    verdict, _, _ = expected.sentence.partition(": ")
    assert verdict in [heading.value for heading in test.header]
    # The name is the user's, and no markup.
    assert r"**B** Held \*\*out\*\*" in texts(test)
    figure = json.loads(test.get("plotly_chart")[0].proto.spec)
    assert [len(numbers(curve["x"])) for curve in figure["data"]] == [len(expected.first), len(expected.second)]
    assert "Held **out**" in figure["data"][1]["name"]


def test_sets_that_were_scored_otherwise_get_no_verdict_and_a_way_out(app: Open, own: Home, larger: Run) -> None:
    files = ScoreFiles(larger.directory)
    files.plan.write_text(files.read_plan().model_copy(update={"sigma": 0.002}).model_dump_json())
    test = beside(app, own, own.run, larger)
    (warning,) = test.warning
    said = warning.value.replace("\\", "")
    assert said == compared(own.run.directory, larger.directory, Variant()).sentence
    assert "σ of the noise (0.001 and 0.002)" in said
    assert "`" not in warning.value
    assert not test.get("plotly_chart")


def test_one_set_by_three_runs_is_one_view(app: Open, own: Home, finished: Home) -> None:
    runs = [own.run, *(adopted(own.store, finished.run, mark) for mark in "ab")]
    test = beside(app, own, *runs)
    expected = same_set.compared([run.directory for run in runs], Variant())
    assert in_figures(expected.pairs[0].agreement) in texts(test)
    agreements, changes = (table.value for table in test.dataframe)
    assert list(agreements["Runs"]) == ["A and B", "A and C", "B and C"]
    assert list(agreements["Spearman's ρ"]) == pytest.approx([1, 1, 1])
    assert list(changes["change"]) == [0] * 20
    assert {"rank_0", "rank_1", "rank_2"} <= set(changes)
    test.selectbox(key="set_pair").set_value(2).run()
    assert "The rankings of B and C" in texts(sound(test))
    assert "sets" in test.query_params


def test_three_runs_of_several_sets_are_refused(app: Open, own: Home, finished: Home, larger: Run) -> None:
    runs = [own.run, adopted(own.store, finished.run, "a"), larger]
    assert "sets are compared two at a time" in texts(beside(app, own, *runs))


def test_a_run_that_lost_its_files_is_named(app: Open, own: Home, larger: Run) -> None:
    ScoreFiles(larger.directory).draws.unlink()
    assert "has lost draws.parquet" in texts(beside(app, own, own.run, larger))
