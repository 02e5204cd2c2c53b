"""Result files of OpenUnlearning: read, written, and refused with the place and what was expected there."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrd_core.errors import UserError
from mrd_core.evaluation.aggregates import UTILITY_PARTS
from mrd_core.evaluation.interchange import Result, parse_results, write_results
from mrd_core.evaluation.metrics import METRICS, NOTATION, by_file_name
from mrd_core.samples.reading import read_bytes

NAN = float("nan")
PUBLISHED: dict[str, Any] = {
    "forget_Q_A_Prob": {
        "agg_value": 0.5,
        "value_by_index": {"0": {"prob": 0.25, "avg_loss": 1.4}, "7": {"prob": 0.75, "avg_loss": 0.3}},
    },
    "forget_Q_A_PERT_Prob": {
        "agg_value": 0.2,
        "value_by_index": {"0": {"prob": [0.1, 0.3], "avg_loss": [2.3, 1.2]}},
    },
    "forget_Q_A_ROUGE": {
        "agg_value": 1,
        "value_by_index": {"0": {"rouge1_recall": 0.5, "rougeL_recall": 1, "generation": "Ann «wrote»"}},
    },
    "exact_memorization": {"agg_value": None, "value_by_index": {"0": {"score": None}, "1": None}},
    "forget_quality": {"agg_value": 1e-21},
    "mia_min_k": {
        "forget": {"agg_value": 0.1, "value_by_index": {"0": {"score": 0.1}}},
        "holdout": {"agg_value": 2.5, "value_by_index": {"0": {"score": 2.0}, "1": {"score": 3.0}}},
        "auc": 1.0,
        "agg_value": 1.0,
    },
}


def parsed(content: Any) -> dict[str, Result]:
    return parse_results("eval.json", json.dumps(content).encode())


def refused(content: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        parsed(content)
    return caught.value


def test_a_published_file_is_read_per_sample() -> None:
    found = parsed(PUBLISHED)
    assert list(found) == list(PUBLISHED)
    assert found["forget_Q_A_Prob"].aggregate == 0.5
    assert found["forget_Q_A_Prob"].scores().to_dict() == {"0": 0.25, "7": 0.75}
    assert found["forget_Q_A_Prob"].scores("avg_loss").to_dict() == {"0": 1.4, "7": 0.3}
    assert found["forget_Q_A_ROUGE"].scores().to_dict() == {"0": 1.0}
    assert found["forget_Q_A_ROUGE"].samples["0"]["generation"] == "Ann «wrote»"


def test_several_answers_of_a_sample_are_averaged() -> None:
    found = parsed(PUBLISHED)["forget_Q_A_PERT_Prob"]
    assert found.samples["0"]["prob"] == (0.1, 0.3)
    assert found.scores().to_dict() == {"0": pytest.approx(0.2)}


@pytest.mark.parametrize(
    "sample",
    [
        {"prob": [0.1, 0.3], "generation": ["a", "b"]},
        {"prob": {"0": 0.1, "1": 0.3}, "generation": {"0": "a", "1": "b"}},
        {"0": {"prob": 0.1, "generation": "a"}, "1": {"prob": 0.3, "generation": "b"}},
    ],
)
def test_answers_are_read_as_a_list_or_by_index(sample: Any) -> None:
    found = parsed({"m": {"agg_value": 0.2, "value_by_index": {"5": sample}}})["m"]
    assert found.samples == {"5": {"prob": (0.1, 0.3), "generation": ("a", "b")}}


def test_undefined_values_are_read_as_nan() -> None:
    found = parsed(PUBLISHED)["exact_memorization"]
    assert np.isnan(found.aggregate)
    assert found.scores().isna().tolist() == [True, True]
    assert np.isnan(parse_results("a.json", b'{"m": {"agg_value": NaN}}')["m"].aggregate)


def test_a_metric_of_the_whole_set_has_no_samples() -> None:
    found = parsed(PUBLISHED)["forget_quality"]
    assert found.aggregate == 1e-21
    assert found.scores().empty
    assert not found.samples


def test_an_attack_holds_its_two_sets() -> None:
    found = parsed(PUBLISHED)["mia_min_k"]
    assert found.aggregate == 1
    assert found.parts["holdout"].scores().to_dict() == {"0": 2.0, "1": 3.0}
    assert set(found.parts) == {"forget", "holdout"}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "TOFU_EVAL.json"
    write_results(path, parsed(PUBLISHED))
    expected = copy.deepcopy(PUBLISHED)
    # What no reader of the format asks for, and a sample without fields.
    del expected["mia_min_k"]["auc"]
    expected["exact_memorization"]["value_by_index"]["1"] = {}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert (
        parsed(expected)["forget_Q_A_PERT_Prob"]
        == parse_results(str(path), read_bytes(path))["forget_Q_A_PERT_Prob"]
    )


def test_nan_and_infinity_are_written_as_null(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    write_results(path, {"m": Result(NAN, {"0": {"score": float("inf"), "prob": (0.5, NAN)}})})
    assert json.loads(path.read_text()) == {
        "m": {"agg_value": None, "value_by_index": {"0": {"score": None, "prob": [0.5, None]}}}
    }
    assert parse_results(str(path), read_bytes(path))["m"].scores("prob").isna().all()


@pytest.mark.parametrize(
    ("content", "place", "expected"),
    [
        ([], "eval.json", "an object with an entry for each metric"),
        ({"forget_quality": "high"}, "metric 'forget_quality'", "an object with 'agg_value' or 'value_by_index'"),
        ({"m": {"avg_gt_loss": {"0": 1.0}}}, "metric 'm'", "found an object with 'avg_gt_loss'"),
        ({"m": {"agg_value": "high"}}, "metric 'm', 'agg_value'", "a number or null, found text"),
        ({"m": {"agg_value": True}}, "metric 'm', 'agg_value'", "a number or null, found true or false"),
        (
            {"m": {"value_by_index": [0.1]}},
            "metric 'm', 'value_by_index'",
            "an entry for each sample, found a list",
        ),
        ({"m": {"value_by_index": {"3": 0.1}}}, "metric 'm', sample '3'", "found a number"),
        ({"m": {"value_by_index": {"3": {"prob": False}}}}, "sample '3', 'prob'", "found true or false"),
        ({"m": {"value_by_index": {"3": {"prob": [[1]]}}}}, "sample '3', 'prob'", "found a list"),
        ({"m": {"value_by_index": {"3": {"prob": {"a": 1}, "b": 1}}}}, "sample '3', 'prob'", "found an object"),
        ({"m": {"forget": {"agg_value": []}}}, "metric 'm', 'forget', 'agg_value'", "found a list"),
    ],
)
def test_another_shape_is_refused_with_its_place(content: Any, place: str, expected: str) -> None:
    error = refused(content)
    assert error.what.startswith("eval.json")
    assert error.what.endswith(place)
    assert expected in error.why
    assert "agg_value" in error.fix


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"eval_log.json": {"avg_gt_loss": {"0": 1.0}}, "eval_log_forget.json": {}}, "a log of TOFU's first code"),
        ({"results": {"piqa": {"acc,none": 0.5}}, "versions": {"piqa": 1}}, "results of lm-evaluation-harness"),
    ],
)
def test_results_of_other_programs_are_named(content: Any, why: str) -> None:
    assert why in refused(content).why


def test_a_summary_has_aggregates_alone() -> None:
    assert parsed({"forget_quality": 0.5, "privleak": None})["forget_quality"] == Result(0.5)


def test_what_is_no_result_file_is_refused(tmp_path: Path) -> None:
    assert "no metric" in refused({}).why
    for data in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(UserError, match="not readable as JSON"):
            parse_results("eval.json", data)
    with pytest.raises(UserError, match=r"none\.json"):
        parse_results(str(tmp_path / "none.json"), read_bytes(tmp_path / "none.json"))


def test_every_metric_is_declared_in_full() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.forget or metric.retain
        for text in (metric.title, metric.source, *metric.needs):
            assert text
        assert metric.help.endswith(".")
        assert metric.undefined.endswith(".")
        assert metric.formula.count("{") == metric.formula.count("}")
        assert metric.formula.count(r"\left") == metric.formula.count(r"\right")
    assert NOTATION.count("{") == NOTATION.count("}")


def test_names_of_result_files_are_known_and_stand_for_one_metric() -> None:
    names = [name for metric in METRICS.values() for name in metric.file_names.values()]
    assert len(names) == len(set(names))
    parts = {METRICS[metric].file_names[split] for split, metric in UTILITY_PARTS}  # type: ignore[index]
    assert {*parts, *PUBLISHED} - {"forget_Q_A_PERT_Prob"} <= set(names)
    found = by_file_name("ra_Q_A_ROUGE")
    assert found is not None
    assert (found[0].name, found[1]) == ("rouge", "real_authors")
    assert by_file_name("forget_Q_A_gibberish") is None
