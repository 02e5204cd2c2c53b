"""What a score run and all that builds on it show: five questions, each with a state and a sentence.

The rules are functions of what runs wrote down of themselves, so that a verdict costs nothing and is the same on
every page. What nobody has looked at is not measured, which is a verdict as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from analysis.characteristics.files import ClaimFigures
from analysis.comparison.kept import KeptAnswers, rest_with_answers
from analysis.evidence.headlines import Headline
from analysis.evidence.returns import CONTROL, Comeback, worst
from analysis.statistics.bootstrap import LEAST_SAMPLES
from analysis.statistics.wording import in_figures, is_flat
from mrd_core.scoring.draws import spearman_brown
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.damage import Rest
from mrd_core.unlearning.records import UnlearningSummary

# From this reliability on a ranking repeats, and below that it does not: the rank correlation of two such runs.
REPEATS, DOES_NOT_REPEAT = 0.9, 0.7
# Of what was forgotten, the share that may be back.
RETURNS = 0.1


class State(StrEnum):
    """How a question stands."""

    NOT_MEASURED = "not measured"
    HOLDS = "holds"
    CANNOT_TELL = "cannot tell"
    FAILS = "fails"
    DAMAGED = "damaged"


class Question(StrEnum):
    """What is asked of a score run, in the order in which it is answered."""

    MEASURED = "Measured"
    EXPLAINED = "Explained"
    PREDICTIVE = "Predictive"
    UNLEARNED = "Unlearned"
    DURABLE = "Durable"


ASKED: Mapping[Question, str] = {
    Question.MEASURED: "Does the ranking repeat?",
    Question.EXPLAINED: "Which claims about hard samples hold here?",
    Question.PREDICTIVE: "Does difficulty say how many updates forgetting takes here?",
    Question.UNLEARNED: "Is it forgotten, and what is left of the rest?",
    Question.DURABLE: "Does it stay forgotten?",
}


@dataclass(frozen=True)
class Verdict:
    """How a question stands, and why, in a sentence."""

    question: Question
    state: State
    sentence: str


def measured(summary: ScoreSummary) -> Verdict:
    """Judge whether the ranking repeats: reliability ≥ 0.9 holds, < 0.7 fails, and so does the precision gate."""
    by_sum = summary.normalisation == "sum"
    reliability = summary.reliability_sum if by_sum else summary.reliability_mean
    if summary.gate and not summary.gate.get("passed", True):
        state, sentence = State.FAILS, "The scores are within the rounding of the arithmetic."
    elif reliability is None:
        state, sentence = State.CANNOT_TELL, "Too few samples or draws to say whether it repeats."
    else:
        state = State.CANNOT_TELL
        if reliability >= REPEATS:
            state = State.HOLDS
        elif reliability < DOES_NOT_REPEAT:
            state = State.FAILS
        interval = reliability_interval(reliability, summary.n_samples - summary.undefined_samples)
        sentence = f"Another run like this would rank the samples alike with ρ = {reliability:.2f}{interval}."
    if summary.preview:
        state = State.CANNOT_TELL if state is State.HOLDS else state
        sentence = f"A preview, by speed + spread and not by MRD. {sentence}"
    return Verdict(Question.MEASURED, state, sentence)


def reliability_interval(reliability: float, n_samples: int) -> str:
    """Return about the 95 % interval of a split-half reliability, as ` [0.94, 0.96]`; "" with too few samples.

    That of a rank correlation by Fisher's z with the variance 1.06 / (n − 3) of Fieller, Hartley & Pearson (1957),
    for the correlation of the halves, lengthened by Spearman and Brown's formula as the reliability was.
    """
    if n_samples < LEAST_SAMPLES:
        return ""
    halves = min(reliability / (2 - reliability), 1 - 1e-9)
    width = NormalDist().inv_cdf(0.975) * math.sqrt(1.06 / (n_samples - 3))
    ends = (math.tanh(math.atanh(halves) + side * width) for side in (-1, 1))
    low, high = map(spearman_brown, ends)
    return f" [{low:.2f}, {high:.2f}]"


def explained(claims: Sequence[ClaimFigures] | None) -> Verdict:
    """Judge the claims of the paper: some hold with length held and none is contradicted.

    None stands for texts that were not read. It fails where claims are contradicted and none holds; a claim that
    goes with length alone does not hold.
    """
    if claims is None:
        return Verdict(Question.EXPLAINED, State.NOT_MEASURED, "The texts have not been read.")
    agreeing = [claim for claim in claims if claim.verdict == "agrees"]
    kept = [claim.criterion for claim in agreeing if claim.remains]
    only_length = [claim.criterion for claim in agreeing if not claim.remains]
    contradicted = [claim.criterion for claim in claims if claim.verdict == "disagrees"]
    state = State.CANNOT_TELL
    if kept and not contradicted:
        state = State.HOLDS
    elif contradicted and not kept:
        state = State.FAILS
    parts = {
        f"hold ({', '.join(kept)})": kept,
        "go with length alone": only_length,
        "are contradicted": contradicted,
    }
    counts = [f"{len(names)} {what}" for what, names in parts.items() if names]
    sentence = f"Of {len(claims)} claims {', '.join(counts)}." if counts else "No claim can be told."
    return Verdict(Question.EXPLAINED, state, sentence)


def predictive(headlines: Sequence[Headline] | None) -> Verdict:
    """Judge the arms of a validity experiment: all predict updates as expected, or none does and one says so."""
    if not headlines:
        return Verdict(
            Question.PREDICTIVE,
            State.NOT_MEASURED,
            "Nobody has looked whether hard samples take more updates on this model.",
        )
    holding = [line for line in headlines if line.outcome == "predicts updates as expected"]
    failing = [line for line in headlines if line.outcome == "predicts the opposite" or is_flat(line.estimate)]
    state = State.CANNOT_TELL
    if len(holding) == len(headlines):
        state = State.HOLDS
    elif failing and not holding:
        state = State.FAILS
    sentence = f"{headlines[0].text}."
    if len(headlines) > 1:
        sentence = f"As expected in {len(holding)} of {len(headlines)} ways to unlearn. {sentence}"
    if math.isfinite(headlines[0].rival.low):
        sentence += f" One forward pass, by the median log-odds: {in_figures(headlines[0].rival)}."
    return Verdict(Question.PREDICTIVE, state, sentence)


def unlearned(name: str, summary: UnlearningSummary | None, kept: KeptAnswers | None = None) -> Verdict:
    """Judge an unlearning run: all forgotten at the end, the retain set kept.

    Args:
        name: What it is called.
        summary: Its own figures; None without a run.
        kept: What an evaluation found of its answers to the retain set; None where there is none. A model that
            lost them is damaged, whatever its next token is with the true answer before it.
    """
    if summary is None:
        return Verdict(Question.UNLEARNED, State.NOT_MEASURED, "Nothing has been unlearned from these scores.")
    left, sentence = rest_with_answers(summary, kept)
    everything = summary.forgotten_at_end == summary.n_samples
    state = {
        Rest.DAMAGED: State.DAMAGED,
        Rest.UNKNOWN: State.CANNOT_TELL,
        Rest.KEPT: State.HOLDS if everything else State.FAILS,
    }[left]
    forgotten = f"{name}: {summary.forgotten_at_end} of {summary.n_samples} forgotten at the end."
    return Verdict(Question.UNLEARNED, state, f"{forgotten} {sentence}")


def durable(name: str = "", comebacks: Sequence[Comeback] | None = None, left: Rest = Rest.UNKNOWN) -> Verdict:
    """Judge what is back of an unlearning run after each attack that trains, the control apart.

    Of the samples that it had forgotten less than a tenth is back, or surely more, each share less that of the
    retrained reference. Without one nothing is known to hold: what does not come back may not come back in any
    model. An attack that lost the retain set, or may have, says nothing of what it did not bring back.

    Args:
        name: What the run is called.
        comebacks: Of the newest experiment on the run; None where nobody has tried.
        left: What became of its retain set.
    """
    lines = [line for line in comebacks or () if line.attack != CONTROL]
    if not lines:
        return Verdict(Question.DURABLE, State.NOT_MEASURED, "Nobody has tried to bring the samples back.")
    state = State.CANNOT_TELL
    if any(line.share.n and line.excess.low > RETURNS for line in lines):
        state = State.FAILS
    elif all(line.has_reference and line.is_ruined is False and line.excess.high < RETURNS for line in lines):
        state = State.HOLDS
    if left is Rest.DAMAGED:
        state = State.DAMAGED
    most = worst(lines)
    reference = (
        "" if most.has_reference else "; without a retrained reference, learning is not told from remembering"
    )
    return Verdict(Question.DURABLE, state, f"{name}: {most.sentence}{reference}.")


def conclusion(verdicts: Sequence[Verdict]) -> str:
    """Return what follows from the verdicts, in one line."""
    states = {verdict.question: verdict.state for verdict in verdicts}
    ranking, use = states[Question.MEASURED], states[Question.PREDICTIVE]
    if states[Question.UNLEARNED] is State.DAMAGED:
        return "The model that was unlearned lost what was to be kept: its forgetting counts for nothing."
    if ranking is State.FAILS:
        return "The ranking would not repeat, so nothing follows from it."
    if use is State.FAILS:
        return "On this model hard samples do not take more updates: the ranking is no forecast."
    if use is State.NOT_MEASURED:
        return "This is a ranking, not yet a forecast: whether it foretells anything on this model is not known."
    if ranking is State.HOLDS and use is State.HOLDS:
        return "The ranking repeats and foretells how many updates forgetting takes on this model."
    return "What the ranking foretells on this model cannot be told from what was measured."
