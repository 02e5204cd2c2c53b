"""Inputs take what they offer from the declaration of a setting."""

from __future__ import annotations

import pytest

from mrd_core.experiments.kinds.sensitivity import SensitivityConfig
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.unlearning.config import OptimiserConfig, UnlearnConfig
from pages.shell.inputs import Config, Form, choices_of, number_or_word


@pytest.mark.parametrize(
    ("config", "field", "choices"),
    [
        (OptimiserConfig, "schedule", ["constant", "linear", "cosine"]),
        (EstimatorConfig, "scope", list(Scope)),
        (SensitivityConfig, "dtypes", ["float32", "bfloat16"]),
        (ValidityConfig, "optimisers", ["adamw", "sgd", "normalised-sgd"]),
        (UnlearnConfig, "report_to", ["tensorboard", "wandb", "mlflow", "trackio"]),
        (UnlearnConfig, "seed", []),
    ],
)
def test_the_choices_are_those_that_are_declared(config: Config, field: str, choices: list[object]) -> None:
    assert choices_of(config, field) == choices


def test_no_two_forms_share_an_input() -> None:
    keys = [Form("score", "Paper"), Form("score", "Recommended"), Form("score"), Form("unlearn")]
    assert len({form.key_of(EstimatorConfig, "draws") for form in keys}) == len(keys)


def test_a_setting_may_be_a_number_or_a_word() -> None:
    assert (number_or_word("1e-3"), number_or_word("auto")) == (0.001, "auto")
