"""Learn: each step asks for something first, ends with the true answer, and is named by the address."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from analysis.lesson import answers, comeback, curricula, forecast, hardness
from mrd_core.dossier import files
from mrd_core.dossier.files import FOLDER, Dossier, Part, shipped
from mrd_core.dossier.opening import store_in
from pages.parts.learn.walk import STEPS
from tests.app.conftest import PAGES, Home, assert_named, button, go, sound, texts
from tests.support.marks import few_in_the_gate

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
CONCLUSION = "**What to conclude.**"


def ask_after(test: AppTest) -> None:
    test.button_group(key="learn_stage").set_value(list(answers.STAGES)[1]).run()


def move_sigma(test: AppTest) -> None:
    test.select_slider(key="learn_sigma").set_value(5e-4).run()


def guess(test: AppTest) -> None:
    test.radio(key="learn_guess").set_value(hardness.NOTHING).run()


def rank(test: AppTest) -> None:
    five = forecast.forecast(shipped()).five
    for count in range(1, len(five) + 1):
        test.multiselect(key="learn_order").set_value(list(five["sample_id"])[:count]).run()


def predict(test: AppTest) -> None:
    test.radio(key="learn_prediction").set_value(curricula.FEWER).run()


DOINGS = (ask_after, move_sigma, guess, rank, predict)


def test_each_step_asks_for_something_before_it_concludes_and_lets_nobody_past(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path)
    button(test, "Guided demo").click().run()
    assert sound(test).title[0].value == "Learn"
    for place, (step, doing) in enumerate(zip(STEPS, DOINGS, strict=True), 1):
        is_last = place == len(STEPS)
        assert test.header[0].value == step.title
        assert_named(test)
        assert test.button(key="learn_next").disabled
        assert ("To go on: " in texts(test)) is not is_last
        assert CONCLUSION not in texts(test)
        doing(test)
        assert CONCLUSION in texts(sound(test))
        assert "nan" not in texts(test)
        assert "To go on: " not in texts(test)
        assert test.button(key="learn_next").disabled is is_last
        if not is_last:
            test.button(key="learn_next").click().run()
            assert "".join(test.query_params["step"]) == str(place + 1)
    # What was done stays done.
    for place in range(len(STEPS) - 1, 0, -1):
        test.button(key="learn_back").click().run()
        assert sound(test).header[0].value == STEPS[place - 1].title
        assert CONCLUSION in texts(test)
        assert not test.button(key="learn_next").disabled
    assert test.button(key="learn_back").disabled


def test_the_last_step_has_the_learner_guess_what_comes_back(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "learn", step=str(len(STEPS)))
    assert not [radio for radio in test.radio if radio.key == "learn_comeback"]
    predict(test)
    lines = comeback.returned(shipped())
    assert comeback.conclusion(lines) not in texts(test)
    right = comeback.right(lines)
    wrong = next(guess for guess in comeback.GUESSES if guess != right)
    for guessed, judged in ((wrong, "Not so."), (right, "Right.")):
        test.radio(key="learn_comeback").set_value(guessed).run()
        assert f"{judged} {comeback.conclusion(lines)}" in texts(sound(test))
    assert f"{lines[0].back} of {lines[0].share.n}" in texts(test)


@pytest.mark.parametrize(
    ("named", "place"), [("3", 3), ("0", 1), ("99", len(STEPS)), ("x", 1), ("²", 1), ("", 1), ("-2", 1)]
)
def test_the_address_names_the_step_and_a_strange_one_leads_to_one_that_is_there(
    app: Open, tmp_path: Path, named: str, place: int
) -> None:
    assert app(tmp_path, "learn", step=named).header[0].value == STEPS[place - 1].title


def test_nothing_of_the_lesson_is_among_the_users_runs(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "learn", step="5")
    predict(test)
    assert "None yet." in texts(go(test, "start"))
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("page", ["learn", "difficulty"])
def test_files_that_are_not_as_they_were_shipped_are_refused(
    app: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "dossier")
    (folder / Dossier(folder).shaken.name).write_bytes(b"")
    monkeypatch.setattr(files, "FOLDER", folder)
    run = {} if page == "learn" else {"run": str(Part.SCORE)}
    said = texts(app(tmp_path / "home", page, **run))
    assert "The file shaken.parquet of the demo's finished runs is not as it was shipped" in said
    assert "demo --make" in said


@pytest.mark.parametrize("page", few_in_the_gate(PAGES.keys() - {"start"}, "unlearning", "audit"))
def test_the_runs_of_the_lesson_open_on_every_page_and_say_that_they_can_only_be_read(
    app: Open, tmp_path: Path, page: str
) -> None:
    test = app(tmp_path, page, run=str(Part.SCORE))
    assert "The demo's finished runs ship with the program and can only be read." in texts(test)
    # What one page has to say in red is no failure: the model that was unlearned lost its answers.
    assert ["The model is damaged" in error.value for error in test.error] == [True] * (page == "unlearning")
    assert test.selectbox(key="picked_run").value == Part.SCORE


def bookmark(test: AppTest) -> None:
    test.checkbox(key="bookmark").check().run()


def launch(label: str) -> Callable[[AppTest], None]:
    """Return what presses a button."""
    return lambda test: button(test, label).click().run()


def delete(test: AppTest) -> None:
    test.button(key="delete").click().run()
    # A dialog is a fragment, which runs alone only in a browser: here the page opens it once more.
    test.button(key="delete").click()
    test.button(key="really_delete").click().run()


@pytest.mark.parametrize(
    ("page", "change"),
    [
        ("difficulty", bookmark),
        pytest.param("difficulty", launch("Compute exactly"), marks=pytest.mark.long),
        ("unlearning", delete),
        pytest.param("compare", launch("Evaluate these runs"), marks=pytest.mark.long),
    ],
)
def test_nothing_is_noted_launched_or_deleted_among_them(
    app: Open, tmp_path: Path, page: str, change: Callable[[AppTest], None]
) -> None:
    test = app(tmp_path, page, run=str(Part.SCORE))
    change(test)
    (error,) = [error.value for error in test.error if "The model is damaged" not in error.value]
    assert "That did not work" in error
    assert any("can only be read" in text.value for text in test.text)
    assert not list(tmp_path.glob("runs/*"))
    assert all(run.directory.is_dir() for run in store_in(tmp_path).list())


def test_the_way_to_them_is_on_the_page(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "learn")
    button(test, "Look at these runs").click().run()
    assert sound(test).title[0].value == "Difficulty"
    assert test.selectbox(key="picked_run").value == Part.SCORE


def test_the_start_page_leaves_them_for_the_users_own(app: Open, own: Home) -> None:
    test = app(own.path, "difficulty", run=str(Part.SCORE))
    assert "can only be read" in texts(test)
    test = go(test, "start")
    assert "can only be read" not in texts(test)
    assert list(test.dataframe[0].value["State"]) == ["✓ succeeded"]


def test_the_sheet_is_handed_out(app: Open, tmp_path: Path, offered: dict[str, Any]) -> None:
    app(tmp_path, "learn")
    assert "# Answers" in offered["learn_exercises"]()


def test_a_model_that_no_longer_writes_the_answers_is_damaged_on_its_own_page_too(
    app: Open, tmp_path: Path
) -> None:
    page = sound(app(tmp_path, "unlearning", run=str(Part.SCORE)))
    (told,) = [error.value for error in page.error if "The model is damaged" in error.value]
    assert "Its answers to 60 retain samples went from ROUGE-L 0.80 to 0.60." in told
    assert "The retain set was kept" not in texts(page)
