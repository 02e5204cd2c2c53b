"""What the paper says beside what this model shows: claims, groups, and what length leaves of them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.characteristics.judgement import Judgement, claims_table, group_table, regression_frame
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA
from analysis.figures import characteristics as figures
from analysis.figures.theme import shortened
from pages.parts.characteristics.criteria import SYMBOLS
from pages.shell.downloads import figure_download
from pages.shell.notices import literal

TITLES = {criterion.name: criterion.title for criterion in CRITERIA}
CLAIMS = {
    "criterion": "Criterion",
    "normalisation": "MRD",
    "paper_says": "The paper says",
    "this_model": "This model shows (high less low group, 95 %)",
    "length_held_range": "With length held (ranks)",
    "others_held_range": "With all others held too",
    "verdict": "Verdict",
    "reason": "Why",
}
EXAMPLE_WIDTH = 90
# A usual bound: four fifths of such a term follow from the others.
ENTANGLED = 5
CHART_WIDTH = 560
# On a narrow screen a table scrolls sideways rather than break every word.
WIDE = """<style>
[data-testid=stTable] > div { overflow-x: auto; }
[data-testid=stTable] table { min-width: 50rem; }
</style>"""


def claims(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show the claims under both normalisations."""
    frame = claims_table(judgement)
    for name in ("length_held", "others_held"):
        frame[f"{name}_range"] = list(map(_range, frame[name], frame[f"{name}_low"], frame[f"{name}_high"]))
    frame["criterion"] = frame["criterion"].map(TITLES)
    frame["verdict"] = frame["verdict"].map(SYMBOLS)
    _table(frame[list(CLAIMS)].rename(columns=CLAIMS), "The paper's claims and this model")
    with st.expander("All figures", icon=":material/table:"):
        st.dataframe(frame, hide_index=True, placeholder="–", alt="The claims with every figure, for mean and sum")
    st.caption(
        "A verdict needs three things: the 95 % interval of the difference in means excludes 0, p < 0.05 after "
        "Holm's correction, and means and ranks point the same way. The intervals hold the noise of MRD itself."
    )
    for claim in judgement.shown:
        if claim.criterion.note:
            st.caption(f"{claim.criterion.title}: {claim.criterion.note}")


def groups(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show the groups with their means and typical samples, as the paper's Table 7 does."""
    answers = found.table.set_index("sample_id")["answer"]
    rows = [
        {
            "Criterion": TITLES[row.criterion],
            "Group": row.group,
            "Samples": str(row.n),
            "Mean MRD (95 %)": f"{row.mean_mrd:.4g} [{row.low:.4g}, {row.high:.4g}]",
            "Median MRD": f"{row.median_mrd:.4g}",
            "Paper, Table 7": "–" if pd.isna(row.paper_mrd) else f"{row.paper_mrd:.4f}",
            "Typical samples": "  \n".join(
                literal(shortened(answers[sample], EXAMPLE_WIDTH)) for sample in row.examples
            ),
        }
        for row in group_table(found, judgement).itertuples()
    ]
    _table(pd.DataFrame(rows), "Mean MRD of each group, and samples that are typical of it")
    st.caption("The paper's values come from another model and another σ: compare their order, not their size.")


def regression(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show what remains of each criterion when length and the others are held."""
    named, fitted = figures.feature_titles(found.about), judgement.regression
    # Beside each other where there is room, else one below the other.
    row = st.container(horizontal=True)
    if fitted.terms:
        figure = figures.regression(fitted, named)
        with row.container(width=CHART_WIDTH):
            st.plotly_chart(
                figure,
                key="regression",
                alt="Each feature's tie to MRD, alone and with length and the others held",
            )
            figure_download(figure, "length_held")
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
            st.caption(f"{named.get(name, name)} is left out: {reason}.")
        entangled = [named.get(term.name, term.name) for term in fitted.terms if term.vif > ENTANGLED]
        if entangled:
            st.caption(
                f"{', '.join(entangled)}: so close to the other terms (variance inflation above {ENTANGLED}) that "
                "what is left of one of them when all others are held says little."
            )
        correlation = found.about.complexity_length_correlation
        if correlation is not None:
            st.caption(f"The complexity index correlates {correlation:+.2f} with length (Spearman).")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(regression_frame(fitted), hide_index=True, alt="Rank regression, a row per feature")


def _range(value: float, low: float, high: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _table(frame: pd.DataFrame, alt: str) -> None:
    """Show a static table, since its cells show their whole text."""
    st.html(WIDE)
    st.table(frame, hide_index=True, alt=alt)
