"""A data root with finished and unfinished runs, and the app on top of it, without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from analysis.characteristics import runs as characteristics
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import CharacteristicsFiles
from mrd_core.runs import ACTIVE, Run, RunError, RunState, RunStore, submit, worker
from mrd_core.samples import load_table, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.installation import Settings
from pages.shell import failures
from tests.conftest import REPOSITORY
from tests.support.once import made_once
from tests.support.scored_demo import ROWS, scored_demo

SAMPLES = 24
# Enough for groups of ten samples under every criterion.
CHARACTERISED = ROWS
PAGES = {path.stem: f"pages/{path.name}" for path in sorted((REPOSITORY / "pages").glob("*.py"))}
PATIENCE = 60.0
# Without training counts, in more than one language, and with a look of Markdown, LaTeX and HTML.
ODD_ANSWERS = (
    "<script>alert(1)</script> **bold** `code` $x^2$ ![i](http://example.org/x.png) | :red[red]",
    "The committee, which met in the library that the mayor had closed, said that it would return. " * 12,
    "你好，这是一个中文句子，我们在这里测试语言检测是否正常工作。",
    "She was a painter.",
    "Yes.",
    "😀 😀",
)
FORGOTTEN_ENVIRONMENT = ("MRD_STORE_URL", "MRD_ALLOWED_ROOTS", "MRD_UPLOAD_LIMIT_MB")

# AppTest looks through all installed packages for components of theirs each time it opens an app: a second.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)  # type: ignore[assignment]


def settings_for(home: Path) -> Settings:
    """Return the settings of an installation whose data root is `home`."""
    return Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=(home,))


def write_demo_rows(path: Path, count: int = SAMPLES) -> Path:
    """Write the first rows of the demo as JSON Lines."""
    rows = load_table(ForgetSetConfig(source="demo")).frame.head(count).to_dict("records")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def quick_config(source: Path, sigma: float = 1e-3) -> ScoreConfig:
    """Return a run of a few seconds: few draws at a given σ, one process."""
    estimator = EstimatorConfig(sigma=sigma, draws=16, stop="never", workers=1)
    return ScoreConfig(forget_set=ForgetSetConfig(source=str(source)), estimator=estimator)


def submitted(store: RunStore, home: Path, config: ScoreConfig) -> Run:
    """Submit a run that nobody carries out."""
    forget_set = read(config.forget_set)
    return submit(
        config,
        store=store,
        settings=settings_for(home),
        prepare=lambda draft: forget_set.save(ScoreFiles(draft).samples),
    )


@dataclass(frozen=True)
class Home:
    """A data root and what it holds."""

    path: Path
    store: RunStore
    run: Run


@dataclass(frozen=True)
class CharacterisedHome(Home):
    """A data root with a score run and a finished reading of it."""

    reading: Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One run of the real worker on the demo model; for tests that only read."""
    return finished_home(tmp_path_factory.getbasetemp())


def finished_home(base: Path) -> Home:
    """Return the data root of that run; `base` is the temporary folder of this process."""
    path = made_once(
        base, "finished", lambda home: scored(home, quick_config(write_demo_rows(home / "rows.jsonl")))
    )
    store = RunStore.open(settings_for(path))
    (run,) = store.list()
    return Home(path, store, run)


@pytest.fixture
def own(finished: Home, tmp_path: Path) -> Home:
    """The finished run in a data root of its own; for tests that change things."""
    store = RunStore.open(settings_for(tmp_path))
    return Home(tmp_path, store, adopted(store, finished.run))


@pytest.fixture(scope="session")
def characterised(tmp_path_factory: pytest.TempPathFactory) -> CharacterisedHome:
    """A run large enough for verdicts, read by the real job; for tests that only read."""
    path = tmp_path_factory.mktemp("characterised")
    demo = scored_demo(tmp_path_factory.getbasetemp())
    store = RunStore.open(settings_for(path))
    run = adopted(store, RunStore.open(settings_for(demo.parents[1])).find_by_directory(demo))
    return with_reading(Home(path, store, run), characteristics.default_config(run.directory))


@pytest.fixture
def own_characterised(characterised: CharacterisedHome, tmp_path: Path) -> CharacterisedHome:
    """The same in a data root of its own; for tests that change things."""
    return adopted_with_reading(RunStore.open(settings_for(tmp_path)), characterised)


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> CharacterisedHome:
    """Strange texts, scored at another σ and read without a training corpus."""
    path = tmp_path_factory.mktemp("odd")
    rows = [{"question": "**Who** <b>is</b> $it$?", "answer": answer} for answer in ODD_ANSWERS]
    source = path / "odd.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    home = scored(path, quick_config(source, sigma=2e-3))
    return with_reading(
        home, characteristics.default_config(home.run.directory).model_copy(update={"corpus": None})
    )


def scored(path: Path, config: ScoreConfig) -> Home:
    """Score a forget set in this process."""
    store = RunStore.open(settings_for(path))
    run = submitted(store, path, config)
    assert worker.run(run.directory, store=store) is RunState.SUCCEEDED
    return Home(path, store, store.get(run.id))


def with_reading(home: Home, config: CharacteristicsConfig) -> CharacterisedHome:
    """Read a scored forget set in this process."""
    reading = submit(config, store=home.store, settings=settings_for(home.path))
    assert worker.run(reading.directory, store=home.store) is RunState.SUCCEEDED
    return CharacterisedHome(home.path, home.store, home.run, home.store.get(reading.id))


def adopted(store: RunStore, run: Run, mark: str = "") -> Run:
    """Copy a finished score run, without its readings, into the data root of another store."""
    directory = store.home / "runs" / f"copy-{run.id}{mark}"
    shutil.copytree(
        run.directory, directory, ignore=shutil.ignore_patterns(ScoreFiles(run.directory).readings.name)
    )
    copy = store.create("score", run.title, "cpu", directory)
    return ended(store, copy, RunState.SUCCEEDED, summary=run.summary)


def adopted_with_reading(store: RunStore, source: CharacterisedHome) -> CharacterisedHome:
    """Copy a finished score run and its reading into the data root of another store."""
    run = adopted(store, source.run)
    files = CharacteristicsFiles(source.reading.directory)
    features, about = files.read_features()
    config = about.config.model_copy(update={"score_run": run.directory})
    reading = submit(config, store=store, settings=settings_for(store.home))
    about = about.model_copy(update={"config": config})
    CharacteristicsFiles(reading.directory).write(features, pd.read_parquet(files.spans), about)
    reading = ended(store, reading, RunState.SUCCEEDED, summary=source.reading.summary)
    return CharacterisedHome(store.home, store, run, reading)


def finish(store: RunStore, run_id: str) -> RunState:
    """Wait for a launched worker and return how it ended."""
    deadline = time.monotonic() + PATIENCE
    while store.get(run_id).state in ACTIVE:
        assert time.monotonic() < deadline, store.get(run_id)
        time.sleep(0.1)
    return store.get(run_id).state


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
        for name, value in query.items():
            test.query_params[name] = value
        # Choosing a page holds for good, also where the page itself would go on to another one.
        return sound(test.run()) if page == "start" else go(test, page)

    return open_page


def numbers(values: Any) -> list[float]:
    """Return the numbers of a figure; plotly packs long ones into bytes."""
    if isinstance(values, dict):
        return list(np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]))
    return list(values)


def go(test: AppTest, page: str) -> AppTest:
    """Switch to a page and run it; nothing may have broken."""
    test.switch_page(PAGES[page]).run()
    return sound(test)


def sound(test: AppTest) -> AppTest:
    """Return the page after checking that it shows no traceback."""
    assert not test.exception, [error.value for error in test.exception]
    assert not any(failures.TITLE in error.value for error in test.error), texts(test)
    return test


def texts(test: AppTest) -> str:
    """Return everything that the page says, without its tables and its links to the glossary."""
    kinds = (
        test.title,
        test.header,
        test.markdown,
        test.caption,
        test.text,
        test.info,
        test.warning,
        test.error,
        test.html,
    )
    spoken = [str(element.value) for kind in kinds for element in kind]
    said = "\n".join([*spoken, *(button.label for button in test.button)])
    return re.sub(r"\[([^]]*)\]\(glossary\?term=[^)]*\)", r"\1", said)


def assert_named(test: AppTest) -> None:
    """Every button of the page has a name, and no other has the same."""
    names = [each.label for each in (*test.button, *test.download_button)]
    assert all(names)
    assert len(set(names)) == len(names), sorted(names)


def button(test: AppTest, label: str) -> object:
    """Return the button with this label."""
    return next(found for found in test.button if found.label == label)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Note what every download button of a page would hand out, by its key."""
    noted: dict[str, Any] = {}
    original = DeltaGenerator.download_button

    def noting(self: DeltaGenerator, label: str, data: Any, *args: Any, **options: Any) -> bool:
        noted[options["key"]] = data
        return bool(original(self, label, data, *args, **options))

    monkeypatch.setattr(DeltaGenerator, "download_button", noting)
    # The function of the module is that of the page's main part, bound when it was imported.
    monkeypatch.setattr(st, "download_button", partial(noting, st._main))
    return noted


def texts_in(downloads: Mapping[str, Any], samples: pd.DataFrame) -> list[str]:
    """Return the keys of those downloads that hold a prompt or an answer of the samples.

    Args:
        downloads: By key, content or what returns it.
        samples: Columns prompt and answer.
    """
    searched = {text.encode() for text in [*samples["prompt"], *samples["answer"]] if text}
    # As they stand in hover labels, which cut them short.
    searched |= {text[:16] for text in searched}
    holding = []
    for key, content in downloads.items():
        data = content() if callable(content) else content
        data = data.encode() if isinstance(data, str) else data
        plain = pd.read_parquet(io.BytesIO(data)).to_csv().encode() if data[:4] == b"PAR1" else data
        holding += [key] if any(text in plain for text in searched) else []
    return holding


@pytest.fixture
def no_worker_left(own: Home) -> Iterator[None]:
    """Stop what a test has launched in the home `own` of its module."""
    yield
    for run in own.store.list(states=ACTIVE):
        own.store.request_cancel(run.id)
        finish(own.store, run.id)
