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
from pages.shell import failures
from tests.app.conftest import PAGES, Home, texts

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
