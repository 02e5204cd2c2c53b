"""What is compared: a baseline, up to five other settings, and result files of OpenUnlearning beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import streamlit as st

from analysis.comparison import evaluated
from analysis.comparison.evaluated import ORIGINAL, Evaluated
from analysis.comparison.table import Comparison, compare
from mrd_core.evaluation.suites import suites as declared_suites
from mrd_core.runs import Run
from mrd_core.samples.limits import check_size
from pages.parts.compare import runs
from pages.shell import session
from pages.shell.notices import errors_shown, literal
from pages.shell.wording import told_apart

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
        return [*map(runs.read, self.runs), *(_parsed(name, data) for name, data in self.uploads)]


BY_KEY: dict[str | type[Any], Any] = {ComparedRuns: lambda chosen: chosen.key}


def choose(run: Run | None) -> ComparedRuns | None:
    """Let the user choose, and return what is compared; None where there is nothing to compare.

    Args:
        run: The score run at hand, whose evaluations are the first choice.
    """
    place = st.container()
    with st.expander("Result files of OpenUnlearning", icon=":material/upload_file:"):
        uploads = _uploads()
    with place:
        evaluations = _of_one_suite(runs.finished(runs.readable()), run)
        own = {other.id for other in runs.of_score_run(run)}
        chosen = _chosen({other.id: other for other in evaluations}, own) if evaluations else []
    return ComparedRuns(tuple(chosen), tuple(uploads)) if chosen or uploads else None


# Numbers and ids, no texts: those would have to go when a run is deleted.
@st.cache_resource(
    show_spinner="Comparing: the samples are drawn anew a thousand times", max_entries=16, hash_funcs=BY_KEY
)
def compared(chosen: ComparedRuns) -> Comparison:
    """Return what the evaluations say of one another.

    Raises:
        UserError: They cannot be compared.
    """
    return compare(chosen.evaluated, 0)


@st.cache_resource(show_spinner=False, max_entries=16)
def _parsed(name: str, data: bytes) -> Evaluated:
    return evaluated.parse(name, data)


def _of_one_suite(finished: Sequence[Run], run: Run | None) -> list[Run]:
    """Return the evaluations of one suite, which the user chooses where there are several."""
    suites = {evaluation.id: runs.config_of(evaluation).suite for evaluation in finished}
    titles = {name: suite.title for name, suite in declared_suites().items() if name in suites.values()}
    if len(titles) < 2:
        return list(finished)
    ids, _ = session.current_evaluations()
    own = [other for other in finished if other.id in ids] or [
        other for other in finished if run and runs.config_of(other).score_run == run.directory
    ]
    st.session_state.setdefault(SUITE, suites[(own or finished)[0].id])
    suite = st.segmented_control("Suite", list(titles), required=True, format_func=titles.__getitem__, key=SUITE)
    return [other for other in finished if suites[other.id] == suite]


def _chosen(evaluations: Mapping[str, Run], own: Collection[str]) -> list[Run]:
    """Return the baseline and what is held against it.

    Args:
        evaluations: Those of one suite by id, newest first.
        own: Ids of those of the score run at hand.
    """
    ids, baseline = session.current_evaluations()
    # A baseline without anything beside it is what clearing the choice leaves.
    is_alone = baseline in evaluations and not ids
    # The newest evaluation of each model, in the order of their first submission.
    newest: dict[object, Run] = {}
    for run in [run for run in evaluations.values() if run.id in own] or evaluations.values():
        config = runs.config_of(run)
        newest.setdefault(config.unlearn_run or config.model.model_dump_json(exclude={"date"}), run)
    first = sorted(newest.values(), key=lambda run: run.seq)
    if baseline is None or baseline not in evaluations:
        baseline = next((run.id for run in first if runs.subject_of(run).label == ORIGINAL), first[0].id)
    others = [run_id for run_id in ids if run_id in evaluations and run_id != baseline]
    if not others and not is_alone:
        others = [run.id for run in _within_limit(first, evaluations[baseline])]
        session.suggest_evaluations(others, baseline)
    _controls(evaluations, baseline, others)
    kept = _within_limit([evaluations[run_id] for run_id in others], evaluations[baseline])
    if len(kept) < len(others):
        left_out = (evaluations[run_id] for run_id in others if evaluations[run_id] not in kept)
        names = ", ".join(runs.subject_of(run).name for run in left_out)
        st.warning(
            f"At most {MOST_OTHERS} settings beside the baseline; left out: {names}.",
            icon=":material/filter_alt:",
        )
    return [evaluations[baseline], *kept]


def _within_limit(evaluations: Iterable[Run], baseline: Run) -> list[Run]:
    """Return those of the first settings, besides the baseline and others of its setting."""
    own = runs.read(baseline).group
    kept: list[Run] = []
    settings: set[str] = set()
    for run in evaluations:
        setting = runs.read(run).group
        if run.id != baseline.id and (setting in settings | {own} or len(settings) < MOST_OTHERS):
            settings |= {setting} - {own}
            kept.append(run)
    return kept


def _controls(evaluations: Mapping[str, Run], baseline: str, others: Sequence[str]) -> None:
    """Show what is chosen, and let it be changed."""
    # The URL says what is selected, whatever these controls said last.
    st.session_state[BASELINE] = baseline
    st.session_state[OTHERS] = list(others)

    def take() -> None:
        wanted = st.session_state[BASELINE]
        session.open_evaluations([run_id for run_id in st.session_state[OTHERS] if run_id != wanted], wanted)

    titles = told_apart(
        {run_id: runs.name_of(run) for run_id, run in evaluations.items()},
        {run_id: f" · {run.created_at:%Y-%m-%d %H:%M} UTC" for run_id, run in evaluations.items()},
    )
    left, right = st.columns([2, 3])
    left.selectbox(
        "Baseline",
        list(titles),
        format_func=titles.__getitem__,
        key=BASELINE,
        on_change=take,
        help="What the others are held against; usually the model before unlearning",
    )
    # A choice of nothing would stand there in letters too pale to read.
    if rest := [run_id for run_id in titles if run_id != baseline]:
        right.multiselect(
            "Held against it",
            rest,
            format_func=titles.__getitem__,
            key=OTHERS,
            on_change=take,
            help=f"At most {MOST_OTHERS} settings; the seeds of one count once and are shown as its spread",
        )


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
        with errors_shown(ends_page=False):
            check_size(upload.name, len(upload.data), limit * 10**6)
            _parsed(*upload)
            uploads.append(upload)
    if len(files) > MOST_OTHERS:
        st.warning(f"The first {MOST_OTHERS} files are taken.", icon=":material/filter_alt:")
    for upload in uploads:
        st.caption(f":material/check: {literal(upload.name)} is compared.")
    return uploads
