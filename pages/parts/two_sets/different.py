"""Two forget sets: is one easier to unlearn than the other?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.difficulty import Variant
from analysis.figures import characteristics as figures
from analysis.sets.different import Difference, compared
from mrd_core.runs import Run
from pages.shell.charts import chart
from pages.shell.configs import BY_ATTEMPT
from pages.shell.wording import capitalised, plain


def show(chosen: Sequence[tuple[str, Run]], variant: Variant) -> None:
    """Show the verdict on two runs, or why there is none, and how MRD is distributed in either set."""
    (name, first), (other_name, second) = chosen
    difference = _compared(first, second, variant)
    if difference.obstacle:
        st.warning(plain(difference.sentence), icon=":material/block:")
        return
    for caveat in difference.caveats:
        st.warning(plain(caveat), icon=":material/warning:")
    verdict, _, reason = difference.sentence.partition(": ")
    st.header(verdict)
    st.markdown(plain(capitalised(reason)))
    figure = figures.two_sets(difference.first, difference.second, (name, other_name), difference.comparison)
    chart(figure, "two_sets", "MRD of two scored forget sets", "two_sets")


@st.cache_data(show_spinner="Comparing the two sets", max_entries=4, hash_funcs=BY_ATTEMPT)
def _compared(first: Run, second: Run, variant: Variant) -> Difference:
    return compared(first.directory, second.directory, variant)
