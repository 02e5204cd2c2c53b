"""The model card of an unlearned model: what was forgotten, from what, how, and what it cost. Loads no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.damage import in_words
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import NOTATION, parsed
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.sampling import SAMPLERS
from mrd_core.unlearning.stopping import SOURCES, StopReason

ENDINGS: Mapping[str, str] = {
    StopReason.ALL_FORGOTTEN: "Every sample had been found forgotten.",
    StopReason.RETAIN_LOSS: "The utility guard ended it: the loss on retain samples rose beyond its bound.",
    StopReason.RETAIN_ACCURACY: "The utility guard ended it: MA on retain samples fell below its bound.",
    StopReason.MAX_STEPS: "The limit of optimiser steps was reached.",
    StopReason.MAX_EPOCHS: "The limit of epochs was reached.",
    StopReason.MAX_SECONDS: "The limit of running time was reached.",
    StopReason.EXHAUSTED: "No sample was left to draw: all that are not forgotten have a sampling weight of 0.",
}
MEASURES = {
    "forget_accuracy": "MA, forget set",
    "forget_nll": "NLL, forget set [nats per answer token]",
    "retain_accuracy": "MA, retain set",
    "retain_nll": "NLL, retain set [nats per answer token]",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#!|~$&])")


def card(config: UnlearnConfig, summary: UnlearningSummary, score_title: str) -> str:
    """Return the README.md of the folder with the unlearned model or adapter. It holds no text of any sample.

    Args:
        config: Of the run.
        summary: The figures of the run, as in its summary.json.
        score_title: Title of the score run: the forget set, and the model that it was scored on.
    """
    source, adapter = config.model.source, summary.adapter
    name = "The demo model of MRD Lens" if source == "demo" else _plain(Path(source).name)
    warnings = "\n".join(f"- {_plain(warning)}" for warning in summary.warnings)
    sections = {
        f"{name}, unlearned with {config.label}": _lead(config, summary, score_title),
        "How": _how(config, summary),
        "What it cost": _costs(summary),
        "Before and after": _measures(summary),
        "How it ended": "\n\n".join(filter(None, [ENDINGS[summary.stop_reason], warnings])),
        "How to load it": f"```python\n{_adapter_code(config) if adapter else _MODEL_CODE}\n```",
        "What this does not show": _CAVEATS,
    }
    (title, lead), *rest = sections.items()
    body = [f"# {title}\n\n{lead}", *(f"## {heading}\n\n{text}" for heading, text in rest)]
    # A JSON string is a YAML string, whatever the path holds.
    front_matter = (
        f"---\nbase_model: {json.dumps(source)}\n"
        f"library_name: {'peft' if adapter else 'transformers'}\n"
        "tags:\n- machine-unlearning\n---\n\n"
    )
    return front_matter + "\n\n".join(body) + "\n"


_CAVEATS = """\
- A sample counts as forgotten by what the model predicts where it is given the true answer so far (teacher
  forcing). That is behaviour: it is no proof that the knowledge is gone from the weights, and another prompt, a
  translation or a little fine-tuning may bring it back.
- Attacks on privacy, such as membership inference and extraction by an adversary, were not evaluated here.
- What else the model knows is watched on the retain set alone, and not at all where there is none."""


def _lead(config: UnlearnConfig, summary: UnlearningSummary, score_title: str) -> str:
    kind = "LoRA adapter that makes a language model" if summary.adapter else "language model that was made to"
    stratum = f", those of the stratum {_plain(config.stratum.name)}" if config.stratum else ""
    thresholds = summary.thresholds
    rule = f"its memorization accuracy (MA) is below {thresholds.accuracy:.3g}"
    if thresholds.extraction is not None:
        rule += f" and its extraction likelihood (EL) is below {thresholds.extraction:.3g}"
    verb = "threshold is" if thresholds.extraction is None else "thresholds are each"
    merged = f" with the adapter {_plain(config.model.adapter)} merged into it" if config.model.adapter else ""
    return (
        f"A {kind} forget {_count(summary.n_samples, 'sample')} of a forget set, by MRD Lens.\n\n"
        f"- **From what:** {_plain(config.model.source)}{merged}, "
        f"{summary.model_parameters:,} parameters.\n"
        f"- **What:** {_count(summary.n_samples, 'sample')} of the scored forget set "
        f"“{_plain(score_title)}”{stratum}.\n"
        f"- **How far:** {summary.forgotten} of {summary.n_samples} were found forgotten on the way, and "
        f"{summary.forgotten_at_end} are so at the end.\n"
        f"- **What is left of the rest:** {in_words(summary)}\n"
        f"- **When a sample is forgotten:** {rule}; the {verb} {SOURCES[thresholds.source]}."
    )


def _how(config: UnlearnConfig, summary: UnlearningSummary) -> str:
    method, sampler, optimiser = METHODS[config.method], SAMPLERS[config.curriculum.sampler], config.optimiser
    retain, weight = None, config.retain_weight
    if config.retain.samples is not None:
        use = f"term {config.retain.term}, λ = {weight:g}" if weight else "measured and not trained on"
        retain = f"{config.retain.samples.source}, {use}"
    by = "" if sampler.name == "uniform" else f", by {config.curriculum.column}"
    rows = {
        "Method": f"{method.title}; {method.source}",
        **{f"— {name}": value for name, value in parsed(method, config.parameters).items()},
        "Refusals": config.refusals.name if config.refusals and method.needs_refusals else None,
        "Retain set": retain,
        "Sampler": f"{sampler.title}{by}",
        "Forgotten samples": "leave the pool" if config.curriculum.drop_forgotten else "stay in the pool",
        "Trained weights": f"{summary.trainable_parameters:,} of {summary.model_parameters:,}"
        + (f" (LoRA, rank {optimiser.lora_rank}, α = {optimiser.lora_alpha:g})" if optimiser.lora_rank else ""),
        "Optimiser": f"{optimiser.name}, weight decay {optimiser.weight_decay:g}, gradient norm clipped at "
        f"{optimiser.max_grad_norm:g}",
        "Learning rate": f"{summary.learning_rate:g}, {optimiser.schedule}",
        "Batch size": _count(optimiser.batch_size, "forget sample"),
        "Seed": config.seed,
        "Device": f"{summary.device}, {summary.dtype}",
    }
    table = _table(("setting", "value"), rows.items())
    symbols = f"with ${NOTATION}$, $S_i$ the answer tokens of sample $i$ and ref the starting model"
    return f"It minimises\n\n$${method.formula}$$\n\n{symbols}.\n\n{table}"


def _costs(summary: UnlearningSummary) -> str:
    count = summary.evaluations
    rows = {
        "Updates (samples trained on, repeats counted)": f"{summary.updates:,}",
        "Draws (forgotten samples found out included)": f"{summary.draws:,}",
        "Optimiser steps": f"{summary.steps:,}",
        "Epochs": f"{summary.epochs:.3g}",
        "Seconds": f"{summary.seconds:,.1f}",
        "— of these, training": f"{summary.seconds_training:,.1f}",
        "FLOPs of training, estimated": f"{summary.flops_training:.3g}",
        "FLOPs of checks, estimated": f"{summary.flops_checks:.3g}",
        "FLOPs of evaluations on the way, estimated": f"{summary.flops_evaluations:.3g} ({count:,} times)"
        if count
        else None,
        "Forward evaluations for MRD": f"{summary.mrd_forward_evaluations:,}",
        "Seconds for MRD": f"{summary.mrd_seconds:,.1f}",
        "FLOPs for MRD, estimated": f"{summary.flops_mrd:.3g}",
    }
    return _table(("cost", "figure"), rows.items())


def _measures(summary: UnlearningSummary) -> str:
    rows = [
        (title, f"{summary.measure(name, before=True):.3f}", f"{summary.measure(name):.3f}")
        for name, title in MEASURES.items()
        if summary.measure(name) is not None
    ]
    note = (
        "MA is the share of answer tokens that are the model's first choice, NLL the mean negative log-likelihood."
    )
    return _table(("measure", "before", "after"), rows) + f"\n\n{note}"


_MODEL_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)"""


def _adapter_code(config: UnlearnConfig) -> str:
    demo = config.model.source == "demo"
    lines = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        *(["from mrd_core.demo import MODEL_DIR"] if demo else []),
        "",
        f"base = {'MODEL_DIR' if demo else json.dumps(config.model.source)}",
        "model = AutoModelForCausalLM.from_pretrained(base)",
    ]
    if config.model.adapter:
        merged = json.dumps(config.model.adapter)
        lines.append(f"model = PeftModel.from_pretrained(model, {merged}).merge_and_unload()")
    lines += [
        'model = PeftModel.from_pretrained(model, "path/to/this/folder")',
        "tokenizer = AutoTokenizer.from_pretrained(base)",
    ]
    return "\n".join(lines)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a table of the rows without None."""
    cells = ([_plain(str(cell)) for cell in row] for row in rows if None not in row)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _plain(text: str) -> str:
    """Return `text` on one line, so that no mark in it is read as Markdown, HTML or a formula."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
