"""The groups of the claims with typical samples, and what length leaves of their criteria."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.characteristics.judgement import Judgement, group_table, regression_frame
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA
from analysis.figures import characteristics as figures
from analysis.figures.theme import shortened
from pages.shell import layout
from pages.shell.charts import chart
from pages.shell.notices import literal
from pages.shell.wording import figure_or

TITLES = {criterion.name: criterion.title for criterion in CRITERIA}
# One line of the table at 1440 px each.
EXAMPLE_WIDTH = 48
# A usual bound: four fifths of such a term follow from the others.
ENTANGLED = 5
CHART_WIDTH = 560


def groups(characterised: Characterised, judgement: Judgement, samples: pd.DataFrame) -> None:  # noqa: ARG001
    """Show the groups with their means and typical samples, as the paper's Table 7 does."""
    answers = characterised.table.set_index("sample_id")["answer"]
    rows = [
        {
            "Criterion": TITLES[row["criterion"]],
            "Group": row["group"],
            "Samples": str(row["n"]),
            "Mean MRD (95 %)": f"{row['mean_mrd']:.4g} [{row['low']:.4g}, {row['high']:.4g}]",
            "Median MRD": f"{row['median_mrd']:.4g}",
            "Paper, Table 7": figure_or(row["paper_mrd"], ".4f", "–"),
            "Typical samples": "  \n".join(
                literal(shortened(answers[sample], EXAMPLE_WIDTH)) for sample in row["examples"]
            ),
        }
        for row in group_table(characterised, judgement).to_dict("records")
    ]
    layout.static_table(pd.DataFrame(rows), "Mean MRD of each group, and samples that are typical of it")
    st.caption("The paper's values come from another model and another σ: compare their order, not their size.")


def regression(characterised: Characterised, judgement: Judgement, samples: pd.DataFrame) -> None:  # noqa: ARG001
    """Show what remains of each criterion when length and the others are held."""
    titles, fitted = figures.feature_titles(characterised.about), judgement.regression
    # Beside each other where there is room, else one below the other.
    row = st.container(horizontal=True)
    if fitted.terms:
        figure = figures.regression(fitted, titles)
        with row.container(width=CHART_WIDTH):
            alt = "Each feature's tie to MRD, alone and with length and the others held"
            chart(figure, "regression", alt, "length_held")
    with row.container():
        st.markdown(
            "Long answers differ from short ones in nearly everything, so a feature can seem to matter only "
            "because it goes with length. *Alone* is its rank correlation with MRD; *held* is what is left of it "
            "once length and the other features are accounted for."
        )
        if fitted.terms:
            st.markdown(
                f"Together they explain {fitted.r2:.0%} of the variance of the ranks ({fitted.n} samples)."
            )
        for name, reason in fitted.dropped.items():
            st.caption(f"{titles.get(name, name)} is left out: {reason}.")
        entangled = [titles.get(term.name, term.name) for term in fitted.terms if term.vif > ENTANGLED]
        if entangled:
            st.caption(
                f"{', '.join(entangled)}: so close to the other terms (variance inflation above {ENTANGLED}) that "
                "what is left of one of them when all others are held says little."
            )
        correlation = characterised.about.complexity_length_correlation
        if correlation is not None:
            st.caption(f"The complexity index correlates {correlation:+.2f} with length (Spearman).")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(regression_frame(fitted), hide_index=True, alt="Rank regression, a row per feature")
