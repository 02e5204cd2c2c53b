"""The command that a page shows, read by the command line, is the configuration that the page would run."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.door import door
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.unlearning.command import UNLEARN
from mrd_core.unlearning.config import UnlearnConfig
from tests.support.commands import read_back

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


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_line_reads_back_the_same_run(name: str, scored: Path) -> None:
    config = config_of(scored, **CONFIGS[name])
    command = UNLEARN.shown(config)
    assert command.startswith("mrd-lens unlearn --scores ")
    assert read_back(command) == config


def test_settings_at_their_defaults_are_left_out(scored: Path) -> None:
    assert UNLEARN.shown(config_of(scored)) == f"mrd-lens unlearn --scores {shlex.quote(str(scored))}"


def test_paths_are_made_absolute_and_words_are_left_alone(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("refusals.txt", "keep.csv", "retrained"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    options = "--refusals refusals.txt --retain-set keep.csv --threshold-source reference --reference retrained"
    config = read_back(f"mrd-lens unlearn --scores {shlex.quote(str(scored))} {options}")
    assert config.refusals == tmp_path / "refusals.txt"
    assert config.retain.samples is not None
    assert config.retain.samples.source == str(tmp_path / "keep.csv")
    assert (config.stopping.source, config.stopping.reference) == ("reference", str(tmp_path / "retrained"))


def test_every_setting_of_a_run_has_an_option_but_those_of_column_mappings() -> None:
    reached = {option.path for option in UNLEARN.options}
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
    of_files = {"layout", "columns", "duplicates", "invalid_rows"}
    assert {path for path in everything - reached if not of_files & set(path)} == {("kind",)}


def test_no_two_options_have_a_name_or_a_setting_in_common() -> None:
    for values in ([option.name for option in UNLEARN.options], [option.path for option in UNLEARN.options]):
        assert max(Counter(values).values()) == 1


def test_help_lists_every_option_with_its_help() -> None:
    command = door.get_command(click.Context(door), "unlearn")
    helps = {name: parameter.help for parameter in command.params for name in parameter.opts}
    for option in UNLEARN.options:
        assert helps[f"--{option.name}"] == option.help
        assert option.help
    assert {"--model", "--scores", "--out", "--json"} <= set(helps)
    printed = " ".join(CliRunner().invoke(door, ["unlearn", "--help"], terminal_width=300).output.split())
    assert all(f"--{option.name} " in printed for option in UNLEARN.options)


def test_a_limit_of_steps_stands_alone_and_without_any_there_is_one_of_epochs(scored: Path) -> None:
    def limits(**typed: str) -> tuple[int | None, float | None]:
        limits = UNLEARN.read({"scores": str(scored)} | typed).limits
        return limits.max_steps, limits.max_epochs

    assert limits(**{"max-steps": "5"}) == (5, None)
    assert limits(**{"max-seconds": "5"}) == (None, 20)
    assert limits() == (None, 20)


def test_what_was_not_given_is_left_to_the_configuration(scored: Path) -> None:
    typed = {"scores": str(scored), "seed": None, "extraction": False, "report-to": (), "keep-forgotten": True}
    assert UNLEARN.read(typed) == config_of(scored, curriculum={"drop_forgotten": False})


def test_a_parameter_is_a_number_where_it_reads_as_one(scored: Path) -> None:
    given = {"scores": str(scored), "method": "wga"}
    config = UNLEARN.read(given | {"parameter": ["beta = 0.5", "average=samples"]})
    assert config.parameters == {"beta": 0.5, "average": "samples"}
    assert UNLEARN.read(given | {"parameter": ["beta = 0.5, average=samples"]}) == config
    assert UNLEARN.shown(config).endswith("--parameter beta=0.5,average=samples")


def _leaves(settings: dict[str, Any], path: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        leaf
        for name, value in settings.items()
        for leaf in (_leaves(value, (*path, name)) if isinstance(value, dict) and value else [(*path, name)])
    ]
