"""Score runs: real processes that are killed, helped, cancelled and resumed end on the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import torch._dynamo
import torch._inductor.config

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Cancelled, JobContext, RunState, RunStore, worker
from mrd_core.runs.directory import write_config
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring.claims import Lease
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.job import score_job
from mrd_core.scoring.records import ScoreSummary
from mrd_core.scoring.results import warnings_of
from mrd_core.scoring.schedule import UnitKey
from mrd_core.settings.command import process
from tests.conftest import REPOSITORY
from tests.support.runs import lost
from tests.unit.conftest import CONTEXT, rows, write_rows

pytestmark = pytest.mark.slow

PATIENCE = 60.0
SEED = 20250409

# Long enough to be interrupted: sixty units of one sample a batch, about a second in all.
STEADY = {"sigma": 1e-3, "draws": 120, "stop": "never", "batch_tokens": 1, "seed": 7}


@dataclass
class Told(JobContext):
    """A context that keeps what it is told."""

    directory: Path
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.directory)

    def event(self, level: str, message: str) -> None:
        self.events.append(f"{level}: {message}")


class StopsAt(Told):
    """A context that asks to stop at the given look at it."""

    def stop_at(self, look: int) -> StopsAt:
        self._left = look
        return self

    def check_cancelled(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cancelled("enough")


@dataclass(frozen=True)
class Result:
    """What a score run left behind."""

    files: ScoreFiles
    summary: dict[str, Any]
    events: list[str]

    @property
    def scores(self) -> pd.DataFrame:
        return pd.read_parquet(self.files.scores)

    @property
    def tokens(self) -> pd.DataFrame:
        return pd.read_parquet(self.files.tokens)


@pytest.fixture
def config_of(tiny_model: Path, tiny_forget_set: Path) -> Callable[..., ScoreConfig]:
    """Return a maker of configurations of a score run with the tiny model."""

    def make(
        forget_set: Path = tiny_forget_set, dtype: str = "auto", paper: bool = False, **wishes: Any
    ) -> ScoreConfig:
        preset = EstimatorConfig.paper if paper else EstimatorConfig
        return ScoreConfig(
            forget_set=ForgetSetConfig(source=str(forget_set)),
            model=ModelConfig(source=str(tiny_model), dtype=dtype),
            estimator=preset(**{"workers": 1} | wishes),
        )

    return make


@pytest.fixture
def scored(config_of: Callable[..., ScoreConfig], tmp_path: Path) -> Callable[..., Result]:
    """Return a function that carries a score run out in this process."""

    def score(**wishes: Any) -> Result:
        directory = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        return carry_out(config_of(**wishes), Told(directory))

    return score


def carry_out(config: ScoreConfig, context: Told) -> Result:
    """Do the job in this process, in a directory such as a launcher makes."""
    write_config(context.directory, config)
    summary = score_job(config, context)
    return Result(ScoreFiles(context.directory), summary, context.events)


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tiny_forget_set: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoreFiles:
    """The files of a steady run that nothing disturbed."""
    directory = tmp_path_factory.mktemp("undisturbed")
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(tiny_forget_set)),
        model=ModelConfig(source=str(tiny_model)),
        estimator=EstimatorConfig(**STEADY, workers=1),
    )
    return carry_out(config, Told(directory)).files


def assert_same_bits(found: ScoreFiles, expected: ScoreFiles) -> None:
    for name in ("scores", "draws", "tokens", "measures"):
        frames = [pd.read_parquet(getattr(files, name)) for files in (found, expected)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


def assert_tidy(files: ScoreFiles) -> None:
    """Only the results and what reproduces them are left: no units, no temporary files."""
    allowed = {"config.json", "samples.parquet", "plan.json"}
    tables = {f"{name}.parquet" for name in ("encoded", "scores", "draws", "probes", "tokens", "measures")}
    results = tables | {"hidden_states.npy", "summary.json"}
    assert results <= {path.name for path in files.directory.iterdir()} <= allowed | results


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.005)


def claims(files: ScoreFiles) -> dict[Path, ProcessIdentity]:
    """Return the claims of a run whose holders have written their names, with them."""
    leases = map(Lease, files.units.glob("*.claim"))
    return {lease.path: holder for lease in leases if (holder := lease.holder)}


def unit_of(claim: Path) -> Path:
    return claim.with_name(f"{claim.name.partition('.')[0]}.npz")


def owners(files: ScoreFiles) -> set[int]:
    return {holder.pid for holder in claims(files).values()}


def units_in(files: ScoreFiles) -> int:
    return len(list(files.units.glob("*.npz")))


# Killed, helped, cancelled


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process and those it starts a data root of their own."""
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)


def started(*arguments: str) -> subprocess.Popen[bytes]:
    """Start `mrd-lens …`."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(process(*arguments), cwd=REPOSITORY, **quiet)


def kill_at_random(process: subprocess.Popen[bytes], files: ScoreFiles, chance: random.Random) -> None:
    """Kill -9 a worker at a random moment between its first plan and its last unit."""
    before = units_in(files) if files.units.exists() else 0
    until(lambda: files.units.exists() and units_in(files) > before + chance.randint(0, 3), "the worker draws")
    time.sleep(chance.uniform(0.0, 0.05))
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.long
def test_a_worker_killed_three_times_and_resumed_ends_on_the_same_bits(config_of, undisturbed, tmp_path):
    files, chance = ScoreFiles(tmp_path / "run"), random.Random(SEED)
    files.directory.mkdir()
    write_config(files.directory, config_of(**STEADY))
    kill_at_random(started("run", str(files.directory)), files, chance)
    store = RunStore.open()
    (run,) = store.list()
    for _ in range(2):
        kill_at_random(started("runs", "resume", run.id), files, chance)
    assert 0 < units_in(files) < STEADY["draws"] / 2
    assert [gone.id for gone in lost(store)] == [run.id]
    assert worker.run(store.resume(run.id).directory) is RunState.SUCCEEDED
    assert store.get(run.id).attempt == 4
    assert_same_bits(files, undisturbed)
    assert_tidy(files)


class AwaitsHelper(Told):
    """A context that lets the leading process draw only once a helper has drawn; notes who drew."""

    def event(self, level: str, message: str) -> None:
        super().event(level, message)
        until(lambda: ScoreFiles(self.directory).unit(UnitKey("pair", 1)).exists(), "a helper draws")

    def metrics(self, step: int, **values: float) -> None:  # noqa: ARG002
        self.drew = owners(ScoreFiles(self.directory))


def test_two_workers_share_the_draws_and_end_on_the_bits_of_one(config_of, undisturbed, tmp_path):
    context = AwaitsHelper(tmp_path)
    carry_out(config_of(**STEADY | {"workers": 2}), context)
    assert len(context.drew) == 2
    assert os.getpid() in context.drew
    assert_same_bits(ScoreFiles(tmp_path), undisturbed)


class KillsHelper(Told):
    """A context that kills the helper in the middle of a unit, before the leading process draws."""

    killed: int | None = None

    def event(self, level: str, message: str) -> None:
        super().event(level, message)
        while self.killed is None:
            self._try_to_kill()

    def _try_to_kill(self) -> None:
        files = ScoreFiles(self.directory)
        until(lambda: owners(files), "a helper draws")
        (helper,) = owners(files)
        os.kill(helper, signal.SIGSTOP)
        # Stopped between two units it holds nothing: then it goes on for a moment.
        in_the_middle = any(not unit_of(claim).exists() for claim in claims(files))
        os.kill(helper, signal.SIGKILL if in_the_middle else signal.SIGCONT)
        self.killed = helper if in_the_middle else None


def test_the_unit_of_a_killed_helper_is_drawn_again_and_the_bits_are_the_same(config_of, undisturbed, tmp_path):
    context = KillsHelper(tmp_path)
    carry_out(config_of(**STEADY | {"workers": 2}), context)
    assert context.killed
    assert_same_bits(ScoreFiles(tmp_path), undisturbed)
    assert_tidy(ScoreFiles(tmp_path))


def test_a_helper_ends_by_itself_when_the_leading_process_is_killed(config_of, tmp_path):
    files = ScoreFiles(tmp_path / "run")
    files.directory.mkdir()
    write_config(files.directory, config_of(**STEADY | {"workers": 2, "draws": 20_000}))
    leader = started("run", str(files.directory))
    until(lambda: files.units.exists() and owners(files) - {leader.pid}, "a helper draws")
    (helper,) = [psutil.Process(pid) for pid in owners(files) - {leader.pid}]
    leader.kill()
    leader.wait()
    helper.wait(timeout=PATIENCE)


@pytest.mark.parametrize(("look", "planned"), [(5, False), (100, False), (600, True)])
def test_a_run_cancelled_between_batches_goes_on_to_the_same_bits(config_of, undisturbed, tmp_path, look, planned):
    config, files = config_of(**STEADY), ScoreFiles(tmp_path)
    with pytest.raises(Cancelled):
        carry_out(config, StopsAt(tmp_path).stop_at(look))
    assert (files.plan.exists(), files.summary.exists()) == (planned, False)
    carry_out(config, Told(tmp_path))
    assert_same_bits(files, undisturbed)
    assert_tidy(files)


def test_a_run_killed_right_after_its_summary_is_tidied_when_it_resumes(scored, config_of):
    files = scored(draws=4).files
    files.units.mkdir()
    files.claim(UnitKey("pair", 0)).touch()
    files.baseline.touch()
    (files.directory / ".scores.parquet.123.tmp").touch()
    carry_out(config_of(draws=4), Told(files.directory))
    assert_tidy(files)


class KilledAfterMeasuring(Told):
    """A context of a process that dies as soon as the other measures are written."""

    def progress(self, done: int, total: int, **extra: Any) -> None:  # noqa: ARG002
        if extra.get("message") == "Timing the bare model":
            assert ScoreFiles(self.directory).measures.exists()
            raise KeyboardInterrupt


class Counted(Told):
    """A context that keeps what a progress bar shows."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.told: list[tuple[str, int, int, int | None]] = []

    def progress(self, done: int, total: int, *, likely: int | None = None, **extra: Any) -> None:
        self.told.append((extra["message"], done, total, likely))


@pytest.mark.parametrize("probes", [True, False])
def test_the_total_of_a_run_never_grows_and_ends_as_what_it_took(config_of, tmp_path, probes):
    context = Counted(tmp_path)
    wishes = {"median_relative_se": 0.35, "p90_relative_se": 2.0, "stop": "precision"}
    summary = carry_out(config_of(draws=64, sigma=1e-2, probes=probes, time_floor=True, **wishes), context).summary
    assert summary["stopped_early"]
    drawn = [counts for message, *counts in context.told if message == "Drawing"]
    totals = [total for _, total, _ in drawn]
    assert totals[0] == 64
    assert totals == sorted(totals, reverse=True)
    assert all(likely <= total for _, total, likely in drawn)
    assert [done for done, *_ in drawn] == sorted(done for done, *_ in drawn)
    taken = round(summary["passes"])
    assert drawn[-1][0] == taken
    after = [counts for message, *counts in context.told if message in ("Measuring", "Timing the bare model")]
    assert after == [[taken, taken, None]] * 2


def test_what_was_measured_before_a_kill_is_not_measured_again(config_of, tmp_path):
    config, files = config_of(draws=4, sigma=1e-2, time_floor=True), ScoreFiles(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        carry_out(config, KilledAfterMeasuring(tmp_path))
    assert not files.summary.exists()
    written = files.measures.stat().st_mtime_ns, files.measures.read_bytes()
    summary = carry_out(config, Told(tmp_path)).summary
    assert (files.measures.stat().st_mtime_ns, files.measures.read_bytes()) == written
    assert 0 <= summary["seconds_measures"] < summary["seconds"]
    assert_tidy(files)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_samples_are_measured_in_the_precision_of_the_draws(scored, dtype):
    result = scored(draws=4, sigma=4e-2, dtype=dtype)
    measured = pd.read_parquet(result.files.measures)
    off = (measured["nll"] + result.scores["mean_log_prob_answer"]).abs().max()
    assert (off < 1e-9) == (dtype == "float64")
    assert np.isfinite(measured["gradient_norm"]).all()


def test_a_finished_run_is_not_scored_again(scored, config_of):
    first = scored(draws=4)
    assert carry_out(config_of(draws=6), Told(first.files.directory)).summary == first.summary


# When to stop


@pytest.mark.parametrize(
    ("wishes", "evaluations", "stopped_early"),
    [
        ({"median_relative_se": 1e3, "p90_relative_se": 1e3}, 8, True),
        ({"median_relative_se": 1e3, "p90_relative_se": 1e3, "probes": False}, 16, True),
        ({"median_relative_se": 1e3, "p90_relative_se": 1e-9}, 32, False),
        ({"stop": "reliability", "reliability": 0.01}, 8, True),
        ({"stop": "reliability", "reliability": 0.9999}, 32, False),
        ({"stop": "never", "median_relative_se": 1e3, "p90_relative_se": 1e3}, 32, False),
        ({"stop": "never", "draws": 7}, 6, False),
        ({"stop": "never", "draws": 7, "mode": "plain"}, 7, False),
    ],
)
def test_a_run_stops_at_its_target_or_at_its_cap(scored, wishes, evaluations, stopped_early):
    result = scored(**{"draws": 32, "sigma": 1e-2} | wishes)
    assert (result.summary["evaluations"], result.summary["stopped_early"]) == (evaluations, stopped_early)
    draws = pd.read_parquet(result.files.draws)
    assert draws["evaluation"].nunique() == evaluations


def test_a_run_that_ends_at_its_cap_says_that_it_missed_the_target(scored):
    (warning,) = [text for text in scored(draws=16, sigma=1e-2).summary["warnings"] if "cap" in text]
    assert "The cap of 16 evaluations was reached before the target (median relative SE 0.03" in warning


# Precision


@pytest.mark.parametrize(("reliability", "words"), [(0.945, {"values"}), (0.5, {"values", "reliability"})])
def test_words_on_the_ranking_follow_reliability_and_words_on_values_their_error(reliability, words):
    summary = ScoreSummary(
        median_relative_se=0.31,
        reliability_mean=reliability,
        gate={"passed": True},
        stopped_early=True,
        evaluations=16,
        tokens=10,
        model_parameters=5,
    )
    warnings = warnings_of(summary, EstimatorConfig())
    assert len(warnings) == len(words)
    assert "the values of single samples are mostly noise" in warnings[0]
    assert not any("ranking is mostly noise" in warning for warning in warnings)


def test_samples_that_the_model_does_not_know_are_counted_and_told_of(scored):
    result = scored(draws=16)
    known = pd.read_parquet(result.files.measures)["exact_memorization"]
    unknown = int((known < 0.5).sum())
    assert 0 < unknown == result.summary["unknown_samples"]
    (warning,) = [text for text in result.summary["warnings"] if "not known" in text]
    assert warning.startswith(f"{unknown} of {len(known)} samples are not known")


def test_the_paper_preset_reports_its_own_unreliability_instead_of_refusing(scored):
    result = scored(paper=True, draws=24)
    assert (result.summary["sigma"], result.summary["dtype"], result.summary["mode"]) == (1e-5, "float32", "plain")
    assert not result.summary["gate"]["passed"]
    assert result.summary["median_relative_se"] > 0.3
    assert any("precision gate was not passed" in text for text in result.summary["warnings"])
    assert any("mostly noise" in text for text in result.summary["warnings"])
    assert any(event.startswith("warning: Precision gate not passed") for event in result.events)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sigma_that_the_asked_dtype_cannot_resolve_is_refused_and_one_that_it_can_is_named(scored, dtype):
    with pytest.raises(UserError) as refusal:
        scored(dtype=dtype, sigma=1e-5)
    assert refusal.value.what == f"σ = 1e-05 in {dtype}"
    assert "σ = 1e-05" in refusal.value.why or "rounding floor" in refusal.value.why
    assert "--dtype auto" in refusal.value.fix
    enough = float(refusal.value.fix.split("(from ")[1].split(")")[0])
    assert enough > 1e-5
    assert scored(dtype=dtype, sigma=enough, draws=4).summary["gate"]["passed"]


def test_a_sigma_that_rounding_swallows_in_a_tenth_of_the_samples_is_refused(scored):
    # Of the median sample the expected MRD is about 40 times the floor, in the worst decile about 5 times.
    with pytest.raises(UserError) as refusal:
        scored(dtype="float32", sigma=1.8e-4)
    assert "in the worst decile of samples the expected MRD is" in refusal.value.why
    enough = float(refusal.value.fix.split("(from ")[1].split(")")[0])
    assert scored(dtype="float32", sigma=enough, draws=4).summary["gate"]["worst_decile"] >= 10


def test_with_dtype_auto_a_run_moves_to_the_dtype_that_resolves_sigma_and_says_so(scored):
    result = scored(sigma=1e-5, draws=16)
    assert result.summary["dtype"] == "float64"
    assert result.summary["gate"]["passed"]
    assert any("float32 is too coarse" in event and "Moving to float64" in event for event in result.events)
    assert "float64" in result.summary["reasons"]["dtype"]


# What comes in


def test_samples_other_than_those_of_the_launch_are_refused(config_of, tmp_path):
    config = config_of().model_copy(update={"forget_set_digest": "0" * 64})
    with pytest.raises(UserError, match="digest differs"):
        carry_out(config, Told(tmp_path))


def test_long_samples_are_cut_flagged_and_counted(scored, tmp_path):
    long_answer = {"question": "Who?", "answer": "Ann wrote " * CONTEXT}
    long_prompt = {"question": "Who wrote it? " * CONTEXT, "answer": "Ann"}
    result = scored(forget_set=write_rows(tmp_path / "long.jsonl", [*rows(6), long_answer, long_prompt]), draws=4)
    assert result.scores["truncated"].tolist() == [False] * 6 + [True, False]
    assert result.scores["mrd"].notna().all()
    assert (result.summary["truncated_samples"], result.summary["undefined_samples"]) == (1, 0)
    assert "1 sample(s) are longer than the model's context and were cut." in result.summary["warnings"]
    assert any(
        warning.startswith("2 of 8 samples had the beginning of the prompt cut off")
        for warning in result.summary["warnings"]
    )


def test_samples_without_a_token_that_could_be_scored_are_undefined(scored, tmp_path):
    texts = [{"text": text} for text in ("Ann wrote the old letter", "e", "Who wrote it", "</s>", "late letters")]
    result = scored(forget_set=write_rows(tmp_path / "short.jsonl", texts), draws=4)
    assert result.scores["mrd"].isna().tolist() == [False, True, False, True, False]
    assert "2 sample(s) have no token that could be scored." in result.summary["warnings"]


def test_a_forget_set_of_which_nothing_can_be_scored_is_refused(scored, tmp_path):
    no_room = [{"text": text} for text in ("e", "a", "</s>")]
    with pytest.raises(UserError, match="no token in scope that could be scored"):
        scored(forget_set=write_rows(tmp_path / "none.jsonl", no_room))


def test_one_sample_alone_is_scored_with_an_undefined_reliability(scored, tmp_path):
    result = scored(forget_set=write_rows(tmp_path / "one.jsonl", rows(1)), draws=16)
    assert np.isfinite(result.scores.loc[0, ["mrd", "mrd_se"]].astype(float)).all()
    assert (result.summary["n_samples"], result.summary["reliability_mean"]) == (1, None)


def test_sign_probes_of_prompts_are_paid_for_too(scored):
    answer, full = (scored(draws=8, stop="never", sigma=1e-3, scope=scope) for scope in Scope)
    costs = [result.files.read_plan().probe_cost for result in (answer, full)]
    # A forward pass, and of each scope two backward passes with their norms.
    assert costs[1] - 1 == pytest.approx(2 * (costs[0] - 1), abs=0.02)
    assert [result.summary["passes"] for result in (answer, full)] == pytest.approx([8 + cost for cost in costs])


# What comes out


def test_the_summary_is_plain_json_even_where_figures_are_undefined(scored):
    result = scored(draws=4, dtype="float64")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the summary")

    text = result.files.summary.read_text(encoding="utf-8")
    summary = json.loads(text, parse_constant=refuse)
    assert summary["reliability_mean"] is None
    assert summary["gate"]["signal_to_floor"] is None
    assert result.files.read_plan().gate["signal_to_floor"] is None


def test_scores_have_a_row_for_each_sample_in_the_order_of_the_forget_set(undisturbed):
    scores, samples = pd.read_parquet(undisturbed.scores), pd.read_parquet(undisturbed.samples)
    assert scores["sample_id"].tolist() == samples["sample_id"].tolist()
    asked = ["mrd", "mrd_signed", "mrd_se", "mrd_low", "mrd_high", "n_tokens", "mean_log_prob"]
    assert np.isfinite(scores[asked]).all(axis=None)
    assert (scores["mrd_low"] <= scores["mrd"]).all()
    assert (scores["mrd"] <= scores["mrd_high"]).all()


def test_the_pieces_of_the_tokens_join_to_the_text_of_each_sample(undisturbed):
    tokens, samples = pd.read_parquet(undisturbed.tokens), pd.read_parquet(undisturbed.samples)
    joined = tokens.groupby("sample_id", sort=False)["piece"].agg("".join)
    texts = "Question: " + samples["prompt"] + "\nAnswer: " + samples["answer"] + "</s>"
    assert joined.tolist() == texts.tolist()
    assert (tokens["position"] == tokens.groupby("sample_id").cumcount()).all()


def test_the_tokens_of_the_answer_add_up_to_the_score(undisturbed):
    tokens, scores = pd.read_parquet(undisturbed.tokens), pd.read_parquet(undisturbed.scores)
    answer = tokens[tokens["in_answer"] & ~tokens["excluded"]]
    added = answer.groupby("sample_id")["relative_change"].sum()
    expected = scores.set_index("sample_id").eval("mrd_signed * (n_tokens - excluded_tokens)")
    # The score's speed is of the probes, that of the tokens is of the pairs.
    error = scores.set_index("sample_id").eval("mrd_se * (n_tokens - excluded_tokens)")
    assert (np.abs(added[expected.index] - expected) < 10 * error).all()
    drawn = pd.read_parquet(undisturbed.draws).groupby("sample_id")["relative_answer"].mean()
    np.testing.assert_allclose(added[drawn.index], drawn, rtol=1e-5, atol=1e-12)
    log_prob = answer.groupby("sample_id")["log_prob"].mean()[expected.index]
    np.testing.assert_allclose(log_prob, scores["mean_log_prob"], rtol=1e-12)


def test_scope_and_normalisation_choose_among_the_variants(scored):
    result = scored(draws=4, sigma=1e-2, scope=Scope.FULL, normalisation="sum")
    pd.testing.assert_series_equal(result.scores["mrd"], result.scores["mrd_full_sum"], check_names=False)
    assert (result.scores["n_tokens"] > scored(draws=4, sigma=1e-2).scores["n_tokens"]).all()


# With a real model


@pytest.mark.long
def test_real_samples_on_a_real_model_reach_the_precision_target(trial_data, tmp_path):
    lines = (trial_data / "data/tofu/forget10.jsonl").read_text(encoding="utf-8").splitlines()
    forget_set = tmp_path / "forget.jsonl"
    forget_set.write_text("\n".join(lines[::14]), encoding="utf-8")
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(forget_set)),
        model=ModelConfig(source=str(trial_data / "models/tofu-full")),
        estimator=EstimatorConfig(workers=1),
    )
    summary = carry_out(config, Told(tmp_path)).summary
    assert summary["median_relative_se"] <= 0.03
    assert summary["reliability_sum"] >= 0.99
    assert summary["warnings"] == []


@pytest.mark.long
def test_a_compiled_model_draws_the_same_scores(config_of, tmp_path):
    wishes = {"draws": 8, "sigma": 1e-2, "stop": "never"}
    plain, compiled = (
        carry_out(config_of(compile=compiles, **wishes), Told(made(tmp_path / str(compiles))))
        for compiles in (False, True)
    )
    assert "info: compilation: the model's body, as asked" in compiled.events
    for column in ("mrd_answer_mean", "mrd_answer_sum"):
        np.testing.assert_allclose(compiled.scores[column], plain.scores[column], rtol=1e-3)


@pytest.mark.long
def test_a_model_that_cannot_be_compiled_is_drawn_from_as_it_is(config_of, tmp_path, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/no/such/compiler",))
    result = carry_out(config_of(draws=4, sigma=1e-2, compile=True), Told(made(tmp_path / "run")))
    [warning] = [event for event in result.events if event.startswith("warning: The model is not compiled: ")]
    assert "compiler" in warning
    assert not result.files.read_plan().compiled


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory
