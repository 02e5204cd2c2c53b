"""`mrd-lens characteristics`, read and written."""

from __future__ import annotations

from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.runs import default_config
from mrd_core.errors import UserError
from mrd_core.settings.command import Command, Nested
from mrd_core.settings.options import DEMO


def _base(settings: Nested) -> Nested:
    """Return the corpus of the demo for its model; rows of another corpus may be skipped."""
    if "corpus" not in settings:
        return default_config(settings["score_run"]).model_dump(include={"corpus"})
    corpus = settings["corpus"]
    return {} if corpus is None or corpus["source"] == DEMO else {"corpus": {"invalid_rows": "skip"}}


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
