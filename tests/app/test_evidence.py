"""The Evidence page in every state of its experiments: forms, live runs, verdicts, league table, badges."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from analysis.evidence.headlines import headlines
from analysis.evidence.kinds import evidence_of, interpretation
from analysis.evidence.league import short_title
from analysis.evidence.measurements import read_measurements
from analysis.verdict import predictive
from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds import experiments
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Run, RunError, RunState, RunStore, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json, write_json
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.fields import help_of
from pages.parts.evidence.settings import FORM
from pages.parts.evidence.tabs import LEAGUE
from tests.app.conftest import (
    Home,
    adopted,
    button,
    ended,
    quick_config,
    settings_for,
    sound,
    submitted,
    texts,
    write_demo_rows,
)
from tests.support.commands import taken_apart

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
ARMS = (("ga", "adamw"), ("npo", "sgd"))
# Enough to calibrate a prediction, and too few for it.
DRAWN, FEW = 12, 6


@dataclass(frozen=True)
class Shown(Home):
    """A data root with a score run and a finished experiment of each kind on it."""

    experiments: dict[str, Run]


def config_for(run: Run, kind: str = "validity", **changes: Any) -> Any:
    """Return a small experiment on a score run."""
    demo = ForgetSetConfig(source="demo")
    settings: dict[str, Any] = {"score_run": run.directory, "forget_set": demo, "model": ModelConfig()}
    if kind in ("validity", "parameter-change", "selection"):
        settings |= {"methods": ("ga", "npo"), "retain": demo, "learning_rate": 3e-4, "max_updates": 20}
    return experiments()[kind].config.model_validate(settings | changes)


def queued(home: Home, kind: str = "validity", **changes: Any) -> Run:
    """Submit an experiment that nobody carries out."""
    return submit(config_for(home.run, kind, **changes), store=home.store, settings=settings_for(home.path))


def succeeded(home: Home, run: Run, rows: list[dict[str, Any]], **facts: Any) -> Run:
    """End an experiment with these rows as its job would."""
    files = ExperimentFiles(run.directory)
    files.write_rows(rows)
    files.append("all", rows)
    summary = {
        **{"experiment": run.kind, "n_samples": DRAWN, "units": len(rows), "seconds": 65.0, "warnings": []},
        **{"scored": read_json(files.scored), "reasons": {"dtype": "float32 (as asked)"}},
    }
    write_json(files.summary, summary | facts)
    return ended(home.store, run, RunState.SUCCEEDED, summary=summary | facts)


def ids_of(home: Home) -> list[str]:
    return list(ForgetSet.load(ScoreFiles(home.run.directory).samples).frame["sample_id"])


def validity_rows(home: Home, count: int = DRAWN, turned: bool = False) -> list[dict[str, Any]]:
    """Return rows of two arms in which hard samples take few updates, or many."""
    scores = pd.read_parquet(ScoreFiles(home.run.directory).scores).set_index("sample_id")["mrd_answer_mean"]
    order = scores.loc[ids_of(home)[:count]].rank(ascending=not turned)
    return [
        {
            **{"part": "unlearning", "method": method, "optimiser": optimiser, "learning_rate": 1e-4},
            **{
                "sample_id": sample_id,
                "repeat": 0,
                "updates": int(4 + 2 * place + at),
                "forgotten": place < count,
            },
            **{"diverged": False, "accuracy": 0.4, "nll": 2.0, "trace": [1.0, 0.8, 0.4]},
        }
        for sample_id, place in order.items()
        for at, (method, optimiser) in enumerate(ARMS)
    ]


def change_rows(home: Home) -> list[dict[str, Any]]:
    ids = ids_of(home)
    return [
        {
            **{"part": "composite", "composite": at, "method": "ga", "optimiser": "adamw", "learning_rate": 1e-4},
            **{"sample_ids": [ids[at], ids[at + 1]], "joined": True, "updates": 5 + at, "forgotten": True},
            **{"diverged": False, "mean_absolute_change": 1e-4 * (1 + at % 5), "accuracy": 0.4},
        }
        for at in range(DRAWN)
    ]


def selection_rows(home: Home) -> list[dict[str, Any]]:
    ids = ids_of(home)
    return [
        {
            **{"part": "selection", "scheme": scheme, "size": size, "selection": at, "method": method},
            **{"optimiser": "adamw", "learning_rate": 1e-4, "sample_ids": ids[:size], "mean_mrd": 0.01},
            **{"updates": 5 + (at * (3 if method == "ga" else 2)) % 7, "forgotten": True, "diverged": False},
            **{"forget_accuracy": 0.4, "forget_nll": 2.0 + at / 10, "retain_accuracy": None, "retain_nll": None},
        }
        for scheme in ("random", "balanced")
        for size in (1, 4)
        for at in range(5)
        for method in ("ga", "npo")
    ]


def sensitivity_rows(home: Home) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    ids = ids_of(home)[:DRAWN]
    sigmas = [
        {
            **{"part": "sigma", "dtype": "float32", "sigma": sigma, "sample_id": sample_id},
            **{"mrd_mean": (1 + at) * sigma**2, "mrd_mean_se": 0.1 * sigma**2},
            **{"mrd_sum": (2 + at) * sigma**2, "mrd_sum_se": 0.1 * sigma**2},
        }
        for sigma in (1e-4, 1e-3, 1e-2)
        for at, sample_id in enumerate(ids)
    ]
    floors = [
        {"part": "floor", "dtype": "float32", "sample_id": each, "floor_mean": 1e-9, "floor_sum": 1e-8}
        for each in ids
    ]
    draws = [
        {
            **{"part": "draws", "mode": mode, "sigma": 1e-3, "evaluation": evaluation, "sample_id": sample_id},
            **{"relative": 1 + at + generator.normal(), "n_tokens": 5},
        }
        for mode in ("plain", "antithetic")
        for evaluation in range(16)
        for at, sample_id in enumerate(ids)
    ]
    return [*sigmas, *floors, *draws]


def theorem_rows(home: Home) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for at, sample_id in enumerate(ids_of(home)[:DRAWN]):
        trace, about = 100.0 * (1 + at), {"sample_id": sample_id, "n_tokens": 5}
        for number in range(6):
            value = trace + generator.normal()
            rows.append({"part": "trace", **about, "probe": number, "value": value})
            rows.append({"part": "mrd", **about, "pair": number, "value": -value / 2})
    return rows


# Durability, which needs an unlearned model, is in test_durability.py.
ROWS: dict[str, Callable[[Home], list[dict[str, Any]]]] = {
    "validity": validity_rows,
    "parameter-change": change_rows,
    "selection": selection_rows,
    "sensitivity": sensitivity_rows,
    "theorem": theorem_rows,
}


@pytest.fixture(scope="session")
def shown(finished: Home, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Every experiment, done; for tests that only read."""
    path = tmp_path_factory.mktemp("evidence")
    store = RunStore.open(settings_for(path))
    home = Home(path, store, adopted(store, finished.run))
    done = {kind: succeeded(home, queued(home, kind), rows(home)) for kind, rows in ROWS.items()}
    return Shown(path, store, home.run, done)


@pytest.fixture
def app_on_shown(app: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open pages over `shown`, which no test changes: what was judged once stays judged."""
    monkeypatch.setattr(st.cache_data, "clear", lambda: None)
    return app


def opened(app: Open, home: Home, **query: str) -> AppTest:
    return app(home.path, "evidence", run=home.run.id, **query)


def tab(test: AppTest, kind: str) -> AppTest:
    test.session_state["evidence_tab"] = interpretation(kind).title
    return sound(test.run())


def running(home: Home, run: Run, **progress: Any) -> None:
    """Have this process take up a queued run."""
    home.store.claim(run, ProcessIdentity.current())
    home.store.transition(run.id, RunState.STARTING, expected=RunState.QUEUED)
    home.store.transition(run.id, RunState.RUNNING, expected=RunState.STARTING)
    home.store.set_progress(run.id, progress)


def figures_of(test: AppTest) -> dict[str, Any]:
    """Return the figures of the page by title."""
    specs = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    return {spec["layout"]["title"]["text"]: spec for spec in specs}


def commands(test: AppTest) -> list[str]:
    return [code.value for code in test.code if code.language == "bash"]


def judged(run: Run) -> Any:
    return _judged(run.directory)


@cache
def _judged(directory: Path) -> Any:
    return evidence_of(read_measurements(directory))


def test_without_a_run_there_is_one_sentence_and_the_way_to_difficulty(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "evidence")
    assert "None is scored yet." in texts(test)
    button(test, "Score one").click().run()
    assert sound(test).title[0].value == "Difficulty"


def test_an_unfinished_score_run_comes_first(app: Open, tmp_path: Path) -> None:
    store = RunStore.open(settings_for(tmp_path))
    run = submitted(store, tmp_path, quick_config(write_demo_rows(tmp_path / "forget.jsonl", 3)))
    test = app(tmp_path, "evidence", run=run.id)
    assert "This score run is queued; evidence comes after it." in texts(test)


def test_one_click_launches_predictive_validity_with_good_defaults(
    app: Open,
    own: Home,
    no_worker_left: None,  # noqa: ARG001
) -> None:
    test = opened(app, own)
    assert "Nobody knows yet" in texts(test)
    assert "for 24 samples with GA, GradDiff (AdamW)" in texts(test)
    test.button(key="evidence_first").click().run()
    (run,) = own.store.list(kinds=experiments(), score_run=own.run)
    config = read_config(run.directory, ValidityConfig)
    assert (config.samples, config.methods, config.optimisers) == (40, ("ga", "graddiff"), ("adamw",))
    assert config.retain == ForgetSetConfig(source="demo")
    assert sound(test).query_params["experiment"] == run.id
    # Its own tab opens, where it is followed.
    assert interpretation("validity").question in texts(test)
    test.session_state["evidence_tab"] = LEAGUE
    test.run()
    assert "The league table comes once predictive validity is measured." in texts(test)


@pytest.mark.parametrize("kind", ROWS)
def test_every_tab_asks_its_question_and_offers_a_run(app: Open, own: Home, kind: str) -> None:
    test = tab(opened(app, own), kind)
    assert interpretation(kind).question in texts(test)
    assert test.button(key=f"evidence_launch_{kind}")
    (command,) = commands(test)
    assert taken_apart(command)[1][:3] == ["experiment", kind, "--scores"]
    helps = {widget.help for widget in (*test.number_input, *test.text_input, *test.multiselect)}
    assert {help_of(experiments()[kind].config, "seed")} <= helps


def test_what_was_set_is_what_is_launched(app: Open, own: Home, no_worker_left: None) -> None:  # noqa: ARG001
    test = tab(opened(app, own), "validity")
    test.number_input(key=FORM.key_of(ValidityConfig, "samples")).set_value(7)
    test.number_input(key=FORM.key_of(ValidityConfig, "seed")).set_value(3)
    test.multiselect(key=FORM.key_of(ValidityConfig, "methods")).set_value(["ga", "simnpo"])
    test.multiselect(key=FORM.key_of(ValidityConfig, "optimisers")).set_value(["adamw", "sgd"])
    test.text_input(key=FORM.key_of(ValidityConfig, "learning_rate")).set_value("0.0002")
    test.segmented_control(key="evidence_retain_set").set_value("None").run()
    (command,) = commands(sound(test))
    test.button(key="evidence_launch_validity").click().run()
    (run,) = own.store.list(kinds=experiments(), score_run=own.run)
    config = read_config(run.directory, ValidityConfig)
    assert (config.samples, config.seed, config.learning_rate, config.retain) == (7, 3, 0.0002, None)
    assert (config.methods, config.optimisers) == (("ga", "simnpo"), ("adamw", "sgd"))
    assert taken_apart(command)[1] == shlex.split(COMMANDS[config.kind].shown(config))[1:]


def test_the_estimate_follows_the_settings(app: Open, own: Home) -> None:
    def estimated(test: AppTest) -> str:
        return [line.value for line in test.caption if "Estimated time" in line.value][-1]

    test = tab(opened(app, own), "validity")
    before = estimated(test)
    test.number_input(key=FORM.key_of(ValidityConfig, "samples")).set_value(4).run()
    assert estimated(sound(test)) != before


@pytest.mark.parametrize(
    ("kind", "widget", "field", "value", "said"),
    [
        ("validity", "text_input", "learning_rate", "fast", "learning_rate"),
        ("validity", "multiselect", "methods", [], "The methods: None is chosen."),
        ("selection", "multiselect", "methods", ["ga"], "Name two methods at least."),
        ("sensitivity", "text_input", "sigmas", "1e-3, x", "sigmas"),
        ("sensitivity", "multiselect", "dtypes", [], "The dtypes: None is chosen."),
    ],
)
def test_settings_that_are_none_are_told_and_cannot_be_launched(
    app: Open,
    own: Home,
    kind: str,
    widget: str,
    field: str,
    value: Any,
    said: str,
) -> None:
    test = tab(opened(app, own), kind)
    getattr(test, widget)(key=FORM.key_of(experiments()[kind].config, field)).set_value(value).run()
    assert said in texts(sound(test))
    assert f"evidence_launch_{kind}" not in {found.key for found in test.button}


def test_a_method_that_needs_a_retain_set_says_so(app: Open, own: Home) -> None:
    test = tab(opened(app, own), "validity")
    test.multiselect(key=FORM.key_of(ValidityConfig, "methods")).set_value(["graddiff"])
    test.segmented_control(key="evidence_retain_set").set_value("None").run()
    assert "GradDiff needs a retain set" in texts(sound(test))


def test_the_real_job_ends_on_the_page(app: Open, own: Home) -> None:
    run = queued(own, samples=5, methods=("ga",))
    assert worker.run(run.directory, store=own.store) is RunState.SUCCEEDED
    test = opened(app, own)
    assert "What predicts unlearning on this model?" in texts(test)
    assert judged(run).verdict in texts(tab(test, "validity"))


def test_a_queued_experiment_can_be_cancelled_and_resumed(
    app: Open,
    own: Home,
    no_worker_left: None,  # noqa: ARG001
) -> None:
    run = queued(own)
    test = opened(app, own)
    assert "queued" in texts(test)
    test.button(key="cancel").click().run()
    assert own.store.get(run.id).state is RunState.CANCELLED
    assert "This run was cancelled; what it finished is kept." in texts(sound(test.run()))
    test.button(key="resume").click().run()
    assert own.store.get(run.id).attempt == 2


def test_a_running_experiment_shows_how_far_it_is_and_what_it_says_so_far(app: Open, own: Home) -> None:
    run = queued(own)
    running(own, run, message="Measuring", done=24, total=80, eta_seconds=120)
    files = ExperimentFiles(run.directory)
    files.append("some", validity_rows(own, FEW))
    test = opened(app, own)
    assert test.get("progress")[0].proto.text == "Measuring: 24 of about 80 measurements, 2 min left"
    assert "So far, 6 of 24 samples: " in texts(test)
    ended_now = own.store.finish(run.id, RunState.FAILED, RunError("OSError", "The disk is full.", "Make room."))
    assert ended_now


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.LOST])
def test_an_experiment_that_broke_down_says_why_and_can_go_on(app: Open, own: Home, state: RunState) -> None:
    run = queued(own)
    ended(own.store, run, state, RunError("OSError", "The disk is full.", "Make room."))
    test = opened(app, own)
    assert "The disk is full." in texts(test)
    assert "→ Make room." in texts(test)
    assert {"resume", "new_run", "delete"} <= {found.key for found in test.button}
    test.session_state["evidence_tab"] = LEAGUE
    assert "Nobody knows yet" in texts(sound(test.run()))


def test_a_new_run_can_be_asked_for_and_the_old_one_found_again(app: Open, own: Home) -> None:
    run = queued(own)
    ended(own.store, run, RunState.CANCELLED)
    test = opened(app, own)
    test.button(key="new_run").click().run()
    assert "experiment" not in sound(test).query_params
    assert "resume" not in {found.key for found in test.button}
    test.selectbox(key="evidence_run_validity").set_value(run.id).run()
    assert "resume" in {found.key for found in sound(test).button}


def test_missing_result_files_are_told(app: Open, own: Home) -> None:
    run = succeeded(own, queued(own), validity_rows(own, FEW))
    ExperimentFiles(run.directory).rows.unlink()
    test = tab(opened(app, own), "validity")
    assert "rows.parquet is missing" in texts(test)
    assert "delete" in {found.key for found in test.button}


@pytest.mark.parametrize("kind", ROWS)
def test_a_verdict_stands_with_the_paper_and_the_cautions_and_is_taken_along(
    app_on_shown: Open, shown: Shown, offered: dict[str, Any], kind: str
) -> None:
    run = shown.experiments[kind]
    test, found = opened(app_on_shown, shown, experiment=run.id), judged(run)
    said = texts(test)
    assert interpretation(kind).question in said
    for sentence in (found.verdict, *found.findings, found.paper, found.elsewhere, *found.caveats):
        assert sentence in said
    assert figures_of(test)
    told = json.loads(offered["evidence_verdict"]())
    assert (told["experiment"], told["verdict"]) == (kind, found.verdict)
    assert told["findings"] == list(found.findings)
    for name, frame in found.tables.items():
        if len(frame):
            taken = pd.read_csv(io.StringIO(offered[f"{run.id}-{name}_csv"]()))
            assert (list(taken.columns), len(taken)) == (list(frame.columns), len(frame))


def test_the_league_table_ranks_every_measure_and_follows_the_arm(app_on_shown: Open, shown: Shown) -> None:
    test = opened(app_on_shown, shown)
    found = judged(shown.experiments["validity"])
    leagues = {"All arms": found.all_arms, **{arm.name: arm.league for arm in found.arms}}
    for name, league in leagues.items():
        test.segmented_control(key="evidence_league_arm").set_value(name).run()
        table = next(frame.value for frame in sound(test).dataframe if "gain" in frame.value)
        assert list(table["title"]) == [short_title(measure) for measure in league.table["measure"]]
        assert list(table["cost"]) == list(league.table["cost"])
        assert f"{name}: what predicts updates" in figures_of(test)


def test_a_column_from_elsewhere_joins_the_league_and_leaves_it(app: Open, own: Home) -> None:
    succeeded(own, queued(own), validity_rows(own, FEW))
    test = opened(app, own)
    test.session_state["evidence_imported"] = True
    upload = sound(test.run()).file_uploader(key="evidence_imported_file")
    rows = [{"id": sample_id, "cud": at} for at, sample_id in enumerate(ids_of(own))]
    upload.set_value(("cud.json", json.dumps(rows).encode(), "application/json")).run()
    test.text_input(key="evidence_imported_ImportConfig_title").set_value("<b>CUD</b>")
    test.selectbox(key="evidence_imported_ImportConfig_harder").set_value("large")
    test.button(key="evidence_imported_import").click().run()
    assert "is not 1 to 40 letters" in texts(sound(test))
    test.text_input(key="evidence_imported_ImportConfig_title").set_value("CUD")
    test.button(key="evidence_imported_import").click().run()
    # The league was judged before, without it.
    assert "CUD (imported)" in league_on(test)
    assert f"` CUD ` · {len(rows)} of {len(rows)} samples · hard: large · from ` cud.json `" in texts(test)
    tab(test, "validity").selectbox(key="evidence_against").set_value("CUD (imported)").run()
    assert any("CUD (imported)" in title for title in figures_of(sound(test)))
    # What is drawn no longer forgets whether it was open.
    test.session_state["evidence_tab"], test.session_state["evidence_imported"] = LEAGUE, True
    test.run()
    test.button(key="evidence_imported_remove_cud").click().run()
    assert "CUD (imported)" not in league_on(test)
    assert not list(ScoreFiles(own.run.directory).imported.iterdir())


def league_on(test: AppTest) -> list[str]:
    """Return the measures of the league table on a page."""
    return list(next(frame.value for frame in sound(test).dataframe if "gain" in frame.value)["title"])


def test_samples_chosen_in_a_chart_lead_to_difficulty(app_on_shown: Open, shown: Shown) -> None:
    test = tab(opened(app_on_shown, shown, sample=ids_of(shown)[2]), "validity")
    assert ids_of(shown)[2] in texts(test)
    (link,) = [
        link for link in test.get("page_link") if "Difficulty" in link.proto.label and "Look" in link.proto.label
    ]
    assert ids_of(shown)[2] in link.proto.query_string
    test.session_state["box"] = set(ids_of(shown)[:3])
    test.session_state["box_label"] = "from updates"
    button(sound(test.run()), "3 from updates").click().run()
    assert "box" not in test.session_state


def test_updates_of_all_other_samples_are_predicted(app_on_shown: Open, shown: Shown) -> None:
    test = tab(opened(app_on_shown, shown), "validity")
    found = judged(shown.experiments["validity"])
    table = next(frame.value for frame in test.dataframe if "observed" in frame.value)
    assert set(table["sample_id"]) == set(ids_of(shown))
    others = found.arms[0].predictions.set_index("sample_id")
    told = table[table["observed"].isna()].set_index("sample_id")
    assert len(told) == len(others) == 12
    np.testing.assert_allclose(told.loc[others.index, "predicted"], others["updates"])


def test_a_recent_experiment_opens_on_this_page(app_on_shown: Open, shown: Shown) -> None:
    run = shown.experiments["theorem"]
    test = app_on_shown(shown.path)
    test.session_state["opened"] = run.id
    test.run()
    assert sound(test).title[0].value == "Evidence"
    assert test.query_params["experiment"] == run.id
    assert interpretation("theorem").question in texts(test)


def test_another_score_run_brings_its_own_experiments(app_on_shown: Open, shown: Shown) -> None:
    other = adopted_again(shown)
    test = opened(app_on_shown, shown, experiment=shown.experiments["validity"].id)
    test.query_params["run"] = other.id
    test.run()
    assert "Nobody knows yet" in texts(sound(test))
    assert "experiment" not in test.query_params


def adopted_again(home: Home) -> Run:
    """Copy the score run once more."""
    directory = home.path / "runs" / "again"
    directory.mkdir(parents=True)
    for path in home.run.directory.iterdir():
        if path.is_file():
            (directory / path.name).write_bytes(path.read_bytes())
    run = home.store.create("score", "again", "cpu", directory)
    return ended(home.store, run, RunState.SUCCEEDED, summary=home.run.summary)


def test_of_several_runs_the_newest_is_shown_and_another_can_be_chosen(app: Open, own: Home) -> None:
    older = succeeded(own, queued(own), validity_rows(own, FEW))
    newer = succeeded(own, queued(own, seed=1), validity_rows(own, FEW, turned=True))
    test = tab(opened(app, own), "validity")
    choice = test.selectbox(key="evidence_run_validity")
    assert (choice.value, len(choice.options)) == (newer.id, 2)
    assert judged(newer).verdict in texts(test)
    choice.set_value(older.id).run()
    assert sound(test).query_params["experiment"] == older.id
    assert judged(older).verdict in texts(test)


@pytest.mark.parametrize("page", ["difficulty", "characteristics", "evidence", "unlearning", "compare"])
def test_every_page_says_whether_mrd_predicts_updates(app: Open, own: Home, page: str) -> None:
    told = "Nobody has looked whether hard samples take more updates on this model."
    test = app(own.path, page, run=own.run.id)
    assert told in texts(test)
    assert "not yet a forecast" in texts(test)
    run = succeeded(own, queued(own), validity_rows(own, FEW))
    expected = predictive(headlines(run.directory)).sentence
    assert expected in texts(test.run())
    assert told not in texts(sound(test))


def test_an_experiment_is_deleted_after_a_question(app: Open, own: Home) -> None:
    run = queued(own)
    ended(own.store, run, RunState.CANCELLED)
    test = opened(app, own)
    test.button(key="delete").click().run()
    assert "This cannot be undone." in texts(test)
    # A dialog is a fragment, which runs alone only in a browser: here the page opens it once more.
    test.button(key="delete").click()
    test.button(key="really_delete").click().run()
    assert own.store.list(kinds=experiments(), score_run=own.run) == []
    assert tab(test, "validity").button(key="evidence_launch_validity")
