"""`mrd-lens experiment`, by its front door, and what `mrd-lens evidence` makes of it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cli.door import main
from mrd_core.experiments.command import COMMANDS
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.theorem import TheoremConfig
from mrd_core.experiments.unlearner import Unlearner
from mrd_core.runs import Run, RunState, RunStore, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import Estimator
from tests.support.commands import Outcome
from tests.support.experiment_runs import killed_after
from tests.support.marks import few_in_the_gate
from tests.support.runs import until
from tests.support.scored_demo import settings_in
from tests.support.unlearning_runs import N_FORGET, Scored, forget_rows, retain_rows, scored_tiny
from tests.unit.conftest import write_rows

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]

PROMISED = {"experiment", "n_samples", "units", "seconds", "scored", "reasons", "warnings"}
VALIDITY = {"samples": "4", "methods": "ga", "learning-rate": "2e-3", "max-updates": "10"}
SMALLEST = {
    "validity": VALIDITY,
    "parameter-change": {"composites": "4", "size": "2", "learning-rate": "2e-3", "max-updates": "5"},
    "selection": {
        "selections": "2",
        "size": "2",
        "methods": "ga,wga",
        "learning-rate": "2e-3",
        "max-updates": "5",
    },
    "sensitivity": {"samples": "4", "sigmas": "1e-4,1e-3", "dtypes": "float32", "pairs": "2", "draws": "8"},
    "theorem": {"samples": "4", "probes": "4", "pairs": "4"},
}
# Many short unlearnings, with retain partners drawn at random, of which none is forgotten.
LONG = {
    "samples": "5",
    "methods": "ga,graddiff",
    "repeats": "2",
    "learning-rate": "1e-6",
    "max-updates": "12",
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def undisturbed(scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> ExperimentFiles:
    """The run that `LONG` describes, carried out in one go."""
    settings = settings_in(tmp_path_factory.mktemp("undisturbed"))
    store = RunStore.open(settings)
    lists = {name: [LONG[name]] for name in ("methods",)}
    config = COMMANDS["validity"].read(
        LONG | lists | {"scores": str(scored.directory), "retain-set": str(scored.retain)}
    )
    run = submit(config, store=store, settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert worker.run(run.directory, store=store) is RunState.SUCCEEDED
    return ExperimentFiles(run.directory)


@pytest.fixture
def validity(scored: Scored, cli: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Return a function that runs `experiment validity` on the tiny score run; later options win."""
    return lambda *options: cli("experiment", "validity", "--scores", scored.directory, *typed(VALIDITY), *options)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[Path], Any]:
    """Return a function that judges a directory by the command line and reads the JSON that it prints."""

    def run(directory: Path) -> Any:
        monkeypatch.setattr(sys, "argv", ["mrd-lens", "evidence", str(directory), "--json"])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        (line,) = capfd.readouterr().out.splitlines()
        return strict(line)

    return run


def typed(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def strict(text: str) -> Any:
    """Read JSON that may not hold NaN or Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def only_run() -> Run:
    (run,) = RunStore.open().list()
    return run


def long(scored: Scored, out: Path) -> list[object]:
    kept = ["--scores", scored.directory, "--retain-set", scored.retain, "--out", out]
    return ["experiment", "validity", *kept, *typed(LONG)]


@pytest.mark.parametrize("name", few_in_the_gate(SMALLEST, "validity", "theorem"))
def test_every_experiment_ends_with_one_line_of_json_and_can_be_judged(
    name: str, scored: Scored, cli: Any, evidence: Any, tmp_path: Path
) -> None:
    files = ExperimentFiles(tmp_path / "run")
    where = ("--scores", scored.directory, "--out", files.directory)
    outcome = cli("experiment", name, *where, *typed(SMALLEST[name]), "--json")
    assert outcome.code == 0, outcome.err
    (line,) = outcome.out.splitlines()
    summary = strict(line)
    assert summary == read_json(files.summary)
    assert summary.keys() >= PROMISED
    assert (summary["experiment"], summary["n_samples"]) == (name, N_FORGET)
    assert summary["units"] == len(files.finished_units())
    assert not files.scoring.exists()
    assert len(files.read_rows()) == sum(map(len, files.finished_units().values())) > 0
    shown = evidence(files.directory)
    assert (shown["experiment"], shown["finished"]) == (name, True)
    assert shown["verdict"]
    assert any(shown["tables"].values())


def test_without_json_it_prints_nothing_to_stdout_and_says_where_the_rows_are(validity: Any, home: Path) -> None:
    outcome = validity()
    assert (outcome.code, outcome.out) == (0, "")
    run = only_run()
    assert run.directory.is_relative_to(home)
    assert str(run.directory / "rows.parquet") in outcome.err.replace("\n", "")
    assert "4 measurements in" in outcome.said
    assert f"mrd-lens evidence {run.directory}" in outcome.err.replace("\n", "")


def test_an_experiment_is_listed_shown_and_deleted_and_the_score_run_stays(
    validity: Any, cli: Any, scored: Scored, tmp_path: Path
) -> None:
    assert validity("--out", tmp_path / "run").code == 0
    run = only_run()
    listed = cli("runs", "list").said
    assert run.id in listed
    assert "succeeded" in listed
    shown = cli("runs", "show", run.id).said
    assert '"experiment": "validity"' in shown
    assert "succeeded" in shown
    assert cli("runs", "delete", run.id, "--yes").code == 0
    assert not (tmp_path / "run").exists()
    assert RunStore.open().list() == []
    assert ScoreFiles(scored.directory).summary.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("validity", "--methods", "npo"), "NPO needs a retain set"),
        (("validity", "--methods", "magic"), "--methods magic"),
        (("validity", "--methods", "ga,wga,ga"), "--methods ga,wga,ga: One is named twice"),
        (("validity", "--methods", ""), "at least 1 item"),
        (("parameter-change", "--methods", ""), "at least 1 item"),
        (("selection", "--methods", "ga"), "--methods ga: Name two methods at least"),
        (("validity", "--optimisers", "adam"), "--optimisers adam"),
        (("validity", "--parameters", "delta=1"), "No chosen method has a parameter delta"),
        (("validity", "--parameters", "gamma=lots"), "The parameter gamma=lots"),
        (("validity", "--learning-rate", "soon"), "--learning-rate soon"),
        (("validity", "--samples", "3"), "--samples 3: Input should be greater than or equal to 4"),
        (("validity", "--retain-split", "train"), "--retain-set: Field required"),
        (("validity", "--retain-set", "/no/such/file.csv"), "/no/such/file.csv"),
        (("validity", "--model", "demo"), "another option does too"),
        (("validity", "--forget-set", "demo"), "another option does too"),
        (("validity", "--template", "plain"), "another option does too"),
        (("validity", "--out", "README.md"), "not an empty directory"),
        (("validity", "--out", "docs"), "not an empty directory"),
        (("sensitivity", "--sigmas", "1e-3,lots"), "--sigmas lots"),
        (("sensitivity", "--sigma", "2"), "--sigma 2"),
        (("theorem", "--seed", "-1"), "--seed -1"),
    ],
    ids=lambda options: " ".join(options) if isinstance(options, tuple) else "",
)
def test_a_bad_option_is_an_error_without_a_traceback_and_without_a_run(
    cli: Any, scored: Scored, options: tuple[str, ...], reason: str
) -> None:
    name, *rest = options
    outcome = cli("experiment", name, "--scores", scored.directory, *rest)
    assert (outcome.code, outcome.out) == (2, "")
    assert reason in outcome.said
    assert "Traceback" not in outcome.err
    assert RunStore.open().list() == []


@pytest.mark.parametrize("options", [(), ("--model", "demo"), ("--forget-set", "demo")])
def test_without_scores_both_model_and_forget_set_are_needed(cli: Any, options: tuple[str, ...]) -> None:
    outcome = cli("experiment", "theorem", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert "needs a model and a forget set" in outcome.said
    assert RunStore.open().list() == []


def test_device_and_precision_may_differ_from_the_score_run(cli: Any, scored: Scored, tmp_path: Path) -> None:
    wish = ("--samples", "4", "--probes", "4", "--pairs", "4", "--device", "cpu", "--dtype", "float64")
    out = tmp_path / "out"
    assert cli("experiment", "theorem", "--scores", scored.directory, *wish, "--out", out).code == 0
    model = read_config(out, TheoremConfig).model
    assert (model.source, model.device, model.dtype) == (str(scored.model), "cpu", "float64")


def test_a_run_that_fails_says_why_and_exits_so(cli: Any, scored: Scored) -> None:
    wish = ("--selections", "2", "--column", "entanglement", "--max-updates", "5")
    outcome = cli("experiment", "selection", "--scores", scored.directory, *wish)
    assert (outcome.code, outcome.out) == (2, "")
    assert "The column entanglement" in outcome.said
    assert "Traceback" not in outcome.err
    assert only_run().state is RunState.FAILED


@pytest.mark.parametrize("column", ["nope", "sample_id"])
def test_a_column_that_is_no_number_is_refused_before_anything_is_begun(
    cli: Any, scored: Scored, column: str
) -> None:
    outcome = cli("experiment", "selection", "--scores", scored.directory, "--column", column)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"--column {column}" in outcome.said
    assert "no such number of the scores" in outcome.said
    assert not RunStore.open().list(kinds=("selection",))


def test_without_scores_the_forget_set_is_scored_first_and_a_cancelled_scoring_goes_on(
    cli: Any, scored: Scored, evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = write_rows(tmp_path / "forget.jsonl", forget_rows()[:5])
    kept = write_rows(tmp_path / "kept.jsonl", retain_rows() + forget_rows()[:2])
    studied = ("--model", scored.model, "--forget-set", forget, "--device", "cpu")
    assert cli("score", *studied, "--out", tmp_path / "scored").code == 0
    unit = Estimator.unit

    def interrupted(self: Estimator, index: int) -> Any:
        if index == 3:
            signal.raise_signal(signal.SIGTERM)
        return unit(self, index)

    files = ExperimentFiles(tmp_path / "run")
    wish = ("--retain-set", kept, *typed(VALIDITY), "--out", files.directory)
    with monkeypatch.context() as patch:
        patch.setattr(Estimator, "unit", interrupted)
        assert cli("experiment", "validity", *studied, *wish).code == 143
    assert not files.scored.exists()
    (run, _) = RunStore.open().list()
    outcome = cli("runs", "resume", run.id)
    assert outcome.code == 0
    # The processes that share the draws find what they are to do.
    assert "config.json" not in outcome.err
    apart = ScoreFiles(tmp_path / "scored")
    for name in ("scores.parquet", "measures.parquet", "samples.parquet"):
        copies = [pd.read_parquet(folder / name) for folder in (files.directory, files.scoring)]
        for copy in copies:
            pd.testing.assert_frame_equal(copy, pd.read_parquet(apart.directory / name), check_exact=True)
    own, of_score = (read_config(folder, ScoreConfig) for folder in (files.scoring, apart.directory))
    assert (own.model, own.forget_set, own.estimator) == (of_score.model, of_score.forget_set, of_score.estimator)
    assert read_json(files.scored)["sigma"] == apart.read_summary()["sigma"]
    retained = ForgetSet.load(files.retain).frame["sample_id"]
    assert all(sample_id.startswith("r") for sample_id in retained)
    assert evidence(files.directory)["verdict"]
    assert cli("runs", "delete", run.id, "--yes").code == 0
    assert not files.directory.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_cancelled_experiment_goes_on_to_the_very_same_rows(
    number: signal.Signals,
    cli: Any,
    scored: Scored,
    undisturbed: ExperimentFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unlearn, calls = Unlearner.unlearn, []

    def interrupted(self: Unlearner, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 8:
            signal.raise_signal(number)
        return unlearn(self, *arguments)

    files = ExperimentFiles(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Unlearner, "unlearn", interrupted)
        outcome = cli(*long(scored, files.directory))
    ends = {signal.SIGTERM: (143, RunState.INTERRUPTED), signal.SIGINT: (130, RunState.CANCELLED)}
    assert (outcome.code, only_run().state) == ends[number]
    assert f"runs resume {only_run().id}" in outcome.said
    assert "Traceback" not in outcome.err
    # The retain set, and seven unlearnings.
    assert len(files.finished_units()) == 8
    assert cli("runs", "resume", only_run().id).code == 0
    assert only_run().state is RunState.SUCCEEDED
    assert files.rows.read_bytes() == undisturbed.rows.read_bytes()
    assert files.units.read_bytes() == undisturbed.units.read_bytes()


@pytest.mark.long
def test_a_killed_experiment_goes_on_to_the_very_same_rows(
    cli: Any, scored: Scored, undisturbed: ExperimentFiles, evidence: Any, tmp_path: Path
) -> None:
    files = ExperimentFiles(tmp_path / "run")
    killed_after(files, 2, *long(scored, files.directory))
    with files.units.open("a") as log:
        log.write('{"unit": "unlearning f0 ga adamw 0", "rows": [{"part": "unlea')
    # It can be judged as far as it has got.
    assert evidence(files.directory)["finished"] is False
    assert only_run().state is RunState.RUNNING
    # Its last heartbeat is fresh for a while.
    until(lambda: "lost" in cli("runs", "list").said, "the run is lost")
    assert cli("runs", "resume", only_run().id).code == 0
    assert files.rows.read_bytes() == undisturbed.rows.read_bytes()
    assert files.units.read_bytes() == undisturbed.units.read_bytes()
