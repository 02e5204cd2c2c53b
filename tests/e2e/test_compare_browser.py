"""Compare in a real browser: two models are evaluated with one click, watched, compared, and looked into."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from mrd_core.runs import Run, RunState, RunStore, worker
from tests.app.conftest import Home
from tests.app.test_unlearning import queued
from tests.e2e.conftest import SECOND, STEP, Server, Watch, query, settled, tab
from tests.e2e.test_evidence_browser import click_lone_point
from tests.e2e.test_unlearning_browser import fill

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# Few, but as many as an interval needs.
SAMPLES = 6
LAUNCH = 120 * SECOND
EVALUATION = 240 * SECOND


def look_at(page: Page, view: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(view, exact=True).click()
    settled(page)


def test_two_models_are_evaluated_with_one_click_compared_and_looked_into(
    browser: Browser, server: Server, store: RunStore, scored: Run, tmp_path: Path
) -> None:
    unlearned = queued(Home(tmp_path, store, scored))
    assert worker.run(unlearned.directory, store=store) is RunState.SUCCEEDED
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/compare?run={scored.id}")
        expect(page.get_by_text("Nothing is evaluated yet.")).to_be_visible(timeout=LAUNCH)
        page.get_by_text("Other runs, settings, and the command line").click()
        fill(page, "Most samples of a set", f"{SAMPLES}")
        fill(page, "Most new tokens", "60")
        expect(page.get_by_text(f"--limit {SAMPLES}").first).to_be_visible()
        settled(page)
        page.get_by_role("button", name="Evaluate these runs").click()
        expect(page.get_by_text("evaluated with these settings")).to_be_visible(timeout=EVALUATION)
        assert [run.state for run in store.list(kinds=("evaluate",))] == 2 * [RunState.SUCCEEDED]

        table = page.get_by_role("region", name="What leads, completeness, utility and their averages")
        expect(table.get_by_role("rowheader")).to_have_text(["Originalbaseline", "GA"])
        expect(table.get_by_role("img", name="better than the baseline").first).to_be_visible()
        look_at(page, "By difficulty")
        plot = page.locator("[class*=st-key-compare_change] .js-plotly-plot")
        sample = click_lone_point(page, plot)
        page.get_by_role("button", name="Look at its answers").click()
        expect(page.get_by_role("heading", name="Answers side by side")).to_be_visible(timeout=STEP)
        assert query(page, "sample") == sample
        page.keyboard.press("ArrowRight")
        expect(page.get_by_text(f"of {SAMPLES} · MRD")).to_be_visible(timeout=STEP)

    assert watch.strangers == []
    assert watch.errors == []
