"""What is compared: a baseline, up to five other settings, and result files of OpenUnlearning beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import streamlit as st

from analysis.comparison import evaluated
from analysis.comparison import table as comparison
from analysis.comparison.evaluated import ORIGINAL, Evaluated
from analysis.comparison.table import Comparison
from mrd_core.errors import UserError
from mrd_core.evaluation.suites import suites as declared_suites
from mrd_core.runs import Run
from mrd_core.samples.reading import check_size
from pages.parts.compare import runs as compare_runs
from pages.shell import session
from pages.shell.notices import literal, show_error

# Beside the baseline; the seeds of a setting count once.
MOST_OTHERS = 5
BASELINE, OTHERS, SUITE = "compare_baseline", "compare_others", "compare_suite"


class Upload(NamedTuple):
    """A result file that was uploaded."""

    name: str
    data: bytes


@dataclass(frozen=True)
class ComparedRuns:
    """What is compared, the baseline first: evaluations of this machine, then uploaded files."""

    runs: tuple[Run, ...]
    uploads: tuple[Upload, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Ids, directories and digests, which no other choice shares."""
        digests = (f"{name} {blake2b(data).hexdigest()}" for name, data in self.uploads)
        return *(f"{run.id} {run.directory}" for run in self.runs), *digests

    @property
    def evaluated(self) -> list[Evaluated]:
        """The evaluations and the uploaded files, read, in this order."""
        return [*map(compare_runs.read, self.runs), *(_parsed(name, data) for name, data in self.uploads)]


def choose(run: Run | None) -> ComparedRuns | None:
    """Let the user choose, and return what is compared; None where there is nothing to compare.

    Args:
        run: The score run at hand, whose evaluations are the first choice.
    """
    finished = compare_runs.finished(compare_runs.known())
    place = st.container()
    with st.expander("Result files of OpenUnlearning", icon=":material/upload_file:"):
        uploads = _uploads()
    with place:
        runs = _runs(_of_one_suite(finished, run), compare_runs.finished(compare_runs.of_score_run(run)))
    return ComparedRuns(tuple(runs), tuple(uploads)) if runs or uploads else None


def compared(chosen: ComparedRuns) -> Comparison:
    """Return what the evaluations say of one another.

    Raises:
        UserError: They cannot be compared.
    """
    return _compared(chosen.key, chosen)


# Numbers and ids, no texts: those would have to go when a run is deleted.
@st.cache_resource(show_spinner="Comparing: the samples are drawn anew a thousand times", max_entries=16)
def _compared(key: tuple[str, ...], _chosen: ComparedRuns) -> Comparison:  # noqa: ARG001
    return comparison.compare(_chosen.evaluated, 0)


@st.cache_resource(show_spinner=False, max_entries=16)
def _parsed(name: str, data: bytes) -> Evaluated:
    return evaluated.parse(name, data)


def _of_one_suite(finished: Sequence[Run], run: Run | None) -> list[Run]:
    """Return the evaluations of one suite, which the user chooses where there are several."""
    suites = {evaluation.id: compare_runs.config_of(evaluation).suite for evaluation in finished}
    present = [suite for suite in declared_suites() if suite in suites.values()]
    if len(present) > 1:
        named, _ = session.current_evaluations()
        known = [other for other in finished if other.id in named] or [
            other for other in finished if run and compare_runs.config_of(other).score_run == run.directory
        ]
        st.session_state.setdefault(SUITE, suites[(known or finished)[0].id])
        suite = st.segmented_control(
            "Suite", present, required=True, format_func=lambda name: declared_suites()[name].title, key=SUITE
        )
        return [other for other in finished if suites[other.id] == suite]
    return list(finished)


def _runs(known: Sequence[Run], own: Iterable[Run]) -> list[Run]:
    """Return the baseline and what is held against it.

    Args:
        known: Evaluations of one suite, newest first.
        own: Those of the score run at hand.
    """
    if not known:
        return []
    by_id = {run.id: run for run in known}
    named, baseline = session.current_evaluations()
    # A baseline without anything beside it is what clearing the choice leaves.
    alone = baseline in by_id and not named
    first = _newest_of_each([run for run in own if run.id in by_id] or known)
    if baseline not in by_id:
        baseline = next((run.id for run in first if compare_runs.subject_of(run).label == ORIGINAL), first[0].id)
    others = [name for name in named if name in by_id and name != baseline]
    if not others and not alone:
        others = [run.id for run in _within_limit(first, by_id[baseline])]
    _controls(by_id, baseline, others)
    kept = _within_limit([by_id[name] for name in others], by_id[baseline])
    if len(kept) < len(others):
        left_out = (by_id[name] for name in others if by_id[name] not in kept)
        names = ", ".join(compare_runs.subject_of(run).name for run in left_out)
        st.warning(
            f"At most {MOST_OTHERS} settings beside the baseline; left out: {names}.",
            icon=":material/filter_alt:",
        )
    return [by_id[baseline], *kept]


def _newest_of_each(runs: Iterable[Run]) -> list[Run]:
    """Return the newest evaluation of each model, in the order of their first submission."""
    newest: dict[object, Run] = {}
    for run in runs:
        config = compare_runs.config_of(run)
        newest.setdefault(config.unlearn_run or config.model.model_dump_json(), run)
    return sorted(newest.values(), key=lambda run: run.seq)


def _within_limit(runs: Iterable[Run], baseline: Run) -> list[Run]:
    """Return those of the first settings, besides the baseline and others of its setting."""
    own = compare_runs.read(baseline).group
    kept: list[Run] = []
    settings: set[str] = set()
    for run in runs:
        setting = compare_runs.read(run).group
        if run.id != baseline.id and (setting in settings | {own} or len(settings) < MOST_OTHERS):
            settings |= {setting} - {own}
            kept.append(run)
    return kept


def _controls(known: dict[str, Run], baseline: str, others: Sequence[str]) -> None:
    """Show what is chosen, and let it be changed."""
    # The URL says what is looked at, whatever these controls said last.
    st.session_state[BASELINE] = baseline
    st.session_state[OTHERS] = list(others)

    def take() -> None:
        wanted = st.session_state[BASELINE]
        session.open_evaluations([name for name in st.session_state[OTHERS] if name != wanted], wanted)

    titles = _titles(list(known.values()))
    left, right = st.columns([2, 3])
    left.selectbox(
        "Baseline",
        list(known),
        format_func=titles.__getitem__,
        key=BASELINE,
        on_change=take,
        help="What the others are held against; usually the model before unlearning",
    )
    right.multiselect(
        "Held against it",
        [name for name in known if name != baseline],
        format_func=titles.__getitem__,
        key=OTHERS,
        on_change=take,
        help=f"At most {MOST_OTHERS} settings; the seeds of one setting count once and are shown as its spread",
    )


def _titles(runs: Sequence[Run]) -> dict[str, str]:
    """Return what to call evaluations, by id; of several of one model when each was made."""
    names = {run.id: compare_runs.name_of(run) for run in runs}
    taken = list(names.values())
    return {
        run.id: name
        if taken.count(name := names[run.id]) == 1
        else f"{name} · {run.created_at:%Y-%m-%d %H:%M} UTC"
        for run in runs
    }


def _uploads() -> list[Upload]:
    """Return the result files that were uploaded and can be read; why the others cannot is shown."""
    limit = session.settings().upload_limit_mb
    files = st.file_uploader(
        "Show them beside the runs of this machine",
        accept_multiple_files=True,
        max_upload_size=limit,
        key="compare_uploads",
        help=f"…_EVAL.json of an evaluation on TOFU, at most {limit} MB each. The content is checked, whatever "
        "the name says.",
    )
    uploads = []
    for file in files[:MOST_OTHERS]:
        upload = Upload(file.name, file.getvalue())
        try:
            check_size(upload.name, len(upload.data), limit * 10**6)
            _parsed(*upload)
        except UserError as error:
            show_error(error)
            continue
        uploads.append(upload)
    if len(files) > MOST_OTHERS:
        st.warning(f"The first {MOST_OTHERS} files are taken.", icon=":material/filter_alt:")
    for upload in uploads:
        st.caption(f":material/check: {literal(upload.name)} is compared.")
    return uploads
