"""Figures of the characteristics: what is drawn is what was measured, and no text of a user becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import About
from analysis.characteristics.judgement import Judgement, judged
from analysis.characteristics.runs import Characterised
from analysis.difficulty import Variant, regions
from analysis.features.feature import Bins
from analysis.figures import characteristics as figures
from analysis.figures import theme
from analysis.statistics.groups import Measured, compare_sets, rank_regression
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import Units

FEATURES = {
    "semantic_complexity": ("Semantic complexity", "", "quantiles"),
    "occurrences": ("Occurrences with near-duplicates", "occurrences", "counts"),
    "initial_probability": ("Initial probability", "", "quantiles"),
    "rare_words": ("Rare words", "words", "counts"),
    "association": ("Association with training texts", "", "quantiles"),
    "n_words": ("Length", "words", "counts"),
}
NASTY = "<script>alert(1)</script> & 'more' “of it” 😀 " + "a long answer that goes on " * 5


def about() -> About:
    """Return how the features of `characterised_set` came about."""
    described = {
        name: {"title": title, "unit": unit, "bins": bins, "direction": "more", "help": "", "group": name}
        for name, (title, unit, bins) in FEATURES.items()
    }
    return About(
        pipeline="en_mrd_small 1.0.0",
        pipeline_reason="no other English pipeline is installed",
        scheme="UD",
        attachment=(0.831, 0.794),
        config=CharacteristicsConfig(score_run=Path("scored"), corpus=ForgetSetConfig(source="texts/full.jsonl")),
        corpus_rows=400,
        features=described,
        undefined={name: 2 if name == "semantic_complexity" else 0 for name in FEATURES},
        training_averages={"occurrences": 1.5},
        complexity_parts=("mtld", "tree_depth"),
        complexity_left_out={"hdd": "defined for 9 % of the samples"},
        complexity_length_correlation=0.42,
        foreign={"de": 3},
        cautions=(),
        cut=1,
        seconds=4.2,
    )


def characterised_set(n: int = 60, answer: str = NASTY) -> Characterised:
    """Return a scored set in which complex samples are easy; one has no MRD, two no complexity."""
    generator = np.random.default_rng(3)
    features = pd.DataFrame(
        {
            "semantic_complexity": generator.normal(size=n),
            "occurrences": 1.0 + generator.poisson(0.6, n),
            "initial_probability": generator.beta(5, 2, n),
            "rare_words": generator.poisson(3, n).astype(float),
            "association": generator.beta(2, 5, n),
            "n_words": generator.integers(5, 60, n).astype(float),
        }
    )
    truth = 0.01 * np.exp(0.5 * generator.normal(size=n) + 0.6 * features["semantic_complexity"].to_numpy())
    units = truth * (1 + 0.05 * generator.normal(size=(16, n)))
    order = np.argsort(units.mean(axis=0))
    features, units = features.iloc[order].reset_index(drop=True), units[:, order]
    features.loc[[0, 1], "semantic_complexity"] = np.nan
    units[:, -1] = np.nan
    mrd = units.mean(axis=0)
    table = pd.DataFrame(
        {
            "rank": np.arange(1, n + 1),
            "sample_id": [f"forget-{at:03d}" for at in range(n)],
            "mrd": mrd,
            "mrd_se": 0.03 * mrd,
            "mrd_low": 0.94 * mrd,
            "mrd_high": 1.06 * mrd,
            "relative_se": generator.uniform(0.01, 0.05, n),
            "n_tokens": generator.integers(5, 80, n),
            "excluded_tokens": 0,
            "mean_log_prob": -generator.gamma(1, 1, n),
            "truncated": False,
            "prompt": "Who wrote it?",
            "answer": [f"{at} {answer}" for at in range(n)],
            "split": "forget",
            "training_count": pd.NA,
        }
    )
    table["region"] = regions(table)
    summed = units * table["n_tokens"].to_numpy()
    measured = {Normalisation.MEAN: Measured(Units.of(units)), Normalisation.SUM: Measured(Units.of(summed))}
    return Characterised(pd.concat([table, features], axis=1), about(), measured, Variant())


@pytest.fixture(scope="module")
def found() -> Characterised:
    """A scored set."""
    return characterised_set()


@pytest.fixture(scope="module")
def judgement(found: Characterised) -> Judgement:
    """What is concluded from it."""
    return judged(found, {})


def points(figure: go.Figure) -> list[go.Scatter]:
    """Return the traces that show samples."""
    return [trace for trace in figure.data if trace.type.startswith("scatter")]


def ids(figure: go.Figure) -> list[str]:
    """Return the ids of the samples that a figure shows."""
    return [row[0] for trace in points(figure) for row in trace.customdata]


def panel_of(found: Characterised, judgement: Judgement, selected: set[str] | None = None) -> go.Figure:
    """Return the panel of the first criterion."""
    claim = judgement.shown[0]
    return figures.panel(found.table, judgement.strata[claim.criterion.name], claim, selected)


def test_a_panel_shows_every_sample_of_a_group_that_has_an_mrd(found: Characterised, judgement: Judgement) -> None:
    figure = panel_of(found, judgement)
    shown = found.table.dropna(subset=["mrd", "semantic_complexity"])
    assert sorted(ids(figure)) == sorted(shown["sample_id"])
    by_id = found.table.set_index("sample_id")["mrd"]
    assert all(
        by_id[row[0]] == y for trace in points(figure) for row, y in zip(trace.customdata, trace.y, strict=True)
    )
    low, high = (len(trace.x) for trace in points(figure))
    assert list(figure.layout.xaxis.ticktext) == [f"simple<br>({low})", f"complex<br>({high})"]


def test_the_title_of_a_panel_gives_the_effect_its_interval_and_the_verdict(
    found: Characterised, judgement: Judgement
) -> None:
    difference = judgement.shown[0].comparison.difference
    title = panel_of(found, judgement).layout.title.subtitle.text
    assert f"difference +{difference.value:.3g} [{difference.low:.3g}, {difference.high:.3g}] · δ +0." in title
    assert "agrees with the paper" in title
    assert max(map(len, title.split("<br>"))) < 100


def test_boxes_hold_nothing_that_could_be_selected(found: Characterised, judgement: Judgement) -> None:
    boxes = [trace for trace in panel_of(found, judgement).data if trace.type == "box"]
    assert len(boxes) == 2
    assert all(trace.y is None and trace.customdata is None for trace in boxes)
    group = found.table[judgement.strata["semantic_complexity"] == "low"]["mrd"].dropna()
    assert boxes[0].median[0] == pytest.approx(group.median())
    assert boxes[0].mean[0] == pytest.approx(group.mean())


def test_a_sample_keeps_its_place_whatever_else_is_shown(found: Characterised, judgement: Judgement) -> None:
    claim = judgement.shown[0]
    half = found.table.iloc[::2]
    whole = panel_of(found, judgement)
    part = figures.panel(half, judgement.strata["semantic_complexity"].iloc[::2], claim, None)
    places = [
        {row[0]: x for trace in points(figure) for row, x in zip(trace.customdata, trace.x, strict=True)}
        for figure in (whole, part)
    ]
    assert places[1].items() <= places[0].items()
    assert len(places[1]) > 20


@pytest.mark.parametrize("selected", [{"forget-005", "forget-040", "of another run"}, set()])
def test_a_selection_stands_out_in_every_figure_of_samples(
    found: Characterised, judgement: Judgement, selected: set[str]
) -> None:
    titles = figures.axis_titles(found.about)
    for figure in (
        panel_of(found, judgement, selected),
        figures.scatter(found.table, "n_words", "association", titles, selected),
    ):
        chosen = {trace.customdata[at][0] for trace in points(figure) for at in trace.selectedpoints}
        assert chosen == selected - {"of another run"}


def test_without_a_selection_nothing_is_faded(found: Characterised, judgement: Judgement) -> None:
    assert all(trace.selectedpoints is None for trace in points(panel_of(found, judgement)))


def test_an_empty_group_leaves_the_other_one_to_be_seen(found: Characterised, judgement: Judgement) -> None:
    claim = replace(judgement.shown[0], comparison=None)
    strata = pd.Series("low", index=found.table.index)
    figure = figures.panel(found.table, strata, claim, None)
    assert "one group is empty" in figure.layout.title.subtitle.text
    assert list(figure.layout.xaxis.ticktext) == ["simple<br>(59)", "complex<br>(0)"]


def test_no_text_of_a_user_becomes_markup(found: Characterised, judgement: Judgement) -> None:
    name = "<b>set</b> & <a href='x'>more</a>"
    compared = compare_sets(*found.measured.values(), replicates=20)
    shown = (
        panel_of(found, judgement),
        figures.scatter(found.table, "n_words", "association", {}, None),
        figures.two_sets(found.table, found.table, (name, name), compared),
    )
    labels = [
        label for figure in shown for trace in points(figure) for label in (trace.name, *trace.text) if label
    ]
    assert len(labels) > 200
    assert all(set(re.findall("<.*?>", label)) <= {"<b>", "</b>", "<br>"} for label in labels)
    assert any("&lt;script&gt;" in label for label in labels)
    assert any(label.startswith("A: &lt;b&gt;set") for label in labels)


def test_many_points_are_drawn_by_the_graphics_card(found: Characterised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theme, "MOST_VECTOR_POINTS", 10)
    assert points(figures.scatter(found.table, "n_words", "association", {}, None))[0].type == "scattergl"


def test_the_heat_map_has_one_colour_scale_for_all_matrices_and_no_text_where_undefined() -> None:
    matrix = pd.DataFrame([[1.0, np.nan], [np.nan, 1.0]], columns=["mrd", "n_words"], index=["mrd", "n_words"])
    (trace,) = figures.heat_map(matrix, {"mrd": "MRD"}).data
    assert (trace.zmin, trace.zmax) == (-1, 1)
    assert trace.text.tolist() == [["1.00", ""], ["", "1.00"]]
    assert list(trace.x) == ["MRD", "n_words"]


def test_the_colours_of_a_scatter_are_clipped_at_its_percentiles(found: Characterised) -> None:
    table = found.table.assign(length=[10.0**at for at in np.linspace(0, 3, len(found.table))])
    figure = figures.scatter(table, "length", "association", {}, None)
    assert figure.data[0].marker.cmin == pytest.approx(table["mrd"].quantile(0.02))
    assert figure.data[0].marker.cmax == pytest.approx(table["mrd"].quantile(0.98))
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "linear")


def test_nothing_to_scatter_is_an_empty_figure(found: Characterised) -> None:
    table = found.table.assign(association=np.nan)
    assert ids(figures.scatter(table, "n_words", "association", {}, None)) == []


def test_the_regression_shows_each_term_alone_and_held(found: Characterised, judgement: Judgement) -> None:
    figure = figures.regression(judgement.regression, figures.feature_titles(found.about))
    alone, held = figure.data
    terms = judgement.regression.terms
    assert list(alone.x) == [term.alone.value for term in terms]
    ends = [x + up for x, up in zip(held.x, held.error_x.array, strict=True)]
    assert ends == pytest.approx([term.coefficient.high for term in terms])
    assert figure.layout.yaxis.ticktext[0] == "Length"


def test_a_regression_without_terms_says_so() -> None:
    nothing = rank_regression(
        pd.DataFrame(index=range(3)), pd.Series([1.0] * 3, name="n_words"), Measured(Units.of(np.eye(3)))
    )
    assert "no term could be fitted" in figures.regression(nothing, {}).layout.title.subtitle.text


def test_two_sets_are_two_rising_curves_up_to_one(found: Characterised) -> None:
    compared = compare_sets(found.measured[Normalisation.MEAN], found.measured[Normalisation.SUM], replicates=20)
    figure = figures.two_sets(found.table, found.table.iloc[:10], ("one", "two"), compared)
    assert [trace.name for trace in figure.data] == ["A: one (59)", "B: two (10)"]
    for trace in figure.data:
        assert trace.y[-1] == 1
        assert (np.diff(trace.x) >= 0).all()
        assert (np.diff(trace.y) > 0).all()
    assert figures.effect(compared) in figure.layout.title.subtitle.text


def test_bins_of_counts_hold_whole_numbers_and_the_threshold_parts_them() -> None:
    values = pd.Series([0.0, 0, 3, 3, 3, 4, np.nan])
    figure = figures.feature_histogram(values, "Rare words", "words", "counts", 3)
    (bar,) = figure.data
    assert list(bar.x) == [0, 1, 2, 3, 4]
    assert list(bar.y) == [2, 0, 0, 3, 1]
    assert figure.layout.shapes[0].x0 == 3.5
    assert figure.layout.annotations[0].text == "high: above 3"
    assert "6 samples, undefined for 1 more" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.title.text == "Rare words [words]"


def test_wide_counts_lose_no_sample() -> None:
    values = pd.Series(np.random.default_rng(0).integers(3, 5000, 300).astype(float))
    (bar,) = figures.feature_histogram(values, "Length", "words", "counts", np.nan).data
    assert sum(bar.y) == 300
    assert len(bar.y) <= figures.MOST_COUNT_BINS + 1


def test_bins_of_quantiles_have_equal_areas() -> None:
    values = pd.Series(np.random.default_rng(0).lognormal(size=1200))
    (bar,) = figures.feature_histogram(values, "Association", "", "quantiles", np.nan).data
    areas = np.array(bar.y) * np.array(bar.width)
    assert areas == pytest.approx(np.full(figures.QUANTILE_BINS, 1200 / figures.QUANTILE_BINS), abs=1)


@pytest.mark.parametrize("values", [[], [np.nan], [2.0, 2.0]])
@pytest.mark.parametrize("bins", ["counts", "quantiles"])
def test_a_histogram_of_nothing_or_of_one_value_is_drawn(values: list[float], bins: Bins) -> None:
    (bar,) = figures.feature_histogram(pd.Series(values, dtype=float), "Feature", "", bins, np.nan).data
    area = (np.array(bar.y) * np.array(bar.width)).sum()
    assert area == np.isfinite(values).sum()


def test_no_figure_sets_a_colour_that_the_theme_should(found: Characterised, judgement: Judgement) -> None:
    titles = figures.feature_titles(found.about)
    for figure in (
        panel_of(found, judgement),
        figures.heat_map(judgement.correlations, titles),
        figures.scatter(found.table, "n_words", "association", titles, None),
        figures.regression(judgement.regression, titles),
        figures.feature_histogram(found.table["n_words"], "Length", "words", "counts", 20),
    ):
        layout = figure.layout
        assert (layout.paper_bgcolor, layout.plot_bgcolor, layout.font.color, layout.title.font.color) == (
            None,
        ) * 4


def test_labels_are_cut_and_kept_on_one_line() -> None:
    assert theme.shortened("a\nb  c", 10) == "a b c"
    assert theme.shortened("abcdefghij", 5) == "abcd…"
