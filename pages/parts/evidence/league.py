"""The league table: every measure of difficulty by how well it predicts updates on this model, and its cost."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.evidence.kinds.validity import ALL_ARMS, Validity
from analysis.evidence.league import short_title
from analysis.evidence.measurements import in_words
from analysis.figures import evidence as figures
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import ACTIVE, Run
from mrd_core.scoring.measures import BACKWARD
from pages.parts.evidence import charts, launch, runs
from pages.shell import configs, experiments
from pages.shell.downloads import csv_download
from pages.shell.inputs import one_of
from pages.shell.notices import errors_shown
from pages.shell.scored import scored

ARM = "evidence_league_arm"
# Ten measures and the heading; the others scroll.
TABLE_HEIGHT = 388
COLUMNS = {
    "place": st.column_config.NumberColumn("Place", width=60),
    "title": st.column_config.TextColumn("Measure"),
    "rho": st.column_config.TextColumn("ρ with updates", help="Spearman, 95 % interval; combinations: held-out"),
    "partial": st.column_config.TextColumn("Length held", help="What is left once length is accounted for"),
    "gain": st.column_config.TextColumn("|ρ| less length’s", help="Above 0: better than length alone"),
    "cost": st.column_config.NumberColumn(
        "Cost", format="%g", help="Forward passes of each sample", width="small"
    ),
}


def show(run: Run) -> None:
    """Show the league table of a score run, or the way to it."""
    experiment = experiments.finished_validity(run)
    if experiment is not None:
        with errors_shown(ends_page=False):
            validity = runs.judged(experiment)
            if isinstance(validity, Validity) and validity.arms:
                _table(experiment, validity)
    elif any(earlier.state in ACTIVE for earlier in experiments.of_kind(run, experiments.VALIDITY)):
        st.info("The league table comes once predictive validity is measured.", icon=":material/hourglass_empty:")
    else:
        with st.container(border=True), errors_shown():
            st.markdown(
                "Nobody knows yet whether these scores predict how hard the samples are to unlearn on this model."
            )
            launch.one_click(scored(run))


def _table(experiment: Run, validity: Validity) -> None:
    config = configs.config_of(experiment, ValidityConfig)
    leagues = {arm.name: arm.league for arm in validity.arms}
    if validity.all_arms is not None:
        leagues = {ALL_ARMS: validity.all_arms} | leagues
    st.header("What predicts unlearning on this model?")
    name = one_of("Ranked by the updates of", {name: name for name in leagues}, ARM)
    table = leagues[name].table
    st.markdown(next((arm.verdict for arm in validity.arms if arm.name == name), validity.verdict))
    alt = "Every measure with its correlation with updates and the interval, the best on top"
    chart, in_figures = st.tabs(["Chart", "Table"])
    with chart:
        charts.boxed(figures.league_plot(table, name), "league", alt)
    with in_figures:
        _figures(table, f"{experiment.id}-league-shown")
    about = "mean rank of updates over all arms" if name == ALL_ARMS else "updates"
    st.caption(
        f"{about.capitalize()} of {validity.arms[0].spread.n} samples, each unlearned alone "
        f"({runs.arms_in_words(config)}, seed {config.seed}). Cost: forward passes of each sample, a "
        f"backward pass counting as {BACKWARD:g}. MRD is over the tokens of the answer where nothing else is said."
    )


def _figures(table: pd.DataFrame, file: str) -> None:
    columns = {
        "place": range(1, len(table) + 1),
        "title": table["measure"].map(short_title),
        "rho": in_words(table),
        "partial": in_words(table, "partial", "partial_"),
        "gain": in_words(table, "gain", "gain_"),
        "cost": table["cost"],
    }
    st.dataframe(
        pd.DataFrame(columns),
        hide_index=True,
        height=TABLE_HEIGHT,
        column_config=COLUMNS,
        placeholder="–",
        alt="The league table: every measure by how well it predicts updates, with its cost",
    )
    csv_download(table, file, "League table (CSV)")
