"""The dependency trees of a text, read alike from both label schemes of spaCy's pipelines.

Pipelines trained on a Universal Dependencies treebank make content words heads, with prepositions and copulas as
their dependents (Nivre et al. 2020). spaCy's own English pipelines carry the CLEAR labels (Choi & Palmer 2012):
prepositions are heads, and so is the copula. Clauses and the modifiers of nouns come to the same count in both;
the length and depth of edges do not, so that two texts compare only under one pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

_MAIN = frozenset({"root", "parataxis"})
_SUBORDINATE = frozenset({"csubj", "csubjpass", "ccomp", "xcomp", "advcl", "acl", "relcl", "pcomp"})
_MAKES_A_PREDICATE = frozenset({"nsubj", "nsubjpass", "csubj", "csubjpass", "expl", "cop"})
_VERBAL = frozenset({"VERB", "AUX"})
_APOSTROPHES = ("'", "’", "‘")


class Clause(NamedTuple):
    """A clause by the position of its predicate."""

    head: int
    subordinate: bool


@dataclass(frozen=True, eq=False)
class Syntax:
    """The dependency trees of one text as lists over its n tokens.

    Attributes:
        heads: Position of each token's head; a root is its own.
        labels: Dependency labels in lower case, with their subtypes ("nmod:poss").
        tags: Universal part-of-speech tags.
        spaces: Whether the token is white space.
    """

    heads: list[int]
    labels: list[str]
    tags: list[str]
    spaces: list[bool]

    @classmethod
    def of(cls, doc: Doc) -> Syntax:
        """Read the annotation of `doc`, which must have been parsed and tagged."""
        offsets, labels, tags, spaces = doc.to_array(["HEAD", "DEP", "POS", "IS_SPACE"]).T
        name = doc.vocab.strings
        return cls(
            heads=[i + offset for i, offset in enumerate(offsets.astype("int64").tolist())],
            labels=[name[key].lower() for key in labels.tolist()],
            tags=[name[key] for key in tags.tolist()],
            spaces=spaces.astype(bool).tolist(),
        )

    @cached_property
    def relations(self) -> list[str]:
        """The labels without their subtypes."""
        return [label.partition(":")[0] for label in self.labels]

    @cached_property
    def kept(self) -> list[bool]:
        """Whether the token is neither punctuation nor white space."""
        return [
            not space and relation != "punct" and tag != "PUNCT"
            for space, relation, tag in zip(self.spaces, self.relations, self.tags, strict=True)
        ]

    @cached_property
    def order(self) -> list[int]:
        """The positions level by level, so that every head comes before its dependents."""
        children: list[list[int]] = [[] for _ in self.heads]
        order: list[int] = []
        for i, head in enumerate(self.heads):
            (order if i == head else children[head]).append(i)
        for i in order:
            order.extend(children[i])
        return order

    @cached_property
    def depths(self) -> list[int]:
        """Edges between each token and the root of its sentence."""
        depths = [0] * len(self.heads)
        for i in self.order:
            head = self.heads[i]
            if head != i:
                depths[i] = depths[head] + 1
        return depths

    @cached_property
    def roots(self) -> list[int]:
        """Position of the root of each token's sentence."""
        roots = list(self.heads)
        for i in self.order:
            roots[i] = roots[self.heads[i]]
        return roots

    @cached_property
    def clauses(self) -> list[Clause]:
        """The clauses, outer ones before those inside them.

        A clause is headed by a predicate (a verb, or a word with a subject or a copula) that is a root, stands
        beside a main clause (parataxis), has a clausal relation to its head (then the clause is subordinate,
        finite or not), or is coordinated with the head of another clause (then it is not).
        """
        relations = self.relations
        predicates = {self.heads[i] for i, relation in enumerate(relations) if relation in _MAKES_A_PREDICATE}
        clauses: dict[int, Clause] = {}
        for i in self.order:
            if self.tags[i] not in _VERBAL and i not in predicates:
                continue
            relation = relations[i]
            if relation in _SUBORDINATE:
                clauses[i] = Clause(i, subordinate=True)
            elif relation in _MAIN or (relation == "conj" and self.heads[i] in clauses):
                clauses[i] = Clause(i, subordinate=False)
        return list(clauses.values())

    @cached_property
    def nesting(self) -> list[int]:
        """The number of clauses that each token lies in; the head of a clause lies in its own."""
        nesting = [0] * len(self.heads)
        for clause in self.clauses:
            nesting[clause.head] = 1
        for i in self.order:
            head = self.heads[i]
            if head != i:
                nesting[i] += nesting[head]
        return nesting

    @cached_property
    def extents(self) -> list[tuple[int, int]]:
        """First and last position of each token's subtree, punctuation at its ends left out."""
        first, last = list(range(len(self.heads))), list(range(len(self.heads)))
        for i in reversed(self.order):
            if self.kept[i]:
                head = self.heads[i]
                first[head] = min(first[head], first[i])
                last[head] = max(last[head], last[i])
        return list(zip(first, last, strict=True))


@lru_cache(maxsize=1)
def syntax(doc: Doc) -> Syntax | None:
    """Return the trees of `doc`; None where it has no word or was not parsed and tagged.

    The last answer is kept, because several features ask for it in turn.
    """
    parsed = doc.has_annotation("DEP") and doc.has_annotation("POS")
    return Syntax.of(doc) if parsed and any(map(str.isalnum, doc.text)) else None


def is_clitic(token: Token) -> bool:
    """Tell whether `token` leans on the word beside it: "n't", "'s", French "l'"."""
    text = token.text
    if text.endswith(_APOSTROPHES) and not token.whitespace_ and token.i + 1 < len(token.doc):
        return bool(token.nbor().is_alpha)
    return text.startswith(_APOSTROPHES) or text.lower() in ("n't", "n’t")
