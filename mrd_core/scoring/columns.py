"""The columns of `scores.parquet`, the main file of a score run: name, unit, meaning and type, declared once.

Whoever writes, reads, keeps or documents a column takes its name from here. Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation

FLOAT, INTEGER, FLAG, TEXT = "float64", "int64", "bool", "str"


@dataclass(frozen=True)
class Column:
    """One column of the scores, a value per sample.

    Attributes:
        name: As it stands in the file.
        dtype: Of pandas.
        unit: "" for a pure number, a flag or a text.
        meaning: What it holds, in one sentence; Markdown.
    """

    name: str
    dtype: str
    unit: str
    meaning: str


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
    Column(SAMPLE_ID, TEXT, "", "the sample, as in `samples.parquet`"),
    Column(
        "mrd",
        FLOAT,
        "",
        "the score in the chosen variant (answer tokens, mean). **Small: hard to unlearn. Large: easy.** "
        "A pure number",
    ),
    Column(
        "mrd_signed",
        FLOAT,
        "",
        "the same before the absolute value; negative when noise lowers the log-probability, the usual case",
    ),
    Column("mrd_se", FLOAT, "", "standard error of `mrd` over independent draws"),
    Column("mrd_low", FLOAT, "", "lower end of the 95 % interval (Student t; 0 where the signed one spans 0)"),
    Column("mrd_high", FLOAT, "", "upper end of the 95 % interval"),
    Column("relative_se", FLOAT, "", "`mrd_se / mrd`"),
    Column("n_tokens", INTEGER, "tokens", "tokens in scope"),
    Column(
        "excluded_tokens",
        INTEGER,
        "tokens",
        "of the tokens in scope, those left out because \\|log p\\| < 10⁻⁶, where a relative change is only "
        "rounding",
    ),
    Column("mean_log_prob", FLOAT, "nats", "mean log-probability of the tokens in scope, unperturbed"),
    Column("truncated", FLAG, "", "longer than the model's context, and cut"),
)

_TOKENS = {Scope.ANSWER: "the answer tokens and EOS", Scope.FULL: "all tokens after the first"}
_SCORES = {
    Formula.MRD: "MRD (Feng et al., Eq. 4)",
    Formula.MEAN_ABSOLUTE: "MRD with the absolute value inside the sums",
    Formula.INITIAL: "the initial metric, the change of the summed log-probability",
}


def _of_scope(column: Column, scope: Scope) -> Column:
    meaning = f"`{column.name}` of {_TOKENS[scope]}, whatever scope was chosen"
    return Column(scope_column(column.name, scope), column.dtype, column.unit, meaning)


def _variant(formula: Formula, scope: Scope, normalisation: Normalisation) -> Column:
    unit = "nats" if formula is Formula.INITIAL else ""
    meaning = f"{_SCORES[formula]}, {normalisation} over {_TOKENS[scope]}"
    return Column(mrd_column(scope, normalisation, formula), FLOAT, unit, meaning)


OF_SCOPES = tuple(_of_scope(column, scope) for scope in Scope for column in CHOSEN if column.name in IN_SCOPE)
VARIANTS = tuple(_variant(*variant) for variant in product(Formula, Scope, Normalisation))
# In the order of the file.
SCORE_COLUMNS = (*CHOSEN, *OF_SCOPES, *VARIANTS)

# Of Eq. 4, for people who choose what to weigh or to balance samples by.
MRD_TITLES = {
    mrd_column(scope, normalisation): f"MRD, {normalisation} over {tokens}"
    for scope, tokens in ((Scope.ANSWER, "the answer tokens"), (Scope.FULL, "all tokens"))
    for normalisation in Normalisation
}


def rows() -> list[dict[str, str]]:
    """Return the declared columns as rows for a table in documents: column, unit, meaning, type."""
    return [
        {"column": column.name, "unit": column.unit, "meaning": column.meaning, "type": column.dtype}
        for column in SCORE_COLUMNS
    ]
