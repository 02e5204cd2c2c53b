"""Features, strata and tables to take along, the command that makes the same, and the report."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from analysis.characteristics.command import CHARACTERISTICS
from analysis.characteristics.judgement import Judgement
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA, Threshold, spelt
from analysis.export.characteristics import exports
from mrd_core.runs import Run
from pages.shell import commands, redaction, reports
from pages.shell.downloads import download

LABELS = {
    "samples.csv": "Samples (CSV)",
    "samples.parquet": "Samples (Parquet)",
    "strata.csv": "Strata (CSV)",
    "claims.csv": "Claims (CSV)",
    "claims.json": "Claims (JSON)",
    "groups.csv": "Groups (CSV)",
    "regression.csv": "Length held (CSV)",
}


def show(
    run: Run,
    reading: Run,
    characterised: Characterised,
    judgement: Judgement,
    thresholds: Mapping[str, Threshold],
) -> None:
    """Show the downloads and the shell command."""
    st.header("Export and reproduce")
    row = st.container(horizontal=True, vertical_alignment="center")
    for name, content in exports(characterised, judgement).items():
        download(row, LABELS[name], content, f"{reading.id}-{name}", f"export_{name}")
    redaction.offer(row)
    reports.offer(run, row)
    # What the page's own controls stand for, the thresholds only where they are not the default.
    choices = {field: [str(value)] for field, value in vars(characterised.variant).items()}
    choices["threshold"] = [
        spelt(criterion.name, thresholds[criterion.name])
        for criterion in CRITERIA
        if thresholds[criterion.name] != criterion.default
    ]
    commands.show(CHARACTERISTICS.shown(characterised.about.config, choices))
