"""Durability: what comes back of forgotten samples when training goes on, weights are rounded, or chance asks.

Each unlearned model, and the retrained reference, goes through the same attacks. Relearning trains on some of the
forget set (jogging), on as many retain samples (benign), or on unrelated text (control), in equal steps; weights
are rounded to 8 and 4 bits; answers are sampled (leak@k), begun with their first tokens, and asked for otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import Field, field_validator, model_validator

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.experiment import SAMPLE_ID, Column, Done, Experiment, Material, Measurement, Part
from mrd_core.experiments.files import ExperimentFiles, Row
from mrd_core.experiments.passes import UPDATE
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json, write_frame, write_json
from mrd_core.samples import ForgetSet, load_table, read_split, to_forget_set
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.forget_set import digest_of
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.measures import KNOWN
from mrd_core.settings.command import Nested
from mrd_core.settings.fields import Place, RunPath
from mrd_core.settings.options import DATA_SET
from mrd_core.unlearning.config import LORA_RATE, UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles

if TYPE_CHECKING:
    from mrd_core.experiments.relearning import Relearner
    from mrd_core.runs import JobContext

Attack = Literal["jogging", "benign", "control", "int8", "int4", "sampling", "prompting"]
RELEARNING: dict[Attack, str] = {
    "jogging": "some of the forget set",
    "benign": "retain samples",
    "control": "unrelated text",
}
ATTACKS: dict[Attack, str] = RELEARNING | {
    "int8": "weights rounded to 8 bits",
    "int4": "weights rounded to 4 bits",
    "sampling": "sampled answers",
    "prompting": "answers begun for the model, and paraphrased questions",
}
BITS: dict[Attack, int] = {"int8": 8, "int4": 4}
REFERENCE = "reference"
# TOFU's name of the column.
PARAPHRASED = "paraphrased_question"
# Sentences that have nothing to do with any forget set, written for this project.
UNRELATED = Path(__file__).parent.parent / "unrelated.jsonl"
# A look over a sample with a generation of its answer, in forward passes.
LOOK = 2.0
# Each rate that is tried is so many times the one before it.
RUNGS, RUNG = 4, 10**0.5
# A rate is strong enough once so large a share of what was forgotten is back.
ENOUGH = 0.2

_MEASURED: dict[str, Column] = {
    "accuracy": Column("number", "MA."),
    "nll": Column("number", "NLL [nats per answer token]."),
    "extraction": Column("number", "Extraction strength."),
    "rouge": Column("number", "ROUGE-L recall of the model's own answer; None where none was written."),
}
MODEL = {"model": Column("text", f"Which model: the unlearning run, by its id, or `{REFERENCE}`.")}
START = Part("start", MODEL | {"sample_id": SAMPLE_ID} | _MEASURED)
COURSE = Part(
    "course",
    MODEL
    | {
        "attack": Column("text", f"What it was trained on: {', '.join(RELEARNING)}."),
        "seed": Column("number", "Which repeat, from 0."),
        "sample_id": SAMPLE_ID,
        "trained": Column("flag", "Whether it was itself trained on: it is no outcome then."),
    }
    | {
        f"{name}_course": Column("list", f"At each look, the first before training: {column.help}")
        for name, column in _MEASURED.items()
    },
)
KEPT = Part(
    "kept",
    MODEL
    | {
        "attack": Column("text", "What it was trained on."),
        "seed": Column("number", "Which repeat, from 0."),
        "retain_accuracy": Column("list", "Mean MA on the retain set at each look; None without one."),
        "loss": Column("number", "Mean training loss of the last steps [nats per token]."),
    },
)
ROUND_TRIP = Part(
    "round trip", MODEL | {"bits": Column("number", "Bits of a weight."), "sample_id": SAMPLE_ID} | _MEASURED
)
SAMPLED = Part(
    "sampled",
    MODEL
    | {
        "draw": Column("number", "Which draw, from 0."),
        "sample_id": SAMPLE_ID,
        "rouge": Column("number", "ROUGE-L recall of the answer that was drawn."),
    },
)
PROMPTED = Part(
    "prompted",
    MODEL
    | {
        "given": Column("number", "Tokens of the answer that were given; None for a paraphrased question."),
        "sample_id": SAMPLE_ID,
        "rouge": Column("number", "ROUGE-L recall of what was written of the rest; None where nothing is left."),
    },
)
RATE = Part(
    "rate",
    {
        "learning_rate": Column("number", "Rate that was tried."),
        "returned": Column("number", "Share of what was forgotten that was back at the last look."),
        "finite": Column("flag", "Whether the loss stayed a number."),
    },
)


class DurabilityConfig(ExperimentConfig):
    """Which samples come back: unlearned models, and a reference, are trained on, rounded and asked again."""

    kind: Literal["durability"] = "durability"
    runs: Annotated[tuple[RunPath, ...], Field(min_length=1)] = Field(
        description="Unlearning runs of one score run: their directories, or their ids.",
        json_schema_extra={"option": "run"},
    )
    score_run: RunPath | None = Field(
        None, description="Score run of the unlearning runs.", json_schema_extra={"option": None}
    )
    forget_set: ForgetSetConfig = Field(
        description="The forget set, that of the runs.", json_schema_extra={"fields": []}
    )
    model: ModelConfig = Field(
        ModelConfig(),
        description="The model before unlearning, that of the runs.",
        json_schema_extra={"fields": ["device", "dtype"]},
    )
    reference: Place | None = Field(
        None,
        description="Model that was trained without the forget set. It goes through the same, and what it learns "
        "is subtracted: that is learning, not remembering.",
    )
    retain: ForgetSetConfig | None = Field(
        None,
        description="What benign relearning trains on; by default the retain set of the first run.",
        json_schema_extra={"option": "retain-set", "prefix": "retain-", "fields": DATA_SET},
    )
    unrelated: ForgetSetConfig | None = Field(
        None,
        description="Texts that the control trains on; by default sentences that ship with the project.",
        json_schema_extra={"prefix": "unrelated-", "fields": DATA_SET},
    )
    paraphrases: ForgetSetConfig | None = Field(
        None,
        description="The forget samples asked otherwise: rows with the same answers, or the same ids; a column "
        f"`{PARAPHRASED}` is the prompt.",
        json_schema_extra={"prefix": "paraphrases-", "fields": DATA_SET},
    )
    attacks: tuple[Attack, ...] = Field(
        tuple(ATTACKS), min_length=1, description=f"Attacks: {', '.join(ATTACKS)}."
    )
    samples: int = Field(
        80, ge=4, description="Forget samples, drawn at random.", json_schema_extra={"unit": "samples"}
    )
    seeds: int = Field(3, ge=1, description="Repeats of each relearning, with other rows in another order.")
    share: float = Field(
        0.1, gt=0, le=0.5, description="Rows that a relearning trains on, as a share of the forget samples."
    )
    steps: int = Field(
        32,
        ge=1,
        description="Steps of a relearning; it is looked at after 1, 2, 4, 8, …, and at the end.",
        json_schema_extra={"unit": "steps"},
    )
    batch_size: int = Field(4, ge=1, description="Rows of a step.", json_schema_extra={"unit": "rows"})
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="Learning rate of the relearning (AdamW); `auto` begins with that of the first run (of an "
        f"adapter, since all weights are trained, 1/{LORA_RATE} of it; after SGD, AdamW's own), and takes "
        f"√10 times as much, at most {RUNGS - 1} times, until a fifth of what was forgotten comes back.",
    )
    accuracy: float = Field(
        KNOWN, gt=0, le=1, description="A sample is back when its memorization accuracy (MA) reaches this."
    )
    draws: int = Field(
        16, ge=1, description="Answers that are drawn for a sample.", json_schema_extra={"unit": "answers"}
    )
    sampled: int = Field(
        24, ge=1, description="Samples whose answers are drawn.", json_schema_extra={"unit": "samples"}
    )
    sampling_seconds: float = Field(
        120.0,
        gt=0,
        description="No further answers of a model are drawn after this time.",
        json_schema_extra={"unit": "s"},
    )
    given: tuple[int, ...] = Field((1, 2, 4, 8), description="Tokens of the answer that are given to the model.")
    answers: Literal["looks", "ends", "none"] = Field(
        "looks",
        description="When the model's own answers are written, which is what takes most of the time: at all "
        "`looks`, at the first and the last (`ends`), or never.",
    )

    @field_validator("attacks", "runs", "given")
    @classmethod
    def _are_different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("one is named twice")
        return values

    @model_validator(mode="after")
    def _tells_its_models_apart(self) -> DurabilityConfig:
        if len({run.name for run in self.runs}) < len(self.runs):
            raise ValueError("two runs lie in directories of the same name")
        return self

    @property
    def looks(self) -> tuple[int, ...]:
        """After which steps a relearning is looked at: 0, 1, 2, 4, 8, …, and the last."""
        powers = [1 << power for power in range(self.steps.bit_length())]
        return tuple(dict.fromkeys((0, *powers, self.steps)))

    @property
    def models(self) -> tuple[str, ...]:
        """The models by name, the reference last."""
        return (*(run.name for run in self.runs), *((REFERENCE,) if self.reference else ()))

    @property
    def relearning(self) -> tuple[Attack, ...]:
        """The attacks that train, as far as there is something to train on."""
        wanted = [attack for attack in RELEARNING if attack in self.attacks]
        return tuple(attack for attack in wanted if attack != "benign" or self.retain is not None)

    @property
    def title(self) -> str:
        """Return what is attacked."""
        which = self.runs[0].name if len(self.runs) == 1 else f"{len(self.runs)} unlearning runs"
        return f"Durability: {which}"

    def rows(self, samples: int) -> int:
        """Return how many rows a relearning trains on, where so many samples are studied."""
        return max(2, round(self.share * samples))


class Unlearned(NamedTuple):
    """An unlearning run whose model is attacked, as its directory says."""

    config: UnlearnConfig
    files: UnlearningFiles

    @classmethod
    def read(cls, directory: Path) -> Unlearned:
        """Read a finished one.

        Raises:
            UserError: It is none, or is not finished.
        """
        return cls(read_config(directory, UnlearnConfig), UnlearningFiles.finished(directory))


def base(settings: Nested) -> Nested:
    """Return what the first of the runs says: score run, samples, model, retain set."""
    if not settings.get("runs"):
        return {"model": {"source": None}}
    unlearned = read_config(Path(settings["runs"][0]), UnlearnConfig)
    scored = read_config(unlearned.score_run, ScoreConfig)
    retain = unlearned.retain.samples
    return scored.model_dump(include={"forget_set", "estimator"}) | {
        "score_run": unlearned.score_run,
        "model": unlearned.model.model_dump(exclude={"device", "dtype"}) | {"device": "auto", "dtype": "auto"},
        "retain": retain and retain.model_dump(),
    }


def check(settings: Nested) -> None:
    """Refuse an experiment without a run."""
    if not settings.get("runs"):
        raise UserError(
            "The experiment",
            "needs an unlearning run whose model is attacked.",
            "Name one or several with --run: directories, or ids as `mrd-lens runs list` shows them.",
        )


def prepare(config: DurabilityConfig, files: ExperimentFiles) -> None:
    """Keep what the runs say of themselves and of each sample, and the texts that are trained on and asked.

    Raises:
        UserError: A run is not finished, or is of another score run; texts cannot be read, or match no sample.
    """
    runs = [Unlearned.read(directory) for directory in config.runs]
    for unlearned in runs:
        if unlearned.config.score_run.resolve() != (config.score_run or Path()).resolve():
            raise UserError(
                f"The unlearning run in {unlearned.files.directory}",
                f"was made from the scores in {unlearned.config.score_run}, and the first one from those in "
                f"{config.score_run}.",
                "Attack runs of one score run together, and others apart.",
            )
    outcomes = [
        pd.read_parquet(unlearned.files.outcome).assign(model=unlearned.files.directory.name) for unlearned in runs
    ]
    write_frame(files.outcomes, pd.concat(outcomes, ignore_index=True))
    told = [
        {
            "model": unlearned.files.directory.name,
            "config": unlearned.config.model_dump(mode="json"),
            "summary": unlearned.files.read_summary(),
        }
        for unlearned in runs
    ]
    write_json(files.unlearned, told)
    unrelated = config.unrelated or ForgetSetConfig(source=str(UNRELATED))
    read_split(unrelated, "forget").save(files.unrelated)
    if config.paraphrases is not None:
        paraphrased(config.paraphrases, ForgetSet.load(files.samples)).save(files.paraphrases)


def paraphrased(asked: ForgetSetConfig, samples: ForgetSet) -> ForgetSet:
    """Return the samples asked otherwise, as far as there are rows for them, by their ids.

    Rows belong to the sample of their id or else of their answer; of several the first counts.

    Raises:
        UserError: The rows cannot be read, or none belongs to a sample.
    """
    table = load_table(asked)
    if asked.columns.prompt is None and PARAPHRASED in table.frame.columns:
        columns = asked.columns.model_copy(
            update={"prompt": PARAPHRASED, "answer": asked.columns.answer or "answer"}
        )
        asked = asked.model_copy(update={"columns": columns})
    read = to_forget_set(table, asked)
    own = samples.frame.set_index("sample_id")["prompt"]
    # An answer that several samples have (“Yes”) does not say whose question was asked otherwise.
    by_answer = samples.frame.drop_duplicates("answer", keep=False).set_index("answer")["sample_id"]
    frame = read.frame.copy()
    known = frame["sample_id"].isin(own.index)
    frame["sample_id"] = frame["sample_id"].where(known, frame["answer"].map(by_answer))
    frame = frame.dropna(subset=["sample_id"]).drop_duplicates("sample_id")
    frame = frame[frame["prompt"].to_numpy() != own.reindex(frame["sample_id"]).to_numpy()].reset_index(drop=True)
    if frame.empty:
        raise UserError(
            f"The paraphrases in {asked.source}",
            "have no row with the id or the answer of a forget sample and another prompt.",
            f"Give rows with the columns {PARAPHRASED} and answer, or prompt, answer and the ids of the samples.",
        )
    return replace(read, frame=frame, digest=digest_of(frame))


def passes(config: DurabilityConfig, n_samples: int) -> float:
    """Return the forward passes of one sample that the experiment takes on a forget set of `n_samples`."""
    samples = min(config.samples, n_samples)
    course = len(config.looks) * samples * LOOK + UPDATE * config.steps * config.batch_size
    asked = sum(attack in config.attacks for attack in BITS) + 1
    if "prompting" in config.attacks:
        asked += len(config.given)
    drawn = config.draws * min(config.sampled, samples) if "sampling" in config.attacks else 0
    courses = len(config.relearning) * config.seeds
    tried = RUNGS / 2 if config.learning_rate == "auto" and config.relearning else 0
    return len(config.models) * (courses * course + asked * samples * LOOK + drawn) + tried * course


class Durability:
    """Every attack on every model. See `experiment.Study`."""

    def __init__(self, config: DurabilityConfig, material: Material, context: JobContext) -> None:
        from mrd_core.experiments.relearning import Relearner

        self._config = config
        self._files = ExperimentFiles(context.directory)
        self._relearner: Relearner = Relearner(config, material, self._files, context)
        self.measurements: dict[str, Measurement] = dict(self._named())

    def _named(self) -> Iterator[tuple[str, Measurement]]:
        config, relearner = self._config, self._relearner
        if config.relearning and config.learning_rate == "auto":
            yield "rate", _alone(relearner.tries, config.models[0], config.relearning[0])
        for model in config.models:
            yield f"start {model}", _alone(relearner.start, model)
            for attack, seed in product(config.relearning, range(config.seeds)):
                yield f"{attack} {model} {seed}", partial(self._course, model, attack, seed)
            for attack, bits in BITS.items():
                if attack in config.attacks:
                    yield f"{attack} {model}", _alone(relearner.rounded, model, bits)
            if "prompting" in config.attacks:
                yield f"prompting {model}", _alone(relearner.prompted, model)
            if "sampling" in config.attacks:
                yield f"sampling {model}", _alone(relearner.sampled, model)

    def _course(self, model: str, attack: Attack, seed: int, done: Done) -> list[Row]:
        return self._relearner.course(model, attack, seed, self._rate(done))

    def _rate(self, done: Done) -> float:
        if self._config.learning_rate != "auto":
            return self._config.learning_rate
        return chosen_rate(list(done["rate"]))

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what was chosen and why, and what the models are."""
        reasons, warnings = dict(self._relearner.reasons), list(self._relearner.warnings)
        if self._config.relearning:
            reasons["learning rate"] = f"{self._rate(done):.3g} (as asked)"
        if tries := list(done.get("rate", ())):
            words = ", ".join(
                f"{row['learning_rate']:.3g}: {row['returned']:.0%} back"
                if row["finite"]
                else f"{row['learning_rate']:.3g}: diverged"
                for row in tries
            )
            reasons["learning rate"] = f"{self._rate(done):.3g} (of {self._config.models[0]}, {words})"
            if max((row["returned"] for row in tries if row["finite"]), default=0.0) < ENOUGH:
                warnings.append(
                    f"At no learning rate that was tried did {ENOUGH:.0%} of what was forgotten come back: the "
                    "attack may be too weak to tell samples apart."
                )
        if "benign" in self._config.attacks and "benign" not in self._config.relearning:
            warnings.append("There is no retain set, so nothing was trained on retain samples.")
        if self._config.reference is None:
            warnings.append(
                "There is no retrained reference: what a model learns in an attack cannot be told from what it "
                "remembers."
            )
        told = {entry["model"]: entry for entry in read_json(self._files.unlearned)}
        names = {
            model: told[model]["summary"]["label"] if model in told else "The reference"
            for model in self._config.models
        }
        for model, attack in product(self._config.models, self._config.relearning):
            courses = [done.get(f"{attack} {model} {seed}") for seed in range(self._config.seeds)]
            if diverged := courses.count([]):
                warnings.append(
                    f"{names[model]}: {diverged} of {len(courses)} repeats on {attack} rows diverged, the loss "
                    "being no number, and are left out. A smaller learning rate (--learning-rate) may not."
                )
        for model in self._config.models:
            # Also where an earlier attempt looked at that model.
            looked = done.get(f"start {model}")
            if looked is not None and (lost := self._relearner.studied - len(looked)):
                warnings.append(
                    f"{names[model]}: {lost} of {self._relearner.studied} samples were left out: the context "
                    "of the model ends before their answers."
                )
        return {
            "reasons": reasons,
            "warnings": warnings,
            "looks": list(self._config.looks),
            "studied": self._relearner.studied,
            "models": [
                {"model": name, "label": told[name]["summary"]["label"] if name in told else "Reference"}
                for name in self._config.models
            ],
        }


def _alone(measure: Callable[..., list[Row]], *arguments: Any) -> Measurement:
    """Return a measurement that builds on no other."""
    return lambda _done: measure(*arguments)


def chosen_rate(tries: list[Row]) -> float:
    """Return the first rate at which enough came back; else that at which most did."""
    finite = [row for row in tries if row["finite"]]
    if not finite:
        raise UserError(
            "Relearning",
            "diverged at every learning rate that was tried.",
            "Set a smaller learning rate (--learning-rate).",
        )
    enough = [row for row in finite if row["returned"] >= ENOUGH]
    best = enough[0] if enough else max(finite, key=lambda row: row["returned"])
    return float(best["learning_rate"])


EXPERIMENT = Experiment(
    DurabilityConfig,
    figure="",
    place=6,
    parts=(RATE, START, COURSE, KEPT, ROUND_TRIP, SAMPLED, PROMPTED),
    passes=passes,
    study=Durability,
    base=base,
    check=check,
    prepare=prepare,
)
