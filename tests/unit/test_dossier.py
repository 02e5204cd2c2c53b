"""The demo's finished runs: as they were shipped or refused, free of places and weights, and made anew alike."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from socket import gethostname

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.characteristics.files import CharacteristicsFiles
from mrd_core.dossier import making
from mrd_core.dossier.files import FOLDER, PLACE, Dossier, Part, opened, shipped
from mrd_core.dossier.opening import store_in
from mrd_core.dossier.shaking import SIGMAS, shaken
from mrd_core.errors import UserError
from mrd_core.runs import RunState, RunStore, submit
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import LOG_FILE
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.command import shown
from mrd_core.settings.configuration import RunConfig
from mrd_core.studies.catalogue import identity
from tests.conftest import REPOSITORY
from tests.support.commands import read_back
from tests.support.scored_demo import settings_in

MOST_BYTES = 5_000_000
# What log-probabilities of single precision may differ by from one processor to another [nats].
ROUNDING = 2e-5
# A path of two parts or more, from the root.
ABSOLUTE = re.compile(r"(?<![\w}.:/])/(?:[\w.-]+/)+[\w.-]*")


def test_what_ships_is_whole_small_and_holds_no_weights() -> None:
    dossier = shipped()
    names = dossier.contents()
    assert {name.split("/")[0] for name in names} >= {*map(str, Part), dossier.shaken.name}
    assert sum((dossier.directory / name).stat().st_size for name in names) <= MOST_BYTES
    assert [name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".log", ".npy"))] == []


def texts(path: Path) -> str:
    """Return what a file holds as text: of a table its metadata and its columns of strings."""
    if path.suffix != ".parquet":
        return path.read_text(encoding="utf-8")
    table = pq.read_table(path)
    strings = [at for at, field in enumerate(table.schema) if field.type in (pa.string(), pa.large_string())]
    return str(table.schema.metadata) + "".join(str(table.column(at).unique().to_pylist()) for at in strings)


def test_what_ships_names_no_place_no_host_and_no_user() -> None:
    own = (f"{Path.home()}/", f"/{getuser()}/", gethostname(), f"/{REPOSITORY.parts[1]}/")
    words = {"/root/", "/home/", "/tmp/", "/Users/", *own}
    named = [(name, word) for name in shipped().contents() for word in words if word in texts(FOLDER / name)]
    assert named == []
    # Nor any other absolute path.
    paths = {name: ABSOLUTE.findall(texts(FOLDER / name)) for name in shipped().contents()}
    assert {name: found for name, found in paths.items() if found} == {}


def small(folder: Path) -> Dossier:
    """Return a sealed dossier of two files."""
    (folder / Part.SCORE).mkdir(parents=True)
    (folder / Part.SCORE / "config.json").write_text("{}")
    (folder / "shaken.parquet").write_bytes(b"draws")
    dossier = Dossier(folder)
    dossier.seal()
    return dossier


@pytest.mark.parametrize(
    ("harm", "name", "why"),
    [
        (
            lambda folder: (folder / "shaken.parquet").write_bytes(b"drawn"),
            "shaken.parquet",
            "not as it was shipped",
        ),
        (lambda folder: (folder / "shaken.parquet").unlink(), "shaken.parquet", "is missing"),
        (lambda folder: (folder / Part.SCORE / "notes.json").touch(), "demo-score/notes.json", "does not belong"),
        (lambda folder: (folder / "digests.json").unlink(), "digests.json", "is missing"),
        (shutil.rmtree, "digests.json", "is missing"),
    ],
)
def test_a_file_that_is_not_as_it_was_shipped_is_named(
    tmp_path: Path, harm: Callable[[Path], object], name: str, why: str
) -> None:
    dossier = small(tmp_path / "dossier")
    dossier.check()
    harm(dossier.directory)
    with pytest.raises(UserError) as refused:
        opened(dossier.directory)
    assert name in refused.value.what
    assert why in refused.value.why
    assert "demo --make" in refused.value.fix


@pytest.mark.slow
def test_a_part_made_anew_is_what_ships_and_what_the_score_run_drew() -> None:
    dossier = shipped()
    known = pd.read_parquet(dossier.shaken)
    sample_id, score_run = known["sample_id"].iloc[0], dossier.run(Part.SCORE)
    sigma = ScoreFiles(score_run).read_figures().sigma
    assert sigma in SIGMAS
    anew = shaken(score_run, [sample_id], [sigma], [0])
    same = known[(known["sample_id"] == sample_id) & (known["sigma"] == sigma) & (known["seed"] == 0)]
    pd.testing.assert_frame_equal(anew, same.reset_index(drop=True), check_exact=False, rtol=0, atol=ROUNDING)
    # The seed of the run and its first pair.
    draws = pd.read_parquet(ScoreFiles(score_run).draws).query("sample_id == @sample_id and evaluation < 2")
    for half, drawn in zip(("plus", "minus"), draws["relative_answer"], strict=True):
        assert ((same["log_prob"] - same[half]) / same["log_prob"]).sum() == pytest.approx(drawn, abs=1e-3)


@pytest.mark.parametrize("part", Part)
def test_the_commands_that_make_it_ask_for_the_runs_that_ship(part: Part, tmp_path: Path) -> None:
    parts, store = making.parts(), store_in(tmp_path)
    assert set(parts) == set(Part)
    runs = {row: store.get(each).directory for each, row in parts.items()}
    asked = read_back(shown(*making.words_of(parts[part], runs)))
    made = read_config(runs[parts[part]], RunConfig)
    assert identity(asked) == identity(made)
    # What a study calls its runs is no setting of theirs.
    assert getattr(asked, "study", None) == getattr(made, "study", None)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else"):
        making.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_what_is_packed_leaves_weights_logs_and_places_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "shaken", lambda score_run, ids: shaken(score_run, ids, [1e-3], [0]))
    home = tmp_path / "home"
    runs, store = home / "runs", RunStore.open(settings_in(home))
    shutil.copytree(shipped().run(Part.SCORE), runs / Part.SCORE)
    for part in (Part.UNIFORM, Part.WEIGHTED):
        run = store.create("unlearn", "Demo", "cpu", runs / part, state=RunState.SUCCEEDED)
        store.add_metrics(run.id, 1, {"forget_loss": 2.0})
        (runs / part / "model").mkdir(parents=True)
        (runs / part / "model" / "model.safetensors").touch()
        (runs / part / "model" / "tokenizer.json").touch()
        (runs / part / LOG_FILE).touch()
        (runs / part / "config.json").write_text(json.dumps({"score_run": str(runs / Part.SCORE)}))
        table = pa.table({"a": [1]}).replace_schema_metadata({"place": str(runs / Part.SCORE)})
        pq.write_table(table, runs / part / "features.parquet")
    dossier = Dossier(tmp_path / "dossier")
    making.pack(home, dossier)
    opened(dossier.directory)
    of_part = ["config.json", "curves.parquet", "drawn.parquet", "features.parquet", "model"]
    assert sorted(path.name for path in dossier.run(Part.UNIFORM).iterdir()) == of_part
    assert json.loads((dossier.run(Part.UNIFORM) / "config.json").read_text()) == {
        "score_run": f"{PLACE}/demo-score"
    }
    assert not [name for name in dossier.contents() if str(home) in texts(dossier.directory / name)]
    curves = pd.read_parquet(dossier.run(Part.UNIFORM) / "curves.parquet")
    assert curves.to_dict("records") == [{"step": 1, "name": "forget_loss", "value": 2.0}]


@pytest.mark.parametrize("name", ["data", 'a?b "c" 100% %20'])
def test_in_a_data_root_that_was_moved_the_runs_lie_where_it_lies_now(tmp_path: Path, name: str) -> None:
    before = tmp_path / "before"
    count = len(store_in(before).list())
    home = before.rename(tmp_path / name)
    for _ in range(2):
        runs = store_in(home).list()
        assert len(runs) == count
        places = [place for run in runs for place in (run.directory, run.score_run) if place]
        assert [place for place in places if not (place.is_relative_to(home) and place.is_dir())] == []
    configs = [read_config(run.directory, RunConfig) for run in runs]
    assert {config.score_run for config in configs if config.kind == "unlearn"} == {unpacked_in(home) / Part.SCORE}
    features = next(home.rglob("features.parquet"))
    assert (
        CharacteristicsFiles(features.parent).read_features()[1].config.score_run == unpacked_in(home) / Part.SCORE
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


def unpacked_in(home: Path) -> Path:
    """Return the folder of the runs that are unpacked in a data root."""
    (runs,) = home.glob("demo/*/runs")
    return runs


def test_the_runs_open_as_a_store_that_can_only_be_read(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    runs = {run.id: run for run in store.list()}
    assert {run.state for run in runs.values()} == {RunState.SUCCEEDED}
    assert runs.keys() >= {*map(str, Part)}
    score = runs[Part.SCORE]
    of_score = {run.kind for run in store.list(score_run=score)}
    assert of_score == {"characteristics", "unlearn", "evaluate", "validity", "durability"}
    assert len(store.metrics(Part.UNIFORM)) > 100
    for run in runs.values():
        read_config(run.directory, RunConfig)
    writes = (
        lambda: store.delete(score.id),
        lambda: store.annotate(score.id, title="Mine"),
        lambda: submit(read_config(score.directory, RunConfig), store=store, settings=settings_in(tmp_path)),
        lambda: store.resume(score.id, anew=True),
    )
    for write in writes:
        with pytest.raises(UserError, match="can only be read"):
            write()
    # Neither a run of the user's nor anything half made has come of it.
    assert list((tmp_path / "runs").glob("*")) == []
    assert len(store_in(tmp_path).list()) == len(runs)
