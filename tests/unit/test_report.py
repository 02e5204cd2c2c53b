"""The report: complete, self-contained, and safe to open whatever the texts say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from html import escape
from html.parser import HTMLParser

import pytest

from analysis.characteristics.judgement import Judgement, judged
from analysis.characteristics.runs import Characterised
from analysis.export.report import report
from mrd_core.scoring.measures import MEASURES
from tests.unit.test_characteristic_figures import characterised_set

TITLE = "forget <10> & more on llama"
GENERATED = datetime(2025, 4, 9, 12, 30)
VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """A page read strictly: tags must be closed in order."""

    def __init__(self, source: str) -> None:
        """Read all of `source`."""
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag."""
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note the text with the tag that it is in."""
        if self.opened:
            self.texts.append((self.opened[-1], data))

    def inside(self, *tags: str) -> list[str]:
        """Return all texts that lie directly in one of the tags."""
        return [data for tag, data in self.texts if tag in tags]


@pytest.fixture(scope="module")
def without_association() -> Characterised:
    """A scored set whose texts are hostile; nothing measures their association."""
    found = characterised_set()
    return replace(found, table=found.table.drop(columns="association"))


@pytest.fixture(scope="module")
def judgement(without_association: Characterised) -> Judgement:
    """What is concluded from it."""
    return judged(without_association, {})


@pytest.fixture(scope="module")
def source(without_association: Characterised, judgement: Judgement) -> str:
    """The report."""
    return report(without_association, judgement, TITLE, GENERATED)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    """The report, read."""
    return Page(source)


def test_nothing_is_fetched(page: Page) -> None:
    loading = [attrs for tag, attrs in page.tags if tag in ("link", "img", "iframe") or "src" in attrs]
    assert loading == []
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policies)
    assert "http" not in str(policies)


def test_the_library_is_in_the_file_once(source: str) -> None:
    assert len(re.findall(r"plotly\.js v\d", source)) == 1
    assert source.count("Plotly.newPlot(") >= 6


def test_no_text_of_a_sample_becomes_markup_or_script(page: Page, source: str) -> None:
    assert {tag for tag, _ in page.tags} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "script",
            "body",
            "main",
            "h1",
            "p",
            "noscript",
            "section",
            "h2",
        ),
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li", "figure"),
    }
    assert "<script>alert" not in source
    assert any("<script>alert(1)</script> & 'more'" in cell for cell in page.inside("td"))


def test_the_title_is_escaped_and_names_the_page(page: Page) -> None:
    assert [text for text in page.inside("title") if text.strip()] == page.inside("h1")
    assert TITLE in page.inside("h1")[0]
    assert next(attrs for tag, attrs in page.tags if tag == "html") == {"lang": "en"}


def test_headings_come_in_order(page: Page) -> None:
    assert page.inside("h2") == [
        "What was scored",
        "How to read MRD",
        "The paper’s claims and this model",
        "The groups",
        "Length, the rival explanation",
        "Correlations",
        "Limits",
    ]


def test_tables_have_captions_and_every_header_a_scope(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") == 4
    assert all(attrs.get("scope") in ("col", "row", "rowgroup") for tag, attrs in page.tags if tag == "th")


def test_every_claim_is_told_under_both_normalisations(page: Page, judgement: Judgement) -> None:
    cells = page.inside("td")
    for claims in judgement.claims.values():
        for claim in claims:
            assert f"{claim.verdict}\n{claim.reason}" in cells
            if claim.comparison:
                difference = claim.comparison.difference
                told = f"{difference.value:.3g}\n[{difference.low:.3g},\N{NO-BREAK SPACE}{difference.high:.3g}]"
                assert told in cells


def test_what_was_read_and_how_is_told(page: Page) -> None:
    cells = page.inside("td")
    assert "60, 59 of them with an MRD" in cells
    assert "en_mrd_small 1.0.0 (labels: UD): no other English pipeline is installed" in cells
    assert "unlabelled 83.1%, labelled 79.4%" in cells
    assert "full.jsonl, 400 rows" in cells
    assert "de: 3" in cells
    assert "Semantic complexity: 2" in cells
    assert "hdd (defined for 9 % of the samples)" in cells


def test_a_criterion_that_was_not_measured_has_words_and_no_panel(
    source: str, page: Page, judgement: Judgement
) -> None:
    panels = set(re.findall(r'id="panel-(\w+)"', source))
    assert panels == {"semantic_complexity", "occurrence_frequency", "initial_probability", "rare_words"}
    unmeasured = judgement.shown[-1]
    assert f"{unmeasured.criterion.title}: {unmeasured.reason}" in page.inside("p")


def test_terms_that_the_regression_left_out_are_listed_with_the_reason(
    without_association: Characterised, judgement: Judgement
) -> None:
    regression = replace(judgement.regression, dropped={"rare_words": "constant <here>"})
    changed = replace(judgement, regressions={judgement.chosen: regression})
    found = report(without_association, changed, TITLE, GENERATED)
    assert f"<li>{escape('Rare words: constant <here>')}</li>" in found


def test_other_measures_are_told_with_how_they_go_with_mrd_where_there_are_any(
    without_association: Characterised, judgement: Judgement
) -> None:
    heading = "MRD beside other measures"
    mrd = without_association.table["mrd"]
    bare = without_association.table.drop(columns="training_count", errors="ignore")
    assert heading not in report(replace(without_association, table=bare), judgement, "t", datetime(2026, 5, 4))
    with_nll = replace(without_association, table=bare.assign(nll=-mrd))
    page = Page(report(with_nll, judgement, "t", datetime(2026, 5, 4)))
    assert heading in page.inside("h2")
    cells = page.inside("td")
    at = cells.index(MEASURES["nll"].help)
    assert float(cells[at + 1]) == pytest.approx(-mrd.median(), rel=1e-2)
    assert cells[at + 2].startswith("-1")


def test_a_set_of_which_nothing_can_be_said_still_has_a_report() -> None:
    found = characterised_set(n=4)
    bare = replace(found, table=found.table.drop(columns=["semantic_complexity", "association", "occurrences"]))
    page = Page(report(bare, judged(bare, {}), TITLE, GENERATED))
    assert "4, 3 of them with an MRD" in page.inside("td")
    assert not any(cell.startswith(("agrees", "disagrees")) for cell in page.inside("td"))


def test_the_same_findings_give_the_same_file(
    source: str, without_association: Characterised, judgement: Judgement
) -> None:
    assert report(without_association, judgement, TITLE, GENERATED) == source
