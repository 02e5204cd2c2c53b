"""What people meet who use no mouse, or no eyes: axe-core over the pages, headings in order, names of buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmarks.every_kind import Workplace
from mrd_core.runs import Run, RunState, worker
from tests.conftest import REPOSITORY
from tests.e2e.conftest import SECOND, STEP, Server, settled

pytestmark = pytest.mark.e2e

ALL_PAGES = sorted(path.stem for path in (REPOSITORY / "pages").glob("*.py"))
GRAVE = {"serious", "critical"}
# What Streamlit draws by itself, where nothing can be set.
NOT_OURS = (
    ".stDataFrameGlideDataEditor",
    "[data-testid=stElementToolbar]",
    "[data-testid=stHeader]",
    "[data-testid=stSidebarNav]",
    "[data-testid=stCode]",
    ".modebar",
)
HEADINGS = (
    "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].filter(h => h.offsetParent).map(h => +h.tagName[1])"
)
BUTTONS = """
[...document.querySelectorAll('[data-testid=stMain] :is(.stButton, .stDownloadButton) button')]
    .filter(button => button.offsetParent)
    .map(button => button.getAttribute('aria-label') || button.innerText.trim())
"""
MOST_STOPS = 8
# Enough for every panel of the characteristics.
SAMPLES = 40


def opened(page: Page, server: Server, name: str, run: Run) -> None:
    page.goto(f"{server.url}/{'' if name == 'start' else name}?run={run.id}")
    settled(page)
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=STEP)
    # What is new fades in, and is pale until then.
    page.wait_for_timeout(1 * SECOND)


def violations(page: Page) -> list[str]:
    """Return what axe-core finds of grave violations of our own: rule, element, what is wrong."""
    result: dict[str, Any] = Axe().run(page, {"exclude": [[selector] for selector in NOT_OURS]}).response
    return [
        f"{violation['id']}: {node['html'][:160]} ({node['failureSummary']})"
        for violation in result["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


def check(browser: Browser, server: Server, run: Run, names: list[str], theme: Any) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=theme)
    page = context.new_page()
    for name in names:
        opened(page, server, name, run)
        assert violations(page) == [], name
        levels = page.evaluate(HEADINGS)
        steps = zip([0, *levels], levels, strict=False)
        assert all(after <= before + 1 for before, after in steps), (name, levels)
        # One without any name is a grave violation already.
        buttons = [label for label in page.evaluate(BUTTONS) if label]
        assert len(set(buttons)) == len(buttons), (name, sorted(buttons))
    context.close()


def test_difficulty_has_no_grave_violation_and_its_headings_are_in_order(
    browser: Browser, server: Server, scored: Run
) -> None:
    check(browser, server, scored, ["difficulty"], "light")


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_grave_violation(browser: Browser, server: Server, scored: Run, theme: str) -> None:
    check(browser, server, scored, ALL_PAGES, theme)


@pytest.mark.long
def test_no_page_with_results_has_a_grave_violation(browser: Browser, server: Server, tmp_path: Path) -> None:
    place = Workplace.at(tmp_path, SAMPLES)
    for kind in ("characteristics", "validity", "unlearn", "evaluate"):
        assert worker.run(place.submitted(kind).directory, store=place.store) is RunState.SUCCEEDED
    [scored] = place.store.list(kinds=["score"])
    for theme in ("light", "dark"):
        check(browser, server, scored, ALL_PAGES, theme)


@pytest.mark.long
def test_next_is_within_a_few_tab_stops_of_the_search(browser: Browser, server: Server, scored: Run) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    opened(page, server, "difficulty", scored)
    page.get_by_placeholder("Search in ids, prompts and answers").focus()
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText").startswith("Next"):
            break
    else:
        pytest.fail("Next is not reached")
    page.close()
