"""How often training showed a sample: word for word, and with its near-duplicates.

Two rows are near-duplicates where the Jaccard similarity of their word 5-gram shingles is at least 0.8
(Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from scipy import sparse

from analysis.features.feature import Computed, Material, frequency
from analysis.text.corpus import Corpus
from analysis.text.ngrams import jaccard, normalised, shingles

NEAR_DUPLICATE = 0.8

# A pair with Jaccard similarity s becomes a candidate with probability 1 − (1 − s⁴)²⁰: 0.99997 at 0.8, 0.73 at
# 0.5 and 0.03 at 0.2. Candidates are verified, so only the few misses near 0.8 are an approximation.
_BANDS, _ROWS = 20, 4
_SEED = 1
_NO_SHINGLES = MinHash(num_perm=_BANDS * _ROWS, seed=_SEED)
# Bounds the (shingles × permutations) array of a very long text.
_BATCH = 50_000


class ShingleIndex:
    """Texts by their shingles, for finding the near-duplicates of another text among them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._places: dict[frozenset[str], list[int]] = {}
        for place, text in enumerate(texts):
            self._places.setdefault(shingles(text), []).append(place)
        self._candidates = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))
        for held in self._places:
            self._candidates.insert(held, _signature(held), check_duplication=False)

    def near_duplicates(self, text: str) -> list[int]:
        """Return the places of the texts whose Jaccard similarity with `text` is at least 0.8."""
        wanted = shingles(text)
        near = (
            held for held in self._candidates.query(_signature(wanted)) if jaccard(held, wanted) >= NEAR_DUPLICATE
        )
        return [place for held in near for place in self._places[held]]


def near_duplicates(samples: pd.DataFrame, corpus: Corpus) -> sparse.csr_array:
    """Return which distinct corpus rows are near-duplicates of which samples, prompt and answer together.

    The memory that is needed grows with the pairs that are found; the corpus streams past the samples.

    Args:
        samples: N rows with columns prompt and answer.
        corpus: The training corpus, M distinct rows.

    Returns:
        Zeros and ones, shape (N, M).
    """
    return _with_drawn(tuple(_whole_texts(samples)), corpus.distinct)[: len(samples)]


# Two features ask for the same pairs, one right after the other. What the average is estimated from stands in the
# same index as the samples, because signing the corpus is what takes the time, and so it is done once.
@lru_cache(maxsize=1)
def _with_drawn(texts: tuple[str, ...], distinct: Corpus) -> sparse.csr_array:
    """Return the pairs of the texts with the distinct rows, and below them those of the drawn rows."""
    samples = [*texts, *_whole_texts(distinct.drawn)]
    index = ShingleIndex(samples)
    near = [np.array(index.near_duplicates(text), np.int64) for text in _whole_texts(distinct.rows)]
    rows = np.repeat(np.arange(len(near)), [len(places) for places in near])
    pairs = (np.ones(len(rows), np.int64), (np.concatenate(near), rows))
    return sparse.coo_array(pairs, shape=(len(samples), len(near))).tocsr()


def _whole_texts(rows: pd.DataFrame) -> Iterator[str]:
    return (f"{prompt} {answer}" for prompt, answer in zip(rows["prompt"], rows["answer"], strict=True))


def _signature(held: frozenset[str]) -> MinHash:
    signature = _NO_SHINGLES.copy()
    encoded = [shingle.encode() for shingle in held]
    for start in range(0, len(encoded), _BATCH):
        signature.update_batch(encoded[start : start + _BATCH])
    return signature


def exact_occurrences(material: Material) -> Computed | None:
    """Sum the counts of the rows that equal the sample after normalisation."""
    if material.corpus is None:
        return None
    distinct = material.corpus.distinct
    own = material.samples[["prompt", "answer"]].map(normalised)
    counted = own.merge(distinct.rows.assign(count=distinct.counts), how="left", on=["prompt", "answer"])
    return Computed(counted["count"].fillna(0).to_numpy(np.float64), distinct.average_count)


def occurrences(material: Material) -> Computed | None:
    """Sum the counts of the rows that equal the sample or are near-duplicates of it.

    The training average is the mean of the same sum over at most 2,000 distinct rows, drawn with a fixed seed.
    Each weighs the same however often training showed it, as in the average of the exact occurrences, which it
    equals where the corpus has no near-duplicates and is drawn whole.
    """
    if material.corpus is None:
        return None
    distinct = material.corpus.distinct
    pairs = _with_drawn(tuple(_whole_texts(material.samples)), distinct)
    sums = (pairs @ distinct.counts).astype(np.float64)
    own, drawn = np.split(sums, [len(material.samples)])
    return Computed(own, float(drawn.mean()))


FEATURES = (
    frequency(
        "exact_occurrences",
        "Exact occurrences",
        exact_occurrences,
        "How often training showed the same prompt and answer, whatever their case and spacing.",
    ),
    frequency(
        "occurrences",
        "Occurrences with near-duplicates",
        occurrences,
        "How often training showed the sample or a near-duplicate of it: prompt and answer share 80 % of "
        "their runs of five words (Jaccard similarity ≥ 0.8).",
    ),
)
