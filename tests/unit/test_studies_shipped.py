"""The studies that ship with the program: each is read, validated, counted, and priced without what it names."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

import pytest

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.kinds.parameter_change import ParameterChangeConfig
from mrd_core.experiments.kinds.sensitivity import SensitivityConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.studies.rows import rows_of
from mrd_core.studies.study import read, shipped
from mrd_core.unlearning.config import UnlearnConfig
from tests.conftest import REPOSITORY
from tests.support.commands import Outcome

# By kind of run: how many each stands for.
COUNTS = {
    # Four methods, two samplers, five trials; each model evaluated, and the original.
    "table-1": {"score": 1, "unlearn": 4 * 2 * 5, "evaluate": 4 * 2 * 5 + 1},
    "wmdp": {"score": 1, "unlearn": 3 * 2, "evaluate": 3 * 2 + 1},
    "whp": {"score": 1, "unlearn": 3 * 2, "evaluate": 3 * 2 + 1},
    "safe": {"score": 1, "unlearn": 3 * 2, "evaluate": 3 * 2 + 1},
    "table-7": {"score": 1, "characteristics": 1},
    "figure-2": {"score": 1, "selection": 1},
    "figure-3": {"score": 1, "parameter-change": 1},
    "figure-4": {"score": 1, "validity": 1},
    "figure-5": {"score": 1, "sensitivity": 1},
    "small-table-1": {"score": 1, "unlearn": 4 * 2, "evaluate": 4 * 2 + 1},
    "small-table-7": {"score": 1, "characteristics": 1},
    "small-figure-2": {"score": 1, "selection": 1},
    "small-figure-3": {"score": 1, "parameter-change": 1},
    "small-figure-4": {"score": 1, "validity": 1},
    "small-figure-5": {"score": 1, "sensitivity": 1},
    "small-durability": {"score": 1, "unlearn": 1, "durability": 1},
    "demo": {"score": 1, "unlearn": 2, "evaluate": 3, "validity": 1, "durability": 1},
    "sga-against-cga": {"score": 1, "unlearn": 2, "evaluate": 3},
    "graddiff-po-npo": {"score": 1, "unlearn": 6, "evaluate": 7},
    # Three arms, five orders, a seed and its samples at a time.
    "curricula-demo": {"score": 1, "unlearn": 3 * 5},
    "curricula-tofu": {"score": 1, "unlearn": 3 * 5},
    # Five methods, three seeds, and one experiment on all that they made.
    "durability-demo": {"score": 1, "unlearn": 5 * 3, "durability": 1},
    "durability-tofu": {"score": 1, "unlearn": 5 * 3, "durability": 1},
    "durability-stops": {"score": 1, "unlearn": 2 * 5 * 3, "durability": 1},
    # On a pretrained model.
    "pretrained-table-1": {"score": 1, "unlearn": 5 * 3 * 3, "evaluate": 2 * (5 * 3 * 3 + 1)},
    "pretrained-table-7": {"score": 2, "characteristics": 2},
    "pretrained-figures-2-3": {"score": 1, "selection": 1, "parameter-change": 1},
    "pretrained-figure-4": {"score": 1, "validity": 5},
    "pretrained-figure-5": {"score": 1, "sensitivity": 1, "theorem": 1},
    "pretrained-durability": {"score": 1, "unlearn": 2, "durability": 1},
}
# Need a model and samples of one's own.
ELSEWHERE = ("curricula-tofu", "durability-tofu", *(name for name in COUNTS if name.startswith("pretrained-")))
PAPERS = [name for name in COUNTS if re.fullmatch(r"table-\d|figure-\d|wmdp|whp|safe", name)]


def test_every_shipped_study_is_known_here() -> None:
    assert set(shipped()) == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_each_is_read_validated_and_counted(name: str) -> None:
    study = read(name)
    rows = rows_of(study)
    assert study.name.lower() == name
    assert study.content.title
    assert study.content.about
    assert Counter(row.kind for row in rows) == COUNTS[name]
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.usefixtures("home")
def test_those_of_the_paper_are_priced_without_a_network(name: str, cli: Callable[..., Outcome]) -> None:
    outcome = cli("study", "run", name, "--dry-run", "--json", "--pace", "4e14")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    seconds = {run["kind"]: run["seconds"] for run in told["runs"]}
    # Nothing is known of the reading of texts before one was made.
    assert all(seconds[kind] > 8 for kind in seconds if kind != "characteristics")
    assert told["left_seconds"] == pytest.approx(sum(run["seconds"] or 0.0 for run in told["runs"]))
    halved = json.loads(cli("study", "run", name, "--dry-run", "--json", "--pace", "2e14").out)
    starts = sum(run["seconds"] is not None for run in told["runs"]) * 8
    assert halved["left_seconds"] - starts == pytest.approx(2 * (told["left_seconds"] - starts), rel=1e-6)


@pytest.mark.parametrize("name", [name for name in COUNTS if name not in (*PAPERS, *ELSEWHERE)])
@pytest.mark.usefixtures("home")
def test_those_on_the_demo_are_priced_by_what_is_there(name: str, cli: Callable[..., Outcome]) -> None:
    outcome = cli("study", "run", name, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert {run["state"] for run in told["runs"]} == {"to do"}
    assert 0 < told["left_seconds"] < 3600
    assert all(run["memory"] for run in told["runs"] if run["kind"] == "unlearn")
    table = cli("study", "run", name, "--dry-run")
    assert read(name).title in table.said
    assert "Nothing was started." in table.err


@pytest.mark.usefixtures("home")
def test_what_is_not_known_of_a_model_is_said(cli: Callable[..., Outcome]) -> None:
    outcome = cli("study", "run", "figure-4", "--dry-run", "--set", "models.base.expects={}")
    assert outcome.code == 0
    assert "the size of open-unlearning/tofu_Llama-2-7b-chat-hf_full is not known here" in outcome.said
    assert "2 of unknown cost" in outcome.said


@pytest.mark.parametrize("name", PAPERS)
def test_those_of_the_paper_score_as_published(name: str) -> None:
    score = rows_of(read(name))[0].config()
    assert isinstance(score, ScoreConfig)
    assert score.estimator == EstimatorConfig.paper()
    assert (score.estimator.sigma, score.estimator.draws, score.estimator.mode) == (1e-5, 200, "plain")


def test_table_1_has_the_papers_epochs_and_trials() -> None:
    runs = [row.config() for row in rows_of(read("table-1")) if row.kind == "unlearn"]
    epochs = {}
    for run in runs:
        assert isinstance(run, UnlearnConfig)
        assert run.optimiser.name == "adamw_torch"
        assert not run.curriculum.drop_forgotten
        epochs.setdefault(run.method, set()).add(run.limits.max_epochs)
    assert epochs == {"ga": {5}, "graddiff": {5}, "po": {5}, "npo": {4}}
    assert {run.seed for run in runs if isinstance(run, UnlearnConfig)} == set(range(5))


def test_the_other_tables_and_figures_have_the_papers_sizes() -> None:
    def last(name: str) -> ExperimentConfig:
        config = rows_of(read(name))[-1].config()
        assert isinstance(config, ExperimentConfig)
        return config

    assert {
        run.limits.max_steps
        for run in (row.config() for row in rows_of(read("wmdp")))
        if isinstance(run, UnlearnConfig)
    } == {500}
    change, sensitivity = last("figure-3"), last("figure-5")
    assert isinstance(change, ParameterChangeConfig)
    assert (change.composites, change.size) == (300, 40)
    assert isinstance(sensitivity, SensitivityConfig)
    assert (sensitivity.samples, sensitivity.draws) == (20, 100)
    assert last("figure-2").model_dump()["selections"] == 5
    assert last("figure-4").model_dump(include={"samples", "repeats"}) == {"samples": 10, "repeats": 3}


def test_the_page_on_replication_names_the_command_of_each() -> None:
    text = (REPOSITORY / "docs" / "replicate.md").read_text(encoding="utf-8")
    assert [name for name in PAPERS if f"mrd-lens study run {name}" not in text] == []
    assert [name for name in COUNTS if name not in text] == []


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.usefixtures("home")
def test_the_hours_in_the_document_are_those_of_the_estimate(name: str, cli: Callable[..., Outcome]) -> None:
    text = (REPOSITORY / "docs" / "replicate.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"`mrd-lens study run {name}` \| (\d+) \| ([\d.]+)", text)
    told = json.loads(cli("study", "run", name, "--dry-run", "--json", "--pace", "4e14").out)
    assert int(row[0]) == len(told["runs"])
    assert float(row[1]) == pytest.approx(told["left_seconds"] / 3600, rel=0.25, abs=0.1)


def test_both_studies_of_orders_at_equal_retain_cross_the_same_settings() -> None:
    def settings(name: str) -> list[object]:
        runs = [row.config() for row in rows_of(read(name)) if row.kind == "unlearn"]
        apart = {"score_run", "model", "study"}
        return [
            {**run.model_dump(exclude=apart), "retain": run.model_dump()["retain"] | {"samples": None}}
            for run in runs
        ]

    demo = settings("curricula-demo")
    assert demo == settings("curricula-tofu")
    orders = [(each["curriculum"]["sampler"], each["curriculum"]["recompute_epochs"]) for each in demo]  # type: ignore[index]
    five = [("uniform", None), ("mrd", None), ("mrd", 1), ("hard-to-easy", None), ("entanglement", None)]
    assert orders == 3 * five
