"""What a feature is, and what it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.text.config import ReadingConfig

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

    from analysis.text.corpus import Corpus

Bins = Literal["quantiles", "counts"]


@dataclass(frozen=True)
class Reading:
    """One text as the features see it.

    Attributes:
        doc: The parsed text.
        settings: How texts are read.
        common_words: The most frequent words of the language, in lower case.
    """

    doc: Doc
    settings: ReadingConfig
    common_words: frozenset[str]

    @cached_property
    def words(self) -> list[Token]:
        """The tokens with a letter or digit in them, clitics ("n't", "'s") included."""
        return [token for token in self.doc if any(map(str.isalnum, token.text))]


@dataclass(frozen=True)
class Material:
    """The whole forget set as the features see it, in the order of the run's samples.

    Attributes:
        samples: N rows: sample_id, prompt, answer, training_count.
        settings: How texts are read.
        corpus: The training corpus, where the user gave one.
        hidden_states: Mean last hidden state of each sample, shape (N, width), where the score run kept it.
        scores: N rows of the score run's `scores.parquet`.
    """

    samples: pd.DataFrame
    settings: ReadingConfig
    corpus: Corpus | None
    hidden_states: npt.NDArray[np.float32] | None
    scores: pd.DataFrame


@dataclass(frozen=True)
class Computed:
    """The values of one feature that is computed over the whole set.

    Attributes:
        values: Shape (N,); NaN where undefined.
        training_average: The mean of the same quantity over the training corpus, where that means something.
    """

    values: npt.NDArray[np.float64]
    training_average: float | None = None


@dataclass(frozen=True)
class Feature:
    """A property of a sample that may make it hard or easy to unlearn.

    Exactly one of `of` and `over` is given.

    Attributes:
        name: Column in `features.parquet`.
        title: For people.
        unit: Of the value; "" for a pure number.
        bins: How a histogram cuts it: equal shares of the samples, or whole numbers.
        direction: What a large value means: "more complex", "more frequent", …
        help: One line that says what is counted.
        group: The criterion it belongs to.
        of: Value of one text; NaN where it is undefined.
        over: Values of all samples at once; None where the material is missing (no corpus, for example).
    """

    name: str
    title: str
    unit: str
    bins: Bins
    direction: str
    help: str
    group: str
    of: Callable[[Reading], float] | None = None
    over: Callable[[Material], Computed | None] | None = None

    def described(self) -> Mapping[str, Any]:
        """Return what `features.parquet` says of the column."""
        described = ("title", "unit", "bins", "direction", "help", "group")
        return {attribute: getattr(self, attribute) for attribute in described}


def complexity(
    name: str, title: str, unit: str, of: Callable[[Reading], float], help: str, bins: Bins = "quantiles"
) -> Feature:
    """Return a feature of semantic complexity: the larger its value, the more complex the text."""
    return Feature(name, title, unit, bins, "more complex", help, "semantic_complexity", of)


def frequency(
    name: str, title: str, over: Callable[[Material], Computed | None], help: str, bins: Bins = "counts"
) -> Feature:
    """Return a feature that counts how often training showed a sample, or what it is made of."""
    return Feature(name, title, "occurrences", bins, "more frequent", help, "occurrence_frequency", over=over)
