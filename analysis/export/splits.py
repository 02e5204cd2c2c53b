"""Forget sets that were drawn, as files: each with the rest of its pool as its retain set."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from analysis.audit.balance import BALANCED, Balance
from analysis.audit.config import BalanceConfig
from analysis.export.audit import figure
from analysis.export.files import (
    csv_file,
    json_file,
    markdown_table,
    markdown_text,
    new_folder,
    records,
    write_exports,
)
from mrd_core.errors import UserError
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig

_TEXTS = ["sample_id", "prompt", "answer"]


def balance_json(balance: Balance, config: BalanceConfig) -> dict[str, Any]:
    """Return what was drawn as JSON values: undefined figures are None."""
    return {
        "sentence": balance.sentence,
        "settings": config.model_dump(mode="json"),
        "sets": [
            {"name": each.name, "files": list(_names(each.name)), "exact": each.exact, "samples": each.sample_ids}
            for each in balance.sets
        ],
        "columns": records(balance.table),
        "notes": list(balance.notes),
    }


def balance_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `Balance.table` for people, every cell text."""
    marks = np.where(table["role"] == BALANCED, " *", "")
    return pd.DataFrame(
        {
            "": (table["set"] + " " + table["title"] + marks).str.strip(),
            "target, set": table["target"].map(figure) + ",\n" + table["mean"].map(figure),
            "difference [SD]": [figure(value, "+.2g") for value in table["difference"]],
            "of a random set": [figure(value, ".2g") for value in table["random_difference"]],
            "variance ratio": [figure(value, ".2f") for value in table["variance_ratio"]],
        }
    )


def balance_markdown(balance: Balance, config: BalanceConfig) -> str:
    """Return what was drawn as a Markdown document."""
    return "\n".join(
        [
            "# Balanced forget sets\n",
            f"{markdown_text(balance.sentence)}\n",
            f"- Pool: {markdown_text(str(config.pool))}",
            f"- Like: {markdown_text(config.like or 'the pool')}",
            f"- Kept together: {markdown_text(config.group or '–')}; seed {config.seed}\n",
            markdown_table(balance_table(balance.table)),
            "\\* drawn by. Differences are of means, over the standard deviation in the pool; that of a random "
            "set is its size in the median of 1,000.\n",
            *(f"- {markdown_text(note)}" for note in balance.notes),
            "",
        ]
    )


def write_splits(folder: Path, samples: pd.DataFrame, balance: Balance, config: BalanceConfig) -> list[str]:
    """Write the sets into a new or empty folder, which appears with all files or not at all; return their names.

    Each set and the rest of the pool are JSON Lines that read as the same samples, with the columns that TOFU has
    (question and answer) and that OpenUnlearning reads; of plain text, `text`.

    Args:
        folder: Where.
        samples: Those of the pool, as its run has them.
        balance: What was drawn.
        config: How.

    Raises:
        UserError: The folder has content or cannot be made, or the samples would not read the same.
    """
    contents = dict(_contents(samples, balance)) | {
        "balance.csv": csv_file(balance.table),
        "balance.md": balance_markdown(balance, config).encode(),
        "balance.json": json_file(balance_json(balance, config)),
    }
    with new_folder(folder) as staging:
        write_exports(staging, {name: partial(bytes, data) for name, data in contents.items()})
        _require_same(staging, samples, balance)
    return list(contents)


def splits_archive(samples: pd.DataFrame, balance: Balance, config: BalanceConfig) -> bytes:
    """Return what `write_splits` writes as one ZIP file.

    Raises:
        UserError: The samples would not read the same.
    """
    packed = io.BytesIO()
    with TemporaryDirectory() as place, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        folder = Path(place) / "sets"
        for name in write_splits(folder, samples, balance, config):
            archive.write(folder / name, name)
    return packed.getvalue()


def _names(name: str) -> tuple[str, str]:
    """Return the files of a set and of its retain part."""
    ending = f"-{name}.jsonl" if name else ".jsonl"
    return f"forget{ending}", f"retain{ending}"


def _parts(samples: pd.DataFrame, balance: Balance) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield name and samples of each file."""
    for each in balance.sets:
        inside = samples["sample_id"].isin(set(each.sample_ids))
        yield from zip(_names(each.name), (samples[inside], samples[~inside]), strict=True)


def _contents(samples: pd.DataFrame, balance: Balance) -> Iterator[tuple[str, bytes]]:
    for name, part in _parts(samples, balance):
        texts = {"text": part["answer"]}
        if (part["prompt"] != "").any():
            texts = {"question": part["prompt"], "answer": part["answer"]}
        frame = pd.DataFrame({"sample_id": part["sample_id"]} | texts)
        if part["training_count"].notna().any():
            frame["training_count"] = part["training_count"]
        yield name, frame.to_json(orient="records", lines=True, force_ascii=False).encode()


def _require_same(folder: Path, samples: pd.DataFrame, balance: Balance) -> None:
    """Refuse samples that JSON Lines do not carry, such as texts with and without a prompt in one file."""
    for name, part in _parts(samples, balance):
        try:
            same = (
                read(ForgetSetConfig(source=str(folder / name)))
                .frame[_TEXTS]
                .equals(part[_TEXTS].reset_index(drop=True))
            )
            why = "their texts change"
        except UserError as error:
            same, why = False, error.why
        if not same:
            raise UserError(
                f"The samples of {name}",
                f"would not read the same from JSON Lines ({why}).",
                "Score a pool whose samples all have a prompt, or none has, and draw from that.",
            )
