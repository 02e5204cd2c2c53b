"""The handbook's chapter on metrics, made from what is declared.

python -m mrd_core.evaluation.handbook > docs/metrics.md
"""

from __future__ import annotations

from pathlib import Path

from mrd_core.evaluation.metrics import METRICS, NOTATION

JUDGED = Path(__file__).with_name("judged.md")
GOOD = {"low": "low is good", "high": "high is good", "half": "0.5 is good", "zero": "0 is good", "": "not taken"}


def chapter() -> str:
    """Return the chapter as Markdown."""
    parts = [
        "# Metrics",
        "Made by `python -m mrd_core.evaluation.handbook` from what the code declares. Every metric of a sample "
        "is kept (`values.parquet`); the value of a set is the mean over those samples on which it is defined.",
        "Beside the metrics each sample of questions with answers has `answer_tokens` (n), `rouge_shuffled` "
        "(ROUGE-L recall of what was written against another sample's answer, the level of a model that knows "
        "nothing), `truth_ratio_raw` (r itself), and of the retrained reference `truth_ratio_reference` (r), "
        "`nll_reference` and, where it was evaluated before, `answer_tokens_reference`.",
        f"$${NOTATION}$$",
    ]
    parts += [
        "## Which of them tell what a model knows",
        JUDGED.read_text(encoding="utf-8").strip(),
    ]
    for metric in METRICS.values():
        unit = f" [{metric.unit}]" if metric.unit else ""
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(metric.file_names.values()))
        parts += [
            f"## {metric.title}{unit}: `{metric.name}`",
            f"$${metric.formula}$$",
            f"{metric.help} On the forget set: {GOOD[metric.forget]}; elsewhere: {GOOD[metric.retain]}.",
            f"Of {'each sample' if metric.per_sample else 'a whole set'}; needs: {', '.join(metric.needs)}. "
            f"Undefined: {metric.undefined}",
            f"{metric.source}." + (f" In OpenUnlearning's files: {names}." if names else ""),
        ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(chapter(), end="")
