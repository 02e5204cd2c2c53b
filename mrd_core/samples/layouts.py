"""Columns → parts: guessing the layout and the mapping, and turning the rows of each layout into samples.

| layout | columns | one sample is |
|---|---|---|
| tofu | question, answer | a row; the extras of the `_perturbed` files are not used |
| wmdp-corpus, whp-text | text | a row of plain text, without a prompt |
| wmdp-questions | question, choices, answer (index) | question and lettered choices; the right one's text |
| whp-prompts | prompt, references | the prompt and its first reference |
| safe | prompt, response_0/1, is_response_0/1_safe | each *unsafe* response; a row gives none, one or two |
| columns | any | a row, by the mapping |
"""

from __future__ import annotations

import string
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mrd_core.errors import UserError
from mrd_core.samples.cells import CellError, as_choices, as_count, as_flag, as_text, is_blank, read_cell
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.samples.reading import Table, listed

_SYNONYMS = {
    "prompt": ("question", "prompt", "instruction", "input", "query"),
    "answer": ("answer", "response", "output", "completion", "target", "text", "content"),
    "id": ("id", "sample_id", "uid", "idx"),
    "split": ("split",),
    "training_count": ("training_count", "count", "occurrences", "frequency"),
}


@dataclass(frozen=True)
class _Preset:
    """Columns of a published layout: prompt and answer ("" for none), and what it needs besides."""

    prompt: str
    answer: str
    others: tuple[str, ...] = ()

    def matches(self, columns: Sequence[str]) -> bool:
        return {self.prompt, self.answer, *self.others} - {""} <= set(columns)


_PRESETS = {
    Layout.SAFE: _Preset("prompt", "", ("response_0", "response_1", "is_response_0_safe", "is_response_1_safe")),
    Layout.WMDP_QUESTIONS: _Preset("question", "answer", ("choices",)),
    Layout.WHP_PROMPTS: _Preset("prompt", "references"),
    Layout.TOFU: _Preset("question", "answer"),
    Layout.WMDP_CORPUS: _Preset("", "text"),
    Layout.WHP_TEXT: _Preset("", "text"),
}
T = TypeVar("T")
# Recognised by their exact columns; those that ask for more come first, because TOFU's are part of others.
_RECOGNISED = (Layout.SAFE, Layout.WMDP_QUESTIONS, Layout.WHP_PROMPTS, Layout.TOFU)


@dataclass(frozen=True, slots=True)
class Row:
    """One sample-to-be: raw cells, with the number of its row in the table (the first is 1)."""

    number: int
    prompt: Any
    answer: Any
    id: Any = None
    id_suffix: str = ""
    split: Any = None
    training_count: Any = None


def guess(columns: Sequence[str]) -> tuple[Layout, ColumnMapping]:
    """Return the layout that the column names suggest and which column plays which part.

    A part is None where no column was found, "" where the layout has none.

    The names of a published layout must match exactly; otherwise common synonyms are tried, whatever their
    case. `text` alone may be a WMDP corpus or WHP text: WMDP is reported, whose corpora are published under
    this very name (WHP chunks are cut by each user). The samples are the same either way.
    """
    layout = next((layout for layout in _RECOGNISED if _PRESETS[layout].matches(columns)), Layout.COLUMNS)
    mapping = _fill(layout, ColumnMapping(), columns)
    if (layout, mapping.prompt, mapping.answer) == (Layout.COLUMNS, None, "text"):
        layout = Layout.WMDP_CORPUS
        mapping = _fill(layout, ColumnMapping(), columns)
    return layout, mapping


def resolve(table: Table, config: ForgetSetConfig) -> tuple[Layout, ColumnMapping]:
    """Settle layout and mapping: what `config` says, the rest guessed from the columns of `table`.

    A mapped "" says that the file has no such column and nothing is to be guessed. In the result each part is
    a column or "", so that it can be given again as `config.columns` and means the same.

    Raises:
        UserError: A column that is mapped or that the layout needs is missing, or none looks like the answer.
    """
    columns = list(table.frame.columns)
    layout, mapped = config.layout, config.columns
    if layout is Layout.AUTO:
        layout, suggested = guess(columns)
        # The user maps the prompt or answer of a published layout to something else.
        if mapped.prompt not in (None, suggested.prompt) or mapped.answer not in (None, suggested.answer):
            layout = Layout.COLUMNS
    guessed = _fill(layout, mapped, columns)
    mapping = ColumnMapping(**{part: getattr(guessed, part) or "" for part in _SYNONYMS})
    _require_columns(table.name, columns, layout, mapping)
    return layout, mapping


def expand(table: Table, layout: Layout, mapping: ColumnMapping) -> tuple[list[Row], tuple[str, ...]]:
    """Return the samples-to-be of all rows, in order, and notes on what the layout left out.

    Raises:
        UserError: A cell does not hold what the layout says (choices, index of the right one, safety flags).
    """
    rows: list[Row] = []
    for number, cells in enumerate(table.frame.to_dict("records"), 1):
        rows += _READERS[layout](_Record(table.name, number, cells, mapping))
    n_rows, left_out = len(table.frame), []
    if layout is Layout.SAFE:
        n_safe = n_rows - len({row.number for row in rows})
        left_out.append(f"{n_safe} of {n_rows} rows left out: both of their responses are safe.")
    if layout is Layout.WHP_PROMPTS:
        references = table.frame[mapping.answer]
        if n_more := sum(isinstance(several, list) and len(several) > 1 for several in references):
            left_out.append(f"{n_more} of {n_rows} rows have more than one reference: the first is used.")
    return rows, tuple(left_out)


def unused(columns: Sequence[str], layout: Layout, mapping: ColumnMapping) -> list[str]:
    """Return the columns that play no part."""
    used = set(_needed(layout, mapping))
    return [column for column in columns if column not in used]


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of one row by column name, with its place for messages and the part that each column plays."""

    table: str
    number: int
    cells: Mapping[Hashable, Any]
    mapping: ColumnMapping

    def part(self, part: str) -> Any:
        """Return the raw cell that plays a part, and None where the file has no column for it."""
        column = getattr(self.mapping, part)
        return self.cells[column] if column else None

    def row(self, prompt: Any, answer: Any, id_suffix: str = "") -> Row:
        """Return a sample-to-be of this row; `id_suffix` sets it apart where the row gives several."""
        return Row(
            number=self.number,
            prompt=prompt,
            answer=answer,
            id=self.part("id"),
            id_suffix=id_suffix,
            split=self.part("split"),
            training_count=self.part("training_count"),
        )

    def read(self, column: str, convert: Callable[[Any], T]) -> T:
        """Return the cell of `column` through `convert`; a `UserError` names the place if it fails."""
        return read_cell(f"{self.table}, row {self.number}, column {column!r}", self.cells[column], convert)


def _read_plain(record: _Record) -> Iterator[Row]:
    yield record.row(record.part("prompt"), record.part("answer"))


def _read_question(record: _Record) -> Iterator[Row]:
    """Multiple choice: the question and its lettered choices are the prompt, the right choice the answer."""
    question = record.part("prompt")
    if any(map(is_blank, (question, record.cells["choices"], record.part("answer")))):
        yield record.row(question, None)
        return
    choices = record.read("choices", as_choices)

    def right_choice(value: Any) -> str:
        index = as_count(value)
        if index >= len(choices):
            raise CellError(f"is {index}, but the choices are numbered from 0 to {len(choices) - 1}.")
        return choices[index]

    answer = record.read(record.mapping.answer or "", right_choice)
    lettered = [f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False)]
    yield record.row("\n".join([record.read(record.mapping.prompt or "", as_text), *lettered]), answer)


def _read_references(record: _Record) -> Iterator[Row]:
    """Completion prompts: the first reference is the answer, also when there is a list of them."""
    answer = record.part("answer")
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    yield record.row(record.part("prompt"), answer)


def _read_unsafe(record: _Record) -> Iterator[Row]:
    """PKU-SafeRLHF: every unsafe response; the response's number keeps the ids of a row's samples apart."""
    for i in (0, 1):
        flag = f"is_response_{i}_safe"
        if is_blank(record.cells[flag]):
            yield record.row(record.part("prompt"), None, f"-{i}")
        elif not record.read(flag, as_flag):
            yield record.row(record.part("prompt"), record.cells[f"response_{i}"], f"-{i}")


_READERS: dict[Layout, Callable[[_Record], Iterator[Row]]] = {
    Layout.COLUMNS: _read_plain,
    Layout.TOFU: _read_plain,
    Layout.WMDP_CORPUS: _read_plain,
    Layout.WMDP_QUESTIONS: _read_question,
    Layout.WHP_TEXT: _read_plain,
    Layout.WHP_PROMPTS: _read_references,
    Layout.SAFE: _read_unsafe,
}


def _fill(layout: Layout, explicit: ColumnMapping, columns: Sequence[str]) -> ColumnMapping:
    """Return `explicit` with its open parts filled by the layout, then by synonyms among the free columns."""
    parts: dict[str, str | None] = explicit.model_dump()
    if preset := _PRESETS.get(layout):
        parts["prompt"] = preset.prompt if explicit.prompt is None else explicit.prompt
        parts["answer"] = preset.answer if explicit.answer is None else explicit.answer
    free = {name.strip().casefold(): name for name in reversed(columns) if name not in parts.values()}
    for part, synonyms in _SYNONYMS.items():
        if parts[part] is None:
            synonym = next((synonym for synonym in synonyms if synonym in free), None)
            parts[part] = free.pop(synonym) if synonym else None
    return ColumnMapping(**parts)


def _needed(layout: Layout, mapping: ColumnMapping) -> list[str]:
    preset = _PRESETS.get(layout)
    return [*filter(None, mapping.model_dump().values()), *(preset.others if preset else ())]


def _require_columns(name: str, columns: Sequence[str], layout: Layout, mapping: ColumnMapping) -> None:
    missing = [column for column in _needed(layout, mapping) if column not in columns]
    if missing:
        raise UserError(
            name,
            f"It has no column {listed(missing)}. The columns are: {listed(columns)}.",
            "Map columns that are there, or choose another layout.",
        )
    if layout is Layout.SAFE and mapping.answer:
        raise UserError(
            f"{name}, column {mapping.answer!r}",
            "The layout `safe` takes its answers from response_0 and response_1, so that none can be mapped.",
            "Leave the answer unmapped, or choose the layout `columns`.",
        )
    if layout is not Layout.SAFE and not mapping.answer:
        raise UserError(
            name,
            f"No column looks like the answer or text. The columns are: {listed(columns)}.",
            "Map the answer's column (--answer-column; in the app: Columns and rows), or rename it to answer.",
        )
