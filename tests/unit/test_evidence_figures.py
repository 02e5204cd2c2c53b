"""Figures of experiments: what is drawn is what was measured, in every state, without colour alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.evidence.kinds import evidence_of
from analysis.evidence.kinds.parameter_change import PREDICTORS, ParameterChange
from analysis.evidence.kinds.selection import Selection
from analysis.evidence.kinds.sensitivity import Sensitivity
from analysis.evidence.kinds.theorem import Theorem
from analysis.evidence.kinds.validity import Validity
from analysis.evidence.league import LENGTH, short_title, title
from analysis.evidence.measurements import read_measurements
from analysis.figures import evidence as figures
from analysis.figures import theme
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.runs.directory import write_config
from mrd_core.scoring.measures import MEASURES
from tests.support.evidence_experiments import (
    CAP,
    CHANGE,
    SELECTION,
    SENSITIVITY,
    THEOREM,
    VALIDITY,
    change_rows,
    every_experiment,
    experiment,
    sample_table,
    theorem_rows,
    unlearned,
)

NASTY = "<img src=x onerror=alert(1)>"
KINDS = (VALIDITY, CHANGE, SELECTION, SENSITIVITY, THEOREM)


@dataclass(frozen=True)
class Shown:
    """An experiment of each kind, judged."""

    validity: Validity
    change: ParameterChange
    selection: Selection
    sensitivity: Sensitivity
    theorem: Theorem

    def figures(self) -> list[go.Figure]:
        """Return each figure once."""
        return [
            *(draw for arm in self.validity.arms for draw in of_arm(self.validity, arm.name)),
            figures.agreement_map(self.validity.agreement),
            figures.change_histogram(self.change),
            *(figures.change_scatter(self.change, name) for name in PREDICTORS),
            *(figures.selection_strip(self.selection, "retain_accuracy", size) for size in ("single", "group")),
            *(draw(self.sensitivity, norm) for draw in OF_SENSITIVITY for norm in ("mean", "sum")),
            figures.theorem_scatter(self.theorem),
        ]


OF_SENSITIVITY = (figures.sigma_curve, figures.evaluations_curve)


def of_arm(validity: Validity, name: str) -> list[go.Figure]:
    """Return the figures of an arm."""
    arm = next(arm for arm in validity.arms if arm.name == name)
    return [
        figures.updates_against(arm, "mrd_answer_mean", arm.samples["sample_id"].iloc[0]),
        figures.league_plot(arm.league.table, arm.name),
        figures.predicted_against_observed(arm),
    ]


def read(folders: Sequence[Path]) -> Shown:
    """Judge an experiment of each kind."""
    return Shown(*(evidence_of(read_measurements(folder)) for folder in folders))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return read(every_experiment(tmp_path_factory.mktemp("experiments")))


def marks(figure: go.Figure) -> list[Any]:
    """Return the traces that say something on hover."""
    return [trace for trace in figure.data if trace.hovertemplate]


@pytest.mark.slow
def test_figures_have_titles_and_leave_the_background_to_the_theme(shown: Shown) -> None:
    for figure in shown.figures():
        assert figure.layout.title.text
        assert figure.layout.title.subtitle.text is not None
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None


def test_notes_break_where_a_narrow_box_would_cut_them(shown: Shown) -> None:
    for figure in shown.figures():
        lines = figure.layout.title.subtitle.text.split("<br>")
        assert max(map(len, lines)) <= theme.NOTE_WIDTH
        assert figure.layout.margin.t >= 78 + theme.NOTE_HEIGHT * (len(lines) - 1)


def test_experiments_that_have_not_begun_can_be_drawn(tmp_path: Path) -> None:
    for config in KINDS:
        (tmp_path / config.kind).mkdir()
        write_config(tmp_path / config.kind, config)
    empty = read([tmp_path / config.kind for config in KINDS])
    assert all(figure.layout.title.text for figure in empty.figures())


def test_censored_samples_are_open_triangles_at_the_cap(tmp_path: Path) -> None:
    table = sample_table(20)
    rows = [unlearned(name, CAP if at < 3 else 20 + at) for at, name in enumerate(table["sample_id"])]
    arm = judged_validity(tmp_path, VALIDITY, table, rows).arms[0]
    forgotten, censored, ring = figures.updates_against(arm, "nll", "s005").data
    assert [row[0] for row in censored.customdata] == ["s000", "s001", "s002"]
    assert set(censored.y) == {CAP}
    assert censored.marker.symbol.endswith("open")
    assert len(forgotten.x) == 17
    assert (ring.x[0], ring.y[0]) == (table["nll"][5], 25)


def judged_validity(
    folder: Path, config: ExperimentConfig, table: pd.DataFrame, rows: list[dict[str, Any]]
) -> Validity:
    found = evidence_of(read_measurements(experiment(folder / "run", config, table, rows)))
    assert isinstance(found, Validity)
    return found


def test_ids_are_escaped_on_hover_and_true_for_the_page(tmp_path: Path) -> None:
    table = sample_table(20).assign(sample_id=[NASTY, *(f"s{at:03d}" for at in range(1, 20))])
    rows = [unlearned(name, 20 + at) for at, name in enumerate(table["sample_id"])]
    arm = judged_validity(tmp_path / "validity", VALIDITY, table, rows).arms[0]
    traces = [*marks(figures.updates_against(arm, "nll")), *marks(figures.predicted_against_observed(arm))]
    theorem = [row | {"sample_id": NASTY} if row["sample_id"] == "s000" else row for row in theorem_rows()]
    proven = evidence_of(read_measurements(experiment(tmp_path / "theorem", THEOREM, table, theorem)))
    assert isinstance(proven, Theorem)
    traces += marks(figures.theorem_scatter(proven))
    assert any(row[0] == NASTY for trace in traces for row in trace.customdata)
    for trace in traces:
        assert "customdata[0]" not in trace.hovertemplate
        assert not any(re.search("<img", text) for text in trace.text)


def test_the_league_shows_every_measure_once_with_the_size_of_its_interval(shown: Shown) -> None:
    league = shown.validity.arms[0].league.table
    figure = figures.league_plot(league, "GA (AdamW)")
    drawn = {row[0]: (x, plus, minus) for trace in figure.data for row, x, plus, minus in bars(trace)}
    assert set(drawn) == set(league.dropna(subset=["rho"])["measure"])
    for row in league.dropna(subset=["rho"]).itertuples():
        size, plus, minus = drawn[row.measure]
        assert size == pytest.approx(abs(row.rho))
        ends = sorted((abs(row.low), abs(row.high)))
        low = 0 if row.low < 0 < row.high else ends[0]
        assert (size - minus, size + plus) == pytest.approx((low, ends[1]))
    # The best is on top, and each family has a mark of its own.
    assert figure.layout.yaxis.ticktext[-1].startswith(short_title(league["measure"].iloc[0]))
    symbols = [trace.marker.symbol for trace in figure.data]
    assert len(set(symbols)) == len(symbols)


def test_titles_for_axes_are_short_and_tell_all_measures_apart() -> None:
    short = [short_title(measure) for measure in MEASURES]
    assert len(set(short)) == len(MEASURES)
    assert max(map(len, short)) <= 31
    assert short_title("mrd_full_sum") == "MRD, all tokens (sum)"
    assert short_title(LENGTH) == title(LENGTH)


def bars(trace: Any) -> Any:
    return zip(trace.customdata, trace.x, trace.error_x.array, trace.error_x.arrayminus, strict=True)


def test_agreement_is_a_symmetric_matrix_with_its_figures(shown: Shown) -> None:
    pairs = shown.validity.agreement.pairs
    heat = figures.agreement_map(shown.validity.agreement).data[0]
    assert heat.z[0][1] == heat.z[1][0] == pytest.approx(pairs["rho"].iloc[0])
    assert heat.text[0][1] == f"{pairs['rho'].iloc[0]:.2f}"
    assert f"{pairs['low'].iloc[0]:.2f}" in heat.customdata[0][1]


def test_arms_differ_in_dash_and_mark(tmp_path: Path) -> None:
    rows = change_rows(sample_table(40), censored=lambda at: at < 2)
    both = rows + [row | {"method": "simnpo"} for row in rows]
    change = evidence_of(read_measurements(experiment(tmp_path / "run", CHANGE, sample_table(40), both)))
    assert isinstance(change, ParameterChange)
    lines = figures.change_histogram(change).data
    assert len({line.line.dash for line in lines}) == 2
    # A step at each end of a bin, whose heights hold every composite.
    assert sum(lines[0].y[1:-1:2]) == 40
    points = figures.change_scatter(change).data
    assert {trace.marker.symbol[0] for trace in points} == {"circle-open", "diamond-open"}
    assert {trace.marker.symbol[2] for trace in points} == {"circle", "diamond"}
    assert [row[0] for row in points[0].customdata][:3] == [0, 1, 2]


def test_a_selection_is_a_line_over_the_methods(shown: Shown) -> None:
    figure = figures.selection_strip(shown.selection, "retain_accuracy", "group")
    assert len(figure.data) == 10
    first = figure.data[0]
    assert list(first.x) == ["GA<br>(AdamW)", "SimNPO<br>(AdamW)"]
    assert list(first.y) == [0.9, 0.8]
    assert first.customdata[0][0] == 0


def test_a_floor_is_drawn_as_mrd_is_and_the_regime_as_a_band(shown: Shown) -> None:
    figure = figures.sigma_curve(shown.sensitivity)
    floor = next(trace for trace in figure.data if trace.name == "float32, rounding alone")
    sigma, value = floor.x[0], floor.y[0]
    assert value * sigma**2 == pytest.approx(shown.sensitivity.floors["floor"].iloc[0])
    regime = shown.sensitivity.regimes["float32", "mean"]
    low, high = np.log10(figure.data[0].y).min(), np.log10(figure.data[0].y).max()
    # What was measured is in view; how far below it a floor lies does not matter.
    assert figure.layout.yaxis.range[0] < low < high < figure.layout.yaxis.range[1]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.exponentformat) == ("log", "power")
    bands = [(shape.x0, shape.x1) for shape in figure.layout.shapes]
    assert (regime.low, regime.high) in bands


def test_reliability_and_error_of_both_modes_are_in_one_chart(shown: Shown) -> None:
    lines = figures.evaluations_curve(shown.sensitivity).data
    assert [line.name for line in lines] == ["plain", "plain", "antithetic", "antithetic"]
    assert {line.line.dash for line in lines} == {"solid", "dash"}
    assert np.nanmax(lines[3].y) < np.nanmax(lines[1].y)


def test_the_theorem_has_both_errors_and_the_line_of_equals(shown: Shown) -> None:
    identity, points = figures.theorem_scatter(shown.theorem).data
    assert list(identity.x) == list(identity.y)
    assert points.error_x.array[0] == shown.theorem.samples["half_trace_se"].iloc[0]
    assert points.error_y.array[0] == shown.theorem.samples["mrd_se"].iloc[0]
