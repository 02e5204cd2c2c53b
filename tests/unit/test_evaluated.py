"""Evaluations as they are read: runs of this program, and result files of OpenUnlearning beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.comparison.evaluated import Evaluated, aligned, parse, read
from analysis.comparison.groups import prepared
from mrd_core.errors import UserError
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.files import write_frame
from tests.support.evaluations import answers_of, write_evaluation

RATIOS = (0.5, 2.0, 4.0)


def results(**changes: Any) -> bytes:
    """Return a result file with two metrics of three samples, and what `changes` add or replace."""
    content = {
        "forget_Q_A_Prob": samples("prob", 0.1, 0.2, 0.6),
        "forget_Q_A_ROUGE": samples("rougeL_recall", 0.3, 0.4, None),
        **changes,
    }
    return json.dumps(content).encode()


def samples(field: str, *values: float | None, aggregate: float | None = None) -> dict[str, Any]:
    by_index = {str(at): {field: value} for at, value in enumerate(values)}
    return {"agg_value": aggregate, "value_by_index": by_index}


def value_of(found: Evaluated, split: str, metric: str) -> list[float]:
    rows = found.values[(found.values["split"] == split) & (found.values["metric"] == metric)]
    return list(rows["value"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evaluated]:
    base = tmp_path_factory.mktemp("evaluated")
    values = answers_of(np.random.default_rng(0), 0.5, 6)
    settings: dict[str, dict[str, Any]] = {
        "original": {"mrd": np.arange(6.0), "notes": ("There is no held-out set.",)},
        "seed 0": {"method": "npo", "sampler": "mrd", "seed": 0},
        "seed 1": {"method": "npo", "sampler": "mrd", "seed": 1},
        "faster": {"method": "npo", "sampler": "mrd", "seed": 1, "learning_rate": 3e-4},
        "a limit that is not reached": {"method": "npo", "sampler": "mrd", "seed": 1, "limit": 6},
        "elsewhere": {"method": "npo", "sampler": "mrd", "seed": 1, "data": "/another/place"},
    }
    runs = {name: read(write_evaluation(base / name, values, **given)) for name, given in settings.items()}
    fewer = {place: each[:4] for place, each in values.items()}
    return runs | {"fewer": read(write_evaluation(base / "fewer", fewer, **settings["seed 1"]))}


def test_a_model_that_nothing_was_unlearned_from_is_the_original(runs: dict[str, Evaluated]) -> None:
    original = runs["original"]
    assert (original.label, original.seed, original.method, original.is_original) == ("Original", None, None, True)
    assert original.scores is not None
    assert list(original.scores["mrd_answer_mean"]) == [0, 1, 2, 3, 4, 5]
    assert original.notes == ("There is no held-out set.",)
    assert np.isnan(original.cost["updates"])


def test_an_unlearned_model_has_its_settings_and_its_price(runs: dict[str, Evaluated]) -> None:
    run = runs["seed 1"]
    assert (run.label, run.name, run.seed, run.sampler) == ("NPO + MRD", "NPO + MRD, seed 1", 1, "mrd")
    assert run.settings["optimiser.learning_rate"] == "0.0001"
    # The model is what unlearning began with, not its result.
    assert run.settings["model.source"] == runs["original"].settings["model.source"]
    assert run.cost == {
        **{"updates": 101, "seconds": 60, "tflop": 4, "mrd_tflop": 2},
        **{"mrd_evaluations": 96, "evaluation_seconds": 12},
    }


@pytest.mark.parametrize(
    ("other", "same"),
    [
        *[("seed 0", True), ("a limit that is not reached", True), ("elsewhere", True)],
        *[("faster", False), ("fewer", False)],
    ],
)
def test_a_group_is_everything_but_the_seed(runs: dict[str, Evaluated], other: str, same: bool) -> None:
    assert (runs[other].group == runs["seed 1"].group) is same


def test_one_set_read_from_two_places_was_measured_alike(runs: dict[str, Evaluated]) -> None:
    notes = prepared([runs["original"], runs["elsewhere"]], 0)[2]
    assert not [note for note in notes if "Not measured alike" in note]


def test_other_texts_under_the_same_ids_were_not_measured_alike(
    tmp_path: Path, runs: dict[str, Evaluated]
) -> None:
    directory = write_evaluation(tmp_path, answers_of(np.random.default_rng(0), 0.5, 6), method="ga")
    path = EvaluationFiles(directory).sets / "forget.parquet"
    rows = pd.read_parquet(path)
    rows.loc[:1, "answer"] = "Something else."
    write_frame(path, rows)
    notes = prepared([runs["original"], read(directory)], 0)[2]
    assert "Not measured alike: 2 samples of forget have one id in all, and other texts." in notes


def test_another_day_is_no_other_setting(tmp_path: Path, runs: dict[str, Evaluated]) -> None:
    directory = write_evaluation(tmp_path / "run", answers_of(np.random.default_rng(0), 0.5, 6))
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["model"]["date"] = "2026-01-02"
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read(directory).group == runs["original"].group


def test_what_is_no_finished_evaluation_is_refused(tmp_path: Path, runs: dict[str, Evaluated]) -> None:
    directory = write_evaluation(tmp_path / "run", answers_of(np.random.default_rng(0), 0.5, 3))
    (directory / "summary.json").unlink()
    with pytest.raises(UserError, match="has not finished"):
        read(directory)
    with pytest.raises(UserError, match="needs a readable config"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"none\.json"):
        read(tmp_path / "none.json")
    assert runs["original"].origin == "run"


def test_a_result_file_is_read_by_index() -> None:
    found = parse("logs/npo_EVAL.json", results(my_metric={"agg_value": 1.0}))
    assert (found.label, found.suite, found.seed, found.is_original) == ("npo_EVAL", "", None, False)
    assert value_of(found, "forget", "probability") == [0.1, 0.2, 0.6]
    assert np.isnan(value_of(found, "forget", "rouge")[2])
    assert found.sample_ids("forget") == ("0", "1", "2")
    assert found.notes == ("npo_EVAL: metrics that are not known here: my_metric.",)


@pytest.mark.parametrize(
    ("name", "given", "aggregate", "taken"),
    [
        ("forget_truth_ratio", RATIOS, 0.4167, [0.5, 0.5, 0.25]),
        ("forget_truth_ratio", (0.5, 0.5, 0.25), 0.4167, [0.5, 0.5, 0.25]),
        ("retain_Truth_Ratio", RATIOS, 0.1667, [0.5, 0, 0]),
        ("retain_Truth_Ratio", (0.5, 0.1, 0.0), 0.2, [0.5, 0.1, 0.0]),
    ],
)
def test_truth_ratios_are_alike_however_a_file_has_them(
    name: str, given: tuple[float, ...], aggregate: float, taken: list[float]
) -> None:
    found = parse("a.json", results(**{name: samples("score", *given, aggregate=aggregate)}))
    assert value_of(found, name.split("_")[0], "truth_ratio") == pytest.approx(taken)


def test_a_membership_attack_has_scores_of_both_sets_or_an_aggregate_the_other_way_round() -> None:
    parts = {"forget": samples("score", 0.1), "holdout": samples("score", 2.0, 3.0), "agg_value": 1.0}
    found = parse("a.json", results(mia_min_k=parts, mia_loss={"agg_value": 0.9}))
    assert value_of(found, "held_out", "mia_min_k") == [2, 3]
    assert found.splits("unseen") == ["held_out"]
    assert found.aggregates.to_numpy().tolist() == [["forget", "mia_loss_unseen", pytest.approx(0.1)]]


def test_answers_of_muse_are_rouge_f1() -> None:
    content = {"forget_knowmem_ROUGE": samples("rougeL_f1", 0.2, 0.4), "privleak": {"agg_value": 9}}
    found = parse("MUSE_EVAL.json", json.dumps(content).encode())
    assert value_of(found, "forget", "rouge_f1") == [0.2, 0.4]
    assert found.notes == ("MUSE_EVAL: metrics that are not known here: privleak.",)


def test_a_summary_is_read_as_far_as_it_goes() -> None:
    content = {"forget_quality": 0.5, "forget_Q_A_Prob": 0.1}
    found = parse("TOFU_SUMMARY.json", json.dumps(content).encode())
    assert found.aggregates.to_numpy().tolist() == [["forget", "forget_quality", 0.5]]
    assert "without values per sample, left out: forget_Q_A_Prob" in found.notes[0]
    with pytest.raises(UserError, match=r"aggregates of forget_Q_A_Prob alone.*_EVAL\.json"):
        parse("a.json", json.dumps({"forget_Q_A_Prob": 0.1}).encode())


def test_a_file_without_a_known_metric_is_refused() -> None:
    with pytest.raises(UserError, match="none of the metrics that are known here, but one, two"):
        parse("a.json", json.dumps({"one": {"agg_value": 1}, "two": {"agg_value": 2}}).encode())


def test_numbered_samples_get_the_ids_of_a_set_of_the_same_size(tmp_path: Path) -> None:
    values = {("forget", "rouge"): [0.1, 0.2, 0.3], ("retain", "rouge"): [0.5, 0.6]}
    run = read(write_evaluation(tmp_path / "run", values, ids={"forget": ["c", "a", "b"]}))
    rouge = samples("rougeL_recall", 0.1, 0.2, 0.3)
    found = aligned(parse("a.json", results(retain_Q_A_ROUGE=rouge, ra_Q_A_ROUGE=rouge)), run)
    assert found.sample_ids("forget") == ("c", "a", "b")
    assert list(found.values["sample_id"].head(3)) == ["c", "a", "b"]
    assert found.sample_ids("retain") == ("a: 0", "a: 1", "a: 2")
    assert found.sample_ids("real_authors") == ("0", "1", "2")
    assert "the 3 samples of forget are taken for those of Original" in found.notes[0]
    assert "has 3 samples of retain, Original has 2" in found.notes[1]
    assert aligned(run, found) is run


def test_looks_during_unlearning_are_no_setting_and_another_score_run_is(tmp_path: Path) -> None:
    def read_with(name: str, section: str, content: object) -> Evaluated:
        directory = write_evaluation(tmp_path / name, {("forget", "rouge"): [0.5]}, method="ga")
        path = EvaluationFiles(directory).unlearned
        account = json.loads(path.read_text(encoding="utf-8"))
        account["config"][section] = content
        path.write_text(json.dumps(account), encoding="utf-8")
        return read(directory)

    plain = read_with("plain", "evaluation", {"every_steps": None})
    assert read_with("looked-at", "evaluation", {"every_steps": 5}).group == plain.group
    assert read_with("otherwise-scored", "score_run", "/runs/another").group != plain.group
