"""Theorem 3.2: MRD/σ² against half the trace, a point a sample."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.evidence.kinds.theorem import Theorem
from analysis.figures import evidence as figures
from mrd_core.experiments.kinds.theorem import TheoremConfig
from mrd_core.runs import Run
from pages.parts.evidence import charts, selected
from pages.parts.evidence.presentation import Presentation
from pages.shell import layout
from pages.shell.inputs import Form


def _show(run: Run, _experiment: Run, evidence: Theorem) -> None:
    """Show MRD/σ² against half the trace, a point a sample."""
    with layout.grid("evidence_theorem", least=charts.LEAST_WIDTH):
        charts.boxed_sample_chart(
            figures.theorem_scatter(evidence), "theorem", "MRD over σ² against half the trace", "from the theorem"
        )
        with st.container(border=True, height="stretch"):
            st.markdown("**Sample by sample**")
            st.dataframe(
                evidence.samples,
                hide_index=True,
                column_order=["sample_id", "half_trace", "mrd", "ratio", "n_tokens"],
                column_config={
                    "sample_id": st.column_config.TextColumn("Id"),
                    "n_tokens": st.column_config.NumberColumn("Tokens", width="small"),
                    "half_trace": st.column_config.NumberColumn("Half the trace", format="%.4g"),
                    "mrd": st.column_config.NumberColumn("MRD / σ²", format="%.4g"),
                    "ratio": st.column_config.NumberColumn("Ratio", format="%.3f", width="small"),
                },
                placeholder="–",
                alt="MRD over σ² and half the trace of each sample",
            )
    selected.show(run)


def _ask(form: Form) -> dict[str, Any]:
    return {"sigma": form.number(TheoremConfig, "sigma", "σ of the noise")}


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "probes": "Probes of a sample", "pairs": "Pairs of a sample"},
    demo_sizes={},
    show=_show,
    ask=_ask,
)
