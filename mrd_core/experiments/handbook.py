"""The handbook's chapter on experiments, made from what is declared.

python -m mrd_core.experiments.handbook > docs/experiments.md
"""

from __future__ import annotations

from mrd_core.experiments.experiment import Experiment
from mrd_core.experiments.kinds import experiments
from mrd_core.settings.fields import help_of

TYPES = {"number": "number", "text": "text", "flag": "yes or no", "list": "list"}


def chapter() -> str:
    """Return the chapter as Markdown."""
    parts = [
        "# Experiments",
        "Made by `python -m mrd_core.experiments.handbook` from what the code declares. Each experiment writes "
        "its raw rows to `rows.parquet`; the column `part` says of which sort a row is. Rows of the sort "
        "`calibration`, which the search of a learning rate leaves, stand beside those that are listed. What the "
        "rows show is judged by the module of the same name in `analysis/evidence/kinds`.",
        *(_experiment(experiment) for experiment in experiments().values()),
    ]
    return "\n\n".join(parts) + "\n"


def _experiment(experiment: Experiment) -> str:
    own = experiment.config.__annotations__.keys() - {"kind"}
    settings = [
        f"| `{name}` | {_cell(help_of(experiment.config, name))} |"
        for name in experiment.config.model_fields
        if name in own
    ]
    blocks = [
        f"## `{experiment.name}`",
        experiment.description,
        "\n".join(["| setting of its own | |", "|---|---|", *settings]),
    ]
    for part in experiment.parts:
        columns = [
            f"| `{name}` | {TYPES[each.type]} | {_cell(each.help)} |" for name, each in part.columns.items()
        ]
        blocks.append("\n".join([f"| rows `{part.name}` | | |", "|---|---|---|", *columns]))
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(chapter(), end="")
