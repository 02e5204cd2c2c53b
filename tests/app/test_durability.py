"""Durability on Evidence and in the verdict bar: one click, the form, what is shown on the way and at last."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.evidence.kinds import evidence_of, interpretation
from analysis.evidence.measurements import read_measurements
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import REFERENCE, DurabilityConfig
from mrd_core.runs import Run, RunState, RunStore, submit
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json, write_frame, write_json
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import RetainConfig, UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from pages.parts.evidence.settings import FORM
from pages.shell import attacks, paths, session
from pages.shell.notices import literal
from tests.app.conftest import Home, adopted, ended, settings_for, sound, texts
from tests.support.durability_rows import LOOKS, simulated
from tests.support.evidence_experiments import Rows

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
DEMO = ForgetSetConfig(source="demo")
GRADDIFF = "GradDiff, seed 0"
TITLE = interpretation("durability").title


@dataclass(frozen=True)
class Attacked(Home):
    """A data root with a score run, an unlearning run of its samples, and a durability experiment on that."""

    unlearned: Run
    experiment: Run


def unlearned_from(home: Home, **figures: Any) -> Run:
    """Return an unlearning run that ended well, as its job would have left it."""
    config = UnlearnConfig(
        score_run=home.run.directory,
        model=read_config(home.run.directory, ScoreConfig).model,
        method="graddiff",
        retain=RetainConfig(samples=DEMO),
    )
    run = submit(config, store=home.store, settings=settings_for(home.path))
    files, ids = UnlearningFiles(run.directory), table_of(home)["sample_id"]
    outcome = pd.DataFrame({"sample_id": ids, "updates": range(1, len(ids) + 1), "draws": 30})
    outcome = outcome.assign(
        forgotten_step=pd.array([5] * len(ids), dtype="Int64"),
        forgotten_at_end=True,
        accuracy_before=1.0,
        accuracy_after=0.3,
        nll_before=0.01,
        nll_after=4.0,
    )
    write_frame(files.outcome, outcome)
    files.model.mkdir(exist_ok=True)
    summary = {
        **{"n_samples": len(ids), "label": "GradDiff", "method": "graddiff", "sampler": "uniform"},
        **{"stop_reason": "all-forgotten", "thresholds": {"source": "absolute", "accuracy": 0.5}, "seed": 0},
        **{"forgotten_at_end": len(ids), "retain_accuracy_before": 1.0, "retain_accuracy": 0.95},
        **{"retain_nll_before": 0.1, "retain_nll": 0.2, "learning_rate": 1e-4, "warnings": []},
    } | figures
    write_json(files.summary, summary)
    return ended(home.store, run, RunState.SUCCEEDED, summary=summary)


def table_of(home: Home) -> pd.DataFrame:
    """Return the samples of the score run with their MRD."""
    return pd.read_parquet(ScoreFiles(home.run.directory).scores, columns=["sample_id", "mrd_answer_mean"])


def queued(home: Home, unlearned: Run, **changes: Any) -> Run:
    """Submit a durability experiment that nobody carries out."""
    settings = attacks.settings([unlearned.directory]) | {
        "steps": LOOKS[-1],
        "seeds": 2,
        "reference": "demo-retrained",
    }
    config = DurabilityConfig.model_validate(settings | changes)
    return submit(config, store=home.store, settings=settings_for(home.path))


def rows_of(home: Home, unlearned: Run) -> Rows:
    return simulated(table_of(home), runs=(unlearned.directory.name,))


def succeeded(home: Home, run: Run, rows: Rows) -> Run:
    """End a durability experiment with these rows as its job would."""
    files = ExperimentFiles(run.directory)
    files.write_rows(rows)
    files.append("all", rows)
    summary = {
        **{"experiment": run.kind, "n_samples": len(table_of(home)), "units": 1, "seconds": 65.0, "warnings": []},
        **{"scored": read_json(files.scored), "reasons": {"dtype": "float32 (as asked)"}},
    }
    write_json(files.summary, summary)
    return ended(home.store, run, RunState.SUCCEEDED, summary=summary)


@pytest.fixture(scope="module")
def attacked(finished: Home, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """One finished experiment; for tests that only read."""
    path = tmp_path_factory.mktemp("durability")
    store = RunStore.open(settings_for(path))
    home = Home(path, store, adopted(store, finished.run))
    unlearned = unlearned_from(home)
    done = succeeded(home, queued(home, unlearned), rows_of(home, unlearned))
    return Attacked(path, store, home.run, unlearned, done)


def opened(app: Open, home: Home, **query: str) -> AppTest:
    return app(home.path, "evidence", run=home.run.id, evidence_tab=TITLE, **query)


def figures_of(test: AppTest) -> dict[str, Any]:
    specs = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    return {spec["layout"]["title"]["text"]: spec for spec in specs}


def links_of(test: AppTest) -> dict[str, Any]:
    return {link.proto.label.replace("\u00a0", " "): link.proto for link in test.get("page_link")}


def test_without_an_unlearned_model_the_way_leads_to_one(app: Open, own: Home) -> None:
    test = opened(app, own)
    assert interpretation("durability").question in texts(test)
    assert "Nothing has been unlearned from these scores yet" in texts(test)
    assert "The runs" in texts(test)
    assert "Unlearn →" in links_of(test)


def test_one_click_tries_to_bring_back_what_was_forgotten(
    app: Open,
    own: Home,
    no_worker_left: None,  # noqa: ARG001
) -> None:
    unlearned = unlearned_from(own)
    test = opened(app, own)
    assert f"Nobody has tried to bring back what **{literal(GRADDIFF)}** forgot." in texts(test)
    test.button(key="evidence_durability_first").click().run()
    (run,) = own.store.list(kinds=("durability",), score_run=own.run)
    config = read_config(run.directory, DurabilityConfig)
    assert {name: getattr(config, name) for name in attacks.QUICK} == attacks.QUICK
    assert (config.runs, config.reference, config.retain) == ((unlearned.directory,), "demo-retrained", DEMO)
    assert sound(test).query_params[session.EXPERIMENT] == run.id


def test_the_form_asks_for_runs_reference_and_attacks(app: Open, own: Home, no_worker_left: None) -> None:  # noqa: ARG001
    first, second = unlearned_from(own), unlearned_from(own)
    test = opened(app, own)
    chosen = test.multiselect(key=FORM.key_of(DurabilityConfig, "runs"))
    assert chosen.value == [second.id]
    chosen.set_value([second.id, first.id])
    test.text_input(key=FORM.key_of(DurabilityConfig, "reference")).set_value("")
    test.multiselect(key=FORM.key_of(DurabilityConfig, "attacks")).set_value(["benign", "int4"])
    test.number_input(key=FORM.key_of(DurabilityConfig, "steps")).set_value(3).run()
    sound(test).button(key="evidence_launch_durability").click().run()
    (run,) = own.store.list(kinds=("durability",), score_run=own.run)
    config = read_config(run.directory, DurabilityConfig)
    assert set(config.runs) == {first.directory, second.directory}
    assert (config.reference, config.attacks, config.steps) == (None, ("benign", "int4"), 3)


def test_without_an_attack_there_is_none(app: Open, own: Home) -> None:
    unlearned_from(own)
    test = opened(app, own)
    test.multiselect(key=FORM.key_of(DurabilityConfig, "attacks")).set_value([]).run()
    assert "The attacks" in texts(sound(test))


def test_it_says_what_is_back_while_it_goes_on(app: Open, own: Home) -> None:
    unlearned = unlearned_from(own)
    run = queued(own, unlearned)
    own.store.claim(run, ProcessIdentity.current())
    own.store.transition(run.id, RunState.STARTING, expected=RunState.QUEUED)
    own.store.transition(run.id, RunState.RUNNING, expected=RunState.STARTING)
    assert "So far" not in texts(opened(app, own))
    rows = [row for row in rows_of(own, unlearned) if row["part"] in ("start", "course", "kept")]
    ExperimentFiles(run.directory).append("some", [row for row in rows if row["model"] != REFERENCE])
    shown = texts(opened(app, own))
    assert "forgotten samples" in shown
    assert "after 4 steps of training on 2 retain samples." in shown


def test_a_finished_experiment_is_shown_whole_and_taken_along(
    app: Open, attacked: Attacked, offered: dict[str, Any]
) -> None:
    evidence = evidence_of(read_measurements(attacked.experiment.directory))
    test = opened(app, attacked)
    shown = texts(test)
    for sentence in (evidence.verdict, *evidence.findings, evidence.paper, evidence.elsewhere, *evidence.caveats):
        assert sentence in shown
    assert json.loads(offered["evidence_verdict"]())["verdict"] == evidence.verdict
    for name, frame in evidence.tables.items():
        if len(frame):
            taken = pd.read_csv(io.StringIO(offered[f"{attacked.experiment.id}-{name}_csv"]()))
            assert (list(taken.columns), len(taken)) == (list(frame.columns), len(frame))
    for heading in ("Still forgotten", "What is known", "What rounding", "The best of k", "Once the answer"):
        assert any(title.startswith(heading) for title in figures_of(test))
    league = next(figure for title, figure in figures_of(test).items() if "what predicts the gain" in title)
    assert any("MRD" in label for label in league["layout"]["yaxis"]["ticktext"])
    assert test.dataframe
    # The control brings nothing back, and nothing is foretold of it.
    test.segmented_control(key="evidence_attack").set_value("control").run()
    assert "nothing is foretold of it" in texts(sound(test))


def test_a_row_selects_its_sample(app: Open, attacked: Attacked) -> None:
    sample_id = table_of(attacked)["sample_id"].iloc[3]
    test = opened(app, attacked, sample=sample_id)
    assert f"Sample {literal(sample_id)}" in texts(test)


def test_the_verdict_bar_says_whether_it_stays_forgotten(app: Open, attacked: Attacked) -> None:
    test = app(attacked.path, "difficulty", run=attacked.run.id)
    assert "Nobody has tried to bring" not in texts(test)
    assert f"{literal(GRADDIFF)}: of 23 forgotten samples" in texts(test)
    link = links_of(test)["Durability →"]
    assert link.page == Path(paths.EVIDENCE).stem
    assert f"evidence_tab={TITLE}" in link.query_string


def test_the_verdict_bar_leads_to_the_next_step(app: Open, own: Home) -> None:
    unlearned_from(own)
    test = app(own.path, "difficulty", run=own.run.id)
    assert "Nobody has tried to bring the samples back." in texts(test)
    assert any(label.startswith("Try to bring it back, about") for label in links_of(test))


def test_a_damaged_model_is_told_as_such(app: Open, own: Home) -> None:
    unlearned = unlearned_from(own, retain_accuracy=0.4)
    succeeded(own, queued(own, unlearned), rows_of(own, unlearned))
    badges = texts(app(own.path, "difficulty", run=own.run.id))
    # Unlearned and Durable.
    assert badges.count("damaged") >= 2


def test_an_experiment_on_another_run_speaks_where_none_is_on_the_judged(app: Open, own: Home) -> None:
    first = unlearned_from(own)
    succeeded(own, queued(own, first), rows_of(own, first))
    unlearned_from(own, label="NPO")
    test = app(own.path, "difficulty", run=own.run.id)
    assert f"{literal(GRADDIFF)}: of 23 forgotten samples" in texts(test)
