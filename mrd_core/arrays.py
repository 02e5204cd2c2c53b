"""The two kinds of arrays that numbers travel in between modules, and what is done where a value is undefined."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def defined(values: npt.ArrayLike) -> FloatArray:
    """Return the values that are not NaN, in their order."""
    array: FloatArray = np.asarray(values, dtype=np.float64)
    return array[~np.isnan(array)]


def ratio(above: npt.ArrayLike, below: npt.ArrayLike) -> FloatArray:
    """Divide, NaN where the divisor is not positive."""
    quotient: FloatArray = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=quotient, where=np.asarray(below) > 0)
    return quotient
