"""Which of the scores that the draws of a run allow is looked at."""

from __future__ import annotations

import streamlit as st

from analysis.difficulty import Variant
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig, Formula, Normalisation
from mrd_core.settings.fields import help_of
from pages.shell import session

FORMULAS = {
    Formula.MRD: "MRD (Eq. 4)",
    Formula.MEAN_ABSOLUTE: "mean absolute variant",
    Formula.INITIAL: "initial metric (Eq. 3)",
}


def choose(config: EstimatorConfig, *, formulas: bool = True) -> Variant:
    """Let the user choose the scored tokens, the normalisation and the formula; those of the run come first.

    Args:
        config: Of the run.
        formulas: Whether there are several; a preview has speed + spread alone.
    """
    place = st.container(horizontal=True)
    return Variant(
        place.segmented_control(
            "Scored tokens",
            list(Scope),
            default=config.scope,
            required=True,
            format_func=str,
            key="view_scope",
            bind=session.IN_URL,
            help=help_of(EstimatorConfig, "scope"),
        ),
        place.segmented_control(
            "Normalisation",
            list(Normalisation),
            default=config.normalisation,
            required=True,
            format_func=str,
            key="view_normalisation",
            bind=session.IN_URL,
            help=help_of(EstimatorConfig, "normalisation"),
        ),
        place.selectbox(
            "Formula",
            FORMULAS if formulas else [Formula.MRD],
            format_func=(FORMULAS if formulas else {Formula.MRD: "speed + spread"}).__getitem__,
            key="view_formula" if formulas else "view_preview",
            bind=session.IN_URL,
            help="All variants come from the same stored draws; nothing is run again.",
        ),
    )
