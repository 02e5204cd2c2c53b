"""The pages in a browser on a store in PostgreSQL, which goes away and comes back while one of them is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from mrd_core.runs import Run, RunState, RunStore
from mrd_core.settings.installation import Settings
from tests.e2e.conftest import SECOND, Server, Watch, settled, tab
from tests.e2e.test_unlearning_browser import fill
from tests.support.postgres import Server as Postgres

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# On a machine that other tests share.
PATIENCE, SCORING = 120 * SECOND, 400 * SECOND


@pytest.fixture
def store(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """The store of the app, which it finds by its address."""
    url = postgres.fresh()
    monkeypatch.setenv("MRD_STORE_URL", url)
    opened = RunStore.open(Settings(home=tmp_path, store_url=url, allowed_roots=()))
    yield opened
    for run in opened.list():
        opened.request_cancel(run.id)
    opened._engine.dispose()


def test_runs_are_listed_launched_and_outlive_a_store_that_is_away(
    browser: Browser, store: RunStore, scored: Run, server: Server, postgres: Postgres
) -> None:
    with tab(browser, Watch()) as page:
        page.set_default_timeout(PATIENCE)
        page.goto(server.url)
        expect(page.get_by_text("Tick one to open")).to_be_visible(timeout=PATIENCE)
        page.goto(f"{server.url}/difficulty?run={scored.id}")
        expect(page.get_by_role("heading", name="Hardest first")).to_be_visible(timeout=PATIENCE)

        page.goto(server.url)
        page.get_by_role("button", name="Use the demo").click()
        page.get_by_text("Estimator options").click()
        fill(page, "Cap on draws [evaluations]", "16")
        settled(page)
        page.get_by_role("button", name="Score", exact=True).click()
        page.get_by_role("button", name="Cancel").wait_for(timeout=PATIENCE)
        postgres.control("stop", "-m", "immediate")
        try:
            expect(page.get_by_text("server cannot be reached").first).to_be_visible(timeout=PATIENCE)
        finally:
            postgres.control("start")
        expect(page.get_by_role("heading", name="Hardest first")).to_be_visible(timeout=SCORING)
        expect(page.get_by_text("server cannot be reached")).to_have_count(0)
    launched = next(run for run in store.list(kinds=("score",)) if run.id != scored.id)
    assert (launched.state, launched.attempt, launched.kind) == (RunState.SUCCEEDED, 1, "score")
