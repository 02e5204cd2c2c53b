"""A forget set against random ones of the score run at hand, its pool."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import streamlit as st

from analysis.audit.candidates import named, selections
from analysis.audit.columns import revision_of
from analysis.audit.command import AUDIT
from analysis.audit.config import AuditConfig
from analysis.audit.ease import Audit, audited
from analysis.difficulty import ScoredRun
from analysis.export.audit import audit_table, exports
from mrd_core.runs import Run, RunState
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.imported import Revision
from mrd_core.scoring.records import ScoreSummary
from pages.shell import commands, session
from pages.shell.configs import BY_ATTEMPT, config_of
from pages.shell.downloads import download
from pages.shell.inputs import select
from pages.shell.layout import static_table
from pages.shell.run_names import run_names
from pages.shell.scored import sample_ids
from pages.shell.wording import plain

MOST_LISTED = 200
KINDS = {"audit.md": "Audit (Markdown)", "audit.json": "Audit (JSON)", "audit.csv": "Audit (CSV)"}


def show(run: Run, sets: dict[str, str]) -> AuditConfig | None:
    """Let the user choose a set within the pool, show how it stands among random ones, and return what was asked.

    Args:
        run: The pool.
        sets: Those to choose from, by what an audit names them: title.
    """
    if not sets:
        st.info(
            "This run is the pool. Save a part of it as a selection (on Difficulty or Characteristics), or score "
            "a forget set by itself with the same model and settings; then it is held against random sets.",
            icon=":material/playlist_add_check:",
        )
        return None
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        name = select("Forget set", sets, "audit_set")
    # A column of the source would have the page read a file that nobody chose here.
    block = right.number_input(
        "Consecutive samples kept together",
        min_value=1,
        key="audit_group",
        help="20 on TOFU, where an author has twenty rows in a row; 1 for samples by themselves",
    )
    config = AuditConfig(pool=run.directory, forget_set=name, group=str(block) if block > 1 else None)
    audit = _audited(run, config, revisions_of(run, name))
    (st.warning if audit.obstacle else st.markdown)(plain(f"{audit.sentence} {audit.others}"))
    static_table(audit_table(audit), "The forget set beside the rest of its pool", is_broken=False)
    starred = [] if audit.obstacle else ["* more than chance and the noise of MRD explain."]
    st.caption(plain(" ".join([*starred, *audit.notes])))
    commands.show(AUDIT.shown(config))
    row = st.container(horizontal=True)
    for file, content in exports(audit, config).items():
        download(row, KINDS[file], content, file, file.replace(".", "_"), "tertiary")
    return config


def sets_beside(run: Run) -> dict[str, str]:
    """Return the sets that can be held against the run, by what an audit names them: title."""
    saved = selections(ScoredRun(run.directory), session.settings().home)
    listed = session.store().list(limit=MOST_LISTED, kinds=("score",), states=[RunState.SUCCEEDED])
    runs = [other for other in listed if not ScoreSummary.model_validate(other.summary).preview]
    names = run_names(runs)
    # A run of all samples of the pool leaves none that could have been drawn instead.
    pool = set(sample_ids(run))
    others = [each for each in runs if not pool.issubset(sample_ids(each))]
    # First those that can get a verdict.
    model = config_of(run, ScoreConfig).model
    others.sort(key=lambda each: config_of(each, ScoreConfig).model != model)
    return {name: name for name in saved} | {
        str(each.directory): f"Score run: {names[each.id]}" for each in others
    }


def revisions_of(run: Run, name: str) -> Revision:
    """Return what changes whenever something else is known of the samples of a pool, or of a run as the set."""
    runs = [run.directory, *filter(Path.is_absolute, [Path(name)])]
    return tuple(chain.from_iterable(revision_of(ScoredRun(each)) for each in runs))


@st.cache_data(show_spinner="Drawing random sets", max_entries=8, hash_funcs=BY_ATTEMPT)
def _audited(
    run: Run,
    config: AuditConfig,
    revisions: Revision,  # noqa: ARG001  (another reading or import is another key)
) -> Audit:
    home = session.settings().home
    return audited(named(ScoredRun(run.directory), config.forget_set, home, Path, config.group), config)
