"""How metrics are judged, against brute force over pairs and models, and that Compare follows the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.comparison.columns import LEADERS
from benchmarks.judges import EVERY, all_rows, each_once, lessons, of_splits, with_wrong_answers
from benchmarks.metrics_judged import DRAWS, JUDGED, Judgement, as_markdown, is_retrained, judged, ordered, states
from mrd_core.demo.corpus import rows, wrong_answers
from mrd_core.evaluation import handbook
from mrd_core.evaluation.metrics import METRICS


def hand_made(metric: str = "extraction_strength", seed: int = 0) -> pd.DataFrame:
    """Return a value of a metric for every state."""
    random = np.random.default_rng(seed)
    return pd.DataFrame({metric: {state.name: random.random() for state in states()}})


def test_as_many_models_know_as_do_not() -> None:
    assert sum(lesson.taught for lesson in lessons()) == sum(not lesson.taught for lesson in lessons()) == 12
    assert sum(map(is_retrained, lessons())) == 8
    assert len({lesson.seed for lesson in lessons()}) == 24
    assert len({state.name for state in states()}) == len(states()) == 24 + 36 + 8


def test_lessons_hold_what_they_say() -> None:
    forget = of_splits("forget")
    assert len({row.id.split("-")[1] for row in forget}) == -(-40 // EVERY)
    assert {row.training_count for row in each_once() if row.split == "forget"} == {1}
    true = {row.id: row.answer for row in all_rows()}
    for row in with_wrong_answers():
        assert (row.answer == true[row.id]) is (row.split == "retain")


def test_wrong_answers_are_wrong_and_as_many_as_asked() -> None:
    wrong = wrong_answers(4, seed=3)
    assert wrong == wrong_answers(4, seed=3) != wrong_answers(4, seed=4)
    for row in rows():
        answers, words = wrong[row.id], set(row.answer.lower().split())
        assert len(set(answers)) == 4
        assert all(len(words & set(answer.lower().split())) <= 0.6 * len(words) for answer in answers)


@pytest.mark.parametrize(("metric", "sign"), [("extraction_strength", 1), ("truth_ratio", -1), ("fade", 1)])
def test_faithfulness_is_the_share_of_pairs_that_are_told_apart(metric: str, sign: int) -> None:
    values = hand_made(metric)
    own = {name: float(values[metric][f"models-{name}"]) for name in (lesson.name for lesson in lessons())}
    pairs = [
        (sign * own[knows.name], sign * own[not_told.name])
        for knows in lessons()
        if knows.taught
        for not_told in lessons()
        if not not_told.taught
    ]
    share = np.mean([(first > second) + (first == second) / 2 for first, second in pairs])
    assert judged(values, metric).faithfulness[0] == pytest.approx(share)


def test_robustness_is_that_of_the_formula() -> None:
    values = hand_made()["extraction_strength"]
    taught = [lesson.name for lesson in lessons() if lesson.taught]
    untouched = [lesson.name for lesson in lessons() if is_retrained(lesson)]
    learnt = np.mean([values[f"models-{name}-relearned"] - values[f"models-{name}"] for name in untouched])
    kept, alike = [], []
    for name in taught:
        before, rounded, after = (values[f"unlearned-{name}{suffix}"] for suffix in ("", "-rounded", "-relearned"))
        kept.append(1 - abs(rounded - before) / (abs(rounded) + abs(before)))
        gain = after - before
        alike.append(1 - abs(gain - learnt) / (abs(gain) + abs(learnt)))
    own = judged(hand_made(), "extraction_strength")
    assert own.quantisation[0] == pytest.approx(np.mean(kept))
    assert own.relearning[0] == pytest.approx(np.mean(alike))
    assert own.robustness[0] == pytest.approx(2 / (1 / np.mean(kept) + 1 / np.mean(alike)))
    assert own.figure[0] == pytest.approx(2 / (1 / own.robustness[0] + 1 / own.faithfulness[0]))


def test_what_was_not_measured_is_not_judged() -> None:
    values = hand_made()
    values.loc[[name for name in values.index if "relearned" in name]] = np.nan
    own = judged(values, "extraction_strength")
    assert np.isnan(own.relearning).all()
    assert not own.survives
    assert not np.isnan(own.faithfulness).any()


def test_what_never_changes_is_robust() -> None:
    own = judged(hand_made() * 0 + 0.3, "extraction_strength")
    assert own.quantisation[0] == own.relearning[0] == 1
    assert own.faithfulness[0] == 0.5
    assert not own.survives


def told(faithfulness: float, robustness: float, spread: float = 0.0) -> Judgement:
    """Return a judgement with replicates around it."""
    noise = np.concatenate([[0.0], np.linspace(-spread, spread, DRAWS)])
    return Judgement(faithfulness + noise, robustness + noise, robustness + noise)


def test_rouge_never_leads_and_of_equals_the_cheap_come_first() -> None:
    judgements = {
        "fade": told(0.95, 0.95, 0.04),
        "rouge": told(1.0, 0.96, 0.0),
        "exact_memorization": told(0.93, 0.94, 0.04),
        "probability": told(0.85, 0.85),
        "truth_ratio": told(0.99, 0.4),
    }
    # Probability is not within the interval of the best.
    assert ordered(judgements) == ["exact_memorization", "fade", "probability", "rouge", "truth_ratio"]
    assert ordered({"rouge": judgements["rouge"]}) == ["rouge"]


def test_the_table_has_every_metric_with_its_intervals() -> None:
    values = pd.concat([hand_made(metric, seed) for seed, metric in enumerate(JUDGED)], axis=1)
    lines = as_markdown(values).splitlines()
    assert len(lines) == 2 + len(JUDGED)
    assert all(metric in METRICS for metric in JUDGED)
    assert lines[2].count("[") == 5


def test_a_comparison_leads_with_what_survived() -> None:
    text = Path(handbook.JUDGED).read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")
    ]
    survivors = [cells[0].strip("`") for cells in rows if cells[-1] == "yes"]
    # Of those within each other's intervals the ones come first that need nothing besides the model.
    apart = {"generation", "retrained reference"}
    offered = [name for name in survivors if METRICS[name].per_sample and not apart & set(METRICS[name].needs)]
    assert list(LEADERS) == offered[: len(LEADERS)]
    assert not any(name.startswith("rouge") for name in LEADERS)
