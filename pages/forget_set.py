"""Forget set: from a file, a folder or a hub data set to validated samples."""

import streamlit as st

from mrd_core.samples import ForgetSet, Table, guess, load_table, saved_strata, table_from_upload, to_forget_set
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.samples.reading import ALL
from mrd_core.settings.fields import declared, help_of
from pages.shell import paths, session
from pages.shell.inputs import select
from pages.shell.notices import empty_state, errors_shown, literal
from pages.shell.page import page
from pages.shell.source import named

NONE = "(none)"
# Kind of each source, as `source.named` asks for it.
SOURCES = {"Demo": "", "Upload": "", "File or folder": "path", "Hub data set": "hub", "Saved stratum": ""}
TITLES = {
    "sample_id": "Id",
    "prompt": "Prompt",
    "answer": "Answer",
    "split": "Split",
    "training_count": "Times in training",
}


def main() -> None:
    """Draw the page below its title."""
    source = st.segmented_control(
        "Source", list(SOURCES), default="Demo", key="source", required=True, persist_state="session"
    )
    with errors_shown():
        table, config = _uploaded() if source == "Upload" else _read(source)
    if table is not None:
        with errors_shown():
            config = _options(table, config)
            forget_set = to_forget_set(table, config)
        _report(forget_set)
        session.choose_forget_set(forget_set, config)
        if st.button("Go on to Difficulty", type="primary", icon=":material/arrow_forward:"):
            session.leave_run()
            st.switch_page(paths.DIFFICULTY)
    elif chosen := session.forget_set():
        at_hand = f"{literal(chosen.config.source)}, {len(chosen.forget_set)} samples."
        st.info(f"At hand: {at_hand}", icon=":material/check:")
    elif empty_state("No forget set yet. The demo has one, about invented people.", "Use the demo", "empty_demo"):
        session.choose_demo()
        st.switch_page(paths.DIFFICULTY)


def _uploaded() -> tuple[Table | None, ForgetSetConfig]:
    """Return the raw rows of an uploaded file, and how they are read; no rows before there is one."""
    limit = session.settings().upload_limit_mb
    file = st.file_uploader(
        "CSV, JSON, JSON Lines, Parquet, Arrow or text",
        max_upload_size=limit,
        key="upload",
        help=f"At most {limit} MB (MRD_UPLOAD_LIMIT_MB). The content is checked, whatever the name says.",
    )
    if file is None:
        return None, ForgetSetConfig(source="")
    table, split = table_from_upload(file.name, file.getvalue(), limit * 10**6), None
    if len(table.splits) > 1:
        split = st.selectbox(
            "Split",
            [*table.splits, *({ALL} - set(table.splits))],
            index=None,
            placeholder="Its rows are of several splits: choose one, or all",
            key=f"upload_split_{file.file_id}",
        )
        if split is None:
            return None, ForgetSetConfig(source="")
    return table.of_split(split), ForgetSetConfig(source=file.name, split=split)


def _read(source: str) -> tuple[Table | None, ForgetSetConfig]:
    """Return the raw rows of another source, and how they are read; no rows until the user has named some."""
    config, kind = ForgetSetConfig(source="demo"), SOURCES[source]
    if kind:
        with st.form("named", border=False):
            rows = named("forget_set", "forget set", kind, "data/forget.jsonl")
            st.form_submit_button("Read")
        config = ForgetSetConfig(source=rows.name, subset=rows.subset or None, split=rows.split or None)
        if not rows.name:
            return None, config
        config = config.model_copy(update={"source": session.located(rows.name, local=kind == "path")})
        with st.spinner(f"Reading {literal(rows.name)}"):
            return load_table(config, limit_bytes=session.settings().upload_limit_mb * 10**6), config
    if source == "Saved stratum":
        saved = saved_strata(session.settings().home)
        if not saved:
            st.caption("None yet. Select a group on *Characteristics* and save it by name.")
            return None, config
        name = st.selectbox(source, list(saved), key="saved_stratum", persist_state="session")
        config = ForgetSetConfig(source=str(saved[name]))
    return load_table(config), config


def _options(table: Table, config: ForgetSetConfig) -> ForgetSetConfig:
    """Let the user correct what was guessed."""
    st.header("First rows")
    st.dataframe(
        table.frame.head(5).astype(str),
        hide_index=True,
        alt=f"First rows of {table.name}, as they are in the file",
    )
    columns = [str(column) for column in table.frame.columns]
    layout, guessed = guess(table.frame)
    with st.expander("Columns and rows", icon=":material/tune:", expanded=guessed.answer is None):
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
            mapping = _mapping(columns, guessed, table.name)
            # Where nothing is corrected, a guess is refused here for the same reasons as in the command line.
            if chosen_layout is Layout.AUTO and all(
                (value or None) == getattr(guessed, part) for part, value in mapping
            ):
                mapping = ColumnMapping()
            else:
                chosen_layout = Layout.COLUMNS
        else:
            st.caption(f"Read as {preset}: the layout knows its columns.")
            mapping = ColumnMapping()
        handling = {
            field: st.segmented_control(
                label,
                declared(ForgetSetConfig, field).choices,
                default=declared(ForgetSetConfig, field).default,
                required=True,
                help=help_of(ForgetSetConfig, field),
                key=f"{field}_{table.name}",
                persist_state="session",
            )
            for field, label in (("duplicates", "Identical rows"), ("invalid_rows", "Rows with an empty cell"))
        }
    return config.model_copy(update={"layout": chosen_layout, "columns": mapping} | handling)


def _mapping(columns: list[str], guessed: ColumnMapping, name: str) -> ColumnMapping:
    parts, titles = {}, {"": NONE} | {column: column for column in columns}
    for place, part in zip(st.columns(len(ColumnMapping.model_fields)), ColumnMapping.model_fields, strict=True):
        with place:
            parts[part] = select(
                part.replace("_", " ").capitalize(),
                titles,
                f"column_{part}_{name}",
                getattr(guessed, part),
                help=help_of(ColumnMapping, part),
                persist_state="session",
            )
    return ColumnMapping(**(parts | {"answer": parts["answer"] or None}))


def _report(forget_set: ForgetSet) -> None:
    report, frame = forget_set.report, forget_set.frame
    st.header("What will be scored")
    counts = {
        "Rows read": report.n_rows,
        "Samples": report.n_valid,
        "Left out (empty cell)": report.n_skipped_blank,
        f"Identical rows ({'kept' if report.duplicates == 'keep' else 'dropped'})": report.n_duplicate_rows,
    }
    for place, (title, count) in zip(st.columns(len(counts)), counts.items(), strict=True):
        place.metric(title, count)
    for note in report.notes:
        st.text(f"· {note}")
    filled = frame.loc[:, frame.notna().any() & (frame != "").any()]
    st.dataframe(filled.rename(columns=TITLES), hide_index=True, height=320, alt="The samples of the forget set")


with page("Forget set", "The samples that a model is to unlearn. Nothing leaves this machine."):
    main()
