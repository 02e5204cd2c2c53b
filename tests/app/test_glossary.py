"""The glossary: every declaration and every abbreviation has a term, each once, and a link leads to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.features import features
from analysis.glossary import abbreviations, glossary
from mrd_core.evaluation.metrics import METRICS
from mrd_core.scoring.measures import MEASURES, MRD_MEASURES
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.sampling import SAMPLERS
from tests.app.conftest import Home, sound, texts

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
ABBREVIATIONS = (
    *("MRD", "SE", "MA", "EL", "NLL", "UA", "RR", "MIA", "GA", "SGA", "CGA", "δ", "σ", "ρ", "Holm", "ESS"),
    *("NPO", "WGA", "PO", "SimNPO", "MTLD", "HD-D", "ROUGE-L"),
)


def test_every_declaration_is_a_term_with_its_own_words() -> None:
    meanings = {(term.name, term.meaning) for term in glossary()}
    measures = [measure for name, measure in MEASURES.items() if name not in MRD_MEASURES]
    declared = [(each.title, each.help) for each in (*measures, *features(), *SAMPLERS.values())]
    assert set(declared) <= meanings
    # A metric that is a measure, too, is explained once.
    assert {metric.title for metric in METRICS.values()} <= {name for name, _ in meanings}
    assert {method.title for method in METHODS.values()} <= {name for name, _ in meanings}


def test_no_term_stands_there_twice() -> None:
    counts = Counter((term.name, term.kind) for term in glossary())
    assert [term for term, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("abbreviation", ABBREVIATIONS)
def test_every_abbreviation_has_a_term(abbreviation: str) -> None:
    names = " ".join(f"{term.name} {term.meaning}" for term in glossary())
    assert abbreviation in names.translate(str.maketrans("(),:.", "     ")).split()


@pytest.mark.parametrize("abbreviation", ABBREVIATIONS)
def test_every_abbreviation_is_linked_to_what_finds_its_term(abbreviation: str) -> None:
    assert abbreviations().search(f"({abbreviation} = 1)") is not None
    assert abbreviations().search(f"un{abbreviation}s") is None
    assert any(term.matches(abbreviation) for term in glossary())


@pytest.mark.parametrize("page", ["difficulty", "characteristics", "evidence", "unlearning", "compare"])
def test_an_abbreviation_is_linked_once_on_every_page(app: Open, finished: Home, page: str) -> None:
    test = app(finished.path, page, run=finished.run.id)
    spoken = "\n".join(str(each.value) for kind in (test.markdown, test.caption) for each in kind)
    links = Counter(re.findall(r"\[([^]]*)\]\(glossary\?term=", spoken))
    # The bar on top has it.
    assert links["ρ"] == 1
    assert max(links.values()) == 1
    assert "`glossary" not in spoken


def test_a_term_is_found_by_name_by_meaning_and_by_link(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "glossary", term="reliability")
    assert "Spearman 1910" in texts(test)
    test.text_input(key="glossary_find").set_value("membership inference").run()
    assert "**MIA**" in texts(sound(test))
    assert test.query_params["term"] == "membership inference"
    test.text_input(key="glossary_find").set_value("ma").run()
    first = next(each.value for each in sound(test).markdown if each.value.startswith("**"))
    assert first.startswith("**Exact memorization \\(MA\\)**")
    test.text_input(key="glossary_find").set_value("nonsense").run()
    assert "There is no such term." in texts(sound(test))
    test.text_input(key="glossary_find").set_value("").run()
    assert "term" not in test.query_params
    test.pills(key="glossary_kind").set_value("metric").run()
    assert METRICS["ua"].help.split(":")[0] in texts(sound(test))
