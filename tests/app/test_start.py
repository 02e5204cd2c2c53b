"""Start: the ways in, and recent runs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mrd_core.runs import RunError, RunState, RunStore
from mrd_core.runs.kind import kind_named
from mrd_core.runs.liveness import FRESH, ProcessIdentity
from tests.app.conftest import PAGES, Home, assert_named, button, ended, go, settings_for, sound, texts
from tests.conftest import REPOSITORY
from tests.support.runs import set_row

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_an_empty_data_root(app: Open, tmp_path: Path, page: str) -> None:
    assert app(tmp_path, page).title


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_with_a_finished_run_and_its_buttons_have_names_of_their_own(
    app: Open, finished: Home, page: str
) -> None:
    test = app(finished.path, page, run=finished.run.id)
    assert test.title
    assert_named(test)


def test_without_runs_the_way_to_the_first_one_is_told(app: Open, tmp_path: Path) -> None:
    assert "None yet. The first one is two clicks away" in texts(app(tmp_path))


def test_recent_runs_show_state_and_figures_newest_first(app: Open, own: Home) -> None:
    for state in (RunState.FAILED, RunState.LOST, RunState.CANCELLED):
        run = own.store.create("score", f"<b>{state}</b> *run*", "cpu", own.path / "runs" / state)
        error = None if state is RunState.CANCELLED else RunError("ValueError", "cause", "advice")
        ended(own.store, run, state, error)
    own.store.create("score", "waiting", "cpu", own.path / "runs" / "waiting")
    table = app(own.path).dataframe[0].value
    assert list(table["State"]) == ["… queued", "– cancelled", "? lost", "✗ failed", "✓ succeeded"]
    assert table["Run"].iloc[3] == "<b>failed</b> *run*"
    assert list(table["Outcome"])[1:4] == ["", "cause", "cause"]
    assert own.run.summary is not None
    assert table["Outcome"].iloc[4] == kind_named("score").headline(own.run.summary)


def test_runs_are_found_by_words_kind_and_state(app: Open, own: Home) -> None:
    for title, state in (("GA, seed 0 on Demo", RunState.FAILED), ("NPO, seed 1 on Demo", RunState.CANCELLED)):
        run = own.store.create("unlearn", title, "cpu", own.path / "runs" / state)
        ended(own.store, run, state, RunError("ValueError", "cause", "advice"))
    test = app(own.path)

    def listed() -> list[str]:
        return list(sound(test.run()).dataframe[0].value["Run"])

    test.text_input(key="runs_find").set_value("demo seed")
    assert listed() == ["NPO, seed 1 on Demo", "GA, seed 0 on Demo"]
    test.selectbox(key="runs_state").set_value("failed")
    assert listed() == ["GA, seed 0 on Demo"]
    test.selectbox(key="runs_kind").set_value("Score run").run()
    assert "No run is like this." in texts(sound(test))
    test.text_input(key="runs_find").set_value("")
    test.selectbox(key="runs_state").set_value(None)
    assert listed() == [own.run.title]


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("runs_model", "llama", ["GA"]),
        ("runs_set", "forget.jsonl", ["GA", "NPO"]),
        ("runs_method", "NPO", ["NPO"]),
        ("runs_find", "paper", ["GA"]),
        ("runs_find", "mine", ["NPO"]),
    ],
)
def test_runs_are_found_by_what_they_are_about_and_by_what_is_written_on_them(
    app: Open, own: Home, key: str, value: str, left: list[str]
) -> None:
    about = {"forget_set": "forget.jsonl", "state": RunState.CANCELLED}
    wrote = {"GA": {"model": "llama", "tags": ("paper",)}, "NPO": {"model": "phi", "note": "Mine alone"}}
    for title, more in wrote.items():
        method = {"method": title.lower()}
        own.store.create("unlearn", title, "cpu", own.path / "runs" / title, **about | method | more)
    test = app(own.path)
    field = test.text_input(key=key) if key == "runs_find" else test.selectbox(key=key)
    field.set_value(value)
    assert sorted(sound(test.run()).dataframe[0].value["Run"]) == left


def test_a_link_brings_back_what_runs_are_filtered_by(app: Open, own: Home) -> None:
    for title, state in (("a", RunState.FAILED), ("b", RunState.CANCELLED), ("c", RunState.CANCELLED)):
        own.store.create("unlearn", title, "cpu", own.path / "runs" / title, state=state, study="seeds")
    table = app(own.path, runs_find="seeds", runs_state="cancelled", runs_grouped="true").dataframe[0].value
    assert list(table["Run"]) == ["c", "b"]
    assert table.columns[0] == "Study"


def test_the_runs_of_a_study_stand_together_where_that_is_asked_for(app: Open, own: Home) -> None:
    for title, study in (("a", "seeds"), ("b", None), ("c", "seeds")):
        own.store.create("unlearn", title, "cpu", own.path / "runs" / title, study=study)
    test = app(own.path)
    assert list(test.dataframe[0].value["Run"]) == ["c", "b", "a", own.run.title]
    test.toggle(key="runs_grouped").set_value(True)
    table = sound(test.run()).dataframe[0].value
    assert list(table["Run"]) == ["c", "a", "b", own.run.title]
    assert table.columns[0] == "Study"


def test_a_run_gets_another_name_tags_and_a_note(app: Open, own: Home) -> None:
    test = app(own.path)
    test.session_state["chosen_runs"] = [own.run.id]
    test.run()
    test.button(key="runs_edit").click().run()
    test.text_input(key=f"run_name_{own.run.id}").set_value("The *paper's* set")
    test.multiselect(key=f"run_tags_{own.run.id}_1").set_value(["paper"])
    test.text_area(key=f"run_note_{own.run.id}").set_value("Look again")
    # A dialog is a fragment, which runs alone only in a browser: here the page opens it once more.
    test.button(key="runs_edit").click()
    test.button(key="save_run").click().run()
    run = own.store.get(own.run.id)
    assert (run.title, run.tags, run.note) == ("The *paper's* set", ("paper",), "Look again")
    row = sound(test.run()).dataframe[0].value.iloc[0]
    assert (row["Run"], list(row["Tags"]), row["Note"]) == (run.title, ["paper"], run.note)
    assert run.title in go(test, "difficulty").selectbox(key="picked_run").options[0]


def test_runs_that_are_chosen_are_deleted_together_and_no_others(app: Open, own: Home) -> None:
    gone = [own.store.create("unlearn", name, "cpu", own.path / "runs" / name) for name in "ab"]
    for run in gone:
        own.store.request_cancel(run.id)
    test = app(own.path)
    test.session_state["chosen_runs"] = [run.id for run in gone]
    test.run()
    assert "**2 runs**" in texts(test)
    # Another run that comes in between moves the rows, and not the choice.
    waiting = own.store.create("unlearn", "c", "cpu", own.path / "runs" / "c")
    test.button(key="runs_delete").click().run()
    assert [code.value for code in test.code][-1] == "\n".join(str(own.path / "runs" / name) for name in "ba")
    test.button(key="runs_delete").click()
    test.button(key="really_delete").click().run()
    assert [run.id for run in own.store.list()] == [waiting.id, own.run.id]


def test_a_run_with_strange_figures_hides_no_other(app: Open, own: Home) -> None:
    directory = own.path / "runs" / "strange"
    own.store.create("score", "Strange", "cpu", directory, state=RunState.SUCCEEDED, summary={"n_samples": None})
    test = app(own.path)
    table = test.dataframe[0].value.set_index("Run")["Outcome"]
    assert table["Strange"] == "its figures are not as this version writes them"
    assert table[own.run.title].startswith("24 samples")
    assert "Two score runs are compared here, and there are fewer." in texts(go(test, "two_sets"))


def test_a_run_directory_that_is_in_no_list_is_opened_by_its_path(
    app: Open, finished: Home, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished.run.directory, tmp_path / "elsewhere" / "run")
    test = app(tmp_path)
    test.text_input(key="runs_directory").set_value(str(finished.run.directory)).run()
    test.button(key="runs_open").click().run()
    assert "lies outside the folders that this app may read" in texts(sound(test))
    test.text_input(key="runs_directory").set_value(str(copy)).run()
    test.button(key="runs_open").click().run()
    assert sound(test).title[0].value == "Difficulty"
    assert test.metric[0].value == "24"


def test_selecting_a_recent_run_opens_it(app: Open, finished: Home) -> None:
    test = app(finished.path)
    test.session_state["opened"] = finished.run.id
    test.run()
    assert sound(test).title[0].value == "Difficulty"
    assert test.query_params["run"] == finished.run.id
    assert "Hardest first" in texts(test)


def test_the_demo_is_one_click_away_from_the_form(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path)
    button(test, "Use the demo").click().run()
    assert sound(test).title[0].value == "Difficulty"
    assert "**Forget set** ` demo ` · 240 samples" in texts(test)


def test_the_way_to_own_data_leads_to_the_forget_set(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path)
    button(test, "Open a forget set").click().run()
    assert sound(test).title[0].value == "Forget set"


def test_a_run_whose_worker_is_gone_is_shown_as_lost(app: Open, own: Home) -> None:
    run = own.store.create("score", "gone", "cpu", own.path / "runs" / "gone")
    assert own.store.claim(run, replace(ProcessIdentity.current(), started=1.0))
    set_row(own.store, run, heartbeat_at=datetime.now(UTC) - FRESH)
    table = app(own.path).dataframe[0].value
    assert list(table["State"]) == ["? lost", "✓ succeeded"]
    assert RunStore.open(settings_for(own.path)).get(run.id).state is RunState.LOST


def test_what_pages_write_is_for_its_owner_alone_however_they_were_started(tmp_path: Path) -> None:
    # `streamlit run app.py` does not go through the command line, which sees to that as well.
    lines = (
        "import os, pathlib, sys",
        "from streamlit.testing.v1 import AppTest",
        "assert not AppTest.from_file('app.py', default_timeout=60).run().exception",
        "pathlib.Path(sys.argv[1], 'file').touch()",
        "pathlib.Path(sys.argv[1], 'folder').mkdir()",
    )
    environment = os.environ | {"MRD_HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", "\n".join(lines), str(tmp_path)]
    subprocess.run(command, check=True, umask=0o022, cwd=REPOSITORY, env=environment)
    paths = [path for path in tmp_path.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert (tmp_path / "folder").is_dir()
    assert paths == []


def test_a_page_whose_files_vanish_says_so_and_what_to_do() -> None:
    def page() -> None:
        from pathlib import Path

        from pages.shell.notices import errors_shown

        with errors_shown():
            Path("/nowhere/features.parquet").read_bytes()

    test = AppTest.from_function(page).run()
    assert not test.exception
    assert "The file /nowhere/features.parquet is missing." in texts(test)
