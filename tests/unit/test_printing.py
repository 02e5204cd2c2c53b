"""No text of a stranger commands the terminal: it is shown, spelt out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.markup import escape
from rich.table import Table

from mrd_core.runs import RunStore
from mrd_core.runs.printing import Terminal, visible, visible_json
from tests.support.commands import Outcome

# Sets the title of the window, clears the screen, steps back, rings, hides in C1, turns the direction of writing.
HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x08\rd\x9b31me\u202egnp.exe\x00"
SPELT = r"a\x1b]0;owned\x07b\x1b[2Jc\x08\x0dd\x9b31me\u202egnp.exe\x00"


def test_control_characters_are_spelt_out_and_all_others_stay() -> None:
    assert visible(HOSTILE) == SPELT
    kept = "Zeile\tTabulator\nUmlaut ä, 漢字, عربى, 🙂"
    assert visible(kept) == kept


def test_json_says_the_same_without_a_control_character() -> None:
    text = visible_json(json.dumps({"title": HOSTILE}, ensure_ascii=False))
    assert json.loads(text) == {"title": HOSTILE}
    assert text == visible(text)


def test_styles_and_tables_are_the_consoles_own() -> None:
    stream = io.StringIO()
    terminal = Terminal(file=stream, force_terminal=True, width=200, highlight=False)
    table = Table("Title")
    table.add_row(escape(HOSTILE))
    terminal.print(table)
    terminal.print(f"[bold]{escape(HOSTILE)}[/]")
    printed = stream.getvalue()
    assert printed.count(SPELT) == 2
    assert "\x1b[1m" in printed
    assert all(part.startswith("[") for part in printed.split("\x1b")[1:])


@pytest.mark.parametrize("words", [("list",), ("show", "{id}")])
def test_a_title_and_an_event_of_a_stranger_are_harmless(
    home: Path, cli: Callable[..., Outcome], words: tuple[str, ...]
) -> None:
    store = RunStore.open()
    run = store.create("score", HOSTILE, "cpu", home / "runs" / "hostile")
    store.add_event(run.id, "warning", HOSTILE)
    printed = cli("runs", *(word.format(id=run.id) for word in words))
    assert r"\x1b" in printed.out
    assert not set("\x1b\x07\x08\x00\x9b\u202e") & set(printed.out + printed.err)
