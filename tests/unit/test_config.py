"""Settings and presets."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
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
