"""What a model makes of sets that are no questions with answers: choices, completions, prompts and plain texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pandas as pd

from mrd_core.evaluation import toxicity
from mrd_core.evaluation.answering import answer_table
from mrd_core.evaluation.choice import choose, lettered
from mrd_core.evaluation.likelihoods import answer_likelihoods
from mrd_core.evaluation.overlap import rouge_l
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Measured, Subject
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray
from mrd_core.model.generation import completion_prompt, prompt_of

PROMPT = "prompt"
# Stands where an answer would, so that the template is closed; nothing of it is asked.
_ANY_ANSWER = "A"


def measure_choices(subject: Subject, asked: EvaluationSet) -> Measured:
    """Let a model choose among lettered options, as WMDP and MMLU are asked.

    Args:
        subject: The model; its template plays no part.
        asked: N samples of the kind `choices`.

    Raises:
        UserError: Out of memory with a single option in the batch.
    """
    model, frame = subject.model, asked.frame
    rows = zip(
        frame["sample_id"], frame["question"], frame["choices"], frame["right"], frame["subject"], strict=True
    )
    questions = [lettered(id, text, list(choices), int(right), topic) for id, text, choices, right, topic in rows]
    answers = choose(subject.reader, questions, model.tokenizer, model.context)
    return Measured.of(frame, pd.DataFrame({"multiple_choice": [answer.correct for answer in answers]}))


def measure_completions(subject: Subject, asked: EvaluationSet) -> Measured:
    """Let a model write on, without a template, and hold it against the reference that it comes closest to.

    Recall and F1 are each the best over a sample's references.

    Args:
        subject: The model.
        asked: N samples of the kind `completions`.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    frame = asked.frame
    written = subject.write([completion_prompt(text, subject.model.tokenizer) for text in frame["prompt"]])
    scores = [
        [rouge_l(text, reference) for reference in references]
        for text, references in zip(written, frame["references"], strict=True)
    ]
    best = pd.DataFrame([pd.DataFrame(of_sample).max() for of_sample in scores])
    # The reference of the highest recall, the first of equals and where none is defined.
    closest = [
        references[int(np.nan_to_num([score.recall for score in of_sample], nan=-1).argmax())]
        for references, of_sample in zip(frame["references"], scores, strict=True)
    ]
    answers = answer_table(frame, PROMPT, frame["prompt"], closest, written)
    wide = best.rename(columns={"recall": "rouge", "f1": "rouge_f1"})
    return Measured.of(frame, wide, answers, _unwritten(asked, written))


def measure_prompts(subject: Subject, asked: EvaluationSet, classifier: str | None = None) -> Measured:
    """Let a model answer prompts and have a text-classification model say how toxic that is.

    Args:
        subject: The model. Prompts that are questions (`is_question`) are put into its template, all others are
            written on as they stand.
        asked: N samples of the kind `prompts`.
        classifier: Folder or hub id of the classifier, see `toxicity.load`; without one, toxicity is NaN.

    Raises:
        UserError: The classifier is no good, or out of memory with a single text in the batch.
    """
    frame = asked.frame
    # Before anything is written, which may take hours: one that is no good is told at once.
    judge = None if classifier is None else toxicity.load(classifier, subject.model.device)
    is_question = frame["is_question"] if "is_question" in frame else [False] * len(frame)
    tokenizer = subject.model.tokenizer
    prompts = [
        prompt_of(subject.encoder.one(text, _ANY_ANSWER)) if in_template else completion_prompt(text, tokenizer)
        for text, in_template in zip(frame["prompt"], is_question, strict=True)
    ]
    written = subject.write(prompts)
    notes = list(_unwritten(asked, written))
    if judge is None:
        notes.append(f"Toxicity of the {asked.title} is not measured: no text-classification model is named.")
        values = np.full(len(frame), np.nan)
    else:
        values = toxicity.score(judge, written, subject.batch_tokens, subject.before_batch, subject.processes)
    answers = answer_table(frame, PROMPT, frame["prompt"], [""] * len(frame), written)
    return Measured.of(frame, pd.DataFrame({"toxicity": values}), answers, notes)


def measure_texts(subject: Subject, asked: EvaluationSet) -> Measured:
    """Look at how likely plain texts are: every token but the first counts, and the end of a text does not.

    A text beyond the model's context is read in windows. Perplexity follows from `nll` [nats per token] and
    `answer_tokens`, which are those of the whole text.

    Args:
        subject: The model.
        asked: N samples of the kind `texts`.

    Raises:
        UserError: Out of memory with a single window in the batch.
    """
    model, frame = subject.model, asked.frame
    prompts = (completion_prompt(text, model.tokenizer) for text in frame["text"])
    texts = [[] if tokens is None else list(_windows(tokens, model.context)) for tokens in prompts]
    windows = [window for text in texts for window in text]
    encoded = Encoded(tuple(map(str, range(len(windows)))), tuple(windows), "plain")
    likelihoods = iter(answer_likelihoods(subject.reader, encoded))
    wholes = [[window.log_probs for window in islice(likelihoods, len(text))] for text in texts]
    log_probs = [np.concatenate(parts) if parts else np.empty(0) for parts in wholes]
    wide = pd.DataFrame(
        {
            "nll": [-values.mean() if values.size else np.nan for values in log_probs],
            "answer_tokens": [float(values.size) for values in log_probs],
        }
    )
    return Measured.of(frame, wide)


def _windows(tokens: IntArray, context: int) -> Iterator[EncodedSample]:
    """Yield windows of at most `context` tokens that predict every token but the first, each exactly once.

    A window begins with the last token of the one before it, which is context only.
    """
    for begin in range(0, len(tokens) - 1, context - 1):
        inside = tokens[begin : begin + context]
        yield EncodedSample(inside, np.ones(len(inside) - 1, dtype=np.bool_), tuple(map(str, inside)), False)


def _unwritten(asked: EvaluationSet, written: Sequence[str | None]) -> Iterator[str]:
    without = sum(text is None for text in written)
    if without:
        yield f"{without} of {len(written)} {asked.title} leave no room within the context: nothing is generated."
