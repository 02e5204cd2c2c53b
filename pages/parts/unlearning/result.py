"""A finished unlearning run: what it forgot, what it cost, where the model is, any sample before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import difficulty
from analysis.figures.difficulty import MRD_TITLE, tie_in_words, titles_of
from analysis.figures.unlearning import updates_against
from analysis.statistics.censored import spearman
from analysis.unlearning import runs as unlearning
from mrd_core.runs import Run, RunState
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.samples import ForgetSet
from mrd_core.unlearning.curriculum_export import json_lines, realised
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.stopping import StopReason
from pages.parts.unlearning import charts as unlearn_charts
from pages.shell import filters, sample_steps, sample_table, session, unlearnings
from pages.shell import layout as unlearn_layout
from pages.shell.deletion import confirm_deletion
from pages.shell.downloads import figure_download
from pages.shell.token_view import MOST_OPACITY, RISES
from pages.shell.wording import duration

CHOSEN = "unlearn_result_run"
REASONS = {
    StopReason.ALL_FORGOTTEN: "Every sample was found forgotten.",
    StopReason.MAX_STEPS: "It reached the limit of steps.",
    StopReason.MAX_EPOCHS: "It reached the limit of epochs.",
    StopReason.MAX_SECONDS: "It reached the limit of time.",
    StopReason.RETAIN_LOSS: "The utility guard ended it: the retain loss rose too far.",
    StopReason.RETAIN_ACCURACY: "The utility guard ended it: the retain accuracy fell too low.",
    StopReason.EXHAUSTED: "No sample was left to draw.",
}
EXPLAINED = {
    "share": "Memorization accuracy: share of answer tokens that the model would choose itself; before → after",
    "nats": "Negative log-likelihood in nats per answer token; before → after",
}
TERA = 1e12
# Two figures and an arrow fit a narrow screen.
SMALLER = "<style>.st-key-unlearn_headline [data-testid=stMetricValue] { font-size: 1.75rem; }</style>"
COLUMNS = {
    "mrd": st.column_config.NumberColumn("MRD", format="%.4g", help="Small: hard to unlearn"),
    "updates": st.column_config.NumberColumn("Updates"),
    "draws": st.column_config.NumberColumn("Draws"),
    "forgotten_step": st.column_config.NumberColumn("Step", help="At which it was found forgotten"),
    "forgotten_at_end": st.column_config.CheckboxColumn("Forgotten", help="At the end, on the final weights"),
    "accuracy_before": st.column_config.NumberColumn("MA before", format="%.2f"),
    "accuracy_after": st.column_config.NumberColumn("MA after", format="%.2f"),
    "nll_before": st.column_config.NumberColumn("NLL before", format="%.3g", help="Nats per answer token"),
    "nll_after": st.column_config.NumberColumn("NLL after", format="%.3g", help="Nats per answer token"),
    "answer": st.column_config.TextColumn("Answer", width="medium"),
    "n_tokens": st.column_config.NumberColumn("Tokens"),
    "sample_id": st.column_config.TextColumn("Id"),
}


def open_result(run: Run) -> None:
    """Look at the result of a run next."""
    st.session_state[CHOSEN] = run.id
    st.session_state[unlearnings.GO_TO] = "Result"


def reason_of(summary: Mapping[str, Any]) -> str:
    """Return in words why a run ended."""
    return REASONS.get(summary["stop_reason"], f"It ended: {summary['stop_reason']}.")


def show(runs: Sequence[Run]) -> None:
    """Show the result of one of the runs looked at."""
    names = {
        run_id: name
        for run_id, name in unlearnings.names_of(runs).items()
        if next(run for run in runs if run.id == run_id).state is RunState.SUCCEEDED
    }
    if not names:
        st.info("None of these runs has a result yet.", icon=":material/hourglass_empty:")
        return
    if st.session_state.get(CHOSEN) not in names:
        st.session_state.pop(CHOSEN, None)
    chosen = next(iter(names))
    if len(names) > 1:
        chosen = st.segmented_control(
            "Result of", list(names), format_func=names.__getitem__, default=chosen, required=True, key=CHOSEN
        )
    run = next(run for run in runs if run.id == chosen)
    _headline(run.summary or {})
    _model(run, run.summary or {})
    _samples(run)
    _export(run)


def _headline(summary: Mapping[str, Any]) -> None:
    st.markdown(f"**{reason_of(summary)}** {_cost(summary)}")
    if evaluations := evaluations_in_words(summary):
        st.caption(evaluations)
    st.html(SMALLER)
    with unlearn_layout.grid("unlearn_headline", columns=3, least="13rem"):
        _metrics(summary)
    for warning in summary["warnings"]:
        st.warning(warning, icon=":material/warning:")


def _metrics(summary: Mapping[str, Any]) -> None:
    """Show what became of the forget set, and below it of the retain set."""
    st.metric(
        "Forgotten at the end",
        f"{summary['forgotten_at_end']} of {summary['n_samples']}",
        help="Looked at once more on the final weights",
    )
    _before_and_after(summary, "Forget", "forget")
    st.metric(
        "Updates", f"{summary['updates']:,}", help=f"{summary['draws']:,} draws in {summary['steps']:,} steps"
    )
    if summary["retain_nll"] is not None:
        _before_and_after(summary, "Retain", "retain")


def _before_and_after(summary: Mapping[str, Any], title: str, name: str) -> None:
    for measure, field, unit in (("MA", "accuracy", "share"), ("NLL", "nll", "nats")):
        before, after = summary[f"{name}_{field}_before"], summary[f"{name}_{field}"]
        st.metric(f"{title} {measure}", f"{_figure(before, unit)} → {_figure(after, unit)}", help=EXPLAINED[unit])


def _figure(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "share" else f"{value:.2f}"


def _cost(summary: Mapping[str, Any]) -> str:
    """Return in words what a run cost, and what measuring MRD had cost before it."""
    spent = summary["flops_training"] + summary["flops_checks"]
    words = (
        f"It took {duration(summary['seconds'])} ({duration(summary['seconds_training'])} training, "
        f"{duration(summary['seconds_checks'])} looking who is forgotten) and {spent / TERA:.3g} TFLOP on "
        f"{summary['device']}"
    )
    if not summary["mrd_forward_evaluations"]:
        return f"{words}; this order needs no MRD."
    return (
        f"{words}; MRD took {summary['mrd_forward_evaluations']:,} forward evaluations, "
        f"{duration(summary['mrd_seconds'])} and {summary['flops_mrd'] / TERA:.3g} TFLOP besides."
    )


def evaluations_in_words(summary: Mapping[str, Any]) -> str:
    """Return in words what evaluating on the way cost; "" where nothing was evaluated."""
    # A run of an earlier version could not be asked for any.
    count = summary.get("evaluations", 0)
    if not count:
        return ""
    return (
        f"Evaluating on the way, {count} times, took {duration(summary['seconds_evaluations'])} and "
        f"{summary['flops_evaluations'] / TERA:.3g} TFLOP besides; it changed nothing in the training."
    )


def _model(run: Run, summary: Mapping[str, Any]) -> None:
    folder = UnlearningFiles(run.directory).model
    with st.expander("The model, and how to load it", icon=":material/deployed_code:"):
        st.code(_loading(folder, adapter=summary["adapter"]), language="python", wrap_lines=True)
        st.caption("Its card (README.md in the folder) says what was forgotten, from what, how, and at what cost.")
        if summary["reasons"]:
            st.dataframe(
                pd.DataFrame(
                    {"Choice": summary["reasons"].keys(), "Value and reason": summary["reasons"].values()}
                ),
                hide_index=True,
                alt="Automatic choices of this run with their reasons",
            )


def _loading(folder: Path, *, adapter: bool) -> str:
    package, loader = ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    return f"from {package} import {loader}\n\nmodel = {loader}.from_pretrained({str(folder)!r})"


def _samples(run: Run) -> None:
    files = UnlearningFiles(run.directory)
    score_run = str(unlearnings.config_of(run).score_run)
    table = _outcome(run.id, str(run.directory), unlearn_charts.column_of(run), score_run)
    shown = filters.filtered(table)
    selected = filters.selected_of(shown)
    _updates_against(run, table, shown, selected)
    columns = COLUMNS | sample_table.measure_columns("outcome", table, preset=())
    sample_table.show(
        "outcome", shown, selected, list(columns), columns, "What became of each sample, hardest first"
    )
    place = int((shown["sample_id"] == selected).argmax())
    row = shown.iloc[place]
    sample_steps.heading("Before and after", shown, place)
    st.caption(
        f"{place + 1} of {len(shown)} · MRD {row['mrd']:.4g} · {row['updates']} updates · MA "
        f"{row['accuracy_before']:.2f} → {row['accuracy_after']:.2f} · NLL {row['nll_before']:.3g} → "
        f"{row['nll_after']:.3g} nats per token"
    )
    if row["prompt"]:
        st.text(row["prompt"])
    _own_answers(unlearning.own_answers(files, selected))
    _tokens(unlearning.answer_tokens(files, selected), selected)


@st.cache_data(show_spinner="Reading the outcome", max_entries=16)
def _outcome(run_id: str, directory: str, column: str, score_run: str) -> pd.DataFrame:  # noqa: ARG001  (run_id is the key)
    files = UnlearningFiles(Path(directory))
    texts = ForgetSet.load(files.samples).frame[["sample_id", "prompt", "answer"]]
    return difficulty.beside(unlearning.outcome(files, column).merge(texts, on="sample_id"), Path(score_run))


def _updates_against(run: Run, table: pd.DataFrame, shown: pd.DataFrame, selected: str) -> None:
    """Show the updates of the samples against a measure; points select."""
    titles = {"mrd": MRD_TITLE} | titles_of(difficulty.measures_in(table))
    column = st.selectbox("Updates against", list(titles), format_func=titles.__getitem__, key="unlearn_against")
    key = f"unlearn_against_{run.id}_{session.charts_epoch()}"
    figure = updates_against(shown, column, titles[column], selected)
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(filters.take_points, key, "from updates"),
        selection_mode=("points", "box", "lasso"),
        alt=f"Updates of {len(shown)} samples against {titles[column]}",
    )
    st.caption(_how_well(table, column, titles[column]))
    figure_download(figure, "unlearn_updates_against")


def _how_well(table: pd.DataFrame, column: str, title: str) -> str:
    """Say in words how a measure went with the updates, over all samples."""
    left = int(table["forgotten_step"].isna().sum())
    if left == len(table):
        return "No sample was found forgotten, so nobody knows who would have needed most."
    tie = spearman(table[column], table["updates"], table["forgotten_step"].isna())
    said = tie_in_words(tie, f"Updates with {title}, over the whole set")
    drawn = "A curriculum gives some samples more updates than others before it is known who needs them."
    censored = f" {left} of them were never forgotten and count as hardest." if left else ""
    return f"{said}{censored} {drawn}"


def _own_answers(answers: tuple[str | None, str | None]) -> None:
    """Show what the model itself answers; its words are a stranger's and stay plain."""
    for place, title, answer in zip(st.columns(2), ("Answers before", "Answers after"), answers, strict=True):
        with place.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            if answer is None:
                st.caption("Not written for this sample; *Own answers* in the form says for how many they are.")
            else:
                st.html(f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(answer) or "–"}</div>')


def _tokens(tokens: pd.DataFrame, sample_id: str) -> None:
    with st.container(border=True):
        for moment in ("before", "after"):
            title = f"The sample's answer, {moment}"
            st.html(f'<div style="font-size:.85rem;opacity:.85">{title}</div>{heat_map(tokens, moment)}')
        st.html(legend())
    with st.expander("Tokens as a table", icon=":material/table:"):
        st.dataframe(tokens, hide_index=True, alt=f"Answer tokens of sample {sample_id}, before and after")


def heat_map(tokens: pd.DataFrame, moment: str) -> str:
    """Return the answer of a sample as HTML, each token as strong as it is probable.

    Every text is escaped: a sample is a stranger's.

    Args:
        tokens: One row a token in order: piece, log_prob_before, log_prob_after [nats].
        moment: before or after.
    """
    spans = "".join(_span(token, float(getattr(token, f"log_prob_{moment}"))) for token in tokens.itertuples())
    return (
        f'<div style="line-height:2.1;font-size:1.05rem;white-space:pre-wrap;overflow-wrap:anywhere">{spans}</div>'
    )


def _span(token: Any, log_prob: float) -> str:
    probability = math.exp(log_prob)
    title = f"p {math.exp(token.log_prob_before):.3g} → {math.exp(token.log_prob_after):.3g}"
    return (
        f'<span title="{escape(title)}" '
        f'style="background:rgba({RISES},{MOST_OPACITY * probability:.2f});border-radius:3px">'
        f"{escape(token.piece)}</span>"
    )


def legend() -> str:
    """Return the legend of the heat map as HTML."""
    swatch = (
        '<span style="background:rgba({0},{1:.2f});padding:0 .6em;border-radius:3px">&nbsp;</span> {2} &nbsp; '
    )
    scale = "".join(swatch.format(RISES, MOST_OPACITY * p, f"{p:g}") for p in (1.0, 0.5, 0.1))
    return f'<div style="font-size:.85rem;opacity:.85">Probability of a token: &nbsp; {scale}</div>'


def _export(run: Run) -> None:
    st.subheader("Export")
    files = UnlearningFiles(run.directory)
    row = st.container(horizontal=True)
    row.download_button(
        "Outcome (CSV)",
        lambda: pd.read_parquet(files.outcome).to_csv(index=False),
        file_name=f"{run.id}-outcome.csv",
        key="unlearn_outcome",
        icon=":material/download:",
    )
    row.download_button(
        "Curriculum (JSON Lines)",
        lambda: json_lines(realised(files)),
        file_name=f"{run.id}-curriculum.jsonl",
        key="unlearn_curriculum",
        icon=":material/download:",
        help="A line for each draw, in order: step, sample, its weight, and whether it was trained on",
    )
    for path, label in (
        (files.steps, "Realised order"),
        (files.summary, "Summary"),
        (run.directory / CONFIG_FILE, "config.json"),
    ):
        row.download_button(
            label,
            path.read_bytes,
            file_name=f"{run.id}-{path.name}",
            key=f"unlearn_{path.stem}",
            icon=":material/download:",
            help=path.name,
        )
    if row.button("Delete run", icon=":material/delete:", key="delete"):
        confirm_deletion(run.id, lambda: unlearnings.leave(run))
