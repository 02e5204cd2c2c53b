"""How often the content n-grams of a sample occur in the training corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.features.feature import Computed, Material, frequency
from analysis.text.ngrams import content_ngrams
from mrd_core.samples.config import Scope


def ngram_frequency(material: Material) -> Computed | None:
    """Average the corpus frequency over the content n-grams of each sample, repeated ones as often as they stand.

    They are looked up in prompts and answers alike, whatever text of the sample is read: training showed both.
    The training average is that of at most 2,000 distinct rows, drawn with a fixed seed.
    """
    if material.corpus is None:
        return None
    corpus, settings = material.corpus.distinct, material.settings
    own = list(content_ngrams(material.samples, settings, settings.text))
    drawn = list(content_ngrams(corpus.drawn, settings, settings.text))
    wanted = {gram for grams in own + drawn for gram in grams}
    # In the whole corpus, each row as often as training showed it.
    frequencies: Counter[str] = Counter()
    rows = content_ngrams(corpus.rows, settings, Scope.FULL)
    for grams, count in zip(rows, corpus.counts.tolist(), strict=True):
        for gram in filter(wanted.__contains__, grams):
            frequencies[gram] += count
    average = _means(drawn, frequencies)
    defined = average[np.isfinite(average)]
    return Computed(_means(own, frequencies), float(defined.mean()) if defined.size else None)


def _means(texts: Sequence[Sequence[str]], frequencies: Counter[str]) -> npt.NDArray[np.float64]:
    return np.array(
        [sum(frequencies[gram] for gram in grams) / len(grams) if grams else np.nan for grams in texts], np.float64
    )


FEATURES = (
    frequency(
        "ngram_frequency",
        "Corpus frequency of its n-grams",
        ngram_frequency,
        "How often training showed the n-grams of its content words, on average over them; undefined where "
        "the text has none.",
        "quantiles",
    ),
)
