"""The one report on a score run and all that rests on it, offered by every page that shows a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from analysis.audit.config import AuditConfig
from analysis.report.audit import audited_set
from analysis.report.files import FIGURES, HTML, JSON, MARKDOWN, contents, figures
from analysis.report.making import default_options, report_of
from analysis.report.provenance import maker
from analysis.report.runs import Members, members
from mrd_core.runs import Run
from mrd_core.settings.command import shown
from pages.shell import commands, redaction, session
from pages.shell.configs import BY_ATTEMPT
from pages.shell.downloads import archive, download
from pages.shell.notices import errors_shown

_FIGURES = f"{FIGURES}.zip"
LABELS = {HTML: "Report (HTML)", MARKDOWN: "Report (Markdown)", JSON: "Report (JSON)", _FIGURES: "Figures (SVG)"}
# Ids of the score runs whose report was asked for in this session.
_ASKED = "reports"


def offer(run: Run, place: Any = None, audit: AuditConfig | None = None) -> None:
    """Show the button that makes the report, and its files once it was pressed.

    Args:
        run: The score run.
        place: Where the button stands; by default where the page is drawn.
        audit: How a set within the run's samples is held against random ones, in the report too; None for none.
    """
    asked: set[str] = st.session_state.setdefault(_ASKED, set())
    pressed = (place or st).button(
        "Report",
        key="make_report",
        icon=":material/summarize:",
        help="On these scores and all that rests on them: verdicts, figures, where they come from. To print.",
    )
    if pressed:
        asked.add(run.id)
    if run.id not in asked:
        return
    with errors_shown(ends_page=False):
        is_redacted = redaction.is_on()
        whole = members([run.directory], session.store())
        row = st.container(horizontal=True)
        for name, content in _files(run, whole, audit, without_texts=is_redacted).items():
            download(row, LABELS[name], content, f"{run.id}-{Path(name).name}", f"report_{name}", "tertiary")
        texts = ["--without-texts"] if is_redacted else []
        audited = (
            ["--audit", audit.forget_set, *(["--group", audit.group] if audit.group else [])] if audit else []
        )
        commands.show(shown("report", run.directory, *audited, *texts, "--out", "report"))


# What rests on the run is part of the key; a run that ended stays as it is.
@st.cache_data(show_spinner="Writing the report", max_entries=4, hash_funcs=BY_ATTEMPT | {Members: repr})
def _files(
    run: Run,  # noqa: ARG001
    whole: Members,
    audit: AuditConfig | None,
    *,
    without_texts: bool,
) -> dict[str, bytes]:
    chosen = audited_set(audit, session.settings().home, Path) if audit else None
    options = default_options(whole, without_texts=without_texts, audit=chosen)
    report = report_of(whole, options, maker())
    return contents(report) | {_FIGURES: archive(figures(report).items())}
