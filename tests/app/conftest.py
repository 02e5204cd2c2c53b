"""A data root with finished and unfinished runs, and the app on top of it, without a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mrd_core.config import EstimatorConfig, ForgetSetConfig, ScoreConfig, Settings
from mrd_core.runs import Run, RunError, RunState, RunStore, submit, worker
from mrd_core.samples import load_table, read
from mrd_core.scoring.files import RunFiles
from tests.conftest import REPOSITORY

SAMPLES = 24
PAGES = {"start": "pages/start.py", "forget_set": "pages/forget_set.py", "difficulty": "pages/difficulty.py"}
FORGOTTEN_ENVIRONMENT = ("MRD_STORE_URL", "MRD_ALLOWED_ROOTS", "MRD_UPLOAD_LIMIT_MB")


def settings_for(home: Path) -> Settings:
    """Return the settings of an installation whose data root is `home`."""
    return Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=(home,))


def write_demo_rows(path: Path, count: int = SAMPLES) -> Path:
    """Write the first rows of the demo as JSON Lines."""
    rows = load_table(ForgetSetConfig(source="demo")).frame.head(count).to_dict("records")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def quick_config(source: Path) -> ScoreConfig:
    """Return a run of a few seconds: few draws at a given σ, one process."""
    estimator = EstimatorConfig(sigma=1e-3, draws=16, stop="never", workers=1)
    return ScoreConfig(forget_set=ForgetSetConfig(source=str(source)), estimator=estimator)


def submitted(store: RunStore, home: Path, config: ScoreConfig, title: str | None = None) -> Run:
    """Submit a run that nobody carries out."""
    forget_set = read(config.forget_set)
    return submit(
        config,
        store=store,
        settings=settings_for(home),
        title=title,
        prepare=lambda draft: forget_set.save(RunFiles(draft).samples),
    )


@dataclass(frozen=True)
class Home:
    """A data root and what it holds."""

    path: Path
    store: RunStore
    run: Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One run of the real worker on the demo model; for tests that only read."""
    path = tmp_path_factory.mktemp("finished")
    store = RunStore.open(settings_for(path))
    run = submitted(store, path, quick_config(write_demo_rows(path / "forget.jsonl")))
    assert worker.run(run.directory, store=store) is RunState.SUCCEEDED
    return Home(path, store, store.get(run.id))


@pytest.fixture
def own(finished: Home, tmp_path: Path) -> Home:
    """The finished run in a data root of its own; for tests that change things."""
    shutil.copytree(finished.run.directory, tmp_path / "runs" / "finished")
    store = RunStore.open(settings_for(tmp_path))
    run = store.create("score", finished.run.title, "cpu", tmp_path / "runs" / "finished")
    ended(store, run, RunState.SUCCEEDED, summary=finished.run.summary)
    return Home(tmp_path, store, store.get(run.id))


def ended(
    store: RunStore,
    run: Run,
    state: RunState,
    error: RunError | None = None,
    summary: dict[str, object] | None = None,
) -> Run:
    """Take a queued run to a terminal state the way a worker does."""
    store.claim(run, worker.ProcessIdentity.current())
    store.transition(run.id, RunState.STARTING, expected=RunState.QUEUED)
    store.transition(run.id, RunState.RUNNING, expected=RunState.STARTING)
    if state is RunState.CANCELLED:
        store.request_cancel(run.id)
    assert store.finish(run.id, state, error, summary)
    return store.get(run.id)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Open a page of the app over a data root, as a link with a query would."""

    def open_page(home: Path, page: str = "start", **query: str) -> AppTest:
        monkeypatch.chdir(REPOSITORY)
        monkeypatch.setenv("MRD_HOME", str(home))
        for name in FORGOTTEN_ENVIRONMENT:
            monkeypatch.delenv(name, raising=False)
        st.cache_data.clear()
        test = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60)
        test.run()
        for name, value in query.items():
            test.query_params[name] = value
        # Choosing a page holds for good, also where the page itself would go on to another one.
        return sound(test.run()) if page == "start" else go(test, page)

    return open_page


def go(test: AppTest, page: str) -> AppTest:
    """Switch to a page and run it; nothing may have broken."""
    test.switch_page(PAGES[page]).run()
    return sound(test)


def sound(test: AppTest) -> AppTest:
    """Return the page after checking that it shows no traceback."""
    assert not test.exception, [error.value for error in test.exception]
    return test


def texts(test: AppTest) -> str:
    """Return everything that the page says, without its tables."""
    kinds = (
        test.title,
        test.subheader,
        test.markdown,
        test.caption,
        test.text,
        test.info,
        test.warning,
        test.html,
    )
    spoken = [str(element.value) for kind in kinds for element in kind]
    return "\n".join([*spoken, *(button.label for button in test.button)])


def button(test: AppTest, label: str) -> object:
    """Return the button with this label."""
    return next(found for found in test.button if found.label == label)
