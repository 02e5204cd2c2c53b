"""The handbook's chapter on methods and samplers, made from what is declared.

python -m mrd_core.unlearning.handbook > docs/unlearning-methods.md
"""

from __future__ import annotations

from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import NOTATION
from mrd_core.unlearning.sampling import SAMPLERS


def chapter() -> str:
    """Return the chapter as Markdown."""
    parts = [
        "# Unlearning methods and samplers",
        "Made by `python -m mrd_core.unlearning.handbook` from what the code declares. What a method minimises:",
        f"$${NOTATION}$$",
    ]
    for method in METHODS.values():
        table = ["| parameter | default | it is | what it does | from |", "|---|---|---|---|---|"]
        for entry in method.parameters:
            domain = f"{entry.domain} {f'[{entry.unit}]' if entry.unit else ''}".strip()
            table.append(f"| `{entry.name}` | {entry.default} | {domain} | {entry.help} | {entry.source} |")
        weight = f", λ = {method.default_retain_weight:g} by default" if method.retain != "none" else ""
        if method.holds_retain:
            weight = "; the retain loss is held at a limit unless a weight is given"
        parts += [
            f"## {method.title}: `{method.name}`",
            f"$${method.formula}$$",
            f"{method.source}. {method.about.removesuffix('.')}{weight}.",
            "\n".join(table),
        ]
    parts += [
        "## Samplers",
        'Which forget sample is drawn next (`--sampler`). "X + MRD" changes nothing but this.',
        *(
            f"**{sampler.title}: `{sampler.name}`.** {sampler.help}\n\n$${sampler.formula}$$"
            for sampler in SAMPLERS.values()
        ),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(chapter(), end="")
