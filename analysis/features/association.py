"""How much of a sample other training rows share: contextual association by n-gram overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import numpy as np
from scipy import sparse

from analysis.features.feature import Computed, Feature, Material
from analysis.features.occurrences import near_duplicates
from analysis.text.config import ReadingConfig
from analysis.text.corpus import Corpus
from analysis.text.ngrams import content_ngrams
from mrd_core.arrays import FloatArray

NEAREST = 5

# Corpus rows at a time: 20,000 samples that all share a word with all of them take about 200 MB.
_CHUNK = 500


def association(material: Material) -> Computed | None:
    """Average the Jaccard similarity of content n-grams over the five nearest distinct training rows.

    Both sides are read in the same text. Rows that `occurrences` counts (the sample itself and its
    near-duplicates) are left out; where fewer than five are left, all of them are averaged. Undefined for a
    sample without a content n-gram and where no row is left.
    """
    if material.corpus is None:
        return None
    settings, corpus = material.settings, material.corpus.distinct
    own = [set(grams) for grams in content_ngrams(material.samples, settings, settings.text)]
    left_out = near_duplicates(material.samples, material.corpus)
    neighbours = np.minimum(NEAREST, len(corpus.rows) - left_out.sum(axis=1)).astype(np.float64)
    neighbours[[not grams for grams in own]] = np.nan
    neighbours[neighbours == 0] = np.nan
    return Computed(_nearest(own, corpus, settings, left_out).sum(axis=1) / neighbours)


def _nearest(
    own: list[set[str]], corpus: Corpus, settings: ReadingConfig, left_out: sparse.csr_array
) -> FloatArray:
    """Return the similarities of the nearest rows of each sample, shape (N, 5), 0 where nothing is shared."""
    columns = {gram: column for column, gram in enumerate(dict.fromkeys(gram for grams in own for gram in grams))}
    samples, sizes = _incidence(own, columns), _sizes(own)
    columnwise = left_out.tocsc()
    nearest = np.zeros((len(own), NEAREST))
    for start in range(0, len(corpus.rows), _CHUNK):
        rows = corpus.rows.iloc[start : start + _CHUNK]
        grams = [set(of_row) for of_row in content_ngrams(rows, settings, settings.text)]
        shared = (samples @ _incidence(grams, columns).T).tocoo()
        similarity = shared.data / (sizes[shared.row] + _sizes(grams)[shared.col] - shared.data)
        scores = sparse.coo_array((similarity, (shared.row, shared.col)), shape=shared.shape).tocsr()
        others = (scores - scores.multiply(columnwise[:, start : start + _CHUNK])).tocoo()
        # The largest of those so far and of those of these rows.
        nearer = others.data > nearest.min(axis=1)[others.row]
        places = np.concatenate([np.repeat(np.arange(len(own)), NEAREST), others.row[nearer]])
        values = np.concatenate([nearest.ravel(), others.data[nearer]])
        order = np.lexsort((-values, places))
        starts = np.searchsorted(places[order], np.arange(len(own)))
        nearest = values[order][starts[:, None] + np.arange(NEAREST)]
    return nearest


def _incidence(sets: list[set[str]], columns: Mapping[str, int]) -> sparse.csr_array:
    """Return which set holds which of the n-grams that have a column: zeros and ones, shape (sets, columns)."""
    held = [[columns[gram] for gram in grams if gram in columns] for grams in sets]
    indices = np.array([column for places in held for column in places], np.int64)
    starts = np.cumsum([0, *map(len, held)])
    return sparse.csr_array((np.ones(len(indices)), indices, starts), shape=(len(sets), len(columns)))


def _sizes(sets: Iterable[Set[str]]) -> FloatArray:
    return np.array([len(grams) for grams in sets], np.float64)


FEATURES = (
    Feature(
        name="association",
        title="Association with training texts",
        unit="",
        bins="quantiles",
        direction="more associated",
        help="Share of its content n-grams in common with the five nearest training texts (Jaccard similarity), "
        "its own occurrences and near-duplicates left out.",
        group="association",
        over=association,
    ),
)
