"""A model that lost its retain set is no success, whatever it forgot."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from mrd_core.unlearning.card import card
from mrd_core.unlearning.damage import Rest, in_words, rest
from mrd_core.unlearning.kind import UNLEARN
from mrd_core.unlearning.records import UnlearningSummary
from tests.unit.test_unlearning_card import SUMMARY, configured, known


def summary(**retained: float | None) -> UnlearningSummary:
    names = ("retain_accuracy_before", "retain_accuracy", "retain_nll_before", "retain_nll")
    return UnlearningSummary.model_validate(SUMMARY | {"label": "GA"} | dict.fromkeys(names) | retained)


def retained(accuracy: tuple[float, float | None], nll: tuple[float, float | None]) -> dict[str, Any]:
    values = zip(("_before", ""), accuracy, nll, strict=True)
    return {
        f"retain_{name}{end}": x
        for end, *both in values
        for name, x in zip(("accuracy", "nll"), both, strict=True)
    }


@pytest.mark.parametrize(
    ("accuracy", "nll", "expected"),
    [
        ((1.0, 0.90), (0.1, 0.1 + log(2) - 1e-9), Rest.KEPT),
        ((1.0, 0.899), (0.1, 0.1), Rest.DAMAGED),
        ((1.0, 1.0), (0.1, 0.1 + log(2) + 1e-9), Rest.DAMAGED),
        ((0.5, 0.46), (2.0, 2.1), Rest.KEPT),
        ((0.97, 0.171), (0.16, 8.19), Rest.DAMAGED),
        ((0.97, 0.97), (0.16, None), Rest.DAMAGED),
        ((0.0, 0.0), (3.0, 3.0), Rest.KEPT),
    ],
)
def test_a_tenth_of_the_accuracy_or_half_of_a_probability_is_damage(
    accuracy: tuple[float, float], nll: tuple[float, float | None], expected: Rest
) -> None:
    assert rest(summary(**retained(accuracy, nll))) is expected


def test_what_was_not_measured_is_said_and_is_not_called_kept() -> None:
    unknown = summary()
    assert rest(unknown) is Rest.UNKNOWN
    assert in_words(unknown) == "What is left of the rest was not measured: the run had no retain set."
    assert "retain set not measured" in UNLEARN.headline(unknown.as_json())


def test_list_shell_and_model_card_say_that_a_model_is_damaged() -> None:
    destroyed = summary(**retained((0.970, 0.171), (0.16, 8.19)))
    sentence = (
        "The model is damaged on what was to be kept: on the retain set MA went from 97.0% to 17.1%, "
        "NLL from 0.16 to 8.19 nats per token."
    )
    assert in_words(destroyed) == sentence
    assert UNLEARN.headline(destroyed.as_json()) == "40 of 40 forgotten, 1234 updates, retain set damaged"
    assert f"- **What is left of the rest:** {sentence}" in card(configured(), destroyed, known())
