"""The verdicts of a dossier on planted cases: each state has its rule, and nothing unmeasured sounds measured."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.characteristics.files import ClaimFigures
from analysis.comparison.kept import KeptAnswers
from analysis.evidence.headlines import Headline
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.wording import verdict as outcome
from analysis.verdict import (
    Question,
    State,
    Verdict,
    conclusion,
    durable,
    explained,
    measured,
    predictive,
    reliability_interval,
    unlearned,
)
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.records import UnlearningSummary
from tests.unit.test_unlearning_card import SUMMARY

SCORES = {"n_samples": 40, "evaluations": 48, "tokens": 100, "model_parameters": 1, "normalisation": "mean"}
KEPT = {"retain_accuracy_before": 1.0, "retain_accuracy": 0.95, "retain_nll_before": 0.1, "retain_nll": 0.2}


@pytest.mark.parametrize(
    ("figures", "state"),
    [
        ({"reliability_mean": 0.9}, State.HOLDS),
        ({"reliability_mean": 0.899}, State.CANNOT_TELL),
        ({"reliability_mean": 0.7}, State.CANNOT_TELL),
        ({"reliability_mean": 0.699}, State.FAILS),
        ({"reliability_mean": 0.99, "gate": {"passed": False}}, State.FAILS),
        ({"reliability_mean": 0.5, "reliability_sum": 0.95, "normalisation": "sum"}, State.HOLDS),
        ({"reliability_mean": 0.99, "preview": True}, State.CANNOT_TELL),
        ({"reliability_mean": 0.5, "preview": True}, State.FAILS),
        ({}, State.CANNOT_TELL),
    ],
)
def test_a_ranking_that_repeats_is_measured(figures: dict[str, Any], state: State) -> None:
    assert measured(ScoreSummary.model_validate(SCORES | figures)).state is state


def test_the_interval_of_a_reliability_covers_what_another_set_of_samples_would_show() -> None:
    """By simulation: halves of n samples that share a signal, whose true reliability many samples tell."""
    generator, n, repeats = np.random.default_rng(0), 60, 400

    def reliability(n: int) -> float:
        signal = generator.normal(size=n)
        halves = (signal + generator.normal(scale=0.5, size=n) for _ in range(2))
        rho = float(spearmanr(*halves).statistic)
        return 2 * rho / (1 + rho)

    true = reliability(200_000)
    intervals = (reliability_interval(reliability(n), n) for _ in range(repeats))
    bounds = [[float(bound) for bound in re.findall(r"[\d.]+", interval)] for interval in intervals]
    covering = np.mean([low <= round(true, 2) <= high for low, high in bounds])
    assert 0.92 <= covering <= 0.99


@pytest.mark.parametrize("reliability", [1.0, 0.0, -1.0])
def test_the_interval_of_a_reliability_holds_it_and_stays_within_bounds(reliability: float) -> None:
    low, high = (float(bound) for bound in re.findall(r"-?[\d.]+", reliability_interval(reliability, 40)))
    assert -1 <= low <= reliability <= high <= 1
    assert reliability_interval(reliability, 3) == ""


@pytest.mark.parametrize(
    ("claims", "state", "sentence"),
    [
        (None, State.NOT_MEASURED, "The texts have not been read."),
        ([("A", "cannot tell", True)], State.CANNOT_TELL, "No claim can be told."),
        (
            [("A", "agrees", True), ("B", "cannot tell", False), ("C", "agrees", False)],
            State.HOLDS,
            "Of 3 claims 1 hold (A), 1 go with length alone.",
        ),
        ([("A", "agrees", False)], State.CANNOT_TELL, "Of 1 claims 1 go with length alone."),
        ([("A", "disagrees", False)], State.FAILS, "Of 1 claims 1 are contradicted."),
        (
            [("A", "agrees", True), ("B", "disagrees", False)],
            State.CANNOT_TELL,
            "Of 2 claims 1 hold (A), 1 are contradicted.",
        ),
    ],
)
def test_claims_hold_where_length_does_not_explain_them(
    claims: list[tuple[str, str, bool]] | None, state: State, sentence: str
) -> None:
    figures = claims and [ClaimFigures(criterion=a, verdict=b, remains=c) for a, b, c in claims]
    assert explained(figures) == Verdict(Question.EXPLAINED, state, sentence)


def line(value: float, low: float, high: float) -> Headline:
    rho = Estimate(value, low, high, 40)
    return Headline("GA (AdamW)", "ga", "adamw", "mrd_answer_mean", rho, outcome(rho, -1), "what it says")


EXPECTED, OPPOSITE = line(-0.5, -0.7, -0.3), line(0.5, 0.3, 0.7)
FLAT, WIDE = line(0.0, -0.2, 0.2), line(-0.15, -0.68, 0.48)


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (None, State.NOT_MEASURED),
        ([], State.NOT_MEASURED),
        ([EXPECTED], State.HOLDS),
        ([FLAT], State.FAILS),
        ([OPPOSITE], State.FAILS),
        ([WIDE], State.CANNOT_TELL),
        ([WIDE, FLAT], State.FAILS),
        ([EXPECTED, FLAT], State.CANNOT_TELL),
        ([EXPECTED, WIDE], State.CANNOT_TELL),
    ],
)
def test_difficulty_predicts_where_every_way_to_unlearn_says_so(
    lines: list[Headline] | None, state: State
) -> None:
    assert predictive(lines).state is state


def test_what_one_forward_pass_says_stands_beside_mrd() -> None:
    assert "forward pass" not in predictive([EXPECTED]).sentence
    beside = replace(EXPECTED, rival=Estimate(0.78, 0.54, 0.9, 40))
    sentence = predictive([beside, FLAT]).sentence
    assert sentence.endswith(
        "what it says. One forward pass, by the median log-odds: ρ = 0.78 [0.54, 0.90], n = 40."
    )


@pytest.mark.parametrize(
    ("figures", "state"),
    [
        (KEPT | {"forgotten_at_end": 40}, State.HOLDS),
        (KEPT | {"forgotten_at_end": 39}, State.FAILS),
        (KEPT | {"forgotten_at_end": 40, "retain_accuracy": 0.17}, State.DAMAGED),
        (dict.fromkeys(KEPT) | {"forgotten_at_end": 40}, State.CANNOT_TELL),
    ],
)
def test_what_is_forgotten_counts_only_where_the_rest_was_kept(figures: dict[str, Any], state: State) -> None:
    verdict = unlearned("GA, seed 0", UnlearningSummary.model_validate(SUMMARY | figures))
    assert verdict.state is state
    assert verdict.sentence.startswith(f"GA, seed 0: {figures['forgotten_at_end']} of 40 forgotten at the end. ")


@pytest.mark.parametrize(
    ("kept", "figures", "state"),
    [
        (KeptAnswers(0.8, 0.71, 0.01, 60), KEPT, State.DAMAGED),
        (KeptAnswers(0.8, 0.73, 0.01, 60), KEPT, State.HOLDS),
        # Within the noise of so few samples.
        (KeptAnswers(0.8, 0.6, 0.11, 6), KEPT, State.HOLDS),
        # Of two samples hardly anything is certain.
        (KeptAnswers(0.9, 0.725, 0.025, 2), KEPT, State.HOLDS),
        (KeptAnswers(0.9, 0.725, 0.025, 6), KEPT, State.DAMAGED),
        (KeptAnswers(0.8, 0.4, 0.01, 60), {}, State.DAMAGED),
        (KeptAnswers(0.8, 0.8, 0.01, 60), KEPT | {"retain_nll": 5.0}, State.DAMAGED),
    ],
)
def test_a_model_that_lost_its_answers_is_damaged_whatever_its_tokens_say(
    kept: KeptAnswers, figures: dict[str, float], state: State
) -> None:
    summary = UnlearningSummary.model_validate(SUMMARY | {"forgotten_at_end": 40, "n_samples": 40} | figures)
    verdict = unlearned("GA, seed 0", summary, kept)
    assert verdict.state is state
    assert f"from ROUGE-L {kept.before:.2f} to {kept.after:.2f}." in verdict.sentence
    assert ("The model is damaged" in verdict.sentence) is (state is State.DAMAGED)
    assert ("The retain set was kept" in verdict.sentence) is (state is State.HOLDS)


def test_what_nobody_has_looked_at_is_not_measured() -> None:
    assert unlearned("", None).state is durable().state is State.NOT_MEASURED


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({Question.UNLEARNED: State.DAMAGED, Question.PREDICTIVE: State.HOLDS}, "lost what was to be kept"),
        ({Question.MEASURED: State.FAILS, Question.PREDICTIVE: State.HOLDS}, "would not repeat"),
        ({Question.PREDICTIVE: State.FAILS}, "do not take more updates"),
        ({}, "not yet a forecast"),
        ({Question.PREDICTIVE: State.HOLDS}, "repeats and foretells"),
        ({Question.MEASURED: State.CANNOT_TELL, Question.PREDICTIVE: State.HOLDS}, "cannot be told"),
        ({Question.PREDICTIVE: State.CANNOT_TELL}, "cannot be told"),
    ],
)
def test_the_conclusion_is_no_better_than_the_verdicts(states: dict[Question, State], words: str) -> None:
    unmeasured = Verdict(Question.MEASURED, State.NOT_MEASURED, "")
    begin = {question: replace(unmeasured, question=question) for question in Question}
    begin[Question.MEASURED] = replace(unmeasured, state=State.HOLDS)
    verdicts = begin | {question: Verdict(question, state, "") for question, state in states.items()}
    assert words in conclusion(list(verdicts.values()))
