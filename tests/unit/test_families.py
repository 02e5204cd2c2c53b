"""Families of language models, each as its own plain pass means it: draws, batches, evaluations, texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForMultimodalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.model.generation import Prefix, Way, continuations, way_of
from mrd_core.model.likelihood import Scorer
from mrd_core.model.loading import load
from mrd_core.model.own_pass import require_own_log_probs
from mrd_core.runs import submit
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.unlearning.config import UnlearnConfig
from tests.conftest import REPOSITORY
from tests.support import families, matrix, replay, tiny
from tests.support.marks import few_in_the_gate
from tests.support.unlearning_runs import Place, Unlearned
from tests.unit.conftest import rows, write_rows

IN_THE_GATE = (*families.QUICK, "camembert", "dory")
# Read images and text; of Llama 4 the text part alone is loaded.
WHOLE = {"gemma3", "mistral3", "qwen3_5"}
each_check = pytest.mark.parametrize("check", matrix.CHECKS, ids=lambda check: check.title)


@pytest.mark.slow
@pytest.mark.parametrize("family", few_in_the_gate(families.FAMILIES, *IN_THE_GATE))
@each_check
def test_a_family_is_read_as_its_own_plain_pass_means_it(family: str, check: matrix.Check) -> None:
    assert check.measure(families.network(family)) <= check.bound


@pytest.mark.parametrize("family", few_in_the_gate(families.MULTIMODAL.keys() - families.NOT_WHOLE, *WHOLE))
@each_check
def test_the_text_part_of_a_model_that_reads_more_is_read_as_it_means_it(family: str, check: matrix.Check) -> None:
    assert check.measure(families.network(family)) <= check.bound


def saved(family: str, folder: Path) -> Any:
    """Save a random model with its tokenizer, and return it."""
    network = families.built(family).eval().requires_grad_(False)
    network.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return network


def senses(network: Any) -> dict[str, torch.Tensor]:
    """Return the weights for images and sound, by name."""
    text = {*network.get_decoder().parameters(), *network.get_output_embeddings().parameters()}
    return {name: weight for name, weight in network.named_parameters() if weight not in text}


@pytest.mark.parametrize("family", sorted(WHOLE))
def test_of_a_folder_that_holds_more_the_text_part_is_scored(family: str, tmp_path: Path) -> None:
    whole, samples = saved(family, tmp_path), families.samples()
    model = load(ModelConfig(source=str(tmp_path), device="cpu"))
    assert type(model.network) is type(whole)
    assert model.context == 256
    assert model.choices["weights"].value == "the text part"
    np.testing.assert_allclose(tiny.log_probs(model.network, samples), replay.log_probs(whole, samples), rtol=1e-4)
    assert senses(model.network)
    assert not {*Scorer(model.network).parameters()} & {*senses(model.network).values()}


def test_where_the_whole_does_not_run_the_text_part_is_loaded_alone(tmp_path: Path) -> None:
    whole, samples = saved("llama4", tmp_path / "whole"), families.samples()
    model = load(ModelConfig(source=str(tmp_path / "whole"), device="cpu"))
    assert "not loaded" in model.choices["weights"].reason
    expected = replay.log_probs(whole.language_model, samples)
    np.testing.assert_allclose(tiny.log_probs(model.network, samples), expected, rtol=1e-4)
    model.network.save_pretrained(tmp_path / "text")
    model.tokenizer.save_pretrained(tmp_path / "text")
    again = load(ModelConfig(source=str(tmp_path / "text"), device="cpu"))
    np.testing.assert_array_equal(tiny.log_probs(again.network, samples), tiny.log_probs(model.network, samples))


@pytest.mark.parametrize("family", few_in_the_gate(WHOLE, "mistral3"))
def test_what_is_unlearned_opens_again_with_its_other_parts_as_they_were(family: str, tmp_path: Path) -> None:
    whole = saved(family, tmp_path / "model")
    forget = write_rows(tmp_path / "forget.jsonl", rows(4))
    retain = write_rows(tmp_path / "retain.jsonl", rows(8)[4:])
    place = Place.of(tmp_path / "home")
    model = ModelConfig(source=str(tmp_path / "model"), device="cpu")
    estimator = EstimatorConfig(sigma=1e-3, draws=4, stop="never", workers=1)
    score = ScoreConfig(forget_set=ForgetSetConfig(source=str(forget)), model=model, estimator=estimator)
    scored = Unlearned(submit(score, store=place.store, settings=place.settings), place.store).carried_out()
    run = place.carried_out(
        UnlearnConfig.model_validate(
            {
                "score_run": scored.run.directory,
                "model": model,
                "method": "npo",
                "retain": {"samples": {"source": str(retain)}},
                "optimiser": {"learning_rate": 1e-3},
                "curriculum": {"drop_forgotten": False},
                "limits": {"max_steps": 3},
                "answers": 1,
            }
        )
    )
    assert run.steps[0]["forget_loss"] == pytest.approx(2 / 0.1 * math.log(2), rel=1e-4)
    assert "the text part" in run.summary["reasons"]["weights"]
    unlearned = AutoModelForMultimodalLM.from_pretrained(run.files.model)
    before, after = senses(whole), senses(unlearned)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    moved = load(ModelConfig(source=str(run.files.model), device="cpu")).network
    samples = families.samples()
    assert np.abs(tiny.log_probs(moved, samples) - tiny.log_probs(whole, samples)).max() > 1e-3


@pytest.mark.parametrize(
    ("family", "way"), [("llama", Way.BATCHES), ("rwkv", Way.SINGLY), ("camembert", Way.PLAINLY)]
)
def test_a_model_writes_in_the_fastest_way_that_agrees_with_its_plain_pass(family: str, way: Way) -> None:
    assert way_of(families.network(family), tiny.CPU) is way


def test_a_model_that_generate_fails_on_writes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = families.built("llama").eval().requires_grad_(False)

    def fail(*_args: object, **_settings: object) -> None:
        raise ValueError

    monkeypatch.setattr(network, "generate", fail)
    prefix = Prefix(families.samples().samples[0].tokens[:5], 4)
    assert continuations(matrix.reader(network), [prefix]) == [matrix.greedy(network, prefix)]


# What cannot be done


@pytest.mark.parametrize("family", few_in_the_gate(families.REFUSED, "xlnet"))
def test_a_causal_model_by_name_alone_is_refused(family: str) -> None:
    with pytest.raises(UserError):
        require_own_log_probs(families.network(family), tiny.CPU)


def test_every_class_of_causal_models_is_tried_or_left_out_with_a_reason() -> None:
    tried = families.FAMILIES | families.MULTIMODAL | families.REFUSED
    classes = {CAUSAL[family] for family in tried if family in CAUSAL}
    assert {family for family, kind in CAUSAL.items() if kind not in classes} == families.LEFT_OUT.keys()
    assert len(families.LEFT_OUT) <= 10


def test_the_document_names_every_family() -> None:
    lines = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
    named = {line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")}
    named -= {"column", "family", *(check.title for check in matrix.CHECKS)}
    tried = families.FAMILIES | families.MULTIMODAL | families.REFUSED
    assert named == tried.keys() | families.LEFT_OUT.keys()
    assert not any("!" in line for line in lines if line.startswith("| ") and " | " in line)


def refusal(folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        load(ModelConfig(source=str(folder), device="cpu"))
    return caught.value


def test_a_model_that_needs_another_package_names_it(tmp_path: Path) -> None:
    # As many as it has layers, so that it looks like a model.
    save_file({f"layers.{layer}": torch.zeros(1) for layer in range(2)}, tmp_path / "model.safetensors")
    config = families.configuration("gemma3n")
    config.architectures = ["Gemma3nForConditionalGeneration"]
    config.save_pretrained(tmp_path)
    error = refusal(tmp_path)
    assert "needs a package that is not installed" in error.why
    assert "timm" in error.why


def test_a_model_whose_prompt_sees_what_is_behind_it_is_refused(tmp_path: Path) -> None:
    saved("paligemma", tmp_path)
    assert "no causal language model" in refusal(tmp_path).why


def test_a_model_that_takes_more_than_a_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = families.built("llama").eval().requires_grad_(False)

    def forward(*_args: object, **_texts: object) -> None:
        raise ValueError("pixel_values are missing")

    monkeypatch.setattr(network.model, "forward", forward)
    with pytest.raises(UserError) as caught:
        require_own_log_probs(network, tiny.CPU)
    assert (
        "no log-probabilities of a text alone as this program asks for them: ValueError: pixel_values"
        in caught.value.why
    )
