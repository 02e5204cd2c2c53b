"""Length: the rival of every other feature."""

from __future__ import annotations

from analysis.features.feature import Feature, Reading


def n_words(reading: Reading) -> float:
    """Return the number of words, clitics included."""
    return float(len(reading.words))


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="n_words",
        title="Length in words",
        unit="words",
        bins="counts",
        direction="longer",
        help="Tokens with a letter or digit in them.",
        group="length",
        of=n_words,
    ),
)
