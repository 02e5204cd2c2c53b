"""The league table: every measure of difficulty by how well it predicts updates on this model, and its cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analysis.evidence.kinds.validity import ALL_ARMS, Validity
from analysis.evidence.league import League, short_title
from analysis.evidence.measurements import estimate_at
from analysis.figures import evidence as figures
from mrd_core.errors import UserError
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs import ACTIVE, Run
from pages.parts.evidence import charts as evidence_charts
from pages.parts.evidence import defaults as evidence_defaults
from pages.parts.evidence import launch as evidence_launch
from pages.parts.evidence import runs as evidence_runs
from pages.shell import experiments
from pages.shell.downloads import csv_download
from pages.shell.notices import errors_shown, show_error
from pages.shell.scored import scored as scored_run

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
    if experiment is None:
        _none_yet(run)
        return
    try:
        validity = evidence_runs.judged(experiment)
    except UserError as error:
        show_error(error)
        return
    if isinstance(validity, Validity) and validity.arms:
        _table(experiment, validity)


def _none_yet(run: Run) -> None:
    """Say that nothing is known yet, and offer to find out."""
    known = experiments.of_kind(run, experiments.VALIDITY)
    if any(run.state in ACTIVE for run in known):
        st.info("The league table comes once predictive validity is measured.", icon=":material/hourglass_empty:")
        return
    scored = scored_run(run)
    with st.container(border=True):
        st.markdown(
            "Nobody knows yet whether these scores predict how hard the samples are to unlearn on this model."
        )
        with errors_shown():
            evidence_launch.one_click(scored, evidence_defaults.first_validity(scored))


def _table(experiment: Run, validity: Validity) -> None:
    config = experiments.config_of(experiment)
    assert isinstance(config, ValidityConfig)
    leagues = {arm.name: arm.league for arm in validity.arms}
    if validity.all_arms is not None:
        leagues = {ALL_ARMS: validity.all_arms} | leagues
    st.subheader("What predicts unlearning on this model?")
    name = next(iter(leagues))
    if len(leagues) > 1:
        name = st.segmented_control(
            "Ranked by the updates of", list(leagues), default=name, required=True, key=ARM
        )
    league = leagues[name]
    st.markdown(next((arm.verdict for arm in validity.arms if arm.name == name), validity.verdict))
    evidence_charts.chart(
        figures.league_plot(league.table, name),
        "league",
        "Every measure with its correlation with updates and the interval, the best on top",
    )
    _figures(league, experiment)
    about = "mean rank of updates over all arms" if name == ALL_ARMS else "updates"
    st.caption(
        f"{about.capitalize()} of {validity.arms[0].spread.n} samples, each unlearned alone "
        f"({evidence_runs.arms_in_words(config)}, seed {config.seed}). Cost: forward passes of each sample, a "
        "backward pass counting as two. MRD is over the tokens of the answer where nothing else is said."
    )


def _figures(league: League, experiment: Run) -> None:
    table = league.table
    columns = pd.DataFrame(
        {
            "place": range(1, len(table) + 1),
            "title": [short_title(measure) for measure in table["measure"]],
            "rho": [in_brackets(row) for _, row in table.iterrows()],
            "partial": [in_brackets(row, "partial", "partial_low", "partial_high") for _, row in table.iterrows()],
            "gain": [in_brackets(row, "gain", "gain_low", "gain_high") for _, row in table.iterrows()],
            "cost": table["cost"],
        }
    )
    st.dataframe(
        columns,
        hide_index=True,
        height=TABLE_HEIGHT,
        column_config=COLUMNS,
        placeholder="–",
        alt="The league table: every measure by how well it predicts updates, with its cost",
    )
    csv_download(st.container(), table, f"{experiment.id}-league-shown", "League table (CSV)")


def in_brackets(row: pd.Series[float], value: str = "rho", low: str = "low", high: str = "high") -> str:
    """Return the estimate of a row as `−0.41 [−0.58, −0.20]`."""
    estimate = estimate_at(row, value, low, high)
    if not np.isfinite(estimate.value):
        return "–"
    ends = f" [{estimate.low:+.2f}, {estimate.high:+.2f}]" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:+.2f}{ends}".replace("-", "−")
