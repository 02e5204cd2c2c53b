"""Noun phrases: how much is said of each noun."""

from __future__ import annotations

from math import nan

from analysis.features.feature import Feature, Reading
from analysis.text.syntax import Syntax, syntax

_NOUNS = frozenset({"NOUN", "PROPN"})
_MODIFIERS = frozenset({"amod", "nummod", "poss", "compound", "nmod", "prep", "acl", "relcl", "appos"})


def modifiers_per_noun_phrase(reading: Reading) -> float:
    """Return modifiers / noun phrases; undefined without a noun.

    Modifiers are adjectives, numerals, possessors, compounds, nominal modifiers and prepositional phrases,
    adnominal clauses and appositions that are attached to a noun; determiners are none, and the parts of a proper
    name do not modify each other. A noun within a compound, title or name ("*school* teacher", "*author* Jaime
    *Vasquez*") is no phrase of its own.
    """
    trees = syntax(reading.doc)
    if trees is None:
        return nan
    nouns = [i for i, tag in enumerate(trees.tags) if tag in _NOUNS]
    phrases = sum(not _is_part(trees, i) for i in nouns)
    modifiers = sum(_modifies_a_noun(trees, i) for i in range(len(trees.heads)))
    return modifiers / phrases if phrases else nan


def _is_part(trees: Syntax, i: int) -> bool:
    return trees.relations[i] in ("compound", "flat") or trees.labels[i] == "nmod:desc"


def _modifies_a_noun(trees: Syntax, i: int) -> bool:
    relation, head = trees.relations[i], trees.heads[i]
    if relation not in _MODIFIERS or trees.tags[head] not in _NOUNS:
        return False
    return not (relation == "compound" and trees.tags[i] == trees.tags[head] == "PROPN")


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="modifiers_per_noun_phrase",
        title="Modifiers per noun phrase",
        unit="",
        bins="quantiles",
        direction="more complex",
        help="Adjectives, numerals, possessors, compounds, nominals, clauses and appositions for each noun.",
        group="semantic_complexity",
        of=modifiers_per_noun_phrase,
    ),
)
