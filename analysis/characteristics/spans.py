"""What the text view marks in a text: rare words and clauses."""

from __future__ import annotations

from typing import Literal, NamedTuple

from analysis.features.feature import Reading
from analysis.features.rare_words import rare_tokens
from analysis.text.syntax import syntax


class Span(NamedTuple):
    """A stretch of a text.

    Attributes:
        kind: What is marked.
        start: Offset of its first character.
        end: Offset behind its last character.
        depth: How many clauses it lies in; a clause does not lie in itself.
    """

    kind: Literal["rare", "clause"]
    start: int
    end: int
    depth: int


def spans(reading: Reading) -> list[Span]:
    """Return the marks of a text by where they start, longer ones first.

    A clause reaches from the first to the last word that depends on its head, so that clauses nest; only where the
    edges of a tree cross may two of them overlap. Without a parse only rare words are marked.
    """
    trees = syntax(reading.doc)
    marks = []
    if trees:
        for clause in trees.clauses:
            first, last = (reading.doc[i] for i in trees.extents[clause.head])
            marks.append(Span("clause", first.idx, last.idx + len(last), trees.nesting[clause.head] - 1))
    for token in rare_tokens(reading):
        depth = trees.nesting[token.i] if trees else 0
        marks.append(Span("rare", token.idx, token.idx + len(token), depth))
    return sorted(marks, key=lambda mark: (mark.start, -mark.end, mark.depth))
