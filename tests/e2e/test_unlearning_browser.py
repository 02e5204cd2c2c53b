"""Unlearning in a real browser: one click launches a comparison that is watched, left, stopped and resumed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from analysis import difficulty
from analysis.difficulty import ScoredRun, Variant
from analysis.unlearning import runs as unlearning
from mrd_core.runs import Run, RunState, RunStore
from mrd_core.unlearning.files import UnlearningFiles
from tests.e2e.conftest import SECOND, STEP, Server, Watch, only, query, settled, tab

pytestmark = pytest.mark.e2e

# Enough of them to be caught half-way; the rate is too low for anything to be forgotten before they are taken.
STEPS, RATE = 400, "2e-6"
LAUNCH = 120 * SECOND
UNLEARNING = 600 * SECOND

# The line of the forget loss, in the first chart, of the run that has come farthest.
LENGTH_OF_LINE = """
() => {
    const plot = document.querySelector('.st-key-unlearn_charts .js-plotly-plot');
    return Math.max(0, ...(plot?._fullData ?? []).map(({x}) => x?.length ?? 0));
}
"""


def grown_beyond(page: Page, points: int, timeout: float = LAUNCH) -> int:
    """Wait until the first chart shows more than this many steps, and return how many."""
    page.wait_for_function(f"points => ({LENGTH_OF_LINE})() > points", arg=points, timeout=timeout)
    return int(page.evaluate(LENGTH_OF_LINE))


def fill(page: Page, label: str, value: str) -> None:
    """Fill in an input of the form and wait until the page has taken it."""
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Enter")
    settled(page)


def ids(page: Page) -> list[str]:
    """Return the runs that the address names, in the order of their launch."""
    return sorted((query(page, "unlearn") or "").split(","))


def launch_preset(page: Page) -> None:
    """Set short limits and launch the preset."""
    page.get_by_text("SGA against CGA", exact=True).click()
    expect(page.get_by_text("MRD-weighted.", exact=True)).to_be_visible()
    settled(page)
    fill(page, "Seeds", "1")
    fill(page, "Steps", str(STEPS))
    page.get_by_text("Optimiser, adapter, checkpoints and evaluations").click()
    fill(page, "Learning rate", RATE)
    page.get_by_role("button", name="Unlearn", exact=True).click()


def stop_first(page: Page, store: RunStore) -> Run:
    """Stop the run that is on, wait until it is cancelled, and return it."""
    page.get_by_role("button", name="Stop").first.click()
    expect(page.get_by_text("Stopped; it can go on from its last checkpoint.")).to_be_visible(timeout=LAUNCH)
    return only(store, RunState.CANCELLED)


def summary_of(store: RunStore, run_id: str) -> dict[str, Any]:
    """Return the summary of a run that has succeeded."""
    run = store.get(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.summary is not None
    return run.summary


@pytest.mark.long
def test_a_comparison_is_launched_watched_left_stopped_and_resumed(
    browser: Browser, server: Server, store: RunStore, scored: Run
) -> None:
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/unlearning?run={scored.id}")
        launch_preset(page)
        seen = grown_beyond(page, grown_beyond(page, 0))
        launched = ids(page)
        assert launched == sorted(run.id for run in store.list(kinds=("unlearn",), score_run=scored))
        assert len(launched) == 2

        page.reload()
        assert grown_beyond(page, seen - 1) >= seen
        assert ids(page) == launched
        for name in ("GA, seed 0", "GA + MRD, seed 0"):
            expect(page.get_by_role("paragraph").get_by_text(name, exact=True)).to_be_visible()

        stopped = stop_first(page, store)
        reached = int(store.sample_updates(stopped.id)["step"].max())
        assert 0 < reached < STEPS
        settled(page)
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Resume")).to_be_hidden(timeout=LAUNCH)
        expect(page.get_by_role("button", name="Result")).to_have_count(2, timeout=UNLEARNING)
        assert {summary_of(store, run_id)["steps"] for run_id in launched} == {STEPS}

        page.locator(f".st-key-result_{stopped.id} button").click()
        expect(page.get_by_role("heading", name="Before and after")).to_be_visible(timeout=STEP)
        hardest = difficulty.ranking(ScoredRun(scored.directory), Variant())["sample_id"].iloc[0]
        answers = unlearning.own_answers(UnlearningFiles(stopped.directory), hardest)
        for title, answer in zip(("Answers before", "Answers after"), answers, strict=True):
            assert answer
            box = page.get_by_test_id("stColumn").filter(has_text=title)
            expect(box.locator("div[style*='pre-wrap']")).to_have_text(answer)

    assert watch.strangers == []
    assert watch.errors == []
