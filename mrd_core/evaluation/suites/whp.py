"""Who's Harry Potter (Eldan and Russinovich 2023): prompts from books that the model is to write on.

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
from mrd_core.evaluation.wikitext import TEXT_NAMES, with_texts

if TYPE_CHECKING:
    from mrd_core.evaluation.config import EvaluateConfig


_PROMPTS = (
    Wanted("seen", "prompts with seen instructions", Location(("seen",))),
    Wanted("unseen_prompts", "prompts with unseen instructions", Location(("unseen", "unseen_prompts"))),
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
    sets, tables = [], source.tables_of(config.data, _PROMPTS)
    for wanted, table in tables.items():
        prompts, references = source.texts(table, "prompt"), source.text_lists(table, "references")
        ids = sample_ids(table, [[prompt, *true] for prompt, true in zip(prompts, references, strict=True)])
        frame = pd.DataFrame({"sample_id": ids, "prompt": prompts, "references": references})
        sets.append(EvaluationSet(wanted.name, wanted.title, "forget", "completions", frame))
    names = [name for wanted in _PROMPTS for name in wanted.location.names]
    notes = source.unread(config.data, [*names, *TEXT_NAMES])
    return with_texts(config.data, sets, [wanted for wanted in _PROMPTS if wanted not in tables], notes)


SUITE = Suite(
    title="Who's Harry Potter",
    kind="completions",
    load=load,
    data="A folder with the two sets of prompts.",
    tasks="piqa, hellaswag",
    max_new_tokens=300,
)
