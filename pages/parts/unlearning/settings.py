"""The settings of an unlearning run as cards of inputs: method, curriculum, what is kept, when it ends.

Each function shows its inputs and returns what was set as raw values; nothing is judged before all is drawn.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
import streamlit as st

from mrd_core.errors import UserError
from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import MRD_TITLES, mrd_column
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.imported import ENTANGLEMENT_COLUMNS
from mrd_core.settings.fields import help_of
from mrd_core.studies.presets import Comparison
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
from mrd_core.unlearning.sampling import (
    ENTANGLED,
    NEARLY_UNIFORM,
    SAMPLERS,
    WITHOUT_SCORES,
    Pool,
    effective_share,
)
from mrd_core.unlearning.stopping import SOURCES, Checks, Limits
from pages.shell import source as sample_source
from pages.shell.inputs import Form, Values, number_or_word
from pages.shell.terms import linked

FORM = Form("unlearn")
MOST_SEEDS = 5
# With fewer there is no verdict on a difference.
USUAL_SEEDS = 3
# Of 1e-5, 2e-5, 3e-5 and 1e-4 the one under which the demo's update counts spread most while a run stays short.
DEMO_RATE = "2e-5"
DEMO = {"learning_rate": DEMO_RATE}
# Labels of inputs by field, a mapping for each column, and what those show that are empty at first.
RECOMPUTED = {"recompute_epochs": "Measure MRD anew [epochs]"}, {"recompute_pairs": "Pairs of draws for it"}
PROBES = {"probe_steps": "Look at the retain set every [steps]"}, {"probe_samples": "Retain samples looked at"}
GUARD = {"max_retain_loss_rise": "Rise of the retain loss"}, {"min_retain_accuracy": "Least retain MA"}
OPTIMISER = (
    {"learning_rate": "Learning rate", "name": "Optimiser", "schedule": "Schedule"},
    {
        "batch_size": "Forget samples of a step",
        "micro_batch": "Most samples in memory",
        "weight_decay": "Weight decay",
        "max_grad_norm": "Gradient norm",
    },
    {
        "lora_rank": "LoRA rank",
        "lora_alpha": "LoRA α",
        "mixed_precision": "Mixed precision",
        "gradient_checkpointing": "Gradient checkpointing",
        "spread": "Spread over all GPUs",
    },
)
WRITTEN = (
    {"checkpoint_steps": "Checkpoint every [steps]", "gradient_steps": "Who gets the gradient, every [steps]"},
    {"answers": "Own answers of at most [samples]"},
    {"report_to": "Experiment trackers", "processes": "Processes"},
)
EVALUATION = (
    {"every_steps": "Evaluate every [steps]"},
    {"samples": "Evaluated samples of each set"},
    {"max_new_tokens": "Tokens written for each", "keep_best": "Keep the best step"},
)
EMPTY = {"recompute_epochs": "never", "every_steps": "never", "lora_rank": "all weights"}
DOES_IT_PAY = """
No order is confirmed to pay on two of the three models that it was tried on. With the retain loss held and on
fresh samples (95 % intervals, five seeds), a model that was trained on TOFU forgot with 91 [72, 110] of 402
updates fewer by easy to hard in the median log-odds, but with 67 [34, 100] fewer where the samples were only
*shuffled*: uniform sampling draws with replacement, so some come late. On the demo that order took 61 [23, 99]
of 1,005 updates fewer than shuffled, and shuffled 41 [−73, 156] fewer than uniform. By MRD nothing was saved on
either. On SmolLM2, with the number of updates limited and the retain set not held, uniform draws took 69: by MRD
1.1 [−0.8, 2.9] were saved, and by that order 0.9 [−1.8, 3.5]. It differs from model to model: *Comparison* holds
finished runs of the same seeds against uniform sampling. All that was tried, with figures, is in `docs/LOG.md`.
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
    with st.popover("Formula", icon=":material/function:"):
        _formula(chosen.formula)
        st.caption(f"Minimised; ${NOTATION}$. Source: {chosen.source}.")
    parameters = {}
    for place, declared in zip(st.columns(len(chosen.parameters)), chosen.parameters, strict=True):
        with place:
            value = FORM.parameter(name, declared)
        if value != declared.default:
            parameters[declared.name] = value
    return {"method": name, "parameters": parameters} | refusals([chosen])


def _formula(latex: str) -> None:
    # The strut keeps the box from cutting what stands above and below a line.
    st.latex(rf"\rule[-1.2em]{{0pt}}{{2.7em}}{latex}")


def refusals(methods: Collection[Method]) -> Values:
    """Ask for refusal answers where a method teaches them."""
    if not any(chosen.has_refusals for chosen in methods):
        return {}
    return {"refusals": FORM.text(UnlearnConfig, "refusals", "Refusal answers", placeholder="those that ship")}


def compared(preset: Comparison) -> None:
    """Show what a preset runs."""
    st.markdown(linked(preset.about))
    st.caption("Each method with its own default parameters.")
    with st.popover("Formulas", icon=":material/function:"):
        for name in preset.methods:
            st.markdown(f"**{METHODS[name].title}**")
            _formula(METHODS[name].formula)
        st.caption(f"Minimised; ${NOTATION}$.")


def seeds(*, several: bool) -> list[int]:
    """Ask for the seed of one run, or for the first of several and how many there are."""
    if not several:
        return [FORM.number(UnlearnConfig, "seed", "Seed")]
    first, count = st.columns(2)
    with first:
        seed = FORM.number(UnlearnConfig, "seed", "First seed")
    number = count.number_input(
        "Seeds",
        1,
        MOST_SEEDS,
        USUAL_SEEDS,
        key="unlearn_seeds",
        help="Every setting runs once with each seed; all settings share them. With fewer than "
        f"{USUAL_SEEDS} no difference can be told.",
        persist_state="session",
    )
    return list(range(seed, seed + int(number)))


def curriculum(samplers: Collection[str] | None, scores: pd.DataFrame) -> Values:
    """Ask which sample is drawn when, and show how far that is from uniform.

    Args:
        samplers: Those of a preset; None lets the user choose one.
        scores: Of the samples that are unlearned.
    """
    titles = {name: sampler.title for name, sampler in SAMPLERS.items()}
    names = samplers or [FORM.choice(CurriculumConfig, "sampler", "Order of the samples", titles)]
    for name in names:
        title = f"**{titles[name]}.** " if samplers else ""
        st.caption(f"{title}{SAMPLERS[name].help}")
    with st.popover("Probabilities", icon=":material/function:"):
        for name in names:
            _formula(SAMPLERS[name].formula)
    values: Values = {"sampler": next(iter(names))}
    weighted = next((name for name in names if name not in WITHOUT_SCORES), None)
    if weighted is not None:
        values["column"] = _column(weighted, scores, is_compared=samplers is not None)
    with st.expander("Does a curriculum pay?", icon=":material/science:"):
        st.markdown(DOES_IT_PAY)
    with st.expander("Curriculum options", icon=":material/tune:"):
        label = "Forgotten samples leave the pool"
        values["drop_forgotten"] = FORM.switch(CurriculumConfig, "drop_forgotten", label)
        if weighted is not None:
            values |= FORM.columns(CurriculumConfig, *RECOMPUTED, placeholders=EMPTY)
    return values


def _column(sampler: str, scores: pd.DataFrame, *, is_compared: bool) -> str:
    """Ask which scores weigh the samples, and say how many samples are effectively drawn from by them.

    Where orders are compared it begins with the scores whose weights differ most: with nearly equal ones the
    comparison could show nothing.
    """
    numeric = {str(name): str(name) for name in scores.select_dtypes("number").columns}
    titles, form = {name: title for name, title in MRD_TITLES.items() if name in numeric}, Form(FORM.name, "mrd")
    if is_compared:
        form = Form(FORM.name, "compared")
    if sampler == "column":
        titles, form = titles | numeric | titles, Form(FORM.name, "any")
    if sampler in ENTANGLED:
        titles, form = ENTANGLEMENT_COLUMNS, Form(FORM.name, "entanglement")
    least_even = _least_even(sampler, scores, titles)
    first = least_even if is_compared else None
    column = str(form.choice(CurriculumConfig, "column", "Score column", titles, default=first))
    if not SAMPLERS[sampler].with_replacement:
        st.caption("Every sample comes once an epoch; only the order differs from uniform.")
        return column
    # It is told where the button would be that a column of entanglement is yet to be measured.
    share = share_of(sampler, column, scores) if column in scores else None
    if share is not None:
        st.markdown(f"Effective sample size **{share:.0%}** of {len(scores)} samples.")
    if share is not None and share >= NEARLY_UNIFORM:
        _warn_of_even_weights(sampler, scores, least_even, form.key_of(CurriculumConfig, "column"))
    return column


def _warn_of_even_weights(sampler: str, scores: pd.DataFrame, least_even: str | None, key: str) -> None:
    """Say that weights are nearly equal, and offer those that differ where there are such; `key` of the input."""
    st.warning(
        "These probabilities are nearly uniform: expect hardly any difference from uniform sampling.",
        icon=":material/balance:",
    )
    share = (least_even and share_of(sampler, least_even, scores)) or 1.0
    if least_even and share < NEARLY_UNIFORM:

        def take() -> None:
            st.session_state[key] = least_even

        label = f"Take {MRD_TITLES[least_even]}: {share:.0%}"
        st.button(label, icon=":material/swap_horiz:", key="unlearn_take_column", on_click=take)


def _least_even(sampler: str, scores: pd.DataFrame, titles: Collection[str]) -> str | None:
    """Return the column of the answers' MRD whose weights differ most; None where none can weigh."""
    columns = [mrd_column(Scope.ANSWER, normalisation) for normalisation in Normalisation]
    shares = {name: share_of(sampler, name, scores) for name in columns if name in titles}
    known = {name: share for name, share in shares.items() if share is not None}
    return min(known, key=known.__getitem__, default=None)


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
    weighing = [chosen for chosen in methods if chosen.retain != "none" and not chosen.holds_retain]
    weights = sorted({chosen.default_retain_weight for chosen in weighing})
    empty = {"weight": " or ".join(f"{weight:g}" for weight in weights) or "held"}
    empty["limit"] = "auto" if any(chosen.holds_retain for chosen in methods) else "weighed"
    labels = {"weight": "Weight λ"}, {"limit": "Or held at [nats]"}, {"term": "Retain term"}
    values |= FORM.columns(RetainConfig, *labels, placeholders=empty)
    return values | {"limit": number_or_word(values["limit"]) if values["limit"] else None}


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
    values["margin"] = FORM.number(config, "margin", "Margin of a remembered token [logits]")
    if values["margin"]:
        st.caption(
            f"A token counts as remembered where its logit leads all others by more than {values['margin']:g}: it "
            "takes the place of MA while the run judges its samples, not in the table of what became of them."
        )
    values["extraction"] = FORM.switch(config, "extraction", "Also by extraction likelihood (EL)")
    if values["extraction"] and source == "absolute":
        label = "Extraction likelihood (EL)"
        values["extraction_likelihood"] = FORM.number(config, "extraction_likelihood", label)
    with st.expander("Probes and checks", icon=":material/tune:"):
        values |= FORM.columns(config, *PROBES)
        if any(chosen.needs_refusals for chosen in methods):
            spacing, detail = st.columns(2)
            with spacing:
                values["checks"] = FORM.fields(Checks, {"spacing": "Checks of a sample"})
            is_geometric = values["checks"]["spacing"] == "geometric"
            detailed = {"overshoot": "Largest overshoot"} if is_geometric else {"interval": "Every [updates]"}
            with detail:
                values["checks"] |= FORM.fields(Checks, detailed)
    return values


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
        return FORM.columns(Limits, *GUARD)


def optimiser(*, demo: bool) -> Values:
    """Ask how the weights move; the demo has its own learning rate."""
    values = FORM.columns(OptimiserConfig, *OPTIMISER, placeholders=EMPTY, defaults=DEMO if demo else {})
    return values | {"learning_rate": number_or_word(values["learning_rate"])}


def bookkeeping() -> Values:
    """Ask what is written down on the way."""
    return FORM.columns(UnlearnConfig, *WRITTEN)


def evaluation() -> Values:
    """Ask whether forgetting and keeping are evaluated on the way."""
    values = FORM.columns(EvaluationDuringConfig, *EVALUATION, placeholders=EMPTY)
    if values["every_steps"] is not None:
        st.caption(
            "It changes nothing in the training; what it costs stands below the button. Without a retain set "
            "there is no MIA and no utility."
        )
    return values
