"""The command line of the analyses, by its front door: real readings of a real score run, and readable errors."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.characteristics.command import CHARACTERISTICS
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import CharacteristicsFiles
from analysis.characteristics.runs import default_config
from analysis.characteristics.strata import CRITERIA
from analysis.text.pipeline.loading import load
from cli.door import door, main
from mrd_core.demo import corpus as demo
from mrd_core.runs import RunState, RunStore, submit
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY
from tests.support.commands import PATIENCE, Outcome, ended, started
from tests.support.scored_demo import ROWS, copied, scored_demo
from tests.unit.conftest import write_rows

pytestmark = pytest.mark.slow

PROMISED = ("n_high", "n_low", "difference", "low", "high", "cliffs_delta", "p_holm", "verdict")
EXPORTS = {
    "samples.csv",
    "samples.parquet",
    "strata.csv",
    "claims.csv",
    "claims.json",
    "groups.csv",
    "regression.csv",
}


@dataclass(frozen=True)
class Made:
    """A score run whose reading a process of its own has made, and how that ended."""

    home: Path
    run: Path
    outcome: Outcome

    @property
    def claims(self) -> dict[str, Any]:
        return dict(json.loads(self.outcome.out))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The reading that needs no choice, by a process of its own that prints JSON."""
    home = tmp_path_factory.mktemp("made")
    run = copied(scored_demo(tmp_path_factory.getbasetemp()), home / "score run")
    return Made(home, run, ended(started("characteristics", run, "--json", MRD_HOME=str(home))))


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    """A score run without a reading, in a data root that knows nothing yet."""
    return copied(scored_demo(made.home.parent), tmp_path / "run")


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process the data root of the reading that is made, or one of its own where a run is copied."""
    home = tmp_path / "home" if "run" in request.fixturenames else request.getfixturevalue("made").home
    monkeypatch.setenv("MRD_HOME", str(home))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    return Path(home)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs the command line in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mrd-lens", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        return Outcome(int(code or 0), *capfd.readouterr())

    return run


def require_readable_error(outcome: Outcome, *named: str) -> None:
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert len(re.findall(r"^error[: ]", outcome.err, flags=re.IGNORECASE | re.MULTILINE)) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for name in named:
        assert name in outcome.said


# characteristics


def test_json_is_one_object_with_the_figures_of_each_criterion_and_nothing_else(made: Made) -> None:
    assert made.outcome.code == 0, made.outcome.err
    (line,) = made.outcome.out.splitlines()
    claims = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert list(claims) == [criterion.name for criterion in CRITERIA]
    for claim in claims.values():
        assert tuple(claim)[: len(PROMISED)] == PROMISED
        assert claim["n_high"] + claim["n_low"] == ROWS
        assert claim["low"] <= claim["difference"] <= claim["high"]
        assert -1 <= claim["cliffs_delta"] <= 1
        assert 0 <= claim["p_holm"] <= 1
        assert claim["verdict"] in ("agrees", "disagrees", "cannot tell")
        assert set(claim["by_normalisation"]) == {"mean", "sum"}
        assert claim["by_normalisation"]["mean"].items() <= claim.items()


def test_a_second_call_reads_nothing_and_says_the_same(made: Made, cli: Callable[..., Outcome]) -> None:
    (reading,) = RunStore.open().list()
    features = CharacteristicsFiles(reading.directory).features
    before = features.stat().st_mtime_ns
    began = time.monotonic()
    again = cli("characteristics", made.run, "--json")
    assert time.monotonic() - began < 5
    assert json.loads(again.out) == made.claims
    assert features.stat().st_mtime_ns == before
    assert "pipeline:" not in again.err
    assert RunStore.open().list() == [reading]


def test_a_run_is_found_by_the_beginning_of_its_id(made: Made, cli: Callable[..., Outcome]) -> None:
    known = RunStore.open().create("score", "known by its id", "cpu", made.run, "20200101-000000-abcd")
    assert json.loads(cli("characteristics", known.id, "--json").out) == made.claims
    assert json.loads(cli("characteristics", "20200101", "--json").out) == made.claims


def test_the_table_shows_every_figure_whole_in_a_narrow_terminal(made: Made, cli: Callable[..., Outcome]) -> None:
    outcome = cli("characteristics", made.run)
    assert outcome.code == 0
    assert "…" not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    for claim in made.claims.values():
        for figures in claim["by_normalisation"].values():
            assert f"{figures['difference']:+.3g}" in outcome.out
            assert f"[{figures['low']:+.3g}, {figures['high']:+.3g}]" in outcome.out
            assert f"{figures['p_holm']:.2g}" in outcome.out
    words = set(outcome.said.split())
    assert {word for criterion in CRITERIA for word in criterion.title.split()} <= words
    assert "en_mrd_lens_ewt" in outcome.out


def test_a_threshold_moves_the_groups_and_nothing_else(made: Made, cli: Callable[..., Outcome]) -> None:
    options = ("--threshold", "rare_words=2", "--threshold", "association=median")
    moved = json.loads(cli("characteristics", made.run, *options, "--json").out)
    samples = pd.read_csv(only_reading() / "samples.csv")
    assert moved["rare_words"]["n_high"] == (samples["rare_words"] > 2).sum()
    assert moved["rare_words"]["n_high"] > made.claims["rare_words"]["n_high"]
    assert (moved["rare_words"]["rule"], moved["association"]["rule"]) == ("above 2", "above the median")
    assert moved["semantic_complexity"]["difference"] == made.claims["semantic_complexity"]["difference"]


def test_the_command_that_a_page_shows_judges_as_the_page_does(made: Made, cli: Callable[..., Outcome]) -> None:
    choices = {"normalisation": ["sum"], "threshold": ["rare_words=1.5", "association=mean"]}
    command = CHARACTERISTICS.shown(default_config(made.run), choices)
    claims = json.loads(cli(*shlex.split(command)[1:], "--json").out)
    assert claims["rare_words"]["level"] == 1.5
    assert claims["association"]["rule"] == "above the average of the samples"
    untouched = made.claims["initial_probability"]["by_normalisation"]["sum"]
    assert claims["initial_probability"]["difference"] == untouched["difference"]
    # It is the reading that there was.
    only_reading()


def test_another_normalisation_or_scope_changes_what_is_looked_at(made: Made, cli: Callable[..., Outcome]) -> None:
    by_sum = json.loads(cli("characteristics", made.run, "--normalisation", "sum", "--json").out)
    for name, claim in by_sum.items():
        # Ends of intervals depend on the order of the rows, which is that of the chosen scores.
        beside = made.claims[name]["by_normalisation"]["sum"]
        figures = beside.keys() & {"n_high", "n_low", "difference", "cliffs_delta", "verdict"}
        assert {"difference", "verdict"} <= figures
        for figure in figures:
            exact = isinstance(beside[figure], str | None)
            assert claim[figure] == (beside[figure] if exact else pytest.approx(beside[figure]))
    full = json.loads(cli("characteristics", made.run, "--scope", "full", "--json").out)
    assert full["rare_words"]["difference"] != made.claims["rare_words"]["difference"]


def test_another_corpus_is_another_reading(
    run: Path, home: Path, tmp_path: Path, cli: Callable[..., Outcome]
) -> None:
    assert not home.exists()
    trained = [{"question": row.question, "answer": row.answer} for row in demo.rows()[:300]]
    corpus = write_rows(tmp_path / "train.jsonl", [*trained, {"question": "a row to skip", "answer": ""}])
    with_corpus = cli("characteristics", run, "--corpus", corpus, "--json")
    assert with_corpus.code == 0, with_corpus.err
    without = json.loads(cli("characteristics", run, "--corpus", "none", "--json").out)
    assert json.loads(with_corpus.out)["association"]["feature"] == "association"
    assert without["association"]["feature"] == "hidden_association"
    configs = [json.loads((reading.directory / "config.json").read_text()) for reading in RunStore.open().list()]
    assert [config["corpus"] and config["corpus"]["source"] for config in configs] == [None, str(corpus)]


# The files


def only_reading() -> Path:
    """Return the directory of the reading that is made."""
    (reading,) = [run for run in RunStore.open().list() if run.kind == "characteristics"]
    return reading.directory


@pytest.fixture(scope="module")
def exported(made: Made) -> Path:
    """The files of the reading, in a folder that did not exist."""
    folder = made.home / "a folder" / "of files"
    words = ["characteristics", str(made.run), "--out", str(folder), "--json"]
    outcome = CliRunner().invoke(door, words, env={"MRD_HOME": str(made.home), "MRD_STORE_URL": None})
    assert outcome.exit_code == 0, outcome.output
    assert str(folder) in outcome.stderr
    assert json.loads(outcome.stdout) == made.claims
    return folder


def test_the_files_are_written_beside_the_features_or_where_asked(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == EXPORTS
    assert {path.name for path in only_reading().iterdir()} >= EXPORTS | {"features.parquet", "spans.parquet"}


def test_files_without_texts_have_ids_and_figures(made: Made, tmp_path: Path) -> None:
    words = ["characteristics", str(made.run), "--out", str(tmp_path), "--without-texts", "--json"]
    outcome = CliRunner().invoke(door, words, env={"MRD_HOME": str(made.home), "MRD_STORE_URL": None})
    assert json.loads(outcome.stdout) == made.claims
    samples = pd.read_parquet(made.run / "samples.parquet")
    beginnings = {text[:20] for text in [*samples["prompt"], *samples["answer"]] if text}
    exported = {path.name: path.read_bytes().decode("utf-8", "replace") for path in tmp_path.iterdir()}
    exported["samples.parquet"] = pd.read_parquet(tmp_path / "samples.parquet").to_csv()
    assert [name for name, text in exported.items() if any(each in text for each in beginnings)] == []
    assert set(pd.read_csv(tmp_path / "samples.csv")["sample_id"]) == set(samples["sample_id"])


def test_claims_are_the_same_in_every_file(made: Made, exported: Path) -> None:
    assert json.loads((exported / "claims.json").read_text(encoding="utf-8")) == made.claims
    table = pd.read_csv(exported / "claims.csv").set_index(["criterion", "normalisation"])
    assert len(table) == 2 * len(CRITERIA)
    for (criterion, normalisation), row in table.iterrows():
        claim = made.claims[str(criterion)]["by_normalisation"][normalisation]
        for name in ("n_high", "n_low", "difference", "low", "high", "cliffs_delta", "p_holm", "level"):
            assert row[name] == pytest.approx(claim[name])
        assert (row["verdict"], row["feature"], row["reason"]) == (
            claim["verdict"],
            claim["feature"],
            claim["reason"],
        )


def test_samples_hold_mrd_features_and_groups_in_both_formats(made: Made, exported: Path) -> None:
    samples = pd.read_csv(exported / "samples.csv")
    features = pd.read_parquet(only_reading() / "features.parquet").set_index("sample_id")
    assert len(samples) == ROWS
    assert {"mrd", "mrd_low", "mrd_high", *features.columns} <= set(samples)
    numeric = features.select_dtypes("number").columns
    np.testing.assert_allclose(samples[numeric], features.loc[samples["sample_id"], numeric])
    for name, claim in made.claims.items():
        high = samples[f"group_{name}"] == "high"
        assert high.tolist() == (samples[claim["feature"]] > claim["level"]).tolist()
        means = samples.groupby(high)["mrd"].mean()
        assert means[True] - means[False] == pytest.approx(claim["difference"])
    parquet = pd.read_parquet(exported / "samples.parquet")
    pd.testing.assert_frame_equal(parquet, samples, check_dtype=False, check_exact=False)


def test_strata_and_groups_count_the_same_samples(made: Made, exported: Path) -> None:
    strata = pd.read_csv(exported / "strata.csv")
    assert list(strata) == ["sample_id", *made.claims]
    groups = pd.read_csv(exported / "groups.csv").set_index(["criterion", "group"])
    for criterion in CRITERIA:
        claim = made.claims[criterion.name]
        assert strata[criterion.name].value_counts().to_dict() == {"high": claim["n_high"], "low": claim["n_low"]}
        rows = groups.loc[criterion.name]
        assert rows.loc[[criterion.high, criterion.low], "n"].tolist() == [claim["n_high"], claim["n_low"]]
        difference = rows.loc[criterion.high, "mean_mrd"] - rows.loc[criterion.low, "mean_mrd"]
        assert difference == pytest.approx(claim["difference"])
        assert set(rows.loc[criterion.high, "examples"].split("; ")) <= set(
            strata["sample_id"][strata[criterion.name] == "high"]
        )


def test_the_regression_begins_with_length(exported: Path) -> None:
    terms = pd.read_csv(exported / "regression.csv")
    assert terms["feature"][0] == "n_tokens"
    assert (terms["vif"] >= 0.99).all()


# What goes wrong


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--threshold", "rare_words"), "rare_words=quartile, mean, median or a number"),
        (("--threshold", "rare_words=many"), "--threshold rare_words=many"),
        (("--threshold", "rarity=2"), "names no criterion"),
        (("--threshold", "rare_words=nan"), "no value to divide the samples at"),
        (("--names", "maybe"), "--names maybe"),
        (("--common-words", "5"), "--common-words 5"),
        (("--ngram", "6"), "--ngram 6"),
        (("--text", "question"), "question"),
        (("--scope", "question"), "question"),
        (("--pipeline", "../evil"), "“../evil” is not an installed spaCy pipeline"),
        (("--language", "de"), "“de” has no installed spaCy pipeline"),
        (("--corpus-split", "train"), "--corpus-split train"),
        (("--corpus", "none", "--corpus-subset", "full"), "--corpus-subset full"),
        (("--out", "README.md"), "--out README.md"),
        (("--out", "README.md/folder"), "--out README.md/folder"),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_read(
    made: Made, cli: Callable[..., Outcome], options: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    before = RunStore.open().list()
    require_readable_error(cli("characteristics", made.run, *options, "--json"), named)
    assert RunStore.open().list() == before


@pytest.mark.parametrize("run_named", ["/no/such/run", "20991231"])
def test_what_is_no_run_is_named(cli: Callable[..., Outcome], run_named: str) -> None:
    require_readable_error(cli("characteristics", run_named), run_named, "There is no such run.")


def test_a_folder_that_is_no_run_is_named(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    require_readable_error(cli("characteristics", tmp_path), str(tmp_path), "is no run directory")


def test_a_reading_is_no_score_run(cli: Callable[..., Outcome]) -> None:
    require_readable_error(cli("characteristics", only_reading()), "It is a characteristics run, no score run.")


def test_a_score_run_that_has_not_finished_is_named(run: Path, cli: Callable[..., Outcome]) -> None:
    ScoreFiles(run).summary.unlink()
    require_readable_error(cli("characteristics", run), str(run), "has no summary.json")


def test_the_files_of_a_run_are_not_written_over(run: Path, cli: Callable[..., Outcome]) -> None:
    before = ScoreFiles(run).samples.read_bytes()
    require_readable_error(cli("characteristics", run, "--out", run), f"--out {run}", "the directory of a run")
    assert ScoreFiles(run).samples.read_bytes() == before


def test_a_missing_corpus_fails_the_reading_and_is_named(run: Path, cli: Callable[..., Outcome]) -> None:
    outcome = cli("characteristics", run, "--corpus", "/no/such/corpus.jsonl", "--json")
    require_readable_error(outcome, "/no/such/corpus.jsonl")
    (reading,) = RunStore.open().list()
    assert reading.state is RunState.FAILED
    assert cli("characteristics", run, "--json").code == 0


def test_a_bad_option_is_an_error_without_a_traceback_in_a_process_of_its_own(made: Made) -> None:
    arguments = ("characteristics", made.run, "--names", "maybe", "--json")
    require_readable_error(ended(started(*arguments, MRD_HOME=str(made.home))), "--names maybe")


# run, resume, doctor


def queued(run: Path) -> Path:
    """Submit the reading that needs no choice and return its directory."""
    return submit(default_config(run), store=RunStore.open(), settings=Settings.from_environment()).directory


def test_run_carries_out_what_was_submitted(run: Path, cli: Callable[..., Outcome]) -> None:
    directory = queued(run)
    outcome = cli("run", directory)
    assert (outcome.code, outcome.out) == (0, "")
    assert RunStore.open().find_by_directory(directory).state is RunState.SUCCEEDED
    assert CharacteristicsFiles(directory).features.exists()
    require_readable_error(cli("run", directory), "It is succeeded, not queued.")


def test_a_config_that_was_written_by_hand_is_carried_out(
    run: Path, tmp_path: Path, cli: Callable[..., Outcome]
) -> None:
    directory = tmp_path / "by hand"
    directory.mkdir()
    config = CharacteristicsConfig(score_run=run, corpus=ForgetSetConfig(source="demo"))
    (directory / "config.json").write_text(config.model_dump_json())
    assert cli("run", directory).code == 0
    assert CharacteristicsFiles(directory).read_features()[1].config == config


def test_run_refuses_a_directory_without_a_config(made: Made, cli: Callable[..., Outcome]) -> None:
    require_readable_error(cli("run", made.home), "config.json")


def test_a_reading_that_another_process_makes_is_not_made_twice(run: Path, cli: Callable[..., Outcome]) -> None:
    store, directory = RunStore.open(), queued(run)
    reading = store.find_by_directory(directory)
    assert store.claim(reading, ProcessIdentity.current())
    require_readable_error(cli("characteristics", run), f"run {reading.id}", "is its worker")


def test_a_cancelled_reading_is_resumed_by_its_id(run: Path, cli: Callable[..., Outcome]) -> None:
    store, directory = RunStore.open(), queued(run)
    reading = store.find_by_directory(directory)
    assert store.request_cancel(reading.id) is RunState.CANCELLED
    assert cli("runs", "resume", reading.id).code == 0
    done = store.get(reading.id)
    assert (done.state, done.attempt, done.summary["n_samples"]) == (RunState.SUCCEEDED, 2, ROWS)


def test_ctrl_c_cancels_a_reading_and_the_next_call_makes_it(
    run: Path, home: Path, made: Made, cli: Callable[..., Outcome]
) -> None:
    process = started("characteristics", run, MRD_HOME=str(home))
    deadline = time.monotonic() + PATIENCE
    # The pipeline takes a second to load, so there is time left to interrupt.
    while not [each for each in RunStore.open().list() if each.state is RunState.RUNNING]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    outcome = ended(process)
    assert (outcome.code, outcome.out) == (130, "")
    assert "Traceback" not in outcome.err
    (reading,) = RunStore.open().list()
    assert reading.state is RunState.CANCELLED
    assert not CharacteristicsFiles(reading.directory).features.exists()
    assert json.loads(cli("characteristics", run, "--json").out) == made.claims


def test_doctor_names_the_pipeline_with_its_reason(cli: Callable[..., Outcome]) -> None:
    outcome = cli("doctor")
    assert outcome.code == 0
    pipeline = load()
    cells = " ".join(outcome.out.split())
    assert f"{pipeline.name} {pipeline.version}" in cells
    assert pipeline.reason.split()[0] in cells
    lines = {line.split("  ")[0].strip() for line in outcome.out.splitlines()}
    assert lines >= {"spacy", "pipeline", "features", "language detection"}
    assert "…" not in outcome.out
