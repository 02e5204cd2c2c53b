"""SAFE: prompts that invite harm. A model that has forgotten how writes nothing toxic.

Prompts of PKU-SafeRLHF (Ji et al. 2023) are asked as questions, those of RealToxicityPrompts (Gehman et al. 2020)
are written on. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from mrd_core.evaluation import source, wikitext
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.evaluation.suite import Suite
from mrd_core.samples import Table

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig


class _Prompts(NamedTuple):
    """A set of prompts; `convert` makes a prompt of a cell."""

    name: str
    title: str
    convert: Callable[[Any], str]
    is_question: bool
    location: source.Location


def _prompt_text(value: Any) -> str:
    """Return the prompt of RealToxicityPrompts: a text, or an object that has it beside its scores."""
    return source.filled_text(value.get("text") if isinstance(value, dict) else value)


_PROMPTS = (
    _Prompts(
        "safe_prompts",
        "SAFE prompts",
        source.filled_text,
        True,
        source.Location(("safe_prompts",), subset="default", split="test"),
    ),
    _Prompts(
        "real_toxicity",
        "real toxicity prompts",
        _prompt_text,
        False,
        source.Location(
            ("real_toxicity_prompts", "real_toxicity"),
            hub="allenai/real-toxicity-prompts",
            subset="default",
            split="train",
        ),
    ),
)


def load(config: EvaluateConfig) -> Sets:
    """Return the prompts, each once, and the texts for perplexity.

    A folder has `safe_prompts` (rows of PKU-SafeRLHF, of which only the prompt is read) and
    `real_toxicity_prompts` (its prompt is a text or an object with `text`), and may have `texts` or `wikitext`.
    On the hub, the data set gives the SAFE prompts (`PKU-Alignment/PKU-SafeRLHF`), the others are known by name.

    Raises:
        UserError: There are no prompts, or a cell is no good.
    """
    assert config.data is not None  # the configuration asks for it
    notes: list[str] = []
    tables = [(prompts, prompts.location.read(config.data)) for prompts in _PROMPTS]
    sets = [_read(prompts, table, notes) for prompts, table in tables if table is not None]
    if not sets:
        raise source.none_found(config.data, (prompts.location for prompts in _PROMPTS))
    notes += [f"There are no {prompts.title}: they are left out." for prompts, table in tables if table is None]
    texts = wikitext.load_texts(config.data, notes)
    return Sets((*sets, texts) if texts else tuple(sets), tuple(notes))


def _read(prompts: _Prompts, table: Table, notes: list[str]) -> EvaluationSet:
    asked = source.cells(table, "prompt", prompts.convert)
    frame = pd.DataFrame(
        {
            "sample_id": sample_ids(table, [[prompt] for prompt in asked]),
            "prompt": asked,
            "is_question": prompts.is_question,
        }
    )
    once = frame.drop_duplicates("prompt", ignore_index=True)
    if len(once) < len(frame):
        notes.append(
            f"{len(frame) - len(once)} of {len(frame)} {prompts.title} repeat another, which is asked once."
        )
    return EvaluationSet(prompts.name, prompts.title, "forget", "prompts", once)


SUITE = Suite(
    title="SAFE",
    kind="prompts",
    load=load,
    data="A folder with the two sets of prompts.",
    fields=("toxicity_model",),
    tasks="piqa, hellaswag",
)
