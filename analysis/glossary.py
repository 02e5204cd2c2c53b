"""What the words of the app mean: made from what the code declares, and a few words that nothing declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from analysis.features import features
from mrd_core.evaluation.metrics import METRICS
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.measures import MEASURES, MRD_MEASURES
from mrd_core.settings.fields import help_of
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.sampling import SAMPLERS


@dataclass(frozen=True)
class Term:
    """A word of the app.

    Attributes:
        name: As the app writes it.
        kind: What it is: a word, a measure, a metric, a method, a sampler, a feature.
        meaning: In a sentence or two.
        formula: In LaTeX; "" for none.
        source: Where it is from; "" where it is nobody's.
    """

    name: str
    kind: str
    meaning: str
    formula: str = ""
    source: str = ""

    def matches(self, text: str) -> bool:
        """Return whether every word of a search begins a word of the term."""
        searched = f"{self.name} {self.meaning} {self.source}".lower()
        return all(re.search(rf"(?<!\w){re.escape(word)}", searched) for word in text.lower().split())


_MRD = MEASURES["mrd_answer_mean"]
WORDS = (
    Term(
        "MRD", "word", f"Memory Removal Difficulty. {_MRD.help} Small: hard to unlearn.", _MRD.formula, _MRD.source
    ),
    Term("σ", "word", help_of(EstimatorConfig, "sigma")),
    Term("Scored tokens", "word", help_of(EstimatorConfig, "scope")),
    Term("Normalisation", "word", help_of(EstimatorConfig, "normalisation")),
    Term(
        "δ, the noise",
        "word",
        "One random change of all weights at once; a draw. All samples are measured under the same ones.",
        r"\delta \sim \mathcal{N}(0, \sigma^2 I)",
    ),
    Term(
        "Relearning",
        "word",
        "An unlearned model is trained on something else, and what it had forgotten is looked at again: on some "
        "of the forget set (jogging), on retain samples (benign), or on unrelated text (control).",
    ),
    Term(
        "leak@k",
        "word",
        "ROUGE-L of the best of k answers that are drawn by chance, in the mean over all choices of k of those "
        "that were drawn.",
        r"\sum_j s_{(j)} \binom{j-1}{k-1} \Big/ \binom{n}{k}",
    ),
    Term(
        "Retrained reference",
        "word",
        "A model that was trained as the starting one was, but never on the forget set: what unlearning should "
        "come to. What it learns in an attack is learning, and is subtracted.",
    ),
    Term(
        "Pair",
        "word",
        "Two draws of opposite sign. What the noise does to first order cancels in their mean.",
        r"r_j = \tfrac12 \left(r(\delta_j) + r(-\delta_j)\right)",
        "Hammersley & Morton 1956",
    ),
    Term(
        "SE", "word", "Standard error: how far a score would move if the noise were drawn anew.", r"s / \sqrt{n}"
    ),
    Term("Relative SE", "word", "The standard error as a share of MRD. Above 30 % a score is mostly noise."),
    Term(
        "Reliability",
        "word",
        "How well an equal run would rank the samples alike, from the correlation of two halves of the draws. "
        "It does not see an error that all draws share.",
        r"\frac{2 \rho_h}{1 + \rho_h}",
        "Spearman 1910; Brown 1910",
    ),
    Term(
        "Precision gate",
        "word",
        "Compares the expected MRD with what rounding alone makes of the model in the draws' precision.",
    ),
    Term("Preview", "word", "A ranking by speed + spread alone: no noise is drawn, and it is not MRD."),
    Term(
        "Spearman's ρ",
        "word",
        "How far two rankings agree: 1 the same, 0 nothing in common, −1 the reverse.",
        source="Spearman 1904",
    ),
    Term(
        "Cliff's δ",
        "word",
        "How far two groups lie apart, whatever the scale: 0 they overlap, ±1 they do not at all.",
        r"P(\text{high} > \text{low}) - P(\text{high} < \text{low})",
        "Cliff 1993",
    ),
    Term(
        "Mann–Whitney p",
        "word",
        "Probability of ranks as far apart as these, or further, if both groups were alike.",
        source="Mann & Whitney 1947",
    ),
    Term(
        "Holm",
        "word",
        "A correction of p-values for their number: who tests much finds something by chance.",
        source="Holm 1979",
    ),
    Term(
        "95 % interval",
        "word",
        "Where the value lies in 95 of 100 such studies. It holds the chance of samples and that of noise.",
        source="Efron 1987; Owen 2007",
    ),
    Term(
        "Length held",
        "word",
        "What is left of a tie to MRD among samples of equal length: both ranks less its part.",
    ),
    Term("Stratum", "word", "A part of the forget set that shares a property, such as the hardest third."),
    Term(
        "Effective sample size (ESS)",
        "word",
        "How many samples of equal weight would be drawn as evenly. Near 100 % the order changes nothing.",
        r"\frac{1}{\sum_i p_i^2}",
        "Kish 1965",
    ),
    Term(
        "MIA",
        "word",
        "Membership inference attack: tells from its likelihood whether a text was trained on. At ½ the "
        "two sets that it is to tell apart look alike.",
        source="Yeom et al. 2018",
    ),
    Term("SGA", "word", f"Stochastic gradient ascent. {SAMPLERS['uniform'].help}", SAMPLERS["uniform"].formula),
    Term(
        "CGA", "word", f"Curriculum gradient ascent. {SAMPLERS['mrd'].help}", SAMPLERS["mrd"].formula, _MRD.source
    ),
    Term(
        "Retain set",
        "word",
        "What the model is to keep knowing. A model that lost it is damaged, whatever it forgot.",
    ),
    Term("Censored", "word", "Not forgotten when the run ended: it takes more updates than were counted."),
)


def glossary() -> list[Term]:
    """Return every term, by kind and in each by name."""
    return [*sorted(WORDS, key=_place), *_in_order(_measures(), _metrics(), _methods(), _samplers(), _features())]


@cache
def abbreviations() -> re.Pattern[str]:
    """Return what matches an abbreviation, or the name of who made a term, of which the glossary has a term."""
    names = " ".join(term.name for term in glossary())
    words = {*re.findall(r"\b[A-Z]{2,}(?:-[A-Z]+)?\b", names), *re.findall("[α-ω]", names)}
    words |= {method.label for method in METHODS.values()}
    words |= {term.name for term in glossary() if term.source.startswith(f"{term.name} ")}
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")


def _in_order(*kinds: Iterable[Term]) -> Iterator[Term]:
    for terms in kinds:
        yield from sorted(terms, key=_place)


def _place(term: Term) -> str:
    return term.name.lower()


def _measures() -> Iterator[Term]:
    # The variants of MRD over other tokens differ in what is summed alone.
    left_out = {name for name in MRD_MEASURES if not name.endswith("_answer_mean")} | {_MRD.name}
    for name, measure in MEASURES.items():
        if name not in left_out:
            yield Term(measure.title, "measure", measure.help, measure.formula, measure.source)


def _metrics() -> Iterator[Term]:
    known = {measure.title for measure in MEASURES.values()}
    for metric in METRICS.values():
        if metric.title not in known:
            yield Term(metric.title, "metric", metric.help, metric.formula, metric.source)


def _methods() -> Iterator[Term]:
    for method in METHODS.values():
        meaning = f"In tables {method.label}. {method.about}"
        yield Term(method.title, "method", meaning, method.formula, method.source)


def _samplers() -> Iterator[Term]:
    for sampler in SAMPLERS.values():
        yield Term(sampler.title, "sampler", sampler.help, sampler.formula)


def _features() -> Iterator[Term]:
    for feature in features():
        yield Term(feature.title, "feature", feature.help)
