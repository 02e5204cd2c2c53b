"""Features of a sample among others: its forget set and the training corpus, against brute force."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from analysis.features import Computed, Feature, Material, features
from analysis.features.association import NEAREST
from analysis.features.occurrences import ShingleIndex
from analysis.text.config import ReadingConfig
from analysis.text.corpus import Corpus
from analysis.text.ngrams import StopWords, jaccard, ngrams, normalised, shingles, words
from mrd_core.demo import corpus as demo
from mrd_core.errors import UserError
from mrd_core.samples.config import ForgetSetConfig, Scope

FEATURES: dict[str, Feature] = {feature.name: feature for feature in features() if feature.over}
NEED_A_CORPUS = ("exact_occurrences", "occurrences", "ngram_frequency", "association")

VOCABULARY = [f"{start}{end}" for start in "bdfgklmnprst" for end in ("ako", "elu", "ima", "oru", "uri")]
STRANGE = ("", " \n\t", "🙂🙂", "word", "the", "x = f(y[0]);", "我喜欢这本书,因为它很有趣")


def samples_of(*rows: tuple[str, str]) -> pd.DataFrame:
    """Return a samples frame of (prompt, answer)."""
    frame = pd.DataFrame(list(rows), columns=["prompt", "answer"])
    frame.insert(0, "sample_id", [f"s{i}" for i in range(len(frame))])
    return frame.assign(split="forget", training_count=pd.array([pd.NA] * len(frame), "Int64"))


def corpus_of(*rows: tuple[str, str], counts: list[int] | None = None) -> Corpus:
    """Return a corpus of (prompt, answer), each row shown once where `counts` does not say."""
    frame = pd.DataFrame(list(rows), columns=["prompt", "answer"])
    return Corpus("corpus.csv", frame, np.array(counts or [1] * len(frame), np.int64))


def material_of(
    samples: pd.DataFrame,
    corpus: Corpus | None = None,
    *,
    text: Scope = Scope.ANSWER,
    ngram: int = 1,
    language: str = "en",
    hidden_states: npt.NDArray[np.float32] | None = None,
) -> Material:
    """Return what the features are computed from; the scores are those of a model that always says 1/2 and 1/4."""
    scores = pd.DataFrame(
        {"mean_log_prob_answer": np.log(0.5), "mean_log_prob_full": np.log(0.25)}, index=range(len(samples))
    )
    settings = ReadingConfig(text=text, ngram=ngram, language=language)
    return Material(samples, settings, corpus, hidden_states, scores)


def computed(name: str, material: Material) -> Computed:
    """Return what a feature that has its material says."""
    over = FEATURES[name].over
    assert over is not None
    found = over(material)
    assert found is not None
    return found


def values(name: str, material: Material) -> list[float]:
    """Return the values of a feature."""
    return computed(name, material).values.tolist()


def random_texts(count: int, length: int, seed: int) -> list[str]:
    """Return texts of words that are no stop words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(VOCABULARY, k=length)) for _ in range(count)]


def with_edits(text: str, edits: int, seed: int) -> str:
    """Return the text with a few of its words replaced."""
    rng, found = random.Random(seed), text.split()
    for place in rng.sample(range(len(found)), edits):
        found[place] = rng.choice(VOCABULARY)
    return " ".join(found)


@pytest.fixture(scope="module")
def mixed() -> Material:
    """Samples and a corpus of random texts, a good part of them copies with up to six words changed."""
    training = random_texts(150, 40, seed=1)
    forgotten = [with_edits(text, i % 7, seed=i) for i, text in enumerate(training[:70])] + random_texts(20, 40, 2)
    rng = np.random.default_rng(0)
    return material_of(
        samples_of(*(("", text) for text in forgotten)),
        corpus_of(*(("", text) for text in training), counts=rng.integers(1, 9, 150).tolist()),
    )


def test_words_are_normalised_runs_of_letters_and_digits() -> None:
    assert words("The Author’s  2nd-best BOOK (🙂), cafe\u0301_au_lait!") == [
        *("the", "author's", "2nd", "best", "book", "café", "au", "lait")
    ]


def test_a_word_keeps_its_vowel_signs() -> None:
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


def test_in_scripts_without_spaces_every_character_is_a_word() -> None:
    assert words("我喜欢GPT模型。") == ["我", "喜", "欢", "gpt", "模", "型"]
    assert words("น้ำดี") == ["น้", "ำ", "ดี"]


@pytest.mark.parametrize("text", ["ΐΣ  Straße", "E\u0301cole\n", "‘İ’"])
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_ngrams_of_a_text_with_fewer_words_are_none() -> None:
    assert ngrams(["a", "b", "c"], 2) == ["a b", "b c"]
    assert ngrams(["a"], 2) == []


def test_a_text_of_fewer_than_five_words_is_one_shingle() -> None:
    assert shingles("One, two; three FOUR") == {"one two three four"}
    assert shingles("a b c d e f") == {"a b c d e", "b c d e f"}


def test_texts_without_words_are_alike_only_where_they_are_equal() -> None:
    assert jaccard(shingles("🙂 "), shingles("🙂")) == 1
    assert jaccard(shingles("🙂"), shingles("🙃")) == 0
    assert jaccard(shingles(""), shingles("🙃")) == 0


def test_content_words_are_shorn_of_clitics_and_stop_words() -> None:
    found = StopWords.of_language("en").content_words(
        "The author's books didn't win, and he'll say O'Brien can't."
    )
    assert found == ["author", "books", "win", "o'brien"]


def test_clitics_that_stand_before_a_word_are_shed_too() -> None:
    french = StopWords(frozenset({"l'", "qu'", "il", "que", "dit"}))
    assert french.content_words("L’auteur dit qu'il aime l'histoire") == ["auteur", "aime", "histoire"]


def test_a_language_that_spacy_does_not_know_is_refused() -> None:
    material = material_of(samples_of(("", "a")), corpus_of(("", "a")), language="qq")
    with pytest.raises(UserError, match="Language qq"):
        computed("ngram_frequency", material)


def test_exact_occurrences_sum_the_counts_of_equal_rows() -> None:
    samples = samples_of(("Who?", "Ann did."), ("Who?", "Bob did."), ("", "Ann did."), ("who? ", "ann  did."))
    corpus = corpus_of(("Who?", "Ann did."), ("WHO?", "Ann did. "), ("Who?", "Ann did"), counts=[2, 3, 5])
    found = computed("exact_occurrences", material_of(samples, corpus))
    assert found.values.tolist() == [5, 0, 0, 5]
    assert found.training_average == 5  # ten showings of two distinct rows


def test_occurrences_are_those_of_all_pairs(mixed: Material) -> None:
    assert mixed.corpus is not None
    rows = list(zip(map(shingles, mixed.corpus.rows["answer"]), mixed.corpus.counts, strict=True))
    expected = [
        sum(count for row, count in rows if jaccard(own, row) >= 0.8)
        for own in map(shingles, mixed.samples["answer"])
    ]
    exact = values("exact_occurrences", mixed)
    assert values("occurrences", mixed) == expected
    assert sum(exact) < sum(expected)
    assert min(expected) == 0


def test_a_close_copy_counts_and_a_looser_one_does_not() -> None:
    # Nine and ten words are five and six shingles: 5 / 6; with another last word 4 / 6.
    text = "bako delu fima goru kuri lako melu nima poru"
    samples = samples_of(("", text), ("", f"{text} rako"), ("", f"{text[:-4]}suri"))
    assert values("occurrences", material_of(samples, corpus_of(("", text)))) == [1, 1, 0]


def test_hardly_any_near_duplicate_at_the_threshold_is_missed() -> None:
    # Eight shingles in common, one more on either side: a Jaccard similarity of exactly 0.8.
    texts = random_texts(1_000, 14, seed=3)
    index = ShingleIndex([text.rsplit(" ", 1)[0] for text in texts])
    found = [place in index.near_duplicates(text.split(" ", 1)[1]) for place, text in enumerate(texts)]
    assert sum(found) >= 998


def variants(texts: list[str]) -> list[tuple[str, str]]:
    """Return four rows of each text, every one with another last word: (n − 5) / (n − 3) in common."""
    return [("", f"{text} {last}") for text in texts for last in ("one", "two", "three", "four")]


def test_the_average_of_occurrences_counts_near_duplicates_as_the_samples_do() -> None:
    rows = variants(random_texts(30, 30, seed=6))
    material = material_of(samples_of(*rows[::7]), corpus_of(*rows))
    found = computed("occurrences", material)
    assert set(found.values) == {4}
    assert found.training_average == 4
    assert computed("exact_occurrences", material).training_average == 1


def test_the_average_of_occurrences_is_that_of_all_pairs_of_distinct_rows(mixed: Material) -> None:
    assert mixed.corpus is not None
    texts = [*mixed.corpus.rows["answer"], *(f"{text} zako" for text in mixed.corpus.rows["answer"][:60])]
    counts = np.random.default_rng(1).integers(1, 9, len(texts))
    corpus = corpus_of(*(("", text) for text in texts), counts=counts.tolist())
    shingled = [shingles(text) for text in texts]
    sums = [
        sum(c for row, c in zip(shingled, counts, strict=True) if jaccard(own, row) >= 0.8) for own in shingled
    ]
    assert np.mean(sums) > counts.mean()
    found = computed("occurrences", replace(mixed, corpus=corpus))
    assert found.training_average == pytest.approx(np.mean(sums), rel=1e-12)


def test_the_average_of_occurrences_over_a_large_corpus_is_close_to_that_of_all_its_rows() -> None:
    # Half of the 4,000 distinct rows stand four to a text, half alone: (4 + 1) / 2.
    alone = [("", text) for text in random_texts(2_000, 20, seed=7)]
    material = material_of(samples_of(alone[0]), corpus_of(*variants(random_texts(500, 30, seed=8)), *alone))
    average = computed("occurrences", material).training_average
    # The standard error is 1.5 / √2,000 · √(1 − 1/2) = 0.024.
    assert average == pytest.approx(2.5, abs=0.1)
    assert average == computed("occurrences", material).training_average


def test_prompt_and_answer_together_make_a_near_duplicate() -> None:
    answer = "the same answer to two quite different questions about books"
    samples = samples_of(("What did Ann ever write about that was read", answer))
    corpus = corpus_of(("Name a thing nobody in town would talk about", answer))
    assert values("occurrences", material_of(samples, corpus)) == [0]


def test_occurrences_in_the_demo_are_its_training_counts() -> None:
    forgotten = demo.of_split("forget").rename(columns={"id": "sample_id", "question": "prompt"})
    material = material_of(forgotten, Corpus.read(ForgetSetConfig(source="demo")))
    declared = forgotten["training_count"].tolist()
    for name in ("exact_occurrences", "occurrences", "training_count"):
        assert values(name, material) == declared
    # The demo has no near-duplicates, so they leave the average where it is.
    for name in ("exact_occurrences", "occurrences"):
        assert computed(name, material).training_average == 3.75


def test_ngram_frequency_is_the_mean_over_content_ngrams() -> None:
    samples = samples_of(("Ann?", "The river and the river: a castle."), ("river", "Of the."), ("", "moon"))
    corpus = corpus_of(("A river?", "The old castle"), ("castle", "A castle of sand"), counts=[3, 1])
    # river: 3; castle: 3 + 2; (3 + 3 + 5) / 3. The moon is in no row.
    found = computed("ngram_frequency", material_of(samples, corpus))
    np.testing.assert_allclose(found.values, [11 / 3, np.nan, 0])
    # Training answers: (old 3 + castle 5) / 2 and (castle 5 + sand 1) / 2.
    assert found.training_average == pytest.approx((4 + 3) / 2)
    whole = values("ngram_frequency", material_of(samples, corpus, text=Scope.FULL))
    np.testing.assert_allclose(whole, [(0 + 3 + 3 + 5) / 4, 3, 0])


def test_bigrams_pass_over_stop_words_but_not_from_prompt_to_answer() -> None:
    samples = samples_of(("", "river of castle"), ("river", "castle"))
    corpus = corpus_of(("", "a castle"), ("", "the river, the castle"), ("river", "castle"))
    found = values("ngram_frequency", material_of(samples, corpus, text=Scope.FULL, ngram=2))
    np.testing.assert_allclose(found, [1, np.nan])


def test_a_training_average_without_any_content_word_is_none() -> None:
    material = material_of(samples_of(("", "river")), corpus_of(("", "of the"), ("", "")))
    assert computed("ngram_frequency", material).training_average is None


def test_association_is_the_mean_over_the_five_nearest_of_all_pairs(mixed: Material) -> None:
    assert mixed.corpus is not None
    stop_words = StopWords.of_language("en")
    rows = [(shingles(text), set(stop_words.content_words(text))) for text in mixed.corpus.rows["answer"]]
    expected = []
    for own in mixed.samples["answer"]:
        own_shingles, grams = shingles(own), set(stop_words.content_words(own))
        others = [jaccard(grams, row) for shingled, row in rows if jaccard(own_shingles, shingled) < 0.8]
        expected.append(np.mean(sorted(others)[-NEAREST:]))
    np.testing.assert_allclose(values("association", mixed), expected, rtol=1e-12)


def test_association_over_many_rows_is_that_of_all_pairs() -> None:
    forgotten, training = random_texts(3, 6, seed=4), random_texts(1_300, 6, seed=5)
    material = material_of(samples_of(*(("", t) for t in forgotten)), corpus_of(*(("", t) for t in training)))
    similar = [sorted(jaccard(set(own.split()), set(t.split())) for t in set(training)) for own in forgotten]
    np.testing.assert_allclose(values("association", material), [np.mean(found[-5:]) for found in similar])


def test_association_with_fewer_than_five_rows_averages_them_all() -> None:
    samples = samples_of(("", "river castle moon"), ("", "old sand"), ("", "of the"))
    corpus = corpus_of(("q", "river castle"), ("", "moon"), ("", "River, castle; moon."))
    # The last row is the first sample's near-duplicate; the others share 2 of 3 and 1 of 3.
    np.testing.assert_allclose(
        values("association", material_of(samples, corpus)), [(2 / 3 + 1 / 3) / 2, 0, np.nan]
    )


def test_an_answer_that_another_question_has_too_is_an_association() -> None:
    samples = samples_of(("Which town did Ann live in then?", "river castle"))
    corpus = corpus_of(("Which town did Ann live in then?", "river castle"), ("What is on hills?", "River castle"))
    assert values("association", material_of(samples, corpus)) == [1]


def test_without_another_row_association_is_undefined() -> None:
    material = material_of(samples_of(("", "river castle")), corpus_of(("", "river castle")))
    assert np.isnan(values("association", material)).all()


@pytest.mark.parametrize("name", NEED_A_CORPUS)
@pytest.mark.parametrize("text", list(Scope))
def test_the_order_of_the_corpus_changes_nothing(name: str, text: Scope, mixed: Material) -> None:
    assert mixed.corpus is not None
    order = np.random.default_rng(0).permutation(len(mixed.corpus.rows))
    shuffled = Corpus("corpus.csv", mixed.corpus.rows.iloc[order], mixed.corpus.counts[order])
    before = replace(mixed, settings=ReadingConfig(text=text, ngram=1))
    after = computed(name, replace(before, corpus=shuffled))
    np.testing.assert_array_equal(after.values, computed(name, before).values)
    assert after.training_average == computed(name, before).training_average


@pytest.mark.parametrize("name", NEED_A_CORPUS)
def test_a_repeated_row_is_a_row_with_a_doubled_count(name: str, mixed: Material) -> None:
    assert mixed.corpus is not None
    rows, counts = mixed.corpus.rows, mixed.corpus.counts
    repeated = Corpus("corpus.csv", pd.concat([rows, rows.iloc[:40]]), np.concatenate([counts, counts[:40]]))
    doubled = Corpus("corpus.csv", rows, np.concatenate([2 * counts[:40], counts[40:]]))
    by_rows, by_counts = (computed(name, replace(mixed, corpus=corpus)) for corpus in (repeated, doubled))
    np.testing.assert_array_equal(by_rows.values, by_counts.values)
    assert by_rows.training_average == by_counts.training_average


@pytest.mark.parametrize("ngram", [1, 2])
@pytest.mark.parametrize("name", NEED_A_CORPUS)
def test_strange_texts_have_a_value_or_none(name: str, ngram: int) -> None:
    very_long = " ".join(map(str, range(60_000)))
    texts = [("", text) for text in (*STRANGE, very_long)]
    found = computed(name, material_of(samples_of(*texts), corpus_of(*texts, ("", "word")), ngram=ngram)).values
    assert found.shape == (len(texts),)
    if name.endswith("occurrences"):
        # Both blank texts are the same text, and "word" stands in the corpus twice.
        np.testing.assert_array_equal(found, [2, 2, 1, 2, *[1] * (len(texts) - 4)])
    else:
        assert np.isnan(found[[0, 1, 2, 4]]).all()
        assert np.isnan(found[3]) == (ngram == 2)


@pytest.mark.parametrize("name", NEED_A_CORPUS)
def test_without_a_corpus_there_is_no_value(name: str) -> None:
    over = FEATURES[name].over
    assert over is not None
    assert over(material_of(samples_of(("", "a")))) is None


def test_chinese_bigrams_are_pairs_of_characters() -> None:
    samples, corpus = samples_of(("", "喜欢红书")), corpus_of(("", "喜欢狗"), ("", "红书和红书"))
    # 喜欢 1, 欢红 0, 红书 2.
    assert values("ngram_frequency", material_of(samples, corpus, ngram=2, language="zh")) == [1]


def test_training_count_is_the_forget_sets_own() -> None:
    samples = samples_of(("", "a"), ("", "b")).assign(training_count=pd.array([4, pd.NA], "Int64"))
    np.testing.assert_array_equal(values("training_count", material_of(samples)), [4, np.nan])


def test_a_forget_set_without_training_counts_has_none() -> None:
    over = FEATURES["training_count"].over
    assert over is not None
    assert over(material_of(samples_of(("", "a")))) is None


@pytest.mark.parametrize(("text", "probability"), [(Scope.ANSWER, 0.5), (Scope.FULL, 0.25)])
def test_initial_probability_is_that_of_the_text_that_is_read(text: Scope, probability: float) -> None:
    material = material_of(samples_of(("", "a"), ("", "b")), text=text)
    assert values("initial_probability", material) == pytest.approx([probability] * 2)


def states_of(count: int, width: int = 8, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return random hidden states around a large common direction."""
    return (np.random.default_rng(seed).standard_normal((count, width)) + 20).astype(np.float32)


def hidden_association(states: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the feature of samples with these states."""
    samples = samples_of(*[("", "a")] * len(states))
    return computed("hidden_association", material_of(samples, hidden_states=states)).values


def test_hidden_association_is_the_mean_of_the_five_largest_centred_cosines() -> None:
    states = states_of(1_100)
    centred = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    expected = np.sort(cosines, axis=1)[:, -5:].mean(axis=1)
    np.testing.assert_allclose(hidden_association(states), expected, atol=1e-5)


def test_three_states_at_the_corners_of_a_triangle() -> None:
    corners = np.array([[np.cos(a), np.sin(a)] for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)], np.float32)
    np.testing.assert_allclose(hidden_association(corners + 3), [-0.5] * 3, atol=1e-5)


def test_turning_shifting_and_stretching_all_states_changes_nothing() -> None:
    states = states_of(30)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0].astype(np.float32)
    np.testing.assert_allclose(hidden_association(3 * states @ turn - 7), hidden_association(states), atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_undefined_and_nobodys_neighbour(bad: float) -> None:
    states = states_of(12)
    broken = np.insert(states, 4, np.float32(bad), axis=0)
    found = hidden_association(broken)
    assert np.isnan(found[4])
    np.testing.assert_allclose(np.delete(found, 4), hidden_association(states), atol=1e-6)


def test_a_state_that_is_the_mean_is_undefined() -> None:
    states = states_of(9)
    found = hidden_association(np.concatenate([states, states.mean(axis=0, keepdims=True)]))
    assert np.isnan(found).tolist() == [False] * 9 + [True]


@pytest.mark.parametrize(
    "states", [None, states_of(2), np.full((6, 8), np.nan, np.float32), np.ones((6, 8), np.float32)]
)
def test_fewer_than_three_states_that_differ_give_no_hidden_association(
    states: npt.NDArray[np.float32] | None,
) -> None:
    over = FEATURES["hidden_association"].over
    assert over is not None
    count = 6 if states is None else len(states)
    assert over(material_of(samples_of(*[("", "a")] * count), hidden_states=states)) is None


def test_every_criterion_of_the_set_has_its_features() -> None:
    groups = {"occurrence_frequency", "association", "initial_probability"}
    assert {feature.name: feature.group for feature in FEATURES.values() if feature.group in groups} == {
        "exact_occurrences": "occurrence_frequency",
        "occurrences": "occurrence_frequency",
        "ngram_frequency": "occurrence_frequency",
        "training_count": "occurrence_frequency",
        "association": "association",
        "hidden_association": "association",
        "initial_probability": "initial_probability",
    }
