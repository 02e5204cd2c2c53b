"""The paper's criteria side by side: a panel each, its threshold adjustable, its groups selectable."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from analysis.characteristics.claims import Claim
from analysis.characteristics.judgement import Judgement, remains
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA, Rule, Threshold
from analysis.figures import characteristics as figures
from pages.shell import layout, session
from pages.shell.charts import sample_chart
from pages.shell.downloads import figure_download
from pages.shell.inputs import select
from pages.shell.wording import capitalised

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
            place, level = row.container(), None
            with place:
                rule = select(
                    criterion.title,
                    {rule: str(rule) for rule in Rule},
                    f"rule_{criterion.name}",
                    criterion.default.rule,
                    persist_state="session",
                )
            if rule is Rule.FIXED:
                level = place.number_input(
                    f"Above, {criterion.title.lower()}",
                    value=criterion.default.value or 0.0,
                    format="%g",
                    key=f"level_{criterion.name}",
                    label_visibility="collapsed",
                    persist_state="session",
                )
            chosen[criterion.name] = Threshold(rule, level)
    return chosen


def panels(characterised: Characterised, judgement: Judgement, samples: pd.DataFrame) -> None:
    """Show a panel for each criterion, and all verdicts in the last place of the grid.

    Args:
        characterised: The samples with their features.
        judgement: What is judged of them.
        samples: Those that the filters leave.
    """
    selected = None if len(samples) == len(characterised.table) else set(samples["sample_id"])
    grid = layout.grid("panels", columns=3, least="18rem", is_last_wide=False)
    for claim in judgement.shown:
        with grid.container(border=True, height="stretch"):
            _panel(characterised, judgement, claim, selected)
    with grid.container(border=True, height="stretch"):
        st.markdown("**Does this model show what the paper says?**")
        for at, claim in enumerate(judgement.shown):
            verdicts = (f"{norm}: {SYMBOLS[claims[at].verdict]}" for norm, claims in judgement.claims.items())
            left = remains(judgement, claim, judgement.chosen)["length_held"]
            held = "" if math.isnan(left) else f" · length held: {left:+.2f}"
            st.markdown(f"{claim.criterion.title}  \n:small[{' · '.join(verdicts)}{held}]")
        st.caption(
            "Small MRD: hard to unlearn. *Length held*: rank coefficient that is left once the number of tokens "
            "is accounted for; its sign may turn."
        )
    st.caption("Click a point to look at its sample. The tool bar of a chart draws a box or a lasso around many.")


def _panel(characterised: Characterised, judgement: Judgement, claim: Claim, selected: set[str] | None) -> None:
    criterion, table = claim.criterion, characterised.table
    if claim.comparison is None:
        st.markdown(f"**{criterion.title}**")
        st.markdown(f"{capitalised(claim.reason)}.")
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
    figure = figures.panel(table, strata, claim, selected)
    title = criterion.title.lower()
    alt = f"MRD of the groups of {title}: {claim.verdict}"
    sample_chart(figure, f"panel_{criterion.name}", f"from {title}", alt, is_narrow=True)
    low, high, download = st.columns([4, 4, 1.4])
    with download:
        figure_download(lambda: figure, criterion.name, is_icon=True)
    for place, side, name in ((low, "low", criterion.low), (high, "high", criterion.high)):
        place.button(
            f":small[{name.capitalize()}]",
            key=f"select_{criterion.name}_{side}",
            width="stretch",
            help=f"Select the {name} samples, here and in every other view",
            on_click=session.select_many,
            args=(set(table.loc[strata == side, "sample_id"]), f"{name} ({title})"),
        )
