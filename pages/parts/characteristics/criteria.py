"""The paper's criteria side by side: a panel each with the claim, its verdict, and its groups to select."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import pandas as pd
import streamlit as st

from analysis import elsewhere
from analysis.characteristics.claims import Claim
from analysis.characteristics.judgement import Judgement, claims_table, remains
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA, Rule, Threshold
from analysis.figures import characteristics as figures
from analysis.figures.characteristics import MOST_PANEL_POINTS
from analysis.statistics.groups import GroupComparison
from pages.shell import layout, session
from pages.shell.charts import sample_chart
from pages.shell.downloads import figure_download
from pages.shell.inputs import select
from pages.shell.terms import linked
from pages.shell.wording import capitalised

SYMBOLS = {"agrees": "✓ agrees", "disagrees": "✗ disagrees", "cannot tell": "? cannot tell"}
# Icon, word and colour: none of them alone.
BADGES: dict[str, tuple[str, Literal["green", "red", "orange"]]] = {
    "agrees": (":material/check_circle:", "green"),
    "disagrees": (":material/cancel:", "red"),
    "cannot tell": (":material/help:", "orange"),
}
HOW_TO_READ = (
    "Small MRD: hard to unlearn. A box ends at the quartiles; its dashed line is the mean.",
    "A verdict needs three things: the 95 % interval of the difference in means excludes 0, p < 0.05 after Holm's "
    "correction, and means and ranks (Cliff's δ) point the same way. The intervals hold the noise of MRD itself.",
    "*Length held*: the rank coefficient that is left once the number of tokens is accounted for; its sign may "
    "turn.",
    "Click a point to look at its sample. The tool bar of a chart draws a box or a lasso around many; what is "
    "selected can be saved by name.",
)


def thresholds() -> dict[str, Threshold]:
    """Let the user move the thresholds; by default they are the paper's."""
    chosen = {}
    st.markdown("**Thresholds**")
    st.caption("Above the threshold is the high group. The paper's rules are set; a fixed value is yours to give.")
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
    """Show a panel for each criterion with the claim and its verdict, and how to read them in the last place.

    Args:
        characterised: The samples with their features.
        judgement: What is judged of them.
        samples: Those that the filters leave.
    """
    selected = None if len(samples) == len(characterised.table) else set(samples["sample_id"])
    grid = layout.grid("panels", columns=3, least="18rem", is_last_wide=False)
    for claim in judgement.shown:
        with grid.container(border=True, height="stretch", gap="xsmall"):
            _panel(characterised, judgement, claim, selected)
    with grid.container(border=True, height="stretch"):
        st.markdown("**How to read the panels**")
        for sentence in HOW_TO_READ:
            st.caption(linked(sentence))
        if (count := len(characterised.table)) > MOST_PANEL_POINTS:
            st.caption(
                f"Of the {count:,} samples a panel draws about {MOST_PANEL_POINTS:,}, evenly along the ranking; "
                "only those can be selected in it. Boxes and verdicts are of all."
            )
    _all_figures(judgement)


def _all_figures(judgement: Judgement) -> None:
    """Offer the claims under both normalisations with every figure, drawn up only while somebody looks."""
    door = st.expander("All figures, mean and sum", icon=":material/table:", key="all_figures", on_change="rerun")
    if not door.open:
        return
    frame = claims_table(judgement)
    frame["criterion"] = frame["criterion"].map({criterion.name: criterion.title for criterion in CRITERIA})
    frame["verdict"] = frame["verdict"].map(SYMBOLS)
    door.dataframe(frame, hide_index=True, placeholder="–", alt="The claims with every figure, for mean and sum")


def _panel(characterised: Characterised, judgement: Judgement, claim: Claim, selected: set[str] | None) -> None:
    criterion, table = claim.criterion, characterised.table
    icon, colour = BADGES[claim.verdict]
    row = st.container(horizontal=True, vertical_alignment="center")
    about = "\n\n".join(
        filter(None, [criterion.note, elsewhere.claim_in_figures(criterion.name), elsewhere.MODELS])
    )
    row.markdown(f"**{criterion.title}**", help=about, width="content")
    row.badge(claim.verdict, icon=icon, color=colour)
    others = elsewhere.claim_in_words(criterion.name, 1 if criterion.claim == "larger" else -1)
    st.caption(linked(f"The paper: {criterion.claim_text}  \n{others}"))
    if claim.comparison is None:
        st.markdown(f"{capitalised(claim.reason)}.")
        if claim.feature is None:
            st.button(
                f"Read again for {criterion.title.lower()}",
                icon=":material/replay:",
                key=f"missing_{criterion.name}",
                help="With a training corpus, another pipeline or another language",
                on_click=session.open_reading,
                args=("",),
            )
        return
    strata = judgement.strata[criterion.name]
    draw = partial(figures.panel, table, strata, claim, selected)
    title = criterion.title.lower()
    alt = f"MRD of the groups of {title}: {claim.verdict}"
    sample_chart(figures.untitled(draw()), f"panel_{criterion.name}", f"from {title}", alt, is_narrow=True)
    st.caption(linked("  \n".join(_in_figures(judgement, claim, claim.comparison))))
    row = st.container(horizontal=True, vertical_alignment="center")
    for side, name in (("low", criterion.low), ("high", criterion.high)):
        row.button(
            f":small[{name.capitalize()}]",
            key=f"select_{criterion.name}_{side}",
            width="stretch",
            help=f"Select the {name} samples, here and in every other view",
            on_click=session.select_many,
            args=(set(table.loc[strata == side, "sample_id"]), f"{name} ({title})"),
        )
    with row:
        figure_download(draw, criterion.name, is_icon=True)


def _in_figures(judgement: Judgement, claim: Claim, comparison: GroupComparison) -> Iterator[str]:
    """Yield by how much the groups of a claim differ, and what is left of it with length and the others held."""
    if claim.testable:
        yield f"{capitalised(figures.effect(comparison))} · p\u00a0=\u00a0{claim.p_holm:.2g}"
    else:
        yield f"{capitalised(figures.effect(comparison))}. {capitalised(claim.reason)}."
    left = remains(judgement, claim, judgement.chosen)
    held = {"Length held": "length_held", "all others too": "others_held"}
    words = [
        f"{words}: {left[name]:+.2f} [{left[f'{name}_low']:+.2f}, {left[f'{name}_high']:+.2f}]"
        for words, name in held.items()
        if not math.isnan(left[name])
    ]
    if words:
        yield "; ".join(words)
