"""Result files of OpenUnlearning: `{metric: {"agg_value": …, "value_by_index": {"0": {"score": …}}}}`.

A metric of the whole set has no `value_by_index`; a …_SUMMARY.json has the aggregates alone, as numbers. A
sample's fields are numbers, texts (what was generated) or, where a sample has several answers, a list of them
or an object by index. A membership attack nests one such entry for each of its sets. NaN and infinity are no
JSON: they are written as null, and null is read as NaN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.errors import UserError
from mrd_core.runs.files import json_value, write_atomically
from mrd_core.samples.cells import kind_of

# A number, a text, or one of them for each of a sample's several answers.
Value = float | str | tuple[float | str, ...]

# Under which names the value of a sample is found, the first that is there.
SCORE_FIELDS = ("score", "prob", "rougeL_recall")
_AGGREGATE, _SAMPLES = "agg_value", "value_by_index"
_SHAPE = '{metric: {"agg_value": number, "value_by_index": {"0": {"score": number}}}}'
_FIX = f"Choose the file that OpenUnlearning writes as …_EVAL.json; its shape is {_SHAPE}."


@dataclass(frozen=True)
class Result:
    """What a file says of one metric.

    Attributes:
        aggregate: Of the whole set; NaN where the file has null, or no aggregate.
        samples: Fields of each sample by its index in the set, as text; empty where the file has none.
        parts: The sets that a membership attack compares ("forget", "holdout").
    """

    aggregate: float
    samples: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    parts: Mapping[str, Result] = field(default_factory=dict)

    def scores(self, name: str | None = None) -> pd.Series[float]:
        """Return a value for each sample, the mean over its answers where there are several.

        Args:
            name: The field; by default the first of `SCORE_FIELDS` that any sample has.

        Returns:
            Values by index; NaN for samples without the field, or where it is a text; empty if no sample has it.
        """
        present = {key for fields in self.samples.values() for key in fields}
        wanted = name or next((key for key in SCORE_FIELDS if key in present), None)
        if wanted not in present:
            return pd.Series(dtype=np.float64)
        values: dict[str, float] = {}
        for index, fields in self.samples.items():
            value = fields.get(wanted, np.nan)
            answers = value if isinstance(value, tuple) else (value,)
            numbers = [answer for answer in answers if not isinstance(answer, str)]
            values[index] = float(np.mean(numbers)) if numbers else np.nan
        return pd.Series(values, dtype=np.float64, name=wanted)


def parse_results(name: str, data: bytes) -> dict[str, Result]:
    """Return the metrics of a result file from its bytes; `name` is for messages.

    Keys of a metric that are none of the format's are left out.

    Raises:
        UserError: It is no JSON, or of another shape; names file, metric, sample and what was expected there.
    """
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_int=float)
    except (ValueError, RecursionError) as error:
        raise UserError(name, "It is not readable as JSON.", _FIX) from error
    entries = _object(content, name, "an object with an entry for each metric")
    if not entries:
        raise UserError(name, "It holds no metric.", _FIX)
    _refuse_others(name, entries)
    return {metric: _read_result(entry, f"{name}, metric {metric!r}") for metric, entry in entries.items()}


def _refuse_others(name: str, entries: Mapping[str, Any]) -> None:
    """Refuse results of another program by what they are.

    Raises:
        UserError: They are.
    """
    if "results" in entries and {"configs", "versions", "n-shot"} & set(entries):
        raise UserError(
            name,
            "It holds results of lm-evaluation-harness, which has other metrics.",
            "Run its tasks with the evaluation instead (--harness-tasks).",
        )
    if any(key.startswith("eval_") and key.endswith(".json") for key in entries):
        raise UserError(
            name,
            "It is a log of TOFU's first code (eval_log_aggregated.json), which has other metrics.",
            f"Evaluate the model anew (mrd-lens evaluate --suite tofu). {_FIX}",
        )


def write_results(path: Path, results: Mapping[str, Result]) -> None:
    """Write metrics as a result file of OpenUnlearning, whole or not at all."""
    content = {metric: _as_json(result) for metric, result in results.items()}
    text = json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda stream: stream.write(text.encode()))


def _read_result(entry: Any, place: str) -> Result:
    if entry is None or isinstance(entry, float):
        return Result(float("nan") if entry is None else entry)
    expected = f"an object with {_AGGREGATE!r} or {_SAMPLES!r}"
    fields = _object(entry, place, expected)
    parts = {key: part for key, part in fields.items() if key != _SAMPLES and _is_result(part)}
    if not parts and not _is_result(fields):
        raise _unexpected(place, expected, f"an object with {', '.join(map(repr, fields)) or 'nothing in it'}")
    aggregate = _number(fields.get(_AGGREGATE), f"{place}, {_AGGREGATE!r}", "a number or null")
    by_index = fields.get(_SAMPLES, {})
    samples = _object(by_index, f"{place}, {_SAMPLES!r}", "an object with an entry for each sample")
    return Result(
        aggregate,
        samples={index: _read_sample(sample, f"{place}, sample {index!r}") for index, sample in samples.items()},
        parts={key: _read_result(part, f"{place}, {key!r}") for key, part in parts.items()},
    )


def _is_result(value: Any) -> bool:
    return isinstance(value, dict) and bool({_AGGREGATE, _SAMPLES} & set(value))


def _read_sample(sample: Any, place: str) -> dict[str, Value]:
    """Return the fields of a sample: `{"prob": …}`, or `{"0": {"prob": …}, "1": …}` with one entry an answer."""
    if sample is None:
        return {}
    fields = _object(sample, place, 'an object such as {"score": number}')
    answers = [value for value in fields.values() if isinstance(value, dict)]
    if answers and len(answers) == len(fields) and not any(_is_by_index(answer) for answer in answers):
        names = list(dict.fromkeys(key for answer in answers for key in answer))
        fields = {key: [answer.get(key) for answer in answers] for key in names}
    return {key: _read_value(value, f"{place}, {key!r}") for key, value in fields.items()}


def _is_by_index(value: dict[str, Any]) -> bool:
    return all(key.isdecimal() for key in value)


def _read_value(value: Any, place: str) -> Value:
    if isinstance(value, dict) and _is_by_index(value):
        value = list(value.values())
    items = tuple(
        item if isinstance(item, str) else _number(item, place, "a number, null, text, or a list of them")
        for item in (value if isinstance(value, list) else [value])
    )
    return items if isinstance(value, list) else items[0]


def _number(value: Any, place: str, expected: str) -> float:
    if value is None:
        return float("nan")
    if not isinstance(value, float):
        raise _unexpected(place, expected, kind_of(value))
    return value


def _object(value: Any, place: str, expected: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(place, expected, kind_of(value))
    return value


def _unexpected(place: str, expected: str, content: str) -> UserError:
    return UserError(place, f"Expected {expected}, found {content}.", _FIX)


def _as_json(result: Result) -> dict[str, Any]:
    parts = {key: _as_json(part) for key, part in result.parts.items()}
    by_index: dict[str, dict[str, Any]] = {}
    for index, fields in result.samples.items():
        by_index[index] = {
            key: list(map(json_value, value)) if isinstance(value, tuple) else json_value(value)
            for key, value in fields.items()
        }
    samples = {_SAMPLES: by_index} if by_index else {}
    return parts | {_AGGREGATE: json_value(result.aggregate)} | samples
