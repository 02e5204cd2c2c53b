"""Audit in a real browser: a selection is held against its pool, and fair sets are drawn, kept and handed out."""

from __future__ import annotations

import json
import zipfile
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from analysis.audit.config import RiskConfig
from analysis.audit.risk import risk_of
from mrd_core.runs import Run, RunState, RunStore, worker
from mrd_core.samples import ForgetSet, save_stratum, saved_strata
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.files import UnlearningFiles
from tests.app.conftest import Home
from tests.app.test_unlearning import queued
from tests.e2e.conftest import SECOND, STEP, Server, Watch, settled, tab

pytestmark = [pytest.mark.e2e, pytest.mark.long]

LAUNCH = 120 * SECOND


def test_an_easy_set_is_told_and_fair_ones_are_drawn(
    browser: Browser, server: Server, scored: Run, tmp_path: Path
) -> None:
    files = ScoreFiles(scored.directory)
    easiest = list(pd.read_parquet(files.scores).sort_values("mrd")["sample_id"].tail(12))
    save_stratum(ForgetSet.load(files.samples), easiest, "Easy ones", tmp_path)
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/audit?run={scored.id}")
        expect(page.get_by_text("The forget set is easier to unlearn than random ones.")).to_be_visible(
            timeout=STEP
        )
        settled(page)

        page.get_by_role("spinbutton", name="Samples of each set").fill("8")
        page.get_by_role("spinbutton", name="Sets", exact=True).fill("2")
        page.get_by_role("button", name="Draw").click()
        expect(page.get_by_text("Drawn: 2 forget sets of 8 samples.")).to_be_visible(timeout=STEP)
        settled(page)
        with page.expect_download() as downloading:
            page.get_by_role("button", name="Sets (ZIP)").click()
        with zipfile.ZipFile(downloading.value.path()) as archive:
            report = json.loads(archive.read("balance.json"))
            lines = archive.read("forget-1.jsonl").splitlines()
        first, second = (each["samples"] for each in report["sets"])
        assert [json.loads(line)["sample_id"] for line in lines] == first
        assert not set(first) & set(second)

        page.get_by_role("textbox", name="Keep as selections named").fill("fair")
        page.get_by_role("button", name="Keep").click()
        expect(page.get_by_text("Open them under Forget set.")).to_be_visible(timeout=STEP)
        page.reload()
        page.get_by_role("combobox", name="Forget set").click()
        expect(page.get_by_role("option", name="fair 2")).to_be_visible(timeout=STEP)
    kept = pd.read_parquet(saved_strata(tmp_path)["fair 2"])
    assert set(kept["sample_id"]) == set(second)
    assert watch.strangers == []
    assert watch.errors == []


def test_what_is_at_risk_is_listed_and_all_of_it_becomes_one_report(
    browser: Browser, server: Server, store: RunStore, scored: Run, tmp_path: Path
) -> None:
    unlearned = queued(Home(tmp_path, store, scored))
    assert worker.run(unlearned.directory, store=store) is RunState.SUCCEEDED
    summary = UnlearningFiles(unlearned.directory).read_summary()
    risk = risk_of(RiskConfig(run=unlearned.directory, accuracy=summary["thresholds"]["accuracy"]))
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/audit?run={scored.id}")
        expect(page.get_by_text(risk.sentence)).to_be_visible(timeout=STEP)
        settled(page)
        page.get_by_role("button", name="Report", exact=True).click()
        with page.expect_download(timeout=LAUNCH) as downloading:
            page.get_by_role("button", name="Report (HTML)").click(timeout=LAUNCH)
        report = downloading.value.path().read_text(encoding="utf-8")
    assert risk.sentence in unescape(report)
    assert watch.strangers == []
    assert watch.errors == []
