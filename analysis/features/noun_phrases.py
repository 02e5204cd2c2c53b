"""Noun phrases: how much is said of each noun."""

from __future__ import annotations

from math import nan

from analysis.features.feature import Feature, Reading, complexity
from analysis.text.syntax import syntax

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
    parts = [i for i in nouns if trees.relations[i] in ("compound", "flat") or trees.labels[i] == "nmod:desc"]
    phrases = len(nouns) - len(parts)
    modifiers = sum(
        relation in _MODIFIERS
        and trees.tags[head] in _NOUNS
        and not (relation == "compound" and tag == trees.tags[head] == "PROPN")
        for relation, tag, head in zip(trees.relations, trees.tags, trees.heads, strict=True)
    )
    return modifiers / phrases if phrases else nan


FEATURES: tuple[Feature, ...] = (
    complexity(
        "modifiers_per_noun_phrase",
        "Modifiers per noun phrase",
        "",
        modifiers_per_noun_phrase,
        "Adjectives, numerals, possessors, compounds, nominals, clauses and appositions for each noun.",
    ),
)
