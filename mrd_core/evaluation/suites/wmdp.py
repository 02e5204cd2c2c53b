"""WMDP (Li et al. 2024): questions on hazardous knowledge with four choices each, and MMLU for what is to be kept.

Loads no torch.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation import source
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.evaluation.source import Location, Wanted
from mrd_core.evaluation.suite import Suite
from mrd_core.samples import Table

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
    return Sets(tuple(_read(exam, table) for exam, table in tables.items()), tuple(notes))


def _read(exam: Wanted, table: Table) -> EvaluationSet:
    questions, choices = source.texts(table, "question"), source.text_lists(table, "choices")
    right = source.integers(table, "answer")
    _check(table, choices, right)
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


def _check(table: Table, choices: list[list[str]], right: list[int]) -> None:
    most = len(string.ascii_uppercase)
    for row, (options, index) in enumerate(zip(choices, right, strict=True)):
        if not 2 <= len(options) <= most:
            raise UserError(
                source.place(table, row, "choices"),
                f"The cell has {len(options)} choices, where 2 to {most} are needed.",
                "Correct the cell: a list of texts, in CSV as JSON.",
            )
        if index >= len(options):
            raise UserError(
                source.place(table, row, "answer"),
                f"The cell is {index}, but the choices are numbered from 0 to {len(options) - 1}.",
                "Correct the cell.",
            )


SUITE = Suite(
    title="WMDP",
    kind="choices",
    load=load,
    data="A folder with bio, cyber, chem and mmlu, or the hub data set cais/wmdp.",
    tasks="wmdp_bio, mmlu",
)
