"""What a score run writes down of itself: its plan before the first draw, its figures after the last.

Files of earlier versions are read too: what they lack has a default, and what is not known here is passed over.
Loads no torch.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, ValidationError

from mrd_core.runs import Run
from mrd_core.runs.records import Record, RunSummary

Figure = float | str | bool | None


class Plan(Record):
    """What was decided before the first draw; a restart and every helping process read it and decide nothing.

    Attributes:
        sigma: Standard deviation of the noise; None in a preview, which has none.
        batch_tokens: Most padded tokens in a batch.
        threads: Torch threads of each process.
        workers: Processes that share the draws.
        streamed: Whether weights are perturbed a layer at a time; by_layers: with all passes of a unit going
            through a layer before the next one.
        compiled: Whether the model is compiled for the draws.
        gate_passed: The precision gate's verdict, with its figures in `gate`.
        pilot: σ → median ratio of MRD/σ² at σ and σ/2; None where it is undefined.
        reasons: For each automatic choice, what was chosen and why.
        warnings: What a reader of the scores should know, in sentences.
        with_parts: Whether pairs are looked at for the parts of MRD.
        probe_cost: What a unit of sign probes costs, in forward passes; 0 without probes.
        in_batches: Whether samples of a batch are told apart in backward passes; by_autograd: the weights that no
            rule gives the gradients of (see `model.gradients.Layout`).
        vocabulary: SHA-256 over the tokenizer's words; "" in runs of earlier versions.
        device_kind: How what the units are drawn on rounds (see `model.hardware`); weights: a checksum of those of
            the model. "" in runs of earlier versions.
    """

    device: str
    dtype: str
    sigma: float | None
    template: str
    batch_tokens: int
    threads: int
    workers: int
    streamed: bool
    gate_passed: bool
    gate: dict[str, float | str | None]
    pilot: dict[str, float | None]
    reasons: dict[str, str]
    warnings: tuple[str, ...] = ()
    with_parts: bool = False
    probe_cost: float = 0.0
    in_batches: bool = True
    by_autograd: tuple[str, ...] = ()
    vocabulary: str = ""
    compiled: bool = False
    device_kind: str = ""
    weights: str = ""
    by_layers: bool = False


class Scored(Record):
    """What a run that builds on scores keeps of their summary, for the account of what MRD cost.

    Attributes:
        evaluations: Perturbed forward evaluations of the forget set; sign probes count as the passes they cost.
        seconds: Time that MRD took, without the measures beside it [s].
        tokens: Tokens of the forget set.
        sigma: Standard deviation σ of the noise; None of a preview.
        model_parameters: Weights of the model.
        title: Of the score run.
    """

    evaluations: int
    seconds: float
    tokens: int
    sigma: float | None
    model_parameters: int
    title: str

    def without_cost(self) -> Scored:
        """Return the same for a run that did not need the scores."""
        return self.model_copy(update={"evaluations": 0, "seconds": 0, "tokens": 0, "model_parameters": 0})


class ScoreSummary(RunSummary):
    """The figures of a whole score run: how far its ranking can be trusted, how it was made, what it cost.

    Attributes:
        n_samples: N.
        median_relative_se: Median over the samples of SE / MRD; p90_relative_se: their 90th percentile.
        reliability_sum: Spearman–Brown reliability of the ranking by the sum, and by the mean over tokens; with
            length partialled out in the two after. All None where undefined.
        evaluations: Perturbed forward evaluations, K.
        probes: Sign probes of each sample.
        passes: Perturbed evaluations and units of probes together, in forward passes.
        sigma: Standard deviation σ of the noise; None in a preview.
        preview: Whether speed + spread is all that was measured, and MRD is not known; then precision and
            reliability are of speed + spread.
        preview_rho: Spearman's ρ of speed + spread with MRD, where both are known: what a preview is worth here.
        gate: Figures of the precision gate, and whether it was `passed`; empty in a preview.
        reasons: For each automatic choice, what was chosen and why.
        excluded_tokens: Of `scored_tokens`, the tokens in scope, those with |log p| below 10⁻⁶.
        tokens: Tokens of the forget set, prompts included.
        undefined_samples: Samples without a token that could be scored.
        model_parameters: Weights of the model.
        stopped_early: Whether the target was reached before the cap.
        warnings: Why the ranking may not be trusted, in sentences.
        seconds: Time that MRD took [s]; seconds_measures: that of the measures beside it.
        seconds_floor_pass: A pass of the bare model [s], where it was timed.
        device_kinds: What baseline and units were computed on; the bits are those of one kind where it is one.
    """

    median_relative_se: float | None = None
    p90_relative_se: float | None = None
    reliability_sum: float | None = None
    reliability_mean: float | None = None
    reliability_mean_length_partialled: float | None = None
    reliability_sum_length_partialled: float | None = None
    evaluations: int
    probes: int = 0
    passes: float | None = None
    sigma: float | None = None
    device: str = ""
    dtype: str = ""
    mode: str = ""
    preset: str = ""
    preview: bool = False
    preview_rho: float | None = None
    scope: str = ""
    normalisation: str = ""
    seed: int = 0
    workers: int = 1
    threads: int = 1
    batch_tokens: int = 0
    gate: dict[str, Figure] = Field({})
    excluded_tokens: int = 0
    scored_tokens: int = 0
    tokens: int
    truncated_samples: int = 0
    undefined_samples: int = 0
    unknown_samples: int = 0
    model_parameters: int
    stopped_early: bool = False
    seconds_measures: float = 0.0
    weights_untouched: bool = True
    seconds_floor_pass: float | None = None
    device_kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run) -> Self | None:
        """Return the figures of a score run as the store has them; None where it has none, or is no score run."""
        if run.kind != "score" or not run.summary:
            return None
        try:
            return cls.model_validate(run.summary)
        except ValidationError:
            # Of a run that was damaged by hand nothing is known.
            return None

    def scored(self, title: str) -> Scored:
        """Return what a run on these scores keeps of them."""
        evaluations = self.evaluations if self.passes is None else round(self.passes)
        return Scored.model_validate(self.model_dump() | {"title": title, "evaluations": evaluations})
