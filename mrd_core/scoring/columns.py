"""The columns of `scores.parquet`, the main file of a score run: name, unit, meaning and type, declared once.

Whoever writes, reads, keeps or documents a column takes its name from here. Loads no torch.
"""

from __future__ import annotations

from itertools import product

from mrd_core.runs.files import Column
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation

INTEGER, FLAG, TEXT = "int64", "bool", "str"


def mrd_column(scope: Scope, normalisation: Normalisation, formula: Formula = Formula.MRD) -> str:
    """Return the name of the column of a variant of the score, such as `mrd_answer_mean`."""
    return f"{formula}_{scope}_{normalisation}"


def scope_column(name: str, scope: Scope) -> str:
    """Return the name of the column that holds `name`, one of `IN_SCOPE`, for a scope whatever was chosen."""
    return f"{name}_{scope}"


SAMPLE_ID = "sample_id"
MRD_ANSWER_MEAN = mrd_column(Scope.ANSWER, Normalisation.MEAN)
MRD_ANSWER_SUM = mrd_column(Scope.ANSWER, Normalisation.SUM)
# Columns that depend on the scope: those of the chosen one bear the plain name.
IN_SCOPE = ("n_tokens", "excluded_tokens", "mean_log_prob")

CHOSEN = (
    Column(SAMPLE_ID, "the sample, as in `samples.parquet`", dtype=TEXT),
    Column(
        "mrd",
        "the score in the chosen variant (answer tokens, mean). **Small: hard to unlearn. Large: easy.** A pure "
        "number",
    ),
    Column(
        "mrd_signed",
        "the same before the absolute value; negative when noise lowers the log-probability, the usual case",
    ),
    Column("mrd_se", "standard error of `mrd` over independent draws"),
    Column("mrd_low", "lower end of the 95 % interval (Student t; 0 where the signed one spans 0)"),
    Column("mrd_high", "upper end of the 95 % interval"),
    Column("relative_se", "`mrd_se / mrd`"),
    Column("n_tokens", "tokens in scope", "tokens", INTEGER),
    Column(
        "excluded_tokens",
        "of the tokens in scope, those left out because \\|log p\\| < 10⁻⁶, where a relative change is only "
        "rounding",
        "tokens",
        INTEGER,
    ),
    Column("mean_log_prob", "mean log-probability of the tokens in scope, unperturbed", "nats"),
    Column("truncated", "longer than the model's context, and cut", dtype=FLAG),
)

_TOKENS = {Scope.ANSWER: "the answer tokens and EOS", Scope.FULL: "all tokens after the first"}
_SCORES = {
    Formula.MRD: "MRD (Feng et al., Eq. 4)",
    Formula.MEAN_ABSOLUTE: "MRD with the absolute value inside the sums",
    Formula.INITIAL: "the initial metric, the change of the summed log-probability",
}


OF_SCOPES = tuple(
    Column(
        scope_column(column.name, scope),
        f"`{column.name}` of {_TOKENS[scope]}, whatever scope was chosen",
        column.unit,
        column.dtype,
    )
    for scope in Scope
    for column in CHOSEN
    if column.name in IN_SCOPE
)
VARIANTS = tuple(
    Column(
        mrd_column(scope, normalisation, formula),
        f"{_SCORES[formula]}, {normalisation} over {_TOKENS[scope]}",
        "nats" if formula is Formula.INITIAL else "",
    )
    for formula, scope, normalisation in product(Formula, Scope, Normalisation)
)
_PARTS = {
    "speed": "A, the speed of the log-odds: how fast noise moves the target against its competitors together",
    "spread": "B, the spread of the competitors: how far apart noise moves them",
    "curvature": "C, the curvature of the network: what is left of MRD",
}
PARTS = (
    *(
        column
        for name, about in _PARTS.items()
        for column in (
            Column(name, f"{about}; in the chosen variant and without σ: MRD/σ² is half the sum of the three"),
            Column(f"{name}_se", f"standard error of `{name}`"),
        )
    ),
    Column("speed_and_spread", "A + B, MRD without the curvature: what a preview ranks by"),
    Column("speed_and_spread_se", "standard error of `speed_and_spread`, at most"),
)
# In the order of the file.
SCORE_COLUMNS = (*CHOSEN, *OF_SCOPES, *PARTS, *VARIANTS)

# Of Eq. 4, for people who choose what to weigh or to balance samples by.
MRD_TITLES = {
    mrd_column(scope, normalisation): f"MRD, {normalisation} over {tokens}"
    for scope, tokens in ((Scope.ANSWER, "the answer tokens"), (Scope.FULL, "all tokens"))
    for normalisation in Normalisation
}
