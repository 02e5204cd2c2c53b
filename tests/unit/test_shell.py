"""The shell command on a page does what the page would do."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mrd_core.__main__ as cli
from mrd_core.config import (
    ColumnMapping,
    EstimatorConfig,
    ForgetSetConfig,
    Layout,
    ModelConfig,
    Normalisation,
    Scope,
    ScoreConfig,
)
from mrd_core.shell import score_command

DEMO = ForgetSetConfig(source="demo")
CONFIGS = {
    "the defaults": ScoreConfig(forget_set=DEMO),
    "the paper's preset": ScoreConfig(forget_set=DEMO, estimator=EstimatorConfig.paper()),
    "the paper's preset with changes": ScoreConfig(
        forget_set=DEMO, estimator=EstimatorConfig.paper(sigma="auto", draws=192, stop="reliability")
    ),
    "columns with spaces and quotes": ScoreConfig(
        forget_set=ForgetSetConfig(
            source='a folder/it\'s "mine" $HOME `x`.csv',
            layout=Layout.COLUMNS,
            columns=ColumnMapping(
                prompt="the question",
                answer='Ann\'s "answer"',
                id="",
                split="--split",
                training_count="n; rm -r *",
            ),
        )
    ),
    "a hub data set": ScoreConfig(
        forget_set=ForgetSetConfig(
            source="org/name", subset="forget 10", split="train", duplicates="drop", invalid_rows="skip"
        )
    ),
    "another model": ScoreConfig(
        forget_set=DEMO,
        model=ModelConfig(
            source="org/model", adapter="org/adapter", device="cuda:1", dtype="bfloat16", template="plain"
        ),
    ),
    "every option of the estimator": ScoreConfig(
        forget_set=DEMO,
        estimator=EstimatorConfig(
            sigma=0.0012345678901234567,
            draws=1000,
            seed=2**40 + 1,
            stop="never",
            median_relative_se=0.012345678,
            p90_relative_se=0.1,
            reliability=0.95,
            scope=Scope.FULL,
            normalisation=Normalisation.SUM,
            workers=3,
            batch_tokens=512,
        ),
    ),
}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[ScoreConfig]:
    """What the command line would score; nothing is scored."""
    configs: list[ScoreConfig] = []
    monkeypatch.setattr(cli, "_score", lambda config, _directory, _as_json: configs.append(config))
    return configs


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_line_reads_back_the_same_settings(name: str, parsed: list[ScoreConfig]) -> None:
    words = shlex.split(score_command(CONFIGS[name]))
    assert words[:3] == ["python", "-m", "mrd_core"]
    result = CliRunner().invoke(cli.app, words[3:])
    assert result.exit_code == 0, result.output
    assert parsed == [CONFIGS[name]]


def test_a_path_is_read_back_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[ScoreConfig]
) -> None:
    file = tmp_path / "my data" / "forget set.jsonl"
    file.parent.mkdir()
    file.touch()
    config = ScoreConfig(forget_set=ForgetSetConfig(source=str(file)))
    monkeypatch.chdir("/")
    assert CliRunner().invoke(cli.app, shlex.split(score_command(config))[3:]).exit_code == 0
    assert parsed == [config]


def test_settings_at_their_defaults_are_left_out() -> None:
    command = score_command(ScoreConfig(forget_set=DEMO))
    assert command == "python -m mrd_core score --model demo --forget-set demo"


def test_the_paper_preset_needs_only_its_name() -> None:
    command = score_command(ScoreConfig(forget_set=DEMO, estimator=EstimatorConfig.paper()))
    assert command.endswith("--preset paper")
