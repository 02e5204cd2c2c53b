"""The one report: every page that shows a part of it offers it, and makes it when it is asked for."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from mrd_core.samples import ForgetSet
from mrd_core.scoring.files import ScoreFiles
from tests.app.conftest import CharacterisedHome, Home, sound, texts_in

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
FILES = ("report_report.html", "report_report.md", "report_report.json")


@pytest.mark.parametrize("page", ["difficulty", "compare", "audit"])
def test_pages_offer_it_and_make_nothing_unasked(
    app: Open, finished: Home, offered: dict[str, Any], page: str
) -> None:
    test = sound(app(finished.path, page, run=finished.run.id))
    assert [button.key for button in test.button].count("make_report") == 1
    assert not offered.keys() & set(FILES)


def test_it_has_all_that_rests_on_the_scores_and_no_texts_where_they_are_hidden(
    app: Open, characterised: CharacterisedHome, offered: dict[str, Any]
) -> None:
    test = app(characterised.path, "characteristics", run=characterised.run.id)
    test.button(key="make_report").click().run()
    samples = ForgetSet.load(ScoreFiles(characterised.run.directory).samples).frame
    assert set(FILES) <= set(texts_in(offered, samples))
    with zipfile.ZipFile(io.BytesIO(offered["report_figures.zip"])) as figures:
        assert "difficulty-ranking.svg" in figures.namelist()
    report = json.loads(offered["report_report.json"])
    assert list(report["runs"]) == [characterised.run.id, characterised.reading.id]
    assert f"report {characterised.run.directory} --out report" in sound(test).code[0].value
    test.toggle(key="hide_texts").set_value(True).run()
    assert not texts_in(offered, samples)
    assert "--without-texts" in sound(test).code[0].value
