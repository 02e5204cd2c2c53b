"""A tab for each experiment: the question, what the runs of it show, and the form for another one."""

from __future__ import annotations

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.experiments.config import EXPERIMENTS, ValidityConfig
from mrd_core.runs import ACTIVE, Run, RunState
from pages.parts.evidence import form as evidence_form
from pages.parts.evidence import result as evidence_result
from pages.parts.evidence import runs as evidence_runs
from pages.shell import experiments, run_panel, session
from pages.shell.deletion import confirm_deletion
from pages.shell.notices import show_error

TAB = "evidence_tab"
TITLES = {
    "validity": "Predictive validity",
    "parameter-change": "Parameter change",
    "selection": "Selection bias",
    "sensitivity": "Sensitivity",
    "theorem": "Theorem 3.2",
}
QUESTIONS = {
    "validity": "Does difficulty say how many updates it takes to forget a sample?",
    "parameter-change": "Do harder samples move the weights further when they are unlearned?",
    "selection": "Does the choice of the forget samples change which method looks best?",
    "sensitivity": "Over which σ, and from how many evaluations on, is MRD the same measure?",
    "theorem": "Is MRD/σ² what Theorem 3.2 says, half the trace of the Hessian?",
}
HOW = {
    "validity": "Each of n samples, drawn at random, is unlearned alone from the same starting weights with the "
    "same settings, until the model no longer knows it by heart; its updates are counted.",
    "parameter-change": "Composites of samples, drawn with replacement, are unlearned, each from the same "
    "starting weights; how far the weights moved is measured.",
    "selection": "Methods unlearn the same random selections, single samples and groups, and then selections that "
    "are balanced by difficulty.",
    "sensitivity": "The same samples are measured at many σ, in two precisions, and with many draws, plain and in "
    "antithetic pairs.",
    "theorem": "On a few samples the trace is estimated by Hutchinson’s method, in double precision. Small models "
    "only.",
}
SO_FAR_SECONDS = 5.0


def show(run: Run) -> None:
    """Show all experiments on a score run; only the tab that is open is drawn up."""
    tabs = st.tabs(list(TITLES.values()), default=TITLES[_first(run)], key=TAB, on_change="rerun")
    for kind, tab in zip(TITLES, tabs, strict=True):
        if tab.open:
            with tab:
                _experiment(run, kind)


def _first(run: Run) -> str:
    """Return the kind of the experiment that the URL names."""
    named = st.query_params.get(session.EXPERIMENT)
    return next(
        (
            experiment.kind
            for experiment in session.store().list(kinds=EXPERIMENTS, score_run=run)
            if experiment.id == named
        ),
        "validity",
    )


def _experiment(run: Run, kind: str) -> None:
    st.markdown(f"#### {QUESTIONS[kind]}")
    st.caption(HOW[kind])
    known = experiments.of_kind(run, kind)
    looked_at = evidence_runs.choose(kind, known)
    if looked_at is not None:
        _run(run, looked_at)
    label = "Run it once more, with other settings" if known else "Run it"
    with st.expander(label, expanded=looked_at is None, icon=":material/tune:"):
        evidence_form.show(run, kind)


def _run(run: Run, experiment: Run) -> None:
    """Show an experiment in whatever state it is."""
    if experiment.state is RunState.SUCCEEDED:
        _result(run, experiment)
        return
    with st.container(border=True):
        st.caption(evidence_runs.in_words(experiment))
        run_panel.body(experiment, leave=lambda: session.open_experiment(experiment.kind, ""))
    if experiment.kind == experiments.VALIDITY:
        st.fragment(_so_far, run_every=SO_FAR_SECONDS if experiment.state in ACTIVE else None)(run, experiment)


def _result(run: Run, experiment: Run) -> None:
    try:
        evidence = evidence_runs.judged(experiment)
    except UserError as error:
        show_error(error)
        if st.button("Delete run", icon=":material/delete:", key="delete"):
            confirm_deletion(experiment.id, lambda: session.open_experiment(experiment.kind, ""))
        return
    evidence_result.show(run, experiment, evidence)


def _so_far(run: Run, experiment: Run) -> None:
    """Say what the samples that are done already show."""
    config = experiments.config_of(experiment)
    assert isinstance(config, ValidityConfig)
    wanted = min(config.samples, (run.summary or {})["n_samples"])
    for line in experiments.headlines(experiment):
        st.caption(f"So far, {line.estimate.n} of {wanted} samples: {line.text}.")
