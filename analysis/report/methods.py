"""How what a report says was come by, and who says so."""

from __future__ import annotations

from analysis.report.content import Method

SCORES = "scores"
AUDIT = "audit"
CLAIMS = "claims"
EXPERIMENTS = "experiments"
UNLEARNING = "unlearning"
EVALUATIONS = "evaluations"
VERIFICATION = "verification"

METHODS = {
    SCORES: Method(
        title="Scores",
        text="MRD is |(1/K) Σ_k Σ_t (P_t(θ) − P_t(θ + δ_k)) / P_t(θ)|, P_t the log-probability of a scored "
        "token and δ noise on all weights, shared by all samples; as a sum over the tokens or their "
        "mean. Draws are pairs ±δ, in which first-order noise cancels, and sign probes. Errors are over"
        " independent draws; reliability is that of split halves, lengthened by Spearman’s and Brown’s "
        "formula.",
        sources=(
            "Feng et al. 2025, Def. 3.1 and Eq. 4",
            "Hammersley & Morton 1956 (antithetic pairs)",
            "Spearman 1910, Brown 1910 (reliability)",
        ),
    ),
    AUDIT: Method(
        title="Audit of a set",
        text="The set is held against random sets of its size from the pool: the difference of means and "
        "Cliff’s δ with bootstrap intervals, a permutation p with Holm’s correction over the columns, and the "
        "share of random sets with a larger mean. Groups, where samples belong together, are drawn whole.",
        sources=("Cliff 1993", "Fisher 1935, Phipson & Smyth 2010 (permutation)", "Holm 1979"),
    ),
    CLAIMS: Method(
        title="Claims and length",
        text="Groups are compared by the difference of their means, Cliff’s δ = P(high > low) − P(high < "
        "low), and Mann–Whitney’s p with Holm’s correction over the criteria that could be tested. "
        "Intervals are bootstrap intervals over the samples and over the noise that was drawn. What is "
        "left with length held is the coefficient of a rank regression.",
        sources=(
            "Feng et al. 2025, §4.2 and Table 7",
            "Cliff 1993",
            "Holm 1979",
            "Owen 2007 (crossed bootstrap)",
            "Conover & Iman 1981 (rank regression)",
        ),
    ),
    EXPERIMENTS: Method(
        title="Experiments",
        text="Samples are unlearned and what that took is held against what was measured before. Samples "
        "that were not forgotten before the cap are censored, and rank behind all that were. Intervals "
        "are bootstrap intervals over samples.",
        sources=("Feng et al. 2025, Fig. 4 and App. C", "Efron 1987 (BCa intervals)"),
    ),
    UNLEARNING: Method(
        title="Unlearning",
        text="A sample counts as forgotten where its memorization accuracy (MA), the share of its answer "
        "tokens that the model would write next, is below a threshold. Forgetting is judged on the "
        "final weights, together with the retain set: a model that lost what was to be kept is damaged.",
        sources=("Jang et al. 2023 (MA)", "Feng et al. 2025, App. C.4"),
    ),
    EVALUATIONS: Method(
        title="Evaluations",
        text="Completeness is the mean of what is forgotten, utility that of what is kept. A difference "
        "counts where it is larger than the noise of samples and seeds, with Holm’s correction over the"
        " measures.",
        sources=("Feng et al. 2025, Table 1", "Maini et al. 2024 (TOFU)", "Dorna et al. 2025 (OpenUnlearning)"),
    ),
    VERIFICATION: Method(
        title="How to check this report",
        text="Every figure stands in report.json. `mrd-lens verify report.json RUN` makes them all anew from"
        " the tables and arrays of the runs, compares the SHA-256 of their files, and says name by name"
        " what differs. What a run measured of its retain set stands in its summary alone and is "
        "compared as it stands there.",
    ),
}
