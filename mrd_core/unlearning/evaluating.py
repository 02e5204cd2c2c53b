"""What is forgotten and what is kept on the way: some metrics of an evaluation, on a sub-sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.arrays import FloatArray
from mrd_core.evaluation.aggregates import mean_defined
from mrd_core.evaluation.answering import measure_answers
from mrd_core.evaluation.config import K_PERCENT
from mrd_core.evaluation.privacy import forgotten_auc
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Measured, Subject
from mrd_core.model.encoding import Encoded
from mrd_core.model.generation import prompt_of
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.feed import Evaluation
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.preparation import Prepared

# Their means are taken over the sub-sample of each set.
METRICS = ("probability", "exact_memorization", "extraction_strength", "rouge", "answer_match")
# Min-k% Prob, forget against retain.
MIA = "mia_min_k_retain"


def evaluator(
    config: UnlearnConfig, prepared: Prepared, files: UnlearningFiles
) -> Callable[[], Evaluation] | None:
    """Return what evaluates the present weights; None where no evaluation was asked for.

    It leaves weights, gradients, modes and random numbers as they are.
    """
    wanted = config.evaluation
    if wanted.every_steps is None:
        return None
    subject = Subject(
        model=replace(prepared.model, network=prepared.trained),
        encoder=prepared.encoder,
        batch_tokens=prepared.reader.batch_tokens,
        max_new_tokens=wanted.max_new_tokens,
        k_percent=K_PERCENT,
        processes=prepared.processes,
    )
    parts = [_Part.of("forget", prepared.forget, ForgetSet.load(files.samples), wanted.samples)]
    if prepared.retain is not None:
        parts.append(_Part.of("retain", prepared.retain, ForgetSet.load(files.retain), wanted.samples))
    return lambda: _evaluated(subject, parts)


def summarised(values: Mapping[str, float]) -> dict[str, float]:
    """Return completeness and utility, each where it is defined.

    Completeness is the mean of UA (1 − answer_match), MIA and RR (1 − ROUGE-L recall) of the forget set, utility
    that of answer_match and ROUGE-L recall of the retain set; a part that is undefined is left out of its mean.

    Args:
        values: Those of an evaluation that are defined, by name.
    """

    def of(name: str) -> float:
        return values.get(name, math.nan)

    means = {
        "completeness": mean_defined([1 - of("forget_answer_match"), of(f"forget_{MIA}"), 1 - of("forget_rouge")]),
        "utility": mean_defined([of("retain_answer_match"), of("retain_rouge")]),
    }
    return _defined(means)


@dataclass(frozen=True, eq=False)
class _Part:
    """A sub-sample.

    Attributes:
        asked: Its texts.
        tokens: Those of its texts, and of its prompts once more, from which the model writes on.
    """

    asked: EvaluationSet
    tokens: int

    @classmethod
    def of(cls, name: str, encoded: Encoded, texts: ForgetSet, most: int) -> _Part:
        """Take at most `most` of the samples whose answers lie within the context, evenly spaced."""
        chosen = encoded.subset(evenly_spaced(len(encoded), most))
        frame = texts.frame.set_index("sample_id", drop=False).loc[list(chosen.sample_ids)]
        asked = EvaluationSet(
            name=name,
            title=f"{name} set",
            role="forget" if name == "forget" else "retain",
            kind="answers",
            frame=frame[["sample_id", "prompt", "answer"]].reset_index(drop=True),
        )
        prompts = [prompt for sample in chosen.samples if (prompt := prompt_of(sample)) is not None]
        return cls(asked, int(chosen.lengths.sum()) + sum(map(len, prompts)))


def _evaluated(subject: Subject, parts: Sequence[_Part]) -> Evaluation:
    tokenizer: Any = subject.model.tokenizer
    measured = {part.asked.name: measure_answers(subject, part.asked) for part in parts}
    values = {
        f"{name}_{metric}": mean_defined(_values(answers, metric))
        for name, answers in measured.items()
        for metric in METRICS
    }
    if "retain" in measured:
        scores = [_values(measured[name], "mia_min_k") for name in ("forget", "retain")]
        values[f"forget_{MIA}"] = forgotten_auc(*scores).value
    defined = _defined(values)
    written = pd.concat([answers.answers["generated"].dropna() for answers in measured.values()])
    tokens = sum(part.tokens for part in parts)
    tokens += sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in written)
    return Evaluation(defined | summarised(defined), tokens)


def _values(measured: Measured, metric: str) -> FloatArray:
    table = measured.values
    return table.loc[table["metric"] == metric, "value"].to_numpy(np.float64)


def _defined(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}
