"""Settings and presets."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunStore
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.settings.fields import help_of
from mrd_core.settings.installation import Settings
from mrd_core.settings.options import options_of
from mrd_core.studies.product import with_paths


def test_the_environment_names_home_store_limit_and_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MRD_UPLOAD_LIMIT_MB", "7")
    monkeypatch.setenv("MRD_ALLOWED_ROOTS", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    settings = Settings.from_environment()
    assert settings.home == tmp_path / "home"
    assert settings.store_url == f"sqlite:///{tmp_path / 'home' / 'store.db'}"
    assert settings.upload_limit_mb == 7
    assert settings.allowed_roots == (tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("sqlite:///runs.db", "{here}/runs.db"),
        ("sqlite+pysqlite:///a%3Fb/runs.db?timeout=3", "{here}/a?b/runs.db"),
        ("sqlite:///~/runs.db", "{home}/runs.db"),
    ],
)
def test_a_store_in_a_file_is_the_same_from_any_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, path: str
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("MRD_STORE_URL", named)
    monkeypatch.chdir(here)
    settings = Settings.from_environment()
    # A worker finds it by what it is given, wherever it starts.
    monkeypatch.chdir(elsewhere)
    for name, value in settings.of_workers.items():
        monkeypatch.setenv(name, value)
    RunStore.open()
    assert Path(path.format(here=here, home=tmp_path / "me")).is_file()
    assert not list(elsewhere.iterdir())


def test_other_stores_are_named_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("sqlite:////data/a?b.db", "sqlite://", "postgresql+psycopg://me:secret@db/runs", "no address"):
        monkeypatch.setenv("MRD_STORE_URL", named)
        assert Settings.from_environment().store_url == named


def test_a_worker_is_given_the_scratch_disk_and_the_limits_that_were_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    least = {"MRD_HOME": str(tmp_path), "MRD_STORE_URL": f"sqlite:///{tmp_path}/store.db"}
    assert Settings.from_environment().of_workers == least
    # A link may lead elsewhere on the worker's node.
    (tmp_path / "scratch").symlink_to(tmp_path / "disk")
    further = {"MRD_SCRATCH": str(tmp_path / "scratch"), "MRD_ROW_LIMIT": "300000", "MRD_UPLOAD_LIMIT_MB": "70"}
    for name, value in further.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().of_workers == least | further


@pytest.mark.parametrize("limit", ["abc", "0", "-3", "1.5"])
def test_an_upload_limit_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("MRD_UPLOAD_LIMIT_MB", limit)
    with pytest.raises(UserError, match=f"MRD_UPLOAD_LIMIT_MB={limit}"):
        Settings.from_environment()


def test_the_paper_preset_is_the_published_setting_and_can_be_departed_from() -> None:
    paper = EstimatorConfig.paper(draws=100)
    assert (paper.mode, paper.sigma, paper.draws, paper.stop) == ("plain", 1e-5, 100, "never")
    assert EstimatorConfig.paper().draws == 200


def test_a_config_is_frozen_knows_its_keys_and_survives_json() -> None:
    config = ScoreConfig(forget_set=ForgetSetConfig(source="x.csv"))
    assert ScoreConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.model.source = "other"  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError, match="Extra inputs"):
        EstimatorConfig(sigmma=1e-3)  # type: ignore[call-arg]


@pytest.mark.parametrize(("stored", "read"), [(None, ()), ("a", ("a",)), (["a", "b"], ("a", "b"))])
def test_a_model_has_any_number_of_adapters_and_earlier_files_have_one_or_none(
    stored: object, read: tuple[str, ...]
) -> None:
    assert ModelConfig.model_validate({"adapter": stored}).adapter == read


def test_a_study_finds_its_adapters_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    found = with_paths({"adapter": ["first", "org/second"]}, ModelConfig, tmp_path)
    assert found == {"adapter": [str(tmp_path / "first"), "org/second"]}
    assert with_paths({"adapter": "first"}, ModelConfig, tmp_path) == {"adapter": str(tmp_path / "first")}


def test_adapters_are_typed_with_commas_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path)
    (option,) = (option for option in options_of(ModelConfig) if option.name == "adapter")
    adapters = [str(tmp_path / "first"), "org/second"]
    assert option.parsed(["first,org/second"]) == adapters
    assert option.words(tuple(adapters)) == ["--adapter", ",".join(adapters)]


def test_every_setting_explains_itself_with_its_unit() -> None:
    assert help_of(EstimatorConfig, "draws").endswith("[evaluations]")
    assert all(help_of(EstimatorConfig, field) != "None" for field in EstimatorConfig.model_fields)
