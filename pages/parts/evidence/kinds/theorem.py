"""Theorem 3.2: MRD/σ² against half the trace, a point a sample."""

from __future__ import annotations

import streamlit as st

from analysis.evidence.kinds.theorem import Theorem
from analysis.figures import evidence as figures
from mrd_core.experiments.kinds.theorem import TheoremConfig
from mrd_core.runs import Run
from pages.parts.evidence import charts, selected
from pages.parts.evidence.presentation import Presentation
from pages.shell import layout, sample_table
from pages.shell.inputs import Form, Values
from pages.shell.scored import Scored

COLUMNS = {
    "sample_id": sample_table.ID,
    "half_trace": st.column_config.NumberColumn("Half the trace", format="%.4g"),
    "mrd": st.column_config.NumberColumn("MRD / σ²", format="%.4g"),
    "ratio": st.column_config.NumberColumn("Ratio", format="%.3f", width="small"),
    "n_tokens": st.column_config.NumberColumn("Tokens", width="small"),
}


def show(run: Run, _experiment: Run, evidence: Theorem) -> None:
    """Show MRD/σ² against half the trace, a point a sample."""
    with layout.grid("evidence_theorem", least=charts.LEAST_WIDTH):
        figure, alt = figures.theorem_scatter(evidence), "MRD over σ² against half the trace"
        charts.boxed(figure, "theorem", alt, "from the theorem")
        with st.container(border=True, height="stretch"):
            st.markdown("**Sample by sample**")
            st.dataframe(
                evidence.samples,
                hide_index=True,
                column_order=list(COLUMNS),
                column_config=COLUMNS,
                placeholder="–",
                alt="MRD over σ² and half the trace of each sample",
            )
    selected.show(run)


def ask(_scored: Scored, form: Form) -> Values:
    """Ask for the noise."""
    return {"sigma": form.number(TheoremConfig, "sigma", "σ of the noise")}


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "probes": "Probes of a sample", "pairs": "Pairs of a sample"},
    show=show,
    ask=ask,
)
