"""Metrics of what the model writes by itself, beside the true answer."""

from __future__ import annotations

from collections.abc import Mapping

from mrd_core.evaluation.metrics.metric import JIA, LIN, NO_TEXT, Metric, Need, Split
from mrd_core.evaluation.overlap import contains_answer, repetition

_ROUGE_NAMES: Mapping[Split, str] = {
    "forget": "forget_Q_A_ROUGE",
    "retain": "retain_Q_A_ROUGE",
    "real_authors": "ra_Q_A_ROUGE",
    "world_facts": "wf_Q_A_ROUGE",
}
# Accuracy holds what is written to one against the others.
_ANSWERS: tuple[Need, ...] = ("generation", "paraphrased questions", "paraphrased answers", "perturbed answers")
METRICS = (
    Metric(
        name="rouge",
        title="ROUGE-L recall",
        forget="low",
        retain="high",
        formula=r"\frac{|\mathrm{LCS}(g, y)|}{|y|}",
        source=f"{LIN}; with Porter's stemmer, as TOFU and OpenUnlearning take it",
        help="Share of the answer's words that the model writes by itself, in their order.",
        needs=("generation",),
        undefined=NO_TEXT,
        file_names=_ROUGE_NAMES,
        of=lambda answer: answer.rouge.recall,
    ),
    Metric(
        name="rouge_f1",
        title="ROUGE-L F1",
        forget="low",
        retain="high",
        formula=r"\frac{2\,|\mathrm{LCS}(g, y)|}{|g| + |y|}",
        source=f"{LIN}; with Porter's stemmer",
        help="As the recall, but words that the model writes beside the answer count against it.",
        needs=("generation",),
        undefined=NO_TEXT,
        of=lambda answer: answer.rouge.f1,
    ),
    Metric(
        name="rr",
        title="RR",
        forget="high",
        retain="",
        formula=r"1 - \frac{|\mathrm{LCS}(g, y)|}{|y|}",
        source=f"{JIA}; {LIN}",
        help="Share of the answer's words that the model no longer writes by itself: 1 − ROUGE-L recall.",
        needs=("generation",),
        undefined=NO_TEXT,
    ),
    Metric(
        name="accuracy",
        title="Accuracy against perturbed answers (ROUGE-L)",
        forget="low",
        retain="high",
        formula=r"\mathbb{1}\left[F(g, \tilde{y}) > \max_a F(g, \hat{y}_a)\right],\quad F: \text{ROUGE-L F1}",
        source=f"{JIA}, who compare sentence embeddings instead of ROUGE-L",
        help="Whether what the model writes to the paraphrased question is closer to the paraphrased answer than "
        "to every perturbed one. Measured by ROUGE-L instead of an embedding model; a tie is a miss.",
        needs=_ANSWERS,
        undefined=f"{NO_TEXT} The same holds where there is no perturbed answer.",
    ),
    Metric(
        name="accuracy_embedding",
        title="Accuracy against perturbed answers (embeddings)",
        forget="low",
        retain="high",
        formula=r"\mathbb{1}\left[\cos(e_g, e_{\tilde{y}}) > \max_a \cos(e_g, e_{\hat{y}_a})\right]",
        source=f"{JIA}; e: sentence embeddings, such as those of Reimers and Gurevych 2019, Sentence-BERT",
        help="As the accuracy by ROUGE-L, with closeness in meaning: the cosine of sentence embeddings. A model "
        "that answers in other words is right by it.",
        needs=(*_ANSWERS, "embedding model"),
        undefined=f"{NO_TEXT} The same holds where there is no perturbed answer.",
    ),
    Metric(
        name="ua",
        title="UA",
        forget="high",
        retain="",
        formula=r"1 - \mathbb{1}\left[F(g, \tilde{y}) > \max_a F(g, \hat{y}_a)\right]",
        source=JIA,
        help="Unlearning accuracy: whether the model misses the answer; 1 − accuracy by ROUGE-L.",
        needs=_ANSWERS,
        undefined=f"{NO_TEXT} The same holds where there is no perturbed answer.",
    ),
    Metric(
        name="ua_embedding",
        title="UA (embeddings)",
        forget="high",
        retain="",
        formula=r"1 - \mathbb{1}\left[\cos(e_g, e_{\tilde{y}}) > \max_a \cos(e_g, e_{\hat{y}_a})\right]",
        source=JIA,
        help="Unlearning accuracy: whether the model misses the answer; 1 − accuracy by sentence embeddings.",
        needs=(*_ANSWERS, "embedding model"),
        undefined=f"{NO_TEXT} The same holds where there is no perturbed answer.",
    ),
    Metric(
        name="repetition",
        title="Repetition",
        forget="low",
        retain="low",
        formula=r"1 - \frac{|\{(g_i, g_{i+1})\}|}{|g| - 1}",
        source="Share of repeated bigrams; as seq-rep-n of Welleck et al. 2020, Neural Text Generation with "
        "Unlikelihood Training, with words for tokens and n = 2",
        help="Share of the pairs of neighbouring words that the model has written before in the same text; 1 "
        "where it writes nothing. A model that repeats itself is damaged, whatever it seems to have forgotten.",
        needs=("generation",),
        undefined="The model could write nothing: no prompt, or no room in the context.",
        of=lambda answer: repetition(answer.written),
    ),
    Metric(
        name="answer_match",
        title="Answer string found",
        forget="low",
        retain="high",
        formula=r"\mathbb{1}[y \text{ occurs in } g]",
        source=JIA,
        help="Whether the answer stands in what the model writes, whatever the case of its letters; the accuracy "
        "on real authors and world facts.",
        needs=("generation",),
        undefined="The model could write nothing (no prompt, or no room in the context), or the answer is blank.",
        of=lambda answer: contains_answer(answer.written, answer.true),
    ),
)
