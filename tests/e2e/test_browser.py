"""The whole product in a real browser: two clicks to a ranking, a point, a deep link, a server that restarts; one
more click to what explains the ranking, and a box in one chart that selects in all of them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from analysis import difficulty
from analysis.characteristics import runs as characteristics
from analysis.characteristics.judgement import judged
from analysis.characteristics.strata import CRITERIA
from analysis.difficulty import ScoredRun, Variant
from mrd_core.runs import TERMINAL, Run, RunState, RunStore
from tests.e2e.conftest import SECOND, STEP, Server, Watch, only, query, settled, tab

pytestmark = pytest.mark.e2e

SCORING = 240 * SECOND
CHECKING = 240 * SECOND
READING = 60 * SECOND

# Where on the screen a point of the difficulty map is, by plotly's own axes.
PLACE_OF_POINT = """
(plot, sample) => {
    const {xaxis, yaxis} = plot._fullLayout, points = plot._fullData[0];
    const at = points.customdata.findIndex(row => row[0] === sample);
    const box = plot.querySelector('.nsewdrag').getBoundingClientRect();
    return [box.x + xaxis.l2p(points.x[at]), box.y + yaxis.l2p(points.y[at])];
}
"""

SCREEN: ViewportSize = {"width": 1440, "height": 900}
# Height of a row of a table [px].
ROW = 35
PANELS = ".st-key-panels .js-plotly-plot"
# The samples that are not faded, for each of some charts whose other traces hold no points.
STANDING_OUT = """
(plots) => plots.map(plot => plot._fullData.filter(trace => trace.customdata).flatMap(
    ({customdata, selectedpoints}) =>
        Array.from(selectedpoints ?? customdata.keys(), at => customdata[at][0])
))
"""


def token_view_shows(page: Page, run: Run, sample: str) -> None:
    """Wait until the token view is that of `sample`."""
    order = list(difficulty.ranking(ScoredRun(run.directory), Variant())["sample_id"])
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
    table = difficulty.ranking(ScoredRun(run.directory), Variant())
    points = table[["mrd", "relative_se"]]
    points = (points - points.min()) / (points.max() - points.min())
    distances = ((points.to_numpy()[:, None] - points.to_numpy()[None]) ** 2).sum(axis=-1)
    distances[range(len(table)), range(len(table))] = float("inf")
    candidates = table["rank"].between(2, len(table) - 1)
    return str(table["sample_id"].iloc[int((distances.min(axis=1) * candidates).argmax())])


@pytest.mark.long
def test_from_two_clicks_to_a_link_that_outlives_the_server(
    browser: Browser, server: Server, store: RunStore, tmp_path: Path
) -> None:
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(server.url)
        page.get_by_role("button", name="Use the demo").click()
        page.get_by_role("button", name="Score", exact=True).click()
        expect(page.get_by_role("heading", name="Hardest first")).to_be_visible(timeout=SCORING)
        # The ranking is there first; the verdict on what it foretells follows without another click.
        run = only(store, RunState.SUCCEEDED)
        predictive = page.locator(".st-key-verdict_predictive")
        expect(predictive).to_contain_text("Nobody has looked")
        expect(page.get_by_text("Being looked at: does the ranking foretell")).to_be_visible(timeout=STEP)
        expect(predictive).to_contain_text("MRD predict", timeout=CHECKING)
        expect(predictive).to_contain_text("n = 40")
        expect(page.get_by_text("Being looked at")).to_have_count(0)
        (check,) = store.list(kinds=("validity",), score_run=run)
        assert check.state is RunState.SUCCEEDED
        assert query(page, "run") == run.id
        assert run.summary is not None
        assert run.summary["n_samples"] >= 200
        assert run.summary["median_relative_se"] <= 0.05
        page.set_viewport_size(SCREEN)
        first_screen_answers(page, tmp_path, "ranking")
        assert [path for path in run.directory.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077] == []

        sample = lone_point(run)
        click_point(page, sample)
        token_view_shows(page, run, sample)
        page.wait_for_url(f"**sample={sample}*")
        link = page.url

    with tab(browser, watch) as page:
        page.goto(link)
        token_view_shows(page, run, sample)
        order = list(difficulty.ranking(ScoredRun(run.directory), Variant())["sample_id"])
        following = order[order.index(sample) + 1]
        # Streamlit binds the keys when the charts, which load late, are drawn.
        page.wait_for_function("window.hotkeys?.getAllKeyCodes().some(key => key.shortcut === 'right')")
        page.keyboard.press("ArrowRight")
        token_view_shows(page, run, following)
        page.wait_for_url(f"**sample={following}*")

        page.get_by_role("button", name="New run").click()
        page.get_by_role("link", name="Start").click()
        page.get_by_role("button", name="Use the demo").click()
        page.get_by_role("button", name="Score", exact=True).click()
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


@pytest.mark.long
def test_one_click_explains_the_ranking_and_a_box_in_one_chart_selects_in_all(
    browser: Browser, server: Server, store: RunStore, scored: Run
) -> None:
    watch = Watch()
    with tab(browser, watch) as page:
        page.goto(f"{server.url}/difficulty?run={scored.id}")
        page.get_by_role("button", name="Explain the differences").click()
        expect(page.locator(PANELS)).to_have_count(len(CRITERIA), timeout=READING)
        (reading,) = store.list(kinds=("characteristics",), score_run=scored)
        found = characteristics.characterised(scored.directory, reading.directory, Variant())
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


def test_whatever_is_done_is_one_entry_of_the_history_and_back_undoes_it(
    browser: Browser, server: Server, scored: Run
) -> None:
    """By the side bar, in the page, and by a button that leads to another page."""
    with tab(browser, Watch()) as page:
        page.goto(f"{server.url}/glossary")
        side_bar = page.get_by_test_id("stSidebarNav")
        steps: list[tuple[Locator, str]] = [
            (side_bar.get_by_role("link", name="Difficulty"), "/difficulty?run="),
            (page.get_by_role("button", name="Next"), "&sample="),
            (page.get_by_role("button", name="Unlearn", exact=True), "/unlearning?run="),
            (side_bar.get_by_role("link", name="Evidence"), "/evidence?run="),
        ]
        page.wait_for_function("run => location.search.includes(run)", arg=scored.id)
        settled(page)
        addresses, entries = [page.url], page.evaluate("history.length")
        for control, place in steps:
            control.click()
            page.wait_for_function("place => location.href.includes(place)", arg=place)
            settled(page)
            addresses.append(page.url)
            assert page.evaluate("history.length") == entries + len(addresses) - 1, place
        for address in reversed(addresses[:-1]):
            page.go_back()
            page.wait_for_function("address => location.href === address", arg=address)
            settled(page)


def test_verdict_conclusion_and_ranking_are_on_the_first_screen(
    browser: Browser, server: Server, scored: Run, tmp_path: Path
) -> None:
    page = browser.new_page(viewport=SCREEN)
    page.goto(f"{server.url}/difficulty?run={scored.id}")
    first_screen_answers(page, tmp_path, "This is a ranking, not yet a forecast")
    page.close()


def first_screen_answers(page: Page, pictures: Path, conclusion: str) -> None:
    """Check that verdicts, what follows from them, and the ranking are on the first screen."""
    ranking = page.locator(".st-key-one_screen [data-testid=stDataFrame]").first
    expect(ranking).to_be_visible(timeout=STEP)
    settled(page)
    page.screenshot(path=pictures / "first-screen.png")
    rest_of_screen(page, page.locator(".st-key-verdict_bar"), 0)
    rest_of_screen(page, page.locator("strong", has_text=conclusion).first, 0)
    # Its head and five rows.
    rest_of_screen(page, page.get_by_role("heading", name="Hardest first"), 6 * ROW)


def rest_of_screen(page: Page, part: Locator, least: int) -> None:
    """Check that at least so much of the first screen is left beneath a part of the page [px]."""
    box, screen = part.bounding_box(), page.viewport_size
    assert box is not None
    assert screen is not None
    assert box["y"] + box["height"] + least <= screen["height"], box
