"""Experiments: each is a module of this package with an `EXPERIMENT`, and that is all. None loads torch."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from mrd_core.experiments.experiment import Experiment


@cache
def experiments() -> Mapping[str, Experiment]:
    """Return every experiment by its name, in the order of their places."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    declared: list[Experiment] = [module.EXPERIMENT for module in modules]
    return {each.name: each for each in sorted(declared, key=lambda each: (each.place, each.name))}
