"""The sets of an evaluation: what a model is asked, and what part each set plays. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.files import read_json, write_frame, write_json
from mrd_core.samples import evenly_spaced
from mrd_core.samples.validation import content_key

# What is to be forgotten, what is to be kept, what was never seen, and what any model may know.
Role = Literal["forget", "retain", "unseen", "general"]
# How a set is asked, and the columns beside `sample_id` that it has for it.
#   answers      prompt, answer; may have paraphrased_question, paraphrased_answer, perturbed_answer (list)
#   choices      question, choices (list), right (int), subject
#   completions  prompt, references (list)
#   prompts      prompt; may have is_question (bool: it is put into the template)
#   texts        text
Kind = Literal["answers", "choices", "completions", "prompts", "texts"]


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Some samples that are asked in one way.

    Attributes:
        name: The `split` of its values, in lower case ("forget", "real_authors", "bio").
        title: For people.
        role: Its part in what the evaluation says.
        kind: How it is asked.
        frame: Its rows, see `Kind`.
    """

    name: str
    title: str
    role: Role
    kind: Kind
    frame: pd.DataFrame

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """The texts that make a sample what it is."""
        names = [name for name in ("prompt", "question", "answer", "text") if name in self.frame]
        return list(self.frame[names].astype(str).itertuples(index=False, name=None))

    def limited(self, most: int | None) -> EvaluationSet:
        """Return at most `most` of the rows, evenly spaced."""
        if most is None or len(self.frame) <= most:
            return self
        return replace(self, frame=self.frame.iloc[evenly_spaced(len(self.frame), most)].reset_index(drop=True))


@dataclass(frozen=True, eq=False)
class Sets:
    """What an evaluation asks.

    Attributes:
        sets: In the order in which they are asked; the forget set, if there is one, is the first.
        notes: What stands in for what, and what is missing, in sentences.
    """

    sets: tuple[EvaluationSet, ...]
    notes: tuple[str, ...] = ()

    def of_role(self, role: Role) -> list[EvaluationSet]:
        """Return the sets that play this part."""
        return [one for one in self.sets if one.role == role]

    def overlaps(self) -> list[str]:
        """Return which sets have samples in common, in sentences."""
        asked = [(each, frozenset(map(content_key, each.texts))) for each in self.sets]
        return [
            f"{len(keys & other)} samples of the {each.title} are in the {first.title} too."
            for i, (each, keys) in enumerate(asked)
            for first, other in asked[:i]
            if first.kind == each.kind and keys & other
        ]

    def save(self, files: EvaluationFiles) -> None:
        """Write all sets into the directory of the run."""
        for one in self.sets:
            write_frame(files.sets / f"{one.name}.parquet", one.frame)
        known = [{"name": one.name, "title": one.title, "role": one.role, "kind": one.kind} for one in self.sets]
        write_json(files.catalogue, {"sets": known, "notes": list(self.notes)})

    @classmethod
    def load(cls, files: EvaluationFiles) -> Sets:
        """Read what `save` wrote."""
        content = read_json(files.catalogue)
        sets = (
            EvaluationSet(**known, frame=pd.read_parquet(files.sets / f"{known['name']}.parquet"))
            for known in content["sets"]
        )
        return cls(tuple(sets), tuple(content["notes"]))
