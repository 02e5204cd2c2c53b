"""The command of an experiment, read by the command line, is the configuration that it was made from."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

import mrd_core.__main__ as cli
from mrd_core.experiments.config import EXPERIMENTS, ExperimentConfig
from mrd_core.experiments.options import OPTIONS, settings_of, words
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.options import Option
from mrd_core.shell import experiment_command

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
    "accuracy": 0.75,
    "max_updates": 33,
    "retain": {"source": "org/kept ones", "subset": "retain 90", "split": "train[:10%]"},
    "samples": 17,
    "repeats": 2,
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
}
# What a value calls for beside itself.
NEEDED: dict[str, dict[str, Any]] = {
    "methods": {"retain": {"source": "demo"}},
    "parameters": {"methods": ("wga", "npo"), "retain": {"source": "demo"}},
}
SPOKEN = {"kind", "score_run", "forget_set", "model", "estimator"}
FIELDS = [
    (name, field) for name, config in EXPERIMENTS.items() for field in config.model_fields if field not in SPOKEN
]
# Values of the options that say what is studied where nothing has been scored.
STUDIED = {
    "adapter": "org/adapter",
    "device": "cuda:3",
    "dtype": "bfloat16",
    "template": "chat",
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
    return folder


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    """What the command line would run; nothing is run."""
    configs: list[ExperimentConfig] = []

    def note(config: ExperimentConfig, **_: Any) -> None:
        configs.append(config)
        raise typer.Exit

    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    monkeypatch.setattr(cli.experiments, "request", note)
    return configs


def config_of(name: str, scored: Path, **changes: Any) -> ExperimentConfig:
    shared = SCORED.model_dump(include={"forget_set", "model", "estimator"})
    return EXPERIMENTS[name].model_validate({"score_run": scored} | shared | changes)


def read_back(command: str) -> None:
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "mrd_core", "experiment"]
    result = CliRunner().invoke(cli.app, words[3:])
    assert result.exit_code == 0, result.output or result.exception


def option_named(name: str, option: str) -> Option:
    return next(one for one in OPTIONS[name] if one.name == option)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_is_read_back_from_the_command_that_says_it(
    name: str, field: str, scored: Path, asked: list[ExperimentConfig]
) -> None:
    config = config_of(name, scored, **NEEDED.get(field, {}) | {field: OTHER[field]})
    read_back(experiment_command(config))
    assert asked == [config]
    assert getattr(asked[0], field) != EXPERIMENTS[name].model_fields[field].default


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_settings_at_once_are_read_back(name: str, scored: Path, asked: list[ExperimentConfig]) -> None:
    fields = {field: OTHER[field] for of, field in FIELDS if of == name and field != "parameters"}
    config = config_of(name, scored, **fields)
    read_back(experiment_command(config))
    assert asked == [config]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_of_the_defaults_names_the_score_run_alone(
    name: str, scored: Path, asked: list[ExperimentConfig]
) -> None:
    command = experiment_command(config_of(name, scored))
    assert command == f"python -m mrd_core experiment {name} --scores {shlex.quote(str(scored))}"
    read_back(command)
    assert asked == [config_of(name, scored)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_options_say_all_that_a_configuration_says_and_nothing_else(name: str, scored: Path) -> None:
    fields = {field: OTHER[field] for of, field in FIELDS if of == name}
    config = config_of(name, scored, **fields | NEEDED["parameters"] if "parameters" in fields else fields)
    spoken = words(config)
    given = {option.removeprefix("--"): value for option, value in zip(spoken[::2], spoken[1::2], strict=True)}
    reached = settings_of(name, given)
    assert EXPERIMENTS[name].model_validate(config.model_dump() | reached) == config
    assert not {"model", "forget_set"} & reached.keys()


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_has_an_option_with_a_help_text_that_tells_its_default(name: str, field: str) -> None:
    (option, *parts) = (one for one in OPTIONS[name] if one.path[0] == field)
    described = EXPERIMENTS[name].model_fields[field].description
    assert described
    assert option.help.startswith(described)
    assert [part.name for part in parts] == (["retain-subset", "retain-split"] if field == "retain" else [])
    if field != "retain":
        assert "by default " in option.help.lower()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_two_options_have_a_name_or_a_setting_in_common(name: str) -> None:
    for values in ([one.name for one in OPTIONS[name]], [one.path for one in OPTIONS[name]]):
        assert max(Counter(values).values()) == 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_lists_every_option_with_its_help(name: str) -> None:
    group: Any = typer.main.get_command(cli.app)
    command: click.Command = group.commands["experiment"].commands[name]
    assert EXPERIMENTS[name].figure in (command.help or "")
    help_of = {option: one.help for one in command.params for option in one.opts}  # type: ignore[attr-defined]
    for option in OPTIONS[name]:
        assert help_of[f"--{option.name}"] == option.help
        assert "None" not in option.help
    assert all(help_of[option] for option in ("--scores", "--model", "--forget-set", "--out", "--json"))
    shown = CliRunner().invoke(cli.app, ["experiment", name, "--help"], terminal_width=300).output
    assert all(f"--{option.name} " in shown for option in OPTIONS[name])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_without_scores_samples_and_model_can_be_described_in_full(
    name: str, asked: list[ExperimentConfig]
) -> None:
    assert {one.name for one in OPTIONS[name] if one.path[0] in ("model", "forget_set")} == STUDIED.keys()
    options = [word for option, value in STUDIED.items() for word in (f"--{option}", value)]
    studied = ["--model", "org/model", "--forget-set", "org/forget"]
    result = CliRunner().invoke(cli.app, ["experiment", name, *studied, *options])
    assert result.exit_code == 0, result.exception
    (config,) = asked
    assert config.score_run is None
    assert (config.model.source, config.forget_set.source) == ("org/model", "org/forget")
    assert {option: option_named(name, option).value_of(config) for option in STUDIED} == STUDIED


def test_paths_are_made_absolute_and_names_are_left_alone(
    asked: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model", "adapter", "forget.jsonl", "keep.csv", "demo"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    options = "--model model --adapter adapter --forget-set forget.jsonl --retain-set"
    for retain in ("keep.csv", "demo"):
        result = CliRunner().invoke(cli.app, ["experiment", "validity", *options.split(), retain])
        assert result.exit_code == 0, result.exception
    first, second = (config.model_dump() for config in asked)
    assert first["model"]["source"] == str(tmp_path / "model")
    assert first["model"]["adapter"] == str(tmp_path / "adapter")
    assert first["forget_set"]["source"] == str(tmp_path / "forget.jsonl")
    assert first["retain"]["source"] == str(tmp_path / "keep.csv")
    assert second["retain"]["source"] == "demo"


def test_values_with_commas_between_them_may_have_spaces_too() -> None:
    assert settings_of("validity", {"methods": " ga, wga ,", "parameters": "beta = 2, granularity=group"}) == {
        "methods": ["ga", "wga"],
        "parameters": {"beta": 2.0, "granularity": "group"},
    }


def test_what_was_not_given_is_left_to_the_configuration() -> None:
    assert settings_of("theorem", {option.name: None for option in OPTIONS["theorem"]}) == {}
