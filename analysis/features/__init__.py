"""Features of samples. Each lives in a module of this package that lists it in `FEATURES`, and that is all."""

from __future__ import annotations

import importlib
import pkgutil

from analysis.features.feature import Bins, Computed, Feature, Material, Reading

__all__ = ["VERSION", "Bins", "Computed", "Feature", "Material", "Reading", "features"]


# Raised when a feature changes what it measures, so that readings made before are not taken for new ones.
VERSION = 2


def features() -> tuple[Feature, ...]:
    """Return every feature of the package, in the order of its modules' names."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    loaded = (importlib.import_module(f"{__name__}.{name}") for name in modules)
    return tuple(feature for module in loaded for feature in getattr(module, "FEATURES", ()))
