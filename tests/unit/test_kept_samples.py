"""The copy of its samples that a run keeps reads as the forget set that was scored, whatever the rows were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.reading import table_from_upload
from mrd_core.samples.validation import to_forget_set
from mrd_core.scoring.command import reproducible
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles

PAIR = {"question": "Who?", "answer": "Ann"}
ANSWER = {"role": "assistant", "content": "Ann"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "questions": [PAIR, {"question": "Where?", "answer": "NA"}],
    "texts": [{"text": "plain text"}, {"text": "more of it"}],
    "identical rows": [PAIR, PAIR],
    "several splits": [PAIR | {"split": "hard"}, {"question": "Where?", "answer": " here\n", "split": "easy"}],
    "counts and ids": [PAIR | {"id": 7, "count": 3}, {"question": "When?", "answer": "1", "id": 8, "count": None}],
    "conversations, some without a prompt": [
        {"messages": [ANSWER]},
        {"messages": [{"role": "user", "content": "Who?"}, ANSWER]},
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_kept_samples_are_read_as_they_were(name: str, tmp_path: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS[name])
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    split = "all" if name == "several splits" else None
    scored = read(ForgetSetConfig(source=str(tmp_path / "rows.jsonl"), split=split))
    kept = tmp_path / "samples.parquet"
    scored.save(kept)
    again = read(ForgetSetConfig(source=str(kept)))
    assert again.digest == scored.digest
    assert again.frame.equals(scored.frame)
    # In the browser, too.
    table = table_from_upload(kept.name, kept.read_bytes(), 10**6)
    assert to_forget_set(table.of_split(None), ForgetSetConfig(source=kept.name)).digest == scored.digest


@pytest.mark.parametrize(
    ("source", "stays"),
    [
        ("demo", True),
        ("org/name", True),
        ("{folder}/rows.jsonl", True),
        ("{folder}", True),
        ("rows.jsonl", False),
        ("{folder}/gone.jsonl", False),
    ],
)
def test_samples_that_lie_nowhere_are_those_that_the_run_keeps(
    source: str, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").touch()
    # A file of that name beside the app is another one than was uploaded.
    monkeypatch.chdir(tmp_path)
    forget_set = ForgetSetConfig(source=source.format(folder=tmp_path), split="hard", invalid_rows="skip")
    config = ScoreConfig(forget_set=forget_set, forget_set_digest="0")
    kept = ForgetSetConfig(source=str(ScoreFiles(tmp_path / "run").samples))
    expected = config if stays else config.model_copy(update={"forget_set": kept})
    assert reproducible(config, tmp_path / "run") == expected
