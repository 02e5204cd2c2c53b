"""What all pages begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from mrd_core.dossier.opening import SHIPPED
from mrd_core.runs import Run, RunState
from mrd_core.scoring.files import require_mrd
from mrd_core.scoring.records import ScoreSummary
from pages.shell import engine, filters, paths, run_picker, session, terms
from pages.shell.notices import empty_state, errors_shown, heading

# Streamlit leaves a hand's breadth around a page, and writes what is chosen in the colour of buttons, which is too
# dark for letters on a dark page. It cuts the names of links short, and pales those in captions, which are pale.
ROOM = """<style>
[data-testid=stButtonGroup] button[aria-checked=true] { color: inherit !important; }
[data-testid=stCaptionContainer] a { color: inherit !important; }
[data-testid=stPageLink] a span { white-space: normal; overflow: visible; }
[data-testid=stMainBlockContainer] { padding: 3.5rem clamp(1rem, 3vw, 2.5rem) 4rem; }
</style>"""


@contextmanager
def page(title: str, sentence: str = "", *, of_run: bool = False) -> Iterator[None]:
    """Show the title and a sentence; an error of the user ends the page as a card.

    Args:
        title: Of the page.
        sentence: What it is for.
        of_run: Whether the page is about the score run at hand, whose name then stands beside the title.
    """
    st.html(ROOM)
    terms.begin()
    top = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    top.title(title, width="content", anchor=False)
    if sentence:
        st.markdown(terms.linked(sentence))
    with errors_shown():
        run = run_picker.show()
        engine.show()
        if session.is_shipped():
            st.info(f"{SHIPPED.cause} {SHIPPED.fix}", icon=":material/lock:")
        if run and of_run:
            filters.follow_link(run, title)
            with top:
                heading(run.title)
        # What tabs, history and bookmarks tell pages and runs apart by.
        st.set_page_config(
            page_title=" · ".join(dict.fromkeys([title, *([run.title] if run else []), "MRD Lens"]))
        )
        yield


def scored_run(none_yet: str, afterwards: str, *, with_mrd: bool = True) -> Run | None:
    """Return the score run at hand where it has succeeded; else say what is missing, and lead to it.

    Args:
        none_yet: Sentence for where there is no run at all.
        afterwards: What comes after the run, for `This score run is queued; … after it.`
        with_mrd: Whether a preview will not do.

    Raises:
        UserError: It is a preview, and that will not do.
    """
    run = session.current_run()
    session.look_for_lost()
    if run is None:
        sentence, button = none_yet, "Score one"
    elif run.state is RunState.SUCCEEDED:
        if with_mrd and (figures := ScoreSummary.of(run)) is not None:
            require_mrd(figures, run.directory)
        return run
    else:
        sentence, button = f"This score run is {run.state}; {afterwards} after it.", "Look at the run"
    if empty_state(sentence, button, "empty_scores"):
        st.switch_page(paths.DIFFICULTY, query_params={session.RUN: run.id} if run else None)
    return None
