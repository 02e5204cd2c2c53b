"""The Difficulty page in every state of a run: form, live panel, ranking, ends that need a way out."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from streamlit.testing.v1 import AppTest

from analysis import difficulty
from analysis.contrast import AT_AN_END
from analysis.difficulty import ScoredRun, Variant
from mrd_core.experiments import short_check
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunError, RunState, RunStore, submit
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, Formula, Normalisation, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import MEASURES, PART_MEASURES
from mrd_core.scoring.notes import SampleNote, read_notes
from tests.app.conftest import (
    Home,
    button,
    ended,
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
    write_demo_rows,
)
from tests.support.commands import read_back

pytestmark = pytest.mark.slow

END = ["rank", "mrd", "prompt", "answer"]

Open = Callable[..., AppTest]
PATIENCE = 60.0


def ranking_of(home: Home, variant: Variant | None = None) -> list[str]:
    return list(difficulty.ranking(ScoredRun(home.run.directory), variant or Variant())["sample_id"])


def ranking_table(test: AppTest) -> Any:
    return next(table for table in test.dataframe if (table.key or "").startswith("ranking"))


def selected_row(test: AppTest) -> int:
    """Return the row of the ranking table that is marked as selected."""
    return int(test.session_state[ranking_table(test).key]["selection"]["rows"][0])


def map_points(test: AppTest) -> dict[str, Any]:
    """Return the traces of the difficulty map: the points, and the ring that is laid over the selected one."""
    charts = {chart.proto.id.split("-", 2)[-1].partition("_")[0]: chart for chart in test.get("plotly_chart")}
    traces = {
        name: json.loads(charts[key].proto.spec)["data"] for name, key in (("points", "map"), ("ring", "ring"))
    }
    return {name: trace for name, (trace,) in traces.items()}


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[RunStore, Any]:
    """A store with one run that nobody has taken up yet."""
    store = RunStore.open(settings_for(tmp_path))
    config = quick_config(write_demo_rows(tmp_path / "forget.jsonl", 3))
    return store, submitted(store, tmp_path, config)


def test_without_a_forget_set_there_is_one_sentence_and_one_button(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "difficulty")
    assert "Scores need a forget set." in texts(test)
    test.button(key="empty_demo").click().run()
    assert "240 samples" in texts(sound(test))
    assert test.button(key="score")


def test_the_hardest_sample_is_shown_first_and_everywhere(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    hardest = ranking_of(finished)[0]
    assert list(ranking_table(test).value["sample_id"]) == ranking_of(finished)
    assert selected_row(test) == 0
    assert "1 of 24 · rank 1 ·" in texts(test)
    assert len(map_points(test)["points"]["customdata"]) == 24
    row = difficulty.ranking(ScoredRun(finished.run.directory), Variant()).iloc[0]
    assert row["sample_id"] == hardest
    assert numbers(map_points(test)["ring"]["x"]) == [row["mrd"]]


def test_a_deep_link_selects_its_sample(app: Open, finished: Home) -> None:
    wanted = ranking_of(finished)[5]
    test = app(finished.path, "difficulty", run=finished.run.id, sample=wanted)
    test.session_state["tokens_table"] = True
    test.run()
    assert "6 of 24 · rank 6 ·" in texts(test)
    assert selected_row(test) == 5
    pieces = difficulty.tokens_of(finished.run.directory, wanted)["piece"]
    shown = next(table.value for table in test.dataframe if "piece" in table.value)
    assert list(shown["piece"]) == list(pieces)


def test_a_link_brings_back_the_scores_that_were_looked_at_and_the_search(app: Open, finished: Home) -> None:
    by_sum = ranking_of(finished, Variant(normalisation=Normalisation.SUM))
    word = "Kelemar"
    link = {"view_normalisation": "sum", "search": word}
    test = app(finished.path, "difficulty", run=finished.run.id, **link)
    table = difficulty.ranking(ScoredRun(finished.run.directory), Variant(normalisation=Normalisation.SUM))
    expected = list(difficulty.matching(table, word, None)["sample_id"])
    assert 0 < len(expected) < len(by_sum)
    assert list(ranking_table(test).value["sample_id"]) == expected
    sound(test.text_input(key="search").set_value("").run())
    assert list(ranking_table(test).value["sample_id"]) == by_sum


def test_a_link_to_an_unknown_sample_shows_the_hardest(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id, sample="nobody")
    assert "1 of 24 · rank 1 ·" in texts(test)


def test_a_link_to_an_unknown_run_says_so_and_starts_nothing(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "difficulty", run="![x](http://example.org/x.png)")
    assert "There is no run ` ![x](http://example.org/x.png) ` on this machine." in test.warning[0].value
    assert "run" not in test.query_params
    assert RunStore.open(settings_for(tmp_path)).list() == []


def test_next_and_previous_walk_through_the_ranking(app: Open, finished: Home) -> None:
    order = ranking_of(finished)
    test = app(finished.path, "difficulty", run=finished.run.id)
    assert test.button(key="previous").disabled
    test.button(key="next").click().run()
    test.button(key="next").click().run()
    assert test.query_params["sample"] == order[2]
    assert (selected_row(test), "3 of 24" in texts(test)) == (2, True)
    test.button(key="previous").click().run()
    assert test.query_params["sample"] == order[1]
    last = app(finished.path, "difficulty", run=finished.run.id, sample=order[-1])
    assert last.button(key="next").disabled


def test_from_sample_to_sample_the_points_of_the_map_stay_the_same_and_are_not_sent_again(
    app: Open, finished: Home
) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    first = map_points(test)
    test.button(key="next").click().run()
    second = map_points(test)
    assert second["points"] == first["points"]
    assert numbers(second["ring"]["x"]) != numbers(first["ring"]["x"])


def many_rows() -> None:
    import pandas as pd
    import streamlit as st

    from pages.shell import sample_table, session

    names = [f"s{at}" for at in range(230)]
    samples = pd.DataFrame(
        {"sample_id": names, "mrd": range(230, 0, -1), "answer": "word " * 90, "extra": "hidden"}
    )
    columns = {"mrd": st.column_config.NumberColumn("MRD"), "answer": sample_table.ANSWER}
    sample_table.show("many", samples, session.current_sample() or "s0", columns, "Many")


def test_of_many_rows_the_page_of_the_selected_sample_is_sent_and_only_what_is_seen_of_it() -> None:
    test = AppTest.from_function(many_rows)
    test.query_params["sample"] = "s30"
    test.run()
    page = test.dataframe[0].value
    assert list(page["sample_id"]) == [f"s{at}" for at in range(25, 50)]
    assert set(page) == {"sample_id", "mrd", "answer"}
    assert page["answer"].str.len().max() == 100
    assert "Rows 26 to 50 of 230" in texts(test)
    assert test.session_state[test.dataframe[0].key]["selection"]["rows"] == [5]
    test.selectbox(key="many_order").set_value("mrd").run()
    page = test.dataframe[0].value
    assert list(page["mrd"]) == sorted(page["mrd"])
    assert "s30" in set(page["sample_id"]), "the page of the selected sample, in whatever order"
    assert "Rows 176 to 200 of 230" in texts(test)


def test_a_search_narrows_everything_and_a_chip_takes_it_back(app: Open, finished: Home) -> None:
    table = difficulty.ranking(ScoredRun(finished.run.directory), Variant())
    expected = list(difficulty.matching(table, "did", None)["sample_id"])
    assert 0 < len(expected) < len(table)
    test = app(finished.path, "difficulty", run=finished.run.id)
    test.text_input(key="search").set_value("did").run()
    assert f"**{len(expected)} of 24**" in texts(sound(test))
    assert list(ranking_table(test).value["sample_id"]) == expected
    assert [row[0] for row in map_points(test)["points"]["customdata"]] == expected
    test.button(key="clear_search").click().run()
    assert test.text_input(key="search").value == ""
    assert len(ranking_table(test).value) == 24


def test_a_search_without_a_match_says_so_and_can_be_undone(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    test.text_input(key="search").set_value("**nobody** `at` $all$").run()
    assert "No sample matches these filters." in texts(sound(test))
    assert test.button(key="clear_search").label == "`` **nobody** `at` $all$ ``"
    test.button(key="clear_search").click().run()
    assert len(ranking_table(sound(test)).value) == 24


def test_a_selection_that_is_filtered_away_gives_way_to_the_hardest_left(app: Open, finished: Home) -> None:
    order = ranking_of(finished)
    test = app(finished.path, "difficulty", run=finished.run.id, sample=order[0])
    test.text_input(key="search").set_value(order[7]).run()
    assert "1 of 1 · rank 8 ·" in texts(sound(test))


def test_samples_chosen_on_the_map_filter_the_table(app: Open, finished: Home) -> None:
    order = ranking_of(finished)
    test = app(finished.path, "difficulty", run=finished.run.id)
    test.session_state["box"] = set(order[3:6])
    test.session_state["box_label"] = "on the map"
    test.run()
    assert list(ranking_table(sound(test)).value["sample_id"]) == order[3:6]
    assert "**3 of 24**" in texts(test)
    test.button(key="clear_box").click().run()
    assert len(ranking_table(sound(test)).value) == 24


def test_a_link_brings_back_the_samples_chosen_in_a_chart_until_back_is_pressed(app: Open, finished: Home) -> None:
    order = ranking_of(finished)
    test = app(finished.path, "difficulty", run=finished.run.id)
    test.session_state["box"], test.session_state["box_label"] = set(order[3:6]), "on the map"
    box = sound(test.run()).query_params["box"]
    assert len(box) == 4
    linked = app(finished.path, "difficulty", run=finished.run.id, box=box)
    assert list(ranking_table(linked).value["sample_id"]) == order[3:6]
    assert linked.button(key="clear_box").label == "3 from the link"
    # Another page is about the same samples, and says so in its own address.
    assert go(test, "evidence").query_params["box"] == box
    assert list(ranking_table(go(test, "difficulty")).value["sample_id"]) == order[3:6]
    del test.query_params["box"]
    assert len(ranking_table(sound(test.run())).value) == 24


@pytest.mark.parametrize("box", ["A", "!!!!", "AAAA", "é", "=" * 9])
def test_a_link_that_names_no_samples_chooses_none(app: Open, finished: Home, box: str) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id, box=box)
    assert len(ranking_table(test).value) == 24
    assert "box" not in test.query_params


@pytest.mark.parametrize("formula", list(Formula))
def test_every_variant_is_ranked_from_the_same_draws(app: Open, finished: Home, formula: Formula) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    assert "of what the demo's small model knows by heart" in texts(test)
    test.selectbox(key="view_formula").set_value(formula)
    test.segmented_control(key="view_normalisation").set_value(Normalisation.SUM).run()
    expected = ranking_of(finished, Variant(normalisation=Normalisation.SUM, formula=formula))
    assert list(ranking_table(sound(test)).value["sample_id"]) == expected
    assert "The demo's samples are no scale for it" in texts(test)


def test_the_selected_sample_stays_marked_when_the_order_changes(app: Open, finished: Home) -> None:
    by_mean = ranking_of(finished)
    by_sum = ranking_of(finished, Variant(normalisation=Normalisation.SUM))
    chosen = next(sample for sample in by_mean if by_sum.index(sample) != by_mean.index(sample))
    test = app(finished.path, "difficulty", run=finished.run.id, sample=chosen)
    test.segmented_control(key="view_normalisation").set_value(Normalisation.SUM).run()
    assert selected_row(test) == by_sum.index(chosen)


def test_the_map_can_be_drawn_against_the_log_probability(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    test.selectbox(key="map_axis").set_value("mean_log_prob").run()
    table = difficulty.ranking(ScoredRun(finished.run.directory), Variant())
    np.testing.assert_allclose(numbers(map_points(sound(test))["points"]["y"]), table["mean_log_prob"])


def test_the_map_can_be_drawn_against_any_measure_and_says_how_it_goes_with_mrd(app: Open, finished: Home) -> None:
    table = difficulty.ranking(ScoredRun(finished.run.directory), Variant())
    measures = [measure.name for measure in difficulty.measures_in(table)]
    assert {"nll", "gradient_norm", "training_count"} <= set(measures)
    test = app(finished.path, "difficulty", run=finished.run.id)
    rho = spearmanr(table["mrd"], table["gradient_norm"]).statistic
    said = "MRD with Gradient norm of the mean NLL [nats per token], over the whole set: Spearman’s ρ = "
    said += f"{rho:+.2f} [".replace("-", "−")
    assert said not in texts(test)
    for name in measures:
        test.selectbox(key="map_axis").set_value(name).run()
        points = map_points(sound(test))["points"]
        np.testing.assert_allclose(numbers(points["y"]), table[name].astype(float))
        assert [row[0] for row in points["customdata"]] == list(table["sample_id"])
    test.selectbox(key="map_axis").set_value("gradient_norm").run()
    assert said in texts(test)


def test_the_ranking_shows_the_measures_that_are_chosen(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    chosen = test.multiselect(key="ranking_measures")
    assert chosen.value == ["nll", "exact_memorization", "training_count", "gradient_norm"]
    assert list(ranking_table(test).proto.column_order)[7:11] == chosen.value
    chosen.set_value(["entropy", "nll"]).run()
    # As declared, and not as chosen.
    assert list(ranking_table(sound(test)).proto.column_order)[7:10] == ["nll", "entropy", "region"]
    look = json.loads(ranking_table(test).proto.columns)["entropy"]
    assert look["label"] == "Predictive entropy"
    assert look["help"] == f"{MEASURES['entropy'].help} [nats]"


def test_a_run_from_before_there_were_measures_is_shown_without(app: Open, own: Home) -> None:
    ScoreFiles(own.run.directory).measures.unlink()
    test = app(own.path, "difficulty", run=own.run.id)
    assert len(ranking_table(test).value) == 24
    parts = [measure.title for measure in PART_MEASURES.values()]
    assert test.multiselect(key="ranking_measures").options == ["Training frequency", *parts]
    assert test.selectbox(key="map_axis").options == [
        "Relative standard error (SE / MRD)",
        "Mean log-probability [nats per token]",
        "Training frequency",
        *parts,
    ]


def test_the_page_states_how_far_the_ranking_can_be_trusted(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    summary = finished.run.summary
    assert summary is not None
    figures = {metric.label: metric.value for metric in test.metric}
    assert figures["Samples"] == "24"
    assert figures["Median relative SE"] == f"{summary['median_relative_se']:.1%}"
    assert figures["Reliability, sum"] == f"{summary['reliability_sum']:.3f}"
    assert [warning.value for warning in test.warning] == summary["warnings"]
    panel = next(table.value for table in test.dataframe if "Spearman–Brown" in table.value)
    np.testing.assert_allclose(panel["Spearman–Brown"], [summary["reliability_mean"], summary["reliability_sum"]])
    assert "**Precision gate** :material/check_circle: passed" in texts(test)


def test_hidden_texts_are_in_no_download_and_on_no_table(
    app: Open, finished: Home, offered: dict[str, Any]
) -> None:
    samples = ScoredRun(finished.run.directory).samples
    test = app(finished.path, "difficulty", run=finished.run.id)
    assert {"csv", "parquet"} <= set(texts_in(offered, samples))
    offered.clear()
    test.toggle(key="hide_texts").set_value(True).run()
    assert texts_in(offered, samples) == []
    shown = pd.concat([table.value.astype(str) for table in sound(test).dataframe])
    assert not shown.isin(samples["answer"]).any(axis=None)
    assert list(pd.read_csv(io.StringIO(offered["csv"]()))["mrd"].rank()) == list(range(1, len(samples) + 1))


def test_the_hardest_stand_beside_the_easiest(app: Open, finished: Home) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    assert "Cliff’s δ" not in texts(test)
    test.session_state["ends"] = True
    sound(test.run())
    order = ranking_of(finished)
    ends = [list(found.value["sample_id"]) for found in test.dataframe if list(found.proto.column_order) == END]
    count = min(AT_AN_END, len(order) // 4)
    assert ends == [order[:count], order[: -count - 1 : -1]]


def test_all_charts_come_in_one_archive_with_plotly_once(
    app: Open, finished: Home, offered: dict[str, Any]
) -> None:
    app(finished.path, "difficulty", run=finished.run.id)
    with zipfile.ZipFile(io.BytesIO(offered["figures"]())) as archive:
        charts = ("difficulty_map", "distribution", "relative_se")
        assert sorted(archive.namelist()) == sorted(
            ["plotly.min.js", *(f"{chart}.{end}" for chart in charts for end in ("html", "json"))]
        )
        for chart in charts:
            page = archive.read(f"{chart}.html").decode()
            assert 'src="plotly.min.js"' in page
            assert len(page) < 200_000
            assert "http" not in page.replace("http://www.w3.org", "")
        points = json.loads(archive.read("difficulty_map.json"))["data"][0]["customdata"]
        assert {point[0] for point in points} == set(ranking_of(finished))


def test_scores_are_exported_whole(app: Open, finished: Home, offered: dict[str, Any]) -> None:
    test = app(finished.path, "difficulty", run=finished.run.id)
    test.text_input(key="search").set_value("did").run()
    expected = difficulty.ranking(ScoredRun(finished.run.directory), Variant())
    expected = expected.assign(
        bookmarked=False, sample_note="", formula="mrd", scope="answer", normalisation="mean"
    )
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(offered["parquet"]())), expected)
    from_csv = pd.read_csv(io.StringIO(offered["csv"]()))
    assert list(from_csv["answer"]) == list(expected["answer"])
    np.testing.assert_allclose(from_csv["mrd"], expected["mrd"])
    config = ScoreConfig.model_validate_json(offered["config"])
    assert config == read_config(finished.run.directory, ScoreConfig)
    figures = {"download_difficulty_map", "download_distribution", "download_relative_se"}
    assert figures <= {found.key for found in test.download_button}


def test_a_note_and_a_bookmark_stay_with_the_run_and_are_exported(
    app: Open, own: Home, offered: dict[str, Any]
) -> None:
    test = app(own.path, "difficulty", run=own.run.id)
    first, second = difficulty.ranking(ScoredRun(own.run.directory), Variant())["sample_id"][:2]
    test.text_input(key="sample_note").set_value("=memorised?").run()
    test.checkbox(key="bookmark").check().run()
    test.button(key="next").click().run()
    assert (test.text_input(key="sample_note").value, test.checkbox(key="bookmark").value) == ("", False)
    assert read_notes(own.run.directory) == {first: SampleNote(note="=memorised?", bookmarked=True)}
    exported = pd.read_parquet(io.BytesIO(offered["parquet"]())).set_index("sample_id")
    assert (exported.loc[first, "sample_note"], exported.loc[first, "bookmarked"]) == ("=memorised?", True)
    assert (exported.loc[second, "sample_note"], exported["bookmarked"].sum()) == ("", 1)
    # A spreadsheet must not carry it out.
    assert pd.read_csv(io.StringIO(offered["csv"]()))["sample_note"].iloc[0] == "'=memorised?"
    test.button(key="show_bookmarked").click().run()
    assert "1 of 24" in texts(sound(test))
    assert test.text_input(key="sample_note").value == "=memorised?"
    # Another session finds it there.
    again = app(own.path, "difficulty", run=own.run.id, sample=first)
    assert again.text_input(key="sample_note").value == "=memorised?"
    again.toggle(key="hide_texts").set_value(True).run()
    assert not pd.read_parquet(io.BytesIO(offered["parquet"]()))["sample_note"].str.contains("memorised").any()


def test_a_broken_file_of_notes_is_named(app: Open, own: Home) -> None:
    ScoreFiles(own.run.directory).notes.write_text('{"a": 1')
    assert "does not hold notes on samples" in texts(app(own.path, "difficulty", run=own.run.id))


def test_a_run_is_deleted_with_its_texts_after_a_question(app: Open, own: Home) -> None:
    test = app(own.path, "difficulty", run=own.run.id)
    test.button(key="delete").click().run()
    assert "This cannot be undone." in texts(test)
    assert [code.value for code in test.code][-1] == str(own.run.directory)
    assert own.run.directory.exists()
    # A dialog is a fragment, which runs alone only in a browser: here the page opens it once more.
    test.button(key="delete").click()
    test.button(key="really_delete").click().run()
    assert not own.run.directory.exists()
    assert own.store.list() == []
    assert own.store.events(own.run.id).empty
    assert "run" not in sound(test).query_params


def test_new_run_goes_back_to_the_form_and_forgets_the_filters(app: Open, own: Home) -> None:
    test = app(own.path, "difficulty", run=own.run.id)
    test.text_input(key="search").set_value("did").run()
    test.button(key="new_run").click().run()
    assert "Scores need a forget set." in texts(sound(test))
    assert "run" not in test.query_params
    test.query_params["run"] = own.run.id
    test.run()
    assert len(ranking_table(sound(test)).value) == 24


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.LOST])
def test_a_run_that_broke_down_shows_cause_and_way_out(app: Open, waiting: Any, state: RunState) -> None:
    store, run = waiting
    error = RunError("ValueError", "The <b>cause</b> is *this*.", "Do **that** next.", "Traceback: line 1")
    ended(store, run, state, error)
    test = app(store.home, "difficulty", run=run.id)
    shown = [text.value for text in test.text]
    assert "The run did not finish: The <b>cause</b> is *this*." in shown
    assert "→ Do **that** next." in shown
    assert f"{state}**" in texts(test)
    assert test.button(key="resume")
    traceback = next(expander for expander in test.expander if expander.label == "Traceback")
    assert not traceback.proto.expanded
    assert traceback.code[0].value == "Traceback: line 1"


def test_a_cancelled_run_can_be_resumed_to_its_end(app: Open, waiting: Any) -> None:
    store, run = waiting
    assert store.request_cancel(run.id) is RunState.CANCELLED
    test = app(store.home, "difficulty", run=run.id)
    assert "This run was cancelled" in texts(test)
    test.button(key="resume").click().run()
    sound(test)
    assert store.get(run.id).attempt == 2
    assert finish(store, run.id) is RunState.SUCCEEDED
    test.run()
    assert len(ranking_table(sound(test)).value) == 3


def test_a_queued_run_shows_its_place(app: Open, waiting: Any) -> None:
    store, run = waiting
    store.set_progress(run.id, {"message": "waiting: place 2", "place": 2})
    test = app(store.home, "difficulty", run=run.id)
    assert "queued**" in texts(test)
    assert test.get("progress")[0].proto.text == "Waiting for cpu: place 2 in the queue"


def test_a_running_run_shows_progress_and_its_curve_and_can_be_cancelled(app: Open, waiting: Any) -> None:
    store, run = waiting
    store.claim(run, ProcessIdentity.current())
    store.transition(run.id, RunState.STARTING, expected=RunState.QUEUED)
    store.transition(run.id, RunState.RUNNING, expected=RunState.STARTING)
    store.set_progress(run.id, {"message": "Drawing", "done": 16, "total": 64, "eta_seconds": 200.0})
    store.add_metrics(run.id, 16, {"reliability_sum": 0.9, "reliability_mean": 0.5, "median_relative_se": 0.1})
    test = app(store.home, "difficulty", run=run.id)
    progress = test.get("progress")[0].proto
    assert progress.text == "Drawing: 16 of about 64 passes, 3 min left"
    assert progress.value == 25
    assert curve_steps(test) == [16]
    store.set_progress(run.id, {"message": "Measuring the baseline", "done": 0, "total": 64, "within": 0.352})
    test.run()
    assert test.get("progress")[0].proto.text == "Measuring the baseline … · 35% of a pass"
    usual = {"message": "Drawing", "done": 17, "total": 192, "likely": 34, "is_most": True}
    store.set_progress(run.id, usual | {"eta_seconds": 20.0})
    test.run()
    progress = test.get("progress")[0].proto
    assert (progress.text, progress.value) == ("Drawing: 17 of at most 192 passes, 20 s left", 50)
    # What comes after the last draw counts nothing.
    store.set_progress(run.id, {"message": "Measuring", "done": 56, "total": 56, "within": 0.5})
    test.run()
    assert test.get("progress")[0].proto.text == "Measuring … · 50% of a pass"
    store.add_metrics(run.id, 24, {"reliability_mean": 0.6})
    test.run()
    assert curve_steps(test) == [16, 24]
    test.button(key="cancel").click().run()
    assert store.get(run.id).state is RunState.CANCELLING
    test.run()
    assert "Stopping after the batch in flight …" in texts(sound(test))


def curve_steps(test: AppTest) -> list[int]:
    """Return the evaluations at which the curve of the mean's reliability has points."""
    lines = json.loads(test.get("plotly_chart")[0].proto.spec)["data"]
    return list(map(int, numbers(next(line["x"] for line in lines if line["name"] == "Reliability, mean"))))


def test_a_live_run_that_ends_is_replaced_by_its_results(app: Open, own: Home) -> None:
    config = read_config(own.run.directory, ScoreConfig)
    run = submitted(own.store, own.path, config)
    test = app(own.path, "difficulty", run=run.id)
    assert test.button(key="cancel")
    for file in own.run.directory.iterdir():
        (run.directory / file.name).write_bytes(file.read_bytes())
    ended(own.store, run, RunState.SUCCEEDED, summary=own.run.summary)
    test.run()
    assert len(ranking_table(sound(test)).value) == 24


def test_a_name_that_looks_like_markup_stays_text(app: Open, own: Home) -> None:
    title = "**b** $x^2$ <img src=x onerror=alert(1)> :red[r].jsonl on the demo model"
    run = own.store.create("score", title, "cpu", own.run.directory.parent / "other")
    own.run.directory.rename(run.directory)
    ended(own.store, run, RunState.SUCCEEDED, summary=own.run.summary)
    test = app(own.path, "difficulty", run=run.id)
    assert "&lt;img src=x onerror=alert(1)&gt;" in texts(test)
    assert all(title not in element.value for kind in (test.header, test.markdown) for element in kind)
    assert "<img" not in texts(test)


def form(app: Open, home: Path) -> AppTest:
    """Return the form with the demo at hand."""
    test = app(home)
    button(test, "Use the demo").click().run()
    return sound(test)


def shown_config(test: AppTest) -> ScoreConfig:
    """Return the config.json that the form shows."""
    return ScoreConfig.model_validate_json(next(code.value for code in test.code if code.language == "json"))


def test_score_launches_a_worker_and_the_page_picks_up_its_result(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "forget_set")
    test.segmented_control(key="source").set_value("File or folder").run()
    test.text_input(key="forget_set_path").set_value(str(write_demo_rows(tmp_path / "forget.jsonl", 3)))
    button(test, "Read").click().run()
    go(test, "difficulty")
    test.text_input(key="score_EstimatorConfig_sigma_Recommended").set_value("0.001")
    test.number_input(key="score_EstimatorConfig_draws_Recommended").set_value(4).run()
    test.button(key="score").click().run()
    sound(test)
    store = RunStore.open(settings_for(tmp_path))
    (run,) = store.list()
    assert test.query_params["run"] == run.id
    config = read_config(run.directory, ScoreConfig)
    assert (config.estimator.draws, config.check) == (4, True)
    assert finish(store, run.id) is RunState.SUCCEEDED
    test.run()
    assert len(ranking_table(sound(test)).value) == 3
    # The check follows by itself.
    deadline = time.monotonic() + PATIENCE
    while not (checks := store.list(kinds=("validity",), score_run=run)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    test.run()
    assert "Being looked at: does the ranking foretell how many updates forgetting takes?" in texts(sound(test))
    assert finish(store, checks[0].id) is RunState.SUCCEEDED
    test.run()
    assert "Being looked at" not in texts(sound(test))
    assert "Cannot tell whether MRD predicts updates: 3 samples are not enough" in texts(test)


@pytest.mark.parametrize("check", [True, False])
def test_a_check_that_has_not_begun_when_the_ranking_is_there_is_waited_for(
    app: Open, own: Home, check: bool
) -> None:
    config = read_config(own.run.directory, ScoreConfig).model_copy(update={"check": check})
    write_config(own.run.directory, config)
    test = app(own.path, "difficulty", run=own.run.id)
    assert ("About to be looked at" in texts(sound(test))) is check
    submit(short_check.of(config, own.run.directory), store=own.store, settings=settings_for(own.path))
    test.run()
    assert "About to be looked at" not in texts(sound(test))
    assert "Being looked at" in texts(test)


@pytest.mark.parametrize(("seconds", "is_on"), [(179.0, True), (181.0, False), (None, False)])
def test_the_check_is_made_unless_it_takes_long_or_nobody_knows_how_long(
    app: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None, is_on: bool
) -> None:
    monkeypatch.setattr("mrd_core.experiments.short_check.seconds", lambda *_: seconds)
    test = form(app, tmp_path)
    assert shown_config(test).check is is_on
    (toggle,) = (toggle for toggle in test.toggle if toggle.key.startswith("score_check"))
    toggle.set_value(not is_on).run()
    assert shown_config(sound(test)).check is not is_on
    assert ("--check" in next(code.value for code in test.code if code.language == "bash")) is not is_on
    test.segmented_control(key="preset").set_value("Preview").run()
    assert shown_config(sound(test)).check is False


def test_the_form_states_the_cost(app: Open, tmp_path: Path) -> None:
    test = form(app, tmp_path)
    assert "Estimated cost: 24 forward evaluations (at most 192); about" in texts(test)
    (caption,) = [caption for caption in test.caption if "Estimated cost" in caption.value]
    assert "GiB" in caption.value
    assert "baseline 2.5" in caption.help
    assert "draws 24, probes 10" in caption.help
    test.segmented_control(key="preset").set_value("Paper").run()
    assert "Estimated cost: 200 forward evaluations (at most 200)" in texts(sound(test))


def test_the_shown_command_does_what_the_form_says(app: Open, tmp_path: Path) -> None:
    test = form(app, tmp_path)
    test.segmented_control(key="preset").set_value("Paper").run()
    test.text_input(key="score_EstimatorConfig_sigma_Paper").set_value("0.00012345678")
    test.number_input(key="score_EstimatorConfig_seed").set_value(7)
    test.selectbox(key="score_EstimatorConfig_scope").set_value("full")
    test.toggle(key="score_ModelConfig_closes_texts").set_value(True)
    test.date_input(key="score_ModelConfig_date").set_value(date(2024, 2, 29))
    test.selectbox(key="score_ModelConfig_dtype").set_value("float64").run()
    shown = shown_config(sound(test))
    assert shown.estimator == EstimatorConfig.paper(sigma=0.00012345678, seed=7, scope="full")
    assert shown.model == ModelConfig(dtype="float64", date=date(2024, 2, 29), closes_texts=True)
    command = next(code.value for code in test.code if code.language == "bash")
    assert read_back(command) == shown.model_copy(update={"forget_set_digest": None})


def test_the_form_offers_a_preview_without_noise(app: Open, tmp_path: Path) -> None:
    test = form(app, tmp_path)
    test.segmented_control(key="preset").set_value("Preview").run()
    assert "Estimated cost: sign probes alone; about" in texts(sound(test))
    assert not [found for found in test.text_input if "sigma" in (found.key or "")]
    shown = shown_config(test)
    assert shown.estimator == EstimatorConfig(preview=True)
    command = next(code.value for code in test.code if code.language == "bash")
    assert "--preview" in command
    assert read_back(command) == shown.model_copy(update={"forget_set_digest": None})


@pytest.fixture(scope="module")
def previewed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A preview of a few rows."""
    path = tmp_path_factory.mktemp("previewed")
    source = ForgetSetConfig(source=str(write_demo_rows(path / "rows.jsonl", 6)))
    estimator = EstimatorConfig(preview=True, workers=1)
    return scored(path, ScoreConfig(forget_set=source, estimator=estimator))


def test_a_preview_is_ranked_by_speed_and_spread_and_says_so(app: Open, previewed: Home) -> None:
    test = app(previewed.path, "difficulty", run=previewed.run.id)
    shown = ranking_table(test)
    assert list(shown.value["sample_id"]) == ranking_of(previewed)
    assert shown.value["speed_and_spread"].is_monotonic_increasing
    assert "Preview: speed + spread, not MRD." in texts(test)
    assert "preview: speed + spread" in texts(test)
    assert not [chart for chart in test.get("plotly_chart") if "MRD" in chart.proto.spec]
    test.segmented_control(key="view_normalisation").set_value("sum").run()
    assert list(ranking_table(sound(test)).value["sample_id"]) == ranking_of(
        previewed, Variant(normalisation=Normalisation.SUM)
    )


def test_a_sample_is_taken_apart_token_by_token_on_a_click(app: Open, previewed: Home) -> None:
    test = app(previewed.path, "difficulty", run=previewed.run.id)
    assert "A preview tells nothing of single tokens" in texts(test)
    test.button(key="exact").click().run()
    (taken,) = previewed.store.list(kinds=("token-parts",), score_run=previewed.run)
    assert finish(previewed.store, taken.id) is RunState.SUCCEEDED
    assert "Speed is exact here" in texts(sound(test.run()))
    assert test.segmented_control(key="token_part").options == ["Speed", "Spread"]


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("characteristics", "is a preview: speed + spread, not MRD."),
        ("evidence", "is a preview: speed + spread, not MRD."),
        ("unlearning", "These scores are a preview: speed + spread, not MRD."),
    ],
)
def test_pages_that_need_mrd_say_of_a_preview_that_it_is_one(
    app: Open, previewed: Home, page: str, sentence: str
) -> None:
    assert sentence in texts(app(previewed.path, page, run=previewed.run.id))


@pytest.mark.parametrize("sigma", ["2", "-1", "loud", "nan", ""])
def test_a_sigma_that_cannot_be_is_refused_in_words(app: Open, tmp_path: Path, sigma: str) -> None:
    test = form(app, tmp_path)
    test.text_input(key="score_EstimatorConfig_sigma_Recommended").set_value(sigma).run()
    assert ("sigma = " if sigma else "sigma: ") in texts(sound(test))
    assert "→ Correct it in the estimator options." in texts(test)
    assert not [found for found in test.button if found.key == "score"]


def test_what_was_set_survives_a_visit_to_another_page(app: Open, tmp_path: Path) -> None:
    test = form(app, tmp_path)
    test.segmented_control(key="preset").set_value("Paper").run()
    test.text_input(key="score_EstimatorConfig_sigma_Paper").set_value("0.0002")
    test.number_input(key="score_EstimatorConfig_draws_Paper").set_value(64)
    test.number_input(key="score_EstimatorConfig_seed").set_value(11)
    test.selectbox(key="score_EstimatorConfig_normalisation").set_value("sum").run()
    before = shown_config(sound(test))
    assert before.estimator.seed == 11
    go(test, "start")
    assert shown_config(go(test, "difficulty")) == before


@pytest.mark.parametrize("kind", ["Folder or GGUF file", "Hub id"])
def test_a_model_outside_the_allowed_folders_is_refused(app: Open, tmp_path: Path, kind: str) -> None:
    outside = tmp_path.parent / "outside"
    outside.mkdir(exist_ok=True)
    test = form(app, tmp_path)
    test.segmented_control(key="model_kind").set_value(kind).run()
    assert "Name a model to go on." in texts(test)
    test.text_input(key=f"model_{kind}").set_value(str(outside)).run()
    assert "lies outside the folders that this app may read" in texts(sound(test))
    assert "MRD_ALLOWED_ROOTS" in texts(test)


def test_a_hub_model_has_no_estimated_time(app: Open, tmp_path: Path) -> None:
    test = form(app, tmp_path)
    test.segmented_control(key="model_kind").set_value("Hub id").run()
    test.text_input(key="model_Hub id").set_value("org/some-model").run()
    assert "the model's size is known once it is downloaded" in texts(sound(test))
    assert shown_config(test).model.source == "org/some-model"


def test_a_local_model_is_stored_by_its_full_path(app: Open, tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    test = form(app, tmp_path)
    test.segmented_control(key="model_kind").set_value("Folder or GGUF file").run()
    test.text_input(key="model_Folder or GGUF file").set_value(f"{tmp_path}/x/../my model").run()
    assert shown_config(sound(test)).model.source == str(folder)


def test_a_model_that_is_no_safetensors_is_named(app: Open, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs")
    test = form(app, tmp_path)
    test.segmented_control(key="model_kind").set_value("Folder or GGUF file").run()
    test.text_input(key="model_Folder or GGUF file").set_value(str(tmp_path)).run()
    assert "it does not begin as a safetensors file does." in texts(sound(test))


def test_a_run_whose_files_are_gone_is_explained(app: Open, own: Home) -> None:
    for file in own.run.directory.iterdir():
        file.unlink()
    test = app(own.path, "difficulty", run=own.run.id)
    assert "A run directory needs a readable config.json" in texts(test)
