"""What a finished experiment shows: verdict, charts, what was found elsewhere, cautions, tables, export."""

from __future__ import annotations

import streamlit as st

from analysis.elsewhere import MODELS
from analysis.evidence.interpretation import Evidence
from analysis.evidence.measurements import read_measurements
from analysis.export.evidence import evidence_json
from analysis.export.files import json_file
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.runs import Run
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.runs.records import RunSummary
from pages.parts.evidence.kinds import presentation
from pages.shell import deletion, session
from pages.shell.charts import reasons_table
from pages.shell.downloads import csv_download, download
from pages.shell.inputs import select
from pages.shell.terms import linked
from pages.shell.wording import duration


def show(run: Run, experiment: Run, evidence: Evidence) -> None:
    """Show an experiment that succeeded.

    Args:
        run: The score run.
        experiment: That was carried out on it.
        evidence: What it shows.
    """
    with st.container(border=True):
        st.markdown(linked(f":material/gavel: **{evidence.verdict}**"))
        if evidence.findings:
            st.markdown(linked("\n".join(f"- {finding}" for finding in evidence.findings)))
        st.caption(linked(f":material/menu_book: {evidence.paper}"))
        st.caption(linked(f":material/compare: Elsewhere: {evidence.elsewhere}"), help=MODELS)
    for warning in RunSummary.model_validate(experiment.summary).warnings:
        st.warning(warning, icon=":material/warning:")
    presentation(experiment.kind).show(run, experiment, evidence)
    with st.expander("How far this can be trusted", icon=":material/info:", expanded=True):
        st.markdown(linked("\n".join(f"- {caveat}" for caveat in evidence.caveats)))
    _behind(experiment, evidence)
    _export(experiment, evidence)


def _behind(experiment: Run, evidence: Evidence) -> None:
    """Offer the figures behind the verdict and the choices behind the figures, drawn up only while looked at."""
    frames = {name: frame for name, frame in evidence.tables.items() if len(frame)}
    tables = st.expander("Tables", icon=":material/table:", key="evidence_tables", on_change="rerun")
    if tables.open:
        with tables:
            name = select("Table", {name: _spelt(name) for name in frames}, "evidence_table")
            if name:
                st.dataframe(frames[name], hide_index=True, placeholder="–", alt=_spelt(name))
    summary = RunSummary.model_validate(experiment.summary)
    with st.expander("Automatic choices", icon=":material/settings_suggest:"):
        reasons_table({_spelt(name): reason for name, reason in summary.reasons.items()})
        if summary.seconds:
            st.caption(f"It took {duration(summary.seconds)} on {experiment.device}.")


def _spelt(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _export(experiment: Run, evidence: Evidence) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    for name, frame in evidence.tables.items():
        if len(frame):
            csv_download(frame, f"{experiment.id}-{name}", f"{_spelt(name)} (CSV)", row)
    download(
        row,
        "Verdict (JSON)",
        lambda: json_file(evidence_json(read_measurements(experiment.directory), evidence)),
        f"{experiment.id}-verdict.json",
        "evidence_verdict",
        "tertiary",
    )
    for path, label in (
        (ExperimentFiles(experiment.directory).rows, "Raw rows (Parquet)"),
        (experiment.directory / CONFIG_FILE, CONFIG_FILE),
    ):
        name, key = f"{experiment.id}-{path.name}", f"evidence_{path.stem}"
        download(row, label, path.read_bytes, name, key, "tertiary")
    deletion.offer(experiment.id, lambda: session.open_experiment(experiment.kind, ""), row, kind="tertiary")
