"""Features of one text, on parses made by hand in both label schemes, and the marks of the text view."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import comb

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc, Token

from analysis.characteristics.spans import Span, spans
from analysis.features import Reading
from analysis.features.clauses import FEATURES as CLAUSES
from analysis.features.clauses import clauses_per_sentence, subordination_ratio, words_per_clause
from analysis.features.dependencies import FEATURES as DEPENDENCIES
from analysis.features.dependencies import dependency_distance, tree_depth
from analysis.features.length import FEATURES as LENGTH
from analysis.features.length import n_words
from analysis.features.lexical_diversity import FEATURES as LEXICAL_DIVERSITY
from analysis.features.lexical_diversity import corrected_ttr, hdd, mtld, ttr
from analysis.features.noun_phrases import FEATURES as NOUN_PHRASES
from analysis.features.noun_phrases import modifiers_per_noun_phrase
from analysis.features.rare_words import FEATURES as RARE_WORDS
from analysis.features.rare_words import common_words, rare_tokens, rare_words
from analysis.text.config import ReadingConfig
from analysis.text.syntax import is_clitic, syntax
from mrd_core.errors import UserError

ENGLISH = spacy.blank("en")
SCHEMES = ("ud", "clear")
SYNTACTIC = (*DEPENDENCIES, *CLAUSES, *NOUN_PHRASES)
ALL = (*LENGTH, *LEXICAL_DIVERSITY, *SYNTACTIC, *RARE_WORDS)
COMMON = frozenset(
    [
        "a",
        "and",
        "ca",
        "do",
        "he",
        "in",
        "is",
        "it",
        "law",
        "mother",
        "mount",
        "mr",
        "not",
        "on",
        "she",
        "the",
        "u.s",
    ]
)

# word, universal tag, UD head and label, CLEAR head and label; heads count from 1, 0 is the root.
RELATIVE = """
The       DET    2  det           4  det
author    NOUN   3  nmod:desc     4  compound
Jaime     PROPN  5  nsubj         4  compound
Vasquez   PROPN  3  flat          5  nsubj
writes    VERB   0  root          0  ROOT
books     NOUN   5  obj           5  dobj
that      PRON   9  nsubj:pass    9  nsubjpass
were      AUX    9  aux:pass      9  auxpass
published VERB   6  acl:relcl     6  relcl
in        ADP    11 case          9  prep
Rome      PROPN  9  obl           10 pobj
.         PUNCT  5  punct         5  punct
"""
COPULA = """
She       PRON   5  nsubj         2  nsubj
is        AUX    5  cop           0  ROOT
a         DET    5  det           5  det
famous    ADJ    5  amod          5  amod
writer    NOUN   0  root          2  attr
from      ADP    7  case          5  prep
Rome      PROPN  5  nmod          6  pobj
and       CCONJ  9  cc            2  cc
lives     VERB   5  conj          2  conj
there     ADV    9  advmod        9  advmod
because   SCONJ  13 mark          13 mark
she       PRON   13 nsubj         13 nsubj
loves     VERB   9  advcl         9  advcl
it        PRON   13 obj           13 dobj
.         PUNCT  5  punct         2  punct
"""
GERUND = """
To        PART   2  mark          2  aux
win       VERB   5  advcl         5  advcl
,         PUNCT  5  punct         5  punct
he        PRON   5  nsubj         5  nsubj
tried     VERB   0  root          0  ROOT
beating   VERB   5  xcomp         5  xcomp
his       PRON   9  nmod:poss     9  poss
two       NUM    9  nummod        9  nummod
rivals    NOUN   6  obj           6  dobj
by        SCONJ  11 mark          6  prep
cheating  VERB   6  advcl         10 pcomp
"""
COORDINATED = """
That      SCONJ  3  mark          3  mark
they      PRON   3  nsubj         3  nsubj
met       VERB   6  csubj         5  csubj
,         PUNCT  3  punct         3  punct
is        AUX    6  cop           0  ROOT
true      ADJ    0  root          5  acomp
but       CCONJ  9  cc            5  cc
it        PRON   9  nsubj         9  nsubj
rains     VERB   6  conj          5  conj
and       CCONJ  11 cc            9  cc
snows     VERB   6  conj          9  conj
"""
APPOSITION = """
Ann       PROPN  8  nsubj:pass    8  nsubjpass
,         PUNCT  1  punct         1  punct
my        PRON   5  nmod:poss     5  poss
stamp     NOUN   5  compound      5  compound
dealer    NOUN   1  appos         1  appos
,         PUNCT  1  punct         1  punct
was       AUX    8  aux:pass      8  auxpass
robbed    VERB   0  root          0  ROOT
"""
FRAGMENT = """
Paris     PROPN  0  root          0  ROOT
.         PUNCT  1  punct         1  punct
"""
SENTENCES = {
    "relative": RELATIVE,
    "copula": COPULA,
    "gerund": GERUND,
    "coordinated": COORDINATED,
    "apposition": APPOSITION,
    "fragment": FRAGMENT,
}


def read(doc: Doc, **settings: str) -> Reading:
    """Return the reading of a document with a small vocabulary of common words."""
    return Reading(doc, ReadingConfig.model_validate(settings), COMMON)


def parsed(scheme: str, *tables: str) -> Reading:
    """Return the reading of hand-made sentences in one of the label schemes, words set apart by single spaces."""
    words: list[str] = []
    tags: list[str] = []
    heads: list[int] = []
    labels: list[str] = []
    for table in tables:
        offset = len(words)
        for row in table.strip().splitlines():
            word, tag, *annotation = row.split()
            head, label = annotation[:2] if scheme == "ud" else annotation[2:]
            heads.append(offset + int(head) - 1 if int(head) else len(words))
            words.append(word)
            tags.append(tag)
            labels.append(label)
    return read(Doc(ENGLISH.vocab, words=words, pos=tags, heads=heads, deps=labels))


def plain(text: str, **settings: str) -> Reading:
    """Return the reading of a text that English rules split into tokens and nothing parsed."""
    return read(ENGLISH(text), **settings)


def of_words(words: list[str]) -> Reading:
    """Return the reading of a list of words that nothing parsed."""
    return read(Doc(ENGLISH.vocab, words=words))


def clause_words(reading: Reading) -> list[tuple[str, bool]]:
    trees = syntax(reading.doc)
    assert trees is not None
    return sorted((reading.doc[head].text, subordinate) for head, subordinate in trees.clauses)


def random_tree(seed: int, n: int = 30) -> Reading:
    """Return a reading of random words under a random tree, crossing edges included."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(n)
    heads = np.empty(n, int)
    heads[order[0]] = order[0]
    for k in range(1, n):
        heads[order[k]] = order[generator.integers(k)]
    labels = generator.choice(["nsubj", "ccomp", "conj", "obl", "punct", "advcl:relcl"], n).tolist()
    labels[order[0]] = "root"
    tags = generator.choice(["NOUN", "VERB"], n).tolist()
    words = [f"w{i}" for i in range(n)]
    return read(
        Doc(
            ENGLISH.vocab,
            words=words,
            pos=tags,
            heads=heads.tolist(),
            deps=labels,
            sent_starts=[True] + [False] * (n - 1),
        )
    )


# Sentences in both label schemes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("name", "clauses"),
    [
        ("relative", [("published", True), ("writes", False)]),
        ("gerund", [("beating", True), ("cheating", True), ("tried", False), ("win", True)]),
        ("apposition", [("robbed", False)]),
        ("fragment", []),
    ],
)
def test_clauses_are_found_alike_in_both_schemes(scheme: str, name: str, clauses: list[tuple[str, bool]]) -> None:
    assert clause_words(parsed(scheme, SENTENCES[name])) == clauses


@pytest.mark.parametrize(("scheme", "predicate"), [("ud", "writer"), ("clear", "is")])
def test_a_nominal_predicate_is_one_clause_whichever_word_heads_it(scheme: str, predicate: str) -> None:
    assert clause_words(parsed(scheme, COPULA)) == sorted([(predicate, False), ("lives", False), ("loves", True)])


@pytest.mark.parametrize(("scheme", "predicate"), [("ud", "true"), ("clear", "is")])
def test_coordinated_predicates_are_clauses_but_not_subordinate(scheme: str, predicate: str) -> None:
    expected = sorted([("met", True), (predicate, False), ("rains", False), ("snows", False)])
    assert clause_words(parsed(scheme, COORDINATED)) == expected


@pytest.mark.parametrize("scheme", SCHEMES)
def test_clause_measures_of_several_sentences_are_those_of_the_whole_text(scheme: str) -> None:
    reading = parsed(scheme, RELATIVE, COPULA, FRAGMENT)
    assert clauses_per_sentence(reading) == pytest.approx(5 / 3)
    assert words_per_clause(reading) == pytest.approx((11 + 14 + 1) / 5)
    assert subordination_ratio(reading) == pytest.approx(2 / 5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_fragment_has_no_clause(scheme: str) -> None:
    reading = parsed(scheme, FRAGMENT)
    assert clauses_per_sentence(reading) == 0
    assert math.isnan(words_per_clause(reading))
    assert math.isnan(subordination_ratio(reading))


def test_juxtaposed_clauses_are_not_subordinate_and_coordinated_nouns_are_no_clauses() -> None:
    reading = parsed(
        "ud",
        """
        Leave     VERB  0 root      0 ROOT
        ,         PUNCT 1 punct     1 punct
        he        PRON  4 nsubj     4 nsubj
        said      VERB  1 parataxis 1 parataxis
        yesterday NOUN  4 obl:tmod  4 npadvmod
        and       CCONJ 7 cc        7 cc
        today     NOUN  5 conj      5 conj
        """,
    )
    assert clause_words(reading) == [("Leave", False), ("said", False)]


@pytest.mark.parametrize(("scheme", "predicate"), [("ud", "quiet"), ("clear", "Be")])
def test_a_copula_makes_a_clause_without_a_subject(scheme: str, predicate: str) -> None:
    table = """
    Be    AUX 2 cop  0 ROOT
    quiet ADJ 0 root 1 acomp
    """
    assert clause_words(parsed(scheme, table)) == [(predicate, False)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sentence_without_a_word_is_not_counted(scheme: str) -> None:
    assert clauses_per_sentence(parsed(scheme, RELATIVE, "🙂 SYM 0 root 0 ROOT")) == 2


@pytest.mark.parametrize("label", ["root", "ROOT"])
def test_the_label_of_the_root_may_be_in_either_case(label: str) -> None:
    reading = read(Doc(ENGLISH.vocab, words=["Run"], pos=["VERB"], heads=[0], deps=[label]))
    assert clauses_per_sentence(reading) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        ("relative", 2 / 3),  # author Jaime Vasquez; books that …; Rome
        ("copula", 2 / 2),  # famous writer from Rome; Rome
        ("gerund", 2 / 1),  # his two rivals
        ("apposition", 3 / 2),  # Ann, my …; my stamp dealer
        ("fragment", 0),
    ],
)
def test_modifiers_of_nouns_are_counted_alike_in_both_schemes(scheme: str, name: str, ratio: float) -> None:
    assert modifiers_per_noun_phrase(parsed(scheme, SENTENCES[name])) == pytest.approx(ratio)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_modifiers_are_undefined_without_a_noun(scheme: str) -> None:
    assert math.isnan(modifiers_per_noun_phrase(parsed(scheme, COORDINATED)))


@pytest.mark.parametrize(
    ("scheme", "name", "distances", "depth"),
    [
        ("ud", "relative", [1, 1, 2, 1, 1, 2, 1, 3, 1, 2], 4),
        ("clear", "relative", [3, 2, 1, 1, 1, 2, 1, 3, 1, 1], 4),
        # The comma is not counted: "win" is two words from "tried", as "he" is one.
        ("ud", "gerund", [1, 2, 1, 1, 2, 1, 3, 1, 5], 3),
        ("clear", "gerund", [1, 2, 1, 1, 2, 1, 3, 4, 1], 3),
        ("ud", "apposition", [5, 2, 1, 3, 1], 3),
        ("clear", "apposition", [5, 2, 1, 3, 1], 3),
    ],
)
def test_distance_and_depth_leave_punctuation_out(
    scheme: str, name: str, distances: list[int], depth: int
) -> None:
    reading = parsed(scheme, SENTENCES[name])
    assert dependency_distance(reading) == pytest.approx(np.mean(distances))
    assert tree_depth(reading) == depth


@pytest.mark.parametrize("scheme", SCHEMES)
def test_depth_is_that_of_the_deepest_sentence_and_distance_that_of_all_dependents(scheme: str) -> None:
    both = parsed(scheme, GERUND, RELATIVE)
    assert tree_depth(both) == 4
    alone = [dependency_distance(parsed(scheme, table)) for table in (GERUND, RELATIVE)]
    assert dependency_distance(both) == pytest.approx((9 * alone[0] + 10 * alone[1]) / 19)


@pytest.mark.parametrize("seed", range(20))
def test_trees_agree_with_brute_force_over_spacy_s_tokens(seed: int) -> None:
    reading = random_tree(seed)
    kept = [token for token in reading.doc if token.dep_ != "punct"]
    place = {token.i: k for k, token in enumerate(kept)}
    distances = [
        abs(place[token.i] - place[token.head.i])
        for token in kept
        if token.head.i != token.i and token.head.i in place
    ]
    assert dependency_distance(reading) == pytest.approx(np.mean(distances))
    assert tree_depth(reading) == max(len(list(token.ancestors)) for token in kept)


@pytest.mark.parametrize("seed", range(20))
def test_clauses_reach_over_their_subtrees_and_are_as_deep_as_there_are_clauses_above(seed: int) -> None:
    reading = random_tree(seed)
    trees = syntax(reading.doc)
    assert trees is not None
    heads = {clause.head for clause in trees.clauses}
    expected = []
    for head in heads:
        token = reading.doc[head]
        subtree = [t for t in reading.doc if t == token or token in t.ancestors]
        inside = [t.i for t in subtree if all(a.dep_ != "punct" for a in below(t, token))]
        above = sum(ancestor.i in heads for ancestor in token.ancestors)
        first, last = reading.doc[min(inside)], reading.doc[max(inside)]
        expected.append((first.idx, last.idx + len(last), above))
    found = [(mark.start, mark.end, mark.depth) for mark in spans(reading) if mark.kind == "clause"]
    assert sorted(found) == sorted(expected)


def below(token: Token, ancestor: Token) -> list[Token]:
    """Return the way from `token` up to `ancestor`, which is left out."""
    way = []
    while token != ancestor:
        way.append(token)
        token = token.head
    return way


# Words


def test_length_counts_tokens_with_a_letter_or_digit() -> None:
    assert n_words(plain("Don't count 3 dots ... or 🙂 !")) == 6  # Do n't count 3 dots or


def test_diversity_ignores_case_numbers_punctuation_and_clitics() -> None:
    reading = plain("The author's 1990 novel isn't THE author’s last.")
    types, tokens = {"the", "author", "novel", "is", "last"}, 7
    assert ttr(reading) == pytest.approx(len(types) / tokens)
    assert corrected_ttr(reading) == pytest.approx(len(types) / math.sqrt(2 * tokens))


@pytest.mark.parametrize("text", ["", "word", "word 1990 's", "🙂🙂", "... ?"])
@pytest.mark.parametrize("of", [ttr, corrected_ttr, mtld, hdd])
def test_diversity_is_undefined_below_two_words(text: str, of: Callable[[Reading], float]) -> None:
    assert math.isnan(of(plain(text)))


def test_mtld_is_the_mean_length_of_its_factors_in_both_directions() -> None:
    words = ["a", "b", "a", "b", "a", "b", "c"]
    # The ratio falls to 2/3 after "a b a" and "b a b" and stays 1 in "c"; backwards it is 3/4 after "c b a b" and
    # falls to 3/5 with the next "a".
    forward, backward = 7 / 2, 7 / 1
    assert mtld(of_words(words)) == pytest.approx((forward + backward) / 2)


@pytest.mark.parametrize(
    "words",
    [
        [f"w{i}" for i in range(60)],  # repeats nothing
        [*[f"w{i}" for i in range(20)], "w3", "w7"],  # repeats too little
        [*[f"w{i}" for i in range(20)], "x", "x", "x"],  # falls to 0.72 from one end only
        ["x", "x", "x", *[f"w{i}" for i in range(20)]],
    ],
)
def test_mtld_is_undefined_where_no_factor_is_completed(words: list[str]) -> None:
    assert math.isnan(mtld(of_words(words)))


def test_hdd_is_the_expected_ratio_of_a_draw_of_42() -> None:
    words = [f"w{'abcdefghijklm'[(7 * i * i) % 13]}" for i in range(50)]
    missed = [comb(50 - count, 42) / comb(50, 42) for count in Counter(words).values()]
    assert hdd(of_words(words)) == pytest.approx(sum(1 - p for p in missed) / 42)


def test_hdd_needs_42_words() -> None:
    assert math.isnan(hdd(of_words(["a"] * 41)))
    assert hdd(of_words(["a"] * 42)) == pytest.approx(1 / 42)


@pytest.mark.parametrize(
    ("text", "clitics"),
    [
        ("It isn't Ann's, they’re mine", ["n't", "'s", "’re"]),
        ("rock and roll is lovin' it", []),
        ("the author 's book", ["'s"]),
        ("we're", ["'re"]),
        ("goin'", []),
        ("they're goin', aren't they", ["'re", "n't"]),
    ],
)
def test_clitics_are_the_parts_of_a_written_word(text: str, clitics: list[str]) -> None:
    assert [token.text for token in plain(text).doc if is_clitic(token) and len(token) > 1] == clitics


def test_a_word_before_an_apostrophe_is_a_clitic_only_where_it_leans_on_the_next() -> None:
    doc = Doc(
        ENGLISH.vocab, words=["l'", "homme", "dit", "l'", "x", "l'"], spaces=[False, True, True, True, True, False]
    )
    assert [is_clitic(token) for token in doc] == [True, False, False, False, False, False]


# Rare words


def rare(text: str, **settings: str) -> list[str]:
    return [token.text for token in rare_tokens(plain(text, **settings))]


def test_words_outside_the_common_ones_are_rare_each_time_they_occur() -> None:
    reading = plain("The Axolotl is on axolotl, the!")
    assert [token.text for token in rare_tokens(reading)] == ["Axolotl", "axolotl"]
    assert rare_words(reading) == 2


def test_clitics_are_not_rare() -> None:
    assert rare("It's the mother's, he can't 🙂 ...") == []


def test_hyphenated_words_and_possessives_are_looked_up_in_parts() -> None:
    assert rare("the mother-in-law's axolotl-law") == ["axolotl"]


def test_words_are_looked_up_without_punctuation_at_their_ends_and_as_what_they_stand_for() -> None:
    assert rare("Mr. U.S. Mt. law+ Zz.") == ["Zz"]


def test_words_are_looked_up_in_plain_letters() -> None:
    common = COMMON | {"find", "o'brien"}
    reading = replace(plain("O’Brien ﬁnd mother‑in‐law axolotl‑law"), common_words=common)
    assert [token.text for token in rare_tokens(reading)] == ["axolotl‑law"]


def test_numbers_are_rare_only_on_request() -> None:
    assert rare("In 1990 the 2nd b2b") == []
    assert rare("In 1990 the 2nd b2b", numbers="count") == ["1990", "2nd", "b2b"]


def test_proper_names_are_rare_unless_left_out() -> None:
    doc = Doc(ENGLISH.vocab, words=["Vasquez", "meanders"], pos=["PROPN", "VERB"])
    assert rare_words(read(doc)) == 2
    assert [token.text for token in rare_tokens(read(doc, names="ignore"))] == ["meanders"]


def test_common_words_are_the_head_of_the_list() -> None:
    few, many = common_words("en", 100), common_words("en", 5000)
    assert len(few) == 100
    assert few < many
    assert "the" in few
    assert "axolotl" not in many


@pytest.mark.parametrize("language", ["xx", "", "no language"])
def test_a_language_without_a_list_is_refused_with_some_that_have_one(language: str) -> None:
    with pytest.raises(UserError, match=r"Choose one of ar, .*en, .*zh") as error:
        common_words(language, 100)
    assert repr(language) in error.value.what


# Marks


def test_marks_are_nested_clauses_and_the_rare_words_in_them() -> None:
    text = "She is a famous writer from Rome and lives there because she loves it ."
    table = [(mark.kind, text[mark.start : mark.end], mark.depth) for mark in spans(parsed("ud", COPULA))]
    assert table == [
        ("clause", text[:-2], 0),
        ("rare", "famous", 1),
        ("rare", "writer", 1),
        ("rare", "from", 1),
        ("rare", "Rome", 1),
        ("clause", "and lives there because she loves it", 1),
        ("rare", "lives", 2),
        ("rare", "there", 2),
        ("clause", "because she loves it", 2),
        ("rare", "because", 3),
        ("rare", "loves", 3),
    ]


def test_without_a_parse_only_rare_words_are_marked() -> None:
    assert spans(plain("the axolotl")) == [Span("rare", 4, 11, 0)]
    assert spans(plain("")) == []


# Texts that are none


def one_root(text: str) -> Reading:
    """Return a text of one word with a parse, as a pipeline that never abstains gives."""
    return read(Doc(ENGLISH.vocab, words=[text], pos=["PUNCT"], heads=[0], deps=["ROOT"]))


@pytest.mark.parametrize(
    "text", ["", "   \n\t", "🙂", "🙂 🙃🙂", "...", "我爱北京天安门。", "def f(x):\n    return x_1 ** 2"]
)
def test_an_unparsed_text_has_no_syntax_and_no_error_or_warning(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = {feature.name: feature.of(plain(text)) for feature in ALL if feature.of}
    assert all(math.isnan(values[feature.name]) for feature in SYNTACTIC)
    assert values["n_words"] >= values["rare_words"] >= 0


def test_a_parse_without_parts_of_speech_is_no_syntax() -> None:
    reading = read(Doc(ENGLISH.vocab, words=["he", "writes"], heads=[1, 1], deps=["nsubj", "ROOT"]))
    assert all(math.isnan(feature.of(reading)) for feature in SYNTACTIC if feature.of)


def test_chinese_in_an_english_pipeline_is_read_as_words_that_are_rare() -> None:
    reading = plain("我爱北京 天安门 。")
    assert (n_words(reading), rare_words(reading), ttr(reading)) == (2, 2, 1)


@pytest.mark.parametrize("text", ["🙂", "!"])
def test_a_parsed_text_without_a_word_has_no_syntax(text: str) -> None:
    assert all(math.isnan(feature.of(one_root(text))) for feature in SYNTACTIC if feature.of)


def test_one_word_is_a_tree_of_depth_zero_without_dependents() -> None:
    reading = parsed("ud", "Paris PROPN 0 root 0 ROOT")
    assert tree_depth(reading) == 0
    assert math.isnan(dependency_distance(reading))


def test_a_word_that_is_taken_for_punctuation_has_no_depth() -> None:
    assert math.isnan(tree_depth(one_root("x")))


def test_white_space_tokens_do_not_lengthen_edges() -> None:
    words, tags = ["he", "\n\n", "writes"], ["PRON", "NOUN", "VERB"]
    reading = read(Doc(ENGLISH.vocab, words=words, pos=tags, heads=[2, 0, 2], deps=["nsubj", "dep", "ROOT"]))
    assert dependency_distance(reading) == 1
    assert tree_depth(reading) == 1


def test_a_chain_of_20000_words_is_read_without_recursion() -> None:
    n = 20_000
    heads = [0, *range(n - 1)]
    labels = ["ROOT", *["ccomp"] * (n - 1)]
    doc = Doc(
        ENGLISH.vocab, words=[f"w{'abcdefg'[i % 7]}" for i in range(n)], pos=["VERB"] * n, heads=heads, deps=labels
    )
    reading = read(doc)
    values = {feature.name: feature.of(reading) for feature in ALL if feature.of}
    assert values["tree_depth"] == n - 1
    assert values["dependency_distance"] == 1
    assert values["clauses_per_sentence"] == n
    assert values["subordination_ratio"] == pytest.approx((n - 1) / n)
    assert values["ttr"] == pytest.approx(7 / n)
    assert max(mark.depth for mark in spans(reading) if mark.kind == "clause") == n - 1


# Declarations


def test_features_have_distinct_names_and_say_what_they_count() -> None:
    assert len({feature.name for feature in ALL}) == len(ALL) == 12
    assert all(feature.of and feature.help and feature.title for feature in ALL)
