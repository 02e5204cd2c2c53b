"""A run that is not finished: live progress while it goes on, cause and way out when it ended early."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import streamlit as st

from analysis.figures.difficulty import precision_curve
from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState
from mrd_core.runs.kind import kind_named
from mrd_core.runs.launchers.watch import job_of
from mrd_core.runs.logs import logs
from mrd_core.runs.record import RESUMABLE
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import shown
from mrd_core.settings.configuration import WITHOUT_MODEL
from pages.shell import commands, configs, deletion, redaction, reported, session
from pages.shell.launching import resume
from pages.shell.notices import errors_shown, literal, show_error, state_label
from pages.shell.wording import duration

UNSEEN = "position:absolute;width:1px;height:1px;margin:0;overflow:hidden;clip-path:inset(50%)"


def show(run: Run, leave: Callable[[], None] = session.leave_run) -> None:
    """Show a run that has no results yet: progress or the cause of its end; `leave` stops looking at it."""
    if run.state in ACTIVE:
        _live(run.id)
    else:
        st.markdown(f"**{state_label(run)}**")
        _ended(run, leave)
    with st.expander("Details", icon=":material/terminal:"):
        log(run)


@st.fragment(run_every=1.0)
def _live(run_id: str) -> None:
    """Poll the store until the run ends; only new rows are read."""
    store = session.store()
    with errors_shown():
        session.look_for_lost()
        run = store.get(run_id)
    if run.state not in ACTIVE:
        st.rerun()
    st.markdown(f"**{state_label(run)}**")
    progress(run)
    if run.state is RunState.CANCELLING:
        st.caption("Stopping after the batch in flight …")
    elif st.button("Cancel", icon=":material/stop_circle:", key="cancel"):
        store.request_cancel(run_id)
    warnings(run_id)
    metrics = reported.of_run(run_id).metrics
    if len(metrics):
        estimator = configs.config_of(run, ScoreConfig).estimator
        stops_by_reliability = estimator.stop in ("auto", "reliability")
        st.plotly_chart(
            precision_curve(metrics, estimator.reliability if stops_by_reliability else None),
            key="live_curve",
            alt="Reliability and relative standard error so far, against the number of evaluations",
        )


def progress(run: Run) -> None:
    """Show how far a run is and what it is doing."""
    done, total = run.progress.get("done", 0), run.progress.get("total", 0)
    expected = run.progress.get("likely") or total
    share = min(done / expected, 1.0) if expected else 0.0
    message = run.progress.get("message") or "Starting"
    job = job_of(run) if run.state is RunState.QUEUED else None
    if job:
        text = job.stated
    elif run.progress.get("place"):
        text = f"Waiting for {'another reading' if run.device == WITHOUT_MODEL else run.device}: "
        text += f"place {run.progress['place']} in the queue"
    elif 0 < done < total:
        eta = run.progress.get("eta_seconds")
        bound = "at most" if run.progress.get("is_most") else "about"
        text = f"{message}: {done:,} of {bound} {total:,} {kind_named(run.kind).counted}"
        text += f", {duration(eta)} left" if eta else ""
    else:
        text = f"{message} …"
    if within := run.progress.get("within"):
        text += f" · {within:.0%} of a pass"
    with st.container(gap=None):
        # A screen reader says what a run goes over to, and not each of its steps.
        st.html(f'<p role="status" style="{UNSEEN}">{escape(message)}</p>')
        st.progress(share, text=text)


def _ended(run: Run, leave: Callable[[], None]) -> None:
    if run.error:
        show_error(UserError("The run did not finish", redaction.cause(run.error), run.error.advice))
    else:
        st.info(f"This run was {run.state}; what it finished is kept.", icon=":material/cancel:")
    row = st.container(horizontal=True)
    if row.button("Resume", type="primary", icon=":material/replay:", key="resume"):
        resume(run)
        st.rerun()
    if row.button("New run", icon=":material/add:", key="new_run"):
        leave()
        st.rerun()
    deletion.offer(run.id, leave, row)
    if run.error and run.error.traceback and not redaction.is_on():
        with st.expander("Traceback", icon=":material/bug_report:"):
            st.code(run.error.traceback, language=None, wrap_lines=True)


def warnings(run_id: str, prefix: str = "") -> None:
    """Show what a run warns of, `prefix` before each."""
    for event in session.store().events(run_id).query("level == 'warning'").itertuples():
        st.warning(f"{prefix}{literal(str(event.message))}", icon=":material/warning:")


def log(run: Run) -> None:
    """Show a command for the run, its job and its events; these may quote a user's file, so they stay plain."""
    commands.show(shown("runs", "resume" if run.state in RESUMABLE else "show", run.id))
    if job := job_of(run):
        st.text(job.stated)
    events, printed = session.store().events(run.id), logs(run.directory)
    if redaction.is_on():
        # An error, and what a worker prints, may quote a sample.
        events, printed = events.query("level != 'error'"), iter(())
    for event in events.itertuples():
        st.text(f"{event.level}: {event.message}")
    for one in printed:
        st.caption(f"The end of {literal(one.name)}")
        st.code(one.text, language=None, wrap_lines=True, height=240)
