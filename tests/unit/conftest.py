"""A tiny model and a forget set on disk, as a user would name them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit import tiny

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
