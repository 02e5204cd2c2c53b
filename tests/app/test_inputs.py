"""Inputs take what they offer from the declaration of a setting."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from mrd_core.experiments.kinds.sensitivity import SensitivityConfig
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.settings.fields import Model
from mrd_core.unlearning.config import OptimiserConfig, UnlearnConfig
from pages.shell.inputs import Form, number_or_word


@pytest.mark.parametrize(
    ("config", "field", "choices"),
    [
        (OptimiserConfig, "schedule", ["constant", "linear", "cosine"]),
        (EstimatorConfig, "scope", list(Scope)),
        (SensitivityConfig, "dtypes", ["float32", "bfloat16"]),
        (ValidityConfig, "optimisers", ["adamw", "sgd", "normalised-sgd", "sign-sgd"]),
        (UnlearnConfig, "report_to", ["tensorboard", "wandb", "mlflow", "trackio"]),
        (UnlearnConfig, "seed", []),
    ],
)
def test_the_choices_are_those_that_are_declared(config: Model, field: str, choices: list[object]) -> None:
    script = f"""
from {config.__module__} import {config.__name__}
from pages.shell.inputs import Form
Form("any").fields({config.__name__}, {{"{field}": "Label"}})
"""
    test = AppTest.from_string(script).run(timeout=60)
    assert not test.exception
    (shown,) = [*test.selectbox, *test.multiselect, *test.number_input]
    assert getattr(shown, "options", []) == choices


def test_no_two_forms_share_an_input() -> None:
    keys = [Form("score", "Paper"), Form("score", "Recommended"), Form("score"), Form("unlearn")]
    assert len({form.key_of(EstimatorConfig, "draws") for form in keys}) == len(keys)


def test_a_setting_may_be_a_number_or_a_word() -> None:
    assert (number_or_word("1e-3"), number_or_word("auto")) == (0.001, "auto")
