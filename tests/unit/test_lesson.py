"""The lesson: its code measures what the program measured, and its conclusions follow the figures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.evidence.returns import Comeback
from analysis.lesson import answers, comeback, curricula, forecast, hardness, shake
from analysis.lesson.sheet import EXERCISES, sheet
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.shares import difference, share
from mrd_core.dossier.files import Part, shipped
from mrd_core.unlearning.records import ForgottenRule, UnlearningSummary
from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_code_of_the_lesson_measures_what_the_program_measured() -> None:
    text = (REPOSITORY / "docs" / "lesson.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert len([line for line in code.splitlines() if line.strip()]) <= 35
    names: dict[str, Any] = {}
    exec(compile(code, "docs/lesson.md", "exec"), names)
    assert names["mrd"] == pytest.approx(names["ours"], abs=1e-6)
    assert f"{names['mrd']:.4f}" in text


def test_the_sheet_has_an_answer_to_each_exercise() -> None:
    text = sheet(shipped())
    for number in range(1, len(EXERCISES) + 1):
        assert text.count(f"\n{number}. ") == 2
    assert "nan" not in text


@pytest.mark.parametrize(
    ("after", "said", "unsaid"),
    [
        ((0.4, 0.95, 0.55), ("guess of strangers, and the rest was kept.",), "silent"),
        ((0.9, 0.95, 0.55), ("something is left, and the rest was kept.",), "silent"),
        ((0.4, 0.5, 0.55), ("guess of strangers, and the rest suffered.",), "silent"),
        ((0.4, 0.95, 0.3), ("the rest was kept. But it does not fall silent",), "suffered"),
    ],
)
def test_what_unlearning_did_is_said_as_it_is(
    after: tuple[float, ...], said: tuple[str, ...], unsaid: str
) -> None:
    before, *others = answers.STAGES
    shares = pd.DataFrame({before: (0.97, 0.97, 0.55)} | dict.fromkeys(others, after), index=list(answers.SETS))
    conclusion = answers.conclusion(shares)
    assert all(words in conclusion for words in said)
    assert unsaid not in conclusion


def test_what_halves_do_oppositely_is_no_noise_of_the_pair() -> None:
    # By hand: P = −1 and halves −1 ± a − b, whose relative changes are ∓a + b with the sign of Eq. 4.
    a, b = np.array([0.3, -0.2, 0.1]), 0.01
    draws = pd.DataFrame({"seed": [0, 1, 2], "relative_plus": -a - b, "relative_minus": a - b})
    draws["relative"] = (draws["relative_plus"] + draws["relative_minus"]) / 2
    quiet = shake.quiet(draws)
    assert quiet.pair == pytest.approx(0, abs=1e-12)
    assert quiet.half == pytest.approx(a.std(ddof=1))
    assert quiet.value == pytest.approx(b)
    assert shake.ends(draws) == pytest.approx([-1.1 * 0.31, 1.1 * 0.31])


def estimates(**values: tuple[float, float, float]) -> dict[str, Estimate]:
    """Return correlations with their intervals, by name."""
    return {name: Estimate(*each, n=60) for name, each in values.items()}


LENGTH, COUNT = hardness.CHARACTERISTICS[:2]


@pytest.mark.parametrize(
    ("length", "count", "right", "said"),
    [
        ((-0.3, -0.4, -0.2), (0.5, 0.4, 0.6), COUNT.low, "answers seen seldom (|ρ| = 0.50), then long answers"),
        (
            (0.3, 0.2, 0.4),
            (-0.1, -0.3, 0.1),
            LENGTH.low,
            "short answers (|ρ| = 0.30). Cannot tell: training",
        ),
        ((0.1, -0.1, 0.3), (0.1, -0.1, 0.3), hardness.NOTHING, "Nothing of this goes clearly"),
    ],
)
def test_what_is_hard_follows_the_correlations(
    length: tuple[float, float, float], count: tuple[float, float, float], right: str, said: str
) -> None:
    of_demo = {LENGTH: Estimate(*length, n=60), COUNT: Estimate(*count, n=60)}
    assert hardness.hardest(of_demo) == right
    assert said in hardness.conclusion(of_demo)


@pytest.mark.parametrize(
    ("mrd", "curvature", "said"),
    [
        ((-0.5, -0.7, -0.3), (-0.2, -0.4, 0.0), ("Yes, as the paper says", "say the same")),
        ((0.5, 0.3, 0.7), (0.4, 0.1, 0.6), ("The other way round", "contradict each other")),
        ((0.0, -0.2, 0.2), (0.4, 0.1, 0.6), ("No, or weakly at most", "contradict each other")),
        ((0.2, -0.2, 0.6), (0.4, 0.1, 0.6), ("It cannot be told", "contradict each other")),
    ],
)
def test_whether_mrd_foretells_is_said_whichever_way_it_is(
    mrd: tuple[float, float, float], curvature: tuple[float, float, float], said: tuple[str, ...]
) -> None:
    rho = estimates(mrd=mrd, speed=(-0.4, -0.6, -0.2), curvature=curvature, median_log_odds=(0.7, 0.6, 0.8))
    conclusion = forecast.conclusion(forecast.Forecast(pd.DataFrame(index=range(60)), rho))
    assert all(words in conclusion for words in (*said, "ρ = 0.70 [0.60, 0.80]"))


def test_an_order_by_hand_is_held_against_the_updates() -> None:
    five = pd.DataFrame(
        {
            "sample_id": list("abcde"),
            "updates": [10, 20, 30, 40, 50],
            "mrd": [1.0, 2.0, 3.0, 4.0, 5.0],
            "median_log_odds": [1.0, 2.0, 3.0, 5.0, 4.0],
        }
    )
    said = forecast.by_hand(five, list("edcba"))
    assert "your order +1.0, MRD, small first −1.0, log-odds, large first +0.9" in said
    assert "your order −1.0" in forecast.by_hand(five, list("abcde"))


@pytest.mark.parametrize(
    ("updates", "right"),
    [(80, curricula.FEWER), (97, curricula.SAME), (104, curricula.SAME), (130, curricula.MORE)],
)
def test_what_an_order_bought_is_counted(updates: int, right: str) -> None:
    rule = ForgottenRule(source="absolute", accuracy=0.5)
    common = {"n_samples": 24, "seconds": 1, "warnings": [], "reasons": {}, "stop_reason": "all-forgotten"}
    orders = {
        order: UnlearningSummary.model_validate(common | {"thresholds": rule, "updates": each})
        for order, each in zip(curricula.ORDERS, (100, updates), strict=True)
    }
    assert curricula.right(orders) == right
    conclusion = curricula.conclusion(orders)
    assert f"{right}: {updates} updates where the random order took 100" in conclusion


@pytest.mark.parametrize(
    ("back", "of_reference", "right", "said"),
    [
        (2, 0, "Hardly any", "others may bring back more"),
        (20, 1, "Up to a half", "hidden and not gone"),
        (36, 1, "More than a half", "hidden and not gone"),
        (20, 20, "Up to a half", "others may bring back more"),
    ],
)
def test_what_comes_back_is_told_from_what_a_model_learns(
    back: int, of_reference: int, right: str, said: str
) -> None:
    def line(attack: str, back: int) -> Comeback:
        own, reference = share(back, 40), share(of_reference, 40)
        return Comeback(
            str(Part.UNIFORM), attack, back, own, reference, difference(own, reference), 16, 8, is_ruined=False
        )

    lines = [line("jogging", back), line("benign", 4), line("control", 1)]
    assert comeback.right(lines) == right
    conclusion = comeback.conclusion(lines)
    assert conclusion.startswith(f"{right}: {back} of 40 are back after 16 steps on 8 others, 10% after")
    assert said in conclusion
    table = comeback.table_of(lines)
    assert list(table["Back"]) == [f"{back} of 40", "4 of 40", "1 of 40"]
    assert set(table["Of the retrained model"]) == {f"{of_reference / 40:.0%}"}
