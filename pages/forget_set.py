"""Forget set: from a file, a folder or a hub data set to validated samples."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from mrd_core.samples import ForgetSet, Table, guess, load_table, saved_strata, table_from_upload, to_forget_set
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.settings.fields import help_of
from pages.shell import session, tour
from pages.shell.inputs import choices_of
from pages.shell.notices import empty_state, errors_shown, literal
from pages.shell.source import named

NONE = "(none)"
Rows = tuple[Table | None, ForgetSetConfig]


def main() -> None:
    """Draw the page."""
    st.title("Forget set")
    st.markdown("The samples that a model is to unlearn. Nothing leaves this machine.")
    tour.show()
    source = st.segmented_control(
        "Source", list(SOURCES), default="Demo", key="source", required=True, persist_state="session"
    )
    with errors_shown():
        table, config = SOURCES[source]()
    if table is None:
        _remind()
        return
    with errors_shown():
        config = _options(table, config)
        forget_set = to_forget_set(table, config)
    _report(forget_set)
    session.choose_forget_set(forget_set, config)
    if st.button("Go on to Difficulty", type="primary", icon=":material/arrow_forward:"):
        session.leave_run()
        st.switch_page(tour.DIFFICULTY)


def _demo() -> Rows:
    config = ForgetSetConfig(source="demo")
    return load_table(config), config


def _stratum() -> Rows:
    saved = saved_strata(session.settings().home)
    if not saved:
        st.caption("None yet. Select a group on *Characteristics* and save it by name.")
        return None, ForgetSetConfig(source="")
    name = st.selectbox("Saved stratum", list(saved), key="saved_stratum", persist_state="session")
    config = ForgetSetConfig(source=str(saved[name]))
    return load_table(config), config


def _uploaded() -> Rows:
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


def _named(kind: str) -> Rows:
    with st.form("named", border=False):
        source = named("forget_set", "forget set", kind, "data/forget.jsonl")
        st.form_submit_button("Read")
    config = ForgetSetConfig(source=source.name, subset=source.subset or None, split=source.split or None)
    if not source.name:
        return None, config
    config = config.model_copy(update={"source": session.located(source.name, local=kind == "path")})
    with st.spinner(f"Reading {literal(source.name)}"):
        return load_table(config, limit_bytes=session.settings().upload_limit_mb * 10**6), config


def _remind() -> None:
    chosen = session.forget_set()
    if chosen:
        at_hand = f"{literal(chosen.config.source)}, {len(chosen.forget_set)} samples."
        st.info(f"At hand: {at_hand}", icon=":material/check:")
    elif empty_state("No forget set yet. The demo has one, about invented people.", "Use the demo", "empty_demo"):
        session.choose_demo()
        st.switch_page(tour.DIFFICULTY)


# The raw rows of each source and how they are read; no rows until the user has named some.
SOURCES: dict[str, Callable[[], Rows]] = {
    "Demo": _demo,
    "Upload": _uploaded,
    "File or folder": partial(_named, "path"),
    "Hub data set": partial(_named, "hub"),
    "Saved stratum": _stratum,
}


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
        handling = {
            field: st.segmented_control(
                label,
                choices_of(ForgetSetConfig, field),
                default=ForgetSetConfig.model_fields[field].default,
                required=True,
                help=help_of(ForgetSetConfig, field),
                key=f"{field}_{table.name}",
                persist_state="session",
            )
            for field, label in (("duplicates", "Identical rows"), ("invalid_rows", "Rows with an empty cell"))
        }
    return config.model_copy(update={"layout": chosen_layout, "columns": mapping} | handling)


def _mapping(columns: list[str], guessed: ColumnMapping, name: str) -> ColumnMapping:
    parts = {}
    for place, part in zip(st.columns(len(ColumnMapping.model_fields)), ColumnMapping.model_fields, strict=True):
        options = [NONE, *columns]
        guess_of_part = getattr(guessed, part)
        chosen = place.selectbox(
            part.replace("_", " ").capitalize(),
            options,
            index=options.index(guess_of_part) if guess_of_part in options else 0,
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
    titles = {
        "sample_id": "Id",
        "prompt": "Prompt",
        "answer": "Answer",
        "split": "Split",
        "training_count": "Times in training",
    }
    filled = frame.loc[:, frame.notna().any() & (frame != "").any()]
    st.dataframe(filled.rename(columns=titles), hide_index=True, height=320, alt="The samples of the forget set")


main()
