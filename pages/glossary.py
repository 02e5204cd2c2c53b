"""Glossary: what the words, measures, metrics and methods of the app mean."""

import streamlit as st

from analysis.glossary import Term, glossary
from pages.shell.page import page
from pages.shell.wording import plain

# In the URL, so that a link leads to a term.
TERM = "term"


def _rank(name: str, text: str) -> int:
    return 0 if name == text else 1 if name.startswith(text) or f"({text})" in name else 2


def _entry(term: Term, *, with_kind: bool) -> str:
    """Return a term as Markdown: name, meaning, formula, source."""
    kind = f" :small[{term.kind}]" if with_kind else ""
    formula = f"$\\displaystyle {term.formula}$" if term.formula else ""
    source = f":small[{plain(term.source)}]" if term.source else ""
    lines = (f"**{plain(term.name)}**{kind}", plain(term.meaning), formula, source)
    return "  \n".join(filter(None, lines))


with page("Glossary", "Every word and abbreviation of the app, with its formula and where it is from."):
    terms = glossary()
    kinds = list(dict.fromkeys(term.kind for term in terms))
    text = st.text_input(
        "Find",
        st.query_params.get(TERM, ""),
        key="glossary_find",
        icon=":material/search:",
        placeholder="MRD, reliability, UA, …",
    )
    if text:
        st.query_params[TERM] = text
        matching = [term for term in terms if term.matches(text)]
        # Whose name it is comes first, then whose name begins so.
        matching.sort(key=lambda term: (_rank(term.name.lower(), text.lower()), term.name.lower()))
    else:
        st.query_params.pop(TERM, None)
        kind = st.pills(
            "Kind", kinds, default=kinds[0], required=True, format_func="{}s".format, key="glossary_kind"
        )
        matching = [term for term in terms if term.kind == kind]
    if matching:
        st.markdown("\n\n".join(_entry(term, with_kind=bool(text)) for term in matching))
    else:
        st.info("There is no such term. Try a part of it.", icon=":material/search_off:")
