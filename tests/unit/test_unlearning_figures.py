"""Figures of unlearning runs: what is drawn is what was measured, live or done, alone or over each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.figures import theme
from analysis.figures import unlearning as figures
from analysis.unlearning.runs import efficiency, run_name, standing
from tests.unit.test_unlearning_analysis import curriculum, draws, summary

STEPS = 120
NASTY = "<img src=x onerror=alert(1)>"
OF_HISTORIES: list[Callable[[dict[str, pd.DataFrame]], go.Figure]] = [
    figures.losses,
    figures.forgotten_over_steps,
    figures.memorization,
    figures.learning_rate,
    figures.memory,
]
OF_STANDINGS: list[Callable[[dict[str, pd.DataFrame]], go.Figure]] = [
    figures.updates_by_tercile,
    figures.realised_against_share,
]


def run(seed: int = 0, steps: int = STEPS) -> pd.DataFrame:
    """Return the history of a run with a probe before the first step and at every 25th."""
    generator = np.random.default_rng(seed)
    step = np.arange(steps + 1)
    probe = step % 25 == 0
    table = pd.DataFrame(
        {
            "forget_nll": 0.05 + 0.03 * step + generator.gamma(1, 0.2, steps + 1),
            "retain_loss": 0.05 + generator.gamma(1, 0.05, steps + 1),
            "forgotten": np.minimum(step // 3, 40),
            "updates": 4 * step - step // 3,
            "accuracy": 1 - 0.6 * step / STEPS,
            "learning_rate": 1e-4,
            "memory_mb": 900.0,
        },
        index=pd.Index(step, name="step"),
    )
    table.loc[0] = np.nan
    retain = {"retain_nll": 0.05 + 0.002 * step, "retain_accuracy": 0.99 - 0.001 * step}
    return table.assign(**{name: np.where(probe, values, np.nan) for name, values in retain.items()})


def samples(n: int = 40, seed: int = 0) -> pd.DataFrame:
    """Return the standing of n samples, of which hard ones were updated more and a third is forgotten."""
    generator = np.random.default_rng(seed)
    table = curriculum(list(np.linspace(2, 1, n)))
    table["sample_id"] = [f"forget-{at:04d}" for at in range(n)]
    rows = [
        (step, f"forget-{at:04d}", 0.5, True, step == 3 and at % 3 == 0)
        for at in range(n)
        for step in range(1, 4 + int(generator.integers(3)) + at // 10)
    ]
    return standing(table, draws(*rows), "mrd_answer_mean")


def settings(n: int = 2) -> dict[str, pd.DataFrame]:
    """Return two seeds of each setting."""
    labels = ["GA", "GA + MRD", "GA, easy-to-hard"][:n]
    return {run_name(label, seed): run(seed) for label in labels for seed in (0, 1)}


def shown(figure: go.Figure, hover: str) -> list[Any]:
    """Return the traces whose hover text says so."""
    return [trace for trace in figure.data if hover in (trace.hovertemplate or "")]


def evaluated_runs() -> dict[str, pd.DataFrame]:
    """Return evaluations of two runs, of which one has no retain set."""
    steps = pd.Index([0, 20, 40], name="step")
    forget = pd.DataFrame({"completeness": [0.1, 0.5, 0.9], "forget_rouge": [1.0, 0.5, 0.2]}, index=steps)
    retain = {"utility": [1.0, 0.9, 0.8], "retain_rouge": [0.9, 0.8, 0.7]}
    return {run_name("GA", 0): forget.assign(**retain), run_name(NASTY, 0): forget}


def every_figure() -> list[go.Figure]:
    """Return each figure once, with text of a user in it that is markup."""
    runs, standings = settings() | {NASTY: run()}, {NASTY: samples().assign(sample_id=NASTY)}
    costs = efficiency([summary(), summary(NASTY)])
    return [
        *(draw(runs) for draw in OF_HISTORIES),
        *(draw(standings) for draw in OF_STANDINGS),
        figures.update_bars(standings[NASTY]),
        figures.evaluations(evaluated_runs()),
        figures.pareto(costs),
    ]


def test_a_redraw_keeps_the_zoom_and_themes_keep_their_background() -> None:
    for figure in every_figure():
        assert figure.layout.uirevision == "unlearning"
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None
        assert figure.layout.title.text


def test_no_text_of_a_user_becomes_markup() -> None:
    texts = []
    for figure in every_figure():
        for trace in figure.data:
            texts += [trace.name or "", trace.hovertemplate or "", *(trace.text if trace.text is not None else ())]
    tags = {tag for text in texts for tag in re.findall("<.*?>", text)}
    assert tags == {"<b>", "</b>", "<br>", "<extra>", "</extra>"}
    assert any("&lt;img" in text for text in texts)


def test_bars_show_the_escaped_id_and_hold_the_true_one() -> None:
    bars = figures.update_bars(samples().assign(sample_id=NASTY)).data[0]
    assert {row[0] for row in bars.customdata} == {NASTY}
    assert "customdata[0]" not in bars.hovertemplate
    places = [int(place) for place in re.findall(r"customdata\[(\d+)\]", bars.hovertemplate)]
    assert all("<" not in str(row[place]) for row in bars.customdata for place in places)


def test_evaluations_stand_at_their_steps_forget_above_retain_and_what_is_undefined_is_not_drawn() -> None:
    runs, figure = evaluated_runs(), figures.evaluations(evaluated_runs())
    drawn = [(trace.yaxis, list(trace.x), list(trace.y)) for trace in figure.data]
    for at, run in enumerate(runs.values()):
        columns = ("completeness", "forget_rouge", "utility", "retain_rouge")
        for place, column in enumerate(columns):
            values = run[column].tolist() if column in run else []
            axis = "y" if place < 2 else "y2"
            assert drawn[4 * at + place] == (axis, [0, 20, 40][: len(values)], values)


def test_runs_of_a_setting_look_alike_and_settings_differ_in_colour_and_dash() -> None:
    lines = figures.forgotten_over_steps(settings(3)).data
    looks = [(line.line.color, line.line.dash) for line in lines]
    assert looks[0::2] == looks[1::2]
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 3


def test_a_setting_has_one_entry_in_the_legend_and_a_run_that_is_alone_none() -> None:
    for draw in OF_HISTORIES:
        figure = draw(settings())
        entries = [trace.name for trace in figure.data if trace.showlegend]
        assert figure.layout.showlegend
        assert entries == ["GA", "GA + MRD"]
        assert {trace.legendgroup for trace in figure.data} == {"GA", "GA + MRD"}
        assert not draw({"GA, seed 0": run()}).layout.showlegend


def test_twenty_settings_have_twenty_looks() -> None:
    assert len(set(theme.styles(map(str, range(20))).values())) == 20


@pytest.mark.parametrize("draw", OF_HISTORIES)
def test_a_run_that_has_not_begun_is_an_empty_chart(draw: Callable[[dict[str, pd.DataFrame]], go.Figure]) -> None:
    empty = pd.DataFrame(index=pd.Index([], name="step", dtype="int64"))
    for figure in (draw({}), draw({"GA": empty})):
        assert all(trace.y is None or len(trace.y) == 0 for trace in figure.data)


@pytest.mark.parametrize("draw", OF_HISTORIES)
def test_no_line_has_more_than_two_thousand_points(
    draw: Callable[[dict[str, pd.DataFrame]], go.Figure],
) -> None:
    figure = draw({"GA": run(steps=9000)})
    lengths = [len(trace.y) for trace in figure.data]
    assert 1000 < max(lengths) <= 2000


def test_the_forget_loss_is_a_running_median_and_steps_show_behind_a_single_run() -> None:
    history = run()
    figure = figures.losses({"GA": history})
    (steps,), (line,) = shown(figure, "this step"), shown(figure, "forget %{y")
    np.testing.assert_array_equal(steps.y, history["forget_nll"].dropna())
    assert line.y[-1] == pytest.approx(np.median(history["forget_nll"].iloc[-20:]))
    assert not shown(figures.losses(settings()), "this step")
    assert not shown(figures.losses(settings()), "retain term")


def test_forget_and_retain_losses_stand_in_two_panels_over_the_same_steps() -> None:
    history = run()
    figure = figures.losses({"GA": history})
    assert figure.layout.xaxis.matches == "x2"
    (probe,), (term,) = shown(figure, "retain probe"), shown(figure, "retain term")
    assert probe.yaxis == term.yaxis == "y2"
    assert list(probe.x) == [0, 25, 50, 75, 100]
    np.testing.assert_array_equal(probe.y, history["retain_nll"].dropna())
    assert {trace.yaxis for trace in shown(figure, "forget ")} == {"y"}
    # A divergence or a distance of states is no NLL.
    assert not shown(figures.losses({"GA": history}, ["GA"]), "retain term")


def test_samples_forgotten_are_drawn_over_updates_too() -> None:
    history = run()
    (line,) = figures.forgotten_over_steps({"GA": history}, x="updates").data
    np.testing.assert_array_equal(line.x, history["updates"].dropna())
    np.testing.assert_array_equal(line.y, history["forgotten"].dropna())
    assert line.line.shape == "hv"


def test_memorization_shows_el_only_where_it_was_measured() -> None:
    history = run()
    assert not len(shown(figures.memorization({"GA": history}), "EL")[0].y)
    history.loc[[60, 90], "extraction"] = [0.4, 0.2]
    figure = figures.memorization({"GA": history})
    (points,) = shown(figure, "EL")
    assert dict(zip(points.x, points.y, strict=True)) == {60: 0.4, 90: 0.2}
    (retain,) = shown(figure, "retain MA")
    assert retain.yaxis == "y2"


@pytest.mark.parametrize("n", [40, 4000])
def test_every_sample_has_a_bar_at_its_rank_in_the_colour_of_its_state(n: int) -> None:
    table = samples(n)
    figure = figures.update_bars(table)
    bars, *explained = figure.data
    assert list(bars.x) == list(range(1, n + 1))
    assert list(bars.y) == table["updates"].tolist()
    assert [row[0] for row in bars.customdata] == table["sample_id"].tolist()
    colours = {entry.name.split(" (")[0]: entry.marker.color for entry in explained}
    assert list(bars.marker.color) == table["state"].map(colours).tolist()
    assert len(set(colours.values())) == 2
    assert (figure.layout.bargap, bars.width, bars.marker.line.width) == (0, 1, 0)


def test_the_bars_say_how_far_the_run_is() -> None:
    table = samples()
    found = figures.update_bars(table).layout.title.subtitle.text
    assert found == f"14 of 40 samples forgotten · {table['updates'].sum()} updates"


def test_boxes_hold_all_runs_of_their_setting_by_tercile() -> None:
    runs = {run_name("GA", 0): samples(), run_name("GA", 1): samples(seed=1), run_name("NPO", 0): samples()}
    figure = figures.updates_by_tercile(runs)
    assert [box.name for box in figure.data] == ["GA (2 runs)", "NPO"]
    assert [len(box.y) for box in figure.data] == [80, 40]
    assert figure.layout.boxmode == "group"
    assert list(figure.layout.xaxis.categoryarray) == ["hard", "middle", "easy"]
    hard = [y for x, y in zip(figure.data[1].x, figure.data[1].y, strict=True) if x == "hard"]
    assert hard == samples().query("tercile == 'hard'")["updates"].tolist()


def test_shares_lie_against_those_drawn_with_the_diagonal_through_all() -> None:
    table = samples()
    diagonal, points = figures.realised_against_share({"GA": table}).data
    assert list(diagonal.x) == list(diagonal.y) == [0, table["realised"].max()]
    np.testing.assert_array_equal(points.x, table["share"])
    np.testing.assert_array_equal(points.y, table["realised"])
    assert [row[0] for row in points.customdata] == table["sample_id"].tolist()


def test_before_the_first_draw_no_share_is_drawn() -> None:
    waiting = standing(curriculum([0.2, 0.1]), draws(), "mrd_answer_mean")
    assert not len(figures.realised_against_share({"GA": waiting}).data[1].x)
    assert list(figures.update_bars(waiting).data[0].y) == [0, 0]


def test_many_points_are_drawn_by_the_graphics_card() -> None:
    kinds = [figures.realised_against_share({"GA": samples(n)}).data[1].type for n in (40, 4000)]
    assert kinds == ["scatter", "scattergl"]


def costs() -> pd.DataFrame:
    """Return settings of two seeds: uniform, a better one, a dominated one, and one that met its limit."""
    placed = {
        "GA": (400, 0.9, {}),
        "GA + MRD": (300, 0.8, {}),
        "NPO": (450, 0.7, {}),
        "PO": (100, 0.99, {"stop_reason": "max-epochs"}),
    }
    return efficiency(
        [
            summary(label, seed, updates=updates + 10 * seed, retain_accuracy=retain, **more)
            for label, (updates, retain, more) in placed.items()
            for seed in (0, 1)
        ]
    )


def test_the_front_joins_the_settings_that_none_beats_and_that_forgot_everything() -> None:
    front = figures.pareto(costs()).data[0]
    assert list(zip(front.x, front.y, strict=True)) == [(305, 0.8), (405, 0.9)]


def test_each_setting_has_its_runs_and_one_mean() -> None:
    figure = figures.pareto(costs())
    means, marks = shown(figure, "mean of"), shown(figure, "forgotten (")
    assert [mean.x[0] for mean in means] == [405, 305, 455, 105]
    assert [list(mark.x) for mark in marks] == [[400, 410], [300, 310], [450, 460], [100, 110]]
    assert [all("open" in symbol for symbol in mark.marker.symbol) for mark in marks] == [False] * 3 + [True]
    assert [mark.marker.color for mark in marks] == [mean.marker.color for mean in means]


def test_runs_without_a_retain_set_have_no_place_in_the_trade_off() -> None:
    figure = figures.pareto(efficiency([summary(retain_accuracy=None, retain_nll=None)]))
    assert len(figure.data) == 1
    assert not len(figure.data[0].x)
