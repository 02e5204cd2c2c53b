"""Overlap of generated and true answers, held against examples worked by hand."""

from __future__ import annotations

import math

import pytest

from mrd_core.evaluation.overlap import UNDEFINED, contains_answer, rouge_l


def test_rouge_l_is_that_of_an_example_worked_by_hand() -> None:
    # The longest common subsequence is "ann the letter": 3 of 5 true words, 3 of 4 generated ones.
    found = rouge_l("Ann burnt the letter", "Ann wrote the old letter.")
    assert found.recall == pytest.approx(3 / 5)
    assert found.f1 == pytest.approx(2 * 3 / (5 + 4))


def test_words_must_come_in_their_order() -> None:
    assert rouge_l("letter old the", "the old letter").recall == pytest.approx(1 / 3)


def test_words_beside_the_answer_cost_f1_and_no_recall() -> None:
    found = rouge_l("well, I think the old letter it was", "the old letter")
    assert found.recall == 1
    assert found.f1 == pytest.approx(2 * 3 / (3 + 8))


def test_words_are_stemmed() -> None:
    assert rouge_l("written letters", "write letter").recall == pytest.approx(1 / 2)
    assert rouge_l("she hopes", "She hoped!").recall == 1


def test_an_empty_text_is_wrong_and_none_is_undefined() -> None:
    assert rouge_l("", "the letter") == (0, 0)
    assert rouge_l(None, "the letter") is UNDEFINED


@pytest.mark.parametrize("reference", ["", "  ", "…!", "Привет"])
def test_a_reference_without_words_is_undefined(reference: str) -> None:
    assert all(map(math.isnan, rouge_l("the letter", reference)))


def test_an_answer_is_found_as_a_string_whatever_its_case() -> None:
    assert contains_answer("It was george ORWELL, of course.", " George Orwell ") == 1
    assert contains_answer("George B. Orwell", "George Orwell") == 0
    assert contains_answer("", "Orwell") == 0


@pytest.mark.parametrize(("generated", "answer"), [(None, "Orwell"), ("Orwell", " "), ("", "")])
def test_without_a_text_or_an_answer_nothing_can_be_found(generated: str | None, answer: str) -> None:
    assert math.isnan(contains_answer(generated, answer))
