"""What a model makes of sets that are no questions with answers: choices, completions, prompts and plain texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from mrd_core.encoding import Encoded, EncodedSample, IntArray, encode_one
from mrd_core.evaluation.answering import long
from mrd_core.evaluation.choice import choose, lettered
from mrd_core.evaluation.files import ANSWER_COLUMNS
from mrd_core.evaluation.generation import completion_prompt, generate, prompt_of
from mrd_core.evaluation.likelihoods import answer_likelihoods
from mrd_core.evaluation.overlap import RougeL, rouge_l
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Measured, Subject
from mrd_core.evaluation.toxicity import toxicities

PROMPT = "prompt"
# Stands where an answer would, so that the template is closed; nothing of it is asked.
_ANY_ANSWER = "A"


def measure_choices(subject: Subject, one: EvaluationSet) -> Measured:
    """Let a model choose among lettered options, as WMDP and MMLU are asked.

    Args:
        subject: The model; its template plays no part.
        one: N samples of the kind `choices`.

    Raises:
        UserError: Out of memory with a single option in the batch.
    """
    model, frame = subject.model, one.frame
    rows = zip(
        frame["sample_id"], frame["question"], frame["choices"], frame["right"], frame["subject"], strict=True
    )
    questions = [lettered(id, text, list(choices), int(right), topic) for id, text, choices, right, topic in rows]
    made = choose(
        model.network,
        questions,
        model.tokenizer,
        model.device,
        subject.batch_tokens,
        model.context,
        subject.before_batch,
    )
    wide = pd.DataFrame(
        {
            "multiple_choice": [answer.correct for answer in made],
            "multiple_choice_normalised": [answer.normalised_correct for answer in made],
        }
    )
    return Measured(long(wide, frame["sample_id"]), _no_answers())


def measure_completions(subject: Subject, one: EvaluationSet) -> Measured:
    """Let a model write on, without a template, and hold it against the reference that it comes closest to.

    Recall and F1 are each the best over a sample's references.

    Args:
        subject: The model.
        one: N samples of the kind `completions`.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    frame = one.frame
    written = _written(subject, [completion_prompt(text, subject.model.tokenizer) for text in frame["prompt"]])
    scores = [
        [rouge_l(text, reference) for reference in references]
        for text, references in zip(written, frame["references"], strict=True)
    ]
    wide = pd.DataFrame(
        {
            "rouge": [_best([score.recall for score in found]) for found in scores],
            "rouge_f1": [_best([score.f1 for score in found]) for found in scores],
        }
    )
    closest = [references[_closest(found)] for references, found in zip(frame["references"], scores, strict=True)]
    notes = tuple(_unwritten(one, written))
    return Measured(long(wide, frame["sample_id"]), _answers(frame, closest, written), notes)


def measure_prompts(subject: Subject, one: EvaluationSet, classifier: str | None = None) -> Measured:
    """Let a model answer prompts and have a text-classification model say how toxic that is.

    Args:
        subject: The model. Prompts that are questions (`is_question`) are put into its template, all others are
            written on as they stand.
        one: N samples of the kind `prompts`.
        classifier: Folder or hub id of the classifier, see `toxicity.load`; without one, toxicity is NaN.

    Raises:
        UserError: The classifier is no good, or out of memory with a single text in the batch.
    """
    frame = one.frame
    written = _written(subject, [_prompt(subject, *row) for row in _prompts(frame)])
    notes = list(_unwritten(one, written))
    values = np.full(len(frame), np.nan)
    if classifier is None:
        notes.append(f"Toxicity of the {one.title} is not measured: no text-classification model is named.")
    else:
        values = toxicities(classifier, written, subject.model.device, subject.batch_tokens, subject.before_batch)
    wide = pd.DataFrame({"toxicity": values})
    return Measured(long(wide, frame["sample_id"]), _answers(frame, [""] * len(frame), written), tuple(notes))


def measure_texts(subject: Subject, one: EvaluationSet) -> Measured:
    """Look at how likely plain texts are: every token but the first counts, and the end of a text does not.

    Perplexity follows from `nll` [nats per token] and `answer_tokens`.

    Args:
        subject: The model.
        one: N samples of the kind `texts`; longer ones are cut at the model's context.

    Raises:
        UserError: Out of memory with a single text in the batch.
    """
    model, frame = subject.model, one.frame
    samples = [_text_sample(text, model.tokenizer, model.context) for text in frame["text"]]
    read = [i for i, sample in enumerate(samples) if sample.answer.any()]
    encoded = Encoded(tuple(frame["sample_id"].iloc[read]), tuple(samples[i] for i in read), "plain")
    said = answer_likelihoods(model.network, encoded, model.device, subject.batch_tokens, subject.before_batch)
    nll, counts = np.full(len(frame), np.nan), np.zeros(len(frame))
    nll[read] = [-text.mean_log_prob for text in said]
    counts[read] = [len(text.log_probs) for text in said]
    cut = sum(sample.truncated for sample in samples)
    notes = (
        [f"{cut} of {len(frame)} {one.title} are cut at the context of the model ({model.context:,} tokens)."]
        if cut
        else []
    )
    wide = pd.DataFrame({"nll": nll, "answer_tokens": counts})
    return Measured(long(wide, frame["sample_id"]), _no_answers(), tuple(notes))


def _text_sample(text: str, tokenizer: object, context: int) -> EncodedSample:
    whole = completion_prompt(text, tokenizer)
    kept = np.empty(0, dtype=np.int64) if whole is None else whole[:context]
    inside = np.ones(max(len(kept) - 1, 0), dtype=np.bool_)
    return EncodedSample(kept, inside, tuple(map(str, kept)), whole is not None and len(whole) > context)


def _prompts(frame: pd.DataFrame) -> Iterator[tuple[str, bool]]:
    is_question = frame["is_question"] if "is_question" in frame else [False] * len(frame)
    return zip(frame["prompt"], map(bool, is_question), strict=True)


def _prompt(subject: Subject, text: str, is_question: bool) -> IntArray | None:
    model = subject.model
    if not is_question:
        return completion_prompt(text, model.tokenizer)
    return prompt_of(encode_one(text, _ANY_ANSWER, model.tokenizer, model.context, subject.template))


def _written(subject: Subject, prompts: Sequence[IntArray | None]) -> list[str | None]:
    model = subject.model
    return generate(
        model.network,
        prompts,
        model.tokenizer,
        model.device,
        subject.batch_tokens,
        subject.end_ids,
        subject.max_new_tokens,
        subject.before_batch,
    )


def _best(values: Sequence[float]) -> float:
    return max((value for value in values if not np.isnan(value)), default=float("nan"))


def _closest(scores: Sequence[RougeL]) -> int:
    """Return the index of the reference of the highest recall, the first of equals and where none is defined."""
    return int(np.argmax([-1 if np.isnan(score.recall) else score.recall for score in scores]))


def _answers(frame: pd.DataFrame, references: Iterable[str], written: Sequence[str | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": list(frame["sample_id"]),
            "asked": PROMPT,
            "prompt": list(frame["prompt"]),
            "reference": list(references),
            "generated": pd.Series(list(written), dtype=object),
        }
    )


def _no_answers() -> pd.DataFrame:
    return pd.DataFrame(columns=ANSWER_COLUMNS[1:], dtype=object)


def _unwritten(one: EvaluationSet, written: Sequence[str | None]) -> Iterator[str]:
    without = sum(text is None for text in written)
    if without:
        yield f"{without} of {len(written)} {one.title} leave no room within the context: nothing is generated."
