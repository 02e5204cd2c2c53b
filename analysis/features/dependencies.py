"""Dependency distance and depth: how far apart, and how deeply nested, the words are that belong together."""

from __future__ import annotations

from itertools import accumulate
from math import nan

from analysis.features.feature import Feature, Reading, complexity
from analysis.text.syntax import syntax


def dependency_distance(reading: Reading) -> float:
    """Return the mean of |i − j| over the dependents i of heads j (Liu 2008, Eq. 2).

    Punctuation and white space are left out before the positions are counted. Undefined without a dependent.
    """
    trees = syntax(reading.doc)
    if trees is None:
        return nan
    kept, position = trees.kept, list(accumulate(trees.kept))
    distances = [
        abs(position[i] - position[head])
        for i, head in enumerate(trees.heads)
        if i != head and kept[i] and kept[head]
    ]
    return sum(distances) / len(distances) if distances else nan


def tree_depth(reading: Reading) -> float:
    """Return the edges from the root to the deepest token, punctuation left out, in the deepest sentence.

    A sentence of one word has depth 0.
    """
    trees = syntax(reading.doc)
    if trees is None:
        return nan
    return float(max((depth for depth, kept in zip(trees.depths, trees.kept, strict=True) if kept), default=nan))


FEATURES: tuple[Feature, ...] = (
    complexity(
        "dependency_distance",
        "Dependency distance",
        "words",
        dependency_distance,
        "Mean distance between a word and its head, punctuation not counted.",
    ),
    complexity(
        "tree_depth",
        "Tree depth",
        "edges",
        tree_depth,
        "Edges from the root to the deepest word, in the deepest sentence.",
        "counts",
    ),
)
