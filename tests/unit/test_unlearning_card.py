"""The card of an unlearned model says what was done, and no name in it breaks it."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
import yaml

from mrd_core.unlearning.card import ENDINGS, card
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.stopping import SOURCES, StopReason

SUMMARY = {
    "n_samples": 40,
    "updates": 1234,
    "draws": 1274,
    "steps": 319,
    "epochs": 31.85,
    "forgotten": 40,
    "forgotten_at_end": 37,
    "stop_reason": "all-forgotten",
    "forget_nll_before": 0.012,
    "forget_nll": 4.5678,
    "forget_accuracy_before": 0.9764,
    "forget_accuracy": 0.4123,
    "retain_nll_before": 0.05,
    "retain_nll": 0.25,
    "retain_accuracy_before": 0.97,
    "retain_accuracy": 0.91,
    "seconds": 95.25,
    "seconds_training": 80.0,
    "mrd_forward_evaluations": 48,
    "mrd_seconds": 12.5,
    "flops_training": 7_600_000_000_000,
    "flops_checks": 1_100_000_000,
    "flops_evaluations": 0,
    "evaluations": 0,
    "flops_mrd": 2_200_000_000,
    "learning_rate": 1e-4,
    "model_parameters": 1_291_536,
    "trainable_parameters": 1_291_536,
    "device": "cpu",
    "dtype": "float32",
    "thresholds": {"source": "absolute", "accuracy": 0.5, "extraction": None},
    "warnings": [],
    "adapter": False,
}
MRD = {"sampler": "mrd"}


def configured(**changes: Any) -> UnlearnConfig:
    settings = {"score_run": "run", "model": {"source": "demo"}, "retain": {"samples": {"source": "demo"}}}
    return UnlearnConfig.model_validate(settings | changes)


def written(summary: dict[str, Any] | None = None, **changes: Any) -> str:
    figures = UnlearningSummary.model_validate(SUMMARY | (summary or {}))
    return card(configured(**changes), figures, "Demo forget set on the demo model")


def front_matter(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def rows(text: str) -> dict[str, list[str]]:
    """Return the tables as first cell: other cells; pipes that are escaped separate nothing."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def code(text: str) -> str:
    return text.split("```python\n")[1].split("\n```")[0]


@pytest.mark.parametrize(("adapter", "library"), [(False, "transformers"), (True, "peft")])
def test_the_front_matter_names_base_model_library_and_tag(adapter: bool, library: str) -> None:
    found = front_matter(written({"adapter": adapter}, model={"source": "org/name"}))
    assert found == {"base_model": "org/name", "library_name": library, "tags": ["machine-unlearning"]}


def test_it_says_what_was_forgotten_from_what_and_how_far() -> None:
    text = written(stratum="/somewhere/hard_ones.csv")
    assert text.split("---\n")[2].startswith("\n# The demo model of MRD Lens, unlearned with GradDiff\n")
    assert "“Demo forget set on the demo model”, those of the stratum hard\\_ones.csv" in text
    assert "40 of 40 were found forgotten on the way, and 37 are so at the end" in text
    assert "1,291,536 parameters" in text


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("extraction", [None, 0.125])
def test_the_rule_names_its_thresholds_and_where_they_are_from(source: str, extraction: float | None) -> None:
    text = written({"thresholds": {"source": source, "accuracy": 0.4321, "extraction": extraction}})
    assert "(MA) is below 0.432" in text
    assert ("(EL) is below 0.125" in text) == (extraction is not None)
    assert SOURCES[source] in text


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_formula_and_its_parameters(method: str) -> None:
    text = written(method=method)
    assert f"$${METHODS[method].formula}$$" in text
    for parameter in METHODS[method].parameters:
        assert rows(text)[f"— {parameter.name}"] == [str(parameter.default)]


def test_it_says_how_the_model_was_trained() -> None:
    text = written(
        method="npo",
        parameters={"beta": 0.25},
        curriculum=MRD,
        optimiser={"batch_size": 8, "name": "sgd", "schedule": "cosine"},
        retain={"samples": {"source": "keep.csv"}, "weight": 2, "term": "kl"},
        seed=7,
    )
    found = rows(text)
    assert found["— beta"] == ["0.25"]
    assert found["Sampler"] == ["MRD-weighted, by mrd\\_answer\\_mean"]
    assert found["Optimiser"][0].startswith("sgd")
    assert found["Learning rate"] == ["0.0001, cosine"]
    assert found["Batch size"] == ["8 forget samples"]
    assert found["Retain set"] == ["keep.csv, term kl, λ = 2"]
    assert found["Seed"] == ["7"]


def test_a_retain_set_that_is_only_measured_is_not_said_to_be_trained_on() -> None:
    assert rows(written(method="ga"))["Retain set"] == ["demo, measured and not trained on"]
    assert rows(written(retain={"samples": {"source": "demo"}, "weight": 0}))["Retain set"][0].startswith(
        "demo, m"
    )
    assert "Retain set" not in rows(written(method="ga", retain={}))


def test_it_says_what_it_cost() -> None:
    found = rows(written())
    assert found["Optimiser steps"] == ["319"]
    assert found["Seconds"] == ["95.2"]
    assert found["FLOPs of training, estimated"] == ["7.6e+12"]
    assert found["Forward evaluations for MRD"] == ["48"]
    assert next(cells for name, cells in found.items() if name.startswith("Updates")) == ["1,234"]


def test_measures_stand_beside_each_other_before_and_after() -> None:
    found = rows(written())
    assert found["MA, forget set"] == ["0.976", "0.412"]
    assert found["NLL, forget set \\[nats per answer token\\]"] == ["0.012", "4.568"]
    assert found["MA, retain set"] == ["0.970", "0.910"]


def test_without_a_retain_set_there_are_no_retain_measures() -> None:
    names = ("retain_nll", "retain_accuracy")
    absent = dict.fromkeys([*names, *(f"{name}_before" for name in names)])
    assert not any("retain" in name for name in rows(written(absent, method="ga", retain={})))


def test_every_ending_with_a_result_has_its_words() -> None:
    assert set(ENDINGS) == {reason for reason in StopReason if not reason.is_failure} | {"exhausted"}
    assert all(ENDINGS[reason] in written({"stop_reason": str(reason)}) for reason in ENDINGS)


def test_warnings_of_the_run_are_passed_on() -> None:
    assert "- p is *nearly* uniform".replace("*", "\\*") in written({"warnings": ["p is *nearly* uniform"]})


def test_the_code_that_loads_a_model_is_python() -> None:
    assert "AutoModelForCausalLM.from_pretrained(folder)" in code(written())
    ast.parse(code(written()))


def test_an_adapter_is_loaded_onto_what_it_was_trained_on() -> None:
    text = code(written({"adapter": True}, model={"source": 'odd "name"', "adapter": "first"}))
    ast.parse(text)
    assert 'base = "odd \\"name\\""' in text
    assert text.index('"first").merge_and_unload()') < text.index('"path/to/this/folder"')
    assert "base = MODEL_DIR" in code(written({"adapter": True}))


HOSTILE = "a|b`c`*d*_e_<script>[x](y)\n# Heading\n---\n$f$: {g}"


def test_no_name_breaks_out_of_its_place() -> None:
    names = {
        "model": {"source": HOSTILE, "adapter": HOSTILE},
        "stratum": HOSTILE,
        "refusals": HOSTILE,
        "method": "po",
        "retain": {"samples": {"source": HOSTILE}},
    }
    text = card(configured(**names), UnlearningSummary.model_validate(SUMMARY | {"warnings": [HOSTILE]}), HOSTILE)
    assert front_matter(text)["base_model"] == HOSTILE
    body = text.split("tags:\n- machine-unlearning\n---\n")[1]
    assert "<script>" not in body
    assert "\n# Heading" not in body
    assert "\n---" not in body
    assert body.count("\n# ") == 1
    assert rows(text)["Retain set"][0].startswith("a\\|b\\`c\\`\\*d\\*\\_e\\_\\<script\\>\\[x\\](y) \\# Heading")
    assert all(len(cells) in (1, 2) for cells in rows(text).values())
