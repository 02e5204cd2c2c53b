"""Clauses: how many there are, how long they are, and how many of them are subordinate.

A sentence without a predicate ("Paris.") has no clause. Sentences count where they hold a word.
"""

from __future__ import annotations

from math import nan

from analysis.features.feature import Feature, Reading, complexity
from analysis.text.syntax import syntax


def clauses_per_sentence(reading: Reading) -> float:
    """Return clauses / sentences; 0 for fragments."""
    trees = syntax(reading.doc)
    if trees is None:
        return nan
    return len(trees.clauses) / len({trees.roots[token.i] for token in reading.words})


def words_per_clause(reading: Reading) -> float:
    """Return words / clauses; undefined without a clause."""
    trees = syntax(reading.doc)
    return len(reading.words) / len(trees.clauses) if trees and trees.clauses else nan


def subordination_ratio(reading: Reading) -> float:
    """Return subordinate clauses / clauses; undefined without a clause."""
    trees = syntax(reading.doc)
    if trees is None or not trees.clauses:
        return nan
    return sum(clause.subordinate for clause in trees.clauses) / len(trees.clauses)


FEATURES: tuple[Feature, ...] = (
    complexity(
        "clauses_per_sentence",
        "Clauses per sentence",
        "",
        clauses_per_sentence,
        "Main, coordinated and subordinate clauses, finite or not, per sentence.",
    ),
    complexity(
        "words_per_clause",
        "Words per clause",
        "words",
        words_per_clause,
        "Words of the text / clauses of the text.",
    ),
    complexity(
        "subordination_ratio",
        "Subordination",
        "",
        subordination_ratio,
        "Share of the clauses that depend on another one.",
    ),
)
