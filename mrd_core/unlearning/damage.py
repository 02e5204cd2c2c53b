"""What is left of what was to be kept: a model that lost its retain set is no success. Loads no torch."""

from __future__ import annotations

from enum import StrEnum
from math import log

from mrd_core.unlearning.records import UnlearningSummary

# Of MA on the retain set, the least share that has to be left.
LEAST_KEPT = 0.9
# What NLL on the retain set may rise by [nats per answer token]: a token is then half as probable.
MOST_LOST = log(2)
RULE = (
    "A model counts as damaged where memorization accuracy (MA) on the retain set fell by more than a tenth of "
    "what it was, or NLL rose by more than ln 2 = 0.69 nats per answer token; or where an evaluation finds that "
    "its answers there lost more than a tenth of their ROUGE-L, beyond the noise of the samples."
)


class Rest(StrEnum):
    """What became of the retain set."""

    UNKNOWN = "not measured"
    KEPT = "kept"
    DAMAGED = "damaged"


def rest(summary: UnlearningSummary) -> Rest:
    """Return what became of the retain set; unknown where a run had none, or measured nothing.

    It is damaged where memorization accuracy fell by more than a tenth of what it was, or NLL rose by more than
    ln 2 = 0.69 nats per answer token, or is no number any more.
    """
    nll, accuracy = summary.retain_nll_before, summary.retain_accuracy_before
    if nll is None or accuracy is None:
        return Rest.UNKNOWN
    after_nll, after_accuracy = summary.retain_nll, summary.retain_accuracy
    if after_nll is None or after_accuracy is None:
        return Rest.DAMAGED
    kept = after_accuracy >= LEAST_KEPT * accuracy and after_nll - nll <= MOST_LOST
    return Rest.KEPT if kept else Rest.DAMAGED


def in_words(summary: UnlearningSummary) -> str:
    """Return in a sentence what became of the retain set, with its figures."""
    left = rest(summary)
    if left is Rest.UNKNOWN:
        return "What is left of the rest was not measured: the run had no retain set."
    accuracies = [summary.retain_accuracy_before, summary.retain_accuracy]
    nlls = [summary.retain_nll_before, summary.retain_nll]
    shares = " to ".join("nothing that is a number" if share is None else f"{share:.1%}" for share in accuracies)
    losses = " to ".join("nothing that is a number" if nll is None else f"{nll:.2f}" for nll in nlls)
    figures = f"MA went from {shares}, NLL from {losses} nats per token"
    if left is Rest.DAMAGED:
        return f"The model is damaged on what was to be kept: on the retain set {figures}."
    return f"The retain set was kept: {figures}."
