"""The shell command that is shown reads back as the same configuration, and is found from anywhere."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.characteristics.command import CHARACTERISTICS
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.strata import Rule, Threshold, spelt
from analysis.characteristics.strata import parsed as parsed_threshold
from analysis.text.config import ReadingConfig
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout, Scope
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import EstimatorConfig, Normalisation, ScoreConfig
from mrd_core.settings.command import anywhere
from mrd_core.settings.installation import Settings
from tests.support.commands import read_back, taken_apart

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
            gradient_norms="no",
        ),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_line_reads_back_the_same_settings(name: str) -> None:
    assert read_back(SCORE.shown(CONFIGS[name])) == CONFIGS[name]


def test_a_path_is_read_back_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my data" / "forget set.jsonl"
    file.parent.mkdir()
    file.touch()
    config = ScoreConfig(forget_set=ForgetSetConfig(source=str(file)))
    monkeypatch.chdir("/")
    assert read_back(SCORE.shown(config)) == config


def test_settings_at_their_defaults_are_left_out() -> None:
    assert SCORE.shown(ScoreConfig(forget_set=DEMO)) == "mrd-lens score --forget-set demo --model demo"


def test_the_paper_preset_needs_only_its_name() -> None:
    command = SCORE.shown(ScoreConfig(forget_set=DEMO, estimator=EstimatorConfig.paper()))
    assert command.endswith("--preset paper")


HUB = ForgetSetConfig(source="org/name", subset="full set", split="train[:10%]", invalid_rows="skip")
READINGS = {
    "the defaults": {},
    "no corpus": {"corpus": None},
    "the demo's corpus": {"corpus": DEMO},
    "a hub data set": {"corpus": HUB},
    "a hub data set without a split": {"corpus": HUB.model_copy(update={"subset": None, "split": None})},
    "another reading": {
        "reading": ReadingConfig(
            pipeline="de_core_news_sm",
            language="de",
            text=Scope.FULL,
            common_words=1_234,
            names="ignore",
            numbers="count",
            ngram=3,
        )
    },
}


@pytest.fixture(params=["demo", "org/model"])
def score_run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The directory of a score run, in a folder whose name needs quoting."""
    directory = tmp_path / 'it\'s a "run" $HOME'
    directory.mkdir()
    write_config(directory, ScoreConfig(forget_set=DEMO, model=ModelConfig(source=request.param)))
    return directory


@pytest.mark.parametrize("name", READINGS)
def test_the_command_line_reads_with_the_same_settings(name: str, score_run: Path) -> None:
    config = CharacteristicsConfig(score_run=score_run, **READINGS[name])
    command = CHARACTERISTICS.shown(config)
    assert shlex.split(command)[:3] == ["mrd-lens", "characteristics", str(score_run)]
    assert read_back(command) == config


def test_a_corpus_is_read_back_from_any_directory(
    score_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my data" / "training set.jsonl"
    file.parent.mkdir()
    file.touch()
    monkeypatch.chdir("/")
    corpus = ForgetSetConfig(source=str(file), invalid_rows="skip")
    config = CharacteristicsConfig(score_run=score_run, corpus=corpus)
    assert read_back(CHARACTERISTICS.shown(config)) == config


def test_choices_beside_the_reading_are_options_that_may_be_repeated(score_run: Path) -> None:
    chosen = {"rare_words": Threshold(Rule.FIXED, 2.5), "association": Threshold(Rule.MEDIAN)}
    config = CharacteristicsConfig(score_run=score_run)
    thresholds = [spelt(name, threshold) for name, threshold in chosen.items()]
    choices = {"scope": ["full"], "normalisation": ["sum"], "threshold": thresholds}
    command = CHARACTERISTICS.shown(config, choices)
    words = shlex.split(command)
    assert words[words.index("--scope") :] == [
        *("--scope", "full", "--normalisation", "sum"),
        *("--threshold", "rare_words=2.5", "--threshold", "association=median"),
    ]
    assert dict(map(parsed_threshold, thresholds)) == chosen
    assert read_back(command) == config


def test_of_a_reading_only_the_corpus_is_always_named() -> None:
    config = CharacteristicsConfig(score_run=Path("/runs/one"), corpus=DEMO)
    assert CHARACTERISTICS.shown(config) == "mrd-lens characteristics /runs/one --corpus demo"
    bare = config.model_copy(update={"corpus": None})
    assert CHARACTERISTICS.shown(bare) == "mrd-lens characteristics /runs/one --corpus none"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return the settings that variables give, in a home of the test's own."""

    def given(**variables: str) -> Settings:
        for name in [name for name in os.environ if name.startswith("MRD_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings.from_environment()

    return given


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"MRD_HOME": "/data/it's mine"},
        {"MRD_STORE_URL": "sqlite:////data/a?b.db", "MRD_ROW_LIMIT": "300000"},
        {"MRD_HOME": "/data", "MRD_UNPACKED_LIMIT_MB": "7", "MRD_CELL_LIMIT": "9"},
    ],
)
def test_a_fresh_shell_sets_what_is_no_default(
    settings: Callable[..., Settings], variables: dict[str, str]
) -> None:
    expected = settings(**variables)
    environment, words = taken_apart(anywhere("mrd-lens runs list", expected.environment))
    assert (environment, words) == (variables, ["runs", "list"])
    assert settings(**environment) == expected


@pytest.mark.parametrize("default", ["", "~/.mrd-lens"])
def test_the_default_home_and_a_password_are_not_shown(settings: Callable[..., Settings], default: str) -> None:
    environment = settings(MRD_HOME=default, MRD_STORE_URL="postgresql+psycopg://me:secret@db/runs").environment
    assert environment == {"MRD_STORE_URL": "postgresql+psycopg://me:***@db/runs"}


def test_the_program_is_found_from_any_directory_without_a_search_path(tmp_path: Path) -> None:
    command = anywhere("mrd-lens --help", {})
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "characteristics" in done.stdout
