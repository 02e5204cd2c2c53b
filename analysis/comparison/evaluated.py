"""What an evaluation found: a run of this program, or a result file of OpenUnlearning, ready to be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import VALUE_COLUMNS, EvaluationFiles
from mrd_core.evaluation.interchange import Result, parse_results
from mrd_core.evaluation.metrics import Metric, by_file_name
from mrd_core.evaluation.sets import Kind, Role
from mrd_core.evaluation.soundness import flaws_in
from mrd_core.evaluation.truth import closer_to_one_better, true_better
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.samples.reading import read_bytes
from mrd_core.settings.configuration import RunConfig
from mrd_core.unlearning.config import UnlearnConfig

ORIGINAL = "Original"
COSTS = ("updates", "seconds", "tflop", "mrd_tflop", "mrd_evaluations", "evaluation_seconds")
AGGREGATE_COLUMNS = ["split", "metric", "value"]
# Of a question with given options: how often one who guesses chooses the right one.
CHANCE = "chance"

# What a run is called or where it lies, and what changes no value: two runs that differ in these alone share a
# setting. Whether seeds are told apart is for those who compare. Looks during unlearning change nothing of it.
_APART = frozenset(
    {
        *("batch_tokens", "processes", "study", "answers", "checkpoint_steps", "gradient_steps", "report_to"),
        *("kind", "evaluation"),
    }
)
# Of the evaluation: it says whose MRD stands beside, unless its samples are all that is asked.
_BESIDE = frozenset({"unlearn_run", "score_run"})
# Of the evaluation: where its sets come from. What they are is said by their samples; one set has many places.
_FROM = frozenset({"data", "limit", "forget", "retain", "held_out"})
_SEED = "seed"
# When a run was asked for, which its reasons tell where a template reads it; where the layers lay.
_BY_THE_WAY = frozenset({"model.date", "optimiser.spread"})
# In which precision the values were taken; of an unlearned model its run says in which it was trained.
PRECISION = "evaluation.dtype"
# OpenUnlearning calls unseen samples so; a membership attack has scores of both.
_ATTACKED: Mapping[str, str] = {"forget": "forget", "holdout": "held_out", "retain": "retain"}
_ROLES: Mapping[str, Role] = {"forget": "forget", "retain": "retain", "held_out": "unseen"}
_TERA = 1e12


class AskedSet(NamedTuple):
    """A set that was asked, see `mrd_core.evaluation.sets.EvaluationSet`.

    Attributes:
        sample_ids: Of its samples, in order.
        digests: Of the texts of each; none where they are not known.
    """

    name: str
    title: str
    role: Role
    kind: Kind
    sample_ids: tuple[str, ...]
    digests: tuple[int, ...] = ()

    @property
    def content(self) -> str:
        """What the set is, in a few words: the same for the same samples, wherever they were read from."""
        joined = ",".join(map(str, self.digests or self.sample_ids))
        return f"{len(self.sample_ids)} samples ({hashlib.blake2b(joined.encode(), digest_size=4).hexdigest()})"


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An evaluation, read.

    Attributes:
        source: Directory of the run, or the result file.
        label: What tables call it: "Original", "GA + MRD", the name of a file.
        group: Label and digest of its setting: the same for runs that differ in nothing but their seed.
        seed: Of the unlearning run; None without one.
        suite: What was asked; "" where a file does not say.
        settings: All that was set, by dotted name, as text: those of the unlearning run where there is one, and
            those of the evaluation, with each set by what it holds.
        values: Columns split, sample_id, metric, value (NaN: undefined).
        aggregates: Columns split, metric, value: what is of a set as a whole.
        sets: What was asked.
        scores: MRD of the forget samples, a row per sample_id; None without a score run.
        cost: By name, of `COSTS`: updates, time of unlearning [s], its floating-point operations and those of MRD
            [10¹² FLOP], forward evaluations of MRD, time of the evaluation [s].
        harness: Metrics of lm-evaluation-harness by task; None where it did not run.
        notes: What a reader of the values must know, in sentences.
        flaws: What shows that the model is damaged, see `mrd_core.evaluation.soundness`.
        origin: A `run` of this program, or a `file`, whose samples are numbered and have no ids.
    """

    source: Path
    label: str
    group: str
    seed: int | None
    suite: str
    settings: Mapping[str, str]
    values: pd.DataFrame
    aggregates: pd.DataFrame
    sets: tuple[AskedSet, ...]
    scores: pd.DataFrame | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    harness: Mapping[str, Mapping[str, float]] | None = None
    notes: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    origin: Literal["run", "file"] = "run"

    @property
    def name(self) -> str:
        """What tells it from the others of its setting."""
        return self.label if self.seed is None else f"{self.label}, seed {self.seed}"

    @property
    def method(self) -> str | None:
        """The unlearning method; None where nothing was unlearned, or a file does not say."""
        return self.settings.get("method")

    @property
    def sampler(self) -> str | None:
        """In which order forget samples were drawn; None where nothing was unlearned."""
        return self.settings.get("curriculum.sampler")

    @property
    def is_original(self) -> bool:
        """Whether it is known that nothing was unlearned."""
        return self.origin == "run" and self.method is None

    def splits(self, role: Role) -> list[str]:
        """Return the names of the sets that play this part."""
        return [asked.name for asked in self.sets if asked.role == role]

    def sample_ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of the samples of a set, in its order; none where it was not asked."""
        return next((asked.sample_ids for asked in self.sets if asked.name == split), ())


def read(path: Path) -> Evaluated:
    """Read the directory of an evaluation, or a result file of OpenUnlearning.

    Raises:
        UserError: It is neither, or the evaluation has not ended.
    """
    return _read_run(path) if path.is_dir() else parse(str(path), read_bytes(path))


def parse(name: str, data: bytes) -> Evaluated:
    """Read a result file of OpenUnlearning from its bytes; `name` is its label, without folder and ending.

    Samples are named by their index: "0", "1", … The truth ratio of a sample is taken as METRICS has it, whichever
    way the file has it.

    Raises:
        UserError: It has another shape, or no metric that is known here.
    """
    results = parse_results(name, data)
    measured = {key: (result, *metric) for key, result in results.items() if (metric := by_file_name(key))}
    if not measured:
        raise UserError(
            name,
            f"It holds none of the metrics that are known here, but {', '.join(list(results)[:5])}.",
            "Choose a result file of OpenUnlearning's evaluation on TOFU.",
        )
    values, aggregates = _measured(list(measured.values()))
    if values.empty and aggregates.empty:
        raise UserError(
            name,
            f"It has the aggregates of {', '.join(list(measured)[:5])} alone, and no values of samples.",
            "Choose the …_EVAL.json that lies beside a …_SUMMARY.json.",
        )
    label, unknown = Path(name).stem, [key for key in results if key not in measured]
    hollow = [
        key
        for key, (result, metric, _) in measured.items()
        if metric.per_sample and not (result.samples or result.parts)
    ]
    notes = {"metrics that are not known here": unknown, "metrics without values per sample, left out": hollow}
    return Evaluated(
        source=Path(name),
        label=label,
        # OpenUnlearning calls all its files alike.
        group=_group(label, {"content": hashlib.blake2b(data).hexdigest()}),
        seed=None,
        suite="",
        settings={},
        values=values,
        aggregates=aggregates,
        sets=tuple(
            AskedSet(
                name=str(split),
                title=str(split).replace("_", " ").capitalize(),
                role=_ROLES.get(str(split), "general"),
                kind="answers",
                sample_ids=_in_order(rows["sample_id"].unique()),
            )
            for split, rows in values.groupby("split", sort=False)
        ),
        notes=tuple(f"{label}: {what}: {', '.join(names)}." for what, names in notes.items() if names),
        origin="file",
    )


def _in_order(indices: Iterable[str]) -> tuple[str, ...]:
    """Return the indices of a file by number: its keys may have been sorted as texts."""
    names = tuple(map(str, indices))
    return tuple(sorted(names, key=int)) if all(map(str.isdecimal, names)) else names


def aligned(evaluated: Evaluated, baseline: Evaluated) -> Evaluated:
    """Give the numbered samples of a file the ids that the baseline's samples have, set by set.

    That is done where both have as many samples in a set, by their order; elsewhere they stay apart. The notes say
    which. What is no file, or is the baseline itself, is returned as it is.
    """
    if evaluated.origin == "run" or evaluated is baseline:
        return evaluated
    names: dict[tuple[str, str], str] = {}
    notes = []
    for asked in evaluated.sets:
        count, ids = len(asked.sample_ids), baseline.sample_ids(asked.name)
        if not ids:
            continue
        if len(ids) == count:
            named: Sequence[str] = ids
            note = (
                f"the {count} samples of {asked.name} are taken for those of {baseline.label}, in the same order."
            )
        else:
            named = [f"{evaluated.label}: {sample}" for sample in asked.sample_ids]
            note = (
                f"has {count} samples of {asked.name}, {baseline.label} has {len(ids)}: which is which is not "
                "known, and they are kept apart."
            )
        names |= {(asked.name, old): new for old, new in zip(asked.sample_ids, named, strict=True)}
        notes.append(f"{evaluated.label}: {note}")
    values = evaluated.values
    places = zip(values["split"], values["sample_id"], strict=True)
    sets = (
        asked._replace(sample_ids=tuple(names.get((asked.name, old), old) for old in asked.sample_ids))
        for asked in evaluated.sets
    )
    return replace(
        evaluated,
        values=values.assign(sample_id=[names.get(place, place[1]) for place in places]),
        sets=tuple(sets),
        notes=(*evaluated.notes, *notes),
    )


def _read_run(directory: Path) -> Evaluated:
    config, files = read_config(directory, EvaluateConfig), EvaluationFiles.finished(directory)
    summary, catalogue = files.read_summary(), read_json(files.catalogue)
    unlearned = read_json(files.unlearned) if files.unlearned.exists() else None
    label = str(unlearned["summary"]["label"]) if unlearned else ORIGINAL
    options = (asked["name"] for asked in catalogue["sets"] if asked["kind"] == "choices")
    frames = [pd.read_parquet(files.values), *(_by_chance(name, files) for name in options)]
    values = pd.concat(frames, ignore_index=True).astype({"sample_id": str})
    aggregates = pd.DataFrame(read_json(files.aggregates), columns=AGGREGATE_COLUMNS)
    sets = [_asked(asked, files, values) for asked in catalogue["sets"]]
    # What was chosen, before the reason in brackets.
    precision = summary.get("reasons", {}).get("dtype", config.model.dtype).partition(" ")[0]
    settings = _settings(config, unlearned) | {PRECISION: precision}
    settings |= {f"evaluation.{asked.name}": asked.content for asked in sets}
    return Evaluated(
        source=directory,
        label=label,
        group=_group(label, settings),
        seed=int(unlearned["summary"]["seed"]) if unlearned else None,
        suite=config.suite,
        settings=settings,
        values=values,
        aggregates=aggregates.astype({"value": np.float64}),
        sets=tuple(sets),
        scores=pd.read_parquet(files.scores).astype({"sample_id": str}) if files.scores.exists() else None,
        cost=_cost(summary, unlearned["summary"] if unlearned else {}),
        harness=_harness(summary.get("harness")),
        notes=tuple(dict.fromkeys((*catalogue["notes"], *summary["notes"], *summary["warnings"]))),
        flaws=flaws_in(files),
    )


def _by_chance(name: str, files: EvaluationFiles) -> pd.DataFrame:
    """Return how often one who guesses chooses the right option of each question of a set."""
    path = files.sets / f"{name}.parquet"
    columns = ["sample_id", "choices"]
    asked = pd.read_parquet(path, columns=columns) if path.exists() else pd.DataFrame(columns=columns)
    chances = 1 / asked.pop("choices").map(len).astype(np.float64)
    return asked.assign(split=name, metric=CHANCE, value=chances)


def _asked(catalogued: Mapping[str, Any], files: EvaluationFiles, values: pd.DataFrame) -> AskedSet:
    path = files.sets / f"{catalogued['name']}.parquet"
    if not path.exists():
        ids = values.loc[values["split"] == catalogued["name"], "sample_id"].unique()
        return AskedSet(**catalogued, sample_ids=tuple(map(str, ids)))
    rows = pd.read_parquet(path).astype(str)
    digests = pd.util.hash_pandas_object(rows.drop(columns="sample_id"), index=False)
    return AskedSet(**catalogued, sample_ids=tuple(rows["sample_id"]), digests=tuple(map(int, digests)))


def _settings(config: EvaluateConfig, unlearned: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what was set by dotted name; the model is the one that unlearning began with."""
    beside = _BESIDE if config.forget or config.data or config.unlearn_run else frozenset()
    own = {name: value for name, value in _dumped(config).items() if name not in _FROM | beside}
    if unlearned is not None:
        started = _dumped(UnlearnConfig.model_validate(unlearned["config"]))
        own = {name: value for name, value in own.items() if name != "model"} | started
    return {name: value for name, value in _flat(own) if name not in _BY_THE_WAY}


def _dumped(config: RunConfig) -> dict[str, Any]:
    return {name: value for name, value in config.model_dump(mode="json").items() if name not in _APART}


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and texts; what is not set has none."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif value not in (None, []):
            yield f"{above}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _group(label: str, settings: Mapping[str, str]) -> str:
    shared = sorted((name, value) for name, value in settings.items() if name != _SEED)
    return f"{label} {hashlib.blake2b(json.dumps(shared).encode(), digest_size=4).hexdigest()}"


def _cost(summary: Mapping[str, Any], unlearned: Mapping[str, Any]) -> dict[str, float]:
    spent = unlearned.get("flops_training", np.nan) + unlearned.get("flops_checks", 0)
    costs = {
        "updates": unlearned.get("updates"),
        "seconds": unlearned.get("seconds", unlearned.get("seconds_training")),
        "tflop": spent / _TERA,
        "mrd_tflop": unlearned.get("flops_mrd", np.nan) / _TERA,
        "mrd_evaluations": unlearned.get("mrd_forward_evaluations"),
        "evaluation_seconds": summary.get("seconds"),
    }
    return {name: np.nan if value is None else float(value) for name, value in costs.items()}


def _harness(tasks: Mapping[str, Mapping[str, float | None]] | None) -> dict[str, dict[str, float]] | None:
    """Return what tasks gave; of a model that has broken down one may be no number."""
    if tasks is None:
        return None
    return {
        task: {name: np.nan if value is None else value for name, value in values.items()}
        for task, values in tasks.items()
    }


def _measured(results: Sequence[tuple[Result, Metric, str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the values of samples and the aggregates of results of a file, each with its metric and set."""
    scores: list[tuple[str, str, pd.Series[float]]] = []
    whole: list[tuple[str, str, float]] = []
    for result, metric, split in results:
        if metric.per_sample:
            each = result.scores("rougeL_f1" if metric.name == "rouge_f1" else None)
            if metric.name == "truth_ratio" and len(each):
                # OpenUnlearning has r itself, and its aggregate as here.
                turned = closer_to_one_better if split == "forget" else true_better
                better = pd.Series(turned(each), index=each.index)
                apart = abs(each.mean() - result.aggregate), abs(better.mean() - result.aggregate)
                each = each if split != "forget" and apart[0] < apart[1] else better
            scores.append((split, metric.name, each))
        elif result.parts:
            parts = {_ATTACKED[part]: scored for part, scored in result.parts.items() if part in _ATTACKED}
            scores += [(part, metric.name, scored.scores()) for part, scored in parts.items()]
        elif metric.name.startswith("mia_"):
            # An attack has unseen samples as the positive class, here it is forget.
            whole.append((split, f"{metric.name}_unseen", 1 - result.aggregate))
        else:
            whole.append((split, metric.name, result.aggregate))
    rows = [
        pd.DataFrame({"split": split, "sample_id": each.index, "metric": metric, "value": each.to_numpy()})
        for split, metric, each in scores
        if len(each)
    ]
    values = pd.concat([pd.DataFrame(columns=VALUE_COLUMNS), *rows], ignore_index=True)
    values["value"] = values["value"].astype(np.float64)
    return values, pd.DataFrame(whole, columns=AGGREGATE_COLUMNS)
