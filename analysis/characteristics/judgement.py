"""Everything that is concluded from a scored and characterised forget set, for pages, reports and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.characteristics.claims import Claim, as_json, claims_frame, judge
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import Threshold, stratify
from analysis.statistics.bootstrap import REPLICATES, UNDEFINED, Estimate
from analysis.statistics.groups import RankRegression, correlations, rank_regression
from mrd_core.runs.files import json_value
from mrd_core.scoring.config import Normalisation

# Of what MRD is taken over: a word can be one token or six, and a sum grows with the tokens.
LENGTH = "n_tokens"
EXAMPLES = 3
# Samples times replicates that are done within seconds.
WORK = 2_000_000
LEAST_REPLICATES = 200

# Of tables that may have no row, and are files with a head even then.
GROUP_COLUMNS = ("criterion", "group", "n", "mean_mrd", "low", "high", "median_mrd", "paper_mrd", "examples")
TERM_COLUMNS = ("feature", "alone", "alone_low", "alone_high", "remains", "remains_low", "remains_high", "vif")


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model shows of the paper's criteria.

    Attributes:
        claims: The paper's claims, under either normalisation, in the order of `CRITERIA`.
        chosen: The normalisation that is looked at.
        strata: Per sample and criterion "high", "low" or missing; columns sample_id and the criteria.
        length_held: What remains of each feature with length alone held, under either normalisation.
        regressions: What remains of each with length and all others held.
        correlations: Spearman matrix of MRD, length and the criteria's features.
    """

    claims: dict[Normalisation, list[Claim]]
    chosen: Normalisation
    strata: pd.DataFrame
    length_held: dict[Normalisation, dict[str, Estimate]]
    regressions: dict[Normalisation, RankRegression]
    correlations: pd.DataFrame

    @property
    def shown(self) -> list[Claim]:
        """The claims under the chosen normalisation."""
        return self.claims[self.chosen]

    @property
    def regression(self) -> RankRegression:
        """The regression under the chosen normalisation."""
        return self.regressions[self.chosen]


def judged(found: Characterised, thresholds: Mapping[str, Threshold]) -> Judgement:
    """Divide the samples by each criterion, hold the claims against them, and separate out length.

    Args:
        found: The forget set.
        thresholds: By criterion; a missing one is the paper's.
    """
    averages, replicates = found.about.training_averages, replicates_for(len(found.table))
    claims = {
        norm: judge(found.table, found.measured[norm], thresholds, averages, replicates) for norm in Normalisation
    }
    chosen = found.variant.normalisation
    measured_by = {claim.feature: claim for claim in claims[chosen] if claim.feature}
    features = found.table[list(measured_by)]
    return Judgement(
        claims=claims,
        chosen=chosen,
        strata=strata_of(found.table, claims[chosen]),
        length_held={
            norm: {
                name: _coefficient(
                    rank_regression(found.table[[name]], found.table[LENGTH], found.measured[norm], replicates),
                    name,
                )
                for name in measured_by
            }
            for norm in Normalisation
        },
        regressions={
            norm: rank_regression(features, found.table[LENGTH], found.measured[norm], replicates)
            for norm in Normalisation
        },
        correlations=correlations(found.table[["mrd", LENGTH, *measured_by]]),
    )


def replicates_for(samples: int) -> int:
    """Return the bootstrap replicates: 1,000, fewer where so many samples would make the user wait."""
    return int(np.clip(WORK // max(samples, 1), LEAST_REPLICATES, REPLICATES))


def remains(judgement: Judgement, claim: Claim, normalisation: Normalisation) -> dict[str, float]:
    """Return what is left of a claim's feature: length_held and others_held, each with _low and _high (95 %).

    Standardised coefficients of ranks; NaN where the feature is not measured or length is no term.
    """
    held = {
        "length_held": judgement.length_held[normalisation].get(claim.feature or "", UNDEFINED),
        "others_held": _coefficient(judgement.regressions[normalisation], claim.feature),
    }
    ends = ("", "_low", "_high")
    return {
        f"{name}{end}": value
        for name, estimate in held.items()
        for end, value in zip(ends, estimate[:3], strict=True)
    }


def _coefficient(regression: RankRegression, feature: str | None) -> Estimate:
    """Return a feature's coefficient, unknown unless length is held in the regression."""
    terms = {term.name: term.coefficient for term in regression.terms}
    return terms.get(feature or "", UNDEFINED) if LENGTH in terms else UNDEFINED


def claims_table(judgement: Judgement) -> pd.DataFrame:
    """Return `claims_frame` with what `remains` of each claim."""
    rows = [remains(judgement, claim, norm) for norm, claims in judgement.claims.items() for claim in claims]
    return pd.concat([claims_frame(judgement.claims), pd.DataFrame(rows)], axis=1)


def claims_json(judgement: Judgement) -> dict[str, Any]:
    """Return an object by criterion: the claim and what remains of it, under the chosen and each normalisation."""
    found = as_json(judgement.claims, judgement.chosen)
    for at, claim in enumerate(judgement.shown):
        of_claim = found[claim.criterion.name]
        for norm, claims in judgement.claims.items():
            left = {name: json_value(value) for name, value in remains(judgement, claims[at], norm).items()}
            of_claim["by_normalisation"][str(norm)] |= left
            if norm is judgement.chosen:
                of_claim |= left
    return found


def strata_of(table: pd.DataFrame, claims: list[Claim]) -> pd.DataFrame:
    """Return for each sample its group under each criterion that could be measured."""
    groups = {
        claim.criterion.name: stratify(table[claim.feature], claim.level) for claim in claims if claim.feature
    }
    return pd.DataFrame({"sample_id": table["sample_id"], **groups})


def group_table(found: Characterised, judgement: Judgement) -> pd.DataFrame:
    """Return a table like the paper's Table 7: a row per criterion and group, with samples that are typical of it.

    Columns: criterion, group, n, mean_mrd, low, high (95 % of the mean), median_mrd, paper_mrd, examples (ids of
    the samples whose MRD is nearest to the group's median).
    """
    rows = []
    for claim in judgement.shown:
        if claim.comparison is None:
            continue
        compared, criterion = claim.comparison, claim.criterion
        paper = criterion.paper or (np.nan, np.nan)
        sides = (
            ("high", criterion.high, compared.n_high, compared.mean_high, compared.median_high, paper[1]),
            ("low", criterion.low, compared.n_low, compared.mean_low, compared.median_low, paper[0]),
        )
        for side, group, count, mean, median, published in sides:
            members = found.table[(judgement.strata[criterion.name] == side) & found.table["mrd"].notna()]
            nearest = (members["mrd"] - median.value).abs().sort_values(kind="stable").index[:EXAMPLES]
            rows.append(
                {
                    "criterion": criterion.name,
                    "group": group,
                    "n": count,
                    "mean_mrd": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "median_mrd": median.value,
                    "paper_mrd": published,
                    "examples": list(members.loc[nearest, "sample_id"]),
                }
            )
    return pd.DataFrame(rows, columns=pd.Index(GROUP_COLUMNS))


def regression_frame(regression: RankRegression) -> pd.DataFrame:
    """Return a row per term: feature, alone, alone_low, alone_high, remains, remains_low, remains_high, vif."""
    return pd.DataFrame(
        [
            {
                "feature": term.name,
                "alone": term.alone.value,
                "alone_low": term.alone.low,
                "alone_high": term.alone.high,
                "remains": term.coefficient.value,
                "remains_low": term.coefficient.low,
                "remains_high": term.coefficient.high,
                "vif": term.vif,
            }
            for term in regression.terms
        ],
        columns=pd.Index(TERM_COLUMNS),
    )
