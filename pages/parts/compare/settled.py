"""What was set differently in the runs that are compared, and what each of them took."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.comparison.table import Comparison
from analysis.export.files import NOTHING
from pages.shell.downloads import csv_download

COSTS = {
    "updates": ("Updates", "{:,.0f}"),
    "seconds": ("Seconds of unlearning", "{:,.0f}"),
    "tflop": ("TFLOP of unlearning", "{:,.3g}"),
    "mrd_tflop": ("TFLOP of MRD", "{:,.3g}"),
    "mrd_evaluations": ("Forward evaluations of MRD", "{:,.0f}"),
    "evaluation_seconds": ("Seconds of evaluation", "{:,.0f}"),
}


def show(comparison: Comparison) -> None:
    """Show the settings that differ, and the costs."""
    st.header("Settings that differ")
    if len(comparison.groups) == 1:
        st.caption("There is one setting, so nothing differs.")
    elif comparison.settings.empty:
        st.caption("All settings that are known are the same.")
    else:
        st.dataframe(
            comparison.settings,
            hide_index=True,
            placeholder=NOTHING,
            alt="Settings that differ, a column each run",
        )
    st.header("Cost")
    costs = comparison.costs
    columns = {"Setting": costs["group"]}
    for name, (title, form) in COSTS.items():
        if name in costs and costs[name].notna().any():
            means, deviations = costs[name].map(form.format), costs[f"{name}_sd"]
            spreads = deviations.map((" ± " + form).format).where(deviations.notna(), "")
            columns[title] = (means + spreads).where(costs[name].notna(), NOTHING)
    st.dataframe(pd.DataFrame(columns), hide_index=True, alt="What each setting took, mean ± sd over the seeds")
    st.caption("Mean ± standard deviation over the seeds. The model before unlearning took no unlearning.")
    csv_download(costs, "comparison_costs", "Costs (CSV)")
