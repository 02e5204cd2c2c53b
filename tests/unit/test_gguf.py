"""Models in GGUF: read as the weights that they stand for, said so, scored and unlearned like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.model.gguf_file import contents, is_gguf
from mrd_core.model.loading import load
from mrd_core.model.weights import parameter_count
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.files import UnlearningFiles
from tests.app.conftest import write_demo_rows
from tests.support.commands import ended, started
from tests.support.gguf_model import write_gguf, write_rounded


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # As Ollama names its files.
    return write_gguf(tmp_path_factory.mktemp("gguf") / "sha256-0123")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rounded(tmp_path_factory.mktemp("rounded") / "model")


def test_the_weights_are_those_that_the_file_stands_for(file: Path, folder: Path) -> None:
    read, expected = load(ModelConfig(source=str(file))), load(ModelConfig(source=str(folder)))
    stored = dict(read.network.named_parameters())
    for name, weight in expected.network.named_parameters():
        torch.testing.assert_close(stored[name], weight, rtol=0, atol=0)
    assert read.context == expected.context
    assert parameter_count(file) == parameter_count(folder)
    choice = read.choices["weights"]
    assert "are stored as F16" in choice.reason
    assert "brought back to floating point" in choice.reason


def test_texts_become_the_same_tokens(file: Path, folder: Path) -> None:
    read, expected = load(ModelConfig(source=str(file))), load(ModelConfig(source=str(folder)))
    texts = ["Where was Mara Ilves born?", "  42 cafés,\n\nand <s> more "]
    for text in texts:
        one, other = (model.encoder(ModelConfig()).one(text, "In Tartu.") for model in (read, expected))
        assert (one.tokens.tolist(), one.answer.tolist()) == (other.tokens.tolist(), other.answer.tolist())
        assert one.pieces == other.pieces
    assert read.tokenizer.chat_template == expected.tokenizer.chat_template


@pytest.mark.long
def test_it_is_scored_and_unlearned_and_what_is_saved_is_a_folder(
    file: Path, folder: Path, tmp_path: Path
) -> None:
    settings = [
        "--forget-set",
        write_demo_rows(tmp_path / "rows.jsonl", 6),
        "--draws",
        "8",
        "--stop",
        "never",
        "--workers",
        "1",
    ]
    scores, home = {}, {"MRD_HOME": str(tmp_path / "home")}
    for source in (file, folder):
        out = tmp_path / source.name
        outcome = ended(started("score", "--model", source, *settings, "--out", out, **home))
        assert outcome.code == 0, outcome.said
        scores[source] = pd.read_parquet(ScoreFiles(out).scores)
    pd.testing.assert_frame_equal(scores[file], scores[folder])
    done = tmp_path / "unlearned"
    arguments = ("--method", "ga", "--max-steps", "2", "--out", done)
    outcome = ended(started("unlearn", "--scores", tmp_path / file.name, *arguments, **home))
    assert outcome.code == 0, outcome.said
    assert "from GGUF" in outcome.said
    assert load(ModelConfig(source=str(UnlearningFiles(done).model))).dtype is torch.float32


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99])
def test_a_file_that_ends_too_soon_is_named(file: Path, tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.gguf"
    whole = file.read_bytes()
    cut.write_bytes(whole[: int(share * len(whole))])
    assert is_gguf(cut)
    with pytest.raises(UserError, match="corrupt"):
        contents(cut)
    with pytest.raises(UserError, match=r"cut\.gguf"):
        load(ModelConfig(source=str(cut)))


def test_one_part_of_several_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model-00001-of-00003.gguf", parts=3)
    with pytest.raises(UserError, match="one of 3 parts"):
        load(ModelConfig(source=str(path)))


def test_positions_that_transformers_would_not_stretch_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "longer.gguf", scaling="linear")
    with pytest.raises(UserError, match="stretches its positions"):
        load(ModelConfig(source=str(path)))


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "vocabulary.gguf", weights=False)
    with pytest.raises(UserError, match="holds no weights"):
        load(ModelConfig(source=str(path)))


def test_another_file_is_neither_folder_nor_gguf(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.gguf"
    other.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="is not a folder or a GGUF file"):
        load(ModelConfig(source=str(other)))
    adapter = shutil.copy(file, tmp_path / "adapter.gguf")
    with pytest.raises(UserError, match="is not a folder on"):
        load(ModelConfig(adapter=str(adapter)))
