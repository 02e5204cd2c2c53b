"""The form that launches a reading: pipeline, what is read, rare words, training corpus."""

from __future__ import annotations

from typing import Any

import pydantic
import streamlit as st

from analysis.characteristics import runs as characteristics
from analysis.characteristics.config import CharacteristicsConfig
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import choose
from mrd_core.errors import UserError
from mrd_core.runs import Run
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.settings.fields import help_of
from pages.shell import session
from pages.shell.launching import launch
from pages.shell.notices import heading, literal

CORPORA = {"None": "", "Demo": "demo", "File or folder": "path", "Hub data set": "hub"}


def show(run: Run) -> None:
    """Show the form; the button launches a worker and opens its run."""
    heading(run.title)
    st.markdown("Read every text for its complexity, rare words and frequency, and hold them against its MRD.")
    default = characteristics.default_config(run.directory)
    corpus = _corpus(default)
    config = default.model_copy(update={"reading": _reading(default.reading), "corpus": corpus})
    chosen = choose(config.reading.pipeline, config.reading.language)
    st.caption(f"Will be read by {literal(chosen.name)}: {chosen.reason}")
    if st.button("Read the texts", type="primary", icon=":material/play_arrow:", key="read"):
        session.open_reading(launch(config).id)
        st.rerun()


def _corpus(default: CharacteristicsConfig) -> ForgetSetConfig | None:
    kind = CORPORA[
        st.segmented_control(
            "Training corpus",
            list(CORPORA),
            default="Demo" if default.corpus else "None",
            required=True,
            key="corpus_kind",
            help=help_of(CharacteristicsConfig, "corpus"),
        )
    ]
    if kind in ("", "demo"):
        return ForgetSetConfig(source="demo") if kind else None
    source = st.text_input(
        "Hub data set" if kind == "hub" else "File or folder on this machine",
        key=f"corpus_{kind}",
        placeholder="locuslab/TOFU" if kind == "hub" else "data/train.jsonl",
        persist_state="session",
    ).strip()
    if not source:
        st.caption("Name the corpus to go on, or choose *None*.")
        st.stop()
    subset, split = (
        place.text_input(
            label, key=f"corpus_{label}", help=help_of(ForgetSetConfig, field), persist_state="session"
        )
        for place, (label, field) in zip(st.columns(2), (("Subset", "subset"), ("Split", "split")), strict=True)
    )
    return ForgetSetConfig(
        source=session.located(source, local=kind == "path"),
        subset=subset.strip() or None,
        split=split.strip() or None,
        invalid_rows="skip",
    )


def _reading(default: ReadingConfig) -> ReadingConfig:
    with st.expander("Reading options", icon=":material/tune:"):
        left, right = st.columns(2)
        with left:
            changes: dict[str, Any] = {
                "text": _pick("Text", "text", list(Scope)),
                "pipeline": _text("spaCy pipeline", "pipeline", default.pipeline),
                "language": _text("Language", "language", default.language),
            }
        with right:
            changes |= {
                "common_words": _number("Common words", "common_words", default.common_words, 100, 1_000_000),
                "names": _pick("Names among rare words", "names", ["count", "ignore"]),
                "numbers": _pick("Numbers among rare words", "numbers", ["ignore", "count"]),
                "ngram": _number("Words to an n-gram", "ngram", default.ngram, 1, 5),
            }
    try:
        return ReadingConfig(**changes)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{first['loc'][0]} = {first['input']}", f"{first['msg']}.", "Correct it in the reading options."
        ) from error


def _pick(label: str, field: str, options: list[Any]) -> Any:
    return st.selectbox(
        label,
        options,
        format_func=str,
        key=f"reading_{field}",
        help=help_of(ReadingConfig, field),
        persist_state="session",
    )


def _text(label: str, field: str, value: str) -> str:
    return st.text_input(
        label, value, key=f"reading_{field}", help=help_of(ReadingConfig, field), persist_state="session"
    ).strip()


def _number(label: str, field: str, value: int, least: int, most: int) -> int:
    return int(
        st.number_input(
            label,
            least,
            most,
            value,
            key=f"reading_{field}",
            help=help_of(ReadingConfig, field),
            persist_state="session",
        )
    )
