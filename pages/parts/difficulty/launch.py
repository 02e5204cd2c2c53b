"""The launch form of a score run: presets, options with unit and help, cost, the shell command."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pydantic
import streamlit as st

from mrd_core.demo import MODEL_DIR
from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunState
from mrd_core.samples.config import Scope
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import EstimatorConfig, Normalisation, ScoreConfig
from mrd_core.scoring.cost import Cost, estimate
from mrd_core.scoring.files import RunFiles
from mrd_core.settings.fields import help_of
from pages.shell import session
from pages.shell.launching import launch
from pages.shell.notices import errors_shown, literal
from pages.shell.wording import duration

PRESETS = {"Recommended": EstimatorConfig.recommended, "Paper": EstimatorConfig.paper}


def show(chosen: session.Chosen) -> None:
    """Show the form; the button launches a worker and opens its run."""
    st.markdown(f"**Forget set** {literal(chosen.config.source)} · {len(chosen.forget_set)} samples")
    with errors_shown():
        model = _model()
        estimator = _estimator()
        config = ScoreConfig(
            forget_set=chosen.config,
            forget_set_digest=chosen.forget_set.digest,
            model=model,
            estimator=estimator,
        )
        _show_cost(_cost(config, chosen))
        if st.button("Score", type="primary", icon=":material/play_arrow:", key="score"):
            session.open_run(launch(config, partial(_save, chosen)).id)
            st.rerun()
    with st.expander("The same from the shell", icon=":material/terminal:"):
        st.code(SCORE.shown(config), language="bash", wrap_lines=True)
        st.code(config.model_dump_json(indent=2), language="json")


def _save(chosen: session.Chosen, draft: Path) -> None:
    chosen.forget_set.save(RunFiles(draft).samples)


def _model() -> ModelConfig:
    kind = st.segmented_control(
        "Model",
        ["Demo", "Local folder", "Hub id"],
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
            placeholder="models/my-llama" if kind == "Local folder" else "meta-llama/Llama-3.2-1B",
            persist_state="session",
        ).strip()
        if not source:
            st.caption("Name a model to go on.")
            st.stop()
    with st.expander("Model options", icon=":material/tune:"):
        adapter = st.text_input(
            "LoRA adapter", key="adapter", help=help_of(ModelConfig, "adapter"), persist_state="session"
        ).strip()
        device = st.text_input(
            "Device", "auto", key="device", help=help_of(ModelConfig, "device"), persist_state="session"
        ).strip()
        dtype = _select("Precision", ModelConfig, "dtype", ["auto", "float32", "bfloat16", "float64"])
        template = _select("Template", ModelConfig, "template", ["auto", "chat", "plain"])
    return ModelConfig(
        source=source if kind == "Demo" else session.located(source, local=kind == "Local folder"),
        adapter=session.located(adapter, local=False) if adapter else None,
        device=device or "auto",
        dtype=dtype,
        template=template,
    )


def _estimator() -> EstimatorConfig:
    preset = st.segmented_control(
        "Preset",
        list(PRESETS),
        default="Recommended",
        required=True,
        key="preset",
        persist_state="session",
        help=help_of(EstimatorConfig, "preset"),
    )
    base = PRESETS[preset]()
    with st.expander("Estimator options", icon=":material/tune:"):
        left, right = st.columns(2)
        with left:
            sigma = st.text_input(
                "σ of the noise",
                f"{base.sigma}",
                key=f"sigma_{preset}",
                help=help_of(EstimatorConfig, "sigma"),
                persist_state="session",
            )
            draws = st.number_input(
                "Cap on draws [evaluations]",
                4,
                100_000,
                base.draws,
                key=f"draws_{preset}",
                help=help_of(EstimatorConfig, "draws"),
                persist_state="session",
            )
            seed = st.number_input(
                "Seed", 0, None, 0, key="seed", help=help_of(EstimatorConfig, "seed"), persist_state="session"
            )
        with right:
            stop = _select(
                "Stop", EstimatorConfig, "stop", ["precision", "reliability", "never"], base.stop, preset
            )
            scope = _select("Scored tokens", EstimatorConfig, "scope", list(Scope))
            normalisation = _select("Normalisation", EstimatorConfig, "normalisation", list(Normalisation))
            gradient_norms = _select("Gradient norms", EstimatorConfig, "gradient_norms", ["auto", "yes", "no"])
    changes: dict[str, Any] = {
        "sigma": _sigma(sigma),
        "draws": draws,
        "seed": seed,
        "stop": stop,
        "scope": scope,
        "normalisation": normalisation,
        "gradient_norms": gradient_norms,
    }
    try:
        return PRESETS[preset](**changes)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{first['loc'][0]} = {first['input']}", f"{first['msg']}.", "Correct it in the estimator options."
        ) from error


def _select(
    label: str, config: type, field: str, options: list[Any], default: Any = None, suffix: str = ""
) -> Any:
    return st.selectbox(
        label,
        options,
        index=options.index(default) if default in options else 0,
        format_func=str,
        key=f"{field}_{suffix}",
        help=help_of(config, field),
        persist_state="session",
    )


def _sigma(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()


def _cost(config: ScoreConfig, chosen: session.Chosen) -> Cost:
    source = config.model.source
    folder = MODEL_DIR if source == "demo" else Path(source)
    past = session.store().list(limit=20, states=[RunState.SUCCEEDED])
    return estimate(chosen.forget_set, folder if folder.is_dir() else None, config.estimator, past)


def _show_cost(cost: Cost) -> None:
    time = f"about {duration(cost.seconds)} by {cost.basis}" if cost.seconds else cost.basis
    st.caption(f"Estimated cost: {cost.evaluations} forward evaluations (at most {cost.cap}); {time}.")
