"""Step 1: the same questions before and after."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from analysis.lesson import answers
from mrd_core.dossier.files import Dossier
from pages.parts.learn import memory
from pages.parts.learn.memory import keep, key_of, spoken_of
from pages.shell.layout import static_table
from pages.shell.wording import plain

SET, QUESTION, STAGE = "set", "question", "stage"


@st.cache_data(show_spinner=False)
def _answers(directory: Path) -> pd.DataFrame:
    return answers.answers(Dossier(directory))


def show(dossier: Dossier) -> str:
    """Let the learner ask the model before and after; return what is yet to be done."""
    st.markdown(
        "A small model has learnt by heart what is said of people who never lived. Some of them ask to be "
        "forgotten, and nothing else is to be lost: that is *unlearning*. Ask the model, before and after."
    )
    table = _answers(dossier.directory)
    before, *after = answers.STAGES
    stage = memory.chosen(STAGE, before)
    with spoken_of("answers_after" if stage in after else "answers_before"):
        row = _question(table)
        options = list(answers.STAGES)
        stage = st.segmented_control(
            "Who answers",
            options,
            default=stage,
            required=True,
            key=key_of(STAGE),
            on_change=keep,
            args=(STAGE,),
        )
        st.markdown(f"**It was taught:** {plain(row['reference'])}")
        st.markdown(f"**It answers:** {plain(row[stage]) or '*nothing*'}")
    if stage == before and memory.chosen(STAGE) is None:
        return "ask the model after unlearning."
    shares = answers.known(dossier)
    cells = shares.rename(answers.SETS).map("{:.0%}".format).rename_axis("Answers").reset_index()
    static_table(cells, "Share of the answer tokens that the model would write next")
    st.markdown(f"**What to conclude.** {answers.conclusion(shares)}")
    return ""


def _question(table: pd.DataFrame) -> pd.Series:
    """Let the learner choose a question, and return its row."""
    left, right = st.columns([1, 2])
    splits = list(answers.SETS)
    split = left.selectbox(
        "About people",
        splits,
        splits.index(memory.chosen(SET, splits[0])),
        answers.SETS.__getitem__,
        key=key_of(SET),
        on_change=keep,
        args=(SET,),
    )
    rows = table[table["split"] == split].set_index("sample_id")
    ids = list(rows.index)
    asked = memory.chosen(QUESTION)
    sample_id = right.selectbox(
        "Question",
        ids,
        ids.index(asked) if asked in ids else 0,
        lambda each: str(rows["prompt"][each]),
        key=key_of(QUESTION),
        on_change=keep,
        args=(QUESTION,),
    )
    row: pd.Series = rows.loc[sample_id]
    return row
