"""The app in a real browser, what its pages ask for, and the data root that it works on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from mrd_core.runs import Run, RunState, RunStore
from mrd_core.settings.installation import Settings
from tests.app.conftest import adopted, finished_home
from tests.conftest import REPOSITORY

HOST = "127.0.0.1"
STREAMLIT = ("streamlit", "run", "app.py")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox, because containers run as root; the rest keeps the browser itself off the network.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECOND = 1000.0  # playwright counts in milliseconds
STEP = 30 * SECOND


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """The app as a user starts it: with Streamlit in the checkout, or by its own command anywhere."""

    def __init__(self, home: Path, command: Sequence[str] = STREAMLIT, folder: Path = REPOSITORY) -> None:
        self._command, self._folder = command, folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the app and wait until it is healthy."""
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command, "--server.headless=true", f"--server.port={self.port}"],
                cwd=self._folder,
                env=os.environ
                | {"MRD_HOME": str(self._home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
                stdout=log,
                stderr=subprocess.STDOUT,
                # As most systems have it, so that what stays private is the app's doing.
                umask=0o022,
            )
        deadline = time.monotonic() + 60
        while not self._is_healthy():
            assert self._process.poll() is None, (self._home / "server.log").read_text()
            assert time.monotonic() < deadline, "the app did not come up"
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the app; runs go on."""
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=30)

    def _is_healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
            return bool(answer.read() == b"ok")
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """The store of the app; runs that a test leaves behind are cancelled."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = RunStore.open(Settings(home=tmp_path, store_url=url, allowed_roots=()))
    yield store
    for run in store.list():
        store.request_cancel(run.id)


@pytest.fixture
def scored(store: RunStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished score run of the demo's first samples."""
    return adopted(store, finished_home(tmp_path_factory.getbasetemp()).run)


@contextmanager
def launched(*arguments: str) -> Iterator[Browser]:
    """A browser, with more arguments on its command line."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, *arguments])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


class Watch:
    """What pages asked other machines for, and the errors on their consoles."""

    def __init__(self) -> None:
        self.strangers: list[str] = []
        self.errors: list[str] = []

    def follow(self, page: Page) -> None:
        """Listen to a page."""
        page.on("request", self._note_request)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname != HOST:
            self.strangers.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        # On a deep link Streamlit looks for its own base path by trial, and the misses are logged.
        probing = "/_stcore/" in message.location.get("url", "") and "404" in message.text
        if message.type == "error" and not probing:
            self.errors.append(f"{message.text} ({message.location.get('url')})")


@contextmanager
def tab(browser: Browser, watch: Watch) -> Iterator[Page]:
    """A page of a browser that remembers nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(STEP)
    page = context.new_page()
    watch.follow(page)
    yield page
    context.close()


def query(page: Page, name: str) -> str | None:
    """Return a parameter of the page's address."""
    return next(iter(parse_qs(urlsplit(page.url).query).get(name, [])), None)


def settled(page: Page) -> None:
    """Wait until the page has run to its end: what is pressed before may go to a button that is replaced."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=STEP)


def only(store: RunStore, *states: RunState) -> Run:
    """Return the one run that is in one of these states."""
    (run,) = store.list(states=states)
    return run
