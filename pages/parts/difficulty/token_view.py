"""The token heat map: which tokens of a sample move when the weights are shaken."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from analysis import difficulty, parts
from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run
from mrd_core.samples.config import Scope
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.token_parts import TokenPartsConfig, TokenPartsFiles, TokenPartsSummary
from pages.shell import run_panel, sample_steps, session
from pages.shell.launching import launch
from pages.shell.notices import errors_shown, show_error
from pages.shell.token_text import FALLS, RISES, coloured, paragraph, small, swatch

CHANGE = "relative_change"
PARTS = {"speed": "Speed", "spread": "Spread", "curvature": "Curvature"}
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
    **{
        column: st.column_config.NumberColumn(title, format="%.3g", help=about)
        for name, label in PARTS.items()
        for column, title, about in (
            (name, label, "Its part in MRD/σ², twice over; mean of the pairs that were looked at, or exact"),
            (f"{name}_se", f"SE of {name}", "Standard error of that mean"),
        )
    },
    "log_prob": st.column_config.NumberColumn("Log p [nats]", format="%.3g"),
    "in_answer": st.column_config.CheckboxColumn("In the answer"),
    "excluded": st.column_config.CheckboxColumn("Left out", help="|log p| below 1e-6"),
}


def show(run: Run, table: pd.DataFrame, samples: pd.DataFrame, selected: str, scope: Scope) -> None:
    """Show the tokens of the selected sample, with its neighbours in the ranking one key away.

    Args:
        run: The score run.
        table: All samples of the run.
        samples: Those that the filters leave.
        selected: The sample that is shown.
        scope: Which tokens are scored.
    """
    place, row = sample_steps.heading("Tokens", samples, selected)
    is_preview = bool(pd.isna(row["mrd"]) and not pd.isna(row["speed_and_spread"]))
    if is_preview:
        st.caption(
            f"{place} · rank {row['rank']} · preview: speed + spread {row['speed_and_spread']:.4g} ± "
            f"{row['speed_and_spread_se']:.2g} (SE), not MRD · mean log p {row['mean_log_prob']:.3g} nats"
        )
    elif pd.isna(row["mrd"]):
        st.caption("This sample has no token that could be scored.")
    else:
        st.caption(
            f"{place} · rank {row['rank']} · MRD {row['mrd']:.4g} ± {row['mrd_se']:.2g} (SE) "
            f"(95 %: {row['mrd_low']:.4g} to {row['mrd_high']:.4g}) · mean log p {row['mean_log_prob']:.3g} nats"
        )
    tokens = difficulty.tokens_of(run.directory, selected)
    in_scope = tokens["in_answer"] if scope is Scope.ANSWER else tokens["position"] > 0
    if told := parts.sentence(row, table, tokens[in_scope]):
        # It quotes tokens, which are strangers' text.
        st.html(f"<p>{escape(told)}</p>")
    with st.container(border=True):
        part = _chosen_part(tokens, is_preview=is_preview)
        if part is None:
            st.caption("A preview tells nothing of single tokens until they are computed exactly.")
        else:
            st.html(heat_map(tokens, in_scope) if part == CHANGE else parts_map(tokens, in_scope, part))
            st.html(legend() if part == CHANGE else parts_legend(part))
    _offer_exact(run, selected)
    details = st.expander("Tokens as a table", icon=":material/table:", key="tokens_table", on_change="rerun")
    if not details.open:
        return
    with details:
        st.dataframe(
            tokens,
            hide_index=True,
            column_order=[name for name in TOKEN_COLUMNS if name in tokens],
            column_config=TOKEN_COLUMNS,
            placeholder="–",
            alt=f"Tokens of sample {selected}",
        )


def _offer_exact(run: Run, sample_id: str) -> None:
    """Show the button that has a sample taken apart token by token, how far that is, or that it is done."""
    config = TokenPartsConfig(score_run=run.directory, sample_id=sample_id)
    directory = ScoreFiles(run.directory).exact_parts(sample_id)
    known = session.store().find_by_directory(directory)
    if TokenPartsFiles(directory).is_finished:
        summary = TokenPartsSummary.model_validate(TokenPartsFiles(directory).read_summary())
        spread = f"spread by {summary.probes} sign probes" if summary.probes else "spread as the run has it"
        st.caption(f":material/straighten: Speed is exact here, a backward pass a token; {spread}.")
        return
    if known is not None and known.state in ACTIVE:
        _watch(known.id)
        return
    if known is not None and known.error is not None:
        show_error(UserError("The tokens were not taken apart", known.error.cause, known.error.advice))
    with errors_shown(ends_page=False):
        about = "Speed of every token by a backward pass each; the spread by sign probes where time allows."
        if st.button("Compute exactly", icon=":material/straighten:", key="exact", help=about):
            launch(config)
            st.rerun()


@st.fragment(run_every=1.0)
def _watch(run_id: str) -> None:
    """Poll the store until a run ends."""
    session.look_for_lost()
    known = session.store().get(run_id)
    if known.state not in ACTIVE:
        st.rerun()
    run_panel.progress(known)


def _chosen_part(tokens: pd.DataFrame, *, is_preview: bool) -> str | None:
    """Let the user choose what the tokens are coloured by; None where nothing is known of them.

    Runs of earlier versions have the change alone.
    """
    known = [name for name in PARTS if name in tokens and tokens[name].notna().any()]
    options = known if is_preview else [CHANGE, *known]
    if len(options) < 2:
        return options[0] if options else None
    chosen = st.segmented_control(
        "Colour by",
        options,
        default=options[0],
        required=True,
        format_func=({CHANGE: "Change of log p"} | PARTS).__getitem__,
        key="token_part",
        bind=session.IN_URL,
        help="MRD is half the sum of speed, spread and curvature, times σ².",
    )
    return str(chosen or options[0])


def parts_map(tokens: pd.DataFrame, in_scope: pd.Series[bool], part: str) -> str:
    """Return the tokens of one sample as HTML, coloured by their share of a part of the sample's MRD.

    Args:
        tokens: One row per token in order: piece, excluded, and the part with its standard error.
        in_scope: Which of them are scored.
        part: Of `PARTS`.
    """
    values = tokens[part].where(in_scope & ~tokens["excluded"])
    total, largest = float(values.sum()), float(values.abs().max())
    spans = []
    for piece, value, error in zip(tokens["piece"], values, tokens[f"{part}_se"], strict=True):
        if pd.isna(value):
            spans.append(f'<span style="opacity:.65">{escape(piece)}</span>')
            continue
        low, high = ((value + side * parts.WIDE * error) / total for side in (-1, 1))
        title = (
            f"{value / total:.0%} of the sample's {part} [{low:.0%}, {high:.0%}]" if total > 0 else f"{value:.3g}"
        )
        colour = RISES if value >= 0 else FALLS
        spans.append(coloured(piece, title, colour, abs(value) / largest if largest > 0 else 0.0))
    return paragraph(spans)


def parts_legend(part: str) -> str:
    """Return the legend of the map of a part as HTML."""
    return small(
        swatch(RISES, 1, f"much of the sample's {part}")
        + (swatch(FALLS, 1, "takes away from it") if part == "curvature" else "")
        + '<span style="opacity:.8">not scored, or left out</span>'
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
            spans.append(f'<span style="opacity:.65">{piece}</span>')
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
        + f'<span style="opacity:.8">not scored</span> &nbsp; <span style="{DOTTED}">'
        + "left out (|log p| &lt; 1e-6)</span>"
    )
