"""Who's Harry Potter (Eldan and Russinovich 2023): prompts from books that the model is to write on.

Loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from mrd_core.evaluation import source, wikitext
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.sets import EvaluationSet, Sets
from mrd_core.evaluation.suite import Suite
from mrd_core.samples import Table

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig


class _Prompts(NamedTuple):
    name: str
    title: str
    location: source.Location


_PROMPTS = (
    _Prompts("seen", "prompts with seen instructions", source.Location(("seen",))),
    _Prompts("unseen_prompts", "prompts with unseen instructions", source.Location(("unseen", "unseen_prompts"))),
)


def load(config: EvaluateConfig) -> Sets:
    """Return the completion prompts and the texts for perplexity.

    A folder has `seen` and `unseen` with rows of prompt and references (a list, or one text), and may have `texts`
    or `wikitext` with rows of text. On the hub, `seen` and `unseen` are subsets of the data set, and the texts are
    the test split of WikiText-2.

    Raises:
        UserError: There are no prompts, or a cell is no good.
    """
    assert config.data is not None  # the configuration asks for it
    tables = [(prompts, prompts.location.read(config.data)) for prompts in _PROMPTS]
    sets = [_read(prompts, table) for prompts, table in tables if table is not None]
    if not sets:
        raise source.none_found(config.data, (prompts.location for prompts in _PROMPTS))
    notes = [f"There are no {prompts.title}: they are left out." for prompts, table in tables if table is None]
    texts = wikitext.load_texts(config.data, notes)
    return Sets((*sets, texts) if texts else tuple(sets), tuple(notes))


def _read(prompts: _Prompts, table: Table) -> EvaluationSet:
    asked, references = source.texts(table, "prompt"), source.text_lists(table, "references")
    contents = [[prompt, *true] for prompt, true in zip(asked, references, strict=True)]
    frame = pd.DataFrame(
        {"sample_id": sample_ids(table, contents), "prompt": asked, "references": references},
    )
    return EvaluationSet(prompts.name, prompts.title, "forget", "completions", frame)


SUITE = Suite(
    title="Who's Harry Potter",
    kind="completions",
    load=load,
    data="A folder with the two sets of prompts.",
    tasks="piqa, hellaswag",
    max_new_tokens=300,
)
