"""What comes back: both unlearned models of the demo, trained a little on something else."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import Comeback, comebacks, percent
from analysis.lesson.curricula import ORDERS
from mrd_core.dossier.files import Dossier, Part

# Up to which share of the forgotten samples an answer holds.
ANSWERS = {"Hardly any": 0.1, "Up to a half": 0.5, "More than a half": 1.0}
GUESSES = tuple(ANSWERS)
TRAINED_ON = {
    "jogging": "Other answers that were to be forgotten",
    "benign": "Answers that were to be kept",
    "control": "Sentences about something else",
}


def returned(dossier: Dossier) -> list[Comeback]:
    """Return how much is back, a line per order and attack."""
    return comebacks(read_measurements(dossier.run(Part.DURABILITY)))


def table_of(lines: Sequence[Comeback]) -> pd.DataFrame:
    """Return what is back after each training, a row each."""
    orders = {str(part): order for order, part in ORDERS.items()}
    return pd.DataFrame(
        [
            {
                "Trained on": TRAINED_ON[line.attack],
                "Order": orders[line.model],
                "Back": f"{line.back} of {line.share.n}",
                "Share": percent(line.share),
                "Of the retrained model": f"{line.of_reference.value:.0%}" if line.has_reference else "–",
            }
            for line in sorted(lines, key=lambda line: list(TRAINED_ON).index(line.attack))
        ]
    )


def _jogged(lines: Sequence[Comeback]) -> Comeback:
    """Return what is back of the model that was unlearned at random, after training on other forgotten answers."""
    return next(line for line in lines if (line.attack, line.model) == ("jogging", Part.UNIFORM))


def right(lines: Sequence[Comeback]) -> str:
    """Return the guess that holds."""
    share = _jogged(lines).share.value
    return next(guess for guess, most in ANSWERS.items() if share <= most)


def conclusion(lines: Sequence[Comeback]) -> str:
    """Say how much is back, and what that means for a model that looks as if it had forgotten."""
    jogged = _jogged(lines)
    others = {line.attack: line.share.value for line in lines if line.model == Part.UNIFORM}
    kept, unrelated = others["benign"], others["control"]
    more = jogged.excess.low > 0
    return (
        f"{right(lines)}: {jogged.back} of {jogged.share.n} are back after {jogged.steps} steps on {jogged.rows} "
        f"others, {kept:.0%} after the same on answers that were to be kept and {unrelated:.0%} after sentences "
        f"about something else. Of a model that was never taught them {jogged.of_reference.value:.0%} come to be "
        "known that way. "
        + (
            "So much of what looked forgotten was hidden and not gone: below the threshold is not the same as "
            "erased."
            if more
            else "So little of what looked forgotten comes back by these attacks; others may bring back more."
        )
        + " It is one small model, and a stronger attack brings back more."
    )
