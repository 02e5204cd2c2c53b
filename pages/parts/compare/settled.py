"""What was set differently in the runs that are compared, and what each of them took."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.comparison.table import Comparison
from analysis.export.comparison import NOTHING
from pages.shell.downloads import csv_download

COSTS = {
    "updates": ("Updates", "{:,.0f}"),
    "seconds": ("Seconds of unlearning", "{:,.0f}"),
    "tflop": ("TFLOP of unlearning", "{:,.3g}"),
    "mrd_tflop": ("TFLOP of MRD", "{:,.3g}"),
    "mrd_evaluations": ("Forward evaluations of MRD", "{:,.0f}"),
    "evaluation_seconds": ("Seconds of evaluation", "{:,.0f}"),
}


def show(found: Comparison) -> None:
    """Show the settings that differ, and the costs."""
    st.subheader("Settings that differ")
    if len(found.groups) == 1:
        st.caption("There is one setting, so nothing differs.")
    elif found.settings.empty:
        st.caption("All settings that are known are the same.")
    else:
        st.dataframe(
            found.settings, hide_index=True, placeholder=NOTHING, alt="Settings that differ, a column each run"
        )
    st.subheader("Cost")
    st.dataframe(_costs(found.costs), hide_index=True, alt="What each setting took, mean ± sd over the seeds")
    st.caption("Mean ± standard deviation over the seeds. The model before unlearning took no unlearning.")
    csv_download(st.container(), found.costs, "comparison_costs", "Costs (CSV)")


def _costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the costs that are known for people."""
    shown = {"Setting": costs["group"]}
    for name, (title, spelt) in COSTS.items():
        if name in costs and costs[name].notna().any():
            pairs = zip(costs[name], costs[f"{name}_sd"], strict=True)
            shown[title] = [_with_spread(mean, sd, spelt) for mean, sd in pairs]
    return pd.DataFrame(shown)


def _with_spread(mean: float, sd: float, spelt: str) -> str:
    if pd.isna(mean):
        return NOTHING
    return spelt.format(mean) + ("" if pd.isna(sd) else f" ± {spelt.format(sd)}")
