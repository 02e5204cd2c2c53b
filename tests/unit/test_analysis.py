"""Analysis: the ranking and its trust from the draws of a run on disk, and figures that read well."""

from __future__ import annotations

import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import difficulty
from analysis.difficulty import ScoredRun, Variant
from analysis.figures import difficulty as figures
from analysis.figures.theme import COLOURS, UNSEEN
from analysis.statistics.bootstrap import Estimate
from mrd_core.errors import UserError
from mrd_core.runs.files import write_atomically
from mrd_core.samples import Table, to_forget_set
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.draws import Draws, Precision, reliability, scores
from mrd_core.scoring.files import ScoreFiles
from tests.conftest import REPOSITORY

IDS = ("d", "b", "a", "c", "none")
# Mean relative change of each sample; b and a tie, and nothing of the last one could be scored.
CENTRES = np.array([-0.9, 0.2, -0.2, 0.5, 0.0])
TOKENS = np.array([[2, 9], [1, 3], [4, 5], [3, 7], [0, 0]])


def draws_of(centres: np.ndarray, tokens: np.ndarray, ids: tuple[str, ...], pairs: int = 8) -> Draws:
    """Return antithetic draws whose Σ ΔP/P is `centres` × tokens on average, exactly."""
    generator = np.random.default_rng(3)
    noise = generator.normal(size=(2 * pairs, len(centres), 2, 1)) * 0.05
    noise -= noise.mean(axis=0)
    sums = centres[:, None, None] * tokens[:, :, None] * np.array([2.0, 1.0, 1.5])
    return Draws(ids, sums + noise * tokens[:, :, None], tokens, "antithetic")


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """The files of a finished run of five samples."""
    files = ScoreFiles(tmp_path)
    draws = draws_of(CENTRES, TOKENS, IDS)
    write_atomically(files.draws, draws.save)
    rows = {
        "id": IDS,
        "question": [f"question {name}" for name in IDS],
        "answer": ["(.*)", "Ann [sic]", "ann", "a+b", "?"],
        "training_count": [1, 2, 3, 4, None],
    }
    frame = pd.DataFrame(rows).astype(object)
    frame = frame.where(frame.notna(), None)
    to_forget_set(Table("rows", frame), ForgetSetConfig(source="rows")).save(files.samples)
    measured = pd.DataFrame(
        {
            "sample_id": IDS,
            "excluded_tokens_answer": 0,
            "mean_log_prob_answer": -np.arange(5.0),
            "excluded_tokens_full": 1,
            "mean_log_prob_full": -np.arange(5.0, 10.0),
            "truncated": False,
            "mrd": 0.0,
        }
    )
    measured.to_parquet(files.scores)
    tokens = pd.DataFrame({"sample_id": ["a", "b", "b"], "position": [0, 0, 1], "piece": ["x", "y", "z"]})
    tokens.to_parquet(files.tokens)
    return tmp_path


def table_of(count: int, seed: int = 0) -> pd.DataFrame:
    """Return a ranking of `count` invented samples."""
    generator = np.random.default_rng(seed)
    mrd = np.sort(generator.gamma(3, 0.01, count))
    return pd.DataFrame(
        {
            "rank": np.arange(1, count + 1),
            "sample_id": [f"s{i}" for i in range(count)],
            "mrd": mrd,
            "mrd_se": mrd / 20,
            "mrd_low": mrd * 0.9,
            "mrd_high": mrd * 1.1,
            "relative_se": generator.gamma(2, 0.02, count),
            "n_tokens": 7,
            "mean_log_prob": -generator.gamma(2, 1, count),
            "prompt": "Who?",
            "answer": "Ann.",
        }
    )


def test_measures_stand_beside_samples_and_give_way_to_their_own_columns(tmp_path: Path) -> None:
    table = table_of(4).assign(training_count=[1, 2, 3, 4])
    pd.testing.assert_frame_equal(difficulty.beside(table, ScoredRun(tmp_path)), table)
    measured = {"sample_id": ["s3", "s0", "s1"], "nll": [3.0, 0.0, 1.0], "gradient_norm": np.nan}
    pd.DataFrame(measured | {"training_count": 9.0}).to_parquet(ScoreFiles(tmp_path).measures)
    found = difficulty.beside(table, ScoredRun(tmp_path))
    np.testing.assert_array_equal(found["nll"], [0, 1, np.nan, 3])
    assert list(found["training_count"]) == [1, 2, 3, 4]
    assert [measure.name for measure in difficulty.measures_in(found)] == ["nll", "training_count"]


def test_the_map_of_a_measure_that_spans_decades_has_a_logarithmic_axis_and_plain_corners() -> None:
    table = table_of(8).assign(nll=np.logspace(-3, 0, 8), entropy=np.linspace(0.0, 2.0, 8))
    wide, narrow = (figures.difficulty_map(table, name, None, title=name) for name in ("nll", "entropy"))
    assert (wide.layout.yaxis.type, narrow.layout.yaxis.type) == ("log", "linear")
    assert [note.text for note in wide.layout.annotations] == ["hard", "easy"]
    assert wide.layout.shapes[1].y0 == table["nll"].median()


def test_a_tie_is_said_with_its_interval_and_one_that_is_undefined_with_the_reason() -> None:
    assert (
        figures.tie_in_words(Estimate(-0.25, -0.4, 0.1), "A with B")
        == "A with B: Spearman’s ρ = −0.25 [−0.40, +0.10]."
    )
    assert "does not vary" in figures.tie_in_words(Estimate(np.nan, np.nan, np.nan), "A with B")


def all_figures(table: pd.DataFrame) -> list[Any]:
    """Return every figure that is drawn of a ranking."""
    first = str(table["sample_id"].iloc[0])
    return [
        figures.distribution(table),
        figures.difficulty_map(table, "relative_se", first),
        figures.difficulty_map(table, "mean_log_prob", first),
        figures.relative_se_histogram(table),
    ]


def test_the_smallest_score_comes_first_ties_by_id_and_undefined_ones_last(run_directory: Path) -> None:
    table = difficulty.ranking(ScoredRun(run_directory), Variant())
    assert list(table["sample_id"]) == ["a", "b", "c", "d", "none"]
    assert list(table["rank"]) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(table["mrd"], [0.2, 0.2, 0.5, 0.9, np.nan])
    assert table["region"].iloc[-1] == "undefined"


def test_a_ranking_has_the_columns_that_it_promises(run_directory: Path) -> None:
    promised = {
        *("rank", "sample_id", "mrd", "mrd_se", "mrd_low", "mrd_high", "relative_se", "n_tokens"),
        *(
            "excluded_tokens",
            "mean_log_prob",
            "truncated",
            "region",
            "prompt",
            "answer",
            "split",
            "training_count",
        ),
    }
    assert promised <= set(difficulty.ranking(ScoredRun(run_directory), Variant()).columns)


def test_a_ranking_joins_each_score_with_its_own_text(run_directory: Path) -> None:
    table = difficulty.ranking(ScoredRun(run_directory), Variant()).set_index("sample_id")
    assert table.loc["c", "answer"] == "a+b"
    assert table.loc["c", "training_count"] == 4
    assert table.loc["c", "mean_log_prob"] == -3
    assert table.loc["c", "n_tokens"] == 3


def test_another_variant_is_another_ranking(run_directory: Path) -> None:
    by_sum = difficulty.ranking(ScoredRun(run_directory), Variant(normalisation=Normalisation.SUM))
    assert list(by_sum["sample_id"]) == ["b", "a", "c", "d", "none"]
    np.testing.assert_allclose(by_sum["mrd"], [0.2, 0.8, 1.5, 1.8, np.nan])
    full = difficulty.ranking(ScoredRun(run_directory), Variant(Scope.FULL, Normalisation.SUM)).set_index(
        "sample_id"
    )
    assert full.loc["d", "mrd"] == pytest.approx(8.1)
    assert full.loc["d", "n_tokens"] == 9


@pytest.mark.parametrize("formula", list(Formula))
@pytest.mark.parametrize("scope", list(Scope))
def test_every_variant_ranks_by_the_scores_of_the_draws(
    run_directory: Path, scope: Scope, formula: Formula
) -> None:
    variant = Variant(scope, Normalisation.MEAN, formula)
    expected = scores(Draws.load(ScoreFiles(run_directory).draws), scope, Normalisation.MEAN, formula)
    table = difficulty.ranking(ScoredRun(run_directory), variant).set_index("sample_id").loc[list(IDS)]
    np.testing.assert_array_equal(table["mrd"], expected["mrd"])
    np.testing.assert_array_equal(table["mrd_low"], expected["mrd_low"])


def test_trust_is_what_the_draws_say(run_directory: Path) -> None:
    draws = Draws.load(ScoreFiles(run_directory).draws)
    found = difficulty.trust(ScoredRun(run_directory), Variant())
    reached = Precision.of(draws, Scope.ANSWER)
    assert found.median_relative_se == reached.median_relative_se
    assert found.p90_relative_se == reached.p90_relative_se
    assert found.reliability == {
        Normalisation.MEAN: reached.reliability_mean,
        Normalisation.SUM: reached.reliability_sum,
    }
    lengths = TOKENS[:, 0].astype(float)
    for normalisation in Normalisation:
        units = draws.units(Scope.ANSWER, normalisation)
        assert found.length_partialled[normalisation] == reliability(units, lengths)


def test_trust_in_another_formula_uses_its_own_errors(run_directory: Path) -> None:
    variant = Variant(formula=Formula.MEAN_ABSOLUTE)
    errors = difficulty.ranking(ScoredRun(run_directory), variant)["relative_se"].dropna()
    assert difficulty.trust(ScoredRun(run_directory), variant).median_relative_se == pytest.approx(
        float(errors.median())
    )


def test_regions_split_the_map_at_its_medians() -> None:
    table = pd.DataFrame({"mrd": [1.0, 2.0, 3.0, 4.0, np.nan], "relative_se": [0.1, 0.4, 0.1, 0.4, np.nan]})
    assert list(difficulty.regions(table)) == [
        "hard, sure",
        "hard, less sure",
        "easy, sure",
        "easy, less sure",
        "undefined",
    ]
    known = difficulty.regions(table.assign(exact_memorization=[0.49, 0.5, 1.0, 0.0, 0.0]))
    assert list(known) == ["not known", "hard, less sure", "easy, sure", "not known", "undefined"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(.*)", {"d"}),
        ("[sic]", {"b"}),
        ("ANN", {"a", "b"}),
        ("question c", {"c"}),
        ("a+b", {"c"}),
        ("", set(IDS)),
    ],
)
def test_a_search_is_taken_literally_and_ignores_case(run_directory: Path, text: str, found: set[str]) -> None:
    table = difficulty.ranking(ScoredRun(run_directory), Variant())
    assert set(difficulty.matching(table, text, None)["sample_id"]) == found


def test_a_search_narrows_what_was_chosen_on_the_map(run_directory: Path) -> None:
    table = difficulty.ranking(ScoredRun(run_directory), Variant())
    assert list(difficulty.matching(table, "ann", {"b", "c"})["sample_id"]) == ["b"]
    assert difficulty.matching(table, "", set()).empty


def test_tokens_are_those_of_the_sample(run_directory: Path) -> None:
    assert list(difficulty.tokens_of(run_directory, "b")["piece"]) == ["y", "z"]


@pytest.mark.parametrize("count", [1, 2, 240])
def test_every_figure_has_a_title_and_names_its_axes(count: int) -> None:
    for figure in all_figures(table_of(count)):
        assert figure.layout.title.text
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text


def test_axes_state_their_units() -> None:
    table = table_of(9)
    assert "[nats per token]" in figures.difficulty_map(table, "mean_log_prob", None).layout.yaxis.title.text
    assert "SE / MRD" in figures.difficulty_map(table, "relative_se", None).layout.yaxis.title.text
    assert "hard" in figures.distribution(table).layout.xaxis.title.text


def test_figures_of_undefined_scores_are_empty_and_whole() -> None:
    table = table_of(5)
    table[["mrd", "mrd_se", "mrd_low", "mrd_high", "relative_se"]] = np.nan
    histogram, by_error, by_probability, errors = all_figures(table)
    assert len(histogram.data[0].x) == len(errors.data[0].x) == 0
    assert len(by_error.data[0].x) == len(by_probability.data[0].x) == 0
    assert not by_error.layout.shapes


def test_points_of_the_map_carry_the_ids_that_a_click_selects() -> None:
    table = table_of(12).sample(frac=1, random_state=0)
    table.loc[table["rank"] == 4, "mrd"] = np.nan
    points = figures.difficulty_map(table, "relative_se", "s2").data[0]
    by_id = table.set_index("sample_id")["mrd"]
    assert len(points.customdata) == 11
    assert [by_id[row[0]] for row in points.customdata] == list(points.x)


def test_the_selected_sample_is_ringed() -> None:
    table = table_of(12)
    x, y = table.loc[5, "mrd"], table.loc[5, "relative_se"]
    ring = figures.difficulty_map(table, "relative_se", "s5").data[1]
    assert (list(ring.x), list(ring.y)) == ([x], [y])
    assert len(figures.difficulty_map(table, "relative_se", "gone").data[1].x) == 0


@pytest.mark.parametrize("axis", ["relative_se", "mean_log_prob", "nll"])
def test_the_ring_is_laid_over_the_points_of_the_map(axis: str) -> None:
    table = table_of(240).assign(nll=np.geomspace(0.001, 9, 240))
    points = figures.difficulty_map(table, axis, None, title=axis)
    over = figures.ring_over(points, table, axis, "s5")
    assert (list(over.data[0].x), list(over.data[0].y)) == ([table.loc[5, "mrd"]], [table.loc[5, axis]])
    for name in ("xaxis", "yaxis"):
        ends, mark = points.layout[name], over.layout[name]
        assert (ends.fixedrange, mark.range, mark.type) == (True, ends.range, ends.type)
        assert mark.tickfont.color == mark.title.font.color == UNSEEN
        values = np.asarray(points.data[0][name[0]])
        low, high = np.power(10.0, ends.range) if ends.type == "log" else ends.range
        assert low <= values.min() < values.max() <= high
    assert over.layout.margin == points.layout.margin
    assert not over.layout.shapes
    assert not over.layout.annotations


def test_the_regions_of_a_filtered_map_stay_where_they_are() -> None:
    whole = table_of(40)
    part = whole.head(6)
    line = figures.difficulty_map(part, "relative_se", None, whole).layout.shapes[0]
    assert line.x0 == whole["mrd"].median()
    named = [note.text for note in figures.difficulty_map(whole, "relative_se", None).layout.annotations]
    assert set(named) == {"hard, sure", "hard, less sure", "easy, sure", "easy, less sure"}


def test_few_points_show_their_intervals() -> None:
    table = table_of(8)
    bars = figures.difficulty_map(table, "relative_se", None).data[0].error_x
    np.testing.assert_allclose(bars.array, table["mrd_high"] - table["mrd"])
    np.testing.assert_allclose(bars.arrayminus, table["mrd"] - table["mrd_low"])
    assert figures.difficulty_map(table_of(200), "relative_se", None).data[0].error_x.array is None


def test_tags_in_ids_and_answers_are_only_text_on_hover() -> None:
    table = table_of(3)
    table["answer"] = '<a href="https://example.org">x</a> & <b>y</b>'
    table["sample_id"] = ["<i>0</i>", "s1", "s2"]
    points = figures.difficulty_map(table, "relative_se", None).data[0]
    shown = points.text[0].replace("<br>", "").removeprefix("<b>").replace("</b>", "", 1)
    assert "<" not in shown
    assert "&lt;i&gt;0&lt;/i&gt;" in points.text[0]
    assert " &amp; " in points.text[0]
    assert "customdata[0]" not in points.hovertemplate


def test_long_answers_are_cut_on_hover() -> None:
    table = table_of(1).assign(answer="word " * 700)
    assert len(figures.difficulty_map(table, "relative_se", None).data[0].text[0]) < 120


def test_a_map_of_fifty_thousand_samples_is_drawn_within_seconds() -> None:
    table = table_of(50_000)
    began = time.perf_counter()
    figure = figures.difficulty_map(table, "relative_se", "s7")
    figures.distribution(table)
    assert len(figure.data[0].x) == figures.MOST_POINTS
    assert figure.data[0].customdata[0][0] == "s0"
    assert figure.data[0].customdata[-1][0] == "s49999"
    assert figure.layout.title.subtitle.text == "1,000 of 50,000 samples, evenly along the ranking"
    assert len(figure.data[1].x) == 1, "the selected sample has its ring, drawn or not"
    assert time.perf_counter() - began < 5


def test_the_curve_draws_each_measure_against_the_passes() -> None:
    names = ("reliability_sum", "reliability_mean", "median_relative_se")
    metrics = pd.DataFrame(
        [(step, name, step / 100) for step in (16, 24) for name in (*names, "something_else")],
        columns=["step", "name", "value"],
    )
    figure = figures.precision_curve(metrics)
    assert len(figure.data) == len(names)
    assert all(list(line.x) == [16, 24] and list(line.y) == [0.16, 0.24] for line in figure.data)
    assert figure.layout.xaxis.title.text == "Forward passes"
    assert not figure.layout.annotations
    (enough,) = figures.precision_curve(metrics, enough=0.95).layout.annotations
    assert (enough.text, enough.y) == ("a reliability of 0.95 is enough", 0.95)


def test_figures_and_theme_share_one_palette() -> None:
    theme = tomllib.loads((REPOSITORY / ".streamlit/config.toml").read_text(encoding="utf-8"))["theme"]
    assert theme["chartCategoricalColors"] == list(COLOURS)


def test_a_run_of_one_sample_has_a_ranking_and_no_reliability(run_directory: Path) -> None:
    files = ScoreFiles(run_directory)
    draws = Draws.load(files.draws)
    alone = replace(draws, sample_ids=("c",), values=draws.values[:, 3:4], kept=draws.kept[3:4])
    write_atomically(files.draws, alone.save)
    table = difficulty.ranking(ScoredRun(run_directory), Variant())
    assert list(table["sample_id"]) == ["c"]
    assert table["region"].iloc[0] == "easy, sure"
    assert np.isnan(difficulty.trust(ScoredRun(run_directory), Variant()).reliability[Normalisation.MEAN])


def test_what_was_measured_follows_the_scope_that_is_looked_at(run_directory: Path) -> None:
    full = difficulty.ranking(ScoredRun(run_directory), Variant(scope=Scope.FULL)).set_index("sample_id")
    assert full.loc["c", "mean_log_prob"] == -8
    assert full["excluded_tokens"].tolist() == [1] * 5


def test_a_run_that_lost_its_results_says_which(run_directory: Path) -> None:
    (run_directory / "draws.parquet").unlink()
    with pytest.raises(UserError, match=r"has lost draws\.parquet"):
        difficulty.ranking(ScoredRun(run_directory), Variant())


def test_nothing_is_sure_in_a_run_that_is_mostly_noise() -> None:
    table = pd.DataFrame({"mrd": [1.0, 2.0, 3.0, 4.0], "relative_se": [0.4, 0.8, 1.5, 9.0]})
    assert list(difficulty.regions(table)) == ["hard, less sure"] * 2 + ["easy, less sure"] * 2
