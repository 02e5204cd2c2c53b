"""The suites of an evaluation: each is a module of this package with a `SUITE`, and that is all."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from mrd_core.evaluation.suite import Suite

# Known without loading them, which takes the configuration that has one of them as its default.
NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def suites() -> Mapping[str, Suite]:
    """Return every suite by its name, which is that of its module."""
    return {name: importlib.import_module(f"{__name__}.{name}").SUITE for name in NAMES}
