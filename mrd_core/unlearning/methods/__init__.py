"""The unlearning methods. Each lives in a module of this package that declares it as `METHOD`, and that is all.

The command line, the form and the documentation are made from the declarations. Loads no torch.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from mrd_core.unlearning.methods.method import Method

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
_DECLARED: list[Method] = [module.METHOD for module in _MODULES if hasattr(module, "METHOD")]
METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in sorted(_DECLARED, key=lambda method: (method.place, method.name))}
)


def parameters_in_words() -> str:
    """Return which method has which parameters, with their defaults: `npo: beta=0.1; …`."""
    return "; ".join(
        f"{method.name}: {', '.join(f'{parameter.name}={parameter.default}' for parameter in method.parameters)}"
        for method in METHODS.values()
    )
