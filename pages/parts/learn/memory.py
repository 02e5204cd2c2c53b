"""What the learner chose: Streamlit forgets an input that is not drawn, and here one step is drawn at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import streamlit as st

CHOSEN = "learn_chosen"
SPOKEN = "learn_spoken"
# Streamlit writes the value of a slider in the colour of buttons, too dark for letters on a dark page.
LOOK = """<style>
.st-key-learn [data-testid=stSliderThumbValue] { color: inherit !important; }
[class*=st-key-learn_spoken] { outline: 3px solid #E08A1E; outline-offset: .5rem; border-radius: .25rem; }
@media (min-width: 1200px) {
  .st-key-learn [data-testid=stMarkdownContainer] :is(p, li) { font-size: 1.2rem; line-height: 1.55; }
}
</style>"""
# Named in the script, so that another one is another script, which the browser runs.
SCROLL = """<script>
/* {name} */
document.querySelector(".st-key-learn_spoken_{name}")?.scrollIntoView({{
    block: "nearest",
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
}});
</script>"""


def key_of(name: str) -> str:
    """Return the key of an input."""
    return f"learn_{name}"


def chosen(name: str, default: Any = None) -> Any:
    """Return what was chosen in an input, on whatever step it stands."""
    return st.session_state.get(CHOSEN, {}).get(name, default)


def keep(name: str) -> None:
    """Keep what has just been chosen in an input."""
    st.session_state.setdefault(CHOSEN, {})[name] = st.session_state[key_of(name)]


def radio(label: str, options: Sequence[str], name: str) -> str | None:
    """Ask for one of several options, none of which is chosen at first; return the one that is."""
    options, known = list(options), chosen(name)
    at = options.index(known) if known in options else None
    return st.radio(label, options, at, key=key_of(name), on_change=keep, args=(name,))


@contextmanager
def spoken_of(name: str, *, is_spoken_of: bool = True) -> Iterator[None]:
    """Outline what is drawn within while it is spoken of, and scroll to it when it comes to be."""
    with st.container(key=f"{SPOKEN}_{name}" if is_spoken_of else key_of(name)):
        yield
    if is_spoken_of:
        st.html(SCROLL.format(name=name), unsafe_allow_javascript=True)
