"""An exception that nobody foresaw: a card of our own, and a log without what it quotes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from analysis import difficulty
from mrd_core.runs import JobContext, RunState, worker
from mrd_core.scoring.config import ScoreConfig
from pages.shell import failures
from tests.app.conftest import PAGES, Home, go, quick_config, sound, submitted, texts, write_demo_rows

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
SECRET = "sample-of-somebody"


def test_a_page_that_fails_shows_a_card_of_its_own_and_logs_no_text_of_a_sample(
    app: Open, finished: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: object) -> None:
        raise KeyError(SECRET)

    test = app(finished.path, run=finished.run.id)
    monkeypatch.setattr(difficulty, "trust", lost)
    test.switch_page(PAGES["difficulty"]).run()
    assert [error.value for error in test.error] == [f"**{failures.TITLE}**"]
    assert not test.exception
    assert f"KeyError at line {lost.__code__.co_firstlineno + 1} of {Path(__file__)}, in lost." in texts(test)
    assert "→ This is a fault of the program, not yours." in texts(test)
    assert SECRET not in texts(test)
    logged = next(record.getMessage() for record in caplog.records if record.name == failures.__name__)
    assert "Traceback (most recent call last)" in logged
    assert "in lost" in logged
    assert SECRET not in caplog.text


def fail(_config: ScoreConfig, _context: JobContext) -> None:
    """End as a job does that meets what nobody foresaw."""
    raise KeyError(SECRET)


@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_run_failed_of_is_told_without_the_words_of_an_exception_where_texts_are_hidden(
    app: Open, own: Home, tmp_path: Path, hidden: bool
) -> None:
    run = submitted(own.store, own.path, quick_config(write_demo_rows(tmp_path / "rows.jsonl", 3)))
    own.store.add_event(run.id, "info", "sigma: 0.001")
    assert worker.run(run.directory, store=own.store, job=f"{__name__}:fail") is RunState.FAILED
    (run.directory / "worker.log").write_text(f"KeyError: {SECRET}")
    test = app(own.path)
    test.session_state["hide_texts"] = hidden
    (table,) = sound(test.run()).dataframe
    go(test, "difficulty")
    test.query_params["run"] = run.id
    sound(test.run())
    codes = [code.value for code in test.code]
    assert "sigma: 0.001" in texts(test)
    assert "→ This looks like a defect of the program" in texts(test)
    # The newest run is the first row.
    for said in (table.value["Outcome"].iloc[0], texts(test)):
        assert (SECRET in said) != hidden
        assert ("KeyError (its words are left out)" in said) == hidden
    # Its traceback and its log.
    assert sum(SECRET in code for code in codes) == (0 if hidden else 2)


def test_what_streamlit_logs_of_an_exception_is_without_its_message() -> None:
    log = logging.getLogger(failures.UNCAUGHT)
    assert any(isinstance(each, failures.WithoutMessages) for each in log.filters)
    try:
        raise ValueError(SECRET)
    except ValueError:
        record = log.makeRecord(log.name, logging.ERROR, "", 1, "Uncaught", (), sys.exc_info())
    assert log.filter(record)
    assert SECRET not in logging.Formatter().format(record)
    assert "ValueError" in record.getMessage()


def test_no_search_engine_is_offered() -> None:
    assert str(config.get_option("client.showErrorLinks")).lower() == "false"
    assert config.get_option("client.showErrorDetails") == "none"
