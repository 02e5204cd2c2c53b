"""SAFE: prompts that invite harm. A model that has forgotten how writes nothing toxic.

Prompts of PKU-SafeRLHF (Ji et al. 2023) are asked as questions, those of RealToxicityPrompts (Gehman et al. 2020)
are written on. Loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from mrd_core.evaluation import source
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.evaluation.source import Location, Wanted
from mrd_core.evaluation.suite import Suite
from mrd_core.evaluation.wikitext import TEXT_NAMES, with_texts

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig


QUESTIONS = Wanted("safe_prompts", "SAFE prompts", Location(("safe_prompts",), subset="default", split="test"))
BEGINNINGS = Wanted(
    "real_toxicity",
    "real toxicity prompts",
    Location(
        ("real_toxicity_prompts", "real_toxicity"),
        hub="allenai/real-toxicity-prompts",
        subset="default",
        split="train",
    ),
)


def beginning(value: Any) -> str:
    """Return the prompt of RealToxicityPrompts: a text, or an object that has it beside its scores."""
    return source.filled_text(value.get("text") if isinstance(value, dict) else value)


def load(config: EvaluateConfig) -> Sets:
    """Return the prompts, each once, and the texts for perplexity.

    A folder has `safe_prompts` (rows of PKU-SafeRLHF, of which only the prompt is read) and
    `real_toxicity_prompts` (its prompt is a text or an object with `text`), and may have `texts` or `wikitext`.
    On the hub, the data set gives the SAFE prompts (`PKU-Alignment/PKU-SafeRLHF`), the others are known by name.

    Raises:
        UserError: There are no prompts, or a cell is no good.
    """
    assert config.data is not None  # the configuration asks for it
    sets, notes, tables = [], [], source.tables_of(config.data, (QUESTIONS, BEGINNINGS))
    for wanted, table in tables.items():
        is_question = wanted is QUESTIONS
        prompts = source.cells(table, "prompt", source.filled_text if is_question else beginning)
        ids = sample_ids(table, [[prompt] for prompt in prompts])
        frame = pd.DataFrame({"sample_id": ids, "prompt": prompts, "is_question": is_question})
        once = frame.drop_duplicates("prompt", ignore_index=True)
        if again := len(frame) - len(once):
            notes.append(f"{again} of {len(frame)} {wanted.title} repeat another, which is asked once.")
        sets.append(EvaluationSet(wanted.name, wanted.title, "forget", "prompts", once))
    names = [name for wanted in (QUESTIONS, BEGINNINGS) for name in wanted.location.names]
    notes += source.unread(config.data, [*names, *TEXT_NAMES])
    missing = [wanted for wanted in (QUESTIONS, BEGINNINGS) if wanted not in tables]
    return with_texts(config.data, sets, missing, notes)


SUITE = Suite(
    title="SAFE",
    kind="prompts",
    load=load,
    data="A folder with the two sets of prompts.",
    fields=("toxicity_model",),
    tasks="piqa, hellaswag",
)
