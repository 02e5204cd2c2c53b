"""The browser's history: one entry for what a user does, however many parts of the address follow from it."""

from __future__ import annotations

import streamlit as st

# Streamlit adds an entry whenever a page writes to its address, and one more for the page itself. What nobody has
# asked for by mouse or key since the last entry completes that entry, so that Back leads to what was seen before.
ONE_ENTRY = """<script>
if (!window.oneEntry) {
    window.oneEntry = true;
    const push = history.pushState.bind(history);
    let isAsked = false;
    for (const event of ["pointerdown", "keydown", "click"])
        addEventListener(event, () => { isAsked = true; }, true);
    addEventListener("popstate", () => { isAsked = false; }, true);
    history.pushState = (...entry) => {
        isAsked ? push(...entry) : history.replaceState(...entry);
        isAsked = false;
    };
}
</script>"""


def tidy() -> None:
    """Have the browser add one entry to its history for each thing that the user does."""
    st.sidebar.html(ONE_ENTRY, unsafe_allow_javascript=True)
