"""The Characteristics page: from scores to verdicts, one selection everywhere, and what can be taken along."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.characteristics import runs as characteristics
from analysis.characteristics.files import CharacteristicsSummary
from analysis.characteristics.judgement import Judgement, judged, remains
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA, Rule, Threshold
from analysis.difficulty import Variant
from analysis.verdict import explained
from mrd_core.demo.scale import SCALE
from mrd_core.runs import Run, RunState, RunStore, submit, worker
from mrd_core.samples import load_table
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.records import ScoreSummary
from pages.parts.characteristics.claims_tables import EXAMPLE_WIDTH
from pages.parts.characteristics.criteria import SYMBOLS
from pages.parts.characteristics.view import VIEWS
from pages.shell.notices import literal
from tests.app.conftest import (
    CHARACTERISED,
    ODD_ANSWERS,
    CharacterisedHome,
    Home,
    assert_named,
    button,
    finish,
    go,
    numbers,
    quick_config,
    scored,
    settings_for,
    sound,
    submitted,
    texts,
    texts_in,
    with_reading,
    write_demo_rows,
)
from tests.support.commands import carried_out

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
Offered = dict[str, Any]
COMPLEXITY, FREQUENCY, PROBABILITY, RARE_WORDS, ASSOCIATION = CRITERIA


def found_of(home: CharacterisedHome, variant: Variant | None = None) -> Characterised:
    return characteristics.characterised(home.run.directory, home.reading.directory, variant or Variant())


def judgement_of(home: CharacterisedHome, **thresholds: Threshold) -> Judgement:
    return judged(found_of(home), thresholds)


def readings_of(home: Home) -> list[Run]:
    return home.store.list(kinds=("characteristics",), score_run=home.run)


def opened(app: Open, home: CharacterisedHome, **query: str) -> AppTest:
    return app(home.path, "characteristics", run=home.run.id, **query)


def panels(test: AppTest) -> dict[str, Any]:
    """Return the figures of the criteria by title."""
    charts = [chart.proto for chart in test.get("plotly_chart")]
    return {
        criterion.title: json.loads(chart.spec)
        for criterion in CRITERIA
        for chart in charts
        if f"panel_{criterion.name}_" in chart.id
    }


def all_figures(test: AppTest) -> pd.DataFrame:
    """Return the table of the claims with every figure."""
    test.session_state["all_figures"] = True
    return next(table.value for table in sound(test.run()).dataframe if "p_holm" in table.value)


def sizes(panel: Any) -> list[int]:
    """Return the sizes of the low and of the high group, as the axis of a panel says them."""
    return [int(label.partition("(")[2].rstrip(")")) for label in panel["layout"]["xaxis"]["ticktext"]]


def standing_out(panel: Any) -> set[str]:
    """Return the ids of the points of a panel that are not faded."""
    ids: set[str] = set()
    for cloud in (trace for trace in panel["data"] if "customdata" in trace):
        points = [row[0] for row in cloud["customdata"]]
        chosen = cloud.get("selectedpoints")
        ids.update(points if chosen is None else (points[int(at)] for at in numbers(chosen)))
    return ids


def samples_table(test: AppTest) -> Any:
    return next(table for table in test.dataframe if (table.key or "").startswith("samples_"))


def marked_text(test: AppTest) -> str:
    """Return the HTML of the selected sample's text."""
    return next(str(html.value) for html in test.html if "pre-wrap" in str(html.value))


def view(test: AppTest, name: str) -> AppTest:
    test.segmented_control(key="view").set_value(name).run()
    return sound(test)


def has_button(test: AppTest, key: str) -> bool:
    return any(found.key == key for found in test.button)


def test_without_a_run_there_is_one_sentence_and_the_way_to_difficulty(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "characteristics")
    assert "None is scored yet." in texts(test)
    button(test, "Score one").click().run()
    assert sound(test).title[0].value == "Difficulty"


def test_an_unfinished_run_comes_before_its_characteristics(app: Open, tmp_path: Path) -> None:
    store = RunStore.open(settings_for(tmp_path))
    run = submitted(store, tmp_path, quick_config(write_demo_rows(tmp_path / "forget.jsonl", 3)))
    test = app(tmp_path, "characteristics", run=run.id)
    assert "This score run is queued; its characteristics come after it." in texts(test)
    button(test, "Look at the run").click().run()
    assert (sound(test).title[0].value, test.query_params["run"]) == ("Difficulty", run.id)


@pytest.mark.long
def test_the_form_launches_a_worker_and_the_page_picks_up_its_result(app: Open, own: Home) -> None:
    test = app(own.path, "characteristics", run=own.run.id)
    assert test.segmented_control(key="reading_training_corpus").value == "Demo"
    assert "Will be read by ` en_mrd_lens_ewt `" in texts(test)
    test.number_input(key="reading_ReadingConfig_common_words").set_value(20_000).run()
    test.button(key="read").click().run()
    (reading,) = readings_of(own)
    assert finish(own.store, reading.id) is RunState.SUCCEEDED
    test.run()
    assert list(panels(sound(test))) == [criterion.title for criterion in CRITERIA]
    about = characteristics.CharacteristicsFiles(reading.directory).read_features()[1]
    assert about.config.reading.common_words == 20_000


def test_one_click_explains_the_differences_of_a_finished_run(app: Open, own: Home) -> None:
    test = app(own.path, "difficulty", run=own.run.id)
    test.button(key="explain").click().run()
    assert sound(test).title[0].value == "Characteristics"
    (reading,) = readings_of(own)
    assert finish(own.store, reading.id) is RunState.SUCCEEDED
    assert len(panels(go(test, "characteristics"))) == len(CRITERIA)
    go(test, "difficulty").button(key="explain").click().run()
    assert readings_of(own) == [own.store.get(reading.id)]
    assert len(panels(sound(test))) == len(CRITERIA)


@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_panels_say_what_the_analysis_says_and_every_figure_is_in_the_table(
    app: Open, characterised: CharacterisedHome, normalisation: Normalisation
) -> None:
    test = opened(app, characterised)
    test.segmented_control(key="view_normalisation").set_value(normalisation).run()
    assert_named(sound(test))
    judgement = judged(found_of(characterised, Variant(normalisation=normalisation)), {})
    assert all(claim.testable for claim in judgement.shown)
    badges = [value for value in (each.value for each in test.markdown) if "-badge[" in value]
    assert [claim.verdict in badge for claim, badge in zip(judgement.shown, badges[-5:], strict=True)] == [
        True
    ] * 5
    for claim in judgement.shown:
        comparison, left = claim.comparison, remains(judgement, claim, normalisation)
        assert comparison is not None
        assert sizes(panels(test)[claim.criterion.title]) == [claim.n_low, claim.n_high]
        assert f"The paper: {claim.criterion.claim_text}" in texts(test)
        difference = comparison.difference
        assert f"{difference.value:+.3g} [{difference.low:.3g}, {difference.high:.3g}]" in texts(test)
        assert f"p\u00a0=\u00a0{claim.p_holm:.2g}" in texts(test)
        held, low, high = (left[name] for name in ("length_held", "length_held_low", "length_held_high"))
        assert f"Length held: {held:+.2f} [{low:+.2f}, {high:+.2f}]" in texts(test)
    table, claims = all_figures(test), [claim for norm in Normalisation for claim in judgement.claims[norm]]
    assert list(table["verdict"]) == [SYMBOLS[claim.verdict] for claim in claims]
    assert list(table["reason"]) == [claim.reason for claim in claims]


def test_the_shipped_scale_is_that_of_the_demo(characterised: CharacterisedHome) -> None:
    sigma = ScoreSummary.model_validate(characterised.run.summary).sigma
    assert sigma is not None
    median = found_of(characterised).table["mrd"].median() / sigma**2
    known = pd.read_csv(SCALE).set_index(["samples", "scope"]).loc[("known", "answer")]
    assert known["0.25"] < median < known["0.75"]


def test_the_verdict_on_top_says_what_the_claims_say(app: Open, characterised: CharacterisedHome) -> None:
    judgement = judgement_of(characterised)
    claims = CharacteristicsSummary.model_validate(characterised.reading.summary).claims
    assert claims is not None
    assert [claim.verdict for claim in claims] == [claim.verdict for claim in judgement.shown]
    for claim, held in zip(judgement.shown, claims, strict=True):
        left = remains(judgement, claim, judgement.chosen)
        smaller = claim.criterion.claim == "smaller"
        assert held.remains == (left["length_held_high"] < 0 if smaller else left["length_held_low"] > 0)
    assert explained(claims).sentence in texts(opened(app, characterised))


def test_every_formula_is_judged_from_the_same_draws(app: Open, characterised: CharacterisedHome) -> None:
    test = opened(app, characterised)
    for formula in Formula:
        test.selectbox(key="view_formula").set_value(formula).run()
        expected = found_of(characterised, Variant(formula=formula)).table
        assert list(samples_table(sound(test)).value["sample_id"]) == list(expected["sample_id"])


def test_a_moved_threshold_moves_the_groups(app: Open, characterised: CharacterisedHome) -> None:
    level = float(found_of(characterised).table["semantic_complexity"].quantile(0.4))
    test = opened(app, characterised)
    test.selectbox(key="rule_semantic_complexity").set_value(Rule.FIXED).run()
    test.number_input(key="level_semantic_complexity").set_value(level).run()
    claim = judgement_of(characterised, semantic_complexity=Threshold(Rule.FIXED, level)).shown[0]
    assert sizes(panels(sound(test))[COMPLEXITY.title]) == [claim.n_low, claim.n_high]
    assert claim.n_high > CHARACTERISED / 2
    assert "--threshold semantic_complexity=" in next(code.value for code in test.code)
    test.selectbox(key="rule_semantic_complexity").set_value(Rule.QUARTILE).run()
    assert sizes(panels(sound(test))[COMPLEXITY.title]) == [CHARACTERISED * 3 // 4, CHARACTERISED // 4]


def test_a_tiny_group_gets_no_verdict_but_its_size(app: Open, characterised: CharacterisedHome) -> None:
    counts = found_of(characterised).table["rare_words"]
    level = int(counts.quantile(0.95))
    few = int((counts > level).sum())
    assert 1 < few < 10
    test = opened(app, characterised)
    test.number_input(key="level_rare_words").set_value(level).run()
    assert sizes(panels(sound(test))[RARE_WORDS.title])[1] == few
    assert f"Only {few} samples in the group “rare words”; a verdict needs 10." in texts(test)
    row = all_figures(test).query("criterion == 'Rare words'").iloc[0]
    assert row["verdict"] == "? cannot tell"


def test_an_empty_group_is_told_in_the_place_of_its_panel(app: Open, characterised: CharacterisedHome) -> None:
    test = opened(app, characterised)
    test.number_input(key="level_rare_words").set_value(10_000).run()
    assert "No samples in the group “rare words”; a verdict needs 10." in texts(sound(test))
    assert RARE_WORDS.title not in panels(test)
    assert not has_button(test, "missing_rare_words")


def test_a_selected_group_is_selected_everywhere_until_its_chip_is_removed(
    app: Open, characterised: CharacterisedHome
) -> None:
    found, strata = found_of(characterised), judgement_of(characterised).strata
    expected = list(found.table["sample_id"][strata["rare_words"] == "high"])
    test = opened(app, characterised)
    test.button(key="select_rare_words_high").click().run()
    assert test.button(key="clear_box").label == f"{len(expected)} rare words (rare words)"
    assert f"**{len(expected)} of {CHARACTERISED}**" in texts(sound(test))
    assert list(samples_table(test).value["sample_id"]) == expected
    first = found.table.set_index("sample_id").loc[expected[0]]
    assert f"1 of {len(expected)} · rank {first['rank']} · MRD" in texts(test)
    assert all(standing_out(panel) == set(expected) for panel in panels(test).values())
    test.button(key="clear_box").click().run()
    assert list(samples_table(sound(test)).value["sample_id"]) == list(found.table["sample_id"])
    assert all(len(standing_out(panel)) == CHARACTERISED for panel in panels(test).values())


def test_a_search_narrows_the_selection(app: Open, characterised: CharacterisedHome) -> None:
    test = opened(app, characterised)
    test.text_input(key="search").set_value("forget-001").run()
    ids = list(samples_table(sound(test)).value["sample_id"])
    assert 0 < len(ids) < CHARACTERISED
    assert all(sample.startswith("forget-001") for sample in ids)
    assert standing_out(panels(test)[COMPLEXITY.title]) == set(ids)
    test.text_input(key="search").set_value("nobody at all").run()
    assert "No sample matches these filters." in texts(sound(test))


def test_a_deep_link_selects_its_sample(app: Open, characterised: CharacterisedHome) -> None:
    wanted = found_of(characterised).table.iloc[5]
    test = opened(app, characterised, sample=wanted["sample_id"])
    assert f"6 of {CHARACTERISED} · rank 6 · MRD {wanted['mrd']:.4g}" in texts(test)
    assert wanted["prompt"] in [text.value for text in test.text]
    assert test.session_state[samples_table(test).key]["selection"]["rows"] == [5]
    test.button(key="next").click().run()
    assert f"7 of {CHARACTERISED} · rank 7 ·" in texts(sound(test))
    assert test.session_state[samples_table(test).key]["selection"]["rows"] == [6]


def test_rare_words_are_marked_in_the_text(app: Open, characterised: CharacterisedHome) -> None:
    row = found_of(characterised).table.sort_values("rare_words").iloc[-1]
    test = opened(app, characterised, sample=row["sample_id"])
    assert marked_text(test).count("<mark") == row["rare_words"]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_shown_for_common_and_for_strange_texts(
    app: Open, characterised: CharacterisedHome, odd: CharacterisedHome, name: str
) -> None:
    for home in (characterised, odd):
        test = view(opened(app, home), name)
        assert test.segmented_control(key="view").value == name
        # A view that breaks off would leave out what follows it.
        assert "Export and reproduce" in texts(test)


def test_every_feature_tells_what_it_counts(app: Open, characterised: CharacterisedHome) -> None:
    about = found_of(characterised).about
    test = view(opened(app, characterised), "Features")
    for name, described in about.features.items():
        test.selectbox(key="feature").set_value(name).run()
        assert described["help"] in texts(sound(test))
        assert f"Undefined for {about.undefined[name]} of {CHARACTERISED} samples." in texts(test)


def test_two_features_are_drawn_with_their_units(app: Open, characterised: CharacterisedHome) -> None:
    test = view(opened(app, characterised), "Two features")
    test.selectbox(key="scatter_up").set_value("initial_probability").run()
    spec = json.loads(test.get("plotly_chart")[-1].proto.spec)
    assert spec["layout"]["xaxis"]["title"]["text"] == "Length [tokens]"
    assert len(spec["data"][0]["customdata"]) == CHARACTERISED


def test_a_feature_is_drawn_against_a_measure_of_difficulty(app: Open, characterised: CharacterisedHome) -> None:
    test = view(opened(app, characterised), "Two features")
    for name, title in (("gradient_norm", "Gradient norm of the mean NLL [nats per token]"), ("mrd", "MRD")):
        test.selectbox(key="scatter_up").set_value(name).run()
        spec = json.loads(sound(test).get("plotly_chart")[-1].proto.spec)
        assert spec["layout"]["yaxis"]["title"]["text"] == title
        assert len(spec["data"][0]["customdata"]) == CHARACTERISED


def test_groups_are_told_with_typical_samples(app: Open, characterised: CharacterisedHome) -> None:
    table = view(opened(app, characterised), "Groups").table[0].value
    claims = judgement_of(characterised).shown
    expected = [str(size) for claim in claims for size in (claim.n_high, claim.n_low)]
    assert list(table["Samples"]) == expected
    assert list(table["Paper, Table 7"][:2]) == ["1.0026", "0.3085"]
    assert (table["Typical samples"].str.count("  \n") == 2).all()


def test_texts_that_look_like_markup_stay_text(app: Open, odd: CharacterisedHome) -> None:
    table = found_of(odd).table
    script = table["answer"].eq(ODD_ANSWERS[0])
    test = opened(app, odd, sample=table["sample_id"][script].item())
    assert "".join(escape(word) for word in ODD_ANSWERS[0].split()[:1]) in marked_text(test)
    assert "<script" not in marked_text(test)
    assert test.text[0].value == "**Who** <b>is</b> $it$?"
    cells = view(test, "Groups").table[0].value["Typical samples"]
    examples = {example for cell in cells for example in cell.split("  \n")}
    rest = ODD_ANSWERS[0][EXAMPLE_WIDTH - 1 :]
    assert literal(ODD_ANSWERS[0]) in {example.replace("…", rest) for example in examples}
    assert all(example.startswith("`") and example.endswith("`") for example in examples)


def test_foreign_texts_are_reported_and_not_read(app: Open, odd: CharacterisedHome) -> None:
    test = opened(app, odd)
    assert any("(zh: 1)" in warning.value for warning in test.warning)


def test_a_set_of_which_no_text_can_be_read_is_shown_all_the_same(app: Open, tmp_path: Path) -> None:
    source = tmp_path / "chinese.jsonl"
    rows = [{"question": "?", "answer": f"{ODD_ANSWERS[2]}{at}"} for at in range(3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    home = scored(tmp_path, quick_config(source))
    test = opened(app, with_reading(home, characteristics.default_config(home.run.directory)))
    for name in VIEWS:
        assert "Export and reproduce" in texts(view(test, name))
        assert "nan%" not in texts(test)


def test_without_a_corpus_frequency_says_what_it_needs_and_offers_the_way(
    app: Open, odd: CharacterisedHome
) -> None:
    test = opened(app, odd)
    assert f"Not measured: it needs {FREQUENCY.needs}." in texts(test)
    assert FREQUENCY.title not in panels(test)
    test.button(key="missing_occurrence_frequency").click().run()
    assert test.segmented_control(key="reading_training_corpus").options == [
        "None",
        "Demo",
        "File or folder",
        "Hub data set",
    ]
    assert has_button(sound(test), "read")


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "x" * 61])
def test_a_stratum_with_a_bad_name_is_refused_in_words(
    app: Open, own_characterised: CharacterisedHome, name: str
) -> None:
    test = opened(app, own_characterised)
    test.button(key="select_association_high").click().run()
    test.text_input(key="stratum_name").set_value(name)
    button(test, "Save").click().run()
    assert "cannot name a file." in texts(sound(test))
    assert "Export and reproduce" in texts(test)
    assert not (own_characterised.path / "strata").exists()


def test_a_saved_stratum_becomes_a_forget_set(app: Open, own_characterised: CharacterisedHome) -> None:
    strata = judgement_of(own_characterised).strata
    expected = set(strata["sample_id"][strata["association"] == "high"])
    test = opened(app, own_characterised)
    test.button(key="select_association_high").click().run()
    test.text_input(key="stratum_name").set_value("near others")
    button(test, "Save").click().run()
    path = own_characterised.path / "strata" / "near others.parquet"
    assert "Saved as ` near others `" in texts(sound(test))
    assert set(load_table(ForgetSetConfig(source=str(path))).frame["sample_id"]) == expected
    test.text_input(key="stratum_name").set_value("near others")
    button(test, "Save").click().run()
    assert "is taken by another stratum." in texts(sound(test))
    test.button(key="use_stratum").click().run()
    assert sound(test).title[0].value == "Difficulty"
    assert f"{path} ` · {len(expected)} samples" in texts(test)
    assert "run" not in test.query_params
    go(test, "forget_set").segmented_control(key="source").set_value("Saved stratum").run()
    assert test.selectbox(key="saved_stratum").options == ["near others"]
    assert {metric.label: metric.value for metric in sound(test).metric}["Samples"] == str(len(expected))


def test_a_saved_stratum_is_offered_beside_its_own_samples_only(
    app: Open, own_characterised: CharacterisedHome
) -> None:
    test = opened(app, own_characterised)
    test.button(key="select_rare_words_low").click().run()
    test.text_input(key="stratum_name").set_value("plain")
    button(test, "Save").click().run()
    assert has_button(sound(test), "use_stratum")
    test.button(key="select_rare_words_high").click().run()
    assert not has_button(sound(test), "use_stratum")


def exported(offered: Offered) -> Iterator[tuple[str, bytes]]:
    for key, content in offered.items():
        if key.startswith("export_"):
            yield key.removeprefix("export_"), content()


def test_hidden_texts_are_in_no_download(app: Open, characterised: CharacterisedHome, offered: Offered) -> None:
    test = opened(app, characterised)
    samples = found_of(characterised).table
    assert {"export_samples.csv", "export_samples.parquet"} <= set(texts_in(offered, samples))
    test.toggle(key="hide_texts").set_value(True).run()
    assert texts_in(offered, samples) == []


def test_everything_can_be_taken_along(app: Open, characterised: CharacterisedHome, offered: Offered) -> None:
    test = opened(app, characterised)
    files = dict(exported(offered))
    assert {f"export_{name}" for name in files} <= {found.key for found in test.download_button}
    found, judgement = found_of(characterised), judgement_of(characterised)
    claims = json.loads(files["claims.json"])
    assert list(claims) == [criterion.name for criterion in CRITERIA]
    assert [claim["verdict"] for claim in claims.values()] == [claim.verdict for claim in judgement.shown]
    samples = pd.read_parquet(io.BytesIO(files["samples.parquet"]))
    assert list(samples["sample_id"]) == list(found.table["sample_id"])
    frames = {name: pd.read_csv(io.BytesIO(files[f"{name}.csv"])) for name in ("samples", "strata", "claims")}
    np.testing.assert_allclose(frames["samples"]["mrd"], found.table["mrd"])
    assert list(frames["strata"]["rare_words"]) == list(judgement.strata["rare_words"])
    assert len(frames["claims"]) == 2 * len(CRITERIA)
    assert len(pd.read_csv(io.BytesIO(files["groups.csv"]))) == 2 * len(CRITERIA)
    assert list(pd.read_csv(io.BytesIO(files["regression.csv"]))["feature"]) == [
        term.name for term in judgement.regression.terms
    ]


@pytest.mark.parametrize("name", ["Length held", "Correlations", "Two features"])
def test_a_figure_can_be_taken_along(app: Open, characterised: CharacterisedHome, name: str) -> None:
    test = view(opened(app, characterised), name)
    assert f"download_{name.lower().replace(' ', '_')}" in {found.key for found in test.download_button}


def test_the_shown_command_finds_the_same_reading_and_concludes_the_same(
    app: Open, characterised: CharacterisedHome, offered: Offered, tmp_path: Path
) -> None:
    test = opened(app, characterised)
    test.segmented_control(key="view_normalisation").set_value(Normalisation.SUM)
    test.selectbox(key="rule_association").set_value(Rule.MEDIAN)
    test.number_input(key="level_rare_words").set_value(5).run()
    assert printed(sound(test), tmp_path) == json.loads(offered["export_claims.json"]())
    assert readings_of(characterised) == [characterised.reading]


def test_the_shown_command_leaves_out_a_corpus_that_was_left_out(
    app: Open, odd: CharacterisedHome, offered: Offered, tmp_path: Path
) -> None:
    test = opened(app, odd)
    assert printed(test, tmp_path) == json.loads(offered["export_claims.json"]())
    assert readings_of(odd) == [odd.reading]


def printed(test: AppTest, folder: Path) -> Any:
    """Run the command that the page shows, and return the object that it prints."""
    command = next(code.value for code in test.code if " characteristics " in code.value)
    result = carried_out(f"{command} --json --out files", folder)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_reading_that_failed_shows_its_cause_and_goes_on_once_that_is_mended(app: Open, own: Home) -> None:
    corpus = own.path / "corpus.jsonl"
    config = characteristics.default_config(own.run.directory)
    config = config.model_copy(update={"corpus": ForgetSetConfig(source=str(corpus))})
    reading = submit(config, store=own.store, settings=settings_for(own.path))
    assert worker.run(reading.directory, store=own.store) is RunState.FAILED
    test = app(own.path, "characteristics", run=own.run.id)
    assert "failed**" in texts(test)
    assert any(str(corpus) in text.value for text in test.text)
    write_demo_rows(corpus, 40)
    test.button(key="resume").click().run()
    assert finish(own.store, reading.id) is RunState.SUCCEEDED
    test.run()
    assert len(panels(sound(test))) == len(CRITERIA)
    assert "40 rows." in texts(test)


def test_a_failed_reading_can_be_left_for_another_one(app: Open, own: Home) -> None:
    config = characteristics.default_config(own.run.directory)
    config = config.model_copy(update={"corpus": ForgetSetConfig(source=str(own.path / "nowhere"))})
    reading = submit(config, store=own.store, settings=settings_for(own.path))
    assert worker.run(reading.directory, store=own.store) is RunState.FAILED
    test = app(own.path, "characteristics", run=own.run.id)
    test.button(key="new_run").click().run()
    assert has_button(sound(test), "read")
    assert test.query_params["run"] == own.run.id


def test_reading_again_with_the_same_settings_finds_the_old_reading(
    app: Open, own_characterised: CharacterisedHome
) -> None:
    test = opened(app, own_characterised)
    test.button(key="read_again").click().run()
    assert has_button(sound(test), "read")
    assert panels(test) == {}
    test.button(key="read").click().run()
    assert len(panels(sound(test))) == len(CRITERIA)
    assert [reading.id for reading in readings_of(own_characterised)] == [own_characterised.reading.id]


@pytest.mark.parametrize(
    ("field", "value", "words"), [("pipeline", "nobody_sm", "nobody_sm"), ("language", "xx", "xx")]
)
def test_a_reading_that_nothing_can_carry_out_is_refused_in_words(
    app: Open, own: Home, field: str, value: str, words: str
) -> None:
    test = app(own.path, "characteristics", run=own.run.id)
    test.text_input(key=f"reading_ReadingConfig_{field}").set_value(value).run()
    assert words in texts(sound(test))
    assert "→ " in texts(test)
    assert not has_button(test, "read")


def test_a_corpus_outside_the_allowed_folders_is_refused(app: Open, own: Home) -> None:
    test = app(own.path, "characteristics", run=own.run.id)
    test.segmented_control(key="reading_training_corpus").set_value("File or folder").run()
    assert "The training corpus is not named yet." in texts(sound(test))
    test.text_input(key="reading_training_corpus_path").set_value(str(own.path.parent)).run()
    assert "lies outside the folders that this app may read" in texts(sound(test))


def test_a_recent_run_opens_on_the_page_of_its_kind(app: Open, characterised: CharacterisedHome) -> None:
    for run, page in ((characterised.reading, "Characteristics"), (characterised.run, "Difficulty")):
        test = app(characterised.path)
        assert run.title in set(test.dataframe[0].value["Run"])
        test.session_state["opened"] = run.id
        test.run()
        assert sound(test).title[0].value == page
        assert test.query_params["run"] == characterised.run.id


def test_a_recent_reading_whose_scores_are_gone_is_explained(
    app: Open, own_characterised: CharacterisedHome
) -> None:
    home = own_characterised
    with closing(sqlite3.connect(home.path / "store.db")) as connection, connection:
        moved = (str(home.path / "elsewhere"), home.reading.id)
        connection.execute("UPDATE runs SET score_run = ? WHERE id = ?", moved)
    test = app(home.path)
    test.session_state["opened"] = home.reading.id
    test.run()
    assert "is not in this store." in texts(sound(test))
