"""How far two spaCy pipelines read the same in the same texts.

    python -m benchmarks.pipelines FORGET_SET shipped en_core_web_sm

Of each feature of a text: Spearman's ρ between the two readings of the answers, and both means. Besides, where
each ends a sentence within a text: at a mark that ends sentences, or elsewhere.
"""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from analysis.characteristics.reading import read_texts
from analysis.features import features
from analysis.features.rare_words import common_words
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import load
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig

MARKS = frozenset(".?!…")


def main(
    forget_set: Annotated[str, typer.Argument(help="Whose answers are read.")],
    first: Annotated[str, typer.Argument(help="Name of a pipeline.")] = "shipped",
    second: Annotated[str, typer.Argument(help="Another.")] = "en_core_web_sm",
) -> None:
    """Read the answers with both, and print how far they agree."""
    texts = list(read(ForgetSetConfig(source=forget_set)).frame["answer"])
    readings = [_read(name, texts) for name in (first, second)]
    table = Table("feature", "ρ", first, second)
    for name in readings[0]:
        a, b = (reading[name] for reading in readings)
        if a.notna().any() and not a.equals(b):
            table.add_row(name, f"{a.corr(b, 'spearman'):.2f}", f"{a.mean():.3f}", f"{b.mean():.3f}")
    console = Console(width=100, highlight=False)
    console.print(table)
    for name in (first, second):
        marked, ends = _ends(name, texts)
        console.print(f"{name}: {ends} sentences end within a text, {ends - marked} of them not at a mark")


def _read(name: str, texts: list[str]) -> pd.DataFrame:
    settings = ReadingConfig(pipeline=name)
    common = common_words(settings.language, settings.common_words)
    rows = read_texts(texts, load(name), settings, features(), common)
    return pd.DataFrame([row.values for row in rows])


def _ends(name: str, texts: list[str]) -> tuple[int, int]:
    """Return how many sentences but the last of each text end at a mark, and how many there are."""
    docs = load(name).nlp.pipe(texts)
    ends = [sentence.text.strip()[-1:] for doc in docs for sentence in list(doc.sents)[:-1]]
    # A quotation ends with its mark inside or behind it.
    quoted = frozenset("\"'”’)")
    return sum(end in MARKS | quoted for end in ends), len(ends)


if __name__ == "__main__":
    typer.run(main)
