"""What the characteristics of a forget set look like as files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.characteristics.judgement import Judgement, claims_json, claims_table, group_table, regression_frame
from analysis.characteristics.runs import Characterised
from analysis.export.report import report
from mrd_core.runs.files import write_atomically


def exports(found: Characterised, judgement: Judgement, title: str) -> Mapping[str, Callable[[], bytes]]:
    """Return for each file name what makes its content.

    `samples` has a row per sample: MRD with its interval, the features, and the group under each criterion.
    """
    samples = _samples(found, judgement)
    return {
        "samples.csv": lambda: _csv(samples),
        "samples.parquet": lambda: _parquet(samples),
        "strata.csv": lambda: _csv(judgement.strata),
        "claims.csv": lambda: _csv(claims_table(judgement)),
        "claims.json": lambda: _json(claims_json(judgement)),
        "groups.csv": lambda: _csv(_listed(group_table(found, judgement))),
        "regression.csv": lambda: _csv(regression_frame(judgement.regression)),
        "report.html": lambda: report(found, judgement, title, datetime.now(UTC)).encode(),
    }


def write_exports(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Write every file into `folder`, which is made if need be; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _write(folder / name, content())


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, lambda stream: stream.write(data))


def _samples(found: Characterised, judgement: Judgement) -> pd.DataFrame:
    groups = judgement.strata.drop(columns="sample_id").add_prefix("group_")
    return pd.concat([found.table, groups], axis=1)


def _listed(groups: pd.DataFrame) -> pd.DataFrame:
    return groups.assign(examples=groups["examples"].map("; ".join))


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False)
    return stream.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
