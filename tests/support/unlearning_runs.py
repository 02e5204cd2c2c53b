"""A tiny model that knows its samples by heart, a score run of it, and unlearning runs by their front door."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mrd_core.model.config import ModelConfig
from mrd_core.runs import Run, RunState, RunStore, submit, worker
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.losses import nll_loss
from mrd_core.unlearning.texts import TextBatch, answers
from tests.support import tiny
from tests.support.once import made_once
from tests.support.scored_demo import settings_in
from tests.support.tiny import encode
from tests.unit.conftest import CONTEXT, WORDS, rows, write_rows

N_FORGET, N_RETAIN = 10, 8
DRAWS = 4
# At this rate the tiny model forgets most samples within twenty steps and not all within five.
RATE = 2e-3


@dataclass(frozen=True)
class Scored:
    """What unlearning runs start from.

    Attributes:
        model: Folder of a model that knows all the samples by heart.
        forget: File with the forget set; the samples have ids f0, f1, …
        retain: File with the retain set.
        directory: Of the score run.
    """

    model: Path
    forget: Path
    retain: Path
    directory: Path

    def config(self, **changes: Any) -> UnlearnConfig:
        """Return the configuration of a short run; `changes` go over whole sections."""
        settings: dict[str, Any] = {
            "score_run": self.directory,
            "model": {"source": str(self.model), "device": "cpu"},
            "method": "ga",
            "optimiser": {"learning_rate": RATE},
            "limits": {"max_steps": 6},
            "answers": 2,
        }
        return UnlearnConfig.model_validate(settings | changes)

    @property
    def kept(self) -> dict[str, Any]:
        """The retain set, as the section `retain` of a configuration."""
        return {"samples": {"source": str(self.retain)}}


def forget_rows() -> list[dict[str, str]]:
    """Return the forget set, with ids."""
    return [{"id": f"f{i}"} | row for i, row in enumerate(rows(N_FORGET))]


def retain_rows() -> list[dict[str, str]]:
    """Return rows with other questions."""
    return [
        {"id": f"r{i}", "question": f"Where {WORDS[i]} {i}?", "answer": f"{WORDS[-1 - i]} {WORDS[i]}"}
        for i in range(N_RETAIN)
    ]


@cache
def scored_tiny(base: Path) -> Scored:
    """Return the model, the files and the score run; `base` is the temporary folder of this process."""
    home = made_once(base, "scored-tiny", _make)
    (run,) = (home / "runs").iterdir()
    return Scored(home / "model", home / "forget.jsonl", home / "retain.jsonl", run)


def _make(home: Path) -> None:
    """Make the model and the files, and score the forget set, in the data root `home`."""
    forget = write_rows(home / "forget.jsonl", forget_rows())
    retain = write_rows(home / "retain.jsonl", retain_rows())
    model = _save_model(home / "model", [forget, retain])
    settings = settings_in(home)
    store = RunStore.open(settings)
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(forget)),
        model=ModelConfig(source=str(model), device="cpu"),
        estimator=EstimatorConfig(sigma=1e-3, draws=DRAWS, stop="never", workers=1, probes=False),
    )
    run = submit(config, store=store, settings=settings)
    assert worker.run(run.directory, store=store) is RunState.SUCCEEDED


def _save_model(folder: Path, known: list[Path]) -> Path:
    """Save a Llama, with its tokenizer, that has learnt the rows of these files by heart."""
    tokenizer = tiny.tokenizer()
    model = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, hidden_size=32)
    texts = [read(ForgetSetConfig(source=str(path))) for path in known]
    samples = [sample for text in texts for sample in encode(text, tokenizer, CONTEXT, "plain").samples]
    batch = TextBatch.of(samples, tiny.CPU)
    optimiser = torch.optim.AdamW(model.requires_grad_(True).parameters(), lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        nll_loss(answers(model, batch).log_probs, batch.mask, "tokens").backward()
        optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Place:
    """A data root with its store."""

    settings: Settings
    store: RunStore

    @classmethod
    def of(cls, home: Path) -> Place:
        """Open the store of the data root `home`."""
        settings = settings_in(home)
        return cls(settings, RunStore.open(settings))

    def submitted(self, config: UnlearnConfig) -> Unlearned:
        """Ask for a run, and do not carry it out."""
        return Unlearned(submit(config, store=self.store, settings=self.settings), self.store)

    def carried_out(self, config: UnlearnConfig) -> Unlearned:
        """Ask for a run and carry it out."""
        return self.submitted(config).carried_out()


@dataclass(frozen=True)
class Unlearned:
    """An unlearning run, and what it left behind."""

    run: Run
    store: RunStore

    def carried_out(self) -> Unlearned:
        """Carry it out, and return it as it is then."""
        worker.run(self.run.directory, store=self.store)
        return self.now

    def resumed(self) -> Unlearned:
        """Queue it once more and carry it out."""
        return replace(self, run=self.store.resume(self.run.id)).carried_out()

    @property
    def now(self) -> Unlearned:
        """The run as the store has it at present."""
        return replace(self, run=self.store.get(self.run.id))

    @property
    def files(self) -> UnlearningFiles:
        """Its files."""
        return UnlearningFiles(self.run.directory)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Its figures; fails where it did not succeed."""
        assert self.run.state is RunState.SUCCEEDED, self.run.error
        return self.files.read_summary()

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """Its log of steps."""
        return self.files.read_steps()

    @property
    def order(self) -> list[tuple[list[str], list[str]]]:
        """Which samples were drawn and which retain partners stood beside them, step by step."""
        return [(step["forget"], step["retain"]) for step in self.steps]

    @property
    def losses(self) -> list[tuple[float, float, float]]:
        """Forget loss, NLL and retain loss of every step."""
        return [(step["forget_loss"], step["forget_nll"], step["retain_loss"] or 0.0) for step in self.steps]

    @cached_property
    def outcome(self) -> pd.DataFrame:
        """What was found of each sample."""
        return pd.read_parquet(self.files.outcome).set_index("sample_id")

    @cached_property
    def updates(self) -> pd.DataFrame:
        """The draws that the store knows."""
        return self.store.sample_updates(self.run.id)

    def metric(self, name: str) -> dict[int, float]:
        """Return a metric by step."""
        found = self.store.metrics(self.run.id)
        return dict(found[found["name"] == name][["step", "value"]].itertuples(index=False))

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the weights of the resulting model."""
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(self.files.model)
        state: Mapping[str, torch.Tensor] = model.state_dict()
        return state


def texts_of(*paths: Path) -> set[str]:
    """Return all prompts and answers in files of rows."""
    lines = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return {line[name] for line in lines for name in ("question", "answer")}
