"""Evaluating runs: the model before unlearning and what each run made of it, all asked alike, from one click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pydantic
import streamlit as st

from analysis.comparison.evaluated import ORIGINAL
from mrd_core.errors import UserError
from mrd_core.evaluation.command import EVALUATE
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.records import EvaluationSummary
from mrd_core.evaluation.request import completed
from mrd_core.runs import ACTIVE, Run, RunState
from mrd_core.settings.options import refusal
from pages.parts.compare import progress, runs, settings
from pages.shell import commands, engine, paths, session, unlearnings
from pages.shell.inputs import Values
from pages.shell.launching import launch, resume
from pages.shell.notices import empty_state, errors_shown, literal
from pages.shell.scored import Scored
from pages.shell.scored import scored as scored_run
from pages.shell.wording import duration

# What is evaluated, not how.
OF_SUBJECT = {"model", "unlearn_run"}


@dataclass(frozen=True)
class Planned:
    """An evaluation that is wanted.

    Attributes:
        name: Of what is evaluated.
        config: As it would be asked for.
        same: The newest evaluation that was asked for with the same settings.
    """

    name: str
    config: EvaluateConfig
    same: Run | None

    @property
    def is_due(self) -> bool:
        """Whether it is neither done nor under way."""
        return self.same is None or self.same.state not in ACTIVE | {RunState.SUCCEEDED}


def show(run: Run) -> None:
    """Offer to evaluate a score run's model and its unlearning runs, and show those that go on."""
    unlearned = session.store().list(kinds=("unlearn",), score_run=run)
    done = runs.finished(unlearned)
    if not done and not runs.of_score_run(run):
        # There is only the model before unlearning to evaluate.
        sentence = "Nothing is unlearned from these samples yet, so there is one model to evaluate, and no other."
        if any(other.state in ACTIVE for other in unlearned):
            sentence = "Nothing has been unlearned to its end yet; a run that goes on can be evaluated after it."
        if empty_state(sentence, "Look at the runs" if unlearned else "Unlearn", "compare_unlearn"):
            st.switch_page(paths.UNLEARNING, query_params={session.RUN: run.id})
    scored = scored_run(run)
    with st.container(border=True):
        place = st.container()
        with st.expander("Other runs, settings, and the command line", icon=":material/tune:"):
            chosen = unlearnings.choose(done, session.current_unlearnings(done))
            values = settings.ask(demo=scored.is_demo)
            shell = st.container()
        planned: list[Planned] = []
        # What is compared below does not depend on it.
        with place, errors_shown(ends_page=False):
            offered = _planned(scored, chosen, values)
            _offer(scored, offered)
            planned = offered
        if planned:
            commands.show(*(engine.command(EVALUATE, plan.config) for plan in planned), place=shell)
    unfinished = [other for other in runs.of_score_run(run) if other.state is not RunState.SUCCEEDED]
    progress.show([*(plan.same for plan in planned if plan.same), *unfinished])


def _planned(scored: Scored, unlearned: Sequence[Run], values: Values) -> list[Planned]:
    """Return the evaluation of the model before unlearning and those of the runs that still have a model.

    Raises:
        UserError: A setting is none, or something is missing that another setting needs.
    """
    try:
        original = EvaluateConfig.model_validate(settings.config_values(scored, values))
    except pydantic.ValidationError as error:
        raise refusal(error, "Correct it above.") from error
    configs = {ORIGINAL: original}
    names = unlearnings.names_of(unlearned)
    for run in unlearned:
        name = names[run.id]
        try:
            configs[name] = completed(original.model_copy(update={"unlearn_run": run.directory}))
        except UserError as error:
            st.caption(f":material/info: {name} is left out: {literal(error.cause)}")
    past = runs.readable()
    return [
        Planned(name, config, next((run for run in past if runs.config_of(run) == config), None))
        for name, config in configs.items()
    ]


def _offer(scored: Scored, planned: Sequence[Planned]) -> None:
    """Show the button, what it would evaluate, and the time that will take.

    Raises:
        UserError: A set that is asked for is missing or no good.
    """
    due = [plan for plan in planned if plan.is_due]
    row = st.container(horizontal=True, vertical_alignment="center")
    label = "Evaluate these runs" if len(planned) > 1 else "Evaluate this model"
    pressed = row.button(label, type="primary", icon=":material/play_arrow:", key="evaluate", disabled=not due)
    names = ", ".join(f"**{plan.name}**" for plan in due or planned)
    if due:
        rest = len(planned) - len(due)
        state = f" ({rest} of {len(planned)} are asked already)" if rest else ""
        state += f"  \n:small[{_time(scored, due)}]"
    else:
        going_on = sum(plan.same is not None and plan.same.state in ACTIVE for plan in planned)
        done = ":material/check_circle: evaluated with these settings"
        state = f": {going_on} under way." if going_on else f": {done}."
    row.container().markdown(f"{names}{state}")
    if pressed:
        # What ended early with the same settings goes on.
        for plan in due:
            if plan.same is not None:
                resume(plan.same)
            else:
                launch(plan.config)
        st.rerun()


def _time(scored: Scored, due: Sequence[Planned]) -> str:
    """Return in words how long the evaluations will take, by earlier ones."""
    past = [(run, runs.config_of(run)) for run in runs.finished(runs.readable())]
    alike = next((run for run, config in past if _asked(config) == _asked(due[0].config)), None)
    if alike is not None and alike.summary:
        seconds = EvaluationSummary.model_validate(alike.summary).seconds * len(due)
        return (
            f"Estimated time: about {duration(seconds)}, by the evaluation of {alike.created_at:%Y-%m-%d %H:%M}."
        )
    own = next((run for run, config in past if config.score_run == scored.run.directory), None)
    summary = EvaluationSummary.model_validate(own.summary) if own is not None and own.summary else None
    if summary and summary.n_samples:
        each = summary.seconds / summary.n_samples
        return f"Estimated time: about {each:.2g} s for each sample of each run, by the last evaluation."
    return "How long it takes is not known before the first has ended."


def _asked(config: EvaluateConfig) -> dict[str, object]:
    return config.model_dump(exclude=OF_SUBJECT)
