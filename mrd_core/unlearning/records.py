"""What an unlearning run writes down of itself. Loads no torch."""

from __future__ import annotations

from mrd_core.runs.files import Column
from mrd_core.runs.records import Record, RunSummary
from mrd_core.unlearning.config import LORA_RATE
from mrd_core.unlearning.memory import MemoryPlan
from mrd_core.unlearning.stopping import Source

OUTCOME = (
    Column("sample_id", "Sample.", dtype="str"),
    Column("updates", "How often the weights were moved for it.", dtype="int64"),
    Column("draws", "How often it was drawn, found forgotten included.", dtype="int64"),
    Column(
        "forgotten_step",
        "Step at which it was found forgotten, by the rule of the run; missing where it never was.",
        dtype="Int64",
    ),
    Column(
        "forgotten_at_end", "Whether it is forgotten on the final weights, by the rule of the run.", dtype="bool"
    ),
    Column("accuracy_before", "Memorization accuracy (MA, at a margin of 0) on the starting model."),
    Column("accuracy_after", "The same on the final weights."),
    Column("nll_before", "Mean negative log-likelihood of the answer on the starting model.", "nats per token"),
    Column("nll_after", "The same on the final weights.", "nats per token"),
    Column("own_answer_before", "What the starting model answers; missing where it was not asked.", dtype="str"),
    Column("own_answer_after", "The same on the final weights.", dtype="str"),
)


class ForgottenRule(Record):
    """When a sample counts as forgotten: MA below `accuracy` and, where it is set, EL below `extraction`.

    MA counts the tokens whose logit leads all others by more than `margin` [logits].
    """

    source: Source
    accuracy: float
    extraction: float | None = None
    margin: float = 0.0


class BestStep(Record):
    """The best of the steps that were evaluated on the way, see `best`, and the figure of the last.

    `forgotten` and `retained` are shares from 0 to 1, and `score` is their mean.
    """

    step: int
    score: float
    forgotten: float
    retained: float
    last_step: int = 0
    last_score: float = 0.0

    @property
    def sentence(self) -> str:
        """Which step it is, and by what figure."""
        last = "the last one evaluated" if self.step == self.last_step else f"step {self.last_step} has"
        figure = f"½ (forgotten {self.forgotten:.3f} + retained {self.retained:.3f}) = {self.score:.3f}"
        end = f"it is {last}" if self.step == self.last_step else f"{last} {self.last_score:.3f}"
        return f"The best on the way is step {self.step}: {figure}; {end}."


class UnlearningSummary(RunSummary):
    """The figures of a whole unlearning run: what was forgotten, what was kept, and at what price.

    Attributes:
        updates: Samples trained on, repeats counted; `draws` those found forgotten included, `steps` of the
            optimiser.
        epochs: Draws over samples.
        forgotten: Samples found forgotten on the way; `forgotten_at_end` on the final weights; `came_back` of the
            former those that are not among the latter.
        setting: Digest of all settings but the seed.
        rest: What became of the retain set: kept, damaged or not measured (see `damage`); "" in runs of earlier
            versions.
        effective_share: Effective sample size of the sampler's weights over the samples, 1/(N Σp²);
            `nearly_uniform` where that is close to 1.
        peak_memory_mb: Most memory that was held [MB]; `memory` is what was planned of a step, before the first.
        forget_nll: NLL on the final weights [nats per answer token], `forget_accuracy` MA; `…_before` on the
            starting model; `retain_…` None without a retain set.
        seconds_training: Of `seconds`, what training took [s]; checks, evaluations and MRD apart.
        evaluations: How often forgetting and keeping were evaluated on the way.
        best: The step whose weights are in the folder `best`; None where none was kept.
        mrd_forward_evaluations: Forward evaluations for MRD, the score run's and those on the way.
        flops_training: Estimated operations; checks, evaluations and MRD apart.
        tokens_trained: Tokens that were trained on; `tokens_retained` of the retain set, `tokens_checked` by
            checks.
    """

    updates: int = 0
    draws: int = 0
    steps: int = 0
    epochs: float = 0.0
    forgotten: int = 0
    forgotten_at_end: int = 0
    came_back: int = 0
    stop_reason: str
    method: str = ""
    label: str = ""
    sampler: str = ""
    column: str = ""
    seed: int = 0
    study: str | None = None
    setting: str = ""
    learning_rate: float = 0.0
    device: str = ""
    dtype: str = ""
    adapter: bool = False
    thresholds: ForgottenRule
    effective_share: float | None = None
    nearly_uniform: bool | None = None
    peak_memory_mb: float = 0.0
    memory: MemoryPlan | None = None
    forget_nll_before: float | None = None
    forget_nll: float | None = None
    forget_accuracy_before: float | None = None
    forget_accuracy: float | None = None
    retain_nll_before: float | None = None
    retain_nll: float | None = None
    retain_accuracy_before: float | None = None
    retain_accuracy: float | None = None
    rest: str = ""
    seconds_training: float = 0.0
    seconds_checks: float = 0.0
    seconds_evaluations: float = 0.0
    evaluations: int = 0
    best: BestStep | None = None
    mrd_forward_evaluations: int = 0
    mrd_seconds: float = 0.0
    flops_training: int = 0
    flops_checks: int = 0
    flops_evaluations: int = 0
    flops_mrd: int = 0
    tokens_trained: int = 0
    tokens_retained: int = 0
    tokens_checked: int = 0
    model_parameters: int = 0
    trainable_parameters: int = 0

    @property
    def rate_of_all_weights(self) -> float:
        """The learning rate that takes as many updates where all weights are trained, and no adapter."""
        return self.learning_rate / LORA_RATE if self.adapter else self.learning_rate

    def measure(self, name: str, *, before: bool = False) -> float | None:
        """Return `forget_nll`, `retain_accuracy` and their like, after unlearning or before."""
        value: float | None = getattr(self, f"{name}_before" if before else name)
        return value
