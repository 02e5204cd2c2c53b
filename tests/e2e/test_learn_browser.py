"""Learn in a browser: from an empty data root through all five steps, with the keys, and without a network."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect

from analysis.lesson import answers, comeback, curricula, hardness
from pages.parts.learn.walk import STEPS
from tests.e2e.conftest import SECOND, STEP, Server, Watch, query, settled, tab

pytestmark = [pytest.mark.e2e, pytest.mark.long]

IN_SIGHT = """name => {
    const place = document.querySelector(`.st-key-learn_spoken_${name}`).getBoundingClientRect();
    return place.top < innerHeight && place.bottom > 0;
}"""


def concluded(page: Page) -> None:
    expect(page.get_by_text("What to conclude.")).to_be_visible(timeout=STEP)


def spoken_of(page: Page, name: str) -> None:
    """The one thing that is outlined is this, and it is in sight."""
    place = page.locator(f".st-key-learn_spoken_{name}")
    expect(place).to_have_css("outline-style", "solid", timeout=STEP)
    page.wait_for_function(IN_SIGHT, arg=name)


def walk(page: Page, to: int) -> None:
    """Go on with the arrow key."""
    settled(page)
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name=STEPS[to - 1].title)).to_be_visible(timeout=STEP)
    assert query(page, "step") == str(to)


def choose_all(page: Page) -> None:
    """Choose the five answers in turn; the list stays open, and a page that is drawn anew takes it away."""
    began = time.monotonic()
    while (left := 5 - page.locator("[data-tag]").count()) > 0:
        assert time.monotonic() - began < STEP / SECOND * 5, f"{left} answers are left"
        settled(page)
        option = page.get_by_role("option").first
        if not option.is_visible():
            page.get_by_role("combobox").last.click()
        with suppress(TimeoutError):
            option.click(timeout=SECOND)
        page.wait_for_timeout(SECOND / 2)


def test_a_class_walks_through_without_gpu_and_network(server: Server, browser: Browser) -> None:
    watch, began = Watch(), time.monotonic()
    with tab(browser, watch) as page:
        page.goto(server.url)
        page.get_by_role("button", name="Guided demo").click()
        expect(page.get_by_role("heading", name=STEPS[0].title)).to_be_visible(timeout=STEP)
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        spoken_of(page, "answers_before")
        page.get_by_role("radio", name=list(answers.STAGES)[1]).click()
        concluded(page)
        walk(page, 2)
        # The key that moves the slider does not turn the page.
        page.get_by_role("slider").first.focus()
        page.keyboard.press("ArrowRight")
        # It tells the server of it a moment later.
        page.wait_for_timeout(SECOND)
        concluded(page)
        assert query(page, "step") == "2"
        walk(page, 3)
        page.get_by_text(hardness.GUESSES[0], exact=True).click()
        concluded(page)
        spoken_of(page, "hardness_figure")
        walk(page, 4)
        choose_all(page)
        concluded(page)
        page.keyboard.press("Escape")
        walk(page, 5)
        page.get_by_text(curricula.SAME, exact=True).click()
        concluded(page)
        spoken_of(page, "curricula_table")
        page.get_by_text(comeback.GUESSES[0], exact=True).click()
        expect(page.get_by_text("What to conclude.")).to_have_count(2, timeout=STEP)
        spoken_of(page, "curricula_back")
        page.go_back()
        expect(page.get_by_role("heading", name=STEPS[3].title)).to_be_visible(timeout=STEP)
        print(f"walked through in {time.monotonic() - began:.1f} s")
    assert watch.strangers == []
    assert watch.errors == []
