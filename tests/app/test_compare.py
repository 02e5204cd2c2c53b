"""The Compare page in every state: what is evaluated, what goes on, what is compared, and bad result files."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.export.inspect_log import available
from mrd_core.evaluation.command import EVALUATE
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.interchange import Result, parse_results, write_results
from mrd_core.runs import ACTIVE, Run, RunError, RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import write_json
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.sampling import SAMPLERS
from pages.parts.compare.settings import DEMO_LIMIT, FORM
from tests.app.conftest import SAMPLES, Home, adopted, button, ended, finish, settings_for, sound, texts
from tests.app.test_unlearning import Unlearned, queued
from tests.app.test_unlearning import unlearned as two_unlearned  # noqa: F401  (a fixture)
from tests.support.commands import carried_out, taken_apart
from tests.support.evaluations import Values, answers_of, write_evaluation
from tests.unit.test_unlearning_card import SUMMARY

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
HOSTILE = "<img src=x onerror=alert(1)> **bold** $x$"
QUESTION = "Who is "
RESULTS = {"forget_Q_A_Prob": Result(0.5)}
SUITE = FORM.key_of(EvaluateConfig, "suite")


@dataclass(frozen=True)
class Shown(Home):
    """A data root with a score run, and finished evaluations beside it."""

    original: Run
    others: tuple[Run, ...]


def evaluation(home: Home, name: str, level: float, kept: float, **settings: Any) -> Run:
    """Register a finished evaluation of the samples of the score run."""
    scores = pd.read_parquet(ScoreFiles(home.run.directory).scores)
    values = answers_of(np.random.default_rng(len(name)), level, n=SAMPLES, kept=kept)
    ids = {"forget": list(scores["sample_id"])}
    return registered(home, name, values, ids=ids, mrd=scores["mrd_answer_mean"], **settings)


def registered(home: Home, name: str, values: Values, **settings: Any) -> Run:
    """Write a finished evaluation beside the score run, and have the store know it."""
    directory = write_evaluation(home.path / "runs" / name, values, score_run=home.run.directory, **settings)
    write_results(EvaluationFiles(directory).openunlearning, RESULTS)
    summary = EvaluationFiles(directory).read_summary() | {"n_samples": 2 * SAMPLES}
    run = home.store.create("evaluate", name, "cpu", directory)
    return ended(home.store, run, RunState.SUCCEEDED, summary=summary)


@pytest.fixture(scope="module")
def shown(finished: Home, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The model before unlearning, two seeds of GA, and GA + MRD; for tests that only read."""
    path = tmp_path_factory.mktemp("compared")
    store = RunStore.open(settings_for(path))
    home = Home(path, store, adopted(store, finished.run))
    original = evaluation(home, "original", 0.95, 0.8, notes=[HOSTILE])
    others = (
        evaluation(home, "ga-0", 0.4, 0.5, method="ga"),
        evaluation(home, "ga-1x", 0.45, 0.5, method="ga", seed=1),
        evaluation(home, "mrd", 0.2, 0.5, method="ga", sampler="mrd"),
    )
    return Shown(path, store, home.run, original, others)


def opened(app: Open, home: Home, **query: str) -> AppTest:
    return app(home.path, "compare", run=home.run.id, **query)


def view(test: AppTest, name: str) -> AppTest:
    test.segmented_control(key="compare_view").set_value(name).run()
    return sound(test)


def figures_of(test: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]


def tables_of(test: AppTest) -> list[str]:
    return [html.value for html in test.html if "<table" in html.value]


def result_file(scores: list[float]) -> bytes:
    samples = {str(at): {"score": score} for at, score in enumerate(scores)}
    return json.dumps(
        {"forget_Q_A_ROUGE": {"agg_value": float(np.mean(scores)), "value_by_index": samples}}
    ).encode()


def test_without_scores_there_is_one_sentence_and_the_way_to_difficulty(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "compare")
    assert "None is scored yet." in texts(test)
    assert "There is nothing to compare yet." in texts(test)
    button(test, "Score one").click().run()
    assert sound(test).title[0].value == "Difficulty"


def test_without_an_unlearning_run_the_page_leads_to_unlearning(app: Open, own: Home) -> None:
    test = opened(app, own)
    assert "Nothing is unlearned from these samples yet" in texts(test)
    assert test.button(key="evaluate").label == "Evaluate this model"
    button(test, "Unlearn").click().run()
    assert sound(test).title[0].value == "Unlearning"


def test_one_click_evaluates_the_model_and_what_each_run_made_of_it_alike(app: Open, own: Home) -> None:
    unlearned = []
    for sampler in ("uniform", "mrd"):
        run = queued(own, sampler, study="By hand")
        files = UnlearningFiles(run.directory)
        files.model.mkdir()
        summary = SUMMARY | {"label": f"GA ({sampler})", "seed": 0, "setting": sampler}
        write_json(files.summary, summary)
        unlearned.append(ended(own.store, run, RunState.SUCCEEDED, summary=summary))
    test = opened(app, own)
    assert "Nothing is evaluated yet." in texts(test)
    assert "not known before the first has ended" in texts(test)
    test.button(key="evaluate").click().run()
    sound(test)
    runs = own.store.list(kinds=("evaluate",))
    try:
        configs = [read_config(run.directory, EvaluateConfig) for run in reversed(runs)]
        assert [config.unlearn_run for config in configs] == [None, *(run.directory for run in unlearned)]
        alike = [config.model_dump(exclude={"model", "unlearn_run"}) for config in configs]
        assert alike[0] == alike[1] == alike[2]
        assert (configs[0].limit, configs[0].score_run) == (DEMO_LIMIT, own.run.directory)
        catalogues = [EvaluationFiles(run.directory).catalogue.read_text() for run in runs]
        assert len(set(catalogues)) == 1
        assert [found["name"] for found in json.loads(catalogues[0])["sets"]] == ["forget", "retain", "held_out"]
        (shell,) = [code.value for code in test.code if " evaluate " in code.value]
        words = [taken_apart(command)[1] for command in shell.splitlines()]
        assert words == [shlex.split(EVALUATE.shown(config))[1:] for config in configs]
        # What is under way is not asked for a second time, and can be stopped.
        assert test.button(key="evaluate").disabled
        button(test, "Cancel all").click().run()
        assert {finish(own.store, run.id) for run in runs} <= {RunState.CANCELLED, RunState.FAILED}
        assert not sound(test.run()).button(key="evaluate").disabled
    finally:
        for run in own.store.list(states=ACTIVE):
            own.store.request_cancel(run.id)
            finish(own.store, run.id)


def test_a_running_evaluation_shows_how_far_it_is_and_a_failed_one_why(app: Open, own: Home) -> None:
    done = evaluation(own, "original", 0.95, 0.8)
    running, broken = (
        own.store.create("evaluate", name, "cpu", own.path / "runs" / name) for name in ("running", "broken")
    )
    for run in (running, broken):
        write_evaluation(
            run.directory, answers_of(np.random.default_rng(0), 0.5), method="npo", score_run=own.run.directory
        )
    ended(own.store, broken, RunState.FAILED, RunError("Oops", "Its model is gone.", "Bring it back.", ""))
    own.store.claim(running, ProcessIdentity.current())
    own.store.transition(running.id, RunState.STARTING, expected=RunState.QUEUED)
    own.store.transition(running.id, RunState.RUNNING, expected=RunState.STARTING)
    own.store.set_progress(running.id, {"message": "Asking: retain", "done": 1, "total": 3})
    test = opened(app, own)
    (bar,) = test.get("progress")
    assert bar.proto.text == "Asking: retain: 1 of about 3 parts"
    assert "Its model is gone." in texts(test)
    assert test.button(key=f"resume_{broken.id}")
    assert test.selectbox(key="compare_baseline").value == done.id
    test.button(key=f"cancel_{running.id}").click().run()
    assert own.store.get(running.id).state is RunState.CANCELLING


def test_one_evaluation_shows_its_own_values_and_says_what_is_missing(app: Open, own: Home) -> None:
    files = EvaluationFiles(evaluation(own, "original", 0.95, 0.8).directory)
    test = opened(app, own)
    (table, _) = tables_of(test)
    assert "Original" in table
    # There is nothing to hold against it, and so no choice that cannot be made.
    assert [choice.key for choice in test.multiselect if choice.key == "compare_others"] == []
    assert " to " in table
    assert "▲" not in table + texts(test)
    files.answers.unlink()
    view(test, "Samples")
    assert "No texts of this sample are kept" in texts(test)
    assert "ROUGE-L recall" in list(test.dataframe[1].value["Metric"])
    files.values.unlink()
    said = texts(sound(test.run()))
    assert "has no values.parquet" in said
    assert "Evaluate this model" in said


def test_the_views_say_what_differs_by_more_than_the_noise(
    app: Open, shown: Shown, offered: dict[str, Any]
) -> None:
    test = opened(app, shown)
    assert test.selectbox(key="compare_baseline").value == shown.original.id
    assert test.multiselect(key="compare_others").value == [run.id for run in shown.others]
    table, said = tables_of(test)[0], texts(test)
    assert table.count('scope="row"') == 3
    for words in ("Completeness", "Utility", "Averages", "2 seeds", "better than the baseline", " ± "):
        assert words in table
    assert "<b>GA + MRD</b> beside GA:" in said
    assert "<img" not in said
    assert "&lt;img src=x onerror=alert(1)&gt; **bold** $x$" in said
    rows = pd.read_csv(io.BytesIO(offered["compare_comparison.csv"]()))
    assert set(rows["part"]) == {"run", "setting", "difference"}
    parquet = pd.read_parquet(io.BytesIO(offered["compare_comparison.parquet"]()))
    assert list(parquet) == list(rows) == list(test.dataframe[1].value["Column"])
    assert "\\toprule" in offered["compare_comparison.tex"]()
    (figure,) = figures_of(view(test, "Trade-off"))
    assert {trace["name"] for trace in figure["data"]} == {"Original", "GA", "GA + MRD"}
    assert len(figures_of(view(test, "By difficulty"))) == 2
    assert "GA beside Original" in texts(test)
    test.selectbox(key="compare_metric").set_value("mia").run()
    titles = [figure["layout"]["yaxis"]["title"]["text"] for figure in figures_of(sound(test))]
    assert titles == ["MIA", "Change of Membership score (Min-k%)"]
    settings, costs = view(test, "Settings and cost").dataframe
    assert "curriculum.sampler" in list(settings.value["setting"])
    assert list(costs.value["Setting"]) == ["Original", "GA", "GA + MRD"]


@pytest.mark.long
def test_who_got_the_gradient_stands_beside_what_each_third_forgot(
    app: Open,
    shown: Shown,
    two_unlearned: Unlearned,  # noqa: F811
    tmp_path: Path,
) -> None:
    store = RunStore.open(settings_for(tmp_path))
    home = Home(tmp_path, store, adopted(store, shown.run))
    evaluation(home, "original", 0.95, 0.8)
    directory = Path(shutil.copytree(two_unlearned.weighted.directory, tmp_path / "runs" / "copy"))
    ended(store, store.create("unlearn", "GA", "cpu", directory), RunState.SUCCEEDED)
    other = evaluation(home, "mrd", 0.2, 0.5, method="ga", sampler="mrd")
    config = read_config(other.directory, EvaluateConfig).model_copy(update={"unlearn_run": directory})
    write_json(other.directory / "config.json", config.model_dump(mode="json"))
    figures = figures_of(view(opened(app, home), "By difficulty"))
    (figure,) = [each for each in figures if each["layout"]["title"]["text"] == "Who got the gradient"]
    assert [sum(trace["y"]) for trace in figure["data"]] == pytest.approx([1, 1])


def test_tables_to_take_along_have_the_columns_that_are_chosen(
    app: Open, shown: Shown, offered: dict[str, Any], tmp_path: Path
) -> None:
    test = opened(app, shown)
    test.multiselect(key="compare_columns").set_value(["rr", "utility"])
    test.toggle(key="compare_intervals").set_value(True).run()
    markdown = offered["compare_comparison.md"]()
    assert markdown.startswith("| Setting | Runs | RR | Utility |")
    assert "[95 % over samples]" in markdown
    # From the shell the same.
    command = next(code.value for code in sound(test).code if " compare " in code.value)
    assert carried_out(command, tmp_path).exit_code == 0
    assert (tmp_path / "comparison" / "table.md").read_text(encoding="utf-8") == markdown
    assert (tmp_path / "comparison" / "comparison.csv").read_bytes() == offered["compare_comparison.csv"]()


def test_what_other_programs_read_is_there_for_every_run_and_texts_can_be_hidden(
    app: Open, shown: Shown, offered: dict[str, Any]
) -> None:
    runs = (shown.original, *shown.others)
    test = opened(app, shown)
    with zipfile.ZipFile(io.BytesIO(offered["compare_openunlearning.zip"]())) as archive:
        assert archive.namelist() == [f"{run.id}_EVAL.json" for run in runs]
        assert parse_results("", archive.read(archive.namelist()[0])) == RESULTS
    (button_of_logs,) = [each for each in test.get("download_button") if "Inspect" in each.proto.label]
    assert button_of_logs.proto.disabled is not available()
    assert ("pip install inspect-ai" in button_of_logs.proto.help) is not available()
    if not available():
        pytest.skip("inspect_ai (requirements-inspect.txt) is not installed")
    assert QUESTION in logs_of(offered, len(runs))
    test.toggle(key="hide_texts").set_value(True).run()
    assert QUESTION not in logs_of(offered, len(runs))


def logs_of(offered: dict[str, Any], count: int) -> str:
    """Return all that stands in the logs that are offered, of which there are so many."""
    with zipfile.ZipFile(io.BytesIO(offered["compare_inspect.zip"]())) as archive:
        logs = [zipfile.ZipFile(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert len(logs) == count
    return "".join(log.read(name).decode() for log in logs for name in log.namelist())


def test_hidden_texts_are_on_no_table_of_samples_and_in_no_answer(app: Open, shown: Shown) -> None:
    test = view(opened(app, shown), "Samples")
    assert QUESTION in texts(test)
    sound(test.toggle(key="hide_texts").set_value(True).run())
    assert QUESTION not in texts(test)
    tables = pd.concat([table.value.astype(str) for table in test.dataframe])
    assert not tables.apply(lambda column: column.str.contains(QUESTION)).any(axis=None)


def test_a_sample_has_its_answers_side_by_side(app: Open, shown: Shown) -> None:
    scores = pd.read_parquet(ScoreFiles(shown.run.directory).scores)
    sample = str(scores["sample_id"].iloc[3])
    test = view(opened(app, shown, sample=sample), "Samples")
    said = texts(test)
    assert f"Who is {sample}?" in said
    assert said.count(f"It is {sample}.") == 3
    assert "seeds 0, 1" in said
    hardest = list(scores.sort_values("mrd_answer_mean", kind="stable")["sample_id"])
    assert list(test.dataframe[0].value["sample_id"]) == hardest
    test.button(key="next").click().run()
    assert sound(test).query_params["sample"] == hardest[hardest.index(sample) + 1]


def test_the_address_names_what_is_compared(app: Open, shown: Shown) -> None:
    first, _, third = shown.others
    test = app(shown.path, "compare", evaluations=third.id, baseline=first.id)
    assert test.selectbox(key="compare_baseline").value == first.id
    assert test.multiselect(key="compare_others").value == [third.id]
    test.multiselect(key="compare_others").set_value([third.id, shown.original.id]).run()
    assert sound(test).query_params["evaluations"] == f"{third.id},{shown.original.id}"
    assert test.query_params["baseline"] == first.id
    test.multiselect(key="compare_others").set_value([]).run()
    assert sound(test).multiselect(key="compare_others").value == []
    assert tables_of(test)[0].count('scope="row"') == 1


def test_a_link_shows_what_was_compared_without_a_choice_and_a_newer_evaluation_joins_where_it_was_made(
    app: Open, own: Home
) -> None:
    original, older = evaluation(own, "original", 0.95, 0.8), evaluation(own, "ga", 0.4, 0.5, method="ga")
    test = opened(app, own)
    ids, baseline = (test.query_params[name] for name in ("evaluations", "baseline"))
    assert (ids, baseline) == (older.id, original.id)
    newer = evaluation(own, "npo", 0.4, 0.5, method="npo")
    assert sound(test.run()).multiselect(key="compare_others").value == [older.id, newer.id]
    linked = opened(app, own, evaluations=ids, baseline=baseline)
    assert linked.multiselect(key="compare_others").value == [older.id]


def test_at_most_five_settings_stand_beside_the_baseline(app: Open, own: Home) -> None:
    evaluation(own, "original", 0.95, 0.8)
    samplers = list(SAMPLERS)[:5]
    runs = [evaluation(own, sampler, 0.4, 0.5, method="ga", sampler=sampler) for sampler in samplers]
    runs += [
        evaluation(own, "second", 0.4, 0.5, method="ga", seed=1),
        evaluation(own, "shorter", 0.4, 0.5, method="npo", limit=12),
    ]
    test = opened(app, own, evaluations=",".join(run.id for run in runs))
    assert "At most 5 settings beside the baseline; left out: NPO, seed 0." in texts(test)
    assert tables_of(test)[0].count('scope="row"') == 1 + len(samplers)
    # The seeds of a setting are one of the five.
    assert tables_of(test)[0].count("2 seeds") == 1


def test_an_evaluation_that_was_removed_by_hand_is_named_and_left_out(app: Open, own: Home) -> None:
    original = evaluation(own, "original", 0.95, 0.8)
    gone, part, kept = (evaluation(own, name, 0.4, 0.5, method=name) for name in ("ga", "simnpo", "npo"))
    shutil.rmtree(gone.directory)
    EvaluationFiles(part.directory).aggregates.unlink()
    test = sound(opened(app, own, evaluations=f"{gone.id},{part.id},{kept.id}"))
    (said,) = [caption.value for caption in test.caption if "Left out, for not all" in caption.value]
    assert f"({gone.id}) has no config.json: its directory is gone." in said
    assert f"({part.id}) has no aggregates.json" in said
    assert test.selectbox(key="compare_baseline").value == original.id
    assert test.multiselect(key="compare_others").value == [kept.id]


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda name: name, "compared on the 10 samples that all have"),
        (lambda name: f"{name}, another", "have no forget sample in common"),
    ],
)
def test_other_forget_sets_are_compared_where_ids_meet_or_refused(
    app: Open, own: Home, rename: Callable[[str], str], said: str
) -> None:
    evaluation(own, "original", 0.95, 0.8)
    known = list(pd.read_parquet(ScoreFiles(own.run.directory).scores)["sample_id"])[:10]
    ids = {"forget": known, "retain": [f"retain-{at}" for at in range(10)]}
    run = registered(
        own,
        "part",
        answers_of(np.random.default_rng(1), 0.3, n=10),
        method="ga",
        ids={split: list(map(rename, names)) for split, names in ids.items()},
    )
    test = opened(app, own, evaluations=run.id)
    assert said in texts(test)
    assert test.multiselect(key="compare_others").value == [run.id]


def test_a_result_file_stands_beside_the_runs_and_a_bad_one_is_explained(app: Open, shown: Shown) -> None:
    test = opened(app, shown)
    good = ("theirs.json", result_file(list(np.linspace(0.1, 0.3, SAMPLES))), "application/json")
    test.file_uploader(key="compare_uploads").set_value([good, ("<b>bad.json", b"[1, 2", "application/json")])
    said = texts(sound(test.run()))
    assert "That did not work" in said
    assert "<b>bad.json" in said
    assert "theirs" in tables_of(test)[0]
    assert f"the {SAMPLES} samples of forget are taken for those of Original" in said


def test_a_suite_without_its_data_is_refused_and_the_rest_stays(app: Open, shown: Shown) -> None:
    test = opened(app, shown)
    test.selectbox(key=SUITE).set_value("tofu").run()
    assert "needs `data`" in texts(sound(test))
    assert len(tables_of(test)) == 2
    assert not [found for found in test.button if found.key == "evaluate"]


def test_an_evaluation_is_opened_from_start(app: Open, shown: Shown) -> None:
    test = app(shown.path)
    test.session_state["opened"] = shown.others[2].id
    test.run()
    assert sound(test).title[0].value == "Compare"
    assert test.multiselect(key="compare_others").value == [shown.others[2].id]
