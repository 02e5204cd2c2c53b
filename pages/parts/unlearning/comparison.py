"""Finished unlearning runs side by side: what forgetting cost with and without a curriculum, and what was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.figures import unlearning as figures
from analysis.unlearning import runs as unlearning
from mrd_core.runs import Run, RunState
from mrd_core.scoring.columns import MRD_ANSWER_MEAN
from mrd_core.unlearning.damage import RULE, Rest
from pages.parts.unlearning.charts import chart
from pages.shell import layout, paths, reported, session, shares, unlearnings
from pages.shell.downloads import csv_download
from pages.shell.inputs import one_of
from pages.shell.wording import capitalised, with_spread

EVERYTHING, ABOVE = "All finished runs", "The runs above"
GIGA, TERA = 1e9, 1e12
# Title and format of a measure in the tables, and what it is divided by.
EFFECT = {
    "updates": ("Updates", ",.0f", 1.0),
    "forgotten_at_end": ("Forgotten at the end", ".4g", 1.0),
    "forget_nll": ("Forget NLL [nats/token]", ".2f", 1.0),
    "retain_nll": ("Retain NLL [nats/token]", ".3f", 1.0),
    "retain_accuracy": ("Retain MA [%]", ".1f", 0.01),
}
COST = {
    "seconds": ("Seconds", ",.0f", 1.0),
    "mrd_seconds": ("MRD seconds besides", ",.0f", 1.0),
    "mrd_forward_evaluations": ("MRD evaluations", ",.0f", 1.0),
    "flops_total": ("TFLOP, MRD included", ".3g", TERA),
    "flops_per_update": ("GFLOP per update", ",.3g", GIGA),
    "efficiency": ("Efficiency [1/PFLOP]", ",.5g", 1.0),
}
SHARES = ("accuracy", "retain_accuracy")
NATS = "Nats per answer token"
NEUTRAL, SURE = ":material/help:", ":material/check_circle:"


def show(runs: Sequence[Run], selection: Sequence[Run]) -> None:
    """Show the finished runs of this score run, or the selected ones, against each other."""
    runs = [run for run in sorted(runs, key=lambda run: run.seq) if run.state is RunState.SUCCEEDED]
    if len(runs) < 2:
        st.info("A comparison needs two finished runs.", icon=":material/compare_arrows:")
        return
    some = [run for run in runs if run in selection]
    if 2 <= len(some) < len(runs):
        scopes = {ABOVE: some, EVERYTHING: runs}
        runs = scopes[one_of("Compare", {scope: scope for scope in scopes}, "unlearn_scope")]
    table = unlearning.efficiency([run.summary for run in runs if run.summary])
    if damaged := int((table["rest"] == Rest.DAMAGED).sum()):
        st.error(
            f"{damaged} of these {len(table)} runs damaged the model on what was to be kept: what they needed to "
            f"forget is the price of breaking it. {RULE}",
            icon=":material/heart_broken:",
        )
    _efficiency(table)
    _against_uniform(unlearning.against_uniform(table))
    _gradient(runs)
    st.header("What it cost, and what was kept")
    chart(figures.pareto(table), "pareto", "Updates against retain accuracy of each run", table)
    _at_equal_updates(runs)
    st.page_link(
        paths.COMPARE,
        label="Ask each model what it still knows, and what it has kept",
        icon=":material/balance:",
        query_params={session.RUN: st.query_params[session.RUN]},
    )


def _efficiency(table: pd.DataFrame) -> None:
    st.header("Efficiency")
    groups = unlearning.grouped(table)
    reached = [f"{row.reached} of {row.runs}" for row in groups.itertuples()]
    settings = pd.DataFrame({"Setting": groups["label"]})
    damaged = zip(groups["damaged"], groups["runs"], strict=True)
    lost = ["not measured" if pd.isna(count) else f"{count} of {runs}" for count, runs in damaged]
    effect = settings.assign(**{"Runs that forgot all": reached, "Damaged": lost}).join(_in_words(groups, EFFECT))
    layout.static_table(effect, "Effect of each setting, mean ± sd over the seeds", is_broken=False)
    cost = settings.join(_in_words(groups, COST))
    layout.static_table(cost, "Cost of each setting, mean ± sd over the seeds", is_broken=False)
    st.caption(
        "Mean ± standard deviation over the seeds. Efficiency is 1 / (updates × cost of an update), the cost of "
        "MRD and of all checks included; runs that did not forget everything have none."
    )
    row = st.container(horizontal=True)
    csv_download(groups, "unlearn_efficiency", "Settings (CSV)", row)
    csv_download(table, "unlearn_runs", "Runs (CSV)", row)


def _in_words(groups: pd.DataFrame, measures: Mapping[str, tuple[str, str, float]]) -> pd.DataFrame:
    """Return measures of the groups as texts, mean ± sd; those without any value are left out."""
    columns = {}
    for name, (title, form, scale) in measures.items():
        if groups[name].notna().any():
            pairs = zip(groups[name] / scale, groups[f"{name}_sd"] / scale, strict=True)
            columns[title] = [with_spread(mean, sd, form) for mean, sd in pairs]
    return pd.DataFrame(columns, index=groups.index)


def _against_uniform(table: pd.DataFrame) -> None:
    """Say of each sampler whether it needed fewer updates than uniform sampling."""
    st.header("Against uniform sampling")
    if table.empty:
        st.caption("Run a method under uniform sampling and under another order to hold them side by side.")
        return
    for row in table.to_dict("records"):
        icon = NEUTRAL if row["verdict"].startswith("cannot tell") else SURE
        st.markdown(f"{icon} **{row['label']}**: {row['verdict']}. {_difference(row)}")
    st.caption(
        "Runs of one seed are paired. A verdict on the updates needs three seeds that all forgot everything by "
        "the same thresholds."
    )
    with st.expander("All figures", icon=":material/table:"):
        st.dataframe(
            table, hide_index=True, placeholder="–", alt="Each sampler against uniform, with every figure"
        )
        csv_download(table, "unlearn_against_uniform")


def _gradient(runs: Sequence[Run]) -> None:
    """Show which third by MRD got the updates and the gradient under each sampler, over its seeds."""
    table = shares.over_seeds(runs, MRD_ANSWER_MEAN)
    if table.empty:
        return
    st.header("Who got the gradient")
    alt = "Share of the updates and of the gradient by third of MRD, over the seeds"
    note = shares.note(runs, table, MRD_ANSWER_MEAN)
    chart(figures.gradient_by_tercile(table), "gradient_shares", alt, table, [note])


def _difference(row: Mapping[Any, Any]) -> str:
    """Return in words how a sampler differs from uniform in updates and in total cost."""
    if not row["pairs"]:
        return f"{capitalised(row['stops'])}."
    updates, low, high = row["updates_difference"], row["updates_low"], row["updates_high"]
    interval = "" if pd.isna(low) else f", 95 % from {low:+,.0f} to {high:+,.0f}"
    amount = f"{abs(updates):,.0f} {'fewer' if updates < 0 else 'more'} updates"
    pairs = f"{row['pairs']} pair{'s' if row['pairs'] > 1 else ''} of runs"
    return (
        f"{amount} ({row['updates_ratio']:.2f} ×{interval}) and {row['flops_total_ratio']:.2f} × the operations, "
        f"MRD included; {pairs}, {row['stops']}."
    )


def _at_equal_updates(runs: Sequence[Run]) -> None:
    st.header("At equal updates")
    names = unlearnings.names_of(runs)
    table = unlearning.at_equal_updates(
        {names[run.id]: unlearning.history(reported.of_run(run.id).metrics) for run in runs}
    )
    st.caption("Where each run stood after as many updates as the shortest one made in all.")
    percent = table.copy()
    percent[[name for name in SHARES if name in table]] *= 100
    st.dataframe(
        percent,
        hide_index=True,
        placeholder="–",
        column_config={
            "run": st.column_config.TextColumn("Run"),
            "step": st.column_config.NumberColumn("Step"),
            "updates": st.column_config.NumberColumn("Updates", format="localized"),
            "forgotten": st.column_config.NumberColumn("Forgotten"),
            "accuracy": st.column_config.NumberColumn("Forget MA", format="%.1f %%"),
            "forget_nll": st.column_config.NumberColumn("Forget NLL", format="%.3f", help=NATS),
            "retain_accuracy": st.column_config.NumberColumn("Retain MA", format="%.1f %%"),
            "retain_nll": st.column_config.NumberColumn("Retain NLL", format="%.3f", help=NATS),
        },
        alt="Every run after as many updates as the shortest one made",
    )
    csv_download(table, "unlearn_at_equal_updates")
