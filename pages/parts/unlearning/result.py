"""A finished unlearning run: what it forgot, what it cost, where the model is, any sample before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import pandas as pd
import streamlit as st

from analysis import difficulty
from analysis.comparison.kept import KeptAnswers, rest_with_answers
from analysis.figures.difficulty import MRD_TITLE, tie_in_words, titles_of
from analysis.figures.unlearning import updates_against
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import spearman
from analysis.unlearning import runs as unlearning
from mrd_core.runs import Run, RunState
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.samples import ForgetSet
from mrd_core.samples.spreadsheet import csv_text
from mrd_core.unlearning.card import card_of
from mrd_core.unlearning.card_findings import evaluations_of
from mrd_core.unlearning.curriculum_export import json_lines, realised
from mrd_core.unlearning.damage import RULE, Rest
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.stopping import StopReason
from pages.parts.unlearning import views
from pages.parts.unlearning.charts import column_of
from pages.shell import deletion, filters, layout, redaction, sample_steps, sample_table, session, unlearnings
from pages.shell.charts import reasons_table, sample_chart
from pages.shell.configs import BY_ATTEMPT
from pages.shell.downloads import download, figure_download
from pages.shell.inputs import one_of, select
from pages.shell.terms import linked
from pages.shell.token_text import RISES, coloured, paragraph, small, swatch
from pages.shell.wording import duration

CHOSEN = "unlearn_result_run"
REASONS: dict[str, str] = {
    StopReason.ALL_FORGOTTEN: "Every sample was found forgotten.",
    StopReason.MAX_STEPS: "It reached the limit of steps.",
    StopReason.MAX_EPOCHS: "It reached the limit of epochs.",
    StopReason.MAX_SECONDS: "It reached the limit of time.",
    StopReason.RETAIN_LOSS: "The utility guard ended it: the retain loss rose too far.",
    StopReason.RETAIN_ACCURACY: "The utility guard ended it: the retain accuracy fell too low.",
    StopReason.EXHAUSTED: "No sample was left to draw.",
}
# Title, field of the summary, format and meaning.
MEASURED = (
    (
        "MA",
        "accuracy",
        ".1%",
        "Memorization accuracy: share of answer tokens that the model would choose itself; before → after",
    ),
    ("NLL", "nll", ".2f", "Negative log-likelihood in nats per answer token; before → after"),
)
TERA = 1e12
CARD_HELP = (
    "For the Hugging Face hub: what was forgotten and lost, how hard it was, what evaluations have found so far. "
    "No texts, but the paths of model and sets"
)
# Two figures and an arrow fit a narrow screen.
SMALLER = "<style>.st-key-unlearn_headline [data-testid=stMetricValue] { font-size: 1.75rem; }</style>"
COLUMNS = {
    "mrd": sample_table.MRD,
    "updates": st.column_config.NumberColumn("Updates"),
    "draws": st.column_config.NumberColumn("Draws"),
    "forgotten_step": st.column_config.NumberColumn("Step", help="At which it was found forgotten"),
    "forgotten_at_end": st.column_config.CheckboxColumn("Forgotten", help="At the end, on the final weights"),
    "accuracy_before": st.column_config.NumberColumn("MA before", format="%.2f"),
    "accuracy_after": st.column_config.NumberColumn("MA after", format="%.2f"),
    "nll_before": st.column_config.NumberColumn("NLL before", format="%.3g", help="Nats per answer token"),
    "nll_after": st.column_config.NumberColumn("NLL after", format="%.3g", help="Nats per answer token"),
    "answer": sample_table.ANSWER,
    "n_tokens": st.column_config.NumberColumn("Tokens"),
    "sample_id": sample_table.ID,
}


def open_result(run: Run) -> None:
    """Look at the result of a run next."""
    st.session_state[CHOSEN] = run.id
    views.go_to(views.RESULT)


def reason_of(summary: UnlearningSummary) -> str:
    """Return in words why a run ended."""
    return REASONS.get(summary.stop_reason, f"It ended: {summary.stop_reason}.")


def rule_of(summary: UnlearningSummary) -> str:
    """Return in words when a sample counted as forgotten."""
    rule = summary.thresholds
    likelihood = "" if rule.extraction is None else f" and EL below {rule.extraction:.3g}"
    margin = f"; MA counted tokens that lead by more than {rule.margin:g} logits" if rule.margin else ""
    return f"Forgotten is MA below {rule.accuracy:.3g}{likelihood}{margin}."


def show(runs: Sequence[Run]) -> None:
    """Show the result of one of the selected runs."""
    names, finished = unlearnings.names_of(runs), {run.id: run for run in runs if run.state is RunState.SUCCEEDED}
    if not finished:
        st.info("None of these runs has a result yet.", icon=":material/hourglass_empty:")
        return
    if st.session_state.get(CHOSEN) not in finished:
        st.session_state.pop(CHOSEN, None)
    run = finished[one_of("Result of", {run_id: names[run_id] for run_id in finished}, CHOSEN)]
    summary = UnlearningSummary.model_validate(run.summary)
    _headline(summary, unlearnings.kept_answers_of(run))
    package, loader = "transformers", "AutoModelForCausalLM"
    if summary.adapter:
        package, loader = "peft", "AutoPeftModelForCausalLM"
    with st.expander("The model, and how to load it", icon=":material/deployed_code:"):
        folder = str(UnlearningFiles(run.directory).model)
        lines = f"from {package} import {loader}\n\nmodel = {loader}.from_pretrained({folder!r})"
        st.code(lines, language="python", wrap_lines=True)
        st.caption("Its card (README.md in the folder) says what was forgotten, from what, how, and at what cost.")
        if summary.reasons:
            reasons_table(summary.reasons)
    _samples(run)
    _export(run)


def _headline(summary: UnlearningSummary, kept: KeptAnswers | None) -> None:
    left, sentence = rest_with_answers(summary, kept)
    if left is Rest.DAMAGED:
        st.error(f"**{sentence}** {reason_of(summary)} {RULE}", icon=":material/heart_broken:")
        st.markdown(linked(_cost(summary)))
    else:
        st.markdown(linked(f"**{reason_of(summary)}** {sentence}"))
        st.markdown(linked(_cost(summary)))
    if summary.best:
        st.caption(f"{summary.best.sentence} Its weights are in the folder `best` of the run.")
    if summary.evaluations:
        st.caption(
            f"Evaluating on the way, {summary.evaluations} times, took "
            f"{duration(summary.seconds_evaluations)} and {summary.flops_evaluations / TERA:.3g} TFLOP besides; "
            "it changed nothing in the training."
        )
    st.html(SMALLER)
    with layout.grid("unlearn_headline", columns=3, least="13rem"):
        # What became of the forget set, and below it of the retain set.
        forgotten = f"{summary.forgotten_at_end} of {summary.n_samples}"
        rule = f"Looked at once more on the final weights. {rule_of(summary)}"
        st.metric("Forgotten at the end", forgotten, help=rule)
        _before_and_after(summary, "forget")
        draws = f"{summary.draws:,} draws in {summary.steps:,} steps"
        st.metric("Updates", f"{summary.updates:,}", help=draws)
        if summary.retain_nll is not None:
            _before_and_after(summary, "retain")
    for warning in summary.warnings:
        st.warning(warning, icon=":material/warning:")


def _before_and_after(summary: UnlearningSummary, name: str) -> None:
    for title, field, form, meaning in MEASURED:
        before, after = (summary.measure(f"{name}_{field}", before=moment) for moment in (True, False))
        st.metric(f"{name.capitalize()} {title}", f"{before:{form}} → {after:{form}}", help=meaning)


def _cost(summary: UnlearningSummary) -> str:
    """Return in words what a run cost, and what measuring MRD had cost before it."""
    flops = summary.flops_training + summary.flops_checks
    words = (
        f"It took {duration(summary.seconds)} ({duration(summary.seconds_training)} training, "
        f"{duration(summary.seconds_checks)} looking who is forgotten) and {flops / TERA:.3g} TFLOP on "
        f"{summary.device}"
    )
    if not summary.mrd_forward_evaluations:
        return f"{words}; this order needs no MRD."
    return (
        f"{words}; MRD took {summary.mrd_forward_evaluations:,} forward evaluations, "
        f"{duration(summary.mrd_seconds)} and {summary.flops_mrd / TERA:.3g} TFLOP besides."
    )


def _samples(run: Run) -> None:
    table = _outcome(run, column_of(run))
    samples, selected = filters.filtered(table)
    samples = redaction.applied(samples)
    titles = {"mrd": MRD_TITLE} | titles_of(difficulty.measures_in(table))
    column = select("Updates against", titles, "unlearn_against")
    tie = _tie(table, column)
    figure = updates_against(samples, column, titles[column], selected, tie)
    alt = f"Updates of {len(samples)} samples against {titles[column]}"
    sample_chart(figure, "unlearn_updates_against", "from updates", alt)
    st.caption(_correlation(table, tie, titles[column]))
    figure_download(lambda: figure, "unlearn_updates_against")
    columns = COLUMNS | sample_table.measure_columns("outcome", table, preset=())
    sample_table.show("outcome", samples, selected, columns, "What became of each sample, hardest first")
    place, row = sample_steps.heading("Before and after", samples, selected)
    st.caption(
        f"{place} · MRD {row['mrd']:.4g} · {row['updates']} updates · MA "
        f"{row['accuracy_before']:.2f} → {row['accuracy_after']:.2f} · NLL {row['nll_before']:.3g} → "
        f"{row['nll_after']:.3g} nats per token"
    )
    if redaction.is_on():
        return
    if row["prompt"]:
        st.text(row["prompt"])
    _answers(UnlearningFiles(run.directory), selected)


@st.cache_data(show_spinner="Reading the outcome", max_entries=16, hash_funcs=BY_ATTEMPT)
def _outcome(run: Run, column: str) -> pd.DataFrame:
    files = UnlearningFiles(run.directory)
    texts = ForgetSet.load(files.samples).frame[["sample_id", "prompt", "answer"]]
    outcome = unlearning.outcome(files, column).merge(texts, on="sample_id")
    return difficulty.beside(outcome, difficulty.ScoredRun(unlearnings.config_of(run).score_run))


def _tie(table: pd.DataFrame, column: str) -> Estimate:
    """Return how a measure went with the updates, over all samples."""
    unforgotten = table["forgotten_step"].isna()
    return UNDEFINED if unforgotten.all() else spearman(table[column], table["updates"], unforgotten)


def _correlation(table: pd.DataFrame, tie: Estimate, title: str) -> str:
    """Say in words how a measure went with the updates."""
    unforgotten = table["forgotten_step"].isna()
    if unforgotten.all():
        return "No sample was found forgotten, so nobody knows who would have needed most."
    words = tie_in_words(tie, f"Updates with {title}, over the whole set")
    drawn = "A curriculum gives some samples more updates than others before it is known who needs them."
    left = unforgotten.sum()
    censored = f" {left} of them were never forgotten and count as hardest." if left else ""
    return f"{words}{censored} {drawn}"


def _answers(files: UnlearningFiles, sample_id: str) -> None:
    """Show what the model itself answers, whose words are a stranger's and stay plain, and the answer's tokens."""
    answers = unlearning.own_answers(files, sample_id)
    for place, title, answer in zip(st.columns(2), ("Answers before", "Answers after"), answers, strict=True):
        with place.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            if answer is None:
                st.caption("Not written for this sample; *Own answers* in the form says for how many they are.")
            else:
                st.html(f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(answer) or "–"}</div>')
    tokens = unlearning.answer_tokens(files, sample_id)
    with st.container(border=True):
        for moment in ("before", "after"):
            st.html(small(f"The sample's answer, {moment}") + heat_map(tokens, moment))
        scale = "".join(swatch(RISES, probability, f"{probability:g}") for probability in (1.0, 0.5, 0.1))
        st.html(small(f"Probability of a token: &nbsp; {scale}"))
    with st.expander("Tokens as a table", icon=":material/table:"):
        st.dataframe(tokens, hide_index=True, alt=f"Answer tokens of sample {sample_id}, before and after")


def heat_map(tokens: pd.DataFrame, moment: str) -> str:
    """Return the answer of a sample as HTML, each token as strong as it is probable.

    Args:
        tokens: One row a token in order: piece, log_prob_before, log_prob_after [nats].
        moment: before or after.
    """
    probabilities = tokens[["log_prob_before", "log_prob_after"]].map(math.exp)
    return paragraph(
        coloured(piece, f"p {before:.3g} → {after:.3g}", RISES, before if moment == "before" else after)
        for piece, (before, after) in zip(tokens["piece"], probabilities.to_numpy(), strict=True)
    )


def _export(run: Run) -> None:
    st.header("Export")
    files = UnlearningFiles(run.directory)
    row = st.container(horizontal=True, vertical_alignment="center")
    # Content is made when it is asked for, outside of the session.
    outcome = redaction.applied(pd.read_parquet(files.outcome))
    download(
        row,
        "Outcome (CSV)",
        lambda: csv_text(outcome),
        f"{run.id}-outcome.csv",
        "unlearn_outcome",
    )
    download(
        row,
        "Curriculum (JSON Lines)",
        lambda: json_lines(realised(files)),
        f"{run.id}-curriculum.jsonl",
        "unlearn_curriculum",
        help_text="A line for each draw, in order: step, sample, its weight, and whether it was trained on",
    )
    store = session.store()
    for label, name, whole in (("Model card", "README", True), ("Its section", "section", False)):
        download(
            row,
            f"{label} (Markdown)",
            lambda whole=whole: card_of(run.directory, evaluations_of(store, run.directory), whole=whole),
            f"{run.id}-{name}.md",
            f"unlearn_{name}",
            "tertiary",
            CARD_HELP if whole else "The part on unlearning alone, for a card that is there already",
        )
    redaction.offer(row)
    labels = {"Realised order": files.steps, "Summary": files.summary, CONFIG_FILE: run.directory / CONFIG_FILE}
    for label, path in labels.items():
        name, key = f"{run.id}-{path.name}", f"unlearn_{path.stem}"
        download(row, label, path.read_bytes, name, key, help_text=path.name)
    deletion.offer(run.id, lambda: unlearnings.leave(run), row)
