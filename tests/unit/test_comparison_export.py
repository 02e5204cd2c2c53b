"""A comparison as data, tables and figures: nothing rounded, marks that say what they mean, harmless texts."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest

from analysis.comparison.evaluated import Evaluated, read
from analysis.comparison.long import MEANINGS, long
from analysis.comparison.paths import on_the_way
from analysis.comparison.strata import by_stratum, change
from analysis.comparison.table import Comparison, compare, with_columns
from analysis.export.comparison import (
    by_difficulty,
    comparison_json,
    data_csv,
    data_parquet,
    exports,
    legend,
    number,
    signed,
    table,
    tasks,
)
from analysis.figures import comparison as figures
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.runs.directory import read_config, write_config
from mrd_core.unlearning.files import UnlearningFiles
from tests.conftest import REPOSITORY
from tests.support.evaluations import answers_of, evaluated, write_evaluation

NASTY = "100% of <b>&_GA|x</b> #{1}$~^\\"


@pytest.fixture(scope="module")
def runs() -> list[Evaluated]:
    quiet = np.random.default_rng(5).random(40) * 0.2
    silent = {("world_facts", "rouge"): quiet, ("world_facts", "rouge_shuffled"): quiet}

    def run(level: float, seed: int, **given: object) -> Evaluated:
        values = answers_of(np.random.default_rng(seed), level) | silent
        return evaluated(values, suite="tofu", seed=seed, mrd=np.arange(40), **given)  # type: ignore[arg-type]

    pairs = [(0.5, "uniform"), (0.3, "mrd")]
    found = [run(level, seed, method="npo", sampler=each) for level, each in pairs for seed in (1, 2)]
    nasty = replace(run(0.9, 3, model="/models/other"), label=NASTY)
    lacking = replace(nasty, values=nasty.values[nasty.values["metric"] != "probability"])
    return [run(0.9, 0), *found, lacking]


@pytest.fixture(scope="module")
def comparison(runs: list[Evaluated]) -> Comparison:
    return compare(runs, 0)


def test_cells_are_means_with_their_spread_and_marks(comparison: Comparison) -> None:
    frame = table(comparison).set_index("Setting")
    cells = comparison.cells.set_index(["group", "column"])
    mean, sd = cells.loc[("NPO + MRD", "rr"), ["mean", "sd"]]
    assert frame.loc["NPO + MRD", "RR"] == f"{mean:.3f} ± {sd:.3f}*‡"
    assert frame.loc["NPO", "RR"].endswith("*")
    assert frame.loc["Original", "RR"] == f"{cells.loc[('Original', 'rr'), 'mean']:.3f}"
    assert frame.loc[NASTY, "Probability"] == "–"
    assert "World facts ROUGE-L†" in frame


def test_a_legend_says_what_the_marks_of_this_table_mean(runs: list[Evaluated], comparison: Comparison) -> None:
    said = legend(comparison)
    assert "* differs from Original by more than the noise" in said
    assert "‡ so does it from the same method with uniform sampling" in said
    assert "† no signal" in said
    assert not {"*", "‡"} & set(legend(compare(runs[:1], 0)))


def test_a_figure_is_spelt_alike_everywhere(comparison: Comparison) -> None:
    columns = {column.key: column for column in comparison.columns}
    quality = replace(columns["rr"], key="forget_quality")
    said = [number(columns["rr"], value) for value in (-0.1234, 12.345, np.nan)]
    assert (*said, number(quality, 1.24e-7), signed(-0.5)) == ("−0.123", "12.3", "–", "1.2e−07", "−0.500")


def test_sentences_give_both_changes_and_tell_unknown_from_untested() -> None:
    def rows(group: str, hard: float, easy: float, p: float) -> list[dict[str, object]]:
        changes = {("difference", "hard"): hard, ("difference", "easy"): easy, ("interaction", ""): hard - easy}
        ends = {"against": "Original", "low": 0.4, "high": 0.6, "p": p, "marked": p < 0.05}
        return [
            {"part": part, "group": group, "stratum": stratum, "value": value} | ends
            for (part, stratum), value in changes.items()
        ]

    # ROUGE falls everywhere, and on easy samples further.
    strata = pd.DataFrame(
        [*rows("NPO", -0.09, -0.61, 0.01), *rows("GA", -0.1, -0.1, 0.9), *rows("file", 0, 0, np.nan)]
    )
    assert by_difficulty(strata, "ROUGE") == [
        "NPO beside Original: ROUGE changes by −0.090 on hard and −0.610 on easy samples "
        "(difference +0.520, 95 % from +0.400 to +0.600).",
        "Hard and easy samples are not known to change differently: GA beside Original.",
        "Not enough values to tell whether hard and easy samples change differently: file beside Original.",
    ]


def test_tasks_of_the_harness_stand_beside_the_table() -> None:
    def run(accuracy: float | None, seed: int, method: str | None = "ga") -> Evaluated:
        values = {("bio", "multiple_choice"): [1, 0, 1, 1]}
        harness = {"wmdp_bio": {"acc": accuracy}} if accuracy is not None else None
        return evaluated(values, suite="wmdp", method=method, seed=seed, harness=harness)

    found = compare([run(None, 0, None), run(0.5, 0), run(0.7, 1)])
    assert tasks(found).to_numpy().tolist() == [["wmdp_bio", "acc", "–", "0.600 ± 0.141"]]


def test_a_task_of_a_broken_model_is_no_number(tmp_path: Path) -> None:
    values = {("seen", "rouge"): [0.5] * 8}
    runs = [
        write_evaluation(tmp_path / str(accuracy), values, suite="whp", method=method, harness=harness)
        for accuracy, method in ((0.5, None), (None, "ga"))
        for harness in [{"piqa": {"acc": accuracy}}]
    ]
    found = compare([read(run) for run in runs])
    assert tasks(found).to_numpy().tolist() == [["piqa", "acc", "0.500", "–"]]


def test_the_way_is_read_from_the_unlearning_run(tmp_path: Path) -> None:
    values = answers_of(np.random.default_rng(0), 0.5, 5)
    original = write_evaluation(tmp_path / "original", values)
    directory = write_evaluation(tmp_path / "ga", values, method="ga")
    config = read_config(directory, EvaluateConfig)
    write_config(directory, config.model_copy(update={"unlearn_run": tmp_path / "unlearned"}))
    measured = [{"step": 5, "completeness": 0.2, "utility": 0.8}, {"step": 10, "completeness": 0.4}]
    path = UnlearningFiles(tmp_path / "unlearned").evaluations
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(each)}\n" for each in measured))
    found = compare([read(original), read(directory)])
    paths = on_the_way(found)
    assert paths.to_dict("records") == [{"run": "GA, seed 0", "step": 5, "completeness": 0.2, "utility": 0.8}]
    said = figures.tradeoff(found, paths).layout.title.subtitle.text.replace("<br>", " ")
    assert "lines: on the way, on a sub-sample, answer string and ROUGE-L alone" in said
    path.unlink()
    assert "on the way" not in figures.tradeoff(found, on_the_way(found)).layout.title.subtitle.text


def test_data_have_a_row_for_each_run_setting_and_difference_with_nothing_rounded(comparison: Comparison) -> None:
    rows = pd.read_csv(io.BytesIO(data_csv(comparison)))
    keys = {"run": ["setting", "run", "column"], "setting": ["setting", "column"]}
    keys["difference"] = ["setting", "against", "column"]
    assert {part: len(each) for part, each in rows.groupby("part")} == {
        "run": len(comparison.runs),
        "setting": len(comparison.cells),
        "difference": len(comparison.differences),
    }
    for part, names in keys.items():
        assert not rows[rows["part"] == part].duplicated(names).any()
    expected = {
        "run": comparison.runs,
        "setting": comparison.cells.rename(columns={"mean": "value"}),
        "difference": comparison.differences.rename(columns={"difference": "value"}),
    }
    for part, frame in expected.items():
        own, names = rows[rows["part"] == part], {"group": "setting"}
        shared = [name for name in frame.rename(columns=names) if name in own and name not in ("marked", "seed")]
        pd.testing.assert_frame_equal(
            own[shared].reset_index(drop=True),
            frame.rename(columns=names)[shared].assign(setting=own["setting"].to_numpy()),
            check_dtype=False,
            check_exact=True,
        )


def test_in_the_data_a_setting_says_whether_it_differs_from_the_baseline(comparison: Comparison) -> None:
    rows = long(comparison)
    settings = rows[rows["part"] == "setting"].set_index(["setting", "column"])
    differences = rows[(rows["part"] == "difference") & (rows["against"] == "Original")]
    differences = differences.set_index(["setting", "column"])
    for name in ("p", "p_holm", "marked", "better"):
        pd.testing.assert_series_equal(settings.loc[differences.index, name], differences[name], check_names=False)
    rr = settings.loc[("NPO + MRD", "rr")]
    assert (rr["seeds"], rr["n"], rr["good"], rr["side"]) == (2, 40, "high", "completeness")
    assert rr["note"] == "differs from Original by more than the noise (95 %, Holm)"
    # Nothing was tested of the baseline, nor where it has no signal.
    assert settings.loc[("Original", "rr"), ["p", "marked", "note"]].isna().all()
    quiet = settings.loc[("NPO", "world_facts_rouge")]
    assert quiet["note"] == "no signal in the baseline, in no mean"
    assert pd.isna(quiet["marked"])


def test_a_parquet_file_explains_itself_and_holds_what_the_csv_holds(comparison: Comparison) -> None:
    rows = pq.read_table(io.BytesIO(data_parquet(comparison)))
    pd.testing.assert_frame_equal(rows.to_pandas(), long(comparison))
    assert {field.name: field.metadata[b"meaning"].decode() for field in rows.schema} == dict(MEANINGS)
    about = json.loads(rows.schema.metadata[b"mrd_comparison"])
    assert (about["baseline"], about["notes"]) == ("Original", comparison.notes)
    assert about["columns"] == {column.key: column.help for column in comparison.columns}


def test_the_documentation_says_what_each_column_of_the_data_is() -> None:
    chapter = (REPOSITORY / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert "\n".join(f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items()) in chapter


@pytest.mark.parametrize("intervals", [False, True])
def test_tables_have_the_columns_that_are_chosen_and_intervals(comparison: Comparison, intervals: bool) -> None:
    chosen = with_columns(comparison, ["utility", "rr"])
    frame = table(chosen, intervals=intervals)
    assert list(frame) == ["Setting", "Runs", "RR", "Utility"]
    cell = comparison.cells.set_index(["group", "column"]).loc[("NPO", "rr")]
    interval = f" [{cell['low']:.3f}, {cell['high']:.3f}]" if intervals else ""
    assert frame.set_index("Setting").loc["NPO", "RR"] == f"{cell['mean']:.3f} ± {cell['sd']:.3f}{interval}*"
    latex = table(chosen, "latex", intervals=intervals)
    assert r"\multicolumn{1}{c}{Completeness} & \multicolumn{1}{c}{Averages}" in latex
    assert latex.isascii()
    assert ("[95 % over samples]" in table(chosen, "markdown", intervals=intervals)) is intervals
    assert "†" not in legend(chosen)
    assert list(with_columns(comparison, []).columns) == comparison.columns
    none = r"'ru' is none of this comparison\. Name some of probability, ua, mia, rr"
    with pytest.raises(UserError, match=none):
        with_columns(comparison, ["rr", "ru"])


def test_markdown_holds_the_cells_of_the_table(comparison: Comparison) -> None:
    frame = table(comparison)
    lines = table(comparison, "markdown").splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[: len(frame) + 2]]
    assert {len(each) for each in cells} == {frame.shape[1]}
    assert r"100% of &lt;b&gt;&amp;\_GA\|x" in lines[-3]
    assert r"\*" in lines[3]


def test_latex_has_booktabs_sides_and_no_bare_special(comparison: Comparison) -> None:
    text = table(comparison, "latex")
    assert all(rf"\{rule}rule" in text for rule in ("top", "mid", "bottom"))
    assert r"\multicolumn{3}{c}{Completeness} & \multicolumn{3}{c}{Utility} & \multicolumn{3}{c}{Averages}" in text
    assert r"\multicolumn{1}{c}{Leading} & \multicolumn{3}{c}{Completeness}" in text
    assert r"\cmidrule(lr){3-3} \cmidrule(lr){4-6} \cmidrule(lr){7-9} \cmidrule(lr){10-12}" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {table(comparison).shape[1] - 1}
    nasty = r"100\% of \textless{}b\textgreater{}\&\_GA|x\textless{}/b\textgreater{} \#\{1\}\$"
    assert nasty + r"\textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert text.isascii()


def test_json_is_strict_and_complete(comparison: Comparison) -> None:
    found = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    assert {"baseline", "groups", "columns", "settings", "cells", "runs", "differences", "costs", "notes"} == set(
        found
    )
    assert found["groups"][1] | {"runs": 2} == {"label": "NPO", "seeds": [1, 2], "runs": 2, "is_baseline": False}
    lacking = [each for each in found["cells"] if each["group"] == NASTY and each["column"] == "probability"]
    assert (lacking[0]["mean"], lacking[0]["each"]) == (None, [])


def test_every_file_is_made_from_the_comparison(comparison: Comparison) -> None:
    contents = exports(comparison, strata=pd.DataFrame({"part": ["value"]}))
    data = {"comparison.csv", "comparison.parquet", "cells.csv", "strata.csv"}
    assert data | {"table.md", "table.tex"} < set(contents)
    assert contents["strata.csv"]() == b"part\r\nvalue\r\n"
    assert contents["table.tex"]().decode() == table(comparison, "latex")


def test_the_trade_off_has_a_point_a_run_and_a_path_over_its_steps(comparison: Comparison) -> None:
    steps = pd.DataFrame(
        {"run": "NPO, seed 1", "step": [20, 10], "completeness": [0.4, 0.2], "utility": [0.7, 0.8]}
    )
    figure = figures.tradeoff(comparison, steps)
    points = [each for each in figure.data if each.mode == "markers"]
    assert [len(each.x) for each in points] == [1, 2, 2, 1]
    assert points[1].customdata[0][0] == "NPO, seed 1"
    assert len({(each.marker.color, each.marker.symbol) for each in points}) == 4
    path = next(each for each in figure.data if each.mode == "lines+markers" and len(each.x))
    assert (list(path.x), path.line.color) == ([0.8, 0.7], points[1].marker.color)
    assert "<b>&" not in str(points[3].name)


def test_charts_by_difficulty_hold_every_group_and_sample(runs: list[Evaluated]) -> None:
    by_tercile = figures.strata(by_stratum(runs, 0, "rr"), "RR")
    assert [list(np.round(each.x)) for each in by_tercile.data] == [[0, 1, 2]] * 4
    changed = change(runs, 0, "rr")
    figure = figures.change(changed, "RR")
    points = [each for each in figure.data if isinstance(each, go.Scatter)]
    assert sum(len(each.x) for each in points) == len(changed)
    assert points[0].customdata[0][0] == "forget-0"
    assert points[0].marker.color == by_tercile.data[1].marker.color
    assert re.match(r"NPO: ρ = ", points[0].name)
    assert not figures.change(change(runs[:1], 0, "rr")).data
