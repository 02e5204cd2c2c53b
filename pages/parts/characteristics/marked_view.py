"""The selected sample's text with its rare words and clauses marked, its scores and its features."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.characteristics.files import CharacteristicsFiles
from analysis.characteristics.runs import Characterised
from analysis.figures import characteristics as figures
from analysis.figures.marked_text import legend, marked
from mrd_core.runs import Run
from mrd_core.samples.config import Scope
from pages.shell import sample_steps, sample_table

# A longer text scrolls, so that what is below it stays within reach.
TALLEST = "32rem"


def show(reading: Run, characterised: Characterised, samples: pd.DataFrame, selected: str) -> None:
    """Show the text of the selected sample, and the samples that the filters leave as a table."""
    place, row = sample_steps.heading("The text", samples, selected)
    score = "no score" if pd.isna(row["mrd"]) else f"MRD {row['mrd']:.4g} ± {row['mrd_se']:.2g} (SE)"
    st.caption(f"{place} · rank {row['rank']} · {score}")
    text = row["answer"]
    if characterised.about.config.reading.text is Scope.FULL:
        text = f"{row['prompt']}\n{row['answer']}".lstrip("\n")
    elif row["prompt"]:
        st.text(row["prompt"])
    spans = CharacteristicsFiles(reading.directory).read_spans(selected)
    with st.container(border=True):
        st.html(f'<div style="max-height:{TALLEST};overflow-y:auto">{marked(text, spans)}</div>')
        st.html(legend())
    with st.expander("Samples and features as a table", icon=":material/table:"):
        titles = figures.axis_titles(characterised.about)
        columns = {
            "rank": st.column_config.NumberColumn("Rank", help="1 = hardest to unlearn"),
            "mrd": st.column_config.NumberColumn("MRD", format="%.4g"),
            "answer": sample_table.ANSWER,
        }
        columns |= {
            name: st.column_config.NumberColumn(titles[name], format="%.4g", help=feature["help"])
            for name, feature in characterised.about.features.items()
        }
        columns |= {"prompt": st.column_config.TextColumn("Prompt"), "sample_id": sample_table.ID}
        alt = "Samples that the filters leave, with every feature"
        sample_table.show("samples", samples, selected, columns, alt)
