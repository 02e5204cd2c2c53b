"""The command of an experiment, read by the command line, is the configuration that it was made from."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.door import door
from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.kinds import experiments
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.options import Option
from mrd_core.unlearning.config import UnlearnConfig
from tests.support.commands import read_back

SCORED = ScoreConfig(
    forget_set={"source": "org/forget", "split": "train"},
    model=ModelConfig(source="org/scored", template="plain", device="cuda:1"),
    estimator={"draws": 32, "sigma": 1e-3},
)
# A value that is no default, for every field that an experiment may have.
OTHER: dict[str, Any] = {
    "seed": 2**40 + 1,
    "methods": ("npo", "ga"),
    "optimisers": ("sgd", "normalised-sgd", "adamw"),
    "parameters": {"beta": 0.123456789012, "granularity": "instance"},
    "learning_rate": 1.2345678901234e-05,
    "weight_decay": 0.125,
    "lora_rank": 6,
    "accuracy": 0.75,
    "max_updates": 33,
    "retain": {"source": "org/kept ones", "subset": "retain 90", "split": "train[:10%]"},
    "samples": 17,
    "repeats": 2,
    "retain_samples": 12,
    "composites": 9,
    "size": 11,
    "selections": 6,
    "column": "mrd_full_sum",
    "sigmas": (1.5e-7, 0.1 + 0.2),
    "dtypes": ("bfloat16",),
    "pairs": 12,
    "draws": 18,
    "sigma": 3.3e-05,
    "probes": 5,
    "reference": "org/retrained",
    "unrelated": {"source": "org/other texts", "split": "train"},
    "paraphrases": {"source": "org/asked otherwise", "subset": "forget 10"},
    "attacks": ("control", "int4"),
    "seeds": 4,
    "share": 0.2,
    "steps": 12,
    "batch_size": 6,
    "sampled": 9,
    "sampling_seconds": 45.5,
    "given": (3, 9),
    "answers": "ends",
}
# What a value calls for beside itself.
NEEDED: dict[str, dict[str, Any]] = {
    "methods": {"retain": {"source": "demo"}},
    "parameters": {"methods": ("wga", "npo"), "retain": {"source": "demo"}},
}
SPOKEN = {"kind", "score_run", "runs", "forget_set", "model", "estimator"}
# Those that are asked for by a score run, or by model and forget set.
ON_SCORES = [name for name, experiment in experiments().items() if experiment.base is None]
DATA_SETS = ("retain", "unrelated", "paraphrases")
FIELDS = [
    (name, field)
    for name, experiment in experiments().items()
    for field in experiment.config.model_fields
    if field not in SPOKEN
]
# Values of the options that say what is studied where nothing has been scored.
STUDIED = {
    "adapter": "org/adapter",
    "device": "cuda:3",
    "dtype": "bfloat16",
    "template": "chat",
    "system": "Be brief.",
    "date": "2026-07-04",
    "layout": "tofu",
    "subset": "forget 10",
    "split": "train[:5%]",
    "duplicates": "drop",
    "invalid-rows": "skip",
    "prompt-column": "asked",
    "answer-column": "the answer",
    "id-column": "number",
    "split-column": "part",
    "training-count-column": "seen",
}


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Directory of a score run: the command line asks it for samples and model."""
    folder = (tmp_path / "score run").resolve()
    folder.mkdir()
    write_config(folder, SCORED)
    unlearned = folder.with_name("unlearning run")
    unlearned.mkdir()
    write_config(unlearned, UnlearnConfig(score_run=folder, model=SCORED.model, method="ga"))
    return folder


def config_of(name: str, scored: Path, **changes: Any) -> ExperimentConfig:
    shared = SCORED.model_dump(include={"forget_set", "model", "estimator"})
    if "runs" in experiments()[name].config.model_fields:
        shared |= {"runs": (scored.with_name("unlearning run"),)}
        shared["model"] |= {"device": "auto", "dtype": "auto"}
    return experiments()[name].config.model_validate({"score_run": scored} | shared | changes)


def option_named(name: str, option: str) -> Option:
    return next(one for one in COMMANDS[name].options if one.name == option)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_is_read_back_from_the_command_that_says_it(name: str, field: str, scored: Path) -> None:
    config = config_of(name, scored, **NEEDED.get(field, {}) | {field: OTHER[field]})
    assert read_back(COMMANDS[name].shown(config)) == config
    assert getattr(config, field) != experiments()[name].config.model_fields[field].default


@pytest.mark.parametrize("name", experiments())
def test_all_settings_at_once_are_read_back(name: str, scored: Path) -> None:
    fields = {field: OTHER[field] for of, field in FIELDS if of == name and field != "parameters"}
    config = config_of(name, scored, **fields)
    assert read_back(COMMANDS[name].shown(config)) == config


@pytest.mark.parametrize("name", experiments())
def test_the_command_of_the_defaults_names_the_run_that_it_builds_on_alone(name: str, scored: Path) -> None:
    command = COMMANDS[name].shown(config_of(name, scored))
    built_on = ("scores", scored) if name in ON_SCORES else ("run", scored.with_name("unlearning run"))
    assert command == f"mrd-lens experiment {name} --{built_on[0]} {shlex.quote(str(built_on[1]))}"
    assert read_back(command) == config_of(name, scored)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_has_an_option_with_a_help_text_that_tells_its_default(name: str, field: str) -> None:
    (option, *parts) = (one for one in COMMANDS[name].options if one.path[0] == field)
    described = experiments()[name].config.model_fields[field].description
    assert described
    assert option.help.startswith(described)
    is_set = field in DATA_SETS
    assert [part.name for part in parts] == ([f"{field}-subset", f"{field}-split"] if is_set else [])
    if not is_set and experiments()[name].config.model_fields[field].default is not None:
        assert "by default " in option.help.lower()


@pytest.mark.parametrize("name", experiments())
def test_no_two_options_have_a_name_or_a_setting_in_common(name: str) -> None:
    for values in ([one.name for one in COMMANDS[name].options], [one.path for one in COMMANDS[name].options]):
        assert max(Counter(values).values()) == 1


@pytest.mark.parametrize("name", experiments())
def test_help_lists_every_option_with_its_help(name: str) -> None:
    group: Any = door.get_command(click.Context(door), "experiment")
    command: click.Command = group.commands[name]
    assert experiments()[name].figure in (command.help or "")
    helps = {option: one.help for one in command.params for option in one.opts}  # type: ignore[attr-defined]
    for option in COMMANDS[name].options:
        assert helps[f"--{option.name}"] == option.help
        assert "None" not in option.help
    built_on = ("--scores", "--model", "--forget-set") if name in ON_SCORES else ("--run", "--device", "--dtype")
    assert all(helps[option] for option in (*built_on, "--out", "--json"))
    assert ("--model" in helps) == (name in ON_SCORES)
    shown = CliRunner().invoke(door, ["experiment", name, "--help"], terminal_width=300).output
    assert all(f"--{option.name} " in shown for option in COMMANDS[name].options)


@pytest.mark.parametrize("name", ON_SCORES)
def test_without_scores_samples_and_model_can_be_described_in_full(name: str) -> None:
    described = {one.name for one in COMMANDS[name].options if one.path[0] in ("model", "forget_set")}
    assert described == STUDIED.keys() | {"model", "forget-set", "close-texts"}
    options = [word for option, value in STUDIED.items() for word in (f"--{option}", value)]
    studied = ["--model", "org/model", "--forget-set", "org/forget"]
    config = read_back(shlex.join(["mrd-lens", "experiment", name, *studied, *options]))
    assert read_back(COMMANDS[name].shown(config)) == config
    assert config.score_run is None
    assert (config.model.source, config.forget_set.source) == ("org/model", "org/forget")
    values = {option: option_named(name, option).value_of(config) for option in STUDIED}
    assert values.pop("adapter") == ("org/adapter",)
    assert {option: str(value) for option, value in values.items()} == {
        option: typed for option, typed in STUDIED.items() if option != "adapter"
    }


def test_paths_are_made_absolute_and_names_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "adapter", "forget.jsonl", "keep.csv", "demo"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    options = "--model model --adapter adapter --forget-set forget.jsonl --retain-set"
    first, second = (
        read_back(f"mrd-lens experiment validity {options} {retain}").model_dump()
        for retain in ("keep.csv", "demo")
    )
    assert first["model"]["source"] == str(tmp_path / "model")
    assert first["model"]["adapter"] == (str(tmp_path / "adapter"),)
    assert first["forget_set"]["source"] == str(tmp_path / "forget.jsonl")
    assert first["retain"]["source"] == str(tmp_path / "keep.csv")
    assert second["retain"]["source"] == "demo"


def test_values_with_commas_between_them_may_have_spaces_too(scored: Path) -> None:
    typed = {"scores": str(scored), "methods": [" ga, wga ,"], "parameters": ["beta = 2, granularity=group"]}
    config = COMMANDS["validity"].read(typed)
    assert isinstance(config, ValidityConfig)
    assert (config.methods, config.parameters) == (("ga", "wga"), {"beta": 2.0, "granularity": "group"})


def test_what_was_not_given_is_left_to_the_configuration(scored: Path) -> None:
    form = COMMANDS["theorem"]
    nothing = {option.name: None for option in form.options}
    assert form.read(nothing | {"scores": str(scored)}) == config_of("theorem", scored)


def test_another_device_than_that_of_the_scores_is_said_and_read_back(scored: Path) -> None:
    config = config_of("theorem", scored, model=SCORED.model.model_copy(update={"device": "cpu"}))
    command = COMMANDS["theorem"].shown(config)
    assert command.endswith("--device cpu")
    assert read_back(command) == config
