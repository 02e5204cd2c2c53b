"""A read and scored forget set: the criteria side by side, the claims, and one selection across all views."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.characteristics import runs as characteristics
from analysis.characteristics.files import About
from analysis.characteristics.judgement import Judgement, judged
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import Threshold
from analysis.difficulty import Variant
from analysis.text.pipeline.loading import LONGEST
from mrd_core.runs import Run
from mrd_core.scoring.config import ScoreConfig
from pages.parts.characteristics import (
    claims_tables,
    criteria,
    export,
    features_views,
    marked_view,
    stratum,
)
from pages.shell import configs, filters, redaction, session, verdict_bar
from pages.shell import variant as score_variant
from pages.shell.configs import BY_ATTEMPT
from pages.shell.notices import literal

VIEWS = {
    "Claims": criteria.panels,
    "Groups": claims_tables.groups,
    "Length held": claims_tables.regression,
    "Correlations": features_views.correlations,
    "Two features": features_views.scatter,
    "Features": features_views.features,
}


def show(run: Run, reading: Run) -> None:
    """Show everything that a reading says about a score run."""
    verdict_bar.show(run)
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    variant, thresholds = _options(run, bar)
    characterised = _characterised(run, reading, variant)
    judgement = _judged(run, reading, variant, thresholds)
    samples, selected = filters.filtered(characterised.table, bar)
    _provenance(characterised.about)
    samples = redaction.applied(samples)
    if redaction.is_on():
        characterised = characterised.without_texts()
    view = st.segmented_control(
        "Look at",
        list(VIEWS),
        default="Claims",
        required=True,
        key="view",
        bind=session.IN_URL,
        label_visibility="collapsed",
    )
    VIEWS[view](characterised, judgement, samples)
    if not redaction.is_on():
        marked_view.show(reading, characterised, samples, selected)
    stratum.show(run, samples, len(characterised.table))
    export.show(run, reading, characterised, judgement, thresholds)


def _options(run: Run, bar: DeltaGenerator) -> tuple[Variant, dict[str, Threshold]]:
    """Let the user choose the scores that are looked at and the thresholds, or read the texts once more."""
    with bar.popover("Options", icon=":material/tune:"):
        variant = score_variant.choose(configs.config_of(run, ScoreConfig).estimator)
        thresholds = criteria.thresholds()
    bar.button(
        "Read again",
        icon=":material/replay:",
        key="read_again",
        on_click=session.open_reading,
        args=("",),
        help="With another corpus, pipeline or word list. This reading is kept.",
    )
    return variant, thresholds


@st.cache_data(show_spinner="Joining scores and features", max_entries=8, hash_funcs=BY_ATTEMPT)
def _characterised(run: Run, reading: Run, variant: Variant) -> Characterised:
    return characteristics.characterised(run.directory, reading.directory, variant)


@st.cache_data(show_spinner="Comparing the groups", max_entries=16, hash_funcs=BY_ATTEMPT)
def _judged(run: Run, reading: Run, variant: Variant, thresholds: dict[str, Threshold]) -> Judgement:
    return judged(_characterised(run, reading, variant), thresholds, reading.directory)


def _provenance(about: About) -> None:
    attachment = " · UAS {:.0%}, LAS {:.0%} on its test text".format(*about.attachment) if about.attachment else ""
    corpus = about.config.corpus
    training = f"{literal(corpus.source)}, {about.corpus_rows:,} rows" if corpus else "none given"
    st.caption(
        f"Read by {literal(about.pipeline)} ({about.pipeline_reason}){attachment}. "
        f"Text: {about.config.reading.text}. Training corpus: {training}."
    )
    for caution in about.cautions:
        st.warning(caution, icon=":material/info:")
    if about.foreign:
        languages = ", ".join(f"{language}: {count}" for language, count in about.foreign.items())
        st.warning(
            f"Samples in another language than the pipeline's: {sum(about.foreign.values())} ({languages}). "
            "They were not read as if they were in that one; their features are undefined.",
            icon=":material/translate:",
        )
    if about.cut:
        st.warning(
            f"Samples that are too long to be read whole: {about.cut}. Their first {LONGEST:,} characters were.",
            icon=":material/content_cut:",
        )
