"""What is added as files of its own is there: in the command's help, in the form, and in the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.added_nouns import copied_tree, help_in, said_in

METHOD = '''
from mrd_core.unlearning.methods.method import Method, Parameter


def squared(batch, *, strength):
    """Return the mean of log p squared."""
    return strength * batch.log_probs[batch.mask].square().mean()


METHOD = Method(
    name="dummy",
    label="Dummy",
    title="A method that was added",
    formula=r"\\mathrm{mean}_t\\; s (\\log p_t)^2",
    source="Nobody 2030, An Added Method",
    forget="answers",
    retain="optional",
    default_retain_weight=1.0,
    parameters=(Parameter("strength", 2.0, "", "nobody", "How strong it is.", bounds=(0.0, 9.0)),),
    loss=squared,
)
'''
ASKED = """
import json, torch
from streamlit.testing.v1 import AppTest
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.handbook import chapter
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import ForgetBatch, parsed

form = AppTest.from_string("from pages.parts.unlearning.settings import method\\nmethod()").run(timeout=60)
form.selectbox[0].select("dummy").run()
batch = ForgetBatch(torch.tensor([[-3.0, -1.0]]), torch.tensor([[True, False]]))
config = {"score_run": "/x", "model": {}, "method": "dummy", "parameters": {"strength": 3}}
study = {"forget_set": {"source": "demo"}, "methods": ["dummy", "ga"], "parameters": {"strength": 3}}
print(json.dumps({
    "failed": [error.value for error in form.exception],
    "form": form.selectbox[0].options,
    "setting": [field.label for field in form.number_input],
    "documentation": chapter(),
    "schema": UnlearnConfig.model_json_schema()["properties"]["method"]["enum"],
    "label": UnlearnConfig.model_validate(config).label,
    "study": ValidityConfig.model_validate(study).methods,
    "loss": METHODS["dummy"].loss(batch, **parsed(METHODS["dummy"], config["parameters"])).item(),
}))
"""
EXPERIMENT = '''
"""A dummy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.experiment import SAMPLE_ID, Column, Experiment, Part

LENGTHS = Part("length", {"sample_id": SAMPLE_ID, "is_long": Column("flag", "Whether it has many letters.")})


class DummyStudyConfig(ExperimentConfig):
    """Letters are counted: a dummy experiment."""

    kind: Literal["dummy-study"] = "dummy-study"
    letters: int = Field(7, ge=1, description="From so many letters on a sample is long.")


class DummyStudy:
    def __init__(self, config, material, context):
        self._frame, self._letters = material.forget_set.frame, config.letters
        self.measurements = {"lengths": self._lengths}

    def _lengths(self, done):
        texts = zip(self._frame["sample_id"], self._frame["answer"], strict=True)
        return [LENGTHS.row(sample_id=name, is_long=len(text) >= self._letters) for name, text in texts]

    def facts(self, done):
        return {"reasons": {}, "warnings": []}


EXPERIMENT = Experiment(
    DummyStudyConfig,
    figure="Fig. 0",
    place=9,
    parts=(LENGTHS,),
    passes=lambda _config, n_samples: float(n_samples),
    study=DummyStudy,
)
'''
INTERPRETATION = '''
"""A dummy."""

from __future__ import annotations

import pandas as pd

from analysis.evidence.interpretation import Evidence, Interpretation
from mrd_core.experiments.kinds.dummy_study import LENGTHS


class DummyEvidence(Evidence):
    @property
    def tables(self):
        return {"empty": pd.DataFrame()}

    @property
    def brief(self):
        return {}


def dummy(measurements):
    rows = measurements.part(LENGTHS)
    long = int(rows["is_long"].sum())
    said = {"findings": (), "caveats": (), "paper": "None.", "elsewhere": "Nowhere."}
    return DummyEvidence(verdict=f"{long} of {len(rows)} are long.", **said)


INTERPRETATION = Interpretation("Dummy study", "Are they long?", "Letters are counted.", dummy)
'''
PRESENTATION = '''
"""A dummy."""

from pages.parts.evidence.presentation import Presentation

PRESENTATION = Presentation(sizes={"letters": "Letters"}, show=lambda *_: None)
'''
SUITE = '''
"""A dummy."""

from mrd_core.evaluation.suite import Suite

SUITE = Suite(title="Dummy suite", kind="choices", load=lambda config: None, data="A dummy folder.")
'''
METRIC = '''
"""A dummy."""

from mrd_core.evaluation.metrics.metric import Metric

METRICS = (
    Metric(
        name="dummy_letters",
        title="Dummy letters",
        forget="low",
        retain="high",
        formula="n",
        source="Nobody 2026",
        help="Letters of the answer.",
        needs=("teacher-forced pass",),
        undefined="Never.",
        of=lambda answer: float(len(answer.true)),
    ),
)
'''
FEATURE = '''
"""A dummy."""

from analysis.features.feature import Feature

FEATURES = (
    Feature(
        name="dummy_tokens",
        title="Dummy tokens",
        unit="",
        bins="counts",
        direction="longer",
        help="Tokens of the text.",
        group="length",
        of=lambda reading: float(len(reading.doc)),
    ),
)
'''


def with_files(folder: Path, files: Mapping[str, str]) -> Path:
    """Copy the product's sources into `folder`, add files, and return it."""
    tree = copied_tree(folder)
    for place, text in files.items():
        (tree / place).write_text(text.lstrip(), encoding="utf-8")
    return tree


@pytest.mark.slow
def test_a_method_is_a_file(tmp_path: Path) -> None:
    tree = copied_tree(tmp_path / "tree")
    (tree / "mrd_core" / "unlearning" / "methods" / "dummy.py").write_text(METHOD, encoding="utf-8")
    told = json.loads(said_in(tree, "-c", ASKED))
    assert told["failed"] == []
    assert "A method that was added" in told["form"]
    assert any("strength" in label for label in told["setting"])
    assert "## A method that was added: `dummy`" in told["documentation"]
    assert "| `strength` | 2.0 |" in told["documentation"]
    assert told["schema"][-1] == "dummy"
    assert (told["label"], told["study"], told["loss"]) == ("Dummy", ["dummy", "ga"], 27.0)
    options = help_in(tree, "unlearn")
    assert "dummy: strength=2.0" in " ".join(options.split())


@pytest.mark.long
def test_an_experiment_is_three_files(tmp_path: Path) -> None:
    tree = with_files(
        tmp_path / "tree",
        {
            "mrd_core/experiments/kinds/dummy_study.py": EXPERIMENT,
            "analysis/evidence/kinds/dummy_study.py": INTERPRETATION,
            "pages/parts/evidence/kinds/dummy_study.py": PRESENTATION,
        },
    )
    assert "dummy-study" in help_in(tree, "experiment")
    assert "--letters" in help_in(tree, "experiment", "dummy-study")
    chapter = said_in(tree, "-m", "mrd_core.experiments.handbook")
    assert "## `dummy-study`" in chapter
    assert "| `is_long` | yes or no |" in chapter
    form = """
from analysis.evidence.kinds import interpretation
from mrd_core.experiments.kinds import experiments
from mrd_core.runs.kind import kinds
from pages.parts.evidence.kinds import presentation
print(list(experiments())[-1], interpretation("dummy-study").title, *presentation("dummy-study").sizes)
print(kinds()["dummy-study"].label)
"""
    assert said_in(tree, "-c", form).split("\n")[:2] == [
        "dummy-study Dummy study letters",
        "Experiment dummy-study",
    ]
    judged = """
import json, pathlib, sys
import pandas as pd
from analysis.evidence.kinds import evidence_of
from analysis.evidence.measurements import read_measurements
from mrd_core.experiments.kinds.dummy_study import LENGTHS, DummyStudyConfig
from mrd_core.runs.directory import write_config
directory = pathlib.Path(sys.argv[1])
directory.mkdir()
write_config(directory, DummyStudyConfig(forget_set={"source": "demo"}))
rows = [LENGTHS.row(sample_id=name, is_long=name == "b") for name in "abc"]
pd.DataFrame(rows).to_parquet(directory / "rows.parquet")
print(evidence_of(read_measurements(directory)).verdict)
"""
    assert said_in(tree, "-c", judged, str(tmp_path / "run")) == "1 of 3 are long.\n"


@pytest.mark.slow
def test_a_suite_is_one_file(tmp_path: Path) -> None:
    tree = with_files(tmp_path / "tree", {"mrd_core/evaluation/suites/dummy.py": SUITE})
    assert "dummy" in help_in(tree, "evaluate")
    form = """
from analysis.comparison.columns import declared
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.suites import suites
config = EvaluateConfig(suite="dummy", data="x")
print(config.title, suites()["dummy"].data, list(declared("dummy", [])))
"""
    assert said_in(tree, "-c", form) == "Dummy suite on the demo model A dummy folder. []\n"


@pytest.mark.long
def test_a_metric_is_one_file(tmp_path: Path) -> None:
    tree = with_files(tmp_path / "tree", {"mrd_core/evaluation/metrics/dummy.py": METRIC})
    chapter = said_in(tree, "-m", "mrd_core.evaluation.handbook")
    assert "## Dummy letters: `dummy_letters`" in chapter
    value = """
import numpy as np
import pandas as pd
from mrd_core.evaluation.answering import single_answer_metrics
from mrd_core.evaluation.likelihoods import Likelihoods
likelihoods = [Likelihoods(np.zeros(2), np.ones(2, bool), np.zeros(2), np.ones(2))]
print(single_answer_metrics(likelihoods, ["four"], [None], 40.0, of_text=False)["dummy_letters"].item())
"""
    assert said_in(tree, "-c", value) == "4.0\n"


@pytest.mark.slow
def test_a_feature_is_one_file(tmp_path: Path) -> None:
    tree = with_files(tmp_path / "tree", {"analysis/features/dummy.py": FEATURE})
    program = "from analysis.features import features; print([each.name for each in features()])"
    assert "'dummy_tokens'" in said_in(tree, "-c", program)
