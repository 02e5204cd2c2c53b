"""Columns → parts: guessing the layout and the mapping, and turning the rows of each layout into samples.

| layout | columns | one sample is |
|---|---|---|
| tofu | question, answer | a row; the extras of the `_perturbed` files are not used |
| wmdp-corpus, whp-text | text | a row of plain text, without a prompt |
| wmdp-questions | question, choices, answer | question and lettered choices; the right one's text |
| whp-prompts | prompt, references | the prompt and its first reference |
| alpaca | instruction, input, output | the instruction and, below it, the input that is not blank; the output |
| safe | prompt, response_0/1, is_response_0/1_safe | each *unsafe* response; a row gives none, one or two |
| columns | any | a row, by the mapping; of a conversation, its last answer and all turns before |

Of an answer that is a list of several, all of them right, the first is used, whatever the layout.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.cells import (
    CellError,
    as_alternatives,
    as_choices,
    as_flag,
    as_text,
    as_turns,
    holds_numbers,
    holds_text,
    is_blank,
    is_conversation,
    numbers_are_texts,
    read_cell,
    right_choice,
)
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.samples.conversation import ASSISTANT, prompt_of
from mrd_core.samples.reading import Table, listed

_SYNONYMS = {
    "prompt": ("question", "prompt", "instruction", "input", "query"),
    "answer": (
        *("answer", "response", "output", "completion", "target", "gt", "ground_truth", "reference"),
        *("labels", "answers", "messages", "conversations", "conversation"),
    ),
    "id": ("id", "sample_id", "uid", "idx"),
    "split": ("split",),
    "training_count": ("training_count", "count", "occurrences", "frequency"),
}
# Names that say nothing of the part: the text itself, or the question where there is an answer beside it.
_WEAK = ("text", "content")
# Of a cell, in a note.
_SHOWN_LENGTH = 40
# What may belong to the prompt beside the column that is taken for it.
_CONTEXT = (*_SYNONYMS["prompt"], "context", "passage", "history", "system", *_WEAK)
# What is said about a text; those of the WMDP corpora are among them.
_ABOUT = frozenset(
    ("title", "abstract", "doi", "url", "source", "author", "authors", "subject", "category", "topic", "date")
)


@dataclass(frozen=True)
class _Preset:
    """Columns of a published layout: prompt and answer ("" for none), and what it needs besides."""

    prompt: str
    answer: str
    others: tuple[str, ...] = ()

    def matches(self, columns: Collection[str]) -> bool:
        return {self.prompt, self.answer, *self.others} - {""} <= set(columns)


# Of multiple choice where each choice has its column.
CHOICE_COLUMNS = tuple("ABCD")
_PRESETS = {
    Layout.SAFE: (
        _Preset("prompt", "", ("response_0", "response_1", "is_response_0_safe", "is_response_1_safe")),
    ),
    Layout.WMDP_QUESTIONS: tuple(
        _Preset("question", answer, choices)
        for choices in (("choices",), ("options",), CHOICE_COLUMNS)
        for answer in ("answer", "answerKey", "answer_idx")
    ),
    Layout.WHP_PROMPTS: (_Preset("prompt", "references"),),
    Layout.ALPACA: tuple(
        _Preset("instruction", answer, ("input",)) for answer in ("output", "response", "completion", "answer")
    ),
    Layout.TOFU: (_Preset("question", "answer"),),
    Layout.WMDP_CORPUS: (_Preset("", "text"),),
    Layout.WHP_TEXT: (_Preset("", "text"),),
}
T = TypeVar("T")
# Recognised by their exact columns; those that ask for more come first, because TOFU's are part of others.
_RECOGNISED = (Layout.SAFE, Layout.WMDP_QUESTIONS, Layout.WHP_PROMPTS, Layout.ALPACA, Layout.TOFU)
# Of these, any column may turn out to be another part than it is taken for.
_OPEN = (Layout.COLUMNS, Layout.TOFU, Layout.ALPACA, Layout.WMDP_CORPUS)


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


def guess(frame: pd.DataFrame) -> tuple[Layout, ColumnMapping]:
    """Return the layout that the columns of raw rows suggest and which column plays which part.

    A part is None where no column was found or several may be meant, "" where the layout has none.

    The names of a published layout must match exactly; otherwise common synonyms are tried, whatever their
    case. `text` alone may be a WMDP corpus or WHP text: WMDP is reported, whose corpora are published under
    this very name (WHP chunks are cut by each user). The samples are the same either way.
    """
    layout, mapping = _guessed(frame)
    return layout, mapping.model_copy(update={"answer": None} if _rivals(frame, layout, mapping) else {})


def _guessed(frame: pd.DataFrame) -> tuple[Layout, ColumnMapping]:
    columns = list(frame.columns)
    layout = next(
        (layout for layout in _RECOGNISED if any(preset.matches(columns) for preset in _PRESETS[layout])),
        Layout.COLUMNS,
    )
    mapping = _fill(layout, ColumnMapping(), frame)
    if (layout, mapping.prompt, mapping.answer) == (Layout.COLUMNS, None, "text"):
        layout = Layout.WMDP_CORPUS
        mapping = _fill(layout, ColumnMapping(), frame)
    return layout, mapping


def resolve(table: Table, config: ForgetSetConfig) -> tuple[Layout, ColumnMapping]:
    """Settle layout and mapping: what `config` says, the rest guessed from the columns of `table`.

    A mapped "" says that the file has no such column and nothing is to be guessed. In the result each part is
    a column or "", so that it can be given again as `config.columns` and means the same.

    Raises:
        UserError: A column that is mapped or that the layout needs is missing, none looks like the answer, or
            another column with text may be meant as well.
    """
    layout, mapped = config.layout, config.columns
    if layout is Layout.AUTO:
        layout, suggested = _guessed(table.frame)
        # The user maps the prompt or answer of a published layout to something else.
        if mapped.prompt not in (None, suggested.prompt) or mapped.answer not in (None, suggested.answer):
            layout = Layout.COLUMNS
    guessed = _fill(layout, mapped, table.frame)
    mapping = ColumnMapping(**{part: getattr(guessed, part) or "" for part in _SYNONYMS})
    _require_columns(table, layout, mapping)
    if mapped.answer is None and config.layout in (Layout.AUTO, Layout.COLUMNS):
        _require_clear(table, layout, guessed)
    return layout, mapping


def _rivals(frame: pd.DataFrame, layout: Layout, mapping: ColumnMapping) -> list[str]:
    """Return the unused columns with text that may be the answer or part of the prompt as well."""
    if layout not in _OPEN or not mapping.answer:
        return []
    left = [name for name in unused(list(frame.columns), layout, mapping) if holds_text(frame[name])]
    if mapping.answer.strip().casefold() in _WEAK or mapping.prompt is None:
        return [name for name in left if name.strip().casefold() not in _ABOUT]
    # Answers of the published layouts have their names for certain.
    names = _CONTEXT if layout is not Layout.COLUMNS else (*_CONTEXT, *_SYNONYMS["answer"])
    return [name for name in left if name.strip().casefold() in names]


def _require_clear(table: Table, layout: Layout, mapping: ColumnMapping) -> None:
    """Refuse a guess that leaves out a text which may be the one that is meant.

    Raises:
        UserError: It is so.
    """
    frame, fix = (
        table.frame,
        "Name the columns: --prompt-column and --answer-column (in the app: Columns and rows)",
    )
    if rivals := _rivals(frame, layout, mapping):
        guesses = [f"{part} = {name!r}" for part, name in mapping if name and part in ("prompt", "answer")]
        raise UserError(
            table.name,
            f"{' and '.join(guesses)} would be a guess: {listed(rivals)} {_hold(rivals)} text too.",
            f'{fix}; of plain text, --prompt-column "" --answer-column {mapping.answer}.',
        )
    left = [name for name in unused(list(frame.columns), layout, mapping) if holds_text(frame[name])]
    if layout not in _OPEN or not (mapping.prompt and left):
        return
    parts = frame[[mapping.prompt, mapping.answer]].astype(str).drop_duplicates()
    if 2 * parts[mapping.prompt].nunique() <= len(parts):
        raise UserError(
            table.name,
            f"One prompt has many answers: the column {mapping.prompt!r} has {parts[mapping.prompt].nunique():,} "
            f"different texts for {len(parts):,} answers, and {listed(left)} {_hold(left)} text that is not used.",
            f"{fix}, and join the columns first if the prompt is made of several.",
        )


def _hold(columns: Sequence[str]) -> str:
    return "holds" if len(columns) == 1 else "hold"


def expand(table: Table, layout: Layout, mapping: ColumnMapping) -> tuple[list[Row], tuple[str, ...]]:
    """Return the samples-to-be of all rows, in order, and notes on what the layout left out.

    Raises:
        UserError: A cell does not hold what the layout says (choices, index of the right one, safety flags).
    """
    rows: list[Row] = []
    columns = list(dict.fromkeys(_needed(list(table.frame.columns), layout, mapping)))
    # Of a wide table, the cells that play no part are not looked at.
    records: Iterable[_Record] = (
        _Record(table.name, number, dict(zip(columns, cells, strict=True)), mapping)
        for number, cells in enumerate(zip(*map(table.frame.__getitem__, columns), strict=True), 1)
    )
    if table.is_forget_set:
        # Its answers are texts, however much they look like lists or conversations.
        return [record.row(record.part("prompt"), record.part("answer")) for record in records], ()
    if layout is Layout.WMDP_QUESTIONS:
        records = _numbers_told(list(records))
    for record in records:
        rows += _READERS[layout](record)
    return rows, tuple(_left_out(table, layout, mapping, rows))


def _left_out(table: Table, layout: Layout, mapping: ColumnMapping, rows: Sequence[Row]) -> Iterator[str]:
    """Yield notes on what the layout left out of the rows."""
    n_rows = len(table.frame)
    if layout is Layout.SAFE:
        n_safe = n_rows - len({row.number for row in rows})
        yield f"{n_safe} of {n_rows} rows left out: both of their responses are safe."
    answers = list(table.frame[mapping.answer]) if mapping.answer else []
    if layout is not Layout.WMDP_QUESTIONS:
        several = [as_alternatives(answer) for answer in answers]
        if n_more := sum(len(alternatives or ()) > 1 for alternatives in several):
            kind = "reference" if layout is Layout.WHP_PROMPTS else "answer"
            yield f"{n_more} of {n_rows} rows have more than one {kind}: the first is used."
        lists = [
            answer for answer, parts in zip(answers, several, strict=True) if parts and isinstance(answer, str)
        ]
        if lists:
            yield f"{len(lists)} of {n_rows} answers are read as lists: {lists[0][:_SHOWN_LENGTH]}."
    talks = filter(is_conversation, answers if _READERS[layout] is _read_plain else ())
    if n_open := sum(as_turns(talk)[-1][0] != ASSISTANT for talk in talks):
        yield f"{n_open} of {n_rows} conversations go on after their last answer: those turns are left out."


def unused(columns: Sequence[str], layout: Layout, mapping: ColumnMapping) -> list[str]:
    """Return the columns that play no part."""
    used = set(_needed(columns, layout, mapping))
    return [column for column in columns if column not in used]


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of one row by column name, with its place for messages and the part that each column plays."""

    table: str
    number: int
    cells: Mapping[Hashable, Any]
    mapping: ColumnMapping
    # Of a right choice.
    numbers_are_texts: bool = False

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

    def place(self, column: str) -> str:
        """Return where its cell of a column stands, for messages."""
        return f"{self.table}, row {self.number}, column {column!r}"

    def read_choices(self) -> dict[str, str]:
        """Return the choices of a question by their labels; a `UserError` names the place if there are none."""
        return read_cell(self.place("choices"), choices_of(self.cells), as_choices)

    def read(self, column: str, convert: Callable[[Any], T]) -> T:
        """Return the cell of `column` through `convert`; a `UserError` names the place if it fails."""
        return read_cell(self.place(column), self.cells[column], convert)


def _read_plain(record: _Record) -> Iterator[Row]:
    """One prompt and answer; of a conversation, its last answer and the turns before it."""
    prompt, answer = record.part("prompt"), record.part("answer")
    if is_conversation(prompt):
        prompt = record.read(record.mapping.prompt or "", lambda value: prompt_of(as_turns(value)))
    if is_conversation(answer):
        before, answer = record.read(record.mapping.answer or "", last_answer)
        prompt = before if prompt is None else prompt
    yield record.row(prompt, _first(answer))


def _first(answer: Any) -> Any:
    """Return the first of several answers that are all right, None of none."""
    several = as_alternatives(answer)
    return answer if several is None else next(iter(several), None)


def last_answer(value: Any) -> tuple[str | None, str]:
    """Return the turns before the last answer of the assistant as a prompt, None without any, and that answer."""
    turns = as_turns(value)
    last = max((i for i, (role, _) in enumerate(turns) if role == ASSISTANT), default=None)
    if last is None:
        raise CellError("has no turn of the assistant.")
    return prompt_of(turns[:last]), turns[last][1]


def _numbers_told(records: Sequence[_Record]) -> list[_Record]:
    """Return the records of questions, which know whether their right choices are told by number or by text."""
    if not (whole := [record for record in records if _is_whole(record)]):
        return list(records)
    column = f"{whole[0].table}, column {whole[0].mapping.answer!r}"
    are_texts = numbers_are_texts(column, ((record.part("answer"), record.read_choices()) for record in whole))
    return [replace(record, numbers_are_texts=are_texts) for record in records]


def _is_whole(question: _Record) -> bool:
    return not any(map(is_blank, (question.part("prompt"), choices_of(question.cells), question.part("answer"))))


def _read_question(record: _Record) -> Iterator[Row]:
    """Multiple choice: the question and its lettered choices are the prompt, the right choice the answer."""
    if not _is_whole(record):
        yield record.row(record.part("prompt"), None)
        return
    choices = record.read_choices()
    right = record.read(
        record.mapping.answer or "", lambda value: right_choice(value, choices, record.numbers_are_texts)
    )
    texts = list(choices.values())
    lettered = [f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, texts, strict=False)]
    yield record.row("\n".join([record.read(record.mapping.prompt or "", as_text), *lettered]), texts[right])


def choices_of(cells: Mapping[Hashable, Any]) -> Any:
    """Return the cell with the choices of a question, or an object of the cells A to D."""
    named = next((cells[name] for name in ("choices", "options") if name in cells), None)
    return {name: cells[name] for name in CHOICE_COLUMNS if name in cells} if named is None else named


def _read_instruction(record: _Record) -> Iterator[Row]:
    """Alpaca: the input, where there is one, stands below the instruction."""
    prompt, context = record.part("prompt"), record.cells["input"]
    if not is_blank(prompt) and not is_blank(context):
        prompt = f"{record.read(record.mapping.prompt or '', as_text)}\n{record.read('input', as_text)}"
    yield record.row(prompt, _first(record.part("answer")))


def _read_references(record: _Record) -> Iterator[Row]:
    """Completion prompts: the first reference is the answer, also when there is a list of them."""
    yield record.row(record.part("prompt"), _first(record.part("answer")))


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
    Layout.ALPACA: _read_instruction,
    Layout.SAFE: _read_unsafe,
}


def _preset(layout: Layout, columns: Collection[str]) -> _Preset | None:
    """Return the columns of a published layout: those that are there, else the usual ones."""
    presets = _PRESETS.get(layout, ())
    return next((preset for preset in presets if preset.matches(columns)), presets[0] if presets else None)


def _fill(layout: Layout, explicit: ColumnMapping, frame: pd.DataFrame) -> ColumnMapping:
    """Return `explicit` with its open parts filled by the layout, then by synonyms among the free columns."""
    parts: dict[str, str | None] = explicit.model_dump()
    if preset := _preset(layout, list(frame.columns)):
        parts["prompt"] = preset.prompt if explicit.prompt is None else explicit.prompt
        parts["answer"] = preset.answer if explicit.answer is None else explicit.answer
    free = {name.strip().casefold(): name for name in reversed(frame.columns) if name not in parts.values()}
    weak = [name for name in _WEAK if name in free]
    for part, synonyms in _SYNONYMS.items():
        if parts[part] is None:
            named = [name for name in synonyms if name in free]
            if part == "answer" and weak:
                # Beside a text, numbers are its class and no answer.
                named = [name for name in named if not holds_numbers(frame[free[name]])] + weak
            parts[part] = free.pop(named[0]) if named else None
    if parts["prompt"] is None and explicit.answer is None and (rest := [name for name in weak if name in free]):
        parts["prompt"] = free[rest[0]] if holds_text(frame[free[rest[0]]]) else None
    return ColumnMapping(**parts)


def _needed(columns: Collection[str], layout: Layout, mapping: ColumnMapping) -> list[str]:
    preset = _preset(layout, columns)
    return [*filter(None, mapping.model_dump().values()), *(preset.others if preset else ())]


def _require_columns(table: Table, layout: Layout, mapping: ColumnMapping) -> None:
    name, columns = table.name, list(table.frame.columns)
    missing = [column for column in _needed(columns, layout, mapping) if column not in columns]
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
    if not mapping.answer and {"chosen", "rejected"} <= set(columns):
        raise UserError(
            name,
            "It holds preferences, and it is not said which answer is to be forgotten: 'chosen' or 'rejected'.",
            "Say --answer-column rejected, or chosen (in the app: Columns and rows); the same file as --refusals "
            "teaches the chosen ones.",
        )
    if layout is not Layout.SAFE and not mapping.answer:
        raise UserError(
            name,
            f"No column looks like the answer or text. The columns are: {listed(columns)}.",
            "Map the answer's column (--answer-column; in the app: Columns and rows), or rename it to answer.",
        )
