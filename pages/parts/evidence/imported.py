"""Measures from elsewhere: which joined a score run, the way to remove one, and the form that imports another."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mrd_core.runs import Run
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import ImportConfig, import_column, imported, read_upload, remove_column
from pages.shell import session
from pages.shell.inputs import Form
from pages.shell.notices import errors_shown, literal

KEY = "evidence_imported"
FORM = Form(KEY)
# What the file decides: a column of it, or a name for one.
LEFT = {"column": "Column with the numbers", "title": "Title", "harder": "Hard samples have a value that is"}
RIGHT = {"id_column": "Column with the ids", "in_order": "Without ids, in order", "unknown": "Unknown ids"}


def show(run: Run) -> None:
    """Show the imported columns of a score run, and the form for another one."""
    files = ScoreFiles(run.directory)
    with st.expander("A rival of your own", icon=":material/upload_file:", key=KEY, on_change="rerun") as place:
        if place.open:
            st.caption(
                "Any file of sample ids and numbers joins the league table: what another method or paper says of "
                "these samples. It is stored with the scores, and no model is asked."
            )
            _listed(files)
            with errors_shown(ends_page=False):
                _form(files)


def _listed(files: ScoreFiles) -> None:
    columns, broken = imported(files)
    for name, column in columns.items():
        about = f"{literal(column.title)} · {column.count} of {len(column.values)} samples · hard: {column.harder}"
        _line(files, name, f"{about} · from {literal(column.source)}", column.notes)
    for name in broken:
        _line(files, name, f"{literal(name)} cannot be read", ())


def _line(files: ScoreFiles, name: str, about: str, notes: Sequence[str]) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown(about, help=" ".join(notes) or None)
    if row.button("Remove", icon=":material/close:", key=f"{KEY}_remove_{name}", type="tertiary"):
        with errors_shown(ends_page=False):
            session.require_writable()
            remove_column(files, name)
            st.rerun()


def _form(files: ScoreFiles) -> None:
    limit = session.settings().upload_limit_mb
    file = st.file_uploader(
        "CSV, JSON, JSON Lines, Parquet, Arrow or safetensors", max_upload_size=limit, key=f"{KEY}_file"
    )
    if file is None:
        return
    values = FORM.columns(ImportConfig, LEFT, RIGHT)
    if st.button("Import", type="primary", icon=":material/add:", key=f"{KEY}_import"):
        # What is left empty was not given.
        config = ImportConfig.model_validate({name: value for name, value in values.items() if value != ""})
        session.require_writable()
        import_column(read_upload(file.name, file.getvalue()), config, files)
        st.rerun()
