"""The card of an unlearned model says what was done, and no name in it breaks it."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard

from cli.door import main
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunState, RunStore
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.files import write_frame, write_json
from mrd_core.scoring.records import Scored
from mrd_core.unlearning.card import ENDINGS, card
from mrd_core.unlearning.card_findings import Findings, Measured, Measurement
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.stopping import SOURCES, StopReason
from tests.conftest import REPOSITORY
from tests.support.commands import Outcome
from tests.support.evaluations import write_evaluation

SUMMARY = {
    "n_samples": 40,
    "updates": 1234,
    "draws": 1274,
    "steps": 319,
    "epochs": 31.85,
    "forgotten": 40,
    "forgotten_at_end": 37,
    "stop_reason": "all-forgotten",
    "forget_nll_before": 0.012,
    "forget_nll": 4.5678,
    "forget_accuracy_before": 0.9764,
    "forget_accuracy": 0.4123,
    "retain_nll_before": 0.05,
    "retain_nll": 0.25,
    "retain_accuracy_before": 0.97,
    "retain_accuracy": 0.91,
    "seconds": 95.25,
    "seconds_training": 80.0,
    "mrd_forward_evaluations": 48,
    "mrd_seconds": 12.5,
    "flops_training": 7_600_000_000_000,
    "flops_checks": 1_100_000_000,
    "flops_evaluations": 0,
    "evaluations": 0,
    "flops_mrd": 2_200_000_000,
    "learning_rate": 1e-4,
    "model_parameters": 1_291_536,
    "trainable_parameters": 1_291_536,
    "device": "cpu",
    "dtype": "float32",
    "thresholds": {"source": "absolute", "accuracy": 0.5, "extraction": None},
    "warnings": [],
    "adapter": False,
}
MRD = {"sampler": "mrd"}


def configured(**changes: Any) -> UnlearnConfig:
    settings = {"score_run": "run", "model": {"source": "demo"}, "retain": {"samples": {"source": "demo"}}}
    return UnlearnConfig.model_validate(settings | changes)


def written(summary: dict[str, Any] | None = None, **changes: Any) -> str:
    figures = UnlearningSummary.model_validate(SUMMARY | (summary or {}))
    return card(configured(**changes), figures, known())


def known(**changes: Any) -> Findings:
    scored = {"evaluations": 48, "seconds": 12.5, "tokens": 900, "sigma": 0.002, "model_parameters": 1_291_536}
    title = {"title": "Demo forget set on the demo model"}
    thirds = pd.DataFrame(columns=["third", "samples", "low", "high", "updates", "before", "after", "forgotten"])
    settings = {"reliability": (None, None), "thirds": thirds, "scored": Scored.model_validate(scored | title)}
    return Findings(**(settings | changes))


def front_matter(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def rows(text: str) -> dict[str, list[str]]:
    """Return the tables as first cell: other cells; pipes that are escaped separate nothing."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def code(text: str) -> str:
    return text.split("```python\n")[1].split("\n```")[0]


@pytest.mark.parametrize(("adapter", "library"), [(False, "transformers"), (True, "peft")])
def test_the_front_matter_names_base_model_library_and_tag(adapter: bool, library: str) -> None:
    found = front_matter(written({"adapter": adapter}, model={"source": "org/name"}))
    assert found == {
        "base_model": "org/name",
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["machine-unlearning"],
    }


@pytest.mark.parametrize("source", ["demo", "demo-retrained", "/models/mine", "a|b\n---\nc: {d}", "one/two/three"])
def test_what_is_not_on_the_hub_is_no_base_model(source: str) -> None:
    found = front_matter(written(model={"source": source}))
    assert "base_model" not in found
    assert found["library_name"] == "transformers"


@pytest.mark.parametrize("place", ["mrd_core/demo/model", "written"])
def test_the_hub_reads_the_card(place: str) -> None:
    text = written() if place == "written" else (REPOSITORY / place / "README.md").read_text(encoding="utf-8")
    loaded = ModelCard(text)
    assert loaded.data.to_dict()["library_name"] == "transformers"
    assert loaded.text.lstrip().startswith("# ")


def test_it_says_what_was_forgotten_from_what_and_how_far() -> None:
    text = written(stratum="/somewhere/hard_ones.csv")
    assert text.split("---\n")[2].startswith("\n# The demo model of MRD Lens, unlearned with GradDiff\n")
    assert "“Demo forget set on the demo model”, those of the stratum hard\\_ones.csv" in text
    assert "40 of 40 were found forgotten on the way, and 37 are so at the end" in text
    assert "1,291,536 parameters" in text


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("extraction", [None, 0.125])
def test_the_rule_names_its_thresholds_and_where_they_are_from(source: str, extraction: float | None) -> None:
    text = written({"thresholds": {"source": source, "accuracy": 0.4321, "extraction": extraction}})
    assert "(MA) is below 0.432" in text
    assert ("(EL) is below 0.125" in text) == (extraction is not None)
    assert SOURCES[source] in text


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_formula_and_its_parameters(method: str) -> None:
    text = written(method=method)
    assert f"$${METHODS[method].formula}$$" in text
    for parameter in METHODS[method].parameters:
        assert rows(text)[f"— {parameter.name}"] == [str(parameter.default)]


def test_it_says_how_the_model_was_trained() -> None:
    text = written(
        method="npo",
        parameters={"beta": 0.25},
        curriculum=MRD,
        optimiser={"batch_size": 8, "name": "sgd", "schedule": "cosine"},
        retain={"samples": {"source": "keep.csv"}, "weight": 2, "term": "kl"},
        seed=7,
    )
    found = rows(text)
    assert found["— beta"] == ["0.25"]
    assert found["Sampler"] == ["MRD-weighted, by mrd\\_answer\\_mean"]
    assert found["Optimiser"][0].startswith("sgd")
    assert found["Learning rate"] == ["0.0001, cosine"]
    assert found["Batch size"] == ["8 forget samples"]
    assert found["Retain set"] == ["keep.csv, term kl, λ = 2"]
    assert found["Seed"] == ["7"]


@pytest.mark.parametrize(
    ("method", "retain", "said"),
    [
        ("pdu", {}, "term nll, held at 0.105 nats per token (as chosen) by a λ from 0 on, η = 1"),
        ("npo", {"limit": 0.4, "limit_rate": 3}, "term nll, held at 0.4 by a λ from 0 on, η = 3"),
        ("pdu", {"term": "kl", "weight": 2}, "term kl, λ = 2"),
        ("rmu", {}, "term hidden states, λ = 1"),
    ],
)
def test_a_retain_loss_that_is_held_has_no_weight_of_its_own_and_hidden_states_are_no_nll(
    method: str, retain: dict[str, Any], said: str
) -> None:
    summary = {"reasons": {"retain limit": "0.105 nats per token (as chosen)"}}
    text = written(summary, method=method, retain={"samples": {"source": "keep.csv"}} | retain)
    assert rows(text)["Retain set"] == [f"keep.csv, {said}"]


def test_a_retain_set_that_is_only_measured_is_not_said_to_be_trained_on() -> None:
    assert rows(written(method="ga"))["Retain set"] == ["demo, measured and not trained on"]
    assert rows(written(retain={"samples": {"source": "demo"}, "weight": 0}))["Retain set"][0].startswith(
        "demo, m"
    )
    assert "Retain set" not in rows(written(method="ga", retain={}))


def test_it_says_what_it_cost() -> None:
    found = rows(written())
    assert found["Optimiser steps"] == ["319"]
    assert found["Seconds"] == ["95.2"]
    assert found["FLOPs of training, estimated"] == ["7.6e+12"]
    assert found["Forward evaluations for MRD"] == ["48"]
    assert next(cells for name, cells in found.items() if name.startswith("Updates")) == ["1,234"]


def test_measures_stand_beside_each_other_before_and_after() -> None:
    found = rows(written())
    assert found["MA, forget set"] == ["0.976", "0.412"]
    assert found["NLL, forget set \\[nats per answer token\\]"] == ["0.012", "4.568"]
    assert found["MA, retain set"] == ["0.970", "0.910"]


def test_without_a_retain_set_there_are_no_retain_measures() -> None:
    names = ("retain_nll", "retain_accuracy")
    absent = dict.fromkeys([*names, *(f"{name}_before" for name in names)])
    assert not any("retain" in name for name in rows(written(absent, method="ga", retain={})))


def test_every_ending_with_a_result_has_its_words() -> None:
    assert set(ENDINGS) == {reason for reason in StopReason if not reason.is_failure} | {"exhausted"}
    assert all(ENDINGS[reason] in written({"stop_reason": str(reason)}) for reason in ENDINGS)


def test_warnings_of_the_run_are_passed_on() -> None:
    assert "- p is *nearly* uniform".replace("*", "\\*") in written({"warnings": ["p is *nearly* uniform"]})


def test_the_code_that_loads_a_model_is_python() -> None:
    assert "AutoModelForCausalLM.from_pretrained(folder)" in code(written())
    ast.parse(code(written()))


def test_an_adapter_is_loaded_onto_what_it_was_trained_on() -> None:
    text = code(written({"adapter": True}, model={"source": 'odd "name"', "adapter": "first"}))
    ast.parse(text)
    assert 'base = "odd \\"name\\""' in text
    assert text.index('"first").merge_and_unload()') < text.index('"path/to/this/folder"')
    assert "base = MODEL_DIR" in code(written({"adapter": True}))
    retrained = code(written({"adapter": True}, model={"source": "demo-retrained"}))
    assert "import RETRAINED_DIR" in retrained
    assert "base = RETRAINED_DIR" in retrained


def test_an_adapter_on_a_gguf_file_is_loaded_by_folder_and_file(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    text = code(written({"adapter": True}, model={"source": str(file)}))
    assert f'base = "{tmp_path}"' in text
    assert text.count('from_pretrained(base, gguf_file="small.gguf")') == 2


HOSTILE = "a|b`c`*d*_e_<script>[x](y)\n# Heading\n---\n$f$: {g}"


def test_no_name_breaks_out_of_its_place() -> None:
    names = {
        "model": {"source": HOSTILE, "adapter": HOSTILE},
        "stratum": HOSTILE,
        "refusals": HOSTILE,
        "method": "po",
        "retain": {"samples": {"source": HOSTILE}},
    }
    scored = known().scored.model_copy(update={"title": HOSTILE})
    measured = Measured(HOSTILE, HOSTILE, (Measurement("forget", HOSTILE, "rouge", HOSTILE, 0.5, 3),), (HOSTILE,))
    figures = UnlearningSummary.model_validate(SUMMARY | {"warnings": [HOSTILE]})
    text = card(configured(**names), figures, known(scored=scored, evaluations=(measured,)))
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_name, result.dataset_type) == (HOSTILE, "custom")
    body = text.split("\n---\n", 1)[1]
    assert "<script>" not in body
    assert "\n# Heading" not in body
    assert "\n---" not in body
    assert body.count("\n# ") == 1
    assert rows(text)["Retain set"][0].startswith("a\\|b\\`c\\`\\*d\\*\\_e\\_\\<script\\>\\[x\\](y) \\# Heading")
    assert all(len(cells) in (1, 2, 3) for cells in rows(text).values())


DIFFICULTIES = [0.3, 0.1, 0.2, 0.6, 0.4, 0.5, float("nan")]


@pytest.fixture
def unlearned(tmp_path: Path) -> UnlearningFiles:
    """A finished run of seven samples: the hardest were updated most, one has no MRD."""
    files = UnlearningFiles(tmp_path / "unlearned")
    files.model.mkdir(parents=True)
    write_config(files.directory, configured(score_run=tmp_path / "scored"))
    write_json(files.summary, SUMMARY)
    write_json(files.scored, known().scored.model_dump(mode="json"))
    ids = [str(at) for at in range(len(DIFFICULTIES))]
    write_frame(files.curriculum, pd.DataFrame({"sample_id": ids, "mrd_answer_mean": DIFFICULTIES}))
    outcome = {"sample_id": ids, "updates": [2, 9, 8, 1, 3, 1, 5], "accuracy_before": 1.0, "accuracy_after": 0.25}
    write_frame(files.outcome, pd.DataFrame(outcome | {"forgotten_at_end": [True, False] + 5 * [True]}))
    return files


@pytest.fixture
def evaluation(unlearned: UnlearningFiles, tmp_path: Path) -> Path:
    """An evaluation of its model."""
    directory = write_evaluation(
        tmp_path / "evaluated",
        {("forget", "rouge"): [0.25] * 7, ("retain", "rouge"): [0.75]},
        method="graddiff",
        aggregates={("forget", "rouge"): 0.25, ("retain", "rouge"): 0.75, ("forget", "forget_quality"): None},
        notes=["Mind | this."],
    )
    config = read_config(directory, EvaluateConfig).model_copy(update={"unlearn_run": unlearned.directory})
    EvaluationFiles(directory).config.unlink()
    write_config(directory, config)
    return directory


@pytest.fixture
def exported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Return a function that exports a card as the shell does."""
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mrd-lens", "export", "card", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Outcome(int(ended.value.code or 0), *capsys.readouterr())

    return run


def test_each_third_by_difficulty_has_what_became_of_it(
    unlearned: UnlearningFiles, exported: Callable[..., Outcome]
) -> None:
    found = rows(exported(unlearned.directory).out)
    assert found["hard"] == ["2", "0.1 to 0.2", "8.5", "1.000", "0.250", "1 of 2"]
    assert found["middle"] == ["2", "0.3 to 0.4", "2.5", "1.000", "0.250", "2 of 2"]
    assert found["easy"] == ["2", "0.5 to 0.6", "1.0", "1.000", "0.250", "2 of 2"]


def test_without_mrd_nothing_is_said_by_difficulty(
    unlearned: UnlearningFiles, exported: Callable[..., Outcome]
) -> None:
    curriculum = pd.read_parquet(unlearned.curriculum)
    write_frame(unlearned.curriculum, curriculum.assign(mrd_answer_mean=float("nan")))
    text = exported(unlearned.directory).out
    assert "No sample here has a value of it." in text
    assert "hard" not in rows(text)


def test_the_card_has_what_evaluations_found_for_readers_and_for_the_hub(
    unlearned: UnlearningFiles, evaluation: Path, exported: Callable[..., Outcome]
) -> None:
    outcome = exported(unlearned.directory, "--evaluation", evaluation)
    assert "| Forget | ROUGE-L recall | 0.25 | 1 |" in outcome.out
    assert "undefined" in outcome.out
    assert "- Mind \\| this." in outcome.out
    assert "Evaluations in it: evaluated" in outcome.err
    results = ModelCard(outcome.out).data.eval_results
    assert [(each.dataset_split, each.metric_type, each.metric_value) for each in results] == [
        ("forget", "rouge", 0.25),
        ("retain", "rouge", 0.75),
    ]


def test_without_a_name_the_store_is_asked_for_evaluations_of_this_model(
    unlearned: UnlearningFiles,
    evaluation: Path,
    exported: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    other = write_evaluation(tmp_path / "other", {("forget", "rouge"): [1.0]})
    by_folder = shutil.copytree(evaluation, tmp_path / "by folder")
    config = read_config(by_folder, EvaluateConfig)
    model = config.model.model_copy(update={"source": str(unlearned.model)})
    (by_folder / "config.json").unlink()
    write_config(by_folder, config.model_copy(update={"unlearn_run": None, "model": model}))
    store = RunStore.open()
    for directory in (evaluation, other, by_folder):
        run = store.create("evaluate", directory.name, "cpu", directory)
        for source, to in pairwise((RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.SUCCEEDED)):
            assert store.transition(run.id, to, expected=source)
    assert "Evaluations in it: evaluated, by folder" in exported(unlearned.directory).said
    shutil.rmtree(evaluation)
    assert "Evaluations in it: by folder" in exported(unlearned.directory).said


def test_an_evaluation_with_another_adapter_on_it_is_of_another_model(
    unlearned: UnlearningFiles, exported: Callable[..., Outcome], tmp_path: Path
) -> None:
    other = write_evaluation(tmp_path / "other", {("forget", "rouge"): [1.0]})
    model = ModelConfig(source=str(unlearned.model), adapter=("elsewhere",))
    write_config(other, read_config(other, EvaluateConfig).model_copy(update={"model": model}))
    assert exported(unlearned.directory, "--evaluation", other).code == 2


def test_the_section_alone_stands_below_a_card_that_is_there(
    unlearned: UnlearningFiles, evaluation: Path, exported: Callable[..., Outcome], tmp_path: Path
) -> None:
    file = tmp_path / "section.md"
    assert exported(unlearned.directory, "--section", "--evaluation", evaluation, "--out", file).out == ""
    text = file.read_text(encoding="utf-8")
    assert text.startswith("## Unlearned with GradDiff\n")
    assert re.findall("^### (.+)$", text, re.MULTILINE) == [
        "Before and after",
        "How hard it was to forget",
        "What evaluations found",
        "What this does not show",
    ]
    assert "What is left of the rest" in text
    own = ModelCard(f"---\nlicense: mit\n---\n# Mine\n\n{text}")
    assert own.data.license == "mit"


def test_an_evaluation_of_another_model_is_refused(
    unlearned: UnlearningFiles, exported: Callable[..., Outcome], tmp_path: Path
) -> None:
    other = write_evaluation(tmp_path / "other", {("forget", "rouge"): [1.0]})
    outcome = exported(unlearned.directory, "--evaluation", other)
    assert outcome.code == 2
    assert "is of another model: full" in " ".join(outcome.err.split())
