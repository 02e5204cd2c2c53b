"""Evidence in a real browser: an experiment is launched, watched, left, judged, and known on the other pages."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from analysis.evidence.headlines import headlines
from analysis.evidence.kinds import evidence_of, interpretation
from analysis.evidence.kinds.validity import PAPER
from analysis.evidence.measurements import read_measurements
from analysis.verdict import predictive
from mrd_core.experiments.kinds import experiments
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import Run, RunState, RunStore
from mrd_core.runs.directory import read_config
from pages.parts.evidence.tabs import LEAGUE
from pages.shell.experiments import TAB
from tests.e2e.conftest import SECOND, STEP, Server, Watch, query, settled, tab
from tests.e2e.test_unlearning_browser import fill

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# Few, but more than an interval needs; unlearned with a rate that forgets them soon.
SAMPLES = 5
SETTINGS = {"Samples": SAMPLES, "Repeats": 1, "Learning rate": 3e-4, "Most updates": 30}
LAUNCH = 120 * SECOND
EXPERIMENT = 300 * SECOND

# The sample whose point is farthest from all others of a scatter plot, and where it is on the screen.
LONE_POINT = """
plot => {
    const {xaxis, yaxis, _size} = plot._fullLayout, box = plot.getBoundingClientRect();
    const points = plot._fullData.filter(({customdata}) => customdata).flatMap(trace =>
        Array.from(trace.x, (x, at) => [trace.customdata[at][0], _size.l + xaxis.d2p(x),
                                        _size.t + yaxis.d2p(trace.y[at])]));
    const room = ([, x, y]) => Math.min(...points.map(([, u, v]) => Math.hypot(x - u, y - v)).filter(d => d > 0));
    const [sample, x, y] = points.reduce((best, point) => room(point) > room(best) ? point : best);
    return [sample, box.x + x, box.y + y];
}
"""


def chart(page: Page, name: str) -> Locator:
    """Return a chart of the page."""
    return page.locator(f"[class*=st-key-evidence_chart_{name}] .js-plotly-plot")


def click_lone_point(page: Page, plot: Locator) -> str:
    """Click the point of a scatter plot that is easiest to hit, and return its sample."""
    plot.scroll_into_view_if_needed()
    sample, x, y = plot.evaluate(LONE_POINT)
    page.mouse.move(x, y)
    # A click selects what the pointer hovers over, which plotly looks up a moment later.
    expect(plot.locator(".hoverlayer").get_by_text(sample)).to_be_visible()
    page.mouse.click(x, y)
    return str(sample)


def test_an_experiment_is_launched_watched_left_and_judged(
    browser: Browser, server: Server, store: RunStore, scored: Run
) -> None:
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/evidence?run={scored.id}")
        expect(page.get_by_text("Nobody knows yet")).to_be_visible(timeout=LAUNCH)
        settled(page)
        page.get_by_role("tab", name=interpretation("validity").title).click()
        expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible(timeout=STEP)
        settled(page)
        for label, value in SETTINGS.items():
            fill(page, label, f"{value:g}")
        entries = page.evaluate("history.length")
        page.get_by_role("button", name="Run", exact=True).click()
        progress = page.get_by_test_id("stProgress").get_by_text(re.compile("^Measuring"))
        expect(progress).to_be_visible(timeout=LAUNCH)
        assert page.evaluate("history.length") == entries + 1
        (run,) = store.list(kinds=experiments(), score_run=scored)
        config = read_config(run.directory, ValidityConfig)
        assert (config.samples, config.repeats, config.learning_rate, config.max_updates) == tuple(
            SETTINGS.values()
        )

        page.reload()
        judged = page.get_by_text(PAPER)
        # A fast machine may have ended it by now.
        expect(progress.or_(judged)).to_be_visible(timeout=LAUNCH)
        assert query(page, "experiment") == run.id
        expect(judged).to_be_visible(timeout=EXPERIMENT)
        ended = store.get(run.id)
        assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)

        found = evidence_of(read_measurements(run.directory))
        for sentence in (*found.findings, found.paper):
            expect(page.get_by_text(sentence).first).to_be_visible(timeout=STEP)
        sample = click_lone_point(page, chart(page, "updates"))
        link = page.get_by_role("link", name="Look at it on Difficulty")
        expect(link).to_be_visible(timeout=STEP)
        assert query(page, "sample") == sample

        link.click()
        expect(page.get_by_role("heading", name="Difficulty", exact=True)).to_be_visible(timeout=STEP)
        sentence = predictive(headlines(run.directory)).sentence
        expect(page.get_by_text(sentence)).to_be_visible(timeout=STEP)
        assert query(page, "sample") == sample
        page.get_by_role("main").get_by_role("link", name="Evidence").click()
        expect(judged).to_be_visible(timeout=STEP)
        assert query(page, "experiment") == run.id

        page.get_by_role("tab", name=LEAGUE).click()
        expect(page.get_by_role("heading", name="What predicts unlearning on this model?")).to_be_visible(
            timeout=STEP
        )
        plot = chart(page, "league")
        expect(plot).to_be_visible(timeout=STEP)
        frame, legend = plot.bounding_box(), plot.locator(".legend").bounding_box()
        assert frame is not None
        assert legend is not None
        assert frame["x"] <= legend["x"] < legend["x"] + legend["width"] <= frame["x"] + frame["width"] + 1
        assert query(page, TAB) == LEAGUE

    assert watch.strangers == []
    assert watch.errors == []
