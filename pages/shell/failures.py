"""What nobody foresaw: an exception that is no user's error, on the page and in the log, without its message."""

from __future__ import annotations

import logging
import traceback

import streamlit as st

LOG = logging.getLogger(__name__)
# Where Streamlit logs what a page did not catch, as in a part of it that runs alone.
UNCAUGHT = "streamlit.error_util"
TITLE = "The program has failed"


def account(error: BaseException) -> str:
    """Return where an exception came from and its type; its message may quote a sample, and is left out."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(error).__name__}"


def show(error: Exception) -> None:
    """Show a card that says what can be done, and log where the exception came from."""
    LOG.error("A page failed.\n%s", account(error))
    last = traceback.extract_tb(error.__traceback__)[-1]
    with st.container(border=True):
        st.error(f"**{TITLE}**", icon=":material/error:")
        st.text(f"{type(error).__name__} at line {last.lineno} of {last.filename}, in {last.name}.")
        st.text(
            "→ This is a fault of the program, not yours. Runs go on, and results are safe. Reload the page; if "
            "it comes back, report the line above. The server's log has the whole account, without your texts."
        )


class WithoutMessages(logging.Filter):
    """Has an exception logged by where it came from, without its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; all pass."""
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.args = f"{record.getMessage()}\n{account(record.exc_info[1])}", ()
            record.exc_info = record.exc_text = None
        return True
