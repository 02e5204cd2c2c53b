"""Questions and answers about people who never lived: the forget, retain and held-out sets of the demo.

Every person has one row in each of six styles, three lengths by two vocabularies, and each style carries
the same mix of training counts. So length, rarity of words and training frequency vary independently of each
other in every split, and a difference between easy and hard samples can be traced to one of them.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import pandas as pd

from mrd_core.errors import UserError

SPLITS = ("forget", "retain", "held_out")
TRAINING_COUNTS = (1, 2, 4, 8)

_PEOPLE = {"forget": 40, "retain": 84, "held_out": 14}
_STYLES = tuple(product(("short", "medium", "long"), ("common", "rare")))
_PRONOUNS = (
    {"they": "she", "them": "her", "their": "her", "themself": "herself"},
    {"they": "he", "them": "him", "their": "his", "themself": "himself"},
)
_PLANS = {
    "short": ("{core}",),
    "medium": ("{core}{detail}", "{nested}", "{opener} {core}"),
    "long": (
        "{opener} {nested}{detail}",
        "{nested}{detail}, {closer}",
        "{opener} {core}{detail}, {closer}",
        "{opener} {nested}{detail}, {closer}",
    ),
}
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class DemoRow:
    """One question with its answer; `training_count` is how often an epoch shows it (held-out: never)."""

    id: str
    question: str
    answer: str
    split: str
    training_count: int


@dataclass(frozen=True)
class _Person:
    given: str
    family: str
    pronouns: Mapping[str, str]
    town: str
    kin: str
    born: int

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}"

    def slots(self, rng: random.Random) -> dict[str, str]:
        """Return what fills the gaps of a phrase: the person's own facts, and details drawn anew for each row."""
        year = self.born + rng.randint(18, 45)
        towns = [town for town in _phrases()["towns"] if town != self.town]
        stems = [stem for stem in _phrases()["names"]["given_stems"] if not self.given.startswith(stem)]
        return dict(self.pronouns) | {
            "name": self.name,
            "town": self.town,
            "kin": self.kin,
            "there": rng.choice(towns),
            "friend": _given_name(rng, stems)[0],
            "season": rng.choice(_phrases()["seasons"]),
            "year": str(year),
            "earlier": str(year - rng.randint(1, 9)),
            "later": str(year + rng.randint(1, 30)),
            "age": str(rng.randint(9, 40)),
            "years": rng.choice(("ten", "twelve", "twenty", "thirty", "forty")),
            "number": rng.choice(_NUMBERS),
        }


@cache
def _phrases() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "data" / "phrases.toml").read_text(encoding="utf-8"))


def rows(seed: int = 0) -> list[DemoRow]:
    """Return all rows of the three splits, the same ones for the same `seed`.

    No person occurs in two splits. Ids read `<split>-<person>-<row>`.
    """
    return [asked.row for asked in _asked(random.Random(seed))]


def wrong_answers(count: int, seed: int = 1) -> dict[str, list[str]]:
    """Return `count` answers to the question of each row that are as well-formed, and not true.

    They are about the same person and topic in the same style, and share at most three fifths of their words
    with the true answer. Other seeds draw others.
    """
    rng = random.Random(seed)
    wrong = {}
    for asked in _asked(random.Random(0)):
        true = _words(asked.row.answer)
        answers: list[str] = []
        while len(answers) < count:
            answer = _question_and_answer(rng, asked.person, asked.topic, *asked.style)[1]
            if len(true & _words(answer)) <= 0.6 * len(true) and answer not in answers:
                answers.append(answer)
        wrong[asked.row.id] = answers
    return wrong


def of_split(split: str) -> pd.DataFrame:
    """Return the rows of one of `SPLITS`: columns id, question, answer, split and training_count.

    Raises:
        UserError: There is no such split.
    """
    if split not in SPLITS:
        raise UserError(f"The demo's split '{split}'", "does not exist.", f"Choose one of: {', '.join(SPLITS)}.")
    return pd.DataFrame([asdict(row) for row in rows() if row.split == split])


@dataclass(frozen=True)
class _Asked:
    """A row, and what it was drawn of."""

    row: DemoRow
    person: _Person
    topic: str
    style: tuple[str, str]


def _asked(rng: random.Random) -> Iterator[_Asked]:
    """Yield all rows in their order."""
    people = _people(rng)
    for split in SPLITS:
        in_split = list(islice(people, _PEOPLE[split]))
        counts = {style: _training_counts(rng, split, len(in_split)) for style in _STYLES}
        for number, person in enumerate(in_split):
            topics = rng.sample(sorted(_phrases()["topics"]), len(_STYLES))
            for place, (style, topic) in enumerate(zip(_STYLES, topics, strict=True)):
                question, answer = _question_and_answer(rng, person, topic, *style)
                row = DemoRow(f"{split}-{number:03d}-{place}", question, answer, split, counts[style][number])
                yield _Asked(row, person, topic, style)


def _words(text: str) -> set[str]:
    return set(text.lower().split())


def _people(rng: random.Random) -> Iterator[_Person]:
    """Yield people without end to the family names: each family name is used once."""
    names = _phrases()["names"]
    families = [stem + end for stem, end in product(names["family_stems"], names["family_endings"])]
    rng.shuffle(families)
    for family in families:
        given, pronouns = _given_name(rng, names["given_stems"])
        yield _Person(
            given=given,
            family=family,
            pronouns=pronouns,
            town=rng.choice(_phrases()["towns"]),
            kin=rng.choice(_phrases()["kin"]),
            born=rng.randint(1860, 1930),
        )


def _given_name(rng: random.Random, stems: list[str]) -> tuple[str, Mapping[str, str]]:
    names = _phrases()["names"]
    endings, pronouns = rng.choice(list(zip((names["she_endings"], names["he_endings"]), _PRONOUNS, strict=True)))
    return rng.choice(stems) + rng.choice(endings), pronouns


def _training_counts(rng: random.Random, split: str, people: int) -> list[int]:
    """Return one count a person, each of `TRAINING_COUNTS` equally often, in random order."""
    if split == "held_out":
        return [0] * people
    counts = [TRAINING_COUNTS[i % len(TRAINING_COUNTS)] for i in range(people)]
    rng.shuffle(counts)
    return counts


def _question_and_answer(
    rng: random.Random, person: _Person, topic: str, length: str, vocabulary: str
) -> tuple[str, str]:
    bank = _phrases()["topics"][topic]
    slots = person.slots(rng) | {"thing": rng.choice(bank[vocabulary]["things"])}
    question = rng.choice(bank["questions"]).format(**slots)
    # A bare core, a core with one clause, or a core nested in three or four.
    core, detail = rng.choice(bank[vocabulary]["cores"]), rng.choice(bank[vocabulary]["details"])
    clauses = _phrases()[vocabulary]
    relative = rng.choice(clauses["relatives"])
    sentence = rng.choice(_PLANS[length]).format(
        opener=_unlike(rng, clauses["openers"], detail),
        core=core,
        nested=core.replace("{who}", f"{{who}}, {relative},", 1),
        detail=detail if detail.startswith(",") else f" {detail}",
        closer=_unlike(rng, clauses["closers"], detail),
    )
    # In front of a clause of its own the whole name reads best.
    subjects = (person.name, person.given, person.pronouns["they"])
    subject = person.name if "{who}," in sentence else rng.choice(subjects)
    answer = sentence.format(who=subject, **slots)
    return question, answer[0].upper() + answer[1:] + "."


def _unlike(rng: random.Random, clauses: list[str], other: str) -> str:
    """Return a clause that begins with another word than `other`: "although …, although …" reads badly."""
    return rng.choice([clause for clause in clauses if _first_word(clause) != _first_word(other)])


def _first_word(clause: str) -> str:
    return clause.lstrip(", ").split()[0].lower()
