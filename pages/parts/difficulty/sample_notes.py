"""The bookmark and the note on the sample that is looked at."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from mrd_core.runs import Run
from mrd_core.scoring.notes import LONGEST, SampleNote, write_note
from pages.shell import session
from pages.shell.notices import errors_shown

BOOKMARK, NOTE = "bookmark", "sample_note"


def show(run: Run, notes: Mapping[str, SampleNote], selected: str) -> None:
    """Let the user mark a sample and write on it; what is written stays with the run.

    Args:
        run: The score run.
        notes: Those of the run, by sample id.
        selected: The sample that is looked at.
    """
    noted = notes.get(selected, SampleNote())
    # The file says what is noted, whatever these controls said of the sample before.
    for key, value in ((BOOKMARK, noted.bookmarked), (NOTE, noted.note)):
        if st.session_state.get(key) != value:
            st.session_state[key] = value

    def keep() -> None:
        # A browser that has just come back may send only the control that was touched.
        note = SampleNote(
            note=st.session_state.get(NOTE, noted.note).strip(),
            bookmarked=st.session_state.get(BOOKMARK, noted.bookmarked),
        )
        with errors_shown(ends_page=False):
            session.require_writable()
            write_note(run.directory, selected, note)

    row = st.container(horizontal=True, vertical_alignment="bottom")
    row.text_input(
        "Note", key=NOTE, max_chars=LONGEST, on_change=keep, placeholder="On this sample; kept with the run"
    )
    row.checkbox("Bookmark", key=BOOKMARK, on_change=keep, help="To find the sample again")
    marked = {sample_id for sample_id, note in notes.items() if note.bookmarked}
    if marked:
        row.button(
            f"Bookmarked ({len(marked)})",
            key="show_bookmarked",
            icon=":material/bookmark:",
            type="tertiary",
            on_click=session.select_many,
            args=(marked, "bookmarked"),
            help="Shows these samples alone",
        )
