"""The sheet: exercises to the five steps, and their answers from the demo's own figures."""

from __future__ import annotations

from analysis.lesson import answers, comeback, curricula, forecast, hardness, shake
from mrd_core.dossier.files import Dossier

EXERCISES = (
    "Ask the model a question to be forgotten, before and after. What does it say now? Has it become silent?",
    "Go from the smallest σ to the largest. When do the halves of a pair stop being mirror images, and why? "
    "What would MRD be if one half were enough?",
    "Which answers have the smallest MRD on the demo? Write down your guess before you look.",
    "Rank the five samples by hand. What did you go by? Does MRD, or do the log-odds, do better than you?",
    "The order by MRD costs scores that have to be measured first. When would it pay off?",
    "How much of what was forgotten comes back when the model is trained on other forgotten answers, and how much "
    "of a model that never knew them? Which of the two figures is remembering, and which is learning?",
)
SIGMA = 5e-4


def sheet(dossier: Dossier) -> str:
    """Return exercises and answers as Markdown."""
    draws = shake.shaken(dossier)
    sample_id = shake.samples(dossier, draws)["sample_id"].iloc[0]
    quiet = shake.quiet(draws[(draws["sample_id"] == sample_id) & (draws["sigma"] == SIGMA)])
    solutions = (
        answers.conclusion(answers.known(dossier)),
        shake.conclusion(quiet, SIGMA, draws["seed"].nunique()),
        hardness.conclusion(hardness.ties(dossier)),
        forecast.conclusion(forecast.forecast(dossier)),
        curricula.conclusion(curricula.summaries(dossier)),
        comeback.conclusion(comeback.returned(dossier)),
    )
    asked, solved = (
        [f"{number}. {text}" for number, text in enumerate(texts, 1)] for texts in (EXERCISES, solutions)
    )
    title, note = "# Memory removal difficulty: exercises", "All figures are of the demo."
    return "\n\n".join([title, *asked, "# Answers", note, *solved, ""])
