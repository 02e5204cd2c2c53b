"""Two scored forget sets side by side: is one easier to unlearn than the other?"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from analysis.characteristics.compare_sets import Difference, compared
from analysis.characteristics.runs import Characterised
from analysis.difficulty import Variant
from analysis.figures import characteristics as figures
from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState
from pages.shell import session
from pages.shell.downloads import figure_download
from pages.shell.notices import literal, show_error


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
    try:
        difference = _compared(
            run.id, chosen, str(run.directory), str(others[chosen].directory), characterised.variant
        )
    except UserError as error:
        # The other run is at fault, and what follows is about this one.
        show_error(error)
        return
    for caveat in difference.caveats:
        st.warning(literal(caveat), icon=":material/warning:")
    st.markdown(difference.sentence)
    figure = figures.two_sets(
        difference.first, difference.second, ("this set", "the other"), difference.comparison
    )
    st.plotly_chart(figure, key="two_sets", alt="MRD of two scored forget sets")
    figure_download(figure, "two_sets")


@st.cache_data(show_spinner="Comparing the two sets", max_entries=4)
def _compared(first_id: str, second_id: str, first: str, second: str, variant: Variant) -> Difference:  # noqa: ARG001
    return compared(Path(first), Path(second), variant)
