"""WMDP (Li et al. 2024): questions on hazardous knowledge with four choices each, and MMLU for what is to be kept.

Loads no torch.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation import source
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Role, Sets
from mrd_core.evaluation.suite import Suite
from mrd_core.samples import Table

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig


class _Exam(NamedTuple):
    """A set of questions; `subject` stands in the line before each where the table has no column for it."""

    name: str
    title: str
    role: Role
    subject: str
    location: source.Location


def _hazard(name: str, title: str, subject: str) -> _Exam:
    location = source.Location((f"wmdp-{name}", f"wmdp_{name}", name), split="test")
    return _Exam(name, title, "forget", subject, location)


_EXAMS = (
    _hazard("bio", "WMDP biology", "biology"),
    _hazard("cyber", "WMDP cybersecurity", "cybersecurity"),
    _hazard("chem", "WMDP chemistry", "chemistry"),
    _Exam("mmlu", "MMLU", "general", "", source.Location(("mmlu",), hub="cais/mmlu", subset="all", split="test")),
)


def load(config: EvaluateConfig) -> Sets:
    """Return the questions of each part that is there: rows of question, choices, answer (index), maybe subject.

    A folder has `wmdp-bio`, `wmdp-cyber`, `wmdp-chem` and `mmlu` as .jsonl, .json, .csv or .parquet; of the hub's
    `cais/wmdp` these are the subsets, and MMLU is that of `cais/mmlu`.

    Raises:
        UserError: None of them is there, or a cell is no good.
    """
    assert config.data is not None  # the configuration asks for it
    tables = [(exam, exam.location.read(config.data)) for exam in _EXAMS]
    sets = tuple(_read(exam, table) for exam, table in tables if table is not None)
    if not sets:
        raise source.none_found(config.data, (exam.location for exam in _EXAMS))
    return Sets(sets, tuple(_missing(exam) for exam, table in tables if table is None))


def _missing(exam: _Exam) -> str:
    if exam.role == "forget":
        return f"There are no questions of {exam.title} ({exam.location.names[0]}): it is left out."
    return (
        f"There is no {exam.title}: nothing is said of what was kept, unless the task `mmlu` of "
        "lm-evaluation-harness is run beside."
    )


def _read(exam: _Exam, table: Table) -> EvaluationSet:
    questions, choices = source.texts(table, "question"), source.text_lists(table, "choices")
    right = source.integers(table, "answer")
    _check(table, choices, right)
    subjects = source.optional_texts(table, "subject") or [exam.subject] * len(questions)
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
