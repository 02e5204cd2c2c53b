"""The model card of an unlearned model: what was forgotten, from what, how, and what it cost. Loads no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mrd_core.model.gguf_file import is_gguf
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.best import RULE
from mrd_core.unlearning.card_findings import Findings
from mrd_core.unlearning.card_findings import findings as read_findings
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.damage import in_words
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import NOTATION, parsed
from mrd_core.unlearning.records import BestStep, UnlearningSummary
from mrd_core.unlearning.sampling import SAMPLERS, WITHOUT_SCORES
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
# What ships with the project: its name, and where it lies.
_DEMO_NAMES = {"demo": "The demo model of MRD Lens", "demo-retrained": "The retrained demo model of MRD Lens"}
_DEMO_FOLDERS = {"demo": "MODEL_DIR", "demo-retrained": "RETRAINED_DIR"}
DIFFICULTY, CAVEATS = "How hard it was to forget", "What this does not show"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#!|~$&])")


def card(config: UnlearnConfig, summary: UnlearningSummary, findings: Findings) -> str:
    """Return the README.md of the folder with the unlearned model or adapter. It holds no text of any sample.

    Args:
        config: Of the run.
        summary: The figures of the run, as in its summary.json.
        findings: What is known besides.
    """
    sections = {
        f"{_name(config)}, unlearned with {config.label}": _lead(config, summary, findings.scored.title),
        "How": _how(config, summary),
        "What it cost": _costs(summary),
        "Before and after": _measures(summary),
        DIFFICULTY: _difficulty(config, findings),
        **_evaluations(findings),
        "How it ended": _ending(summary),
        "How to load it": f"```python\n{_adapter_code(config) if summary.adapter else _MODEL_CODE}\n```",
        CAVEATS: _CAVEATS,
    }
    (title, lead), *rest = sections.items()
    body = [f"# {title}\n\n{lead}", *(f"## {heading}\n\n{text}" for heading, text in rest)]
    return f"---\n{_front_matter(config, summary, findings)}\n---\n\n" + "\n\n".join(body) + "\n"


def section(config: UnlearnConfig, summary: UnlearningSummary, findings: Findings) -> str:
    """Return what a card that is there already lacks: what was forgotten and lost, how hard, and what is left.

    Arguments as of `card`.
    """
    parts = {
        "Before and after": _measures(summary),
        DIFFICULTY: _difficulty(config, findings),
        **_evaluations(findings),
        CAVEATS: _CAVEATS,
    }
    body = [f"## Unlearned with {config.label}\n\n{_lead(config, summary, findings.scored.title)}"]
    return "\n\n".join([*body, *(f"### {heading}\n\n{text}" for heading, text in parts.items())]) + "\n"


def best_card(config: UnlearnConfig, best: BestStep) -> str:
    """Return the README.md of the folder with the best weights on the way."""
    return (
        f"# {_name(config)}, unlearned with {config.label}, at step {best.step}\n\n{best.sentence}\n\n"
        f"By this rule: {RULE}\n\nThe weights at the end of the run, and their card, are in the folder `model` "
        "beside this one.\n"
    )


def card_of(directory: Path, evaluations: Iterable[Path] = (), *, whole: bool = True) -> str:
    """Return the card of a finished run, or its section alone, with what evaluations have found since.

    Raises:
        UserError: It is no finished unlearning run, or one of them no finished evaluation.
    """
    config, files = read_config(directory, UnlearnConfig), UnlearningFiles.finished(directory)
    summary = UnlearningSummary.model_validate(files.read_summary())
    write = card if whole else section
    return write(config, summary, read_findings(files, config.score_run, evaluations))


def _front_matter(config: UnlearnConfig, summary: UnlearningSummary, findings: Findings) -> str:
    """Return what the hub reads of a card, in YAML: whatever a name holds, it stays one."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=_hub_id(measured.data) or "custom",
            dataset_name=f"{measured.title}: {each.set_title}",
            dataset_split=each.split,
            metric_type=each.metric,
            metric_name=each.title,
            metric_value=each.value,
        )
        for measured in findings.evaluations
        for each in measured.measurements
        if each.value is not None
    ]
    data = ModelCardData(
        # The hub takes no path for a model.
        base_model=_hub_id(config.model.source),
        library_name="peft" if summary.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["machine-unlearning"],
        # Results are of a model that has a name.
        model_name=f"{Path(config.model.source).name}, {config.label}" if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _hub_id(source: str | None) -> str | None:
    """Return the source where it names something on the hub, and neither a model of the demo nor a path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # handed on by name alone

    if source is None or source in _DEMO_NAMES or Path(source).exists():
        return None
    with suppress(HFValidationError):
        validate_repo_id(source)
        return source
    return None


def _name(config: UnlearnConfig) -> str:
    source = config.model.source
    return _DEMO_NAMES.get(source) or _plain(Path(source).name)


_CAVEATS = """\
- A sample counts as forgotten by what the model predicts where it is given the true answer so far (teacher
  forcing). That is behaviour: it is no proof that the knowledge is gone from the weights, and another prompt, a
  translation or a little fine-tuning may bring it back.
- The run itself evaluated no attack on privacy, such as membership inference or extraction by an adversary.
- What else the model knows is watched on the retain set alone, and not at all where there is none.
- Whether MRD foretells what a sample needs differs from model to model, and was not tested by this run."""


def _lead(config: UnlearnConfig, summary: UnlearningSummary, score_title: str) -> str:
    kind = "LoRA adapter that makes a language model" if summary.adapter else "language model that was made to"
    stratum = f", those of the stratum {_plain(config.stratum.name)}" if config.stratum else ""
    thresholds = summary.thresholds
    counted = f", of tokens whose logit leads all others by more than {thresholds.margin:g}"
    ma = f"MA{counted}" if thresholds.margin else "MA"
    rule = f"its memorization accuracy ({ma}) is below {thresholds.accuracy:.3g}"
    if thresholds.extraction is not None:
        rule += f" and its extraction likelihood (EL) is below {thresholds.extraction:.3g}"
    verb = "threshold is" if thresholds.extraction is None else "thresholds are each"
    merged = "".join(f" with the adapter {_plain(adapter)} merged into it" for adapter in config.model.adapter)
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


def _difficulty(config: UnlearnConfig, findings: Findings) -> str:
    sigma, (reliability, partialled) = findings.scored.sigma, findings.reliability
    about = (
        "[Memory Removal Difficulty](https://arxiv.org/abs/2504.06658) (MRD, mean over answer tokens) is how "
        "little the log-probability of an answer moves under small Gaussian noise on the weights: small is hard "
        "to forget."
    )
    if findings.thirds.empty:
        return f"{about} No sample here has a value of it."
    how = [] if sigma is None else [f"The noise had a standard deviation of {sigma:g}."]
    if reliability is not None:
        held = "" if partialled is None else f" ({partialled:.2f} with length held)"
        how.append(f"An equal run would rank the samples alike with a reliability of {reliability:.2f}{held}.")
    if config.curriculum.sampler not in WITHOUT_SCORES:
        how.append("The sampler did not draw all samples alike, so updates are no measure of what each needed.")
    heads = ("third", "samples", "MRD", "updates, mean", "MA before", "MA after", "forgotten at the end")
    rows = [
        (
            row.third,
            row.samples,
            f"{row.low:.3g} to {row.high:.3g}",
            f"{row.updates:.1f}",
            f"{row.before:.3f}",
            f"{row.after:.3f}",
            f"{row.forgotten} of {row.samples}",
        )
        for row in findings.thirds.itertuples()
    ]
    return f"{' '.join([about, *how])}\n\n{_table(heads, rows)}"


def _evaluations(findings: Findings) -> dict[str, str]:
    """Return the section on evaluations; none without any."""
    texts = []
    for measured in findings.evaluations:
        rows = [
            (each.set_title, each.title, "undefined" if each.value is None else f"{each.value:.4g}", f"{each.n:,}")
            for each in measured.measurements
        ]
        notes = "\n".join(f"- {_plain(note)}" for note in measured.notes)
        table = _table(("set", "metric", "value", "samples"), rows)
        texts.append("\n\n".join(filter(None, [f"{_plain(measured.title)}:", table, notes])))
    return {"What evaluations found": "\n\n".join(texts)} if texts else {}


def _how(config: UnlearnConfig, summary: UnlearningSummary) -> str:
    method, sampler, optimiser = METHODS[config.method], SAMPLERS[config.curriculum.sampler], config.optimiser
    retain = None
    if config.retain.samples is not None:
        use = _retain_term(config, summary) if config.retain_weight else "measured and not trained on"
        retain = f"{config.retain.samples.source}, {use}"
    by = "" if sampler.name in WITHOUT_SCORES else f", by {config.curriculum.column}"
    rows = {
        "Method": f"{method.title}; {method.source}",
        **{f"— {name}": value for name, value in parsed(method, config.parameters).items()},
        "Refusals": config.refusals.name if config.refusals and method.has_refusals else None,
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


def _retain_term(config: UnlearnConfig, summary: UnlearningSummary) -> str:
    """Return what the retain term is made of, and its λ or where its loss is held."""
    term = "hidden states" if config.retain_term == "states" else config.retain_term
    limit = config.retain_limit
    if limit is None:
        return f"term {term}, λ = {config.retain_weight:g}"
    held = summary.reasons.get("retain limit", limit) if limit == "auto" else f"{limit:g}"
    return f"term {term}, held at {held} by a λ from 0 on, η = {config.retain.limit_rate:g}"


def _ending(summary: UnlearningSummary) -> str:
    warnings = "\n".join(f"- {_plain(warning)}" for warning in summary.warnings)
    best = f"{summary.best.sentence} Its weights are in the folder `best` beside this one." if summary.best else ""
    return "\n\n".join(filter(None, [ENDINGS[summary.stop_reason], best, warnings]))


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
    source = config.model.source
    shipped, path = _DEMO_FOLDERS.get(source), Path(source)
    base, file = shipped or json.dumps(source), ""
    if is_gguf(path):
        base, file = json.dumps(str(path.parent)), f", gguf_file={json.dumps(path.name)}"
    lines = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        *([f"from mrd_core.demo import {shipped}"] if shipped else []),
        "",
        f"base = {base}",
        f"model = AutoModelForCausalLM.from_pretrained(base{file})",
    ]
    lines += [
        f"model = PeftModel.from_pretrained(model, {json.dumps(adapter)}).merge_and_unload()"
        for adapter in config.model.adapter
    ]
    lines += [
        'model = PeftModel.from_pretrained(model, "path/to/this/folder")',
        f"tokenizer = AutoTokenizer.from_pretrained(base{file})",
    ]
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a table of the rows without None."""
    cells = ([_plain(str(cell)) for cell in row] for row in rows if None not in row)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _plain(text: str) -> str:
    """Return `text` on one line, so that no mark in it is read as Markdown, HTML or a formula."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
