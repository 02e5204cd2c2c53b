"""A study that was run from its file, as the pages have it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from mrd_core.experiments.kinds import experiments
from mrd_core.runs import Run, RunStore, worker
from mrd_core.studies.course import Course, Standing
from mrd_core.studies.presets import demo_settings
from mrd_core.studies.rows import rows_of
from mrd_core.studies.study import read
from pages.parts.compare.settings import DEMO_LIMIT
from pages.parts.evidence.kinds import presentation
from pages.parts.unlearning.presets import PRESETS
from tests.app.conftest import Home, settings_for, sound, texts
from tests.support.studies import write_study
from tests.support.unlearning_runs import scored_tiny

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
EXPERIMENT = """
[[experiment]]
kind = "validity"
methods = ["ga"]
samples = 6
max_updates = 4
learning_rate = 2e-3
retain_samples = 2
"""


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A data root in which a study has been run, and a run beside it."""
    path = tmp_path_factory.mktemp("studied")
    settings = settings_for(path)
    file = write_study(path, scored_tiny(tmp_path_factory.getbasetemp()), more=EXPERIMENT)
    study, store = read(str(file), ["unlearn.method=ga"]), RunStore.open(settings)
    course = Course(study.name, rows_of(study), store, settings)
    ending = course.carry_out(None, lambda directory: worker.run(directory, store=store), lambda _: None)
    assert {line.standing for line in ending.lines} == {Standing.EXISTS}
    store.create("score", "alone", "cpu", path / "runs" / "alone")
    (run,) = (run for run in store.list(kinds=("score",)) if run.study)
    return Home(path, store, run)


def opened(app: Open, home: Home, page: str) -> AppTest:
    return sound(app(home.path, page, run=home.run.id))


def of_study(home: Home) -> list[Run]:
    return [run for run in home.store.list() if run.study == "tiny"]


def test_the_table_of_runs_filters_by_the_study(app: Open, studied: Home) -> None:
    test = app(studied.path, "start")
    names = list(test.dataframe[0].value["Run"])
    assert "alone" in names
    test.selectbox(key="runs_study").set_value("tiny").run()
    assert len(sound(test).dataframe[0].value) == len(of_study(studied)) == len(names) - 1


def test_unlearning_lays_the_runs_of_the_study_over_each_other(app: Open, studied: Home) -> None:
    test = opened(app, studied, "unlearning")
    chosen = test.multiselect(key="unlearn_looked_at").value
    assert set(chosen) == {run.id for run in of_study(studied) if run.kind == "unlearn"}


def test_compare_has_the_table_of_the_study(app: Open, studied: Home) -> None:
    test = opened(app, studied, "compare")
    assert len(test.multiselect(key="compare_others").value) == 2
    (table,) = [html.value for html in test.html if "<table" in html.value][:1]
    assert "GA + MRD" in table
    assert "Original" in table


def test_evidence_has_the_experiment_of_the_study(app: Open, studied: Home) -> None:
    test = opened(app, studied, "evidence")
    assert "Updates of 6 samples, each unlearned alone (GA (AdamW), seed 0)" in texts(test)
    # The verdict bar rests on the study's unlearning runs and evaluations.
    assert "0 of 10 forgotten at the end" in texts(test)


def test_the_forms_begin_with_what_the_shipped_studies_say() -> None:
    assert {title: (preset.methods, preset.samplers) for title, preset in PRESETS.items()} == {
        "SGA against CGA": (("ga",), ("uniform", "mrd")),
        "GradDiff, PO, NPO with and without MRD": (("graddiff", "po", "npo"), ("uniform", "mrd")),
    }
    assert demo_settings("evaluate")["limit"] == DEMO_LIMIT
    # Each size that a study sets is one that the form asks.
    sizes = {
        kind: {name: value for name, value in demo_settings(kind).items() if name in presentation(kind).sizes}
        for kind in experiments()
    }
    assert sizes == {
        "validity": {"samples": 40, "repeats": 2},
        "parameter-change": {"composites": 40, "size": 10},
        "selection": {"selections": 5, "size": 20},
        "sensitivity": {"samples": 40},
        "theorem": {},
        "durability": {"samples": 48, "seeds": 2, "steps": 16, "draws": 8},
    }
