"""What a model knows of questions with answers: likelihoods, what it writes, wrong answers beside right ones.

The answer scope is that of MRD: the answer's tokens and its EOS. OpenUnlearning's membership attacks leave the
EOS out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from mrd_core.arrays import FloatArray
from mrd_core.evaluation import embedding
from mrd_core.evaluation.choice import closest_is_true, overlaps
from mrd_core.evaluation.likelihoods import Likelihoods, answer_likelihoods, metrics_of
from mrd_core.evaluation.metrics import METRICS, Answer
from mrd_core.evaluation.overlap import rouge_l
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Measured, Subject
from mrd_core.evaluation.truth import closer_to_one_better, probability_among, true_better, truth_ratio
from mrd_core.model.encoding import Encoded
from mrd_core.model.generation import prompt_of
from mrd_core.model.memorization import extraction_likelihood

QUESTION, PARAPHRASED = "question", "paraphrased question"


def measure_answers(
    subject: Subject, asked: EvaluationSet, *, extraction: bool = False, embedding_model: str | None = None
) -> Measured:
    """Ask a model the questions of a set, and look at how likely the true answers are.

    Args:
        subject: The model.
        asked: N samples of the kind `answers`.
        extraction: Also measure EL.
        embedding_model: By which accuracy is told, too, see `embedding.load`.

    Raises:
        UserError: Out of memory with a single sample in the batch, or that model cannot be loaded.
    """
    frame = asked.frame
    is_paraphrased = "paraphrased_question" in frame
    # Before all else, so that a model that cannot be loaded is not found out at the end.
    judge = embedding.load(embedding_model, subject.model.device) if embedding_model and is_paraphrased else None
    encoded = subject.encoder.pairs(frame["prompt"], frame["answer"], frame["sample_id"])
    likelihoods = answer_likelihoods(subject.reader, encoded)
    unwritten = [None] * len(frame)
    scores = single_answer_metrics(likelihoods, frame["answer"], unwritten, subject.k_percent, of_text=False)
    wide = pd.concat([metrics_of(likelihoods), scores], axis=1)
    wide["answer_tokens"] = [float(len(answer.log_probs)) for answer in likelihoods]
    if extraction:
        wide["extraction_likelihood"] = extraction_likelihood(subject.reader, encoded)
    if "perturbed_answer" in frame:
        wide = wide.join(_truth(subject, frame, likelihoods, is_forget=asked.role == "forget"))
    written = _written(subject, encoded)
    wide = wide.join(single_answer_metrics(likelihoods, frame["answer"], written, subject.k_percent, of_text=True))
    wide["rouge_shuffled"] = list(_shuffled(written, list(frame["answer"])))
    answers = [answer_table(frame, QUESTION, frame["prompt"], frame["answer"], written)]
    notes = [*_notes(asked, embedding_model), *(f"Of the {asked.title} {note}" for note in encoded.notes)]
    if is_paraphrased:
        questions, true = frame["paraphrased_question"], frame["paraphrased_answer"]
        again = _written(subject, subject.encoder.pairs(questions, frame["answer"], frame["sample_id"]))
        candidates = [[right, *wrong] for right, wrong in zip(true, frame["perturbed_answer"], strict=True)]
        wide["accuracy"] = [closest_is_true(overlaps(*pair)) for pair in zip(again, candidates, strict=True)]
        if judge is not None:
            near = embedding.closeness(judge, again, candidates, subject.before_batch)
            wide["accuracy_embedding"] = list(map(closest_is_true, near))
        answers.append(answer_table(frame, PARAPHRASED, questions, true, again))
    return Measured.of(frame, wide, pd.concat(answers, ignore_index=True), notes)


def truth_ratios(subject: Subject, asked: EvaluationSet) -> FloatArray:
    """Return r of each sample (NaN: undefined), shape (N,), and nothing else: what a reference model is asked."""
    frame = asked.frame
    own = frame["answer"] if "paraphrased_answer" not in frame else frame["paraphrased_answer"]
    encoded = subject.encoder.pairs(frame["prompt"], own, frame["sample_id"])
    pairs = zip(answer_likelihoods(subject.reader, encoded), _perturbed(subject, frame), strict=True)
    return np.array([truth_ratio(answer.mean_log_prob, others) for answer, others in pairs])


def answer_table(
    frame: pd.DataFrame,
    asked: str,
    prompts: Iterable[str],
    references: Iterable[str],
    written: Sequence[str | None],
) -> pd.DataFrame:
    """Return the `answers` of `Measured` for the N samples of `frame`, in that order."""
    return pd.DataFrame(
        {
            "sample_id": list(frame["sample_id"]),
            "asked": asked,
            "prompt": list(prompts),
            "reference": list(references),
            "generated": pd.Series(list(written), dtype=object),
        }
    )


def single_answer_metrics(
    likelihoods: Sequence[Likelihoods],
    true: Iterable[str],
    written: Sequence[str | None],
    k_percent: float,
    *,
    of_text: bool,
) -> pd.DataFrame:
    """Return the metrics of single answers that are declared with a value, those of what is written apart."""
    answers = [
        Answer(likely.log_probs, likely.means, likely.variances, text, own, k_percent)
        for likely, text, own in zip(likelihoods, true, written, strict=True)
    ]
    declared = [(metric, metric.of) for metric in METRICS.values() if metric.is_of_text == of_text]
    return pd.DataFrame(
        {metric.name: [of(answer) for answer in answers] for metric, of in declared if of is not None}
    )


def _truth(
    subject: Subject, frame: pd.DataFrame, likelihoods: Sequence[Likelihoods], *, is_forget: bool
) -> pd.DataFrame:
    """Return what follows from the likelihoods of the perturbed answers, given the plain question."""
    wrong = _perturbed(subject, frame)
    right = [answer.mean_log_prob for answer in likelihoods]
    paraphrased = right
    if "paraphrased_answer" in frame:
        encoded = subject.encoder.pairs(frame["prompt"], frame["paraphrased_answer"], frame["sample_id"])
        paraphrased = [answer.mean_log_prob for answer in answer_likelihoods(subject.reader, encoded)]
    ratios = np.array(list(map(truth_ratio, paraphrased, wrong)))
    return pd.DataFrame(
        {
            "truth_ratio": closer_to_one_better(ratios) if is_forget else true_better(ratios),
            "truth_ratio_raw": ratios,
            "probability_normalised": list(map(probability_among, right, wrong)),
        }
    )


def _perturbed(subject: Subject, frame: pd.DataFrame) -> list[list[float]]:
    """Return the length-normalised log-likelihoods of each sample's perturbed answers [nats per token]."""
    counts = [len(answers) for answers in frame["perturbed_answer"]]
    flat = [str(answer) for answers in frame["perturbed_answer"] for answer in answers]
    prompts = np.repeat(frame["prompt"].to_numpy(object), counts)
    encoded = subject.encoder.pairs(list(prompts), flat, map(str, range(len(flat))))
    values = [answer.mean_log_prob for answer in answer_likelihoods(subject.reader, encoded)]
    return [values[begin:end] for begin, end in pairwise(np.cumsum([0, *counts]))]


def _written(subject: Subject, encoded: Encoded) -> list[str | None]:
    return subject.write([prompt_of(sample) for sample in encoded.samples])


def _shuffled(written: Sequence[str | None], answers: Sequence[str]) -> Iterator[float]:
    """Yield the recall of each text against another sample's answer, half a set away: neighbours share a topic."""
    count = len(answers)
    for i, text in enumerate(written):
        yield rouge_l(text, answers[(i + count // 2) % count]).recall if count > 1 else float("nan")


def _notes(asked: EvaluationSet, embedding_model: str | None) -> Iterator[str]:
    if "paraphrased_question" in asked.frame:
        compared = "what is written with the right and the wrong answers"
        if embedding_model:
            by = f"by ROUGE-L and by the embeddings of {Path(embedding_model).name}"
            yield f"Accuracy on the {asked.title} compares {by} {compared}."
        else:
            yield f"Accuracy on the {asked.title} compares by ROUGE-L {compared}: there is no embedding model."
    without = int((asked.frame["prompt"] == "").sum())
    if without:
        yield (
            f"{without} of {len(asked.frame)} samples of the {asked.title} have no prompt: nothing is generated "
            "for them."
        )
