"""Forgotten by a margin: a token is remembered until another one beats it by enough, against a loop by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from analysis.unlearning.runs import against_uniform, efficiency
from mrd_core.model.encoding import Encoded
from mrd_core.model.memorization import leads, measure_memorization
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.unlearning.records import ForgottenRule, UnlearningSummary
from tests.support import tiny
from tests.support.tiny import encode
from tests.support.unlearning_runs import Place, Scored, Unlearned, scored_tiny
from tests.unit.conftest import CONTEXT, rows, write_rows

MARGIN = -1.5


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def encoded(path: Path) -> Encoded:
    return encode(read(ForgetSetConfig(source=str(path))), tiny.tokenizer(), CONTEXT, "plain")


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


@torch.no_grad()
def remembered(network: Any, samples: Encoded, margin: float) -> np.ndarray:
    """Return the share of each sample's answer tokens that lead by more than a margin, a pass for each token."""
    shares = []
    for sample in samples.samples:
        tokens = sample.tokens.tolist()
        counted = []
        for place in np.flatnonzero(sample.answer) + 1:
            logits = network(input_ids=torch.tensor([tokens[:place]])).logits[0, -1].tolist()
            others = max(value for word, value in enumerate(logits) if word != tokens[place])
            counted.append(logits[tokens[place]] - others > margin)
        shares.append(sum(counted) / len(counted))
    return np.array(shares)


@pytest.mark.parametrize("margin", [-3.0, -0.5, 0.0, 0.5, 3.0])
def test_a_token_leads_where_its_logit_exceeds_every_other_by_more_than_the_margin(margin: float) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, -4.0], [5.0, 1.0, 1.5], [0.0, 0.0, 3.2]])
    targets = torch.tensor([0, 0, 0, 1])
    by_hand = [1.0, -1.0, 3.5, -3.2]
    assert leads(logits, targets, margin).tolist() == [lead > margin for lead in by_hand]


def test_of_equal_first_choices_the_one_that_argmax_takes_is_remembered_without_a_margin() -> None:
    assert leads(torch.tensor([[1.0, 1.0]] * 2), torch.tensor([0, 1]), 0.0).tolist() == [True, False]


@pytest.mark.parametrize("margin", [-2.0, 0.0, 4.0])
def test_what_is_measured_is_what_a_pass_for_each_token_finds(margin: float, scored: Scored) -> None:
    network, samples = loaded(scored.model), encoded(scored.forget)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * tiny.seeded(lambda weight=weight: torch.randn_like(weight))
    measured = measure_memorization(tiny.reader(network, 1000), samples, margin)
    np.testing.assert_allclose(measured.remembered, remembered(network, samples, margin))
    np.testing.assert_allclose(measured.accuracy, remembered(network, samples, 0.0))
    assert (measured.accuracy == measured.remembered).all() == (margin == 0)


def run_with(place: Place, scored: Scored, **changes: Any) -> Unlearned:
    settings = {"limits": {"max_steps": 80}, "optimiser": {"learning_rate": 5e-3}} | changes
    return place.carried_out(scored.config(**settings))


@pytest.mark.slow
def test_a_run_judges_by_the_margin_and_keeps_ma_in_its_table(place: Place, scored: Scored) -> None:
    plain, clear = (run_with(place, scored, stopping={"margin": margin}) for margin in (0.0, MARGIN))
    # Until one is forgotten by either rule both runs are the same.
    first = next(step for step, one in enumerate(plain.steps) if one["forgotten"])
    assert [step["forget_loss"] for step in clear.steps[: first + 1]] == [
        step["forget_loss"] for step in plain.steps[: first + 1]
    ]
    assert clear.summary["updates"] > plain.summary["updates"]
    samples = encoded(scored.forget)
    for run, margin in ((plain, 0.0), (clear, MARGIN)):
        network = loaded(run.files.model)
        table = run.outcome.loc[list(samples.sample_ids)]
        np.testing.assert_allclose(table["accuracy_after"], remembered(network, samples, 0.0))
        share = remembered(network, samples, margin)
        np.testing.assert_array_equal(table["forgotten_at_end"], share < 0.5)
    # What training shows of a sample when it is first drawn is the start, at the margin.
    start = dict(zip(samples.sample_ids, remembered(loaded(scored.model), samples, MARGIN), strict=True))
    step = clear.steps[0]
    assert step["accuracy"] == pytest.approx([start[sample] for sample in step["forget"]])
    assert clear.metric("accuracy")[0] == pytest.approx(np.mean(list(start.values())))
    assert clear.summary["thresholds"]["margin"] == MARGIN
    assert clear.summary["reasons"]["remembered token"] == "one that leads by more than -1.5 logits (as asked)"
    assert "remembered token" not in plain.summary["reasons"]
    card = (clear.files.model / "README.md").read_text(encoding="utf-8")
    assert "(MA, of tokens whose logit leads all others by more than -1.5) is below 0.5" in " ".join(card.split())
    assert "leads all others" not in (plain.files.model / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_where_refusals_are_taught_own_looks_keep_to_the_margin(place: Place, scored: Scored) -> None:
    # With a margin above all leads nothing is remembered from the start, and MA alone is 1.
    run = run_with(
        place,
        scored,
        method="po",
        retain=scored.kept,
        stopping={"margin": 50.0, "checks": {"spacing": "fixed", "interval": 1}},
        limits={"max_steps": 30},
        optimiser={"learning_rate": 1e-5},
    )
    assert (run.summary["stop_reason"], run.summary["came_back"]) == ("all-forgotten", 0)
    assert run.summary["forget_accuracy"] == 1
    assert {accuracy for step in run.steps for accuracy in step["accuracy"]} <= {0.0, None}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["initial-average", "held-out"])
def test_thresholds_that_are_averages_are_taken_at_the_margin(
    source: str, place: Place, scored: Scored, tmp_path: Path
) -> None:
    held_out = write_rows(
        tmp_path / "held-out.jsonl", [row | {"id": f"h{i}"} for i, row in enumerate(rows(18)[12:])]
    )
    stopping = {"source": source, "margin": -2.0}
    if source == "held-out":
        stopping["held_out"] = {"source": str(held_out)}
    run = place.carried_out(scored.config(stopping=stopping, limits={"max_steps": 1}))
    texts = encoded(held_out if source == "held-out" else scored.forget)
    share = remembered(loaded(scored.model), texts, -2.0).mean()
    assert run.summary["thresholds"] == {
        "source": source,
        "accuracy": pytest.approx(share),
        "extraction": None,
        "margin": -2.0,
    }


def test_a_margin_makes_another_setting_and_none_makes_the_one_of_before(scored: Scored) -> None:
    assert scored.config(stopping={"margin": 0.0}).setting == scored.config().setting
    assert scored.config(stopping={"margin": -1.0}).setting != scored.config().setting
    with pytest.raises(ValidationError, match="finite"):
        scored.config(stopping={"margin": float("nan")})


def test_runs_that_were_judged_by_different_margins_are_no_pair() -> None:
    rule = ForgottenRule(source="absolute", accuracy=0.5)
    whole = UnlearningSummary(stop_reason="all-forgotten", thresholds=rule, sampler="uniform", updates=9)
    summary = whole.model_dump(mode="json")
    other = summary | {"sampler": "mrd", "label": "GA + MRD"}
    for margin, pairs in ((0.0, 1), (-1.0, 0)):
        judged = {"thresholds": summary["thresholds"] | {"margin": margin}}
        table = against_uniform(efficiency([summary, other | judged]))
        assert list(table["pairs"]) == [pairs]
    # A summary of before there was a margin has none.
    del summary["thresholds"]["margin"]
    assert list(efficiency([summary])["threshold_margin"]) == [0.0]
