"""Whether a value of MRD is large: quantiles of a set, and those of the demo only where they can be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.difficulty import Variant
from analysis.scale import in_words
from mrd_core.demo.scale import SCALE, quantiles
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation

SIGMA = 0.01
MRD = pd.Series(np.append(np.arange(1.0, 101.0) * 1e-3, np.nan))


def test_quantiles_are_those_of_mrd_over_sigma_squared(tmp_path: Path) -> None:
    directories = {}
    for name, sigma in (("known", 0.1), ("unseen", 0.5)):
        directory = directories[name] = tmp_path / name
        directory.mkdir()
        values = np.append(np.arange(101.0) * sigma**2, np.nan)
        frame = pd.DataFrame({"mrd_answer_mean": values, "mrd_full_mean": 2 * values})
        frame.to_parquet(directory / "scores.parquet")
        (directory / "summary.json").write_text(json.dumps({"sigma": sigma}))
    table = quantiles(directories).set_index(["samples", "scope"])
    assert list(table.columns) == list(pd.read_csv(SCALE).columns[2:])
    for name in directories:
        np.testing.assert_allclose(table.loc[(name, "answer")], [101, 10, 25, 50, 75, 90])
        np.testing.assert_allclose(table.loc[(name, "full")], [101, 20, 50, 100, 150, 180])


@pytest.mark.parametrize("scope", list(Scope))
def test_a_set_is_held_beside_what_the_demo_knows_and_what_it_never_saw(scope: Scope) -> None:
    of_set, beside = in_words(MRD, SIGMA, Variant(scope=scope))
    assert of_set == "MRD here: a tenth below 0.0109, half from 0.0258 to 0.0752, a tenth above 0.0901."
    assert "half of this set: 258 to 752;" in beside
    shipped = pd.read_csv(SCALE).set_index(["samples", "scope"])
    for name, words in (("known", "knows by heart"), ("unseen", "never saw")):
        lower, upper = (float(f"{shipped.loc[(name, str(scope)), at]:.3g}") for at in ("0.25", "0.75"))
        assert f"{words}: {lower:,.0f} to {upper:,.0f}" in beside


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (Variant(normalisation=Normalisation.SUM), "a sum grows with the length of the texts"),
        (Variant(formula=Formula.MEAN_ABSOLUTE), "does not grow with σ²"),
        (Variant(formula=Formula.INITIAL), "in nats"),
    ],
)
def test_what_cannot_be_compared_says_why(variant: Variant, reason: str) -> None:
    of_set, beside = in_words(MRD, SIGMA, variant)
    assert of_set.startswith("MRD here: a tenth below 0.0109")
    assert beside.startswith("The demo's samples are no scale for it: ")
    assert reason in beside


def test_without_any_value_nothing_is_said() -> None:
    assert in_words(pd.Series([np.nan]), SIGMA, Variant()) == []
