"""The paper's criteria side by side: a panel each, its threshold adjustable, its groups selectable."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis import characteristic_figures as figures
from analysis.characteristics import Characterised
from analysis.claims import Claim
from analysis.judgement import Judgement
from analysis.strata import CRITERIA, Criterion, Rule, Threshold
from pages.components import session

COLUMNS = 3
SYMBOLS = {"agrees": "✓ agrees", "disagrees": "✗ disagrees", "cannot tell": "? cannot tell"}


def thresholds() -> dict[str, Threshold]:
    """Let the user move the thresholds; by default they are the paper's."""
    chosen = {}
    with st.expander("Thresholds", icon=":material/tune:"):
        st.caption(
            "Above the threshold is the high group. The paper's rules are set; a fixed value is yours to give."
        )
        for column, criterion in zip(st.columns(len(CRITERIA)), CRITERIA, strict=True):
            with column:
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
    places = [place for _ in range(0, len(CRITERIA) + 1, COLUMNS) for place in st.columns(COLUMNS)]
    for place, claim in zip(places, judgement.shown, strict=False):
        with place.container(border=True, height="stretch"):
            _panel(found, judgement, claim, selected)
    with places[len(CRITERIA)].container(border=True, height="stretch"):
        _verdicts(judgement)


def _verdicts(judgement: Judgement) -> None:
    st.markdown("**Does this model show what the paper says?**")
    for at, claim in enumerate(judgement.shown):
        verdicts = (f"{norm}: {SYMBOLS[claims[at].verdict]}" for norm, claims in judgement.claims.items())
        st.markdown(f"{claim.criterion.title}  \n:small[{' · '.join(verdicts)}]")
    st.caption(
        "Small MRD: hard to unlearn. A sum over tokens grows with length; *Length held* shows what that leaves."
    )


def titles(found: Characterised) -> dict[str, str]:
    """Return the titles of all columns that a chart may name."""
    return {name: described["title"] for name, described in found.about.features.items()} | {"mrd": "MRD"}


def _panel(found: Characterised, judgement: Judgement, claim: Claim, selected: set[str] | None) -> None:
    criterion = claim.criterion
    if claim.comparison is None:
        st.markdown(f"**{criterion.title}**")
        st.markdown(claim.reason)
        if claim.feature is None:
            st.button(
                "Read again with it",
                key=f"missing_{criterion.name}",
                on_click=session.open_reading,
                args=("",),
            )
        return
    strata = judgement.strata[criterion.name]
    key = f"panel_{criterion.name}_{session.charts_epoch()}"

    def on_points() -> None:
        points = st.session_state[key]["selection"]["points"]
        ids = [str(point["customdata"][0]) for point in points if point.get("customdata")]
        if len(ids) == 1:
            session.select_sample(ids[0])
        elif ids:
            session.select_many(set(ids), f"from {criterion.title.lower()}")

    st.plotly_chart(
        figures.panel(found.table, strata, claim, selected),
        key=key,
        on_select=on_points,
        selection_mode=("points", "box", "lasso"),
        alt=f"MRD of the groups of {criterion.title.lower()}: {claim.verdict}",
    )
    for place, (side, name) in zip(st.columns(2), (("low", criterion.low), ("high", criterion.high)), strict=True):
        place.button(
            name.capitalize(),
            key=f"select_{criterion.name}_{side}",
            width="stretch",
            help=f"Select the {name} samples, here and in every other view",
            on_click=session.select_many,
            args=(set(found.table.loc[strata == side, "sample_id"]), f"{name} ({criterion.title.lower()})"),
        )
