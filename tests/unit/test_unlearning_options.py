"""The command that a page shows, read by the command line, is the configuration that the page would run."""

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
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.shell import unlearn_command
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.options import OPTIONS, settings_of, words

SCORED = ModelConfig(source="org/scored", template="plain")
CONFIGS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "gradient ascent over steps": {"method": "ga", "limits": {"max_steps": 50}},
    "both limits, that of epochs at its default": {"limits": {"max_steps": 50, "max_epochs": 20}},
    "both limits": {"limits": {"max_steps": 50, "max_epochs": 3.5}},
    "limits of everything": {
        "retain": {"samples": {"source": "org/kept"}},
        "limits": {
            "max_epochs": 7,
            "max_seconds": 60.5,
            "max_retain_loss_rise": 0.125,
            "min_retain_accuracy": 0.75,
        },
    },
    "a curriculum": {
        "curriculum": {
            "sampler": "mrd",
            "column": "mrd_answer_sum",
            "recompute_epochs": 2,
            "recompute_pairs": 4,
            "drop_forgotten": False,
        },
        "seed": 2**40 + 1,
    },
    "a retain set": {
        "method": "npo",
        "parameters": {"beta": 0.123456789012},
        "retain": {
            "samples": {"source": "org/data set", "subset": "retain 90", "split": "train[:10%]"},
            "weight": 0.0,
            "term": "kl",
        },
    },
    "parameters of several kinds": {
        "method": "satimp",
        "parameters": {"beta1": 5.5, "granularity": "instance", "average": "samples"},
    },
    "an optimiser": {
        "optimiser": {
            "name": "sgd",
            "learning_rate": 1.2345678901234e-05,
            "weight_decay": 0.0,
            "schedule": "cosine",
            "max_grad_norm": 0.5,
            "batch_size": 16,
            "micro_batch": 2,
            "mixed_precision": "bf16",
            "gradient_checkpointing": True,
            "lora_rank": 8,
            "lora_alpha": 32,
        }
    },
    "thresholds from held-out samples": {
        "stopping": {
            "source": "held-out",
            "held_out": {"source": "demo"},
            "extraction": True,
            "probe_steps": 10,
            "probe_samples": 64,
            "checks": {"spacing": "fixed", "overshoot": 0.25, "interval": 3},
        }
    },
    "thresholds from a reference model": {"stopping": {"source": "reference", "reference": "org/retrained"}},
    "absolute thresholds": {"stopping": {"accuracy": 0.75, "extraction": True, "extraction_likelihood": 0.05}},
    "files": {"method": "po", "refusals": "/a folder/it's $mine.txt", "stratum": "/strata/hard ones.jsonl"},
    "evaluations on the way": {"evaluation": {"every_steps": 50, "samples": 12, "max_new_tokens": 32}},
    "the rest": {
        "checkpoint_steps": 7,
        "answers": 0,
        "report_to": ["wandb", "mlflow"],
        "study": 'a "study"; rm -r *',
    },
    "another model": {
        "model": {
            "source": "org/other",
            "adapter": "org/adapter",
            "device": "cuda:1",
            "dtype": "bfloat16",
            "template": "chat",
        }
    },
}


def config_of(scored: Path, **changes: Any) -> UnlearnConfig:
    return UnlearnConfig.model_validate({"score_run": scored, "model": SCORED.model_dump()} | changes)


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Directory of a score run: the command line asks it for the model."""
    folder = (tmp_path / "score run").resolve()
    folder.mkdir()
    write_config(folder, ScoreConfig(forget_set={"source": "forget.csv"}, model=SCORED))
    return folder


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[UnlearnConfig]:
    """What the command line would run; nothing is run."""
    configs: list[UnlearnConfig] = []

    def note(config: UnlearnConfig, **_: Any) -> None:
        configs.append(config)
        raise typer.Exit

    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    monkeypatch.setattr(cli, "request", note)
    return configs


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_line_reads_back_the_same_run(name: str, scored: Path, asked: list[UnlearnConfig]) -> None:
    config = config_of(scored, **CONFIGS[name])
    command = shlex.split(unlearn_command(config, SCORED))
    assert command[:4] == ["python", "-m", "mrd_core", "unlearn"]
    result = CliRunner().invoke(cli.app, command[3:])
    assert result.exit_code == 0, result.output or result.exception
    assert asked == [config]


def test_settings_at_their_defaults_are_left_out(scored: Path) -> None:
    command = unlearn_command(config_of(scored), SCORED)
    assert command == f"python -m mrd_core unlearn --scores {shlex.quote(str(scored))}"


def test_paths_are_made_absolute_and_words_are_left_alone(
    scored: Path, asked: list[UnlearnConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("refusals.txt", "keep.csv", "retrained"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    options = "--refusals refusals.txt --retain-set keep.csv --threshold-source reference --reference retrained"
    result = CliRunner().invoke(cli.app, ["unlearn", "--scores", str(scored), *options.split()])
    assert result.exit_code == 0, result.exception
    (config,) = asked
    assert config.refusals == tmp_path / "refusals.txt"
    assert config.retain.samples is not None
    assert config.retain.samples.source == str(tmp_path / "keep.csv")
    assert (config.stopping.source, config.stopping.reference) == ("reference", str(tmp_path / "retrained"))


def test_every_setting_of_a_run_has_an_option_but_those_of_column_mappings() -> None:
    reached = {option.path for option in OPTIONS}
    config = UnlearnConfig.model_validate(
        {
            "score_run": "run",
            "model": {},
            "retain": {"samples": {"source": "x"}},
            "stopping": {"held_out": {"source": "x"}},
        }
    )
    everything = set(_leaves(config.model_dump(), ()))
    assert reached <= everything | {("parameters",)}
    spoken = {("score_run",), ("model", "source"), ("kind",)}
    of_files = {"layout", "columns", "duplicates", "invalid_rows", "prompt", "answer", "id", "training_count"}
    rest = {path for path in everything - reached - spoken if not of_files & set(path)}
    assert rest <= {("stopping", "held_out", name) for name in ("subset", "split")} | {
        ("retain", "samples", "columns", "split"),
        ("stopping", "held_out", "columns", "split"),
    }


def test_no_two_options_have_a_name_or_a_setting_in_common() -> None:
    for values in ([option.name for option in OPTIONS], [option.path for option in OPTIONS]):
        assert max(Counter(values).values()) == 1


def test_help_lists_every_option_with_its_help() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, click.Group | typer.core.TyperGroup)
    command = group.commands["unlearn"]  # type: ignore[union-attr]
    help_of = {name: one.help for one in command.params for name in one.opts}
    for option in OPTIONS:
        assert help_of[f"--{option.name}"] == option.help
        assert option.help
    assert {"--model", "--scores", "--out", "--json"} <= set(help_of)
    shown = " ".join(CliRunner().invoke(cli.app, ["unlearn", "--help"], terminal_width=300).output.split())
    assert all(f"--{option.name} " in shown for option in OPTIONS)


def test_a_limit_of_steps_stands_alone_and_without_any_there_is_one_of_epochs() -> None:
    assert settings_of({"max-steps": "5"})["limits"] == {"max_steps": "5"}
    assert settings_of({"max-seconds": "5"})["limits"] == {"max_seconds": "5", "max_epochs": 20}
    assert settings_of({})["limits"] == {"max_epochs": 20}


def test_what_was_not_given_is_left_to_the_configuration() -> None:
    assert settings_of({"seed": None, "extraction": False, "report-to": [], "keep-forgotten": True}) == {
        "curriculum": {"drop_forgotten": False},
        "limits": {"max_epochs": 20},
    }


def test_a_parameter_is_a_number_where_it_reads_as_one() -> None:
    assert settings_of({"parameter": ["beta = 0.5", "average=samples"]})["parameters"] == {
        "beta": 0.5,
        "average": "samples",
    }
    config = config_of(Path("run"), method="wga", parameters={"beta": 2.0, "average": "samples"})
    assert "beta=2.0" in words(config)


def _leaves(settings: dict[str, Any], path: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        leaf
        for name, value in settings.items()
        for leaf in (_leaves(value, (*path, name)) if isinstance(value, dict) and value else [(*path, name)])
    ]
