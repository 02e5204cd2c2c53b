"""What an experiment shows, short enough for a terminal: the tables that carry its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import pandas as pd

from analysis.evidence.change import ParameterChange
from analysis.evidence.league import short_title
from analysis.evidence.runs import Evidence
from analysis.evidence.selection import METRICS, Selection
from analysis.evidence.sensitivity import Sensitivity
from analysis.evidence.theorem import Theorem
from analysis.evidence.validity import Validity

# Rows of a league table, those of MRD and length apart.
FIRST = 5

Brief = Mapping[str, pd.DataFrame]


@singledispatch
def brief(shown: Evidence) -> Brief:
    """Return tables by title, every cell a string; none before there is anything to tell."""
    raise TypeError(f"nothing is known of {type(shown).__name__}")


@brief.register
def _of_validity(shown: Validity) -> Brief:
    return {
        f"{arm.name}: the {FIRST} best measures, MRD and length": _ranked(arm.league.table, shown.mrd_column)
        for arm in shown.arms
        if len(arm.league.table)
    }


def _ranked(league: pd.DataFrame, mrd_column: str) -> pd.DataFrame:
    places = pd.Series(range(1, len(league) + 1), index=league.index)
    wanted = (places <= FIRST) | league["measure"].isin([mrd_column, "answer_tokens"])
    chosen = league[wanted]
    return pd.DataFrame(
        {
            "measure": places[wanted].astype(str) + ". " + chosen["measure"].map(short_title),
            "ρ with updates": _intervals(chosen, "rho", "low", "high"),
            "length held": _intervals(chosen, "partial", "partial_low", "partial_high"),
            "forward passes": _figures(chosen["cost"], "g"),
        }
    )


@brief.register
def _of_change(shown: ParameterChange) -> Brief:
    found = shown.correlations
    table = {
        "mean absolute change with": found["arm"] + ", " + found["title"],
        "ρ": _intervals(found, "rho", "low", "high"),
        "tokens held": _intervals(found, "partial", "partial_low", "partial_high"),
    }
    return {"Over composites": pd.DataFrame(table)} if len(found) else {}


@brief.register
def _of_selection(shown: Selection) -> Brief:
    found = shown.spread
    table = {
        "performance": found["size"] + ", " + found["metric"].map(METRICS) + ", " + found["method"],
        "selections": found["scheme"],
        "mean": _figures(found["mean"], ".3g"),
        "SD": _figures(found["sd"], ".2g"),
    }
    return {"Over selections": pd.DataFrame(table)} if len(found) else {}


@brief.register
def _of_sensitivity(shown: Sensitivity) -> Brief:
    found = shown.sigmas[shown.sigmas["normalisation"] == "mean"]
    table = {
        "precision": found["dtype"],
        "σ": _figures(found["sigma"], "g"),
        "MRD/σ²": _figures(found["ratio"], ".3g"),
        "relative SE": _figures(found["relative_se"], ".1%"),
        "agreement": _intervals(found, "rho", "low", "high"),
        "quadratic": found["inside"].map({True: "yes", False: "no"}),
    }
    return {"Mean over tokens": pd.DataFrame(table)} if len(found) else {}


@brief.register
def _of_theorem(shown: Theorem) -> Brief:
    found = shown.samples
    table = {
        "sample": found["sample_id"],
        "MRD/σ²": _figures(found["mrd"], ".3g"),
        "half the trace": _figures(found["half_trace"], ".3g"),
        "ratio": _figures(found["ratio"], ".2f"),
    }
    return {"By sample": pd.DataFrame(table)} if len(found) else {}


def _figures(values: pd.Series, form: str) -> list[str]:
    return ["–" if pd.isna(value) else f"{value:{form}}" for value in values]


def _intervals(frame: pd.DataFrame, value: str, low: str, high: str) -> list[str]:
    cells = []
    for middle, lower, upper in frame[[value, low, high]].itertuples(index=False, name=None):
        ends = "" if pd.isna(lower) else f" [{lower:+.2f}, {upper:+.2f}]"
        cells.append("–" if pd.isna(middle) else f"{middle:+.2f}{ends}")
    return cells
