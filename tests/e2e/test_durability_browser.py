"""Durability in a real browser: one click on an unlearned model, watched, left, judged, and known elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from analysis.evidence.kinds import evidence_of
from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import worst
from mrd_core.experiments.kinds.durability import DurabilityConfig
from mrd_core.runs import Run, RunState, RunStore, worker
from mrd_core.runs.directory import read_config
from tests.app.conftest import Home
from tests.app.test_unlearning import queued
from tests.e2e.conftest import SECOND, STEP, Server, Watch, query, settled, tab

pytestmark = [pytest.mark.e2e, pytest.mark.long]

LAUNCH = 120 * SECOND
EXPERIMENT = 300 * SECOND


def test_one_click_brings_back_what_a_model_forgot(
    browser: Browser, server: Server, store: RunStore, scored: Run, tmp_path: Path
) -> None:
    unlearned = queued(Home(tmp_path, store, scored))
    assert worker.run(unlearned.directory, store=store) is RunState.SUCCEEDED
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/difficulty?run={scored.id}")
        page.get_by_role("link", name=re.compile("^Try to bring it back, about")).click(timeout=LAUNCH)
        button = page.get_by_role("button", name="Try to bring it back")
        expect(button).to_be_visible(timeout=LAUNCH)
        settled(page)
        button.click()
        so_far, judged = page.get_by_text("So far,"), page.get_by_role("tab", name="What comes back")
        expect(so_far.or_(judged).first).to_be_visible(timeout=EXPERIMENT)
        (run,) = store.list(kinds=("durability",), score_run=scored)
        assert read_config(run.directory, DurabilityConfig).reference == "demo-retrained"

        page.reload()
        expect(judged).to_be_visible(timeout=EXPERIMENT)
        ended = store.get(run.id)
        assert (ended.state, ended.attempt, query(page, "experiment")) == (RunState.SUCCEEDED, 1, run.id)
        found = evidence_of(read_measurements(run.directory))
        for sentence in (found.verdict, *found.findings):
            expect(page.get_by_text(sentence).first).to_be_visible(timeout=STEP)
        settled(page)
        for name in ("Without training", "What foretells it", "Every sample"):
            page.get_by_role("tab", name=name).click()
        expect(page.get_by_role("region", name="Samples that were forgotten")).to_be_visible(timeout=STEP)

        page.get_by_role("link", name="Difficulty", exact=True).first.click()
        expect(page.get_by_role("heading", name="Difficulty", exact=True)).to_be_visible(timeout=STEP)
        expect(page.get_by_text(worst(found.lines).sentence).first).to_be_visible(timeout=STEP)

    assert watch.strangers == []
    assert watch.errors == []
