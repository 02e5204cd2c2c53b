"""A finished score run of any size: the demo's texts over and over, with scores that no model has made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.demo.corpus import SPLITS, of_split
from mrd_core.runs import JobContext, Run, RunStore, submit, worker
from mrd_core.runs.files import write_frame
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring.columns import IN_SCOPE, scope_column
from mrd_core.scoring.config import EstimatorConfig, Normalisation, ScoreConfig
from mrd_core.scoring.draws import SCOPES, Draws, parts, reliability, scores, variants
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.records import ScoreSummary
from mrd_core.scoring.results import write_results
from mrd_core.settings.installation import Settings

PAIRS = 16
SIGMA = 1e-3
# Standard deviations of the logarithm of MRD: of the samples, and of the draws of one.
SPREAD, NOISE = 0.5, 0.2
LOG_PROBABILITY = -0.5


def scored(home: Path, samples: int) -> tuple[RunStore, Settings, Run]:
    """Put a score run of so many samples into the data root `home`."""
    home.mkdir(parents=True, exist_ok=True)
    settings = Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=())
    store = RunStore.open(settings)
    rows = pd.concat([of_split(split) for split in SPLITS], ignore_index=True)
    rows = rows.loc[np.arange(samples) % len(rows), ["question", "answer"]]
    # Texts that differ, as those of a set have to.
    rows["answer"] += [f" ({number})" for number in range(samples)]
    file = home / "forget.jsonl"
    rows.assign(id=[f"sample-{number}" for number in range(samples)]).to_json(file, orient="records", lines=True)
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(file)), estimator=EstimatorConfig(draws=2 * PAIRS, sigma=SIGMA)
    )
    run = submit(config, store=store, settings=settings)
    worker.run(run.directory, store=store, job="benchmarks.large_set:pretend")
    return store, settings, store.get(run.id)


def pretend(config: ScoreConfig, context: JobContext) -> dict[str, Any]:
    """Write the files of a score run whose draws are noise around a score for each sample."""
    forget_set = read(config.forget_set)
    files, samples = ScoreFiles(context.directory), forget_set.frame
    forget_set.save(files.samples)
    tokens = _tokens(forget_set)
    drawn = _draws(samples, tokens)
    frame = scores(drawn, Scope.ANSWER, Normalisation.MEAN)
    for scope in SCOPES:
        covered = tokens[tokens["in_answer"]] if scope is Scope.ANSWER else tokens
        by_sample = covered.groupby("sample_id", sort=False)["log_prob"]
        frame[scope_column("n_tokens", scope)] = by_sample.size().to_numpy()
        frame[scope_column("excluded_tokens", scope)] = 0
        frame[scope_column("mean_log_prob", scope)] = by_sample.mean().to_numpy()
    frame = frame.assign(truncated=False, **{name: frame[scope_column(name, Scope.ANSWER)] for name in IN_SCOPE})
    frame = pd.concat([frame, parts(drawn, Scope.ANSWER, Normalisation.MEAN), variants(drawn)], axis=1)
    reliabilities = {norm: reliability(drawn.units(Scope.ANSWER, norm)) for norm in Normalisation}
    summary = ScoreSummary(
        n_samples=len(samples),
        median_relative_se=float(frame["relative_se"].median()),
        p90_relative_se=float(frame["relative_se"].quantile(0.9)),
        reliability_sum=reliabilities[Normalisation.SUM],
        reliability_mean=reliabilities[Normalisation.MEAN],
        evaluations=drawn.evaluations,
        sigma=SIGMA,
        tokens=len(tokens),
        model_parameters=1,
    )
    write_results(files, frame, drawn, tokens, summary)
    log_probs = tokens[tokens["in_answer"]].groupby("sample_id", sort=False)["log_prob"]
    measures = {"sample_id": samples["sample_id"], "nll": -log_probs.mean().to_numpy()}
    write_frame(files.measures, pd.DataFrame(measures | {"probability": np.exp(log_probs.mean().to_numpy())}))
    return summary.as_json()


def _tokens(forget_set: ForgetSet) -> pd.DataFrame:
    """Return a row per word of the prompts and answers, as one per token of a run."""
    rows = [
        (sample, position, f" {word}", is_answer)
        for sample, *texts in forget_set.frame[["sample_id", "prompt", "answer"]].itertuples(index=False)
        for position, (word, is_answer) in enumerate(
            (word, is_answer) for is_answer, text in enumerate(texts) for word in text.split()
        )
    ]
    frame = pd.DataFrame(rows, columns=["sample_id", "position", "piece", "in_answer"])
    changes = np.random.default_rng(0).normal(0, 0.1, size=len(frame))
    return frame.assign(
        in_answer=frame["in_answer"].astype(bool),
        excluded=False,
        log_prob=LOG_PROBABILITY * (1 + changes),
        relative_change=changes,
        relative_change_se=0.01,
    )


def _draws(samples: pd.DataFrame, tokens: pd.DataFrame) -> Draws:
    """Return pairs of draws, their sums proportional to the tokens that they are over."""
    kept = np.column_stack(
        [
            tokens.groupby("sample_id", sort=False)["in_answer"].sum(),
            tokens.groupby("sample_id", sort=False).size(),
        ]
    )
    chance = np.random.default_rng(0)
    true = np.exp(chance.normal(-3, SPREAD, size=len(samples)))
    pairs = true * np.exp(chance.normal(0, NOISE, size=(PAIRS, len(samples))))
    values = np.repeat(pairs, 2, axis=0)[:, :, None, None] * kept[None, :, :, None] * np.array([-1.0, -1.0, 1.0])
    return Draws(tuple(samples["sample_id"]), values, kept, "antithetic", SIGMA)
