"""The form that launches unlearning: one run, or a comparison of several, with what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pydantic
import streamlit as st

from mrd_core.runs import Run, RunState
from mrd_core.samples import read, saved_strata
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import Revision, revision
from mrd_core.scoring.records import ScoreSummary
from mrd_core.settings.fields import help_of
from mrd_core.settings.options import refusal
from mrd_core.studies.presets import Comparison
from mrd_core.unlearning.command import UNLEARN
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.cost import estimate
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.request import curriculum_frame, require_retain, weighing
from pages.parts.unlearning import presets, settings
from pages.parts.unlearning.presets import PRESETS
from pages.shell import commands, engine, layout, session, unlearnings
from pages.shell.configs import BY_ATTEMPT, config_of
from pages.shell.inputs import Values
from pages.shell.launching import launch
from pages.shell.notices import errors_shown
from pages.shell.wording import duration

ONE_RUN = "One run"
TERA = 1e12


@dataclass(frozen=True)
class ScoredSamples:
    """The samples of a score run that will be unlearned.

    Attributes:
        run: The score run.
        config: Its configuration.
        scores: Of the samples, a row each.
        stratum: File of the stratum that they are; None for all samples.
    """

    run: Run
    config: ScoreConfig
    scores: pd.DataFrame
    stratum: Path | None


def show(run: Run) -> bool:
    """Show the form and return whether it has launched something."""
    title = st.segmented_control(
        "Launch",
        [ONE_RUN, *PRESETS],
        default=ONE_RUN,
        required=True,
        key="unlearn_preset",
        persist_state="session",
    )
    preset, scored = PRESETS.get(title), _scored(run)
    values = _settings(scored, preset)
    with errors_shown():
        return _offer(scored, _configs(scored, preset, values))


def _scored(run: Run) -> ScoredSamples:
    """Let the user take all scored samples or a saved stratum of them."""
    scores, stratum = _scores(run, revision(ScoreFiles(run.directory))), None
    strata = {
        name: path
        for name, path in (saved_strata(run.directory) | saved_strata(session.settings().home)).items()
        if scores["sample_id"].isin(_ids_in(str(path), path.stat().st_mtime)).any()
    }
    if strata:
        title = st.selectbox(
            "What is unlearned",
            [f"All {len(scores)} samples", *strata],
            key=unlearnings.STRATUM,
            help=help_of(UnlearnConfig, "stratum"),
            persist_state="session",
        )
        stratum = strata.get(title)
    if stratum:
        scores = scores[scores["sample_id"].isin(_ids_in(str(stratum), stratum.stat().st_mtime))]
    return ScoredSamples(run, config_of(run, ScoreConfig), scores, stratum)


@st.cache_data(show_spinner=False, max_entries=4, hash_funcs=BY_ATTEMPT)
def _scores(run: Run, columns: Revision) -> pd.DataFrame:  # noqa: ARG001  (other imported columns are another key)
    return weighing(ScoreFiles(run.directory))


@st.cache_data(show_spinner=False, max_entries=32)
def _ids_in(path: str, changed: float) -> set[str]:  # noqa: ARG001  (a file that has changed is another key)
    return set(read(ForgetSetConfig(source=path)).frame["sample_id"])


def _settings(scored: ScoredSamples, preset: Comparison | None) -> Values:
    """Show the cards and return what was set."""
    values: Values = {}
    is_demo = scored.config.model.source == "demo"
    cards = layout.grid("unlearn_cards")
    with cards.container(border=True, height="stretch"):
        if preset is None:
            values |= settings.method()
        else:
            settings.compared(preset)
        values["seeds"] = settings.seeds(several=preset is not None)
    methods = [METHODS[name] for name in (preset.methods if preset else [values["method"]])]
    with cards.container(border=True, height="stretch"):
        values["curriculum"] = settings.curriculum(preset.samplers if preset else None, scored.scores)
    with cards.container(border=True, height="stretch"):
        values["retain"] = settings.retain(methods, demo=is_demo)
        if preset:
            values |= settings.refusals(methods)
        values["limits"] = settings.limits() | settings.guard()
    with cards.container(border=True, height="stretch"):
        values["stopping"] = settings.stopping(methods)
    with st.expander("Optimiser, adapter, checkpoints and evaluations", icon=":material/tune:"):
        values["optimiser"] = settings.optimiser(demo=is_demo)
        values |= settings.bookkeeping()
        values["evaluation"] = settings.evaluation()
    return values


def _configs(scored: ScoredSamples, preset: Comparison | None, values: Values) -> list[UnlearnConfig]:
    """Return the runs that were asked for.

    Raises:
        UserError: A setting is none, or something is missing that another setting needs.
    """
    seeds = values.pop("seeds")
    shared = _in_full(values) | {
        "score_run": scored.run.directory,
        "stratum": scored.stratum,
        "model": scored.config.model,
        "seed": seeds[0],
    }
    try:
        if preset is None:
            configs = [UnlearnConfig.model_validate(shared)]
        else:
            base = UnlearnConfig.model_validate(shared | {"method": preset.methods[0]})
            study = f"{preset.title}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
            configs = presets.configs(preset, base, seeds, study)
    except pydantic.ValidationError as error:
        raise refusal(error, "Correct it above.") from error
    for config in configs:
        require_retain(config)
        curriculum_frame(config, scored.scores, list(scored.scores["sample_id"]))
    return configs


def _in_full(values: Values) -> Values:
    """Return the values with paths and sources in full."""
    retain, stopping = dict(values["retain"]), dict(values["stopping"])
    retain["samples"] = retain["samples"].config()
    if "held_out" in stopping:
        stopping["held_out"] = stopping["held_out"].config()
    reference, refusals = stopping.get("reference"), values.get("refusals")
    stopping["reference"] = session.located(reference, local=False) if reference else None
    refusals = session.located(refusals, local=True) if refusals else None
    return values | {"retain": retain, "stopping": stopping, "refusals": refusals}


def _offer(scored: ScoredSamples, configs: Sequence[UnlearnConfig]) -> bool:
    """Show cost, button and command; return whether the button launched the runs."""
    row = st.container(horizontal=True, vertical_alignment="center")
    is_pressed = row.button("Unlearn", type="primary", icon=":material/ink_eraser:", key="unlearn_launch")
    cost, basis = _cost(scored, configs)
    row.container().caption(cost)
    if is_pressed:
        session.open_unlearnings([launch(config).id for config in configs])
        return True
    st.caption(basis)
    with st.expander("The same from the shell", icon=":material/terminal:"):
        commands.show(*(engine.command(UNLEARN, config) for config in configs))
        st.code(configs[0].model_dump_json(indent=2), language="json")
        if len(configs) > 1:
            st.caption("The other configurations differ in method, sampler and seed.")
    return False


def _cost(scored: ScoredSamples, configs: Sequence[UnlearnConfig]) -> tuple[str, str]:
    """Return in words what the runs will cost together, and what that comes from."""
    past = session.store().list(limit=50, states=[RunState.SUCCEEDED])
    summary = ScoreSummary.model_validate(scored.run.summary)
    costs = [estimate(config, summary, len(scored.scores), None, past) for config in configs]
    runs = f"Estimated cost of {len(costs)} runs, one after the other" if len(costs) > 1 else "Estimated cost"
    time = duration(sum(cost.seconds for cost in costs))
    longest = duration(sum(cost.max_seconds for cost in costs))
    flops = sum(cost.flops for cost in costs)
    on_the_way = ""
    if evaluations := sum(cost.evaluations for cost in costs):
        evaluating = sum(cost.evaluation_flops for cost in costs)
        share = f"{evaluating / TERA:.3g} of these TFLOP ({evaluating / flops:.0%})"
        on_the_way = f"Evaluating {evaluations} times takes {share}. "
    measured = max(cost.mrd_evaluations for cost in costs)
    mrd = f" MRD itself: {measured:,} forward evaluations." if measured else ""
    return (
        f"{runs}: about **{time}** (at most {longest}), {sum(cost.updates for cost in costs):,} updates (at most "
        f"{sum(cost.max_updates for cost in costs):,}), {flops / TERA:.3g} TFLOP."
    ), (
        f"{on_the_way}{costs[-1].looks_share:.0%} of the operations look who is forgotten.{mrd} "
        f"Memory: {max(costs, key=lambda cost: (cost.plan.peak if cost.plan else 0, len(cost.memory))).memory}. "
        f"By {costs[0].basis}."
    )
