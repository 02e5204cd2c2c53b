"""TOFU (Maini et al. 2024): forget set, retain set, real authors and world facts, with their perturbed answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.errors import UserError
from mrd_core.evaluation import source
from mrd_core.evaluation.sets import EvaluationSet, Role, Sets
from mrd_core.evaluation.source import Location, Wanted
from mrd_core.evaluation.suite import Suite
from mrd_core.evaluation.wikitext import TEXT_NAMES, texts_of
from mrd_core.samples import Table, to_forget_set
from mrd_core.samples.config import ForgetSetConfig, Layout

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig

FORGET_SPLITS = ("forget01", "forget05", "forget10")
# Its split on the hub; folders have none.
HUB_SPLIT = "train"


def load(config: EvaluateConfig) -> Sets:
    """Return the sets of TOFU from a folder with its files, or from the hub.

    Of a set only the questions and answers need be there (`forget10`, `retain90`, `real_authors`, `world_facts`);
    its `_perturbed` file is taken instead where there is one, since truth ratio and accuracy need it. A folder
    may also have `texts`, or `wikitext`, for perplexity.

    Raises:
        UserError: The forget or the retain set is missing, or a file is no good.
    """
    assert config.data is not None  # the configuration asks for it
    sets: list[EvaluationSet] = []
    notes: list[str] = []
    for wanted in _wanted(config.data, config.forget_split):
        table = _table(wanted, config.data, notes)
        if table is not None:
            sets.append(_read(wanted, table, notes))
        elif wanted.role in ("forget", "retain"):
            raise UserError(
                f"TOFU in {config.data}",
                f"has no {wanted.title}: neither {' nor '.join(wanted.location.names)} is there.",
                "Name the folder that holds the files of TOFU (forget10_perturbed.jsonl and so on).",
            )
        elif wanted.role == "general":
            notes.append(f"There is no file of {wanted.title}: they are left out, and so is model utility.")
    wanted_names = [name for wanted in _wanted(config.data, config.forget_split) for name in wanted.location.names]
    notes += source.unread(config.data, [*wanted_names, *TEXT_NAMES])
    roles = {part.role for part in sets}
    if "unseen" not in roles and "general" in roles:
        notes.append(
            "There is no held-out set: for membership inference against unseen samples, real authors and world "
            "facts stand in. They differ from the forget set in subject and length, which an attack sees too."
        )
    # TOFU itself has none, so nothing of the hub is asked for.
    if not source.on_hub(config.data) and (texts := texts_of(config.data, notes)):
        sets.append(texts)
    return Sets(tuple(sets), tuple(notes))


def _wanted(data: str, forget: str) -> list[Wanted]:
    if forget not in FORGET_SPLITS:
        raise UserError(
            f"The forget set '{forget}'", "is none of TOFU's.", f"Choose one of: {', '.join(FORGET_SPLITS)}."
        )
    retain = f"retain{100 - int(forget.removeprefix('forget'))}"
    files: list[tuple[str, str, Role, tuple[str, ...]]] = [
        ("forget", "forget set", "forget", (f"{forget}_perturbed", forget)),
        ("retain", "retain set", "retain", ("retain_perturbed", retain)),
        ("real_authors", "real authors", "general", ("real_authors_perturbed", "real_authors")),
        ("world_facts", "world facts", "general", ("world_facts_perturbed", "world_facts")),
    ]
    holdout = forget.replace("forget", "holdout")
    unseen = (holdout, f"{holdout}_perturbed", "held_out", "holdout10", "holdout10_perturbed")
    if not source.on_hub(data):
        unseen = (unseen[1], unseen[0], *unseen[2:])
    files.append(("held_out", "held-out set", "unseen", unseen))
    return [Wanted(name, title, Location(names, split=HUB_SPLIT), role) for name, title, role, names in files]


def _table(wanted: Wanted, data: str, notes: list[str]) -> Table | None:
    try:
        return wanted.location.read(data)
    except UserError as error:
        # A subset that the hub does not have is an error, and not every copy of TOFU has a held-out set.
        if wanted.role != "unseen" or not source.on_hub(data):
            raise
        notes.append(f"The held-out set cannot be had from the hub: {error.cause}")
        return None


def _read(wanted: Wanted, table: Table, notes: list[str]) -> EvaluationSet:
    name, title, _location, role = wanted
    config = ForgetSetConfig(source=table.name, layout=Layout.TOFU)
    samples = to_forget_set(table, config).frame[["sample_id", "prompt", "answer"]].copy()
    if "perturbed_answer" not in table.frame:
        notes.append(f"The {title} has no perturbed answers: no truth ratio, and accuracy is the answer's string.")
        return EvaluationSet(name, title, role, "answers", samples)
    samples["perturbed_answer"] = source.text_lists(table, "perturbed_answer")
    if (answers := source.optional_texts(table, "paraphrased_answer")) is not None:
        samples["paraphrased_answer"] = answers
    questions = source.optional_texts(table, "paraphrased_question")
    # Accuracy holds what is written against the paraphrased answer.
    if questions is not None and answers is not None:
        samples["paraphrased_question"] = questions
    return EvaluationSet(name, title, role, "answers", samples)


SUITE = Suite(
    title="TOFU",
    kind="answers",
    load=load,
    data="A folder with TOFU's files, or the hub data set locuslab/TOFU.",
    fields=("forget_split", "reference", "embedding_model"),
)
