"""What an estimate says, in a few words and in figures."""

from __future__ import annotations

from typing import Literal

import numpy as np

from analysis.statistics.bootstrap import Estimate

Outcome = Literal[
    "predicts updates as expected", "predicts the opposite", "predicts updates", "cannot tell", "not measured"
]
# An interval that holds 0 and lies within this of it says that there is no relation worth the name.
NEGLIGIBLE = 0.3


def verdict(estimate: Estimate, expected_sign: int = 0) -> Outcome:
    """Say in words what a correlation with updates shows.

    It predicts where the interval excludes 0, and then as expected or the opposite by its sign.

    Args:
        estimate: A correlation.
        expected_sign: 1 or −1; 0 where no direction is expected.
    """
    if not np.isfinite(estimate.low):
        return "not measured"
    if not estimate.excludes_zero:
        return "cannot tell"
    if not expected_sign:
        return "predicts updates"
    as_expected = np.sign(estimate.value) == np.sign(expected_sign)
    return "predicts updates as expected" if as_expected else "predicts the opposite"


def is_flat(estimate: Estimate) -> bool:
    """Tell whether the interval of a correlation holds 0 and nothing that is more than weak."""
    return bool(estimate.low <= 0 <= estimate.high and max(-estimate.low, estimate.high) < NEGLIGIBLE)


def finding(estimate: Estimate, outcomes: str, measure: str) -> str:
    """Say in a few words what the correlation of a measure with outcomes shows, as the title of a chart does."""
    if not np.isfinite(estimate.low):
        return f"{outcomes} against {measure}"
    if estimate.excludes_zero:
        return f"{outcomes} {'grow' if estimate.value > 0 else 'fall'} with {measure}"
    if is_flat(estimate):
        return f"{outcomes} hardly go with {measure}"
    return f"{outcomes} against {measure}: cannot tell"


def in_figures(estimate: Estimate, symbol: str = "ρ", digits: int = 2) -> str:
    """Return a value with its interval and how many samples it is from."""
    censored = f", {estimate.n_censored} of them censored" if estimate.n_censored else ""
    return f"{with_ends(estimate, symbol, digits)}, n = {estimate.n}{censored}"


def with_ends(estimate: Estimate, symbol: str = "ρ", digits: int = 2) -> str:
    """Return a value with its interval, or that it cannot be told."""
    if not np.isfinite(estimate.value):
        return f"{symbol} cannot be told"
    value, low, high = (f"{each:.{digits}f}" for each in estimate[:3])
    ends = f"[{low}, {high}]" if np.isfinite(estimate.low) else "[no interval]"
    return f"{symbol} = {value} {ends}".replace("-", "−")


def in_brackets(estimate: Estimate, form: str = "+.2f") -> str:
    """Return an estimate as `+0.41 [+0.20, +0.58]`; a dash where it is undefined."""
    if not np.isfinite(estimate.value):
        return "–"
    ends = f" [{estimate.low:{form}}, {estimate.high:{form}}]" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:{form}}{ends}".replace("-", "−")
