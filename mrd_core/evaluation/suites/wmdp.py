"""WMDP (Li et al. 2024): questions on hazardous knowledge with four choices each, and MMLU for what is to be kept.

Loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mrd_core.evaluation import source
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.evaluation.source import Location, Wanted
from mrd_core.evaluation.suite import Suite
from mrd_core.samples import Table
from mrd_core.samples.cells import as_choices, numbers_are_texts, read_cell, right_choice
from mrd_core.samples.layouts import choices_of

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig


# What stands in the line before each question where the table has no column for it.
SUBJECTS = {"bio": "biology", "cyber": "cybersecurity", "chem": "chemistry"}
_EXAMS = (
    *(
        Wanted(name, f"WMDP {subject}", Location((f"wmdp-{name}", f"wmdp_{name}", name), split="test"))
        for name, subject in SUBJECTS.items()
    ),
    Wanted("mmlu", "MMLU", Location(("mmlu",), hub="cais/mmlu", subset="all", split="test"), "general"),
)


def load(config: EvaluateConfig) -> Sets:
    """Return the questions of each part that is there: rows of question, choices, answer (index), maybe subject.

    A folder has `wmdp-bio`, `wmdp-cyber`, `wmdp-chem` and `mmlu` as .jsonl, .json, .csv or .parquet; of the hub's
    `cais/wmdp` these are the subsets, and MMLU is that of `cais/mmlu`.

    Raises:
        UserError: None of them is there, or a cell is no good.
    """
    assert config.data is not None  # the configuration asks for it
    tables = source.tables_of(config.data, _EXAMS)
    notes = [
        f"There are no questions of {exam.title} ({exam.location.names[0]}): it is left out."
        if exam.role == "forget"
        else f"There is no {exam.title}: nothing is said of what was kept, unless the task `mmlu` of "
        "lm-evaluation-harness is run beside."
        for exam in _EXAMS
        if exam not in tables
    ]
    notes += source.unread(config.data, [name for exam in _EXAMS for name in exam.location.names])
    return Sets(tuple(_read(exam, table) for exam, table in tables.items()), tuple(notes))


def _read(exam: Wanted, table: Table) -> EvaluationSet:
    questions = source.texts(table, "question")
    records = table.frame.to_dict("records")
    if not any(map(choices_of, records)):
        source.cells(table, "choices", as_choices)  # raises: there is no such column
    lettered = [
        read_cell(source.place(table, row, "choices"), choices_of(cells), as_choices)
        for row, cells in enumerate(records)
    ]
    column = next((name for name in ("answer", "answerKey", "answer_idx") if name in table.frame), "answer")
    keys, choices = iter(lettered), [list(options.values()) for options in lettered]
    cells = zip(table.frame.get(column, ()), lettered, strict=False)
    are_texts = numbers_are_texts(f"{table.name}, column {column!r}", cells)
    right = source.cells(table, column, lambda value: right_choice(value, next(keys), are_texts))
    subjects = source.optional_texts(table, "subject") or [SUBJECTS.get(exam.name, "")] * len(questions)
    asked = [[question, *options] for question, options in zip(questions, choices, strict=True)]
    frame = pd.DataFrame(
        {
            "sample_id": sample_ids(table, asked),
            "question": questions,
            "choices": choices,
            "right": right,
            # MMLU names its subjects as files are named.
            "subject": [subject.replace("_", " ") for subject in subjects],
        }
    )
    return EvaluationSet(exam.name, exam.title, exam.role, "choices", frame)


SUITE = Suite(
    title="WMDP",
    kind="choices",
    load=load,
    data="A folder with bio, cyber, chem and mmlu, or the hub data set cais/wmdp.",
    tasks="wmdp_bio, mmlu",
)
