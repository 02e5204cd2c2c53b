"""The form that launches a reading: pipeline, what is read, rare words, training corpus."""

from __future__ import annotations

import pydantic
import streamlit as st

from analysis.characteristics import runs as characteristics
from analysis.characteristics.config import CharacteristicsConfig
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import choose
from mrd_core.runs import Run
from mrd_core.settings.fields import help_of
from mrd_core.settings.options import refusal
from pages.shell import session, source, verdict_bar
from pages.shell.inputs import Form
from pages.shell.launching import launch
from pages.shell.notices import literal

FORM = Form("reading")
TEXT = {"text": "Text", "pipeline": "spaCy pipeline", "language": "Language"}
WORDS = {
    "common_words": "Common words",
    "names": "Names among rare words",
    "numbers": "Numbers among rare words",
    "ngram": "Words to an n-gram",
}


def show(run: Run) -> None:
    """Show the form; the button launches a worker and opens its run."""
    verdict_bar.show(run)
    st.markdown("Read every text for its complexity, rare words and frequency, and hold them against its MRD.")
    default = characteristics.default_config(run.directory)
    corpus = source.ask(
        FORM.name,
        "training corpus",
        help_of(CharacteristicsConfig, "corpus"),
        "Demo" if default.corpus else "None",
        example="data/train.jsonl",
    ).config()
    with st.expander("Reading options", icon=":material/tune:"):
        changes = FORM.columns(ReadingConfig, TEXT, WORDS)
    try:
        reading = ReadingConfig(**changes)
    except pydantic.ValidationError as error:
        raise refusal(error, "Correct it in the reading options.") from error
    config = default.model_copy(update={"reading": reading, "corpus": corpus})
    pipeline = choose(config.reading.pipeline, config.reading.language)
    st.caption(f"Will be read by {literal(pipeline.name)}: {pipeline.reason}")
    if st.button("Read the texts", type="primary", icon=":material/play_arrow:", key="read"):
        session.open_reading(launch(config).id)
        st.rerun()
