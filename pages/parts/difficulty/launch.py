"""The launch form of a score run: presets, options with unit and help, cost, the shell command."""

from __future__ import annotations

import pydantic
import streamlit as st

from mrd_core.experiments import short_check
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunState
from mrd_core.samples.sources import is_nowhere
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.cost import ScoringCost, estimate
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.fields import help_of
from mrd_core.settings.options import refusal
from pages.shell import commands, engine, session
from pages.shell.inputs import Form, number_or_word
from pages.shell.launching import launch
from pages.shell.notices import errors_shown, literal
from pages.shell.wording import duration

PRESETS = {
    "Recommended": EstimatorConfig(),
    "Preview": EstimatorConfig(preview=True),
    "Paper": EstimatorConfig.paper(),
}
FORM = Form("score")
LOCAL = "Folder or GGUF file"


def show(chosen: session.SourcedForgetSet) -> None:
    """Show the form; the button launches a worker and opens its run."""
    st.markdown(f"**Forget set** {literal(chosen.config.source)} · {len(chosen.forget_set)} samples")
    with errors_shown():
        config = ScoreConfig(
            forget_set=chosen.config,
            forget_set_digest=chosen.forget_set.digest,
            model=_model(),
            estimator=_estimator(),
        )
        past = session.store().list(limit=20, states=[RunState.SUCCEEDED])
        cost = estimate(chosen.forget_set, config.model.location, config.estimator, past)
        time = f"about {duration(cost.seconds)} by {cost.basis}" if cost.seconds else cost.basis
        memory = f"; about {cost.memory / 2**30:.1f} GiB" if cost.memory else ""
        passes = ", ".join(f"{name} {count:.3g}" for name, count in cost.passes.items() if count)
        evaluations = f"{cost.evaluations} forward evaluations (at most {cost.cap})"
        st.caption(
            f"Estimated cost: {evaluations if cost.cap else 'sign probes alone'}; {time}{memory}.",
            help=f"Passes over the forget set: {passes}. `mrd-lens score … --dry-run` times some on the model.",
        )
        config = _checked(config, cost, len(chosen.forget_set))
        if st.button("Score", type="primary", icon=":material/play_arrow:", key="score"):
            session.open_run(launch(config, lambda draft: chosen.forget_set.save(ScoreFiles(draft).samples)).id)
            st.rerun()
    with st.expander("The same from the shell", icon=":material/terminal:"):
        if is_nowhere(config.forget_set):
            st.caption(
                "The uploaded samples lie in no file yet. *Score* keeps them with its run, whose page shows the "
                "command that scores them again."
            )
        else:
            commands.show(engine.command(SCORE, config))
        st.code(config.model_dump_json(indent=2), language="json")


def _checked(config: ScoreConfig, cost: ScoringCost, n_samples: int) -> ScoreConfig:
    """Ask whether the ranking is checked as soon as it is there; asked for where that is short."""
    if config.estimator.preview:
        return config
    seconds = short_check.seconds(config, cost, n_samples)
    is_short = seconds is not None and seconds <= short_check.UNASKED_SECONDS
    studied = min(short_check.SAMPLES, n_samples)
    more = f": about {duration(seconds)} more" if seconds else ""
    check = st.toggle(
        f"Then look whether the ranking foretells anything{more}",
        value=is_short,
        # Another default is another input.
        key=f"score_check_{is_short}",
        persist_state="session",
        help=f"{studied} samples are unlearned alone by gradient ascent, in a run of its own; the ranking is "
        f"there before it. So many tell ρ = {short_check.TELLS_RHO} from 0 in {short_check.POWER:.0%} of cases; "
        "*Evidence* makes larger ones.",
    )
    return config.model_copy(update={"check": check})


def _model() -> ModelConfig:
    kind = st.segmented_control(
        "Model",
        ["Demo", LOCAL, "Hub id"],
        default="Demo",
        required=True,
        key="model_kind",
        persist_state="session",
        help=help_of(ModelConfig, "source"),
    )
    source = "demo"
    if kind != "Demo":
        source = st.text_input(
            kind,
            key=f"model_{kind}",
            placeholder="models/my-llama" if kind == LOCAL else "meta-llama/Llama-3.2-1B",
            persist_state="session",
        ).strip()
        if not source:
            st.caption("Name a model to go on.")
            st.stop()
    labels = {
        "device": "Device",
        "dtype": "Precision",
        "template": "Template",
        "system": "System line",
        "date": "Date in the template",
        "closes_texts": "End texts without a prompt with EOS",
    }
    with st.expander("Model options", icon=":material/tune:"):
        adapters = FORM.text(ModelConfig, "adapter", "LoRA adapter", placeholder="several with commas between")
        values = FORM.fields(ModelConfig, labels)
    # Without one it is the day on which the run is asked for.
    day = {"date": chosen} if (chosen := values.pop("date")) else {}
    return ModelConfig(
        source=source if kind == "Demo" else session.located(source, local=kind == LOCAL),
        adapter=tuple(session.located(each.strip(), local=False) for each in adapters.split(",") if each.strip()),
        device=values.pop("device") or "auto",
        system=values.pop("system") or None,
        **day,
        **values,
    )


def _estimator() -> EstimatorConfig:
    preset = st.segmented_control(
        "Preset",
        list(PRESETS),
        default="Recommended",
        required=True,
        key="preset",
        persist_state="session",
        help=f"{help_of(EstimatorConfig, 'preset')} `preview`: {help_of(EstimatorConfig, 'preview')}",
    )
    base, config = PRESETS[preset], EstimatorConfig
    # Each preset has values of its own, and keeps what was set beside it.
    of_preset, own = Form(FORM.name, preset), {"draws": base.draws, "stop": base.stop, "sigma": f"{base.sigma}"}
    with st.expander("Estimator options", icon=":material/tune:"):
        left, right = st.columns(2)
        with left:
            noise = {"sigma": "σ of the noise", "draws": "Cap on draws [evaluations]"}
            changes = {} if base.preview else of_preset.fields(config, noise, defaults=own)
            changes |= FORM.fields(config, {"seed": "Seed"})
        with right:
            changes |= of_preset.fields(config, {"stop": "Stop"}, defaults=own)
            changes |= FORM.fields(
                config,
                {
                    "scope": "Scored tokens",
                    "normalisation": "Normalisation",
                    "gradient_norms": "Gradient norms",
                },
            )
    try:
        if not base.preview:
            changes["sigma"] = number_or_word(changes["sigma"])
        return EstimatorConfig.model_validate(base.model_dump() | changes)
    except pydantic.ValidationError as error:
        raise refusal(error, "Correct it in the estimator options.") from error
