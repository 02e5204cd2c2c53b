"""What the characteristics of a forget set look like as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from analysis.characteristics.judgement import Judgement, claims_json, claims_table, group_table, regression_frame
from analysis.characteristics.runs import Characterised
from analysis.export.files import csv_file, json_file


def exports(forget_set: Characterised, judgement: Judgement) -> Mapping[str, Callable[[], bytes]]:
    """Return for each file name what makes its content.

    `samples` has a row per sample: MRD with its interval, the features, and the group under each criterion.
    """
    strata = judgement.strata.drop(columns="sample_id").add_prefix("group_")
    samples = pd.concat([forget_set.table, strata], axis=1)

    def groups() -> bytes:
        table = group_table(forget_set, judgement)
        return csv_file(table.assign(examples=table["examples"].map("; ".join)))

    return {
        "samples.csv": lambda: csv_file(samples),
        "samples.parquet": lambda: samples.to_parquet(index=False),
        "strata.csv": lambda: csv_file(judgement.strata),
        "claims.csv": lambda: csv_file(claims_table(judgement)),
        "claims.json": lambda: json_file(claims_json(judgement)),
        "groups.csv": groups,
        "regression.csv": lambda: csv_file(regression_frame(judgement.regression)),
    }
