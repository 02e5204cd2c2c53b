"""A sample's text with its rare words and its clauses marked, as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from html import escape
from typing import NamedTuple

import pandas as pd

from analysis.figures.theme import BLUE, GREEN, PURPLE

CLAUSE_COLOURS = (BLUE, GREEN, PURPLE)
RARE_STYLE = (
    "background:rgba(224,138,30,.35);color:inherit;border-radius:3px;"
    "text-decoration:underline dotted 2px;text-underline-offset:2px"
)
# As many brackets fit under a line of text, this many pixels apart.
MOST_BRACKETS = 5
BRACKET_STEP = 5


class _Mark(NamedTuple):
    """A row of the spans, with the number of brackets that have to fit between the text and its own."""

    kind: str
    start: int
    end: int
    depth: int
    room: int = 0


class _Piece(NamedTuple):
    """What is drawn of a mark in one go: all of it, unless another mark crosses it."""

    start: int
    end: int
    mark: _Mark


def marked(text: str, spans: pd.DataFrame) -> str:
    """Return a text as HTML, rare words highlighted, clauses bracketed from below, outer ones lower.

    Every character of the text is escaped: a sample is a stranger's. Spans are cut to the text; where two of them
    cross, the later one is drawn in two pieces.

    Args:
        text: What was read.
        spans: One row per mark: kind ("rare" or "clause"), start, end (offsets in characters), depth (of clauses).
    """
    rows = zip(spans["kind"], spans["start"], spans["end"], spans["depth"], strict=True)
    cut = (
        _Mark(kind, max(int(start), 0), min(int(end), len(text)), int(depth)) for kind, start, end, depth in rows
    )
    # One that lies in another comes later.
    inside = sorted((mark for mark in cut if mark.start < mark.end), key=lambda mark: _order(mark.start, mark))
    pieces = _nested(_with_room(inside))
    return (
        '<div style="line-height:2.4;font-size:1.05rem;white-space:pre-wrap;overflow-wrap:anywhere">'
        f"{''.join(_tagged(text, pieces))}</div>"
    )


def legend() -> str:
    """Return the legend of the marked text as HTML."""
    examples = {
        "rare word": [("rare", 0, 9, 0)],
        "a clause in a clause": [("clause", 0, 20, 0), ("clause", 9, 20, 1)],
    }
    swatches = (
        "".join(_tagged(text, _nested(_with_room([_Mark(*mark) for mark in marks]))))
        for text, marks in examples.items()
    )
    return f'<div style="font-size:.85rem;line-height:2.2">{" &emsp; ".join(swatches)}</div>'


def _order(start: int, mark: _Mark) -> tuple[int, int, bool]:
    """Sort what begins at `start` of a mark: longer ones first, and a clause before its only word."""
    return start, -mark.end, mark.kind == "rare"


def _with_room(marks: list[_Mark]) -> list[_Mark]:
    """Give each clause the room that the clauses in it need."""
    room = [0] * len(marks)
    around: list[int] = []
    for at, mark in enumerate(marks):
        around = [outer for outer in around if marks[outer].end > mark.start]
        if mark.kind == "clause":
            for outer in around:
                room[outer] = min(max(room[outer], mark.depth - marks[outer].depth), MOST_BRACKETS - 1)
            around.append(at)
    return [mark._replace(room=levels) for mark, levels in zip(marks, room, strict=True)]


def _nested(marks: list[_Mark]) -> list[_Piece]:
    """Cut marks where an earlier one ends, so that no two pieces cross; outer ones come first."""
    queue = [(_order(mark.start, mark), _Piece(mark.start, mark.end, mark)) for mark in marks]
    heapify(queue)
    around: list[int] = []
    pieces = []
    while queue:
        _, piece = heappop(queue)
        while around and around[-1] <= piece.start:
            around.pop()
        if around and around[-1] < piece.end:
            rest = piece._replace(start=around[-1])
            heappush(queue, (_order(rest.start, rest.mark), rest))
            piece = piece._replace(end=around[-1])
        around.append(piece.end)
        pieces.append(piece)
    return pieces


def _tagged(text: str, pieces: list[_Piece]) -> Iterator[str]:
    """Yield the text, escaped, and the tags of nested pieces."""
    here, opened = 0, list[_Piece]()
    # After the last piece all that is still open is closed.
    for piece in (*pieces, None):
        while opened and (piece is None or opened[-1].end <= piece.start):
            last = opened.pop()
            yield escape(text[here : last.end]) + ("</mark>" if last.mark.kind == "rare" else "</span>")
            here = last.end
        if piece is None:
            break
        mark = piece.mark
        line = f"2px solid {CLAUSE_COLOURS[mark.depth % len(CLAUSE_COLOURS)]}"
        style = f"border-bottom:{line};padding-bottom:{2 + BRACKET_STEP * mark.room}px"
        if piece.start == mark.start:
            style += f";border-left:{line};padding-left:2px"
        if piece.end == mark.end:
            style += f";border-right:{line};padding-right:2px"
        clause = f'<span title="clause, depth {mark.depth}" style="{style}">'
        rare = f'<mark title="rare word" style="{RARE_STYLE}">'
        yield escape(text[here : piece.start]) + (rare if mark.kind == "rare" else clause)
        here = piece.start
        opened.append(piece)
    yield escape(text[here:])
