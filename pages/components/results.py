"""A finished score run: ranking, charts, reliability, tokens, export. One selection across all of them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import difficulty, figures
from analysis.difficulty import Trust, Variant
from mrd_core.config import EstimatorConfig, Formula, Normalisation, Scope, ScoreConfig, help_of
from mrd_core.runs import Run, command_for
from mrd_core.runs.directory import CONFIG_FILE, read_config
from mrd_core.shell import score_command
from pages.components import session, token_view
from pages.components.launch import duration
from pages.components.notices import errors_shown, heading, literal

FORMULAS = {
    Formula.MRD: "MRD (Eq. 4)",
    Formula.MEAN_ABSOLUTE: "mean absolute variant",
    Formula.INITIAL: "initial metric (Eq. 3)",
}
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
AXES = {"relative_se": "its uncertainty", "mean_log_prob": "mean log-probability"}


def show(run: Run) -> None:
    """Show a run that succeeded."""
    summary = run.summary or {}
    config = read_config(run.directory)
    _headline(run, summary)
    variant = _variant(config.estimator)
    table = _ranking(run.id, str(run.directory), variant)
    shown = _filtered(table)
    selected = _settle_selection(shown)
    axis = st.segmented_control(
        "Difficulty map: MRD against",
        list(AXES),
        default="relative_se",
        required=True,
        format_func=AXES.__getitem__,
        key="map_axis",
    )
    left, right = st.columns([3, 2])
    with left:
        _map(table, shown, axis, selected)
    with right:
        _distribution(shown, selected)
    _table(shown, selected)
    _tokens(run, shown, selected)
    _reliability(run, table, variant, summary)
    _export(run, table, config)


@st.cache_data(show_spinner="Reading the draws", max_entries=8)
def _ranking(run_id: str, directory: str, variant: Variant) -> pd.DataFrame:  # noqa: ARG001  (run_id is the key)
    return difficulty.ranking(Path(directory), variant)


@st.cache_data(show_spinner="Splitting the draws", max_entries=8)
def _trust(run_id: str, directory: str, variant: Variant) -> Trust:  # noqa: ARG001
    return difficulty.trust(Path(directory), variant)


def _headline(run: Run, summary: dict[str, Any]) -> None:
    heading(run.title)
    row = st.container(horizontal=True)
    row.metric("Samples", summary["n_samples"])
    row.metric(
        "Median relative SE", _percent(summary["median_relative_se"]), help="Median over samples of SE / MRD."
    )
    explained = "Spearman–Brown of split halves: how well an equal run would rank the samples alike. 1 is perfect."
    row.metric("Reliability, mean", _figure(summary["reliability_mean"]), help=explained)
    row.metric("Reliability, sum", _figure(summary["reliability_sum"]), help=explained)
    row.metric(
        "Cost",
        duration(summary["seconds"]),
        help=f"{summary['evaluations']} forward evaluations on {summary['device']} in {summary['dtype']}, "
        f"σ = {summary['sigma']:g}",
    )
    for warning in summary["warnings"]:
        st.warning(warning, icon=":material/warning:")


def _variant(config: EstimatorConfig) -> Variant:
    scope, normalisation, formula = st.columns(3)
    return Variant(
        scope.segmented_control(
            "Scored tokens",
            list(Scope),
            default=config.scope,
            required=True,
            format_func=str,
            key="view_scope",
            help=help_of(EstimatorConfig, "scope"),
        ),
        normalisation.segmented_control(
            "Normalisation",
            list(Normalisation),
            default=config.normalisation,
            required=True,
            format_func=str,
            key="view_normalisation",
            help=help_of(EstimatorConfig, "normalisation"),
        ),
        formula.selectbox(
            "Formula",
            list(Formula),
            format_func=FORMULAS.__getitem__,
            key="view_formula",
            help="All variants come from the same stored draws; nothing is run again.",
        ),
    )


def _filtered(table: pd.DataFrame) -> pd.DataFrame:
    """Apply the filters and show them as chips."""
    text = st.text_input(
        "Search",
        key="search",
        placeholder="Search in ids, prompts and answers",
        label_visibility="collapsed",
        icon=":material/search:",
        persist_state="session",
    )
    box: set[str] | None = st.session_state.get("box")
    shown = difficulty.matching(table, text, box)
    if text or box is not None:
        chips = st.container(horizontal=True, vertical_alignment="center")
        chips.markdown(f"**{len(shown)} of {len(table)}**")
        if text:
            chips.button(
                literal(text), icon=":material/close:", key="clear_search", on_click=_clear, args=("search",)
            )
        if box is not None:
            chips.button(
                f"{len(box)} on the map", icon=":material/close:", key="clear_box", on_click=_clear, args=("box",)
            )
    if shown.empty:
        st.info("No sample matches these filters.", icon=":material/filter_alt_off:")
        st.stop()
    return shown


def _clear(key: str) -> None:
    if key == "search":
        st.session_state[key] = ""
    else:
        del st.session_state[key]


def _settle_selection(shown: pd.DataFrame) -> str:
    """Return the selected sample; the hardest one shown where there is none, or it is filtered away."""
    selected = session.current_sample()
    if selected is None or not (shown["sample_id"] == selected).any():
        return str(shown["sample_id"].iloc[0])
    return selected


def _map(table: pd.DataFrame, shown: pd.DataFrame, axis: figures.MapAxis, selected: str) -> None:
    figure = figures.difficulty_map(shown, axis, selected, whole=table)
    st.plotly_chart(
        figure,
        key="map",
        on_select=_on_map,
        selection_mode=("points", "box", "lasso"),
        alt=f"Difficulty map of {len(shown)} samples: MRD against {AXES[axis]}",
    )
    _figure_download(figure, "difficulty_map")


def _on_map() -> None:
    points = st.session_state["map"]["selection"]["points"]
    ids = [str(point["customdata"][0]) for point in points if point.get("customdata")]
    if len(ids) == 1:
        session.select_sample(ids[0])
    elif ids:
        st.session_state["box"] = set(ids)
    st.session_state["table_epoch"] = st.session_state.get("table_epoch", 0) + 1


def _distribution(shown: pd.DataFrame, selected: str) -> None:
    figure = figures.distribution(shown, selected)
    st.plotly_chart(figure, key="distribution", alt=f"Histogram of MRD over {len(shown)} samples")
    _figure_download(figure, "distribution")


def _table(shown: pd.DataFrame, selected: str) -> None:
    st.subheader("Ranking, hardest first")
    # A table cannot be told its selection later on, and keeps it by row number: one that came from elsewhere,
    # and other rows, make a new table.
    rows_shown = zlib.crc32("\n".join(shown["sample_id"]).encode())
    key = f"ranking_{st.session_state.get('table_epoch', 0)}_{rows_shown}"
    place = int((shown["sample_id"] == selected).argmax())

    def on_row() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            session.select_sample(str(shown["sample_id"].iloc[rows[0]]))

    columns = {
        "rank": st.column_config.NumberColumn("Rank", help="1 = hardest to unlearn", width="small"),
        "mrd": st.column_config.NumberColumn("MRD", format="%.4g", help="Small: hard to unlearn"),
        "mrd_low": st.column_config.NumberColumn("95 % from", format="%.4g"),
        "mrd_high": st.column_config.NumberColumn("95 % to", format="%.4g"),
        "relative_se": st.column_config.NumberColumn("SE / MRD", format="percent"),
        "prompt": st.column_config.TextColumn("Prompt", width="medium"),
        "answer": st.column_config.TextColumn("Answer", width="medium"),
        "region": st.column_config.TextColumn("Region", help="Quarter of the difficulty map"),
        "mrd_se": st.column_config.NumberColumn("SE", format="%.2g", help="Standard error of MRD"),
        "n_tokens": st.column_config.NumberColumn("Tokens", help="Tokens that entered the score"),
        "mean_log_prob": st.column_config.NumberColumn("Mean log p [nats]", format="%.3g"),
        "training_count": st.column_config.NumberColumn("Times in training"),
        "split": st.column_config.TextColumn("Split"),
        "truncated": st.column_config.CheckboxColumn("Truncated"),
        "sample_id": st.column_config.TextColumn("Id"),
    }
    order = [name for name in columns if shown[name].notna().any() and (shown[name] != "").any()]
    st.dataframe(
        shown,
        hide_index=True,
        height=360,
        column_order=[name for name in order if name != "truncated" or shown["truncated"].any()],
        column_config=columns,
        key=key,
        on_select=on_row,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        placeholder="–",
        alt="Ranking of the samples by MRD, hardest first",
    )


def _tokens(run: Run, shown: pd.DataFrame, selected: str) -> None:
    place = int((shown["sample_id"] == selected).argmax())
    row = shown.iloc[place]
    bar = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom")
    bar.subheader("Token by token")
    with bar.container(horizontal=True, width="content"):
        _step("Previous", "Left", shown, place - 1)
        _step("Next", "Right", shown, place + 1)
    if pd.isna(row["mrd"]):
        st.caption("This sample has no token that could be scored.")
    else:
        st.caption(
            f"{place + 1} of {len(shown)} · rank {row['rank']} · MRD {row['mrd']:.4g} ± {row['mrd_se']:.2g} "
            f"(95 %: {row['mrd_low']:.4g} to {row['mrd_high']:.4g}) · mean log p {row['mean_log_prob']:.3g} nats"
        )
    tokens = difficulty.tokens_of(run.directory, selected)
    with st.container(border=True):
        st.html(token_view.heat_map(tokens))
        st.html(token_view.legend())
    with st.expander("Tokens as a table", icon=":material/table:"):
        st.dataframe(
            tokens,
            hide_index=True,
            column_order=list(TOKEN_COLUMNS),
            column_config=TOKEN_COLUMNS,
            placeholder="–",
            alt=f"Tokens of sample {selected}",
        )


def _step(label: str, key: str, shown: pd.DataFrame, to: int) -> None:
    inside = 0 <= to < len(shown)

    def go() -> None:
        session.select_sample(str(shown["sample_id"].iloc[to]))
        st.session_state["table_epoch"] = st.session_state.get("table_epoch", 0) + 1

    st.button(label, shortcut=key, key=label.lower(), on_click=go, disabled=not inside)


def _reliability(run: Run, table: pd.DataFrame, variant: Variant, summary: dict[str, Any]) -> None:
    st.subheader("How far to trust the ranking")
    trust = _trust(run.id, str(run.directory), variant)
    left, right = st.columns(2)
    with left:
        st.dataframe(
            pd.DataFrame(
                {
                    "Ranking by": [str(norm) for norm in Normalisation],
                    "Spearman–Brown": [trust.reliability[norm] for norm in Normalisation],
                    "length partialled out": [trust.length_partialled[norm] for norm in Normalisation],
                }
            ),
            hide_index=True,
            placeholder="undefined",
            column_config={
                name: st.column_config.NumberColumn(format="%.3f")
                for name in ("Spearman–Brown", "length partialled out")
            },
            alt="Reliability of the ranking, for sum and mean, with and without length",
        )
        gate = summary["gate"]
        icon = ":material/check_circle: passed" if gate["passed"] else ":material/warning: not passed"
        st.markdown(f"**Precision gate** {icon}")
        st.caption(gate["reason"][0].upper() + gate["reason"][1:])
        st.markdown(
            f"**Left out** {summary['excluded_tokens']} of {summary['scored_tokens']} tokens "
            "(|log p| below 1e-6, where a relative change is only rounding)"
        )
        st.markdown(f"**Weights** bit-equal after the run: {'yes' if summary['weights_untouched'] else 'no'}")
    with right:
        figure = figures.relative_se_histogram(table)
        st.plotly_chart(figure, key="errors", alt="Histogram of the relative standard errors")
        _figure_download(figure, "relative_se")
    with st.expander("What was chosen automatically, and why", icon=":material/rule_settings:"):
        st.dataframe(
            pd.DataFrame({"Choice": summary["reasons"].keys(), "Value and reason": summary["reasons"].values()}),
            hide_index=True,
            alt="Automatic choices of this run with their reasons",
        )


def _figure_download(figure: Any, name: str) -> None:
    st.download_button(
        "Figure (HTML)",
        lambda: figure.to_html(include_plotlyjs=True),
        file_name=f"{name}.html",
        mime="text/html",
        key=f"download_{name}",
        type="tertiary",
        icon=":material/download:",
    )


def _export(run: Run, table: pd.DataFrame, config: ScoreConfig) -> None:
    st.subheader("Export and reproduce")
    csv, parquet, settings, new, delete = st.columns(5)
    csv.download_button(
        "Scores (CSV)",
        lambda: table.to_csv(index=False),
        file_name=f"{run.id}.csv",
        key="csv",
        width="stretch",
        icon=":material/download:",
    )
    parquet.download_button(
        "Scores (Parquet)",
        lambda: _as_parquet(table),
        file_name=f"{run.id}.parquet",
        key="parquet",
        width="stretch",
        icon=":material/download:",
    )
    settings.download_button(
        "config.json",
        (run.directory / CONFIG_FILE).read_text(encoding="utf-8"),
        file_name=CONFIG_FILE,
        key="config",
        width="stretch",
        icon=":material/download:",
    )
    if new.button("New run", key="new_run", icon=":material/add:", width="stretch"):
        session.leave_run()
        st.rerun()
    if delete.button("Delete run", key="delete", icon=":material/delete:", width="stretch"):
        _confirm_deletion(run.id)
    st.code(score_command(config), language="bash", wrap_lines=True)
    st.caption(
        f"Or the very same run from its config.json: `{' '.join(['python', *command_for(Path('RUN_DIR'))[1:]])}`"
    )


@st.dialog("Delete this run?")
def _confirm_deletion(run_id: str) -> None:
    st.markdown(
        "Its copies of the texts, its results and its rows in the store go with it. This cannot be undone."
    )
    if st.button("Delete", type="primary", key="really_delete"):
        with errors_shown():
            session.store().delete(run_id)
        session.leave_run()
        st.rerun()


def _as_parquet(table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
