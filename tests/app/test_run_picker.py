"""The side bar says on every page which score run it is about, and leads to another or to a new one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mrd_core.runs import RunState
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from pages.shell.run_picker import PICKED
from tests.app.conftest import PAGES, Home, ended, go, sound, submitted, texts
from tests.support.runs import set_row

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]


@pytest.mark.parametrize("page", PAGES)
def test_without_a_link_every_page_is_about_the_newest_run_that_succeeded(app: Open, own: Home, page: str) -> None:
    failed = submitted(own.store, own.path, read_config(own.run.directory, ScoreConfig))
    ended(own.store, failed, RunState.FAILED)
    test = app(own.path, page)
    picker = test.selectbox(key=PICKED)
    assert picker.value == own.run.id
    assert picker.options == [f"✗ {failed.title}", f"✓ {own.run.title}"]
    assert own.run.id in test.query_params["run"]
    assert "None is scored yet" not in texts(test)


def test_runs_of_one_title_are_told_apart_by_their_time_and_never_by_an_id(app: Open, own: Home) -> None:
    config = read_config(own.run.directory, ScoreConfig)
    runs = [ended(own.store, submitted(own.store, own.path, config), RunState.CANCELLED) for _ in range(2)]
    for run, expected in zip(runs, ([], ["(1)", "(2)"]), strict=True):
        set_row(own.store, run, created_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
        options = app(own.path, "difficulty").selectbox(key=PICKED).options
        # A browser names what is picked by its label: two of one name would be one.
        assert len(set(options)) == len(options) == 3
        assert not any(known.id in option for known in (own.run, *runs) for option in options)
        assert any("02 Jan" in option for option in options)
        assert [option[-3:] for option in options if option.endswith(")")] == expected


def test_a_run_that_is_picked_is_kept_from_page_to_page(app: Open, own: Home) -> None:
    other = submitted(own.store, own.path, read_config(own.run.directory, ScoreConfig))
    ended(own.store, other, RunState.CANCELLED)
    test = app(own.path, "difficulty")
    sound(test.selectbox(key=PICKED).set_value(other.id).run())
    assert "cancelled" in texts(test)
    assert go(test, "evidence").selectbox(key=PICKED).value == other.id
    assert f"This score run is {RunState.CANCELLED}" in texts(test)


def test_a_new_score_begins_without_a_run_until_one_is_picked(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty")
    sound(test.button(key="new_score").click().run())
    assert test.title[0].value == "Forget set"
    assert "Estimated cost" in texts(go(test, "difficulty"))
    assert test.selectbox(key=PICKED).value is None
    sound(test.selectbox(key=PICKED).set_value(finished.run.id).run())
    assert test.metric[0].value == "24"


def test_without_any_run_there_is_nothing_to_pick(app: Open, tmp_path: Path) -> None:
    assert not [box for box in app(tmp_path, "difficulty").selectbox if box.key == PICKED]
