"""Two scored forget sets side by side: is one easier to unlearn than the other?"""

from __future__ import annotations

import streamlit as st

from analysis.characteristics.compare_sets import Difference, compared
from analysis.characteristics.runs import Characterised
from analysis.difficulty import Variant
from analysis.figures import characteristics as figures
from mrd_core.runs import Run, RunState
from pages.shell import session
from pages.shell.charts import chart
from pages.shell.configs import BY_ATTEMPT
from pages.shell.notices import errors_shown, literal


def show(run: Run, characterised: Characterised) -> None:
    """Let the user choose another score run, and compare."""
    st.subheader("Two forget sets")
    others = {
        other.id: other
        for other in session.store().list(limit=200, states=[RunState.SUCCEEDED])
        if other.kind == "score" and other.id != run.id
    }
    if not others:
        st.caption("Score a second forget set (or a saved stratum) to see whether it is easier than this one.")
        return
    chosen = st.selectbox(
        "Compare with",
        list(others),
        index=None,
        placeholder="Another score run",
        format_func=lambda run_id: f"{others[run_id].title} · {run_id}",
        key="other_run",
    )
    if chosen is None:
        return
    # The other run may be at fault, and what follows is about this one.
    with errors_shown(ends_page=False):
        difference = _compared(run, others[chosen], characterised.variant)
        for caveat in difference.caveats:
            st.warning(literal(caveat), icon=":material/warning:")
        st.markdown(difference.sentence)
        figure = figures.two_sets(
            difference.first, difference.second, ("this set", "the other"), difference.comparison
        )
        chart(figure, "two_sets", "MRD of two scored forget sets", "two_sets")


@st.cache_data(show_spinner="Comparing the two sets", max_entries=4, hash_funcs=BY_ATTEMPT)
def _compared(first: Run, second: Run, variant: Variant) -> Difference:
    return compared(first.directory, second.directory, variant)
