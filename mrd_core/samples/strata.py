"""Parts of a forget set, saved by name, to be used as forget sets of their own."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.samples.forget_set import ForgetSet

_FOLDER = "strata"
_NAME = re.compile(r"[\w][\w .+-]{0,59}")


def save_stratum(forget_set: ForgetSet, sample_ids: Collection[str], name: str, home: Path) -> Path:
    """Write the samples with these ids as a Parquet file that reads as a forget set, and return its path.

    Args:
        forget_set: The whole.
        sample_ids: Those to keep, in the order of the whole.
        name: 1 to 60 letters, digits, spaces and . + - _, beginning with a letter or digit.
        home: The data root, or the directory of a score run where the stratum is to go with the run.

    Raises:
        UserError: The name is no good or taken, or no sample is left.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"The name '{name[:60]}'",
            "cannot name a file.",
            "Use up to 60 letters, digits, spaces and . + - _, beginning with a letter or a digit.",
        )
    path = home / _FOLDER / f"{name}.parquet"
    if path.exists():
        raise UserError(f"The name '{name}'", "is taken by another stratum.", "Choose another name.")
    stratum = forget_set.subset(forget_set.frame["sample_id"].isin(set(sample_ids)))
    if not len(stratum):
        raise UserError(f"The stratum '{name}'", "would hold no sample.", "Select some samples first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    stratum.save(path)
    return path


def saved_strata(home: Path) -> dict[str, Path]:
    """Return the strata saved in a data root or a score run by name, the newest first."""
    paths = sorted((home / _FOLDER).glob("*.parquet"), key=lambda path: path.stat().st_mtime, reverse=True)
    return {path.stem: path for path in paths}
