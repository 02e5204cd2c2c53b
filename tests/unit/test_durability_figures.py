"""Figures of what comes back: what is drawn is what was measured, beside the reference, not by colour alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.evidence.kinds.durability import Durability, durability
from analysis.evidence.measurements import read_measurements
from analysis.figures import durability as figures
from analysis.figures import evidence as evidence_figures
from mrd_core.experiments.kinds.durability import REFERENCE
from tests.support.durability_rows import LOOKS, config, durability_experiment, simulated
from tests.support.evidence_experiments import sample_table

NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Durability:
    """One run with a reference, judged."""
    table = sample_table(40)
    folder = tmp_path_factory.mktemp("figures") / "run"
    return durability(read_measurements(durability_experiment(folder, config(), table, simulated(table))))


def every_figure(evidence: Durability) -> list[go.Figure]:
    return [
        figures.still_forgotten(evidence, "first", "benign"),
        figures.memorization_over_steps(evidence, "benign"),
        figures.rounded(evidence),
        figures.best_of_k(evidence),
        figures.begun_answers(evidence),
        figures.left_and_end(evidence, "first", "benign"),
        figures.calibration_plot(evidence.forecasts["first", "benign"], evidence.names["first"]),
        evidence_figures.league_plot(
            evidence.leagues["first", "benign"].table, evidence.names["first"], "the gain"
        ),
    ]


def named(figure: go.Figure) -> dict[str, Any]:
    """Return the traces that have an entry in the legend, by its beginning."""
    return {
        trace.name.split(",")[0].split(" (")[0]: trace for trace in figure.data if trace.name and trace.showlegend
    }


def test_survival_falls_at_the_looks(shown: Durability) -> None:
    drawn = named(figures.still_forgotten(shown, "first", "benign"))
    assert list(drawn) == ["all", "hard", "middle", "easy", "reference"]
    assert len({trace.line.dash for trace in drawn.values()}) >= 4
    for group, trace in drawn.items():
        model = REFERENCE if group == "reference" else "first"
        rows = shown.survival[(shown.survival["model"] == model) & (shown.survival["attack"] == "benign")]
        rows = rows[rows["group"] == ("all" if group == "reference" else group)]
        # What the last look found is drawn on beyond it.
        assert list(trace.y) == [*rows["still"], rows["still"].iloc[-1]]
        assert list(trace.x)[:-1] == [-1, 0, 1, 2]
        assert trace.line.shape == "hv"


def test_memorization_stands_beside_the_reference_and_the_retain_set(shown: Durability) -> None:
    figure = figures.memorization_over_steps(shown, "jogging")
    drawn = named(figure)
    assert list(drawn) == ["GradDiff", "Reference"]
    curve = shown.curves[(shown.curves["model"] == "first") & (shown.curves["attack"] == "jogging")]
    assert list(drawn["GradDiff"].y) == list(curve["accuracy"])
    assert drawn["Reference"].line.color == figures.REFERENCE_STYLE.colour
    assert sum(trace.yaxis == "y2" for trace in figure.data) == 2
    assert list(figure.layout.xaxis.ticktext or figure.layout.xaxis2.ticktext) == list(map(str, LOOKS))
    without = replace(shown, curves=shown.curves.assign(retain=np.nan))
    assert all(trace.yaxis in (None, "y") for trace in figures.memorization_over_steps(without, "jogging").data)


def test_what_shows_without_training_is_drawn_for_every_model(shown: Durability) -> None:
    for figure, table, column in (
        (figures.rounded(shown), shown.round_trips, "recovery"),
        (figures.best_of_k(shown), shown.leaks, "leak"),
        (figures.begun_answers(shown), shown.prompts, "rouge"),
    ):
        drawn = named(figure)
        assert list(drawn) == ["GradDiff", "Reference"]
        assert list(drawn["GradDiff"].y) == list(table.loc[table["model"] == "first", column])
        assert drawn["GradDiff"].marker.symbol != drawn["Reference"].marker.symbol
    assert figures.begun_answers(shown).layout.xaxis.ticktext == ("1 given", "8 given", "paraphrased")


def test_points_of_samples_begin_with_their_ids(shown: Durability) -> None:
    samples = shown.attacked("first", "benign")
    chosen = samples["sample_id"].iloc[0]
    figure = figures.left_and_end(shown, "first", "benign", chosen)
    ids = [about[0] for trace in figure.data if trace.customdata is not None for about in trace.customdata]
    assert sorted(ids) == sorted(samples["sample_id"])
    ring = figure.data[-1]
    assert list(ring.y) == samples.loc[samples["sample_id"] == chosen, "end"].tolist()
    drawn = named(figure)
    assert min(drawn["back"].y) >= shown.threshold > max(drawn["away"].y)
    assert drawn["back"].marker.symbol != drawn["away"].marker.symbol


def test_calibration_is_that_of_the_bins(shown: Durability) -> None:
    forecast = shown.forecasts["first", "benign"]
    line = figures.calibration_plot(forecast, "GradDiff").data[1]
    assert list(line.x) == list(forecast.bins["predicted"])
    assert list(line.y + line.error_y.array) == pytest.approx(list(forecast.bins["high"]))


def test_the_league_says_what_it_ranks_by(shown: Durability) -> None:
    figure = evidence_figures.league_plot(shown.leagues["first", "benign"].table, "GradDiff", "the gain")
    assert figure.layout.title.text == "GradDiff: what predicts the gain"
    assert "|ρ| with the gain" in figure.layout.title.subtitle.text
    labels = " ".join(figure.layout.yaxis.ticktext)
    assert "MA left" in labels
    assert "Both combined" in labels


def test_names_are_text(shown: Durability) -> None:
    nasty = replace(shown, names={"first": NASTY, REFERENCE: "Reference"})
    for figure in every_figure(nasty):
        texts = [figure.layout.title.text, *(figure.layout.yaxis.ticktext or ())]
        for trace in figure.data:
            texts += [
                trace.name,
                trace.hovertemplate,
                *(np.atleast_1d(trace.text) if trace.text is not None else ()),
            ]
        assert not any("<img" in str(text) for text in texts)


def test_every_figure_has_its_title_and_its_note(shown: Durability) -> None:
    titles = [figure.layout.title.text for figure in every_figure(shown)]
    assert len(set(titles)) == len(titles)
    assert all(figure.layout.title.subtitle.text for figure in every_figure(shown))


def test_nothing_measured_draws_nothing(tmp_path: Path) -> None:
    table = sample_table(8)
    rows = [row for row in simulated(table) if row["part"] in ("start", "course", "kept")]
    evidence = durability(read_measurements(durability_experiment(tmp_path / "run", config(), table, rows)))
    assert evidence.round_trips.empty
    assert evidence.leaks.empty
    assert evidence.prompts.empty
    assert len(figures.still_forgotten(evidence, "first", "benign").data) > 1
