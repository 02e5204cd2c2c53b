"""A tiny model and a forget set on disk, as a user would name them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mrd_core.runs import RunStore
from mrd_core.settings.installation import Settings
from tests.support import tiny
from tests.support.commands import Outcome
from tests.support.runs import launching

CONTEXT = 128
WORDS = ("Ann", "wrote", "the", "old", "letter", "who", "read", "it", "late", "in", "a", "cold", "house")


def rows(count: int) -> list[dict[str, str]]:
    """Return `count` rows that all differ, with answers of many lengths."""
    return [
        {
            "question": f"Who {WORDS[i % 13]} {i}?",
            "answer": " ".join(WORDS[(i * 5 + j) % 13] for j in range(1 + i % 6)),
        }
        for i in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows as JSON Lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = tiny.tokenizer()
    tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_forget_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File with twelve samples."""
    return write_rows(tmp_path_factory.mktemp("tiny") / "forget.jsonl", rows(12))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process and those it starts a data root of their own."""
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def store(settings: Settings) -> RunStore:
    """The store that a module's own `settings` name."""
    return RunStore.open(settings)


@pytest.fixture
def launch(store: RunStore, settings: Settings) -> Iterator[Callable[..., None]]:
    """Launch workers as the product does, see `launching`."""
    with launching(store, settings) as start:
        yield start


@pytest.fixture
def cli(
    home: Path,  # noqa: ARG001  (nothing is written elsewhere)
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Outcome]:
    """Return a function that runs the command line in this process, which has loaded torch already."""
    from cli.door import main

    def run(*arguments: object, answer: str = "") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mrd-lens", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        return Outcome(int(code or 0), *capfd.readouterr())

    return run
