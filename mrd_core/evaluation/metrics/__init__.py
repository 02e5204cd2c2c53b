"""The metrics of unlearning: each is declared in a module of this package, in its `METRICS`, and that is all.

Values, tables, charts, result files and the documentation are made from what is declared. Loads no torch.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from mrd_core.evaluation.metrics.metric import NOTATION, Answer, Metric, Split

__all__ = ["METRICS", "NOTATION", "Answer", "Metric", "Split", "by_file_name"]


# ROUGE-L F1 of the answers on MUSE. Its verbatim texts are other samples, and privleak needs a retrained model.
_MUSE: Mapping[str, Split] = {"forget_knowmem_ROUGE": "forget", "retain_knowmem_ROUGE": "retain"}
_NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))
_MODULES = [importlib.import_module(f"{__name__}.{name}") for name in _NAMES]
METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for module in _MODULES for metric in getattr(module, "METRICS", ())}
)


def by_file_name(name: str) -> tuple[Metric, Split] | None:
    """Return the metric and the split that a name in a result file of OpenUnlearning stands for, if known."""
    for metric in METRICS.values():
        for split, file_name in metric.file_names.items():
            if file_name == name:
                return metric, split
    # Read, but not written under these names.
    return (METRICS["rouge_f1"], _MUSE[name]) if name in _MUSE else None
