"""Forget sets that are drawn from the run at hand so that they are fair: looked at, kept, handed out."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from analysis.audit.balance import OBSERVED, Balance, balanced
from analysis.audit.candidates import everything, named
from analysis.audit.columns import LENGTH, Columns, columns_of
from analysis.audit.command import BALANCE
from analysis.audit.config import BalanceConfig
from analysis.difficulty import ScoredRun
from analysis.export.splits import balance_table, splits_archive
from mrd_core.errors import UserError
from mrd_core.runs import Run
from mrd_core.samples import ForgetSet, save_stratum, saved_strata
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import Revision
from pages.parts.audit.ease import revisions_of
from pages.shell import commands, session
from pages.shell.configs import BY_ATTEMPT
from pages.shell.downloads import download
from pages.shell.inputs import Form, select
from pages.shell.layout import static_table
from pages.shell.notices import errors_shown, literal
from pages.shell.wording import plain

DESIGNS = {"matched": "Like the pool, or like a set", "strata": "Hard, middle and easy"}
DEFAULT_SIZE = 40


def show(run: Run, sets: dict[str, str]) -> None:
    """Let the user say what is drawn, and show it beside random sets.

    Args:
        run: The pool.
        sets: Those that the drawn ones can be like, by what a draw names them: title.
    """
    drawn_by = f"drawn_{run.id}"
    if config := _form(run, sets):
        st.session_state[drawn_by] = config
    config = st.session_state.get(drawn_by)
    if config is None:
        return
    balance = _balanced(run, config, revisions_of(run, config.like or ""))
    st.markdown(plain(balance.sentence))
    table = balance.table[balance.table["role"] != OBSERVED]
    static_table(balance_table(table), "The drawn sets beside what they were to be like", is_broken=False)
    st.caption(plain(" ".join(["* drawn by; SD: standard deviations of the pool.", *balance.notes])))
    commands.show(BALANCE.shown(config))
    row = st.container(horizontal=True, vertical_alignment="bottom")
    samples = ScoredRun(run.directory).samples
    download(
        row,
        "Sets (ZIP)",
        lambda: splits_archive(samples, balance, config),
        "balanced.zip",
        "balanced_sets",
        "tertiary",
        "Each set and the rest of its pool as JSON Lines, which score, unlearn and OpenUnlearning read",
    )
    _keep(run, balance)


def _form(run: Run, sets: dict[str, str]) -> BalanceConfig | None:
    """Return what the user asks to draw, once that is said."""
    columns = _columns(run, revisions_of(run, ""))
    form = Form("balance", run.id)
    with st.form(f"balance_form_{run.id}", border=False):
        sizes = {"size": min(DEFAULT_SIZE, max(1, len(columns.frame) // 4))}
        values = form.columns(
            BalanceConfig, {"size": "Samples of each set"}, {"sets": "Sets"}, {"seed": "Seed"}, defaults=sizes
        )
        left, middle, right = st.columns(3)
        with left:
            values["design"] = form.choice(BalanceConfig, "design", "What they are to be", DESIGNS)
        with middle:
            like = select("Like", {"": "The pool", **sets}, f"balance_like_{run.id}")
        block = right.number_input("Consecutive samples kept together", 1, key=f"balance_group_{run.id}")
        usual = [columns.difficulty[0], LENGTH]
        values["columns"] = form.several(BalanceConfig, "columns", "Balanced by", columns.titles, usual)
        if not st.form_submit_button("Draw", icon=":material/balance:"):
            return None
    group = str(block) if block > 1 else None
    return BalanceConfig(pool=run.directory, like=like or None, group=group, **values)


def _keep(run: Run, balance: Balance) -> None:
    """Offer to keep the sets as selections, which every page that asks for a forget set lists."""
    with st.form(f"balance_keep_{run.id}", border=False):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        name = row.text_input("Keep as selections named", placeholder="fair", key=f"balance_name_{run.id}")
        kept = row.form_submit_button("Keep", icon=":material/save:")
    if not kept:
        return
    whole, home = ForgetSet.load(ScoreFiles(run.directory).samples), session.settings().home
    names = {f"{name} {each.name}".strip(): each for each in balance.sets}
    with errors_shown(ends_page=False):
        # All are kept or none.
        if taken := sorted(names.keys() & saved_strata(home).keys()):
            raise UserError(f"The name '{taken[0]}'", "is taken by another selection.", "Choose another name.")
        for title, each in names.items():
            save_stratum(whole, each.sample_ids, title, home)
        listed = ", ".join(map(literal, names))
        st.markdown(f":material/check: Kept: {listed}. Open them under *Forget set*.")


@st.cache_data(show_spinner=False, max_entries=8, hash_funcs=BY_ATTEMPT)
def _columns(run: Run, revisions: Revision) -> Columns:  # noqa: ARG001  (another reading or import is another key)
    return columns_of(ScoredRun(run.directory))


@st.cache_data(show_spinner="Drawing sets", max_entries=8, hash_funcs=BY_ATTEMPT)
def _balanced(run: Run, config: BalanceConfig, revisions: Revision) -> Balance:  # noqa: ARG001
    pool = ScoredRun(run.directory)
    if config.like is None:
        return balanced(everything(pool, config.group), config)
    return balanced(named(pool, config.like, session.settings().home, Path, config.group), config)
