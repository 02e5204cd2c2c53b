"""Forget set: from a file, a folder or a hub data set to validated samples."""

import pandas as pd
import streamlit as st

from mrd_core.samples import ForgetSet, Table, guess, load_table, saved_strata, table_from_upload, to_forget_set
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.settings.fields import help_of
from pages.shell import session, tour
from pages.shell.notices import empty_state, errors_shown, literal

SOURCES = {
    "Demo": "demo",
    "Upload": "upload",
    "File or folder": "path",
    "Hub data set": "hub",
    "Saved stratum": "stratum",
}
NONE = "(none)"


def main() -> None:
    """Draw the page."""
    st.title("Forget set")
    st.markdown("The samples that a model is to unlearn. Nothing leaves this machine.")
    tour.show()
    source = st.segmented_control(
        "Source", list(SOURCES), default="Demo", key="source", required=True, persist_state="session"
    )
    with errors_shown():
        table, config = _table(SOURCES[source])
    if table is None:
        _remind()
        return
    with errors_shown():
        config = _options(table, config)
        forget_set = to_forget_set(table, config)
    _report(forget_set)
    session.choose_forget_set(session.Chosen(forget_set, config))
    if st.button("Go on to Difficulty", type="primary", icon=":material/arrow_forward:"):
        session.leave_run()
        st.switch_page(tour.DIFFICULTY)


def _table(source: str) -> tuple[Table | None, ForgetSetConfig]:
    """Return the raw rows of the chosen source; None until the user has named one."""
    if source == "demo":
        config = ForgetSetConfig(source="demo")
        return load_table(config), config
    if source == "upload":
        return _uploaded()
    if source == "stratum":
        return _stratum()
    return _named(hub=source == "hub")


def _stratum() -> tuple[Table | None, ForgetSetConfig]:
    saved = saved_strata(session.settings().home)
    if not saved:
        st.caption("None yet. Select a group on *Characteristics* and save it by name.")
        return None, ForgetSetConfig(source="")
    name = st.selectbox("Saved stratum", list(saved), key="saved_stratum", persist_state="session")
    config = ForgetSetConfig(source=str(saved[name]))
    return load_table(config), config


def _uploaded() -> tuple[Table | None, ForgetSetConfig]:
    limit = session.settings().upload_limit_mb
    file = st.file_uploader(
        "CSV, JSON, JSON Lines or Parquet",
        max_upload_size=limit,
        key="upload",
        help=f"At most {limit} MB (MRD_UPLOAD_LIMIT_MB). The content is checked, whatever the name says.",
    )
    if file is None:
        return None, ForgetSetConfig(source="")
    return table_from_upload(file.name, file.getvalue(), limit * 10**6), ForgetSetConfig(source=file.name)


def _named(*, hub: bool) -> tuple[Table | None, ForgetSetConfig]:
    with st.form("named", border=False):
        name = st.text_input(
            "Hub data set" if hub else "File or folder on this machine",
            key="hub_name" if hub else "path",
            placeholder="locuslab/TOFU" if hub else "data/forget.jsonl",
            persist_state="session",
        ).strip()
        subset, split = (
            st.text_input(
                label, key=f"{label}_{hub}", help=help_of(ForgetSetConfig, field), persist_state="session"
            )
            for label, field in (("Subset", "subset"), ("Split", "split"))
        )
        st.form_submit_button("Read")
    config = ForgetSetConfig(source=name, subset=subset or None, split=split or None)
    if not name:
        return None, config
    config = config.model_copy(update={"source": session.located(name, local=not hub)})
    with st.spinner(f"Reading {literal(name)}"):
        return load_table(config, limit_bytes=session.settings().upload_limit_mb * 10**6), config


def _remind() -> None:
    chosen = session.forget_set()
    if chosen:
        at_hand = f"{literal(chosen.config.source)}, {len(chosen.forget_set)} samples."
        st.info(f"At hand: {at_hand}", icon=":material/check:")
    elif empty_state("No forget set yet. The demo has one, about invented people.", "Use the demo", "empty_demo"):
        session.choose_demo()
        st.switch_page(tour.DIFFICULTY)


def _options(table: Table, config: ForgetSetConfig) -> ForgetSetConfig:
    """Let the user correct what was guessed."""
    st.subheader("First rows")
    st.dataframe(
        table.frame.head(5).astype(str),
        hide_index=True,
        alt=f"First rows of {table.name}, as they are in the file",
    )
    columns = [str(column) for column in table.frame.columns]
    layout, mapping = guess(columns)
    with st.expander("Columns and rows", icon=":material/tune:", expanded=mapping.answer is None):
        chosen_layout = st.selectbox(
            "Layout",
            list(Layout),
            format_func=str,
            help=help_of(ForgetSetConfig, "layout"),
            key=f"layout_{table.name}",
            persist_state="session",
        )
        preset = layout if chosen_layout is Layout.AUTO else chosen_layout
        if preset in (Layout.AUTO, Layout.COLUMNS):
            mapping = _mapping(columns, mapping, table.name)
            chosen_layout = Layout.COLUMNS
        else:
            st.caption(f"Read as {preset}: the layout knows its columns.")
            mapping = ColumnMapping()
        duplicates = st.segmented_control(
            "Identical rows",
            ["keep", "drop"],
            default="keep",
            required=True,
            help=help_of(ForgetSetConfig, "duplicates"),
            key=f"duplicates_{table.name}",
            persist_state="session",
        )
        invalid = st.segmented_control(
            "Rows with an empty cell",
            ["refuse", "skip"],
            default="refuse",
            required=True,
            help=help_of(ForgetSetConfig, "invalid_rows"),
            key=f"invalid_{table.name}",
            persist_state="session",
        )
    return config.model_copy(
        update={"layout": chosen_layout, "columns": mapping, "duplicates": duplicates, "invalid_rows": invalid}
    )


def _mapping(columns: list[str], guessed: ColumnMapping, name: str) -> ColumnMapping:
    parts = {}
    for place, part in zip(st.columns(len(ColumnMapping.model_fields)), ColumnMapping.model_fields, strict=True):
        options = [NONE, *columns]
        found = getattr(guessed, part)
        chosen = place.selectbox(
            part.replace("_", " ").capitalize(),
            options,
            index=options.index(found) if found in options else 0,
            help=help_of(ColumnMapping, part),
            key=f"column_{part}_{name}",
            persist_state="session",
        )
        parts[part] = "" if chosen == NONE else chosen
    return ColumnMapping(**(parts | {"answer": parts["answer"] or None}))


def _report(forget_set: ForgetSet) -> None:
    report, frame = forget_set.report, forget_set.frame
    st.subheader("What will be scored")
    rows, samples, blank, twice = st.columns(4)
    rows.metric("Rows read", report.n_rows)
    samples.metric("Samples", report.n_valid)
    blank.metric("Left out (empty cell)", report.n_skipped_blank)
    twice.metric(
        f"Identical rows ({'kept' if report.duplicates == 'keep' else 'dropped'})", report.n_duplicate_rows
    )
    for note in report.notes:
        st.text(f"· {note}")
    shown = frame.rename(columns={"sample_id": "Id", "prompt": "Prompt", "answer": "Answer"})
    shown = shown.rename(columns={"split": "Split", "training_count": "Times in training"})
    st.dataframe(_without_empty_columns(shown), hide_index=True, height=320, alt="The samples of the forget set")


def _without_empty_columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[:, frame.notna().any() & (frame != "").any()]


session.require_router()
main()
