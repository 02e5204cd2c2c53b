"""What a browser session holds: the forget set at hand, the store, the run and the sample looked at.

The run, its unlearning runs and the experiment looked at, the evaluations compared, and the sample live in the URL
(`?run=…&unlearn=…,…&experiment=…&evaluations=…,…&baseline=…&sample=…`), and so do the view of a page, the scores
that are looked at, the search and the samples chosen in a chart (`&view=…&view_normalisation=…&search=…&box=…`): a
link shows what its sender saw. A URL never starts anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st
from streamlit.errors import StreamlitAPIException

from mrd_core.dossier.files import Part
from mrd_core.dossier.opening import store_in
from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState, RunStore
from mrd_core.runs.faults import StoreError
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.folders import check_within
from mrd_core.settings.installation import Settings
from mrd_core.settings.places import expanded
from pages.shell import commands
from pages.shell.notices import literal

RUN, SAMPLE, READING, UNLEARN, EXPERIMENT = "run", "sample", "reading", "unlearn", "experiment"
STALE_SEARCH = "stale_search"
EVALUATIONS, BASELINE, SEARCH = "evaluations", "baseline", "search"
# The samples that are chosen in a chart; what is compared until the user chooses.
BOX, SUGGESTED = "box", "suggested_evaluations"
# Of a widget whose value a link brings back, under the name of its key.
IN_URL: Literal["query-params"] = "query-params"
LEFT = "left_run"
# What belongs to one score run.
OF_RUN = (UNLEARN, EXPERIMENT, EVALUATIONS, BASELINE, BOX)


@dataclass(frozen=True)
class SourcedForgetSet:
    """A forget set and where it came from."""

    forget_set: ForgetSet
    config: ForgetSetConfig


def settings() -> Settings:
    """Return the settings of this installation."""
    return Settings.from_environment()


def store() -> RunStore:
    """Return the store of the run that is looked at: the user's own, or that of the runs that ship finished."""
    return _shipped(settings().home) if is_shipped() else own_store()


def own_store() -> RunStore:
    """Return the run store of this installation, shared by all sessions of this server."""
    opened = _store(settings())
    if opened.obstacle:
        # A copy to read; the next look may find the store itself.
        _store.clear()
    return opened


def is_shipped() -> bool:
    """Tell whether the run that is looked at ships finished, and can only be read."""
    return (st.query_params.get(RUN) or st.session_state.get(RUN)) in set(Part)


def require_writable() -> None:
    """Refuse to write beside runs that can only be read.

    Raises:
        StoreError: They are such.
    """
    if obstacle := store().obstacle:
        raise obstacle


def look_for_lost() -> None:
    """Mark runs whose worker is gone; where the store cannot be written, say so and show what can be read."""
    if is_shipped():
        return
    opened = store()
    try:
        if opened.obstacle:
            raise opened.obstacle
        opened.reap()
    except StoreError as error:
        st.warning(literal(commands.in_full(f"{error.cause} {error.fix}")), icon=":material/error:")


@st.cache_resource(show_spinner=False)
def _store(installation: Settings) -> RunStore:
    return RunStore.open(installation)


_shipped = st.cache_resource(show_spinner=False)(store_in)


def forget_set() -> SourcedForgetSet | None:
    """Return the forget set at hand, if any."""
    chosen: SourcedForgetSet | None = st.session_state.get("forget_set")
    return chosen


def choose_forget_set(forget_set: ForgetSet, config: ForgetSetConfig) -> None:
    """Make this the forget set at hand; `config` says where it came from."""
    st.session_state["forget_set"] = SourcedForgetSet(forget_set, config)


def choose_demo() -> None:
    """Make the demo's forget set the one at hand."""
    config = ForgetSetConfig(source="demo")
    choose_forget_set(read(config), config)


def current_run() -> Run | None:
    """Return the run that the URL, or else this session, names, or else the newest score run that succeeded.

    None where a run was left for a new one, or there is no such run any more.
    """
    run_id = st.query_params.get(RUN) or st.session_state.get(RUN)
    if not run_id:
        is_new = st.session_state.get(LEFT) or forget_set() is not None
        newest = [] if is_new else store().list(1, kinds=("score",), states=(RunState.SUCCEEDED,))
        for run in newest:
            open_run(run.id)
        return next(iter(newest), None)
    opened = store()
    try:
        run = opened.get(run_id)
    except UserError:
        leave_run()
        st.warning(f"There is no run {literal(run_id)} on this machine.", icon=":material/error:")
        return None
    open_run(run.id)
    return run


def open_run(run_id: str) -> None:
    """Look at a run, from now on and on every page."""
    if st.session_state.get(RUN) not in (None, run_id):
        for name in (SAMPLE, *OF_RUN):
            st.query_params.pop(name, None)
        forget_filters()
    st.session_state[RUN] = run_id
    st.session_state.pop(LEFT, None)
    st.query_params[RUN] = run_id


def leave_run() -> None:
    """Look at no run, until one is opened."""
    st.session_state.pop(RUN, None)
    st.session_state[LEFT] = True
    for name in (RUN, SAMPLE, *OF_RUN):
        st.query_params.pop(name, None)
    forget_filters()


def forget_filters() -> None:
    """Drop the filters, the reading, and what else is looked at that belongs to one run."""
    # Where it is drawn already it cannot be set: it is emptied before it is drawn again.
    try:
        st.session_state[SEARCH] = ""
    except StreamlitAPIException:
        st.session_state[STALE_SEARCH] = True
    for key in (READING, *OF_RUN):
        st.session_state.pop(key, None)


def current_reading(run: Run) -> Run | None:
    """Return the selected characteristics run: the one chosen last, or else the newest good one."""
    return _newest_good(store().list(kinds=("characteristics",), score_run=run), st.session_state.get(READING))


def open_reading(reading_id: str) -> None:
    """Look at a characteristics run; "" asks for another one."""
    st.session_state[READING] = reading_id


def current_unlearnings(runs: Sequence[Run]) -> list[Run]:
    """Return those of the unlearning runs, newest first, that the URL, or else this session, names.

    Where it names none, they are the newest run and the others of its study.
    """
    ids = (st.query_params.get(UNLEARN) or st.session_state.get(UNLEARN) or "").split(",")
    selection = [run for run in runs if run.id in ids]
    if selection or not runs:
        return selection
    newest = runs[0]
    return [run for run in runs if run is newest or (newest.study and run.study == newest.study)]


def open_unlearnings(run_ids: Iterable[str]) -> None:
    """Look at these unlearning runs."""
    _name(UNLEARN, ",".join(run_ids))


def current_experiment(kind: str, runs: Sequence[Run]) -> Run | None:
    """Return the selected experiment among those of a kind, newest first.

    It is the one that the URL, or else this session, names, or else the newest good one; None where another one
    is asked for, or there is none.
    """
    run_id = st.query_params.get(EXPERIMENT)
    if all(run.id != run_id for run in runs):
        run_id = st.session_state.get(EXPERIMENT, {}).get(kind)
    return _newest_good(runs, run_id)


def open_experiment(kind: str, run_id: str) -> None:
    """Look at an experiment of this kind; "" asks for another one."""
    st.session_state[EXPERIMENT] = st.session_state.get(EXPERIMENT, {}) | {kind: run_id}
    if run_id:
        st.query_params[EXPERIMENT] = run_id
    else:
        st.query_params.pop(EXPERIMENT, None)


def current_evaluations() -> tuple[list[str], str | None]:
    """Return the ids of the evaluations that the URL, or else this session, names, and that of the baseline."""
    linked = st.query_params.get(EVALUATIONS), st.query_params.get(BASELINE)
    # Nobody has chosen what the page itself suggested: a newer evaluation may take its place.
    names = (None, None) if linked == st.session_state.get(SUGGESTED) else linked
    ids, baseline = (
        each or st.session_state.get(key) for each, key in zip(names, (EVALUATIONS, BASELINE), strict=True)
    )
    return ids.split(",") if ids else [], baseline


def suggest_evaluations(run_ids: Iterable[str], baseline: str) -> None:
    """Name in the URL what is compared as long as the user has chosen nothing, so that a link shows the same."""
    suggested = ",".join(run_ids), baseline
    st.session_state[SUGGESTED] = suggested
    st.query_params.update(dict(zip((EVALUATIONS, BASELINE), suggested, strict=True)))


def open_evaluations(run_ids: Iterable[str], baseline: str | None) -> None:
    """Hold these evaluations against the baseline."""
    _name(EVALUATIONS, ",".join(run_ids))
    _name(BASELINE, baseline)


def _name(name: str, value: str | None) -> None:
    """Write down what is looked at in this session and in the URL; nothing where there is nothing."""
    if value:
        st.session_state[name] = st.query_params[name] = value
    else:
        st.session_state.pop(name, None)
        st.query_params.pop(name, None)


def _newest_good(runs: Sequence[Run], run_id: str | None) -> Run | None:
    """Return the run with this id, else the newest that goes on or succeeded, else the newest; none for ""."""
    if run_id == "":
        return None
    good = [run for run in runs if run.state in ACTIVE | {RunState.SUCCEEDED}]
    return next((run for run in runs if run.id == run_id), next(iter(good or runs), None))


def select_many(sample_ids: set[str], label: str) -> None:
    """Filter every view to these samples; the chip says `label`."""
    st.session_state[BOX] = sample_ids
    st.session_state["box_label"] = label
    # Written anew when the page is drawn.
    st.query_params.pop(BOX, None)


def current_sample() -> str | None:
    """Return the id of the sample that is looked at."""
    return st.query_params.get(SAMPLE)


def select_sample(sample_id: str) -> None:
    """Look at a sample, in every chart, table and token view."""
    st.query_params[SAMPLE] = sample_id


def step_to(sample_id: str) -> None:
    """Look at a sample that was chosen elsewhere than in a table, which is drawn anew with it marked."""
    select_sample(sample_id)
    st.session_state["table_epoch"] = table_epoch() + 1


def table_epoch() -> int:
    """Return a number that changes whenever the selection is made elsewhere than in the table."""
    return int(st.session_state.get("table_epoch", 0))


def charts_epoch() -> int:
    """Return a number that changes whenever a selection is undone that a chart may still show."""
    return int(st.session_state.get("charts_epoch", 0))


def renew_charts() -> None:
    """Have the charts drawn anew, without the selection that the browser remembers."""
    st.session_state["charts_epoch"] = charts_epoch() + 1


def located(text: str, *, local: bool) -> str:
    """Return a path typed in the browser in full, so that it means the same from any directory.

    A name on the hub is returned as it is, unless the text can only be meant as a path (`local`).

    Raises:
        UserError: No allowed root holds the path, or a file that a folder's links lead to.
    """
    try:
        path = expanded(text).resolve()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The path '{text[:80]}'", f"cannot be looked up ({error}).", "Check it for a typing error."
        ) from error
    if not (local or exists or text.startswith((".", "/", "~"))):
        return text
    roots = settings().allowed_roots
    if not any(path.is_relative_to(root) for root in roots):
        raise UserError(
            f"The path '{text}'",
            f"lies outside the folders that this app may read ({', '.join(map(str, roots))}).",
            "Start the app with MRD_ALLOWED_ROOTS naming the folder, or use the command line.",
        )
    if path.is_dir():
        check_within(path, roots)
    return str(path)
