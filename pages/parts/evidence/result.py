"""What a finished experiment shows: its verdict, its charts, what the paper found, cautions, tables, export."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from analysis.evidence.interpretation import Evidence
from analysis.evidence.measurements import read_measurements
from analysis.export.evidence import evidence_json
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.runs import Run
from mrd_core.runs.files import CONFIG_FILE
from pages.parts.evidence.kinds import presentation
from pages.shell import session
from pages.shell.deletion import confirm_deletion
from pages.shell.downloads import csv_download
from pages.shell.wording import duration


def show(run: Run, experiment: Run, evidence: Evidence) -> None:
    """Show an experiment that succeeded.

    Args:
        run: The score run.
        experiment: That was carried out on it.
        evidence: What it shows.
    """
    _verdict(experiment, evidence)
    presentation(experiment.kind).show(run, experiment, evidence)
    with st.expander("How far this can be trusted", icon=":material/info:", expanded=True):
        st.markdown("\n".join(f"- {caveat}" for caveat in evidence.caveats))
    _behind(experiment, evidence)
    _export(experiment, evidence)


def _verdict(experiment: Run, evidence: Evidence) -> None:
    with st.container(border=True):
        st.markdown(f":material/gavel: **{evidence.verdict}**")
        if evidence.findings:
            st.markdown("\n".join(f"- {finding}" for finding in evidence.findings))
        st.caption(f":material/menu_book: {evidence.paper}")
    for warning in (experiment.summary or {}).get("warnings", []):
        st.warning(warning, icon=":material/warning:")


def _behind(experiment: Run, evidence: Evidence) -> None:
    """Offer the figures behind the verdict and the choices behind the figures, drawn up only while looked at."""
    tables = st.expander("Tables", icon=":material/table:", key="evidence_tables", on_change="rerun")
    if tables.open:
        with tables:
            frames = {name: frame for name, frame in evidence.tables.items() if len(frame)}
            name = st.selectbox("Table", list(frames), format_func=_spelt, key="evidence_table")
            if name:
                st.dataframe(frames[name], hide_index=True, placeholder="–", alt=_spelt(name))
    choices = st.expander("Automatic choices", icon=":material/settings_suggest:")
    reasons = (experiment.summary or {}).get("reasons", {})
    choices.dataframe(
        pd.DataFrame({"Choice": map(_spelt, reasons), "Value and reason": reasons.values()}),
        hide_index=True,
        alt="Automatic choices of this run with their reasons",
    )
    if seconds := (experiment.summary or {}).get("seconds"):
        choices.caption(f"It took {duration(seconds)} on {experiment.device}.")


def _spelt(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _export(experiment: Run, evidence: Evidence) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    for name, frame in evidence.tables.items():
        if len(frame):
            csv_download(row, frame, f"{experiment.id}-{name}", f"{_spelt(name)} (CSV)")
    files = ExperimentFiles(experiment.directory)
    row.download_button(
        "Verdict (JSON)",
        lambda: json.dumps(
            evidence_json(read_measurements(experiment.directory), evidence),
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        ),
        file_name=f"{experiment.id}-verdict.json",
        mime="application/json",
        key="evidence_verdict",
        type="tertiary",
        icon=":material/download:",
    )
    for path, label in ((files.rows, "Raw rows (Parquet)"), (experiment.directory / CONFIG_FILE, CONFIG_FILE)):
        row.download_button(
            label,
            path.read_bytes,
            file_name=f"{experiment.id}-{path.name}",
            key=f"evidence_{path.stem}",
            type="tertiary",
            icon=":material/download:",
        )
    if row.button("Delete run", icon=":material/delete:", key="delete", type="tertiary"):
        confirm_deletion(experiment.id, lambda: session.open_experiment(experiment.kind, ""))
