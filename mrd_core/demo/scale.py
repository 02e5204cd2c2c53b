"""Where the demo's samples lie: quantiles of MRD / σ², beside which a value of another set can be held.

mrd-lens score --forget-set demo --model demo --out known
mrd-lens score --forget-set demo --split held_out --model demo --out unseen
python -m mrd_core.demo.scale known unseen
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

SCALE = Path(__file__).parent / "data" / "scale.csv"
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SCOPES = ("answer", "full")


def quantiles(runs: dict[str, Path]) -> pd.DataFrame:
    """Return where the samples of finished score runs lie.

    Args:
        runs: Directory by what the samples are to the model.

    Returns:
        A row per run and scope: samples, scope, n, and a column per quantile: MRD (mean over the tokens) / σ².
    """
    rows = []
    for name, directory in runs.items():
        scores = pd.read_parquet(directory / "scores.parquet")
        sigma = json.loads((directory / "summary.json").read_text(encoding="utf-8"))["sigma"]
        for scope in SCOPES:
            values = (scores[f"mrd_{scope}_mean"] / sigma**2).dropna()
            lies = {f"{at:g}": value for at, value in values.quantile(QUANTILES).items()}
            rows.append({"samples": name, "scope": scope, "n": len(values)} | lies)
    return pd.DataFrame(rows)


def main(
    known: Annotated[Path, typer.Argument(help="Score run of the forget set.")],
    unseen: Annotated[Path, typer.Argument(help="Score run of the held-out set.")],
) -> None:
    """Write the quantiles of two finished score runs of the demo."""
    quantiles({"known": known, "unseen": unseen}).to_csv(SCALE, index=False, float_format="%.4g")


if __name__ == "__main__":
    typer.run(main)
