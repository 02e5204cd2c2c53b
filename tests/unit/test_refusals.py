"""Refusal answers: read from text and tables alike, never as the markup that they stand in."""

import json
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.unlearning import refusals

REFUSALS = ("I have no idea about that.", "[not my field]")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("idk.txt", "\ufeff" + "\n\n ".join(REFUSALS)),
        ("idk", "\n".join(REFUSALS)),
        ("idk.jsonl", "\n".join(json.dumps({"text": refusal}) for refusal in REFUSALS)),
        ("idk.json", json.dumps([{"anything": refusal} for refusal in REFUSALS])),
        ("idk.csv", "id,refusal\n" + "\n".join(f"{i},{refusal}" for i, refusal in enumerate(REFUSALS))),
        ("pairs.jsonl", "\n".join(json.dumps({"prompt": "?", "chosen": r, "rejected": "x"}) for r in REFUSALS)),
    ],
)
def test_text_and_tables_hold_the_same_refusals(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert refusals.load(tmp_path / name) == REFUSALS


def test_a_refusal_of_a_table_stays_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "I do not\nknow."}), encoding="utf-8")
    assert refusals.load(tmp_path / "a.jsonl") == ("I do not know.",)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("idk.txt", '{"text": "I have no idea."}', "is JSON"),
        ("idk.jsonl", '{"a": "x y", "b": "z"}', "No column is known to hold refusals. The columns are: 'a', 'b'"),
        ("idk.jsonl", '{"text": ["x"]}', "is a list, not text"),
        ("idk.jsonl", '{"text": " "}', "is empty"),
    ],
)
def test_what_is_no_refusal_is_refused(name: str, text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=why):
        refusals.load(tmp_path / name)
