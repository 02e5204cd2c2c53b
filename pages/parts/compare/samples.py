"""One sample in every run: what was asked, what the answer is, what each model writes, and what that is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

import pandas as pd
import streamlit as st

from analysis.comparison.columns import LEADERS
from analysis.comparison.evaluated import CHANCE, Evaluated
from analysis.comparison.groups import Group
from analysis.comparison.strata import MEMBERSHIP, mrd_of
from analysis.comparison.table import Comparison
from analysis.export.files import NOTHING
from mrd_core.evaluation.files import ANSWER_COLUMNS, EvaluationFiles
from mrd_core.evaluation.metrics import METRICS
from pages.parts.compare.choice import BY_KEY, ComparedRuns
from pages.shell import filters, layout, redaction, sample_steps, sample_table
from pages.shell.inputs import one_of, select
from pages.shell.wording import capitalised

# Of them the first that there is.
FIRST_METRICS = (*LEADERS, "rouge")
PLAIN = '<div style="white-space:pre-wrap;overflow-wrap:anywhere">{}</div>'
# Of single samples: scores, and what others are made of.
TITLES = {
    "rouge_shuffled": "ROUGE-L recall of another’s answer",
    CHANCE: "Right by chance",
    "answer_tokens": "Answer tokens",
    "truth_ratio_raw": "Truth ratio r",
    "truth_ratio_reference": "Truth ratio r, retrained reference",
    "nll_reference": "Mean NLL, retrained reference",
    "answer_tokens_reference": "Answer tokens, retrained reference",
    "mia_loss": "Membership score (loss)",
    "mia_zlib": "Membership score (zlib)",
    "mia_min_k": MEMBERSHIP,
    "mia_min_k_plus_plus": "Membership score (Min-k%++)",
}
LEAST_WIDTH = "13rem"
NO_TEXTS = pd.DataFrame(columns=ANSWER_COLUMNS)


def show(chosen: ComparedRuns, comparison: Comparison) -> None:
    """Show the samples of a set as a table, hardest first, and the one that is selected below it.

    Args:
        chosen: What is compared.
        comparison: What it says.
    """
    split = metric = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = _split(comparison)
        if split is not None:
            titles = {name: _title(name) for name in _metrics(comparison, split)}
            first = next((name for name in FIRST_METRICS if name in titles), None)
            metric = select("Value", titles, "compare_value", first, width=340)
            redaction.offer(st)
    if split is None or metric is None:
        st.info("No sample has a value in any of these evaluations.", icon=":material/filter_alt_off:")
        return
    table = _table(chosen, split, metric, comparison)
    samples, selected = filters.filtered(table)
    samples = redaction.applied(samples)
    # That of a setting is named by its place.
    config = {
        _column(at): st.column_config.NumberColumn(group.label, format="%.3g", help="Mean over its seeds")
        for at, group in enumerate(comparison.groups)
    }
    config |= {"prompt": sample_table.PROMPT, "answer": sample_table.ANSWER, "sample_id": sample_table.ID}
    if table["mrd"].notna().any():
        config = {"mrd": sample_table.MRD} | config
    alt = f"The samples of {split} with {_title(metric)} in every setting, hardest first"
    sample_table.show("compare", samples, selected, config, alt)
    place, row = sample_steps.heading("Answers side by side", samples, selected)
    st.caption(place + ("" if pd.isna(row["mrd"]) else f" · MRD {row['mrd']:.4g}"))
    if not redaction.is_on():
        _answers(split, selected, comparison)
    _values(split, selected, comparison)


def _runs(comparison: Comparison) -> list[Evaluated]:
    return [run for group in comparison.groups for run in group.runs]


def _split(comparison: Comparison) -> str | None:
    """Let the user choose one of the sets that have values; None where none has."""
    runs = _runs(comparison)
    titles = {
        asked.name: asked.title
        for run in reversed(runs)
        for asked in run.sets
        if (run.values["split"] == asked.name).any()
    }
    forget = {name for run in runs for name in run.splits("forget")}
    names = sorted(titles, key=lambda name: name not in forget)
    if len(names) < 2:
        return next(iter(names), None)
    return str(select("Set", {name: capitalised(titles[name]) for name in names}, "compare_split", width=240))


def _metrics(comparison: Comparison, split: str) -> list[str]:
    """Return the metrics of samples of a set that any run has, scores and parts of others last."""
    present = dict.fromkeys(name for run in _runs(comparison) for name in _of_split(run, split)["metric"].unique())
    return sorted(map(str, present), key=lambda name: name in TITLES)


def _title(metric: str) -> str:
    if metric in METRICS and metric not in TITLES:
        return METRICS[metric].title
    return TITLES.get(metric, capitalised(metric.replace("_", " ")))


def _of_split(run: Evaluated, split: str) -> pd.DataFrame:
    return run.values[run.values["split"] == split]


def _column(at: int) -> str:
    return f"setting {at}"


# With texts, so that it goes with the other data when a run is deleted.
@st.cache_data(show_spinner="Reading the answers", max_entries=16, hash_funcs=BY_KEY)
def _table(chosen: ComparedRuns, split: str, metric: str, _comparison: Comparison) -> pd.DataFrame:  # noqa: ARG001
    """Return the samples, hardest first: sample_id, mrd, prompt, answer, and the metric of each setting."""
    runs = _runs(_comparison)
    texts = pd.concat([NO_TEXTS, *(_texts(run, split) for run in runs if run.origin == "run")])
    texts = texts.drop_duplicates("sample_id").set_index("sample_id")[["prompt", "reference"]]
    ids = dict.fromkeys(name for run in runs for name in _of_split(run, split)["sample_id"])
    table = pd.DataFrame({"sample_id": list(ids)})
    table["mrd"] = table["sample_id"].map(mrd_of(runs)).astype(float)
    for at, group in enumerate(_comparison.groups):
        table[_column(at)] = table["sample_id"].map(_means(group, split, metric)).astype(float)
    table = table.join(texts, on="sample_id").rename(columns={"reference": "answer"})
    return table.fillna({"prompt": "", "answer": ""}).sort_values("mrd", kind="stable").reset_index(drop=True)


def _texts(run: Evaluated, split: str) -> pd.DataFrame:
    """Return what was generated for a set; nothing where the file is gone."""
    path = EvaluationFiles(run.source).answers
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        return NO_TEXTS
    return _stored_texts(str(path), written, split)


@st.cache_data(show_spinner=False, max_entries=64)
def _stored_texts(path: str, at: int, split: str) -> pd.DataFrame:  # noqa: ARG001 - a part of the key
    return pd.read_parquet(path, filters=[("split", "==", split)]).astype({"sample_id": str})


def _means(group: Group, split: str, metric: str) -> dict[str, float]:
    """Return the mean of a metric over the seeds of a setting, by sample."""
    values = pd.concat([_of_split(run, split) for run in group.runs])
    means = values[values["metric"] == metric].groupby("sample_id")["value"].mean()
    return {str(sample_id): float(mean) for sample_id, mean in means.items()}


def _answers(split: str, sample_id: str, comparison: Comparison) -> None:
    """Show what each model writes; all texts are a stranger's and stay plain."""
    texts = {
        run: rows[rows["sample_id"] == sample_id]
        for run in _runs(comparison)
        if run.origin == "run" and len(rows := _texts(run, split))
    }
    asked = list(dict.fromkeys(str(way) for rows in texts.values() for way in rows["asked"]))
    if not asked:
        st.caption("No texts of this sample are kept: nothing was generated for it, or the file is gone.")
        return
    way = one_of("Asked by", {way: way for way in asked}, "compare_asked")
    texts = {run: rows[rows["asked"] == way] for run, rows in texts.items()}
    first = next(rows.iloc[0] for rows in texts.values() if len(rows))
    with st.container(border=True):
        for title, column in (("Prompt", "prompt"), ("Reference", "reference")):
            st.html(f"<b>{title}</b>{PLAIN.format(escape(str(first[column] or NOTHING)))}")
    with layout.grid("compare_answers", columns=3, least=LEAST_WIDTH):
        for group in comparison.groups:
            if any(run in texts for run in group.runs):
                with st.container(border=True, height="stretch"):
                    st.html("".join(_written(group, texts)))


def _written(group: Group, texts: Mapping[Evaluated, pd.DataFrame]) -> Iterator[str]:
    """Yield what the runs of a setting write, as HTML; what several of them write stands there once."""
    yield f"<b>{escape(group.label)}</b>"
    seeds: dict[str, list[str]] = {}
    for run in group.runs:
        answer = "<i>This sample was not asked.</i>"
        for generated in texts.get(run, NO_TEXTS)["generated"].head(1):
            is_none = pd.isna(generated)
            answer = "<i>The model could write nothing.</i>" if is_none else escape(str(generated)) or NOTHING
        seeds.setdefault(answer, []).append("" if run.seed is None else str(run.seed))
    for answer, writers in seeds.items():
        note = f"seed{'s' if len(writers) > 1 else ''} {', '.join(writers)}" if len(group.runs) > 1 else ""
        yield f'<div style="opacity:.75;font-size:.85rem;margin-top:.3rem">{note}</div>{PLAIN.format(answer)}'


def _values(split: str, sample_id: str, comparison: Comparison) -> None:
    """Show every value of the sample, a row a metric and a column a setting."""
    metrics = _metrics(comparison, split)
    values = {
        _column(at): [_means(group, split, metric).get(sample_id) for metric in metrics]
        for at, group in enumerate(comparison.groups)
    }
    with st.expander("Every value of this sample", icon=":material/table:", expanded=True):
        st.dataframe(
            pd.DataFrame({"Metric": [_title(metric) for metric in metrics], **values}),
            hide_index=True,
            placeholder=NOTHING,
            column_config={
                _column(at): st.column_config.NumberColumn(group.label, format="%.4g")
                for at, group in enumerate(comparison.groups)
            },
            alt=f"Every value of sample {sample_id} in every setting, mean over seeds",
        )
