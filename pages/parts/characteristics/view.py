"""A read and scored forget set: the criteria side by side, the claims, and one selection across all views."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from analysis.characteristics import runs as characteristics
from analysis.characteristics.files import About
from analysis.characteristics.judgement import Judgement, judged
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import Threshold
from analysis.difficulty import Variant
from analysis.text.pipeline.loading import LONGEST
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from pages.parts.characteristics import claims_tables, criteria, features_views, marked_view, stratum, two_sets
from pages.parts.characteristics import export as characteristics_export
from pages.shell import badges as evidence_badges
from pages.shell import filters, session
from pages.shell import variant as score_variant
from pages.shell.notices import heading, literal

VIEWS = {
    "Claims": claims_tables.claims,
    "Groups": claims_tables.groups,
    "Length held": claims_tables.regression,
    "Correlations": features_views.correlations,
    "Two features": features_views.scatter,
    "Features": features_views.features,
}


def show(run: Run, reading: Run) -> None:
    """Show everything that a reading says about a score run."""
    heading(run.title)
    evidence_badges.show(run)
    variant = score_variant.choose(read_config(run.directory, ScoreConfig).estimator)
    thresholds = criteria.thresholds()
    key = reading.id, str(run.directory), str(reading.directory), variant
    characterised, judgement = _characterised(*key), _judged(*key, tuple(thresholds.items()))
    _provenance(characterised.about)
    samples = filters.filtered(characterised.table)
    criteria.panels(characterised, judgement, samples)
    view = st.segmented_control("Look at", list(VIEWS), default="Claims", required=True, key="view")
    VIEWS[view](characterised, judgement, samples)
    selected = filters.selected_of(samples)
    marked_view.show(reading, characterised, samples, selected)
    stratum.show(run, samples, len(characterised.table))
    two_sets.show(run, characterised)
    characteristics_export.show(run, reading, characterised, judgement, thresholds)


@st.cache_data(show_spinner="Joining scores and features", max_entries=8)
def _characterised(reading_id: str, score_run: str, reading: str, variant: Variant) -> Characterised:  # noqa: ARG001
    return characteristics.characterised(Path(score_run), Path(reading), variant)


@st.cache_data(show_spinner="Comparing the groups", max_entries=16)
def _judged(
    reading_id: str, score_run: str, reading: str, variant: Variant, thresholds: tuple[tuple[str, Threshold], ...]
) -> Judgement:
    return judged(_characterised(reading_id, score_run, reading, variant), dict(thresholds))


def _provenance(about: About) -> None:
    attachment = (
        "" if about.attachment is None else " · UAS {:.0%}, LAS {:.0%} on its test text".format(*about.attachment)
    )
    corpus = about.config.corpus
    training = f"{literal(corpus.source)}, {about.corpus_rows:,} rows" if corpus else "none given"
    row = st.container(horizontal=True, vertical_alignment="center")
    row.container().caption(
        f"Read by {literal(about.pipeline)} ({about.pipeline_reason}){attachment}. "
        f"Text: {about.config.reading.text}. Training corpus: {training}."
    )
    row.button(
        "Read again",
        icon=":material/replay:",
        key="read_again",
        on_click=session.open_reading,
        args=("",),
        help="With another corpus, pipeline or word list. This reading is kept.",
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
