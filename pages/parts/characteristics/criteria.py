"""The paper's criteria side by side: a panel each, its threshold adjustable, its groups selectable."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
import streamlit as st

from analysis.characteristics.claims import Claim
from analysis.characteristics.judgement import Judgement, remains
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA, Criterion, Rule, Threshold
from analysis.figures import characteristics as figures
from pages.shell import filters, session
from pages.shell.downloads import figure_download

# As many panels in a row as can be read, at most three: Streamlit's columns keep their number on narrow screens.
GRID = """<style>.st-key-panels {
  display: grid; align-items: stretch;
  grid-template-columns: repeat(auto-fill, minmax(max(18rem, (100% - 2rem) / 3), 1fr));
}</style>"""
# A panel is too narrow for plotly's whole tool bar beside its title; the wheel and the reset button zoom as well.
CONFIG = {"modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d"]}
SYMBOLS = {"agrees": "✓ agrees", "disagrees": "✗ disagrees", "cannot tell": "? cannot tell"}


def thresholds() -> dict[str, Threshold]:
    """Let the user move the thresholds; by default they are the paper's."""
    chosen = {}
    with st.expander("Thresholds", icon=":material/tune:"):
        st.caption(
            "Above the threshold is the high group. The paper's rules are set; a fixed value is yours to give."
        )
        row = st.container(horizontal=True)
        for criterion in CRITERIA:
            with row.container():
                chosen[criterion.name] = _threshold(criterion)
    return chosen


def _threshold(criterion: Criterion) -> Threshold:
    rule = st.selectbox(
        criterion.title,
        list(Rule),
        index=list(Rule).index(criterion.default.rule),
        format_func=str,
        key=f"rule_{criterion.name}",
        persist_state="session",
    )
    if rule is not Rule.FIXED:
        return Threshold(rule)
    value = st.number_input(
        f"Above, {criterion.title.lower()}",
        value=criterion.default.value or 0.0,
        format="%g",
        key=f"level_{criterion.name}",
        label_visibility="collapsed",
        persist_state="session",
    )
    return Threshold(rule, float(value))


def panels(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:
    """Show a panel for each criterion, and all verdicts in the last place of the grid."""
    selected = None if len(shown) == len(found.table) else set(shown["sample_id"])
    st.html(GRID)
    grid = st.container(key="panels")
    for claim in judgement.shown:
        with grid.container(border=True, height="stretch"):
            _panel(found, judgement, claim, selected)
    with grid.container(border=True, height="stretch"):
        _verdicts(judgement)
    st.caption("Click a point to look at its sample. The tool bar of a chart draws a box or a lasso around many.")


def _verdicts(judgement: Judgement) -> None:
    st.markdown("**Does this model show what the paper says?**")
    for at, claim in enumerate(judgement.shown):
        verdicts = (f"{norm}: {SYMBOLS[claims[at].verdict]}" for norm, claims in judgement.claims.items())
        left = remains(judgement, claim, judgement.chosen)["length_held"]
        held = "" if math.isnan(left) else f" · length held: {left:+.2f}"
        st.markdown(f"{claim.criterion.title}  \n:small[{' · '.join(verdicts)}{held}]")
    st.caption(
        "Small MRD: hard to unlearn. *Length held*: rank coefficient that is left once the number of tokens is "
        "accounted for; its sign may turn."
    )


def _panel(found: Characterised, judgement: Judgement, claim: Claim, selected: set[str] | None) -> None:
    criterion = claim.criterion
    if claim.comparison is None:
        st.markdown(f"**{criterion.title}**")
        st.markdown(f"{claim.reason[:1].upper()}{claim.reason[1:]}.")
        if claim.feature is None:
            st.button(
                "Read again",
                icon=":material/replay:",
                key=f"missing_{criterion.name}",
                help="With a training corpus, another pipeline or another language",
                on_click=session.open_reading,
                args=("",),
            )
        return
    strata = judgement.strata[criterion.name]
    key = f"panel_{criterion.name}_{session.charts_epoch()}"
    figure = figures.panel(found.table, strata, claim, selected)
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(filters.take_points, key, f"from {criterion.title.lower()}"),
        selection_mode=("points", "box", "lasso"),
        config=CONFIG,
        alt=f"MRD of the groups of {criterion.title.lower()}: {claim.verdict}",
    )
    low, high, download = st.columns([4, 4, 1.4])
    with download:
        figure_download(figure, f"panel_{criterion.name}", label="")
    for place, side, name in ((low, "low", criterion.low), (high, "high", criterion.high)):
        place.button(
            f":small[{name.capitalize()}]",
            key=f"select_{criterion.name}_{side}",
            width="stretch",
            help=f"Select the {name} samples, here and in every other view",
            on_click=session.select_many,
            args=(set(found.table.loc[strata == side, "sample_id"]), f"{name} ({criterion.title.lower()})"),
        )
