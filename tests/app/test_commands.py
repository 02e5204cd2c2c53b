"""Each command of each page, copied into a fresh shell in another folder, does what the page would do."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.evidence.kinds import interpretation
from analysis.export.inspect_log import available
from mrd_core.runs import Run, RunError, RunState, RunStore, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.configuration import RunConfig
from pages.shell.experiments import TAB
from tests.app.conftest import (
    Home,
    ended,
    go,
    quick_config,
    settings_for,
    sound,
    submitted,
    texts,
    write_demo_rows,
)
from tests.app.test_compare import evaluation
from tests.support.commands import carried_out, taken_apart

pytestmark = pytest.mark.slow
Open = Callable[..., AppTest]
UPLOADED = "forget01.jsonl"
TEXTS = ("Anna Sel painted the harbour.", "The bridge was built in 1901.", "Nobody has seen the second map.")


def commands(test: AppTest) -> list[str]:
    """Return the commands that a page shows."""
    return [line for code in sound(test).code if code.language == "bash" for line in code.value.splitlines()]


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has nothing to do with the app."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture
def not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submit runs and carry none out: that is tried with small ones, below."""

    def leave(_directory: Path, _as_json: bool) -> Run:
        raise click.exceptions.Exit(0)

    monkeypatch.setattr("cli.jobs.carried_out", leave)


@pytest.fixture
def uploaded(tmp_path: Path) -> Home:
    """A scored forget set of plain texts of which there is a name and no file."""
    source = tmp_path / UPLOADED
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    forget_set = read(ForgetSetConfig(source=str(source)))
    source.unlink()
    store = RunStore.open(settings_for(tmp_path))
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=UPLOADED),
        forget_set_digest=forget_set.digest,
        estimator=EstimatorConfig(sigma=1e-3, draws=4, stop="never", workers=1),
    )
    run = submit(
        config,
        store=store,
        settings=settings_for(tmp_path),
        prepare=lambda draft: forget_set.save(ScoreFiles(draft).samples),
    )
    assert worker.run(run.directory, store=store) is RunState.SUCCEEDED
    return Home(tmp_path, store, store.get(run.id))


def scores(run: Run) -> pd.DataFrame:
    return pd.read_parquet(ScoreFiles(run.directory).scores)


@pytest.mark.parametrize(
    ("page", "view"),
    [
        ("difficulty", {}),
        ("evidence", {TAB: interpretation("validity").title}),
        ("unlearning", {}),
        ("compare", {}),
    ],
)
def test_each_command_asks_for_a_run_in_the_store_of_the_app(
    app: Open,
    own: Home,
    page: str,
    view: dict[str, str],
    elsewhere: Path,
    not_begun: None,  # noqa: ARG001
) -> None:
    evaluation(own, "original", 0.95, 0.8)
    test = app(own.path, page, run=own.run.id, **view)
    known = {run.id for run in own.store.list()}
    lines = [line for line in commands(test) if available() or "export inspect" not in line]
    assert lines
    for line in lines:
        if " && " not in line:
            result = carried_out(line, elsewhere)
            assert result.exit_code == 0, f"{line}\n{result.output}{result.exception}"
    made = [run for run in own.store.list() if run.id not in known]
    # A comparison is no run, but files.
    files = {path.name for path in elsewhere.glob("comparison/*")}
    assert bool(files) is (page == "compare")
    asked = [taken_apart(line)[1][0] for line in lines if " && " not in line]
    submitting = [command for command in asked if command not in ("compare", "export")]
    assert len(made) == len(submitting)
    for run in made:
        config: Any = read_config(run.directory, RunConfig)
        assert run.directory.is_relative_to(own.path / "runs")
        if page == "difficulty":
            own_digest = read_config(own.run.directory, ScoreConfig).forget_set_digest
            assert own_digest in (None, config.forget_set_digest)
        else:
            assert config.score_run == own.run.directory


def test_an_uploaded_set_is_scored_again_from_the_copy_that_its_run_keeps(
    app: Open, uploaded: Home, offered: dict[str, Any], elsewhere: Path
) -> None:
    test = app(uploaded.path, "difficulty", run=uploaded.run.id)
    score, again = commands(test)
    assert carried_out(score, elsewhere).exit_code == 0
    config = ScoreConfig.model_validate_json(offered["config"])
    assert Path(config.forget_set.source).read_bytes() == offered["samples"]()
    # In a shell of its own, without search path and variables.
    done = subprocess.run(
        ["/bin/sh", "-c", again],
        cwd=elsewhere,
        env={"HOME": str(elsewhere), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    runs = uploaded.store.list(kinds=("score",))
    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 3
    for run in runs:
        pd.testing.assert_frame_equal(scores(run), scores(uploaded.run))


def test_a_set_that_was_just_uploaded_has_no_command_yet(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "forget_set")
    rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    test.segmented_control(key="source").set_value("Upload").run()
    test.file_uploader(key="upload").set_value((UPLOADED, rows.encode(), "application/jsonl")).run()
    assert commands(go(test, "difficulty")) == []
    assert "lie in no file yet" in texts(test)


def test_the_form_and_the_log_and_the_list_of_runs_show_commands_for_what_is_there(
    app: Open,
    own: Home,
    elsewhere: Path,
    not_begun: None,  # noqa: ARG001
) -> None:
    config = quick_config(write_demo_rows(own.path / "rows.jsonl", 3))
    broken = submitted(own.store, own.path, config)
    ended(own.store, broken, RunState.FAILED, RunError("Oops", "Out of memory.", "Free some.", ""))
    (resume,) = commands(app(own.path, "difficulty", run=broken.id))
    assert carried_out(resume, elsewhere).exit_code == 0
    assert own.store.get(broken.id).state is RunState.QUEUED
    # Left by a kill before the store had it.
    unlisted = own.path / "runs" / "unlisted"
    shutil.copytree(own.run.directory, unlisted)
    test = app(own.path)
    (adopt,) = commands(test)
    assert carried_out(adopt, elsewhere).exit_code == 0
    assert own.store.find_by_directory(unlisted)
    next(each for each in test.button if each.label == "Use the demo").click().run()
    (score,) = commands(test)
    assert carried_out(score, elsewhere).exit_code == 0
    asked = read_config(own.store.list(limit=1)[0].directory, ScoreConfig)
    assert asked.forget_set.source == "demo"
