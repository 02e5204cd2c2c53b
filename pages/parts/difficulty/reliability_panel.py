"""How far a ranking can be trusted, and why."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from analysis.difficulty import Trust
from analysis.figures import difficulty as figures
from mrd_core.scoring.config import Normalisation
from pages.shell.charts import reasons_table
from pages.shell.downloads import figure_download
from pages.shell.wording import capitalised


def show(table: pd.DataFrame, trust: Trust, summary: dict[str, Any]) -> None:
    """Show reliability, precision gate, left-out tokens, standard errors and the automatic choices."""
    st.subheader("How far to trust the ranking")
    left, right = st.columns(2)
    with left:
        st.dataframe(
            pd.DataFrame(
                {
                    "Ranking by": [str(norm) for norm in Normalisation],
                    "Spearman–Brown": [trust.reliability[norm] for norm in Normalisation],
                    "length partialled out": [trust.length_partialled[norm] for norm in Normalisation],
                }
            ),
            hide_index=True,
            placeholder="undefined",
            column_config={
                name: st.column_config.NumberColumn(format="%.3f")
                for name in ("Spearman–Brown", "length partialled out")
            },
            alt="Reliability of the ranking, for sum and mean, with and without length",
        )
        gate = summary["gate"]
        icon = ":material/check_circle: passed" if gate["passed"] else ":material/warning: not passed"
        st.markdown(f"**Precision gate** {icon}")
        st.caption(capitalised(gate["reason"]))
        st.markdown(
            f"**Left out** {table['excluded_tokens'].sum()} of "
            f"{(table['excluded_tokens'] + table['n_tokens']).sum()} tokens "
            "(|log p| below 1e-6, where a relative change is only rounding)"
        )
        st.markdown(f"**Weights** bit-equal after the run: {'yes' if summary['weights_untouched'] else 'no'}")
    with right:
        figure = figures.relative_se_histogram(table)
        st.plotly_chart(figure, key="errors", alt="Histogram of the relative standard errors")
        figure_download(figure, "relative_se")
    with st.expander("What was chosen automatically, and why", icon=":material/rule_settings:"):
        reasons_table(summary["reasons"])
