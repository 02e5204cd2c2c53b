"""Every method, sampler, retain term, threshold and limit in a real short run, against what is said by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from mrd_core.model.config import ModelConfig
from mrd_core.model.encoding import Encoded
from mrd_core.model.generation import end_tokens
from mrd_core.model.memorization import extraction_likelihood, measure_memorization
from mrd_core.runs import RunState, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.samples import read, save_stratum
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.cost import PLANNING_EVALUATIONS
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning import refusals
from mrd_core.unlearning.config import OptimiserConfig, UnlearnConfig
from mrd_core.unlearning.evaluating import summarised
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.preparation import Prepared
from mrd_core.unlearning.sampling import ENTANGLED, SAMPLERS, WITHOUT_SCORES
from tests.support import tiny
from tests.support.marks import few_in_the_gate
from tests.support.tiny import encode
from tests.support.unlearning_runs import (
    DRAWS,
    N_FORGET,
    N_RETAIN,
    RATE,
    Place,
    Scored,
    forget_rows,
    retain_rows,
    scored_tiny,
)
from tests.unit.conftest import CONTEXT, rows, write_rows

pytestmark = pytest.mark.slow

FEW = {"max_steps": 3}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def encoded(path: Path) -> Encoded:
    return encode(read(ForgetSetConfig(source=str(path))), tiny.tokenizer(), CONTEXT, "plain")


def gpt2_with_dropout(folder: Path) -> Path:
    """Save a random GPT-2, with its tokenizer, that drops a tenth of everything while it is trained."""
    tokenizer = tiny.tokenizer()
    sizes = {"vocab_size": len(tokenizer), "n_positions": CONTEXT, "n_embd": 16, "n_layer": 2, "n_head": 2}
    settings = GPT2Config(**sizes, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, initializer_range=0.3)
    tiny.seeded(lambda: GPT2LMHeadModel(settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def extraction_of(folder: Path, path: Path) -> np.ndarray:
    network = loaded(folder)
    ends = end_tokens(tiny.tokenizer(), network)
    return extraction_likelihood(tiny.reader(network, 1000, end_ids=ends), encoded(path))


# Methods


@pytest.mark.parametrize("method", few_in_the_gate(METHODS, "graddiff", "npo", "po"))
def test_every_method_runs_to_an_end(method: str, place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config(method=method, retain=scored.kept, limits=FEW))
    assert (run.summary["stop_reason"], run.summary["steps"], run.summary["method"]) == ("max-steps", 3, method)
    assert run.summary["setting"] == read_config(run.run.directory, UnlearnConfig).setting
    assert run.summary["forget_nll"] > run.summary["forget_nll_before"]
    trains_on_retain = METHODS[method].default_retain_weight > 0
    assert [bool(step["retain"]) for step in run.steps] == [trains_on_retain] * 3
    assert (run.summary["tokens_retained"] > 0) == trains_on_retain


@pytest.mark.parametrize("method", ["wga", "simnpo"])
def test_a_method_whose_retain_term_is_optional_runs_without_a_retain_set(
    method: str, place: Place, scored: Scored
) -> None:
    run = place.carried_out(scored.config(method=method, limits=FEW))
    assert run.summary["retain_nll"] is run.summary["retain_nll_before"] is None
    assert {step["retain_loss"] for step in run.steps} == {None}
    assert not run.metric("retain_nll")


def test_a_retain_weight_of_zero_leaves_the_term_out_and_gives_what_ga_gives(place: Place, scored: Scored) -> None:
    ga = place.carried_out(scored.config(limits=FEW))
    weightless = scored.config(method="graddiff", retain=scored.kept | {"weight": 0}, limits=FEW)
    assert place.carried_out(weightless).losses == ga.losses


def test_npo_begins_at_the_loss_of_the_starting_model(place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config(method="npo", retain=scored.kept, limits=FEW))
    # Against itself the model has log σ(0) = −log 2, and β is 0.1.
    assert run.steps[0]["forget_loss"] == pytest.approx(2 / 0.1 * math.log(2), rel=1e-4)


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_undial_that_lowers_nothing_teaches_the_starting_model_itself(
    lora_rank: int | None, place: Place, scored: Scored
) -> None:
    # AdamW makes whole steps of what is left of a gradient by rounding.
    optimiser = {"name": "sgd", "learning_rate": 0.5, "weight_decay": 0.0, "lora_rank": lora_rank}
    run = place.carried_out(
        scored.config(method="undial", parameters={"beta": 0}, optimiser=optimiser, limits={"max_steps": 4})
    )
    assert run.summary["forget_nll"] == pytest.approx(run.summary["forget_nll_before"], rel=1e-3)
    lowered = scored.config(method="undial", optimiser=optimiser, limits={"max_steps": 4})
    assert place.carried_out(lowered).summary["forget_nll"] > 1.1 * run.summary["forget_nll_before"]


def test_dpo_begins_where_answers_and_refusals_are_level_and_makes_refusals_more_likely(
    place: Place, scored: Scored
) -> None:
    run = place.carried_out(scored.config(method="dpo", retain=scored.kept, limits=FEW))
    assert run.steps[0]["forget_loss"] == pytest.approx(2 / 0.1 * math.log(2), rel=1e-4)
    assert run.summary["forget_nll"] > run.summary["forget_nll_before"]
    assert run.files.refusals.exists()
    # Two texts a sample go through the model.
    alone = place.carried_out(scored.config(method="npo", retain=scored.kept, limits=FEW))
    assert run.summary["tokens_trained"] > 1.3 * alone.summary["tokens_trained"]


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_rmu_steers_the_states_of_a_layer_and_keeps_those_of_the_retain_set(
    lora_rank: int | None, place: Place, scored: Scored
) -> None:
    optimiser = {"learning_rate": 1e-2, "lora_rank": lora_rank}
    run = place.carried_out(
        scored.config(method="rmu", parameters={"ell": 1}, retain=scored.kept, optimiser=optimiser, limits=FEW)
    )
    assert read_json(run.files.start)["reasons"]["steered layer"] == "1 (as asked)"
    first, *_, last = run.steps
    # As long as the model is the starting model its states are those.
    assert first["retain_loss"] == pytest.approx(0, abs=1e-9)
    assert last["retain_loss"] > 0
    assert last["forget_loss"] < first["forget_loss"]
    with pytest.raises(ValidationError, match="retain term of its own"):
        scored.config(method="rmu", retain=scored.kept | {"term": "kl"})


@pytest.mark.parametrize("method", ["dpo", "undial", "rmu", "graddiff"])
def test_what_the_starting_model_reads_beside_the_model_is_part_of_the_cost_of_training(
    method: str, place: Place, scored: Scored
) -> None:
    run = place.carried_out(scored.config(method=method, retain=scored.kept, limits=FEW))
    texts = encoded(scored.forget)
    lengths = dict(zip(texts.sample_ids, texts.lengths.tolist(), strict=True))
    drawn = [pair for step in run.steps for pair in zip(step["forget"], step["trained"], strict=True)]
    own = sum(lengths[sample] for sample, trained in drawn if trained)
    trained, retained = run.summary["tokens_trained"], run.summary["tokens_retained"]
    # The refusals beside the answers; the answers; the retain texts; nothing.
    read = {"dpo": trained - own, "undial": own, "rmu": retained, "graddiff": 0}[method]
    assert (read > 0) == (method != "graddiff")
    # Forward passes: an update is three of them.
    passes = 3 * (trained + retained) + read
    assert run.summary["flops_training"] == 2 * run.summary["model_parameters"] * passes


def test_pdu_holds_the_retain_loss_at_a_limit_unless_it_is_given_a_weight(place: Place, scored: Scored) -> None:
    held = place.carried_out(scored.config(method="pdu", retain=scored.kept, limits={"max_steps": 6}))
    limit = 1.1 * held.summary["retain_nll_before"] + 0.05
    expected, losses = [0.0], [step["retain_loss"] for step in held.steps]
    for loss in losses[:-1]:
        expected.append(max(0.0, expected[-1] + loss - limit))
    assert list(held.metric("retain_weight").values()) == pytest.approx(expected, abs=1e-6)
    reason = read_json(held.files.start)["reasons"]["retain limit"]
    assert reason == f"{limit:.3g} nats per token (1.1 times that of the starting model, and 0.05 more)"
    weighed = place.carried_out(
        scored.config(method="pdu", retain=scored.kept | {"weight": 1}, limits={"max_steps": 2})
    )
    assert not weighed.metric("retain_weight")


@pytest.mark.parametrize(
    ("method", "retain", "stated"),
    [
        ("pdu", {"term": "kl"}, "0.05 nats per token"),
        ("graddiff", {"term": "kl", "limit": "auto"}, "0.05 nats per token"),
        ("rmu", {"limit": "auto"}, "0.05"),
    ],
)
def test_a_retain_term_that_begins_at_zero_is_held_at_a_limit_of_its_own(
    method: str, retain: dict[str, Any], stated: str, place: Place, scored: Scored
) -> None:
    config = scored.config(
        method=method,
        retain=scored.kept | retain,
        optimiser={"learning_rate": 1e-2},
        limits={"max_steps": 6},
    )
    run = place.carried_out(config)
    expected, losses = [0.0], [step["retain_loss"] for step in run.steps]
    for loss in losses[:-1]:
        # Of a step that trains nothing there is no loss that λ could follow.
        expected.append(expected[-1] if loss is None else max(0.0, expected[-1] + loss - 0.05))
    trained = [any(step["trained"]) for step in run.steps]
    assert [loss is not None for loss in losses] == trained
    assert not all(itertools.chain.from_iterable(step["trained"] for step in run.steps))
    assert list(run.metric("retain_weight").values()) == pytest.approx(expected, abs=1e-6)
    reason = run.summary["reasons"]["retain limit"]
    assert reason == f"{stated} (0, which the term is of the starting model, and 0.05 more)"


def test_any_method_with_a_retain_term_can_hold_it(place: Place, scored: Scored) -> None:
    settings = {"method": "graddiff", "limits": {"max_steps": 6}, "checkpoint_steps": 2}
    retain = scored.kept | {"limit": 0.01, "limit_rate": 3.0}
    whole = place.carried_out(scored.config(retain=retain, **settings))
    assert max(whole.metric("retain_weight").values()) > 0
    half = place.carried_out(scored.config(retain=retain, **settings | {"limits": {"max_steps": 3}}))
    assert half.metric("retain_weight").items() <= whole.metric("retain_weight").items()


@pytest.mark.parametrize(
    ("method", "retain", "why"),
    [
        ("graddiff", {"limit": 0.5, "weight": 1.0}, "takes the place of its weight"),
        ("ga", {"limit": 0.5}, "has no retain term"),
    ],
)
def test_a_limit_that_holds_nothing_is_refused(
    method: str, retain: dict[str, float], why: str, scored: Scored
) -> None:
    with pytest.raises(ValidationError, match=why):
        scored.config(method=method, retain=scored.kept | retain, limits=FEW)


def test_po_teaches_the_refusals_of_a_file(
    place: Place, scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("I was never told.", "Ask Ann.")
    (tmp_path / "refusals.txt").write_text("\n".join(lines) + "\n\n")
    taught = []
    choose = refusals.choose
    monkeypatch.setattr(refusals, "choose", lambda *given: taught.append(choose(*given)) or taught[-1])
    run = place.carried_out(
        scored.config(
            method="po",
            retain=scored.kept,
            refusals=tmp_path / "refusals.txt",
            limits={"max_steps": 30},
            optimiser={"learning_rate": 1e-2},
        )
    )
    assert set(taught) == set(lines)
    assert len(taught) == run.summary["draws"]
    # The samples' own answers are looked at on the way: they get lost too.
    looked = [value for step in run.steps for value in step["accuracy"]]
    assert None in looked
    assert any(value is not None for value in looked)
    assert set(run.metric("forget_accuracy")) == {
        step["step"] for step in run.steps if any(value is not None for value in step["accuracy"])
    }
    assert run.summary["forgotten"] > 0
    assert run.summary["tokens_checked"] > 0
    # The NLL of refusals is not that of the samples.
    assert set(run.metric("refusal_nll")) == set(range(1, run.summary["steps"] + 1))
    assert not run.metric("forget_nll")
    assert all("refusal_nll" in step and "forget_nll" not in step for step in run.steps)


# Retain terms and what is trained


@pytest.mark.parametrize("lora", [None, 4])
def test_the_kl_term_is_zero_while_the_model_is_the_starting_model_and_grows(
    lora: int | None, place: Place, scored: Scored
) -> None:
    optimiser = {"learning_rate": 1e-2, "lora_rank": lora}
    config = scored.config(
        method="graddiff", retain=scored.kept | {"term": "kl"}, optimiser=optimiser, limits={"max_steps": 4}
    )
    losses = [step["retain_loss"] for step in place.carried_out(config).steps]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[-1] > 1e-4


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_is_the_result_where_one_is_trained(checkpointing: bool, place: Place, scored: Scored) -> None:
    optimiser = {"learning_rate": 3e-2, "lora_rank": 4, "gradient_checkpointing": checkpointing}
    run = place.carried_out(scored.config(optimiser=optimiser))
    assert run.summary["adapter"]
    assert 0 < run.summary["trainable_parameters"] < run.summary["model_parameters"]
    assert not (run.files.model / "model.safetensors").exists()
    network = PeftModel.from_pretrained(loaded(scored.model), run.files.model)
    found = measure_memorization(tiny.reader(network, 1000), encoded(scored.forget))
    assert found.nll.mean() == pytest.approx(run.summary["forget_nll"], rel=1e-4)
    assert run.summary["forget_nll"] > 10 * run.summary["forget_nll_before"]
    assert "library_name: peft" in (run.files.model / "README.md").read_text()
    assert json.loads((run.files.model / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        scored.model
    )


def test_an_adapter_on_a_model_that_another_was_merged_into_names_no_base(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    tiny.save_adapter(scored.model, tmp_path / "other")
    model = {"source": str(scored.model), "adapter": str(tmp_path / "other"), "device": "cpu"}
    optimiser = {"learning_rate": 1e-2, "lora_rank": 2}
    run = place.carried_out(scored.config(model=model, optimiser=optimiser, limits=FEW))
    # The base alone, which peft could load, is not what this adapter was trained on.
    settings = json.loads((run.files.model / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] is None
    merged = PeftModel.from_pretrained(loaded(scored.model), tmp_path / "other").merge_and_unload()
    wrapped = PeftModel.from_pretrained(merged, run.files.model)
    found = measure_memorization(tiny.reader(wrapped, 1000), encoded(scored.forget))
    assert found.nll.mean() == pytest.approx(run.summary["forget_nll"], rel=1e-4)


def test_a_training_pass_sees_what_a_measurement_sees_though_the_model_has_dropout(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    folder = gpt2_with_dropout(tmp_path / "gpt2")
    run = place.carried_out(
        scored.config(
            model={"source": str(folder), "device": "cpu"},
            method="graddiff",
            retain=scored.kept | {"term": "kl"},
            optimiser={"learning_rate": 1e-6, "batch_size": N_FORGET},
            # So little does it know that all would count as forgotten, and no retain partner be passed.
            curriculum={"sampler": "easy-to-hard", "drop_forgotten": False},
            limits={"max_steps": 1},
        )
    )
    assert sorted(run.steps[0]["forget"]) == [f"f{i}" for i in range(N_FORGET)]
    expected = measure_memorization(tiny.reader(loaded(folder), 1000), encoded(scored.forget))
    assert len(set(expected.accuracy)) > 2
    measured = dict(zip(encoded(scored.forget).sample_ids, expected.accuracy, strict=True))
    assert run.steps[0]["accuracy"] == pytest.approx([measured[one] for one in run.steps[0]["forget"]])
    assert run.steps[0]["retain_loss"] == pytest.approx(0, abs=1e-6)
    # Whoever trains the result on finds the dropout that the model came with.
    assert AutoModelForCausalLM.from_pretrained(run.files.model).config.resid_pdrop == 0.1


@pytest.mark.parametrize(
    ("dtype", "lora", "warned"), [("bfloat16", None, True), ("bfloat16", 2, False), ("float32", None, False)]
)
def test_weights_that_are_trained_in_bf16_are_warned_of(
    dtype: str, lora: int | None, warned: bool, place: Place, scored: Scored
) -> None:
    config = scored.config(
        model={"source": str(scored.model), "device": "cpu", "dtype": dtype},
        optimiser={"learning_rate": RATE, "lora_rank": lora},
        limits={"max_steps": 1},
    )
    run = place.carried_out(config)
    assert run.summary["dtype"] == dtype
    assert any("trained in bfloat16" in text for text in run.summary["warnings"]) == warned


def test_an_adapter_that_was_interrupted_goes_on_where_it_was(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mrd_core.unlearning.trainer import Trainer

    config = scored.config(optimiser={"learning_rate": 1e-2, "lora_rank": 2}, checkpoint_steps=2)
    whole = place.carried_out(config)
    original = Trainer.step

    def dies(self: Trainer, *arguments: Any, **named: Any) -> bool:
        if self.steps == 4:
            raise KeyboardInterrupt
        return original(self, *arguments, **named)

    monkeypatch.setattr(Trainer, "step", dies)
    run = place.carried_out(config)
    assert run.run.state is RunState.CANCELLED
    monkeypatch.undo()
    resumed = run.resumed()
    assert resumed.order == whole.order
    np.testing.assert_allclose(resumed.losses, whole.losses, rtol=1e-6, atol=1e-6)
    assert resumed.summary["forget_nll"] == pytest.approx(whole.summary["forget_nll"], rel=1e-6)


def test_what_only_saves_memory_changes_no_step(place: Place, scored: Scored) -> None:
    settings: list[dict[str, Any]] = [{}, {"gradient_checkpointing": True}, {"micro_batch": 1}, {"micro_batch": 3}]
    plain, *saving = [
        place.carried_out(scored.config(optimiser={"learning_rate": RATE} | setting, limits=FEW))
        for setting in settings
    ]
    for run in saving:
        assert run.order == plain.order
        np.testing.assert_allclose(run.losses, plain.losses, rtol=1e-3)


def test_the_learning_rate_follows_its_schedule(place: Place, scored: Scored) -> None:
    optimiser = {"name": "sgd", "learning_rate": 1e-3, "schedule": "linear", "mixed_precision": "bf16"}
    rates = list(place.carried_out(scored.config(optimiser=optimiser)).metric("learning_rate").values())
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.8e-3 > rates[-2] > 0


# It moves no weight: what is measured after it is what was measured before.
NO_STEP = {"name": "sgd", "learning_rate": 1e-30, "weight_decay": 0.0}


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_mixed_precision_is_that_of_the_passes_that_train_and_of_no_measurement(
    lora_rank: int | None, place: Place, scored: Scored
) -> None:
    evaluation = {"every_steps": 1, "samples": 3, "max_new_tokens": 2, "keep_best": False}
    optimiser = NO_STEP | {"lora_rank": lora_rank, "mixed_precision": "bf16"}
    stopping = {"probe_steps": 1}
    settings = {"method": "graddiff", "retain": scored.kept, "stopping": stopping, "limits": {"max_steps": 2}}
    mixed = place.carried_out(scored.config(optimiser=optimiser, evaluation=evaluation, **settings))
    for measure in ("forget_nll", "forget_accuracy", "retain_nll", "retain_accuracy"):
        assert mixed.summary[measure] == mixed.summary[f"{measure}_before"]
    assert len(set(mixed.metric("retain_nll").values())) == 1
    first, *later = mixed.files.read_evaluations()
    figures = [{name: value for name, value in line.items() if "_" in name} for line in (first, *later)]
    assert figures[1:] == figures[:1] * 2
    whole = place.carried_out(scored.config(optimiser=optimiser | {"mixed_precision": "no"}, **settings))
    assert whole.summary["forget_nll"] == mixed.summary["forget_nll"]
    # The passes that train are rounded.
    (exact, rounded) = (run.steps[0]["forget_nll"] for run in (whole, mixed))
    assert exact != rounded == pytest.approx(exact, rel=0.2)


def test_mrd_measured_anew_is_in_the_precision_of_the_weights(place: Place, scored: Scored) -> None:
    shares = []
    for precision in ("no", "bf16"):
        config = scored.config(
            curriculum={"sampler": "mrd", "recompute_epochs": 1, "recompute_pairs": 2},
            optimiser=NO_STEP | {"mixed_precision": precision},
            limits={"max_epochs": 2},
        )
        shares.append(place.carried_out(config).metric("effective_share"))
    whole, mixed = shares
    assert whole == mixed
    assert whole


@pytest.mark.parametrize(
    ("method", "term", "forget", "retain"),
    [
        ("npo", "nll", 2 / 0.1 * math.log(2), None),
        ("dpo", "kl", 2 / 0.1 * math.log(2), 0.0),
        ("rmu", "nll", None, 0.0),
    ],
)
def test_a_mixed_pass_is_compared_with_the_starting_model_in_its_own_precision(
    method: str,
    term: str,
    forget: float | None,
    retain: float | None,
    place: Place,
    scored: Scored,
    tmp_path: Path,
) -> None:
    # What is known by heart has no NLL that could be rounded.
    unknown = gpt2_with_dropout(tmp_path / "gpt2")
    config = scored.config(
        model={"source": str(unknown), "device": "cpu"},
        method=method,
        retain=scored.kept | {"term": term},
        curriculum={"drop_forgotten": False},
        optimiser={"learning_rate": RATE, "mixed_precision": "bf16"},
        limits={"max_steps": 1},
    )
    (step,) = place.carried_out(config).steps
    # Before the first step the model is the starting model.
    assert forget is None or step["forget_loss"] == pytest.approx(forget, rel=1e-5)
    assert retain is None or step["retain_loss"] == pytest.approx(retain, abs=1e-12)


def test_an_automatic_learning_rate_says_why_it_is_so(place: Place, scored: Scored) -> None:
    run = place.carried_out(scored.config(optimiser={}, limits={"max_steps": 1}, answers=0))
    assert run.summary["learning_rate"] == 1e-4
    assert "million weights" in run.summary["reasons"]["learning rate"]
    assert run.outcome["own_answer_after"].isna().all()
    rates = [OptimiserConfig(lora_rank=rank).rate_for(10**9) for rank in (None, 8)]
    assert [rate.value for rate in rates] == ["1e-05", "0.0001"]
    assert "an adapter takes 10 times" in rates[1].stated


# Evaluations on the way


def test_without_a_retain_set_an_adapter_is_evaluated_without_mia_and_utility_and_that_is_said(
    place: Place, scored: Scored
) -> None:
    config = scored.config(
        optimiser={"learning_rate": 1e-2, "lora_rank": 2},
        evaluation={"every_steps": 2, "samples": 3, "max_new_tokens": 4},
        limits=FEW,
    )
    run = place.carried_out(config)
    lines = run.files.read_evaluations()
    assert [line["step"] for line in lines] == [0, 2, 3]
    names = ("probability", "exact_memorization", "extraction_strength", "rouge", "answer_match")
    measured = {f"forget_{name}" for name in names}
    assert all(set(line) == {"step", "updates", "seconds", "tokens", "completeness"} | measured for line in lines)
    # The adapter is part of what is evaluated.
    assert lines[-1]["forget_probability"] < lines[0]["forget_probability"]
    assert any("no retain set: completeness is the mean of UA and RR" in one for one in run.summary["warnings"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"forget_answer_match": 0.25, "forget_mia_min_k_retain": 0.5, "forget_rouge": 0.5},
            {"completeness": (0.75 + 0.5 + 0.5) / 3},
        ),
        ({"forget_answer_match": 0.25}, {"completeness": 0.75}),
        ({"retain_rouge": 0.5, "retain_answer_match": 1.0}, {"utility": 0.75}),
        ({"forget_probability": 0.5}, {}),
    ],
    ids=["all of forget", "no word for ROUGE", "retain", "nothing that counts"],
)
def test_completeness_and_utility_are_means_of_what_is_defined(
    values: dict[str, float], expected: dict[str, float]
) -> None:
    assert summarised(values) == pytest.approx(expected)


# Samplers


# Entanglement is measured beside the scores, and no part of their cost.
@pytest.mark.parametrize("sampler", few_in_the_gate(SAMPLERS.keys() - ENTANGLED, "mrd", "easy-to-hard"))
def test_every_sampler_runs_to_an_end_and_counts_what_mrd_costs(
    sampler: str, place: Place, scored: Scored
) -> None:
    run = place.carried_out(scored.config(curriculum={"sampler": sampler}, limits=FEW))
    assert run.summary["sampler"] == sampler
    assert run.summary["mrd_forward_evaluations"] == (0 if sampler in WITHOUT_SCORES else DRAWS)
    assert (run.summary["flops_mrd"] > 0) == (sampler not in WITHOUT_SCORES)


def test_a_variant_of_mrd_costs_all_of_scoring_with_its_planning_at_the_size_of_the_scored_model(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    larger = tiny.llama(vocab_size=len(tiny.tokenizer()), max_position_embeddings=CONTEXT, hidden_size=64)
    larger.save_pretrained(tmp_path / "larger")
    tiny.tokenizer().save_pretrained(tmp_path / "larger")
    run = place.carried_out(
        scored.config(
            model={"source": str(tmp_path / "larger"), "device": "cpu"},
            curriculum={"sampler": "column", "column": "mean_absolute_answer_sum"},
            limits=FEW,
        )
    )
    scores = ScoreFiles(scored.directory).read_summary()
    assert run.summary["model_parameters"] > scores["model_parameters"] == loaded(scored.model).num_parameters()
    assert run.summary["mrd_forward_evaluations"] == DRAWS
    assert run.summary["mrd_seconds"] == scores["seconds"]
    passes = DRAWS + PLANNING_EVALUATIONS
    tokens = int(encoded(scored.forget).lengths.sum())
    assert run.summary["flops_mrd"] == 2 * scores["model_parameters"] * passes * tokens


def test_only_draws_by_chance_can_be_nearly_uniform(place: Place, scored: Scored) -> None:
    found = {}
    for sampler in ("uniform", "easy-to-hard", "hard-to-easy"):
        run = place.carried_out(scored.config(curriculum={"sampler": sampler}, limits={"max_steps": 1}))
        start = read_json(run.files.start)
        found[sampler] = run.summary["nearly_uniform"]
        assert start["nearly_uniform"] is found[sampler]
        assert start["effective_share"] == run.summary["effective_share"] == pytest.approx(1)
    assert found == {"uniform": True, "easy-to-hard": None, "hard-to-easy": None}


def test_a_column_that_is_no_mrd_costs_no_mrd(place: Place, scored: Scored) -> None:
    curriculum = {"sampler": "column", "column": "n_tokens_answer"}
    run = place.carried_out(scored.config(curriculum=curriculum, limits=FEW))
    assert run.summary["mrd_forward_evaluations"] == run.summary["flops_mrd"] == 0
    frame = pd.read_parquet(run.files.curriculum)
    np.testing.assert_allclose(frame["share"], frame["n_tokens"] / frame["n_tokens"].sum())


@pytest.mark.parametrize(("sampler", "ascending"), [("easy-to-hard", False), ("hard-to-easy", True)])
def test_a_strict_order_draws_each_sample_once_an_epoch_by_its_score(
    sampler: str, ascending: bool, place: Place, scored: Scored
) -> None:
    run = place.carried_out(
        scored.config(
            curriculum={"sampler": sampler, "column": "mrd_answer_sum", "drop_forgotten": False},
            optimiser={"learning_rate": RATE, "batch_size": 5},
            limits={"max_epochs": 2},
        )
    )
    scores = pd.read_parquet(run.files.curriculum).set_index("sample_id")["mrd_answer_sum"]
    epoch = list(scores.sort_values(ascending=ascending).index)
    assert [sample for step in run.steps for sample in step["forget"]] == epoch * 2
    assert (run.summary["stop_reason"], run.summary["epochs"]) == ("max-epochs", 2)


def test_mrd_that_is_measured_anew_counts_its_evaluations(place: Place, scored: Scored) -> None:
    curriculum = {"sampler": "mrd", "recompute_epochs": 1, "recompute_pairs": 2, "drop_forgotten": False}
    run = place.carried_out(
        scored.config(
            curriculum=curriculum, optimiser={"learning_rate": RATE, "batch_size": 5}, limits={"max_steps": 5}
        )
    )
    # Ten samples by five: two epochs end within the run. A baseline and two pairs each.
    assert set(run.metric("effective_share")) == {2, 4}
    assert run.summary["mrd_forward_evaluations"] == DRAWS + 2 * (1 + 2 * 2)
    passes = DRAWS + PLANNING_EVALUATIONS + 2 * (1 + 2 * 2)
    tokens = int(encoded(scored.forget).lengths.sum())
    assert run.summary["flops_mrd"] == 2 * run.summary["model_parameters"] * passes * tokens


def test_forgotten_samples_stay_in_the_pool_where_that_is_asked_for(place: Place, scored: Scored) -> None:
    run = place.carried_out(
        scored.config(
            curriculum={"drop_forgotten": False}, limits={"max_steps": 40}, optimiser={"learning_rate": 5e-3}
        )
    )
    assert run.summary["forgotten"] > 0
    assert all(all(step["trained"]) for step in run.steps)
    assert run.summary["updates"] == run.summary["draws"] == sum(len(step["forget"]) for step in run.steps)
    counted = Counter(sample for step in run.steps for sample in step["forgotten"])
    assert set(counted.values()) == {1}


# Thresholds


def test_the_initial_average_is_the_average_over_the_forget_set(place: Place, scored: Scored) -> None:
    run = place.carried_out(
        scored.config(stopping={"source": "initial-average", "extraction": True}, limits={"max_steps": 1})
    )
    thresholds = run.summary["thresholds"]
    assert thresholds["source"] == "initial-average"
    before = measure_memorization(tiny.reader(loaded(scored.model), 1000), encoded(scored.forget))
    assert thresholds["accuracy"] == pytest.approx(before.accuracy.mean())
    assert thresholds["extraction"] == pytest.approx(np.nanmean(extraction_of(scored.model, scored.forget)))


@pytest.mark.parametrize("has_copy", [True, False], ids=["with its copy", "of an earlier version, without one"])
def test_held_out_thresholds_are_the_average_over_the_samples_that_were_named(
    place: Place, scored: Scored, tmp_path: Path, has_copy: bool
) -> None:
    held_out = write_rows(
        tmp_path / "held-out.jsonl", [row | {"id": f"h{i}"} for i, row in enumerate(rows(18)[12:])]
    )
    stopping = {"source": "held-out", "held_out": {"source": str(held_out)}}
    waiting = place.submitted(scored.config(stopping=stopping, limits={"max_steps": 1}))
    expected = measure_memorization(tiny.reader(loaded(scored.model), 1000), encoded(held_out)).accuracy.mean()
    assert 0 < expected < 1
    # What becomes of the file while the run waits is nothing to it.
    (held_out if has_copy else waiting.files.held_out).unlink()
    run = waiting.carried_out()
    assert run.summary["thresholds"] == {
        "source": "held-out",
        "accuracy": pytest.approx(expected),
        "extraction": None,
        "margin": 0.0,
    }


def test_reference_thresholds_are_the_average_of_another_model(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    other = loaded(scored.model)
    with torch.no_grad():
        other.get_output_embeddings().weight += 0.3 * tiny.seeded(
            lambda: torch.randn_like(other.get_output_embeddings().weight)
        )
    other.save_pretrained(tmp_path / "other")
    tiny.tokenizer().save_pretrained(tmp_path / "other")
    stopping = {"source": "reference", "reference": str(tmp_path / "other"), "extraction": True}
    run = place.carried_out(scored.config(stopping=stopping, limits={"max_steps": 1}))
    expected = measure_memorization(tiny.reader(other, 1000), encoded(scored.forget)).accuracy.mean()
    assert 0 < expected < 1
    assert run.summary["thresholds"]["accuracy"] == pytest.approx(expected)
    extraction = np.nanmean(extraction_of(tmp_path / "other", scored.forget))
    assert run.summary["thresholds"]["extraction"] == pytest.approx(extraction)


def test_extraction_is_measured_only_where_accuracy_passes_and_both_must_pass(
    place: Place, scored: Scored
) -> None:
    stopping = {"extraction": True, "extraction_likelihood": 0.05}
    run = place.carried_out(
        scored.config(stopping=stopping, limits={"max_steps": 40}, optimiser={"learning_rate": 5e-3})
    )
    passing = {step["step"] for step in run.steps if any(accuracy < 0.5 for accuracy in step["accuracy"])}
    measured = run.metric("extraction")
    assert measured
    assert set(measured) <= passing
    found = extraction_of(run.files.model, scored.forget)
    small = ~(found >= 0.05)
    expected = (run.outcome["accuracy_after"].to_numpy() < 0.5) & small
    np.testing.assert_array_equal(run.outcome["forgotten_at_end"], expected)


# Samples


def test_a_stratum_restricts_the_run_to_its_samples(place: Place, scored: Scored, tmp_path: Path) -> None:
    whole = read(ForgetSetConfig(source=str(scored.forget)))
    stratum = save_stratum(whole, ["f7", "f2", "f5"], "hard ones", tmp_path)
    run = place.carried_out(scored.config(stratum=stratum, curriculum={"sampler": "mrd"}, limits=FEW))
    assert run.summary["n_samples"] == 3
    assert list(run.outcome.index) == ["f2", "f5", "f7"]
    assert {sample for step in run.steps for sample in step["forget"]} <= {"f2", "f5", "f7"}
    # No step draws more than there is.
    assert {len(step["forget"]) for step in run.steps} == {3}
    assert run.summary["epochs"] == 3


def test_retain_rows_that_are_to_be_forgotten_are_left_out_with_a_warning(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    overlapping = write_rows(tmp_path / "both.jsonl", [*retain_rows(), *forget_rows()[:3]])
    config = scored.config(method="graddiff", retain={"samples": {"source": str(overlapping)}}, limits=FEW)
    run = place.carried_out(config)
    assert run.summary["warnings"][0].startswith("3 rows of the retain set are in the forget set too")
    kept = pd.read_parquet(run.files.retain)["sample_id"]
    assert set(kept) == {f"r{i}" for i in range(N_RETAIN)}
    assert {sample for step in run.steps for sample in step["retain"]} <= set(kept)


def test_a_prompt_that_is_too_long_loses_its_beginning_with_a_warning(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    long = {"id": "long", "question": "Who wrote the old letter " * 40, "answer": "Ann"}
    retain = write_rows(tmp_path / "long.jsonl", [*retain_rows(), long])
    config = scored.config(method="graddiff", retain={"samples": {"source": str(retain)}}, limits=FEW)
    run = place.carried_out(config)
    assert run.summary["warnings"][0].startswith(
        f"Of the retain set 1 of {N_RETAIN + 1} samples had the beginning of the prompt cut off"
    )


def test_the_curriculum_has_no_sample_that_cannot_be_trained_on(
    place: Place, scored: Scored, tmp_path: Path
) -> None:
    # Nothing predicts the only token of the second.
    texts = ("the old letter", "e", "Ann wrote it", "late letters")
    source = write_rows(tmp_path / "t.jsonl", [{"id": f"t{i}", "text": text} for i, text in enumerate(texts)])
    score = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(source)),
        model=ModelConfig(source=str(scored.model), device="cpu"),
        estimator=EstimatorConfig(sigma=1e-3, draws=4, stop="never", workers=1),
    )
    scores = submit(score, store=place.store, settings=place.settings)
    assert worker.run(scores.directory, store=place.store) is RunState.SUCCEEDED
    run = place.submitted(scored.config(score_run=scores.directory, limits=FEW, answers=0))
    assert len(pd.read_parquet(run.files.curriculum)) == len(texts)
    done = run.carried_out()
    left = pd.read_parquet(run.files.curriculum)
    fit = ["t0", "t2", "t3"]
    assert list(left["sample_id"]) == list(done.outcome.index) == fit
    np.testing.assert_allclose(left["share"], 1 / 3)
    assert done.summary["n_samples"] == len(fit)
    assert done.summary["warnings"][0].startswith("1 of 4 samples of the forget set")
    assert {one for step in done.steps for one in step["forget"]} <= set(fit)


# The end of a run


def test_a_run_ends_when_all_are_forgotten(place: Place, scored: Scored) -> None:
    run = place.carried_out(
        scored.config(
            curriculum={"sampler": "easy-to-hard"}, limits={"max_steps": 200}, optimiser={"learning_rate": 1e-2}
        )
    )
    assert (run.summary["stop_reason"], run.summary["forgotten"]) == ("all-forgotten", N_FORGET)
    assert run.outcome["forgotten_step"].max() == run.summary["steps"] < 200


def test_the_samples_that_came_back_are_counted_one_by_one(place: Place, scored: Scored, tmp_path: Path) -> None:
    # Nearly what is to be forgotten is to be kept, with four times the weight.
    nearly = [row | {"id": f"n{i}", "answer": row["answer"] + " too"} for i, row in enumerate(forget_rows())]
    kept = write_rows(tmp_path / "nearly.jsonl", nearly)
    run = place.carried_out(
        scored.config(
            method="graddiff",
            retain={"samples": {"source": str(kept)}, "weight": 4},
            curriculum={"sampler": "easy-to-hard"},
            limits={"max_steps": 20},
            optimiser={"learning_rate": 5e-3},
        )
    )
    found, at_end = run.outcome["forgotten_step"].notna(), run.outcome["forgotten_at_end"]
    came_back = int((found & ~at_end).sum())
    assert run.summary["came_back"] == came_back
    assert f"{came_back} of the {found.sum()} samples that were found forgotten" in " ".join(
        run.summary["warnings"]
    )
    assert came_back > 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_epochs": 1.5}, "max-epochs"),
        ({"max_steps": 500, "max_seconds": 1e-6}, "max-seconds"),
        ({"max_steps": 500, "max_retain_loss_rise": 0.01}, "retain-loss"),
        ({"max_steps": 500, "min_retain_accuracy": 0.99}, "retain-accuracy"),
    ],
)
def test_a_run_ends_at_its_limits_and_by_its_guards(
    limits: dict[str, float], reason: str, place: Place, scored: Scored
) -> None:
    config = scored.config(
        limits=limits, retain=scored.kept, stopping={"probe_steps": 5}, optimiser={"learning_rate": 5e-3}
    )
    run = place.carried_out(config)
    assert run.summary["stop_reason"] == reason
    if reason == "max-epochs":
        assert run.summary["draws"] >= 15 > run.summary["draws"] - 4
    if reason.startswith("retain"):
        assert run.summary["steps"] % 5 == 0
        name = {"retain-loss": "retain_nll", "retain-accuracy": "retain_accuracy"}[reason]
        curve = list(run.metric(name).values())
        beyond = [value - curve[0] > 0.01 if reason == "retain-loss" else value < 0.99 for value in curve]
        assert beyond == [False] * (len(curve) - 1) + [True]
    assert any(f"The run ended ({reason})" in warning for warning in run.summary["warnings"])


def test_the_probed_samples_are_as_many_as_asked_for(
    place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    memorized = Prepared.memorized

    def counted(self: Prepared, samples: Encoded, *more: Any) -> Any:
        sizes.append(len(samples))
        return memorized(self, samples, *more)

    monkeypatch.setattr(Prepared, "memorized", counted)
    stopping = {"probe_steps": 2, "probe_samples": 3}
    place.carried_out(
        scored.config(method="graddiff", retain=scored.kept, stopping=stopping, limits={"max_steps": 4})
    )
    assert sizes.count(3) == 1 + 2
