"""The whole product in a real browser: two clicks to a ranking, a point, a deep link, a server that restarts; one
more click to what explains the ranking, and a box in one chart that selects in all of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from analysis import characteristics, difficulty
from analysis.difficulty import Variant
from analysis.judgement import judged
from analysis.strata import CRITERIA
from mrd_core.config import Settings
from mrd_core.runs import TERMINAL, Run, RunState, RunStore, worker
from tests.app.conftest import quick_config, submitted, write_demo_rows
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"
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
SCORING = 240 * SECOND
READING = 60 * SECOND
STEP = 30 * SECOND

# Where on the screen a point of the difficulty map is, by plotly's own axes.
PLACE_OF_POINT = """
(plot, sample) => {
    const {xaxis, yaxis} = plot._fullLayout, points = plot._fullData[0];
    const at = points.customdata.findIndex(row => row[0] === sample);
    const box = plot.querySelector('.nsewdrag').getBoundingClientRect();
    return [box.x + xaxis.l2p(points.x[at]), box.y + yaxis.l2p(points.y[at])];
}
"""

PANELS = ".st-key-panels .js-plotly-plot"
# The samples that are not faded, for each of some charts whose other traces hold no points.
STANDING_OUT = """
(plots) => plots.map(plot => plot._fullData.filter(trace => trace.customdata).flatMap(
    ({customdata, selectedpoints}) =>
        Array.from(selectedpoints ?? customdata.keys(), at => customdata[at][0])
))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """The app as a user starts it."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the app and wait until it is healthy."""
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true"]
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--server.port", str(self.port)],
                cwd=REPOSITORY,
                env=os.environ | {"MRD_HOME": str(self._home), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


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


def token_view_shows(page: Page, run: Run, sample: str) -> None:
    """Wait until the token view is that of `sample`."""
    order = list(difficulty.ranking(run.directory, Variant())["sample_id"])
    place = order.index(sample) + 1
    expect(page.get_by_text(f"{place} of {len(order)} · rank {place} ·")).to_be_visible(timeout=STEP)
    pieces = difficulty.tokens_of(run.directory, sample)["piece"]
    expect(page.locator("div[style*='pre-wrap']")).to_have_text("".join(pieces), timeout=STEP)
    settled(page)


def click_point(page: Page, sample: str) -> None:
    """Click a sample's point on the difficulty map."""
    settled(page)
    plot = page.locator(".js-plotly-plot").first
    expect(plot.locator("canvas").first).to_be_visible(timeout=STEP)
    plot.scroll_into_view_if_needed()
    x, y = plot.evaluate(PLACE_OF_POINT, sample)
    page.mouse.move(x, y)
    # A click selects what the pointer hovers over, which plotly looks up a moment later.
    expect(plot.locator(".hoverlayer .hovertext")).to_be_visible(timeout=STEP)
    page.mouse.click(x, y)


def lone_point(run: Run) -> str:
    """Return the sample whose point is farthest from its nearest neighbour on the map."""
    table = difficulty.ranking(run.directory, Variant())
    points = table[["mrd", "relative_se"]]
    points = (points - points.min()) / (points.max() - points.min())
    distances = ((points.to_numpy()[:, None] - points.to_numpy()[None]) ** 2).sum(axis=-1)
    distances[range(len(table)), range(len(table))] = float("inf")
    candidates = table["rank"].between(2, len(table) - 1)
    return str(table["sample_id"].iloc[int((distances.min(axis=1) * candidates).argmax())])


def only(store: RunStore, *states: RunState) -> Run:
    """Return the one run that is in one of these states."""
    (run,) = store.list(states=states)
    return run


def test_from_two_clicks_to_a_link_that_outlives_the_server(
    browser: Browser, server: Server, store: RunStore
) -> None:
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(server.url)
        page.get_by_role("button", name="Use the demo").click()
        page.get_by_role("button", name="Score").click()
        expect(page.get_by_role("heading", name="Ranking, hardest first")).to_be_visible(timeout=SCORING)
        run = only(store, RunState.SUCCEEDED)
        assert query(page, "run") == run.id
        assert run.summary is not None
        assert run.summary["n_samples"] >= 200
        assert run.summary["median_relative_se"] <= 0.05

        sample = lone_point(run)
        click_point(page, sample)
        token_view_shows(page, run, sample)
        page.wait_for_url(f"**sample={sample}*")
        link = page.url

    with tab(browser, watch) as page:
        page.goto(link)
        token_view_shows(page, run, sample)
        order = list(difficulty.ranking(run.directory, Variant())["sample_id"])
        following = order[order.index(sample) + 1]
        # Streamlit binds the keys when the charts, which load late, are drawn.
        page.wait_for_function("window.hotkeys?.getAllKeyCodes().some(key => key.shortcut === 'right')")
        page.keyboard.press("ArrowRight")
        token_view_shows(page, run, following)
        page.wait_for_url(f"**sample={following}*")

        page.get_by_role("button", name="New run").click()
        page.get_by_role("link", name="Start").click()
        page.get_by_role("button", name="Use the demo").click()
        page.get_by_role("button", name="Score").click()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        page.wait_for_url("**run=*")
        link = page.url

    going_on = only(store, *set(RunState) - TERMINAL)
    server.stop()
    server.start()
    with tab(browser, watch) as page:
        page.goto(link)
        expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=STEP)
        expect(page.get_by_role("link", name="Start")).to_be_visible()
        assert query(page, "run") == going_on.id
        assert store.get(going_on.id).pid is None or store.get(going_on.id).state not in TERMINAL
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("This run was cancelled")).to_be_visible(timeout=STEP)

    assert watch.strangers == []
    assert watch.errors == []


def select_left_half(page: Page, plot: Locator) -> None:
    """Draw a box around the left half of a chart with the mouse."""
    plot.hover()
    plot.locator(".modebar-btn[data-title='Box Select']").click()
    area = plot.locator(".nsewdrag").first.bounding_box()
    assert area is not None
    left, top, right, bottom = (
        area["x"] + 2,
        area["y"] + 2,
        area["x"] + area["width"] / 2,
        area["y"] + area["height"] - 2,
    )
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(right, bottom, steps=8)
    page.mouse.up()


def panels_show(page: Page, samples: set[str]) -> None:
    """Wait until these samples, and no others, stand out in the panels of all criteria."""
    page.wait_for_function(
        f"([size, count]) => {{ const shown = ({STANDING_OUT})([...document.querySelectorAll('{PANELS}')]);"
        " return shown.length === count && shown.every(ids => ids.length === size); }",
        arg=[len(samples), len(CRITERIA)],
        timeout=STEP,
    )
    assert all(set(ids) == samples for ids in page.locator(PANELS).evaluate_all(STANDING_OUT))
    settled(page)


def test_one_click_explains_the_ranking_and_a_box_in_one_chart_selects_in_all(
    browser: Browser, server: Server, store: RunStore, tmp_path: Path
) -> None:
    run = submitted(store, tmp_path, quick_config(write_demo_rows(tmp_path / "forget.jsonl", 32)))
    assert worker.run(run.directory, store=store) is RunState.SUCCEEDED
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/difficulty?run={run.id}")
        page.get_by_role("button", name="Explain the differences").click()
        expect(page.locator(PANELS)).to_have_count(len(CRITERIA), timeout=READING)
        (reading,) = store.readings(run)
        found = characteristics.characterised(run.directory, reading.directory, Variant())
        everything = set(found.table["sample_id"])
        panels_show(page, everything)

        select_left_half(page, page.locator(PANELS).first)
        strata = judged(found, {}).strata
        low = set(strata["sample_id"][strata[CRITERIA[0].name] == "low"])
        chip = page.get_by_role("button", name=f"{len(low)} from {CRITERIA[0].title.lower()}")
        expect(chip).to_be_visible(timeout=STEP)
        expect(page.get_by_text(f"{len(low)} of {len(everything)}", exact=True)).to_be_visible()
        panels_show(page, low)
        first = found.table[found.table["sample_id"].isin(low)].iloc[0]
        expect(page.get_by_text(f"1 of {len(low)} · rank {first['rank']} ·")).to_be_visible()

        chip.click()
        expect(chip).to_be_hidden(timeout=STEP)
        panels_show(page, everything)
        page.wait_for_function("window.hotkeys?.getAllKeyCodes().some(key => key.shortcut === 'right')")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_text(f"2 of {len(everything)} · rank 2 ·")).to_be_visible(timeout=STEP)
        following = found.table.iloc[1]
        expect(page.locator("div[style*='pre-wrap']")).to_have_text(following["answer"])
        page.wait_for_url(f"**sample={following['sample_id']}*")

    assert watch.strangers == []
    assert watch.errors == []
