"""A comparison as data: a row for each run, setting and difference of settings, and each column."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.comparison.table import Comparison

BEYOND_NOISE, WITHOUT_SIGNAL = "by more than the noise (95 %, Holm)", "no signal in the baseline, in no mean"
RUN, SETTING, DIFFERENCE = "run", "setting", "difference"

# The columns in their order, and what each says.
MEANINGS: Mapping[str, str] = {
    "part": "What the row is of: a `run`, a `setting` (all seeds of it), or a `difference` of two settings.",
    "setting": "What was done to the model; the seeds of a setting are its runs.",
    "against": "The setting that it is held against: the baseline, or the same method with uniform sampling.",
    "run": "The run; empty but in its own rows.",
    "seed": "Its seed; empty where nothing was unlearned.",
    "column": "What was measured, by the name that `--columns` takes.",
    "title": "The same for people.",
    "side": "Whether it is `leading` (what best tells a model's knowledge), `completeness`, `utility`, a `mean` "
    "of the latter two, or an `other`; the first and the last are in no mean.",
    "good": "Which end is good: `high`, `low`, `half` for the value 0.5, or `zero`.",
    "value": "Of a run what was measured; of a setting the mean over its seeds, of forget quality the median; of "
    "a difference the setting less what it is held against.",
    "sd": "Standard deviation of a setting over its seeds; empty with one.",
    "low": "Lower end of the 95 % interval: over samples, of a difference over samples and seeds.",
    "high": "Upper end of it.",
    "p": "Two-sided p of the difference; in the rows of a setting that from the baseline.",
    "p_holm": "p after Holm’s correction over the columns.",
    "marked": "Whether the difference is larger than the noise: p_holm < 0.05. Empty where that was not tested.",
    "better": "Whether the difference points to the good end.",
    "n": "Samples that it is from: the fewest of its sets.",
    "seeds": "Runs that it is from; of a difference the pairs of runs.",
    "undefined": "Samples without a value, over the runs; they are left out of all.",
    "note": "The marks of the row in words.",
}
_DTYPES = (
    dict.fromkeys(MEANINGS, "str")
    | dict.fromkeys(("seed", "n", "seeds", "undefined"), "Int64")
    | dict.fromkeys(("marked", "better"), "boolean")
    | dict.fromkeys(("value", "sd", "low", "high", "p", "p_holm"), "float64")
)


def long(comparison: Comparison) -> pd.DataFrame:
    """Return all figures of a comparison as they were computed, none rounded; see `MEANINGS` for the columns."""
    differences = comparison.differences.rename(columns={"group": "setting", "difference": "value"})
    differences["marked"] = differences["marked"].astype("boolean").where(differences["p_holm"].notna())
    from_baseline = differences.loc[
        differences["against"] == comparison.baseline,
        ["setting", "column", "against", "p", "p_holm", "marked", "better"],
    ]
    cells = comparison.cells.rename(columns={"group": "setting", "mean": "value"})
    parts = {
        RUN: comparison.runs.rename(columns={"group": "setting"}).assign(seeds=1),
        SETTING: cells.merge(from_baseline, on=["setting", "column"], how="left"),
        DIFFERENCE: differences,
    }
    rows = pd.concat(
        [frame.assign(part=part).reindex(columns=list(MEANINGS)).astype(_DTYPES) for part, frame in parts.items()],
        ignore_index=True,
    )
    for column in comparison.columns:
        is_of = rows["column"] == column.key
        rows.loc[is_of, ["title", "side", "good"]] = column.title, column.side, column.good
        rows.loc[is_of & ~pd.Series(column.signal, rows.index), "note"] = WITHOUT_SIGNAL
    is_marked = rows["marked"].fillna(False)
    rows.loc[is_marked, "note"] = "differs from " + rows["against"] + f" {BEYOND_NOISE}"
    cautions = pd.concat([frame["caution"] for frame in (comparison.runs, comparison.cells)], ignore_index=True)
    # The rows of runs and settings are the first; those of forget quality are never tested.
    doubted = cautions[cautions != ""]
    rows.loc[doubted.index, "note"] = doubted
    return rows
