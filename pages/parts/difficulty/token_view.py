"""The token heat map: which tokens of a sample move when the weights are shaken."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from analysis import difficulty
from mrd_core.runs import Run
from mrd_core.samples.config import Scope
from pages.shell import sample_steps
from pages.shell.token_text import FALLS, RISES, coloured, paragraph, small, swatch

DOTTED = "border-bottom:2px dotted currentColor"

TOKEN_COLUMNS = {
    "position": st.column_config.NumberColumn("Position", width="small"),
    "piece": st.column_config.TextColumn("Token"),
    "relative_change": st.column_config.NumberColumn(
        "Relative change", format="%.3g", help="Mean of ΔP/P over the draws; negative: the log-probability falls"
    ),
    "relative_change_se": st.column_config.NumberColumn(
        "Its SE", format="%.2g", help="Standard error of that mean"
    ),
    "log_prob": st.column_config.NumberColumn("Log p [nats]", format="%.3g"),
    "in_answer": st.column_config.CheckboxColumn("In the answer"),
    "excluded": st.column_config.CheckboxColumn("Left out", help="|log p| below 1e-6"),
}


def show(run: Run, samples: pd.DataFrame, selected: str, scope: Scope) -> None:
    """Show the tokens of the selected sample, with its neighbours in the ranking one key away."""
    place, row = sample_steps.heading("Token by token", samples, selected)
    if pd.isna(row["mrd"]):
        st.caption("This sample has no token that could be scored.")
    else:
        st.caption(
            f"{place} · rank {row['rank']} · MRD {row['mrd']:.4g} ± {row['mrd_se']:.2g} (SE) "
            f"(95 %: {row['mrd_low']:.4g} to {row['mrd_high']:.4g}) · mean log p {row['mean_log_prob']:.3g} nats"
        )
    tokens = difficulty.tokens_of(run.directory, selected)
    with st.container(border=True):
        st.html(heat_map(tokens, tokens["in_answer"] if scope is Scope.ANSWER else tokens["position"] > 0))
        st.html(legend())
    with st.expander("Tokens as a table", icon=":material/table:"):
        st.dataframe(
            tokens,
            hide_index=True,
            column_order=list(TOKEN_COLUMNS),
            column_config=TOKEN_COLUMNS,
            placeholder="–",
            alt=f"Tokens of sample {selected}",
        )


def heat_map(tokens: pd.DataFrame, in_scope: pd.Series[bool] | None = None) -> str:
    """Return the tokens of one sample as HTML, coloured by their mean relative change.

    Args:
        tokens: One row per token in order: piece, in_answer, excluded, log_prob, relative_change,
            relative_change_se.
        in_scope: Which of them are scored; those of the answer unless given.
    """
    tokens = tokens.assign(in_scope=tokens["in_answer"] if in_scope is None else in_scope)
    largest = float(tokens.loc[tokens["in_scope"], "relative_change"].abs().max())
    spans = []
    for _, token in tokens.iterrows():
        piece, change = escape(token["piece"]), token["relative_change"]
        if not token["in_scope"]:
            spans.append(f'<span style="opacity:.5">{piece}</span>')
        elif token["excluded"]:
            spans.append(f'<span style="{DOTTED}" title="left out: |log p| below 1e-6">{piece}</span>')
        else:
            deviation = f"{change:+.3g} ± {token['relative_change_se']:.2g}"
            title = f"relative change {deviation}; log p {token['log_prob']:.3g} nats"
            # P is negative, so a negative relative change is a log-probability that falls.
            colour = FALLS if change < 0 else RISES
            spans.append(coloured(token["piece"], title, colour, abs(change) / largest if largest > 0 else 0.0))
    return paragraph(spans)


def legend() -> str:
    """Return the legend of the heat map as HTML."""
    return small(
        swatch(FALLS, 1, "log-probability falls under noise")
        + swatch(RISES, 1, "rises")
        + f'<span style="opacity:.5">not scored</span> &nbsp; <span style="{DOTTED}">'
        + "left out (|log p| &lt; 1e-6)</span>"
    )
