"""Two sets: two forget sets side by side, or one set by several runs."""

import streamlit as st

from analysis.sets.same import holds_one_set
from mrd_core.errors import UserError
from mrd_core.scoring.config import ScoreConfig
from pages.parts.two_sets import choice, different, same
from pages.shell import configs, session
from pages.shell import variant as score_variant
from pages.shell.page import page

with page(
    "Two sets", "Is one forget set easier to unlearn than another? Do two models, or two seeds, rank one alike?"
):
    chosen = choice.choose(session.current_run())
    runs = [run for _, run in chosen]
    if len(runs) == 1:
        st.caption("Choose another score run to hold against this one.")
    elif runs:
        with st.popover("Options", icon=":material/tune:"):
            variant = score_variant.choose(configs.config_of(runs[0], ScoreConfig).estimator)
        choice.legend(name for name, _ in chosen)
        if holds_one_set([run.directory for run in runs]):
            same.show(runs, variant)
        elif len(runs) == 2:
            different.show(chosen, variant)
        else:
            raise UserError(
                f"These {len(runs)} runs",
                "hold different forget sets, and sets are compared two at a time.",
                "Choose two of them, or several runs of one set.",
            )
