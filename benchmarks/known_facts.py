"""Facts that pretraining has taught a model, as a forget set: what it answers rightly, in its own words.

    mrd-lens evaluate --model MODEL --forget-set questions.jsonl --max-new-tokens 48 --out asked
    python -m benchmarks.known_facts asked --out facts.jsonl

Of each question whose short answer occurs in what the model wrote, a row: the question, what it wrote up to the
end of the sentence with the answer in it, the short answer, and how often that occurs in a thousand million words
of English (wordfreq; of several words together, by their harmonic mean).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from wordfreq import word_frequency

from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.overlap import contains_answer


def main(
    evaluation: Annotated[
        Path, typer.Argument(help="Directory of an evaluation with the questions as forget set.")
    ],
    out: Annotated[Path, typer.Option(help="Takes the rows, as JSON lines.")],
) -> None:
    """Write the facts that the model knows."""
    asked = pd.read_parquet(EvaluationFiles(evaluation).answers)
    known = [
        {
            "question": row.prompt,
            "answer": sentence_with(row.reference, row.generated),
            "short_answer": row.reference,
            "frequency": round(1e9 * word_frequency(row.reference, "en")),
        }
        for row in asked[asked["asked"] == "question"].itertuples()
        if contains_answer(row.generated, row.reference) == 1
    ]
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in known), encoding="utf-8")
    print(f"{len(known)} of {len(asked)} questions are answered rightly: {out}")


def sentence_with(answer: str, written: str) -> str:
    """Return a text up to the end of the first sentence that has an answer in it."""
    end = written.casefold().index(answer.strip().casefold()) + len(answer.strip())
    stop = re.search(r"[.!?](?=\s|$)", written[end:])
    return written[: end + stop.end()] if stop else written


if __name__ == "__main__":
    typer.run(main)
