"""A column from elsewhere joins a score run and the league table, in every format; others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save as save_torch

from analysis.evidence.kinds import evidence_of
from analysis.evidence.kinds.validity import Validity
from analysis.evidence.league import family
from analysis.evidence.measurements import read_measurements
from mrd_core.errors import UserError
from mrd_core.runs.directory import remove, write_config
from mrd_core.runs.files import write_json
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import (
    ImportConfig,
    column_of,
    import_column,
    imported,
    read_file,
    read_upload,
    remove_column,
    revision,
)
from tests.support.commands import Outcome
from tests.support.evidence_experiments import VALIDITY, experiment, sample_table, validity_rows
from tests.unit.conftest import write_rows

N = 12
IDS = tuple(f"s{at:03d}" for at in range(N))
VALUES = tuple(float(value) for value in np.random.default_rng(0).permutation(N) / 4 - 1)
ROWS = [{"sample_id": key, "cud": value} for key, value in zip(IDS, VALUES, strict=True)]


def scored(folder: Path, ids: tuple[str, ...] = IDS) -> ScoreFiles:
    """Write as much of a finished score run as importing looks at."""
    folder.mkdir(parents=True)
    files = ScoreFiles(folder)
    rows = [{"id": key, "question": f"Who is {key}?", "answer": "Nobody at all."} for key in ids]
    source = ForgetSetConfig(source=str(write_rows(folder / "rows.jsonl", rows)))
    read(source).save(files.samples)
    write_config(folder, ScoreConfig(forget_set=source))
    write_json(files.summary, {"n_samples": len(ids)})
    return files


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    return pd.DataFrame(rows).to_parquet(index=False)


def as_tensors(rows: list[dict[str, Any]]) -> bytes:
    numbers = np.array([np.nan if row["cud"] is None else row["cud"] for row in rows])
    return save({"cud": numbers}, {"sample_ids": json.dumps([row["sample_id"] for row in rows])})


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "csv": lambda rows: pd.DataFrame(rows).to_csv(index=False).encode(),
    "json": lambda rows: json.dumps(rows).encode(),
    "jsonl": lambda rows: b"".join(json.dumps(row).encode() + b"\n" for row in rows),
    "parquet": as_parquet,
    "safetensors": as_tensors,
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("door", ["path", "upload"])
def test_every_format_gives_each_sample_its_number_whatever_the_order(
    tmp_path: Path, suffix: str, door: str
) -> None:
    rows = [*reversed(ROWS[1:]), ROWS[0] | {"cud": None}]
    data, path = FORMATS[suffix](rows), tmp_path / f"cud.{suffix}"
    path.write_bytes(data)
    table = read_file(path) if door == "path" else read_upload(path.name, data)
    files = scored(tmp_path / "run")
    column = import_column(table, ImportConfig(harder="large"), files)
    assert imported(files).columns == {"cud": column}
    assert column.values == {IDS[0]: None} | dict(zip(IDS[1:], VALUES[1:], strict=True))
    assert (column.title, column.source, column.count) == ("cud", f"cud.{suffix}", N - 1)
    assert column.notes == ("1 of 12 samples have no number.",)


def test_a_column_and_a_file_may_have_a_per_cent_sign_in_their_names(tmp_path: Path) -> None:
    rows = [{"sample_id": row["sample_id"], "hits %": row["cud"]} for row in ROWS]
    table = read_upload("50%s.json", FORMATS["json"](rows))
    assert import_column(table, ImportConfig(harder="large"), scored(tmp_path / "run")).title == "hits %"


def test_rows_without_ids_are_the_samples_in_their_order_where_that_is_said() -> None:
    table = read_upload("cud.safetensors", save({"cud": np.array(VALUES, np.float32), "w": np.ones((N, 2))}))
    with pytest.raises(UserError, match="no column of ids") as refused:
        column_of(table, ImportConfig(), IDS)
    assert "--in-order" in refused.value.fix
    column = column_of(table, ImportConfig(in_order=True), IDS)
    assert list(column.values.items()) == list(zip(IDS, VALUES, strict=True))
    with pytest.raises(UserError, match="12 rows, and the run has 11 samples"):
        column_of(table, ImportConfig(in_order=True), IDS[1:])


def test_whole_numbers_are_ids_in_a_file_of_tensors() -> None:
    table = read_upload("cud.safetensors", save({"id": np.arange(3), "cud": np.array([3.0, 1.0, 2.0])}))
    assert column_of(table, ImportConfig(), ("2", "0", "1")).values == {"2": 2.0, "0": 3.0, "1": 1.0}


def changed(place: int, **cells: Any) -> list[dict[str, Any]]:
    return [row | (cells if at == place else {}) for at, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("rows", "settings", "cause", "fix"),
    [
        (changed(2, sample_id="other"), {}, "'other' among them", "--unknown skip"),
        ([row | {"sample_id": f"x{at}"} for at, row in enumerate(ROWS)], {}, "12 of 12 ids", "--in-order"),
        (changed(3, sample_id="s000"), {}, "occur more than once: 's000'", "one row for each sample"),
        (changed(3, sample_id=None), {}, "row 4, column 'sample_id'", ""),
        (changed(1, cud=float("inf")), {}, "row 2, column 'cud': The cell is no finite number", ""),
        (changed(1, cud="much"), {}, "row 2, column 'cud': The cell is 'much', no number", ""),
        (changed(1, cud=True), {}, "The cell is true or false, no number", ""),
        ([row | {"cud": None} for row in ROWS], {}, "a number for no sample", "--column"),
        ([row | {"also": 1} for row in ROWS], {}, "hold numbers: 'cud', 'also'", "--column"),
        ([row | {"also": "a", "cud": "b"} for row in ROWS], {}, "No column holds numbers", "--column"),
        (ROWS, {"column": "mrd"}, "no column 'mrd'; its columns are 'sample_id', 'cud'", ""),
        (ROWS, {"id_column": "key"}, "no column 'key'", ""),
        (ROWS, {"id_column": "sample_id", "in_order": True}, "taken in their order", "one of the two"),
        (ROWS, {"title": "![x](http://example.org/x.png)"}, "is not 1 to 40 letters", "--title"),
        (ROWS, {"title": "<b>CUD</b>"}, "is not 1 to 40 letters", "--title"),
        (ROWS, {"title": "../.."}, "is not 1 to 40 letters", "--title"),
        (ROWS, {"title": " "}, "is not 1 to 40 letters", "--title"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name_with_a_way_out(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], cause: str, fix: str
) -> None:
    files = scored(tmp_path / "run")
    text = "".join(json.dumps(row) + "\n" for row in rows).replace("Infinity", '"inf"')
    with pytest.raises(UserError) as refused:
        import_column(read_upload("cud.jsonl", text.encode()), ImportConfig.model_validate(settings), files)
    assert cause in refused.value.cause
    assert fix in refused.value.fix
    assert not files.imported.exists()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"no tensors", "corrupt or cut short"),
        (save_torch({"cud": torch.ones(3, dtype=torch.bfloat16)}), "type BF16"),
        (save({"cud": np.ones((3, 2))}), "no tensor of one dimension"),
        (save({"cud": np.ones(3), "other": np.ones(4)}), "differ in length: 'cud' 3, 'other' 4"),
        (save({"cud": np.ones(3)}, {"sample_ids": "a, b, c"}), "no list in JSON"),
        (save({"cud": np.ones(3)}, {"sample_ids": '["a"]'}), "differ in length"),
    ],
)
def test_a_file_of_tensors_that_is_none_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        read_upload("cud.safetensors", data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_over_the_limits_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = tmp_path / f"cud.{suffix}"
    path.write_bytes(FORMATS[suffix](ROWS))
    monkeypatch.setenv("MRD_ROW_LIMIT", "11")
    with pytest.raises(UserError, match="more than 11 rows"):
        read_file(path)
    with path.open("ab") as stream:
        stream.truncate(1_000_001)
    monkeypatch.setenv("MRD_UPLOAD_LIMIT_MB", "1")
    with pytest.raises(UserError, match="the limit is 1,000,000"):
        read_file(path)


def test_rows_of_other_samples_are_left_out_and_counted_where_that_is_asked_for(tmp_path: Path) -> None:
    files = scored(tmp_path / "run")
    table = read_upload("cud.json", json.dumps([*ROWS, {"sample_id": "other", "cud": "of another set"}]).encode())
    column = import_column(table, ImportConfig(column="cud", unknown="skip"), files)
    assert column.notes == ("1 rows are of no sample of the run and left out.",)
    assert column.count == N


def test_a_title_is_taken_once_until_its_column_is_removed(tmp_path: Path) -> None:
    files, table = scored(tmp_path / "run"), read_upload("cud.json", json.dumps(ROWS).encode())
    import_column(table, ImportConfig(title="CUD 7B"), files)
    before = revision(files)
    with pytest.raises(UserError, match="imported already, as cud-7b"):
        import_column(table, ImportConfig(title="cud (7B)"), files)
    import_column(table, ImportConfig(title="Größe"), files)
    assert list(imported(files).columns) == ["cud-7b", "größe"]
    assert revision(files) != before
    remove_column(files, "größe")
    assert revision(files) == before
    for name in ("größe", "../plan"):
        with pytest.raises(UserError, match=r"does not exist. The run has 'cud-7b'"):
            remove_column(files, name)


@pytest.mark.parametrize("content", ["", "{}", '{"title": "<b>x</b>", "harder": "small"}'])
def test_a_damaged_column_hides_no_other_and_can_be_removed(tmp_path: Path, content: str) -> None:
    files = scored(tmp_path / "run")
    import_column(read_upload("cud.json", json.dumps(ROWS).encode()), ImportConfig(), files)
    files.imported_column("bad").write_text(content)
    assert (list(imported(files).columns), imported(files).broken) == (["cud"], ("bad",))
    remove_column(files, "bad")
    assert imported(files).broken == ()


def test_imported_columns_go_with_their_run(tmp_path: Path) -> None:
    files = scored(tmp_path / "run")
    import_column(read_upload("cud.json", json.dumps(ROWS).encode()), ImportConfig(), files)
    remove(files.directory, [artifact.path for artifact in files.artifacts().values()])
    assert not files.imported.exists()


def ranked(tmp_path: Path, harder: str, made_itself: bool) -> Validity:
    """Judge an experiment whose updates an imported column knows, imported after the experiment was done."""
    table = sample_table(30)
    config = VALIDITY.model_copy(update={"methods": ("ga",)})
    run = tmp_path / ("experiment/scoring" if made_itself else "run")
    if not made_itself:
        config = config.model_copy(update={"score_run": run})
    directory = experiment(tmp_path / "experiment", config, table, validity_rows(table, noise=0.0))
    files = scored(run, tuple(table["sample_id"]))
    rows = [
        {"id": key, "oracle": value}
        for key, value in zip(table["sample_id"], 1 / table["mrd_answer_mean"], strict=True)
    ]
    settings = ImportConfig.model_validate({"title": "Oracle", "harder": harder})
    import_column(read_upload("oracle.json", json.dumps(rows).encode()), settings, files)
    files.imported_column("damaged").write_text("{")
    judged = evidence_of(read_measurements(directory))
    assert isinstance(judged, Validity)
    return judged


@pytest.mark.parametrize(
    ("harder", "made_itself", "verdict"),
    [("small", True, "predicts the opposite"), ("unknown", False, "predicts updates")],
)
def test_an_imported_column_is_a_rival_in_the_league(
    tmp_path: Path, harder: str, made_itself: bool, verdict: str
) -> None:
    judged = ranked(tmp_path, harder, made_itself)
    table = judged.arms[0].league.table.set_index("measure")
    name = "Oracle (imported)"
    assert family(name) == table.loc[name, "family"] == "imported"
    # It turns MRD, from which the updates are made, upside down.
    assert table.loc[name, "rho"] == pytest.approx(-table.loc["mrd_answer_mean", "rho"])
    assert table.loc[name, "verdict"] == verdict
    assert np.isnan(table.loc[name, "cost"])
    assert name in judged.arms[0].samples
    assert name not in judged.arms[0].league.cheap
    (brief,) = judged.brief.values()
    assert brief["measure"].str.endswith(f" {name}").any()
    assert "Imported columns that cannot be read take no part: damaged.json." in judged.caveats


def test_the_command_line_imports_lists_and_removes(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    files = scored(tmp_path / "run")
    path = tmp_path / "cud.csv"
    path.write_bytes(FORMATS["csv"](ROWS))
    added = cli("columns", "add", files.directory, path, "--title", "CUD", "--harder", "large", "--json")
    assert added.code == 0, added.said
    assert "12 of 12 samples have a value" in added.said
    entry = json.loads(added.out.splitlines()[-1])
    assert entry == {
        **{"name": "cud", "title": "CUD", "harder": "large", "source": "cud.csv", "column": "cud"},
        **{"notes": [], "samples": N, "values": N},
    }
    assert json.loads(cli("columns", "list", files.directory, "--json").out) == [entry]
    assert "12 of 12" in cli("columns", "list", files.directory).out
    twice = cli("columns", "add", files.directory, path, "--title", "CUD")
    assert twice.code == 2
    assert "is imported already" in twice.said
    assert cli("columns", "remove", files.directory, "cud").code == 0
    assert "No column is imported." in cli("columns", "list", files.directory).said


def test_only_a_score_run_takes_columns(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    table = sample_table(4)
    directory = experiment(tmp_path / "experiment", VALIDITY, table, validity_rows(table))
    refused = cli("columns", "list", directory)
    assert refused.code == 2
    assert "It is a validity run, no score run." in refused.said
