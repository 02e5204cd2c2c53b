"""A small run of every kind, on the demo's model and a few of its samples: one takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrd_core.demo.corpus import SPLITS, of_split
from mrd_core.runs import Run, RunStore, submit, worker
from mrd_core.runs.kind import kind_named
from mrd_core.runs.submission import resume
from mrd_core.samples import ForgetSet
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.files import UnlearningFiles

FEW = 8
# Those that the model has seen most often: what it does not know cannot be unlearned.
SEEN = {"forget": 8, "retain": 8, "held_out": 0}
RATE = 1e-3
ALONE = {"learning_rate": RATE, "max_updates": 12}

# What the runs of a kind are asked besides model and texts; a kind that is not here takes its own defaults.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "score": {"estimator": {"draws": 32, "stop": "never", "workers": 4, "time_floor": True}},
    "unlearn": {
        "optimiser": {"learning_rate": RATE, "batch_size": 2},
        "limits": {"max_steps": 24},
        "checkpoint_steps": 5,
        "evaluation": {"every_steps": 8, "samples": 2, "max_new_tokens": 8},
        "answers": 2,
    },
    "evaluate": {"max_new_tokens": 16, "extraction_likelihood": True},
    "validity": ALONE | {"methods": ("graddiff",), "samples": 4, "repeats": 2},
    "parameter-change": ALONE | {"composites": 6, "size": 2},
    "selection": ALONE | {"selections": 2, "size": 2},
    "sensitivity": {"samples": 4, "sigmas": (1e-4, 1e-3), "pairs": 2, "draws": 16},
    "theorem": {"samples": 4, "probes": 8, "pairs": 8},
    "durability": {
        **{"samples": 6, "steps": 2, "seeds": 1, "draws": 2, "sampled": 2, "given": (1,)},
        "learning_rate": RATE,
    },
}
# The experiment that scores its forget set itself.
SCORES_ITSELF = "theorem"


@dataclass(frozen=True)
class Workplace:
    """A data root, the model and the texts that all runs share, and a finished score run of them.

    Attributes:
        settings: Of the data root.
        store: Its store.
        score_run: Directory of the score run.
        texts: Files by split.
        model: As it is asked for.
    """

    settings: Settings
    store: RunStore
    score_run: Path
    texts: Mapping[str, Path]
    model: str = "demo"

    @classmethod
    def at(cls, home: Path, samples: int = FEW) -> Workplace:
        """Open the data root `home`, made where there is none yet; each split has `samples` rows at most."""
        home.mkdir(parents=True, exist_ok=True)
        settings = Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=())
        texts = {split: home / f"{split}.jsonl" for split in SPLITS}
        place = cls(settings, RunStore.open(settings), home / "scored", texts)
        for split, path in texts.items():
            rows = of_split(split)
            chosen = rows[rows["training_count"] == SEEN[split]].head(samples)
            chosen[["id", "question", "answer"]].to_json(path, orient="records", lines=True)
        if not ScoreFiles(place.score_run).is_finished:
            begun = place.store.find_by_directory(place.score_run)
            run = resume(begun.id, store=place.store) if begun else place.submitted("score", place.score_run)
            worker.run(run.directory, store=place.store)
        return place

    def submitted(self, kind: str, directory: Path | None = None, **changes: Any) -> Run:
        """Submit a run of this kind, its settings changed; nobody carries it out yet."""
        config = self._config(kind, changes)
        return submit(config, store=self.store, settings=self.settings, directory=directory)

    def _config(self, kind: str, changes: Mapping[str, Any]) -> RunConfig:
        wanted = kind_named(kind).config
        texts = {split: {"source": str(path)} for split, path in self.texts.items()}
        common: dict[str, Any] = {
            "score_run": None if kind == SCORES_ITSELF else self.score_run,
            "model": {"source": self.model, "device": "cpu"},
            "forget_set": texts["forget"],
            "estimator": SETTINGS["score"]["estimator"],
            **texts,
        }
        if kind == "token-parts":
            common["sample_id"] = ForgetSet.load(ScoreFiles(self.score_run).samples).frame["sample_id"].iloc[0]
        if kind == "durability":
            common["runs"] = (self._unlearned(),)
        if kind == "unlearn":
            common["retain"] = {"samples": texts["retain"]}
        named = {name: value for name, value in common.items() if name in wanted.model_fields}
        return wanted.model_validate(named | dict(SETTINGS.get(kind, {})) | changes)

    def _unlearned(self) -> Path:
        """Return the directory of an unlearning run that has succeeded, made where there is none yet."""
        directory = self.settings.home / "unlearned"
        if not UnlearningFiles(directory).is_finished:
            begun = self.store.find_by_directory(directory)
            run = resume(begun.id, store=self.store) if begun else self.submitted("unlearn", directory)
            worker.run(run.directory, store=self.store)
        return directory
