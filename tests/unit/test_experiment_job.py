"""Asking for experiments and carrying them out: what each keeps of the score run, and what survives what."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.job import experiment_job
from mrd_core.experiments.kinds import experiments
from mrd_core.runs import Run, RunState, RunStore, submit, worker
from mrd_core.runs.files import read_json
from mrd_core.samples import ForgetSet
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import GRADIENT_MEASURES, PLAIN_MEASURES
from mrd_core.settings.installation import Settings
from tests.support.experiment_runs import Quiet, halved, units_of
from tests.support.scored_demo import copied, settings_in
from tests.support.unlearning_runs import N_FORGET, N_RETAIN, Scored, forget_rows, retain_rows, scored_tiny
from tests.unit.conftest import write_rows

pytestmark = pytest.mark.slow

# Scoring of a moment, and four samples unlearned alone.
ALONE = {
    "score_run": None,
    "estimator": {"sigma": 1e-3, "draws": 4, "stop": "never", "workers": 1, "probes": False},
    "methods": ("ga",),
    "samples": 4,
    "max_updates": 3,
    "learning_rate": 2e-3,
    "retain_samples": 0,
}
SMALL = {"samples": 4, "sigmas": (1e-4, 1e-3), "dtypes": ("float32",), "pairs": 2, "draws": 8}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@dataclass(frozen=True)
class Place:
    """A data root whose store knows score runs."""

    settings: Settings
    store: RunStore
    scored: Scored

    def score_run(self, name: str = "scored") -> Run:
        """Register a copy of the score run that can be deleted."""
        copy = copied(self.scored.directory, self.settings.home / "runs" / name)
        run = self.store.create("score", name, "cpu", copy)
        for source, to in pairwise((RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.SUCCEEDED)):
            assert self.store.transition(run.id, to, expected=source)
        return self.store.get(run.id)

    def config(self, run: Run, name: str = "sensitivity", **changes: Any) -> ExperimentConfig:
        studied = {
            "score_run": run.directory,
            "forget_set": {"source": str(self.scored.forget)},
            "model": {"source": str(self.scored.model), "device": "cpu"},
        }
        return experiments()[name].config.model_validate(studied | changes)

    def submitted(self, config: ExperimentConfig) -> Run:
        return submit(config, store=self.store, settings=self.settings)

    def carried_out(self, run: Run) -> tuple[ExperimentFiles, dict[str, Any]]:
        """Carry an experiment out and return its files and its summary."""
        assert worker.run(run.directory, store=self.store) is RunState.SUCCEEDED, self.store.get(run.id).error
        return ExperimentFiles(run.directory), self.store.get(run.id).summary or {}

    def refused(self, config: ExperimentConfig) -> UserError:
        """Ask for an experiment that is refused, see that nothing is left of it, and return the reason."""
        runs = self.settings.home / "runs"
        before = (self.store.list(), sorted(runs.glob("*")))
        with pytest.raises(UserError) as error:
            self.submitted(config)
        assert (self.store.list(), sorted(runs.glob("*"))) == before
        return error.value


@pytest.fixture
def place(tmp_path: Path, scored: Scored) -> Place:
    settings = settings_in(tmp_path / "home")
    (settings.home / "runs").mkdir(parents=True)
    return Place(settings, RunStore.open(settings), scored)


def test_a_request_makes_a_queued_run_with_its_own_copy_of_the_scores(place: Place) -> None:
    scored = place.score_run()
    run = place.submitted(place.config(scored, **SMALL))
    assert (run.state, run.kind, run.title) == (
        RunState.QUEUED,
        "sensitivity",
        "Sensitivity: forget.jsonl on model",
    )
    files, source = ExperimentFiles(run.directory), ScoreFiles(scored.directory)
    for copy, original in ((files.samples, source.samples), (files.scores, source.scores)):
        assert copy.read_bytes() == original.read_bytes()
    assert {*PLAIN_MEASURES, *GRADIENT_MEASURES} <= set(pd.read_parquet(files.measures))
    summary = source.read_summary()
    names = ("sigma", "evaluations", "seconds", "tokens", "model_parameters")
    # Sign probes count as the passes that they cost.
    spent = {"title": "forget.jsonl on model", "evaluations": round(summary["passes"])}
    assert read_json(files.scored) == {name: summary[name] for name in names} | spent
    assert not files.retain.exists()


def test_the_copy_of_the_scores_outlives_the_score_run(place: Place) -> None:
    scored = place.score_run()
    first = place.submitted(place.config(scored, **SMALL))
    second = place.submitted(place.config(scored, **SMALL))
    files, _ = place.carried_out(first)
    place.store.delete(scored.id)
    assert not scored.directory.exists()
    again, summary = place.carried_out(second)
    pd.testing.assert_frame_equal(again.read_rows(), files.read_rows(), check_exact=True)
    assert (summary["experiment"], summary["n_samples"], summary["units"]) == ("sensitivity", N_FORGET, 5)
    assert summary["study_sigma"] == summary["scored"]["sigma"] == 1e-3


def test_a_copied_configuration_is_a_run_too(place: Place, tmp_path: Path) -> None:
    files, _ = place.carried_out(place.submitted(place.config(place.score_run(), **SMALL)))
    (tmp_path / "again").mkdir()
    shutil.copy(files.directory / "config.json", tmp_path / "again")
    assert worker.run(tmp_path / "again", store=place.store) is RunState.SUCCEEDED
    again = ExperimentFiles(tmp_path / "again")
    pd.testing.assert_frame_equal(again.read_rows(), files.read_rows(), check_exact=True)


def test_experiments_of_a_score_run_come_newest_first_and_without_those_of_others(place: Place) -> None:
    scored, other = place.score_run(), place.score_run("other")
    submitted = [
        place.submitted(place.config(of, name, **changes))
        for of, name, changes in (
            (scored, "sensitivity", SMALL),
            (other, "sensitivity", SMALL),
            (scored, "theorem", {}),
            (scored, "validity", {"methods": ("ga",)}),
        )
    ]
    alone = place.config(scored, "theorem").model_copy(update={"score_run": None})
    submitted.append(place.submitted(alone))
    ids = [run.id for run in submitted]
    assert [run.id for run in place.store.list(kinds=experiments(), score_run=scored)] == [
        ids[3],
        ids[2],
        ids[0],
    ]
    assert [run.id for run in place.store.list(kinds=experiments(), score_run=other)] == [ids[1]]
    assert place.store.list(kinds=experiments(), score_run=submitted[0]) == []
    assert place.store.list(kinds=("unlearn",), score_run=scored) == []
    assert place.store.score_run_of(submitted[1]).id == other.id
    assert place.store.score_run_of(submitted[3]).id == scored.id
    # What scores for itself builds on no run but its own.
    assert place.store.score_run_of(submitted[4]).id == ids[4]
    assert place.store.score_run_of(scored).id == scored.id


def test_an_experiment_whose_directory_was_removed_by_hand_is_not_listed(place: Place) -> None:
    scored = place.score_run()
    first, second = (place.submitted(place.config(scored, **SMALL)) for _ in range(2))
    shutil.rmtree(second.directory)
    assert [run.id for run in place.store.list(kinds=experiments(), score_run=scored)] == [first.id]


def test_a_score_run_that_the_store_does_not_know_is_named(place: Place) -> None:
    scored = place.score_run()
    run = place.submitted(place.config(scored))
    place.store.delete(scored.id)
    with pytest.raises(UserError, match="is not in this store") as error:
        place.store.score_run_of(run)
    assert str(scored.directory) in error.value.what


@pytest.mark.parametrize("name", [name for name, each in experiments().items() if each.base is None])
def test_a_score_run_that_has_not_finished_is_refused(name: str, place: Place) -> None:
    scored = place.score_run()
    # Killed between its scores and its summary.
    ScoreFiles(scored.directory).summary.unlink()
    error = place.refused(place.config(scored, name))
    assert "has not finished" in error.why
    assert "runs list" in error.fix
    assert str(scored.directory) in error.what


def test_the_retain_set_loses_the_rows_that_are_to_be_forgotten(place: Place, tmp_path: Path) -> None:
    kept = write_rows(tmp_path / "kept.jsonl", forget_rows()[:3] + retain_rows() + forget_rows()[3:5])
    wanted = place.config(place.score_run(), "validity", retain={"source": str(kept)}, methods=("npo",))
    files = ExperimentFiles(place.submitted(wanted).directory)
    assert list(ForgetSet.load(files.retain).frame["sample_id"]) == [f"r{i}" for i in range(N_RETAIN)]


@pytest.mark.parametrize(("rows", "reason"), [(forget_rows(), "has no row"), (None, "gone.jsonl")])
def test_a_retain_set_that_keeps_nothing_is_refused(rows: Any, reason: str, place: Place, tmp_path: Path) -> None:
    path = tmp_path / "gone.jsonl" if rows is None else write_rows(tmp_path / "same.jsonl", rows)
    wanted = place.config(place.score_run(), "selection", retain={"source": str(path)})
    assert reason in str(place.refused(wanted))


@pytest.mark.parametrize("earlier", [False, True], ids=["with its copies", "of an earlier version, without any"])
def test_without_a_score_run_the_sets_are_those_that_were_named_when_it_was_asked_for(
    place: Place, tmp_path: Path, earlier: bool
) -> None:
    forget = write_rows(tmp_path / "forget.jsonl", forget_rows()[:5])
    kept = write_rows(tmp_path / "kept.jsonl", forget_rows()[:2] + retain_rows())
    sets = {"forget_set": {"source": str(forget)}, "retain": {"source": str(kept)}}
    run = place.submitted(place.config(place.score_run(), "validity", **ALONE | sets))
    if earlier:
        shutil.rmtree(ExperimentFiles(run.directory).scoring)
        ExperimentFiles(run.directory).retain.unlink()
    else:
        # What becomes of the files while it waits is nothing to it.
        write_rows(forget, forget_rows()[5:])
        kept.unlink()
    files, summary = place.carried_out(run)
    assert list(ForgetSet.load(files.samples).frame["sample_id"]) == [f"f{i}" for i in range(5)]
    assert list(ForgetSet.load(files.retain).frame["sample_id"]) == [f"r{i}" for i in range(N_RETAIN)]
    assert summary["n_samples"] == 5


@pytest.mark.parametrize("name", ["forget_set", "retain"])
def test_a_set_that_is_not_there_is_named_before_anything_is_scored(
    name: str, place: Place, tmp_path: Path
) -> None:
    gone = {name: {"source": str(tmp_path / "gone.jsonl")}}
    assert "gone.jsonl" in str(place.refused(place.config(place.score_run(), "validity", **ALONE | gone)))


def test_a_directory_that_holds_a_run_is_refused(place: Place, tmp_path: Path) -> None:
    wanted = place.config(place.score_run())
    where: dict[str, Any] = {"store": place.store, "settings": place.settings, "directory": tmp_path / "here"}
    submit(wanted, **where)
    before = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    with pytest.raises(UserError, match="already holds a run"):
        submit(wanted.model_copy(update={"seed": 1}), **where)
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == before


def test_a_killed_run_goes_on_behind_its_last_whole_line(place: Place, tmp_path: Path) -> None:
    wanted = place.config(place.score_run(), **SMALL)
    whole, _ = place.carried_out(place.submitted(wanted))
    killed = halved(whole, tmp_path / "killed")
    finished = killed.finished_units()
    assert list(finished) == units_of(whole)[:2]
    # What there is of it can be looked at meanwhile.
    assert killed.read_rows().equals(pd.DataFrame([row for rows in finished.values() for row in rows]))
    experiment_job(wanted, Quiet(killed.directory))
    pd.testing.assert_frame_equal(killed.read_rows(), whole.read_rows(), check_exact=True)
    assert units_of(killed) == units_of(whole)


def test_units_that_are_done_are_not_done_again(place: Place) -> None:
    wanted = place.config(place.score_run(), **SMALL)
    files, summary = place.carried_out(place.submitted(wanted))
    marked = files.units.read_text().replace('"part": "floor"', '"part": "kept"')
    files.units.write_text(marked)
    files.summary.unlink()
    experiment_job(wanted, Quiet(files.directory))
    assert files.units.read_text() == marked
    assert "kept" in set(files.read_rows()["part"])
    # A finished run is left alone: not even its model is loaded.
    gone = wanted.model_copy(update={"model": wanted.model.model_copy(update={"source": "/no/such/model"})})
    assert experiment_job(gone, Quiet(files.directory)).keys() == summary.keys()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ('{"unit": "a", "rows"', ""),
        ('{"unit": "a", "rows": []}', ""),
        ('{"unit": "a", "rows": []}\n', '{"unit": "a", "rows": []}\n'),
        ('{"unit": "a", "rows": []}\n{"un', '{"unit": "a", "rows": []}\n'),
    ],
)
def test_mending_the_log_leaves_whole_lines_that_more_can_follow(text: str, whole: str, tmp_path: Path) -> None:
    files = ExperimentFiles(tmp_path)
    files.mend()
    assert not files.units.exists()
    files.units.write_text(text)
    before = files.finished_units()
    files.mend()
    assert files.units.read_text() == whole
    assert files.finished_units() == before
    rows = [{"part": "new", "value": 0.1, "none": None, "many": ["é\u2028", 2]}]
    files.append("b", rows)
    assert files.finished_units() == before | {"b": rows}


def test_the_summary_is_json_without_nan_and_holds_what_the_rows_do_not(place: Place) -> None:
    files, summary = place.carried_out(place.submitted(place.config(place.score_run(), **SMALL)))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(files.summary.read_text(), parse_constant=refuse) == summary
    assert {"reasons", "warnings", "units", "seconds", "scored", "n_samples"} <= summary.keys()
    assert summary["units"] == len(files.finished_units())
    assert len(files.read_rows()) == sum(map(len, files.finished_units().values()))
