"""The settings of an unlearning run as cards of inputs: method, curriculum, what is kept, when it ends.

Each function shows its inputs and returns what was set as raw values; nothing is judged before all is drawn.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

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
    UnlearnConfig,
)
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import NOTATION, Method
from mrd_core.unlearning.sampling import NEARLY_UNIFORM, SAMPLERS, Pool, effective_share
from mrd_core.unlearning.stopping import SOURCES, Checks, Limits
from pages.parts.unlearning.presets import Preset
from pages.shell import source as sample_source
from pages.shell.inputs import Form, number_or_word

Values = dict[str, Any]
FORM = Form("unlearn")
# Of 1e-5, 2e-5, 3e-5 and 1e-4 the one under which the demo's update counts spread most while a run stays short.
DEMO_RATE = "2e-5"
DOES_IT_PAY = """
Whether an order pays differs from model to model: *Comparison* holds finished runs of the same seeds against
uniform sampling, and three seeds give it an interval. What studies have shown, with figures, is in `docs/LOG.md`.
"""
SOURCE_TITLES = {
    "absolute": "Fixed thresholds",
    "initial-average": "Initial average (the paper's rule)",
    "held-out": "Average over held-out samples",
    "reference": "A model retrained without the forget set",
}


def method() -> Values:
    """Ask for the method and what can be set about it, its formula in sight."""
    titles = {name: declared.title for name, declared in METHODS.items()}
    name = FORM.choice(UnlearnConfig, "method", "Method", titles)
    chosen = METHODS[name]
    _formula(chosen.formula)
    st.caption(f"Minimised; ${NOTATION}$. Source: {chosen.source}.")
    values: Values = {"method": name, "parameters": {}}
    for place, declared in zip(st.columns(len(chosen.parameters)), chosen.parameters, strict=True):
        with place:
            value = FORM.parameter(name, declared)
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
    return {"refusals": FORM.text(UnlearnConfig, "refusals", "Refusal answers", placeholder="those that ship")}


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
    if samplers is None:
        titles = {name: declared.title for name, declared in SAMPLERS.items()}
        samplers = [FORM.choice(CurriculumConfig, "sampler", "Order of the samples", titles)]
        places, headings = [st.container()], [""]
    else:
        places, headings = st.columns(len(samplers)), [f"**{SAMPLERS[name].title}**" for name in samplers]
    for place, heading, name in zip(places, headings, samplers, strict=True):
        with place:
            if heading:
                st.markdown(heading)
            _formula(SAMPLERS[name].formula)
            st.caption(SAMPLERS[name].help)
    values: Values = {"sampler": next(iter(samplers))}
    weighted = next((name for name in samplers if name != "uniform"), None)
    if weighted is not None:
        values["column"] = _column(weighted, scores)
        _distance_from_uniform(weighted, values["column"], scores)
        with st.expander("Does a curriculum pay?", icon=":material/science:"):
            st.markdown(DOES_IT_PAY)
    with st.expander("Curriculum options", icon=":material/tune:"):
        label = "Forgotten samples leave the pool"
        values["drop_forgotten"] = FORM.switch(CurriculumConfig, "drop_forgotten", label)
        if weighted is not None:
            every, pairs = st.columns(2)
            with every:
                values["recompute_epochs"] = FORM.number(
                    CurriculumConfig, "recompute_epochs", "Measure MRD anew [epochs]", placeholder="never"
                )
            with pairs:
                values["recompute_pairs"] = FORM.number(
                    CurriculumConfig, "recompute_pairs", "Pairs of draws for it"
                )
    return values


def _column(sampler: str, scores: pd.DataFrame) -> str:
    numeric = [str(name) for name in scores.select_dtypes("number").columns]
    titles = {name: title for name, title in MRD_TITLES.items() if name in numeric}
    is_any = sampler == "column"
    if is_any:
        titles |= {name: name for name in numeric if name not in titles}
    form = Form(FORM.name, "any" if is_any else "mrd")
    return str(form.choice(CurriculumConfig, "column", "Score column", titles))


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
    others = {name: share_of(sampler, name, scores) or 1.0 for name in MRD_TITLES if name in scores}
    least = min(others, key=others.__getitem__)
    way_out = ""
    if others[least] < NEARLY_UNIFORM:
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
    values: Values = {
        "samples": sample_source.ask(
            FORM.name, "retain set", help_of(RetainConfig, "samples"), "Demo" if demo else "None"
        )
    }
    if all(chosen.retain == "none" for chosen in methods):
        names = ", ".join(chosen.label for chosen in methods)
        st.caption(f"{names} does not train on it; it shows what the model loses besides.")
        return values
    defaults = sorted({chosen.default_retain_weight for chosen in methods if chosen.retain != "none"})
    weight, term = st.columns(2)
    with weight:
        default = " or ".join(f"{default:g}" for default in defaults)
        values["weight"] = FORM.number(RetainConfig, "weight", "Weight λ", placeholder=default)
    with term:
        values["term"] = FORM.choice(RetainConfig, "term", "Retain term")
    return values


def stopping(methods: Collection[Method]) -> Values:
    """Ask when a sample counts as forgotten."""
    config = StoppingConfig
    source = FORM.choice(config, "source", "A sample is forgotten below", SOURCE_TITLES)
    values: Values = {"source": source}
    if source == "absolute":
        values["accuracy"] = FORM.number(config, "accuracy", "Memorization accuracy (MA)")
    else:
        st.caption(f"The threshold is {SOURCES[source]}.")
    if source == "held-out":
        values["held_out"] = sample_source.ask(
            FORM.name, "held-out set", help_of(config, "held_out"), "File or folder", ("None", "Demo")
        )
    if source == "reference":
        values["reference"] = FORM.text(config, "reference", "Reference model", placeholder="models/retrained")
    values["extraction"] = FORM.switch(config, "extraction", "Also by extraction likelihood (EL)")
    if values["extraction"] and source == "absolute":
        label = "Extraction likelihood (EL)"
        values["extraction_likelihood"] = FORM.number(config, "extraction_likelihood", label)
    with st.expander("Probes and checks", icon=":material/tune:"):
        left, right = st.columns(2)
        with left:
            values["probe_steps"] = FORM.number(config, "probe_steps", "Look at the retain set every [steps]")
        with right:
            values["probe_samples"] = FORM.number(config, "probe_samples", "Retain samples looked at")
        if any(chosen.needs_refusals for chosen in methods):
            values["checks"] = _checks()
    return values


def _checks() -> Values:
    spacing, detail = st.columns(2)
    with spacing:
        values: Values = {"spacing": FORM.choice(Checks, "spacing", "Checks of a sample")}
    with detail:
        if values["spacing"] == "geometric":
            return values | {"overshoot": FORM.number(Checks, "overshoot", "Largest overshoot")}
        return values | {"interval": FORM.number(Checks, "interval", "Every [updates]")}


def limits() -> Values:
    """Ask where the run ends although not all is forgotten."""
    st.markdown("**The run ends** when all samples are forgotten, or after")
    default = UnlearnConfig.model_fields["limits"].default.max_epochs
    epochs, steps, minutes = st.columns(3)
    with steps:
        values: Values = {"max_steps": FORM.number(Limits, "max_steps", "Steps")}
    # An input with a value of its own could not be emptied. Something has to end the run.
    implied = default if values["max_steps"] is None else None
    with epochs:
        placeholder = "none" if implied is None else f"{implied:g}"
        most = FORM.number(Limits, "max_epochs", "Epochs", placeholder=placeholder)
        values["max_epochs"] = implied if most is None else most
    with minutes:
        longest = st.number_input(
            "Minutes",
            0.0,
            None,
            None,
            placeholder="none",
            format="%g",
            key=FORM.key_of(Limits, "max_seconds"),
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
            rise = FORM.number(Limits, "max_retain_loss_rise", "Rise of the retain loss")
        with accuracy:
            least = FORM.number(Limits, "min_retain_accuracy", "Least retain MA")
    return {"max_retain_loss_rise": rise, "min_retain_accuracy": least}


def optimiser(*, demo: bool) -> Values:
    """Ask how the weights move; the demo has its own learning rate."""
    config = OptimiserConfig
    left, middle, right = st.columns(3)
    with left:
        rate = FORM.text(config, "learning_rate", "Learning rate", DEMO_RATE if demo else None)
        values: Values = {
            "learning_rate": number_or_word(rate),
            "name": FORM.choice(config, "name", "Optimiser"),
            "schedule": FORM.choice(config, "schedule", "Schedule"),
        }
    with middle:
        values |= {
            "batch_size": FORM.number(config, "batch_size", "Forget samples of a step"),
            "micro_batch": FORM.number(config, "micro_batch", "Most samples in memory"),
            "weight_decay": FORM.number(config, "weight_decay", "Weight decay"),
            "max_grad_norm": FORM.number(config, "max_grad_norm", "Gradient norm"),
        }
    with right:
        values |= {
            "lora_rank": FORM.number(config, "lora_rank", "LoRA rank", placeholder="all weights"),
            "lora_alpha": FORM.number(config, "lora_alpha", "LoRA α"),
            "mixed_precision": FORM.choice(config, "mixed_precision", "Mixed precision"),
            "gradient_checkpointing": FORM.switch(config, "gradient_checkpointing", "Gradient checkpointing"),
        }
    return values


def bookkeeping() -> Values:
    """Ask what is written down on the way."""
    config, (checkpoints, answers, trackers) = UnlearnConfig, st.columns(3)
    with checkpoints:
        values: Values = {"checkpoint_steps": FORM.number(config, "checkpoint_steps", "Checkpoint every [steps]")}
    with answers:
        values["answers"] = FORM.number(config, "answers", "Own answers of at most [samples]")
    with trackers:
        values["report_to"] = FORM.several(config, "report_to", "Experiment trackers")
    return values


def evaluation() -> Values:
    """Ask whether forgetting and keeping are evaluated on the way."""
    config, (steps, samples, tokens) = EvaluationDuringConfig, st.columns(3)
    with steps:
        every = FORM.number(config, "every_steps", "Evaluate every [steps]", placeholder="never")
    with samples:
        values: Values = {"samples": FORM.number(config, "samples", "Evaluated samples of each set")}
    with tokens:
        values["max_new_tokens"] = FORM.number(config, "max_new_tokens", "Tokens written for each")
    if every is not None:
        st.caption(
            "It changes nothing in the training; what it costs stands below the button. Without a retain set "
            "there is no MIA and no utility."
        )
    return values | {"every_steps": every}
