"""`mrd-lens characteristics`, read and written."""

from __future__ import annotations

from analysis.characteristics.config import CharacteristicsConfig, of_corpus, on_scores
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import Command, Nested
from mrd_core.settings.options import DEMO


def _base(settings: Nested) -> Nested:
    """Return what follows from the corpus, or from the score run where none is named."""
    if "corpus" in settings:
        return of_corpus(settings["corpus"])
    return on_scores(read_config(settings["score_run"], ScoreConfig), settings)


def _check(settings: Nested) -> None:
    """Refuse a part of a corpus that has none."""
    corpus = settings.get("corpus") or {}
    for part in ("subset", "split"):
        if part in corpus and corpus.get("source", DEMO) == DEMO:
            raise UserError(
                f"--corpus-{part} {corpus[part]}",
                "belongs to a data set, and --corpus names none.",
                "Name the data set with --corpus.",
            )


CHARACTERISTICS = Command(("characteristics",), CharacteristicsConfig, _base, _check)
