"""Everything that is concluded from a scored and characterised forget set, for pages, reports and files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict, TypeAdapter, with_config

from analysis.characteristics.claims import Claim, as_json, claims_frame, judge
from analysis.characteristics.files import CharacteristicsFiles, ClaimFigures
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import CRITERIA, Threshold, stratify
from analysis.statistics.bootstrap import REPLICATES, UNDEFINED, Estimate
from analysis.statistics.groups import RankRegression, correlations, rank_regression
from mrd_core.runs.files import json_value, write_atomically
from mrd_core.scoring.config import Normalisation

# Of what MRD is taken over: a word can be one token or six, and a sum grows with the tokens.
TOKENS = "n_tokens"
EXAMPLES = 3
# Samples times replicates that are done within seconds.
WORK = 2_000_000
LEAST_REPLICATES = 200
# Raised when the same choices come to be judged otherwise.
JUDGEMENT = 1

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


@with_config(ConfigDict(ser_json_inf_nan="constants"))
@dataclass(frozen=True)
class Resampled:
    """What of a judgement takes a bootstrap, and does not depend on the normalisation that is looked at."""

    claims: dict[Normalisation, list[Claim]]
    length_held: dict[Normalisation, dict[str, Estimate]]
    regressions: dict[Normalisation, RankRegression]


KEPT = TypeAdapter(Resampled)


def judged(
    forget_set: Characterised, thresholds: Mapping[str, Threshold], reading: Path | None = None
) -> Judgement:
    """Divide the samples by each criterion, hold the claims against them, and separate out length.

    Args:
        forget_set: What is judged.
        thresholds: By criterion; a missing one is the paper's.
        reading: Directory of the characteristics run, which keeps what took a bootstrap, so that it is done once;
            None does it now.
    """
    table, norm = forget_set.table, forget_set.variant.normalisation
    resampled = _kept(forget_set, thresholds, reading) if reading else _resampled(forget_set, thresholds)
    held = resampled.claims[norm]
    groups = {claim.criterion.name: stratify(table[claim.feature], claim.level) for claim in held if claim.feature}
    return Judgement(
        claims=resampled.claims,
        chosen=norm,
        strata=pd.DataFrame({"sample_id": table["sample_id"], **groups}),
        length_held=resampled.length_held,
        regressions=resampled.regressions,
        correlations=correlations(table[["mrd", TOKENS, *_measured_by(held)]]),
    )


def _kept(forget_set: Characterised, thresholds: Mapping[str, Threshold], reading: Path) -> Resampled:
    """Return what took a bootstrap from the directory of a reading, done and put there where it is not yet."""
    scores = replace(forget_set.variant, normalisation=Normalisation.MEAN)
    # Whatever is held otherwise by another version of the program is judged anew.
    rules = [thresholds.get(criterion.name, criterion.default) for criterion in CRITERIA]
    choices = repr([scores, rules, CRITERIA, replicates_for(len(forget_set.table)), JUDGEMENT])
    digest = hashlib.sha256(choices.encode()).hexdigest()[:16]
    path = CharacteristicsFiles(reading).judgements / f"{digest}.json"
    # One that cannot be read, or is not whole, is made again.
    with suppress(OSError, ValueError):
        return KEPT.validate_json(path.read_bytes())
    resampled = _resampled(forget_set, thresholds)
    # Where nothing can be written, as on a full disk, it is done again next time.
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda stream: stream.write(KEPT.dump_json(resampled)))
    return resampled


def _resampled(forget_set: Characterised, thresholds: Mapping[str, Threshold]) -> Resampled:
    table, measured = forget_set.table, forget_set.measured
    averages, replicates = forget_set.about.training_averages, replicates_for(len(table))
    claims = {norm: judge(table, measured[norm], thresholds, averages, replicates) for norm in Normalisation}
    features = _measured_by(claims[Normalisation.MEAN])
    fits = {
        norm: partial(rank_regression, length=table[TOKENS], measured=measured[norm], replicates=replicates)
        for norm in Normalisation
    }
    return Resampled(
        claims=claims,
        length_held={
            norm: {name: _coefficient(fit(table[[name]]), name) for name in features} for norm, fit in fits.items()
        },
        regressions={norm: fit(table[features]) for norm, fit in fits.items()},
    )


def _measured_by(claims: Iterable[Claim]) -> list[str]:
    """Return the features that measure the criteria of claims, each once."""
    return list(dict.fromkeys(claim.feature for claim in claims if claim.feature))


def replicates_for(samples: int) -> int:
    """Return the bootstrap replicates: 1,000, fewer where so many samples would make the user wait."""
    return int(np.clip(WORK // max(samples, 1), LEAST_REPLICATES, REPLICATES))


def remains(judgement: Judgement, claim: Claim, normalisation: Normalisation) -> dict[str, float]:
    """Return what is left of a claim's feature: length_held and others_held, each with _low and _high (95 %).

    Standardised coefficients of ranks; NaN where the feature is not measured or length is no term.
    """
    length_held = judgement.length_held[normalisation].get(claim.feature or "", UNDEFINED)
    others_held = _coefficient(judgement.regressions[normalisation], claim.feature)
    return length_held.columns("length_held", "length_held_") | others_held.columns("others_held", "others_held_")


def _coefficient(regression: RankRegression, feature: str | None) -> Estimate:
    """Return a feature's coefficient, unknown unless length is held in the regression."""
    terms = {term.name: term.coefficient for term in regression.terms}
    return terms.get(feature or "", UNDEFINED) if TOKENS in terms else UNDEFINED


def claim_figures(judgement: Judgement) -> list[ClaimFigures]:
    """Return what became of each claim under the chosen normalisation, as a reading keeps it."""
    return [
        ClaimFigures(criterion=claim.criterion.title, verdict=claim.verdict, remains=_stays(judgement, claim))
        for claim in judgement.shown
    ]


def _stays(judgement: Judgement, claim: Claim) -> bool:
    """Return whether with length held something is left of a claim, on the side that it names."""
    held = judgement.length_held[judgement.chosen].get(claim.feature or "", UNDEFINED)
    return held.high < 0 if claim.criterion.claim == "smaller" else held.low > 0


def claims_table(judgement: Judgement) -> pd.DataFrame:
    """Return `claims_frame` with what `remains` of each claim."""
    rows = [remains(judgement, claim, norm) for norm, claims in judgement.claims.items() for claim in claims]
    return pd.concat([claims_frame(judgement.claims), pd.DataFrame(rows)], axis=1)


def claims_json(judgement: Judgement) -> dict[str, Any]:
    """Return an object by criterion: the claim and what remains of it, under the chosen and each normalisation."""
    by_criterion = as_json(judgement.claims, judgement.chosen)
    for norm, claims in judgement.claims.items():
        for claim in claims:
            of_claim = by_criterion[claim.criterion.name]
            left = {name: json_value(value) for name, value in remains(judgement, claim, norm).items()}
            of_claim["by_normalisation"][str(norm)] |= left
            if norm is judgement.chosen:
                of_claim |= left
    return by_criterion


def group_table(forget_set: Characterised, judgement: Judgement) -> pd.DataFrame:
    """Return a table like the paper's Table 7: a row per criterion and group, with samples that are typical of it.

    Columns: criterion, group, n, mean_mrd, low, high (95 % of the mean), median_mrd, paper_mrd, examples (ids of
    the samples whose MRD is nearest to the group's median).
    """
    rows = []
    scored = forget_set.table[forget_set.table["mrd"].notna()]
    for claim in judgement.shown:
        if claim.comparison is None:
            continue
        compared, criterion = claim.comparison, claim.criterion
        low, high = criterion.paper or (np.nan, np.nan)
        for side, group, count, mean, median, published in (
            ("high", criterion.high, compared.n_high, compared.mean_high, compared.median_high.value, high),
            ("low", criterion.low, compared.n_low, compared.mean_low, compared.median_low.value, low),
        ):
            members = scored[judgement.strata.loc[scored.index, criterion.name] == side]
            nearest = (members["mrd"] - median).abs().sort_values(kind="stable").index[:EXAMPLES]
            about = {"criterion": criterion.name, "group": group, "n": count, "median_mrd": median}
            examples = list(members.loc[nearest, "sample_id"])
            rows.append(about | mean.columns("mean_mrd") | {"paper_mrd": published, "examples": examples})
    return pd.DataFrame(rows, columns=list(GROUP_COLUMNS))


def regression_frame(regression: RankRegression) -> pd.DataFrame:
    """Return a row per term: feature, alone, alone_low, alone_high, remains, remains_low, remains_high, vif."""
    rows = [
        {"feature": term.name, "vif": term.vif}
        | term.alone.columns("alone", "alone_")
        | term.coefficient.columns("remains", "remains_")
        for term in regression.terms
    ]
    return pd.DataFrame(rows, columns=list(TERM_COLUMNS))
