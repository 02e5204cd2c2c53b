"""The two kinds of arrays that numbers travel in between modules, and how they are divided."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def ratio(above: npt.ArrayLike, below: npt.ArrayLike) -> FloatArray:
    """Divide, NaN where the divisor is not positive."""
    quotient: FloatArray = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=quotient, where=np.asarray(below) > 0)
    return quotient
