"""The settings of an unlearning run as cards of inputs: method, curriculum, what is kept, when it ends.

Each function shows its inputs and returns what was set as raw values; nothing is judged before all is drawn.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

import pandas as pd
import streamlit as st

from mrd_core.errors import UserError
from mrd_core.scoring.columns import MRD_TITLES
from mrd_core.settings.fields import help_of
from mrd_core.unlearning.config import (
    CurriculumConfig,
    EvaluationDuringConfig,
    OptimiserConfig,
    RetainConfig,
    StoppingConfig,
    Tracker,
    UnlearnConfig,
)
from mrd_core.unlearning.methods import METHODS, NOTATION, Method
from mrd_core.unlearning.sampling import NEARLY_UNIFORM, SAMPLERS, Pool, effective_share
from mrd_core.unlearning.stopping import SOURCES, Checks, Limits
from pages.parts.unlearning.presets import Preset
from pages.shell import source as unlearn_source
from pages.shell.inputs import key_of, number, parameter, pick, switch, text

Values = dict[str, Any]
# Of 1e-5, 2e-5, 3e-5 and 1e-4 the one under which the demo's update counts spread most while a run stays short.
DEMO_RATE = "2e-5"
# docs/LOG.md has the whole study.
FINDINGS = """
**No order is confirmed to be better than uniform on both of our models**, so none is recommended. Each figure is
the mean difference to uniform sampling, paired over five fresh seeds of 40 samples, with its 95 % interval; all
runs forgot everything (MA < 0.5).

| | updates | retain MA |
|---|---|---|
| p ∝ MRD, GA: TOFU model | −3 [−8, +2] | −0.01 [−0.03, +0.02] |
| p ∝ MRD, GA: demo | 0 [−21, +21] | −0.06 [−0.15, +0.03] |
| easy to hard by the *sum*, GA: TOFU model | −36 [−82, +10] | **+0.19 [+0.08, +0.30]** |
| the same, GradDiff: TOFU model | −24 [−91, +43] | **+0.07 [+0.02, +0.11]** |
| longest answer first, GA: TOFU model | −30 [−78, +18] | **+0.18 [+0.07, +0.30]** |
| easy to hard by the *sum*, GA: demo | +7 [−18, +32] | +0.03 [−0.12, +0.18] |
| the same, GradDiff: demo | +8 [−42, +57] | +0.01 [−0.03, +0.05] |

On the TOFU model a strict order by the sum of MRD, easy samples first, keeps more of the retain set at no more
updates. So does the longest answer first, which needs no scoring: the sum goes with length. On the demo neither
does.
"""
SOURCE_TITLES = {
    "absolute": "Fixed thresholds",
    "initial-average": "Initial average (the paper's rule)",
    "held-out": "Average over held-out samples",
    "reference": "A model retrained without the forget set",
}


def method() -> Values:
    """Ask for the method and what can be set about it, its formula in sight."""
    name = st.selectbox(
        "Method",
        list(METHODS),
        index=list(METHODS).index(UnlearnConfig.model_fields["method"].default),
        format_func=lambda name: METHODS[name].title,
        key=key_of(UnlearnConfig, "method"),
        help=help_of(UnlearnConfig, "method"),
        persist_state="session",
    )
    chosen = METHODS[name]
    _formula(chosen.formula)
    st.caption(f"Minimised; ${NOTATION}$. Source: {chosen.source}.")
    values: Values = {"method": name, "parameters": {}}
    for place, declared in zip(st.columns(len(chosen.parameters)), chosen.parameters, strict=True):
        with place:
            value = parameter(name, declared)
        if value != declared.default:
            values["parameters"][declared.name] = value
    return values | refusals([chosen])


def _formula(latex: str) -> None:
    # The strut keeps the box from cutting what stands above and below a line.
    st.latex(rf"\rule[-1.2em]{{0pt}}{{2.7em}}{latex}")


def refusals(methods: Collection[Method]) -> Values:
    """Ask for refusal answers where a method teaches them."""
    if not any(chosen.needs_refusals for chosen in methods):
        return {}
    return {"refusals": text(UnlearnConfig, "refusals", "Refusal answers", placeholder="those that ship")}


def compared(preset: Preset) -> None:
    """Show what a preset runs."""
    st.markdown(preset.help)
    for name in preset.methods:
        st.markdown(f"**{METHODS[name].title}**")
        _formula(METHODS[name].formula)
    st.caption(f"Minimised; ${NOTATION}$. Each method with its own default parameters.")


def curriculum(samplers: Collection[str] | None, scores: pd.DataFrame) -> Values:
    """Ask which sample is drawn when, and show how far that is from uniform.

    Args:
        samplers: Those of a preset; None lets the user choose one.
        scores: Of the samples that are unlearned.
    """
    names = [_sampler()] if samplers is None else list(samplers)
    if samplers is not None:
        _explained(names)
    scored = [name for name in names if name != "uniform"]
    values: Values = {"sampler": names[0]}
    if scored:
        values["column"] = _column(scored[0], scores)
        _distance_from_uniform(scored[0], values["column"], scores)
    if scored:
        with st.expander("Does a curriculum pay?", icon=":material/science:"):
            st.markdown(FINDINGS)
    with st.expander("Curriculum options", icon=":material/tune:"):
        values["drop_forgotten"] = switch(CurriculumConfig, "drop_forgotten", "Forgotten samples leave the pool")
        if scored:
            every, pairs = st.columns(2)
            with every:
                values["recompute_epochs"] = number(
                    CurriculumConfig, "recompute_epochs", "Measure MRD anew [epochs]", placeholder="never"
                )
            with pairs:
                values["recompute_pairs"] = number(CurriculumConfig, "recompute_pairs", "Pairs of draws for it")
    return values


def _sampler() -> str:
    name = st.selectbox(
        "Order of the samples",
        list(SAMPLERS),
        format_func=lambda name: SAMPLERS[name].title,
        key=key_of(CurriculumConfig, "sampler"),
        help=help_of(CurriculumConfig, "sampler"),
        persist_state="session",
    )
    _formula(SAMPLERS[name].formula)
    st.caption(SAMPLERS[name].help)
    return name


def _explained(names: Collection[str]) -> None:
    for place, name in zip(st.columns(len(names)), names, strict=True):
        with place:
            st.markdown(f"**{SAMPLERS[name].title}**")
            _formula(SAMPLERS[name].formula)
            st.caption(SAMPLERS[name].help)


def _column(sampler: str, scores: pd.DataFrame) -> str:
    numeric = [str(name) for name in scores.select_dtypes("number").columns]
    options = [name for name in MRD_TITLES if name in numeric]
    if sampler == "column":
        options += [name for name in numeric if name not in options]
    return st.selectbox(
        "Score column",
        options,
        format_func=lambda name: MRD_TITLES.get(name, name),
        key=f"{key_of(CurriculumConfig, 'column')}_{'any' if sampler == 'column' else 'mrd'}",
        help=help_of(CurriculumConfig, "column"),
        persist_state="session",
    )


def _distance_from_uniform(sampler: str, column: str, scores: pd.DataFrame) -> None:
    """Say how many samples a sampler effectively draws from, and that it is nearly all of them where it is."""
    if not SAMPLERS[sampler].with_replacement:
        st.caption("Every sample comes once an epoch; only the order differs from uniform.")
        return
    share = share_of(sampler, column, scores)
    if share is None:
        return
    st.markdown(f"Effective sample size **{share:.0%}** of {len(scores)} samples.")
    if share < NEARLY_UNIFORM:
        return
    others = {name: share_of(sampler, name, scores) for name in MRD_TITLES if name in scores}
    least = min(others, key=lambda name: others[name] or 1.0)
    way_out = ""
    if (others[least] or 1.0) < NEARLY_UNIFORM:
        way_out = f" With *{MRD_TITLES[least]}* it is {others[least]:.0%}."
    st.warning(
        f"These probabilities are nearly uniform: expect hardly any difference from uniform sampling.{way_out}",
        icon=":material/balance:",
    )


def share_of(sampler: str, column: str, scores: pd.DataFrame) -> float | None:
    """Return the effective share of what a sampler draws from at first; None where it cannot weigh by `column`."""
    pool = Pool.of(dict(zip(scores["sample_id"], scores[column], strict=True)))
    try:
        return effective_share(SAMPLERS[sampler].shares(pool))
    except UserError:
        # It is told where the button would be, when the whole configuration is judged.
        return None


def retain(methods: Collection[Method], *, demo: bool) -> Values:
    """Ask what the model is to keep."""
    source = unlearn_source.ask("retain set", help_of(RetainConfig, "samples"), "Demo" if demo else "None")
    values: Values = {"samples": source}
    if all(chosen.retain == "none" for chosen in methods):
        st.caption(f"{methods_named(methods)} does not train on it; it shows what the model loses besides.")
        return values
    defaults = {chosen.default_retain_weight for chosen in methods if chosen.retain != "none"}
    weight, term = st.columns(2)
    with weight:
        values["weight"] = number(
            RetainConfig,
            "weight",
            "Weight λ",
            placeholder=" or ".join(f"{default:g}" for default in sorted(defaults)),
        )
    with term:
        values["term"] = pick(RetainConfig, "term", "Retain term", ["nll", "kl"])
    return values


def methods_named(methods: Collection[Method]) -> str:
    """Return the methods' short names in a row."""
    return ", ".join(chosen.label for chosen in methods)


def stopping(methods: Collection[Method]) -> Values:
    """Ask when a sample counts as forgotten."""
    values: Values = {
        "source": st.selectbox(
            "A sample is forgotten below",
            list(SOURCE_TITLES),
            format_func=SOURCE_TITLES.__getitem__,
            key=key_of(StoppingConfig, "source"),
            help=help_of(StoppingConfig, "source"),
            persist_state="session",
        )
    }
    values |= _thresholds(values["source"])
    with st.expander("Probes and checks", icon=":material/tune:"):
        left, right = st.columns(2)
        with left:
            values["probe_steps"] = number(StoppingConfig, "probe_steps", "Look at the retain set every [steps]")
        with right:
            values["probe_samples"] = number(StoppingConfig, "probe_samples", "Retain samples looked at")
        if any(chosen.needs_refusals for chosen in methods):
            values["checks"] = _checks()
    return values


def _thresholds(source: str) -> Values:
    values: Values = {}
    if source == "absolute":
        values["accuracy"] = number(StoppingConfig, "accuracy", "Memorization accuracy (MA)")
    else:
        st.caption(f"The threshold is {SOURCES[source]}.")
    if source == "held-out":
        held_out = unlearn_source.ask(
            "held-out set", help_of(StoppingConfig, "held_out"), "File or folder", ("None", "Demo")
        )
        values["held_out"] = held_out
    if source == "reference":
        values["reference"] = text(StoppingConfig, "reference", "Reference model", placeholder="models/retrained")
    values["extraction"] = switch(StoppingConfig, "extraction", "Also by extraction likelihood (EL)")
    if values["extraction"] and source == "absolute":
        values["extraction_likelihood"] = number(
            StoppingConfig, "extraction_likelihood", "Extraction likelihood (EL)"
        )
    return values


def _checks() -> Values:
    spacing, detail = st.columns(2)
    with spacing:
        chosen = pick(Checks, "spacing", "Checks of a sample", ["geometric", "fixed"])
    with detail:
        if chosen == "geometric":
            return {"spacing": chosen, "overshoot": number(Checks, "overshoot", "Largest overshoot")}
        return {"spacing": chosen, "interval": number(Checks, "interval", "Every [updates]")}


def limits() -> Values:
    """Ask where the run ends although not all is forgotten."""
    st.markdown("**The run ends** when all samples are forgotten, or after")
    default = UnlearnConfig.model_fields["limits"].default.max_epochs
    epochs, steps, minutes = st.columns(3)
    with steps:
        values: Values = {"max_steps": number(Limits, "max_steps", "Steps")}
    # An input with a value of its own could not be emptied. Something has to end the run.
    implied = default if values["max_steps"] is None else None
    with epochs:
        chosen = number(Limits, "max_epochs", "Epochs", placeholder="none" if implied is None else f"{implied:g}")
        values["max_epochs"] = implied if chosen is None else chosen
    with minutes:
        longest = st.number_input(
            "Minutes",
            0.0,
            None,
            None,
            placeholder="none",
            format="%g",
            key=key_of(Limits, "max_seconds"),
            help=Limits.model_fields["max_seconds"].description,
            persist_state="session",
        )
        values["max_seconds"] = None if longest is None else 60 * longest
    return values


def guard() -> Values:
    """Ask for the limits that the retain set sets."""
    with st.expander("Utility guard", icon=":material/shield:"):
        st.caption("Ends the run when the retain set suffers too much.")
        loss, accuracy = st.columns(2)
        with loss:
            rise = number(Limits, "max_retain_loss_rise", "Rise of the retain loss")
        with accuracy:
            return {
                "max_retain_loss_rise": rise,
                "min_retain_accuracy": number(Limits, "min_retain_accuracy", "Least retain MA"),
            }


def optimiser(*, demo: bool) -> Values:
    """Ask how the weights move; the demo has its own learning rate."""
    config = OptimiserConfig
    left, middle, right = st.columns(3)
    with left:
        values: Values = {
            "learning_rate": _rate(text(config, "learning_rate", "Learning rate", DEMO_RATE if demo else "auto")),
            "name": pick(config, "name", "Optimiser", ["adamw_torch", "sgd"]),
            "schedule": pick(config, "schedule", "Schedule", ["constant", "linear", "cosine"]),
        }
    with middle:
        values |= {
            "batch_size": number(config, "batch_size", "Forget samples of a step"),
            "micro_batch": number(config, "micro_batch", "Most samples in memory"),
            "weight_decay": number(config, "weight_decay", "Weight decay"),
            "max_grad_norm": number(config, "max_grad_norm", "Gradient norm"),
        }
    with right:
        values |= {
            "lora_rank": number(config, "lora_rank", "LoRA rank", placeholder="all weights"),
            "lora_alpha": number(config, "lora_alpha", "LoRA α"),
            "mixed_precision": pick(config, "mixed_precision", "Mixed precision", ["no", "bf16"]),
            "gradient_checkpointing": switch(config, "gradient_checkpointing", "Gradient checkpointing"),
        }
    return values


def bookkeeping() -> Values:
    """Ask what is written down on the way."""
    checkpoints, answers, trackers = st.columns(3)
    with checkpoints:
        values: Values = {
            "checkpoint_steps": number(UnlearnConfig, "checkpoint_steps", "Checkpoint every [steps]")
        }
    with answers:
        values["answers"] = number(UnlearnConfig, "answers", "Own answers of at most [samples]")
    with trackers:
        values["report_to"] = st.multiselect(
            "Experiment trackers",
            get_args(Tracker),
            placeholder="none",
            key=key_of(UnlearnConfig, "report_to"),
            help=help_of(UnlearnConfig, "report_to"),
            persist_state="session",
        )
    return values


def evaluation() -> Values:
    """Ask whether forgetting and keeping are evaluated on the way."""
    config = EvaluationDuringConfig
    steps, samples, tokens = st.columns(3)
    with steps:
        every = number(config, "every_steps", "Evaluate every [steps]", placeholder="never")
    with samples:
        values: Values = {"samples": number(config, "samples", "Evaluated samples of each set")}
    with tokens:
        values["max_new_tokens"] = number(config, "max_new_tokens", "Tokens written for each")
    if every is not None:
        st.caption(
            "It changes nothing in the training; what it costs stands below the button. Without a retain set "
            "there is no MIA and no utility."
        )
    return values | {"every_steps": every}


def _rate(given: str) -> float | str:
    try:
        return float(given)
    except ValueError:
        return given
