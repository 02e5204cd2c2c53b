"""Audit: is a forget set easier than it should be, which would be fair, and what risk is left afterwards?"""

from pathlib import Path

import streamlit as st

from pages.parts.audit import ease, fair, risk
from pages.shell import reports
from pages.shell.notices import errors_shown
from pages.shell.page import page, scored_run

with page("Audit", of_run=True):
    run = scored_run("An audit holds forget sets against a scored pool. None is scored yet.", "its audit comes")
    if run:
        sets = ease.sets_beside(run)
        st.header("Is a forget set easier than it should be?")
        config = None
        with errors_shown(ends_page=False):
            config = ease.show(run, sets)
        st.header("Which forget sets would be fair?")
        with errors_shown(ends_page=False):
            fair.show(run, sets)
        st.header("What risk is left after unlearning?")
        risk.show(run)
        st.header("All of it as one report")
        # A set that was scored by itself, which a directory names, has a report of its own.
        is_within = config is not None and not Path(config.forget_set).is_absolute()
        reports.offer(run, audit=config if is_within else None)
