"""Plan and figures of a score run are read whatever version wrote them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.records import Plan, Scored, ScoreSummary
from tests.support.scored_demo import copied, scored_demo
from tests.unit.test_cost import SUMMARY, past_run


@pytest.fixture
def files(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> ScoreFiles:
    return ScoreFiles(copied(scored_demo(tmp_path_factory.getbasetemp()), tmp_path / "run"))


def test_what_is_read_is_what_was_written(files: ScoreFiles) -> None:
    written = files.summary.read_text(encoding="utf-8")
    assert json.dumps(files.read_figures().as_json(), indent=2, ensure_ascii=False) + "\n" == written
    assert json.loads(files.read_plan().model_dump_json()) == json.loads(files.plan.read_text(encoding="utf-8"))


def test_files_of_another_version_are_read(files: ScoreFiles) -> None:
    summary = json.loads(files.summary.read_text(encoding="utf-8"))
    del summary["seconds_measures"]
    files.summary.write_text(json.dumps(summary | {"unheard_of": 1}), encoding="utf-8")
    assert files.read_figures().evaluations == summary["evaluations"]
    plan = json.loads(files.plan.read_text(encoding="utf-8"))
    files.plan.write_text(json.dumps(plan | {"unheard_of": 1}), encoding="utf-8")
    assert files.read_plan() == Plan.model_validate(plan)


def test_only_a_score_run_with_its_figures_has_a_summary() -> None:
    known = ScoreSummary.of(past_run(SUMMARY))
    assert known is not None
    assert known.tokens == SUMMARY["tokens"]
    assert ScoreSummary.of(past_run(None)) is None
    assert ScoreSummary.of(past_run({"n_samples": 3})) is None
    assert ScoreSummary.of(replace(past_run(SUMMARY), kind="unlearn")) is None


def test_sign_probes_count_as_the_passes_that_they_cost() -> None:
    figures = SUMMARY | {"sigma": 1e-3, "probes": 6, "passes": 54.2}
    assert ScoreSummary.model_validate(figures).scored("demo").evaluations == 54


def test_scores_that_were_not_needed_cost_nothing() -> None:
    scored = ScoreSummary.model_validate(SUMMARY | {"sigma": 1e-3}).scored("demo")
    assert scored == Scored(
        evaluations=44, seconds=10.0, tokens=1000, sigma=1e-3, model_parameters=2000, title="demo"
    )
    free = scored.without_cost()
    assert (free.evaluations, free.seconds, free.tokens, free.model_parameters, free.sigma) == (0, 0, 0, 0, 1e-3)
