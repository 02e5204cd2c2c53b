"""The Unlearning page in every state of its runs: form, presets, live charts, results, comparison."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis import difficulty
from analysis.difficulty import ScoredRun
from analysis.unlearning import runs as unlearning
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Metric, Run, RunError, RunState, RunStore, SampleUpdate, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples import ForgetSet, save_stratum, saved_strata
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.fields import help_of
from mrd_core.unlearning.command import UNLEARN
from mrd_core.unlearning.config import (
    CurriculumConfig,
    EvaluationDuringConfig,
    OptimiserConfig,
    RetainConfig,
    StoppingConfig,
    UnlearnConfig,
)
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.sampling import ENTANGLED, SAMPLERS
from mrd_core.unlearning.stopping import Limits
from pages.parts.unlearning.presets import PRESETS, configs
from pages.parts.unlearning.result import heat_map
from pages.parts.unlearning.settings import DEMO_RATE, FORM
from tests.app.conftest import (
    Home,
    adopted,
    button,
    ended,
    finish,
    go,
    numbers,
    quick_config,
    scored,
    settings_for,
    sound,
    submitted,
    texts,
    texts_in,
    write_demo_rows,
)
from tests.support.commands import read_back, taken_apart

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]
STUDY = "SGA against CGA, by hand"
DEMO = RetainConfig(samples=ForgetSetConfig(source="demo"))
key_of = FORM.key_of
LEARNING_RATE = key_of(OptimiserConfig, "learning_rate")


@dataclass(frozen=True)
class Unlearned(Home):
    """A data root with a score run and two finished unlearning runs of one study."""

    uniform: Run
    weighted: Run


def config_for(run: Run, sampler: str = "uniform", **changes: Any) -> UnlearnConfig:
    """Return a run of gradient ascent that forgets everything in a few steps."""
    settings: dict[str, Any] = {
        "score_run": run.directory,
        "model": ModelConfig(),
        "method": "ga",
        "retain": DEMO,
        "curriculum": CurriculumConfig(sampler=sampler),
        "optimiser": OptimiserConfig(learning_rate=1e-3),
        "stopping": StoppingConfig(probe_steps=2, probe_samples=4),
        "answers": 4,
    }
    return UnlearnConfig(**(settings | changes))


def queued(home: Home, sampler: str = "uniform", **changes: Any) -> Run:
    """Submit an unlearning run that nobody carries out."""
    config = config_for(home.run, sampler, **changes)
    return submit(config, store=home.store, settings=settings_for(home.path))


@pytest.fixture(scope="session")
def unlearned(finished: Home, tmp_path_factory: pytest.TempPathFactory) -> Unlearned:
    """Two runs of the real job, the weighted one evaluated on the way; for tests that only read."""
    path = tmp_path_factory.mktemp("unlearned")
    store = RunStore.open(settings_for(path))
    home = Home(path, store, adopted(store, finished.run))
    evaluation = EvaluationDuringConfig(every_steps=4, samples=3, max_new_tokens=8)
    runs = [queued(home, study=STUDY), queued(home, "mrd", study=STUDY, evaluation=evaluation)]
    for run in runs:
        assert worker.run(run.directory, store=store) is RunState.SUCCEEDED
    return Unlearned(path, store, home.run, *(store.get(run.id) for run in runs))


def opened(app: Open, home: Home, *runs: Run, **query: str) -> AppTest:
    looked_at = {"unlearn": ",".join(run.id for run in runs)} if runs else {}
    return app(home.path, "unlearning", run=home.run.id, **looked_at, **query)


def view(test: AppTest, name: str) -> AppTest:
    test.segmented_control(key="unlearn_view").set_value(name).run()
    return sound(test)


def shown_config(test: AppTest) -> UnlearnConfig:
    """Return the config.json that the form shows."""
    return UnlearnConfig.model_validate_json(next(code.value for code in test.code if code.language == "json"))


def figures_of(test: AppTest) -> dict[str, Any]:
    """Return the figures of the page by title."""
    specs = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    return {spec["layout"]["title"]["text"]: spec for spec in specs}


def keys_of(test: AppTest) -> set[str]:
    return {found.key or "" for found in test.button}


def running(home: Home, run: Run, **progress: Any) -> None:
    """Have this process take up a queued run."""
    home.store.claim(run, ProcessIdentity.current())
    home.store.transition(run.id, RunState.STARTING, expected=RunState.QUEUED)
    home.store.transition(run.id, RunState.RUNNING, expected=RunState.STARTING)
    home.store.set_progress(run.id, {"message": "Unlearning", "done": 2, "total": 8} | progress)


def report(home: Home, run: Run, steps: range, nll: float = 0.5) -> None:
    """Write what a run would report of some steps, one sample each."""
    samples = pd.read_parquet(UnlearningFiles(run.directory).curriculum)["sample_id"]
    metrics = [
        Metric(step, name, value)
        for step in steps
        for name, value in (("forget_nll", nll), ("updates", step), ("forgotten", 0), ("accuracy", 0.9))
    ]
    draws = [SampleUpdate(step, samples[step], 0.9, True, False) for step in steps]
    home.store.add_steps(run.id, metrics, draws)


def test_without_a_run_there_is_one_sentence_and_the_way_to_difficulty(app: Open, tmp_path: Path) -> None:
    test = app(tmp_path, "unlearning")
    assert "None is scored yet." in texts(test)
    button(test, "Score one").click().run()
    assert sound(test).title[0].value == "Difficulty"


def test_an_unfinished_score_run_comes_first(app: Open, tmp_path: Path) -> None:
    store = RunStore.open(settings_for(tmp_path))
    run = submitted(store, tmp_path, quick_config(write_demo_rows(tmp_path / "forget.jsonl", 3)))
    test = app(tmp_path, "unlearning", run=run.id)
    assert "This score run is queued; unlearning comes after it." in texts(test)
    button(test, "Look at the run").click().run()
    assert (sound(test).title[0].value, test.query_params["run"]) == ("Difficulty", run.id)


def test_a_finished_score_run_leads_to_the_form(app: Open, own: Home) -> None:
    test = app(own.path, "difficulty", run=own.run.id)
    test.button(key="to_unlearning").click().run()
    assert sound(test).title[0].value == "Unlearning"
    assert test.button(key="unlearn_launch")


def test_the_verdict_bar_says_what_the_form_will_cost(app: Open, own: Home) -> None:
    test = opened(app, own)
    (time,) = re.findall(r"Estimated cost: about \*\*(.+?)\*\*", texts(sound(test)))
    steps = [link.proto.label for link in test.get("page_link")]
    assert f"Unlearn, about {time}\u00a0→" in steps
    assert any(re.fullmatch(r"Find out, about \d+ (s|min)\u00a0→", step) for step in steps)
    # Nobody has read texts here yet, so nobody knows how long that takes.
    assert "Read the texts\u00a0→" in steps


def test_the_form_begins_with_the_defaults_and_the_demo_to_retain(app: Open, own: Home) -> None:
    test = opened(app, own)
    rate = OptimiserConfig(learning_rate=float(DEMO_RATE))
    expected = UnlearnConfig(score_run=own.run.directory, model=ModelConfig(), retain=DEMO, optimiser=rate)
    assert shown_config(test) == expected
    assert METHODS["graddiff"].formula in test.latex[0].value
    assert "Estimated cost: about" in texts(test)
    command = next(code.value for code in test.code if code.language == "bash")
    assert taken_apart(command)[1] == shlex.split(UNLEARN.shown(expected))[1:]


def test_every_method_shows_its_formula_and_its_parameters(app: Open, own: Home) -> None:
    test = opened(app, own)
    for name, method in METHODS.items():
        test.selectbox(key=key_of(UnlearnConfig, "method")).set_value(name).run()
        assert method.formula in sound(test).latex[0].value
        assert method.source in texts(test)
        keys = {widget.key for widget in (*test.number_input, *test.selectbox)}
        assert {f"unlearn_{name}_{known.name}" for known in method.parameters} <= keys
        assert shown_config(test).parameters == {}


def test_every_sampler_can_be_chosen(app: Open, own: Home) -> None:
    test = opened(app, own)
    for name, sampler in SAMPLERS.items():
        test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value(name).run()
        assert sampler.help in texts(sound(test))
        if name in ENTANGLED:
            (fix,) = [text.value for text in test.text if " columns entanglement " in text.value]
            environment, words = taken_apart(fix.partition("Measure it: ")[2])
            assert environment == {"MRD_HOME": str(own.path)}
            assert words[:3] == ["columns", "entanglement", str(own.run.directory)]
        else:
            assert shown_config(test).curriculum.sampler == name


def test_nearly_uniform_probabilities_are_told(app: Open, own: Home) -> None:
    scores = pd.read_parquet(ScoreFiles(own.run.directory).scores)
    test = opened(app, own)
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("mrd").run()
    for column in ("mrd_answer_mean", "mrd_answer_sum"):
        test.selectbox(key=f"{key_of(CurriculumConfig, 'column')}_mrd").set_value(column).run()
        p = scores[column] / scores[column].sum()
        share = 1 / np.square(p).sum() / len(p)
        assert f"Effective sample size **{share:.0%}** of 24 samples." in texts(sound(test))
        assert ("nearly uniform" in texts(test)) == (share >= 0.95)


def test_a_selection_goes_straight_to_unlearning_and_all_samples_do_again(app: Open, own: Home) -> None:
    test = app(own.path, "difficulty", run=own.run.id)
    some = set(ForgetSet.load(ScoreFiles(own.run.directory).samples).frame["sample_id"][:7])
    test.session_state["box"], test.session_state["box_label"] = some, "from the map"
    test.run()
    assert test.button(key="to_unlearning").label == "Unlearn these 7"
    test.button(key="to_unlearning").click().run()
    (stratum,) = saved_strata(own.run.directory).values()
    assert set(pd.read_parquet(stratum)["sample_id"]) == some
    assert shown_config(sound(test)).stratum == stratum
    # The same samples are kept once; without a selection it is all of them.
    go(test, "difficulty").button(key="to_unlearning").click().run()
    assert len(saved_strata(own.run.directory)) == 1
    # Its texts go with the run.
    assert not saved_strata(own.path)
    go(test, "difficulty").button(key="clear_box").click().run()
    test.button(key="to_unlearning").click().run()
    assert shown_config(sound(test)).stratum is None


def with_scores(own: Home, **columns: Any) -> None:
    """Give the samples of the run other scores; the runs that build on it read the file."""
    files = ScoreFiles(own.run.directory)
    pd.read_parquet(files.scores).assign(**columns).to_parquet(files.scores)


def test_where_weights_hardly_differ_one_click_takes_those_that_do(app: Open, own: Home) -> None:
    spread = np.linspace(1, 3, 24)
    with_scores(own, mrd_answer_mean=np.linspace(1.0, 1.1, 24), mrd_answer_sum=spread)
    test = opened(app, own)
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("mrd").run()
    column = f"{key_of(CurriculumConfig, 'column')}_mrd"
    assert test.selectbox(key=column).value == "mrd_answer_mean"
    assert "nearly uniform" in texts(sound(test))
    share = spread.sum() ** 2 / np.square(spread).sum() / 24
    assert test.button(key="unlearn_take_column").label.endswith(f": {share:.0%}")
    test.button(key="unlearn_take_column").click().run()
    assert test.selectbox(key=column).value == "mrd_answer_sum"
    assert shown_config(test).curriculum.column == "mrd_answer_sum"
    assert "nearly uniform" not in texts(sound(test))


def test_a_comparison_of_orders_begins_so_that_it_can_show_something(app: Open, own: Home) -> None:
    with_scores(own, mrd_answer_mean=np.linspace(1.0, 1.1, 24), mrd_answer_sum=np.linspace(1, 3, 24))
    test = opened(app, own)
    test.segmented_control(key="unlearn_preset").set_value("SGA against CGA").run()
    assert "Estimated cost of 6 runs, one after the other" in texts(sound(test))
    assert shown_config(test).curriculum.column == "mrd_answer_sum"
    assert "nearly uniform" not in texts(test)


def test_where_no_weights_differ_there_is_no_button(app: Open, own: Home) -> None:
    with_scores(own, mrd_answer_mean=np.linspace(1.0, 1.1, 24), mrd_answer_sum=np.linspace(1.0, 1.1, 24))
    test = opened(app, own)
    test.segmented_control(key="unlearn_preset").set_value("SGA against CGA").run()
    assert "nearly uniform" in texts(sound(test))
    assert not [found for found in test.button if found.key == "unlearn_take_column"]


def test_what_was_set_is_what_is_launched(app: Open, own: Home, no_worker_left: None) -> None:  # noqa: ARG001
    test = opened(app, own)
    test.selectbox(key=key_of(UnlearnConfig, "method")).set_value("npo").run()
    test.number_input(key="unlearn_npo_beta").set_value(0.5)
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("easy-to-hard")
    test.text_input(key=LEARNING_RATE).set_value("0.0002")
    test.number_input(key=key_of(OptimiserConfig, "lora_rank")).set_value(4)
    test.number_input(key="unlearn_Limits_max_seconds").set_value(2.0)
    test.number_input(key=key_of(UnlearnConfig, "seed")).set_value(7).run()
    config = shown_config(sound(test))
    assert (config.method, config.parameters, config.seed) == ("npo", {"beta": 0.5}, 7)
    assert (config.optimiser.learning_rate, config.optimiser.lora_rank) == (0.0002, 4)
    assert (config.curriculum.sampler, config.limits.max_seconds) == ("easy-to-hard", 120.0)
    test.button(key="unlearn_launch").click().run()
    (run,) = own.store.list(kinds=("unlearn",), score_run=own.run)
    assert read_config(run.directory, UnlearnConfig) == config
    assert sound(test).query_params["unlearn"] == run.id
    assert test.segmented_control(key="unlearn_view").value == "Progress"


def test_the_shown_command_does_what_the_form_says(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.selectbox(key=key_of(UnlearnConfig, "method")).set_value("satimp").run()
    test.number_input(key="unlearn_satimp_beta1").set_value(2.5)
    test.selectbox(key="unlearn_satimp_granularity").set_value("instance")
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("mrd").run()
    test.selectbox(key=f"{key_of(CurriculumConfig, 'column')}_mrd").set_value("mrd_answer_sum")
    test.toggle(key=key_of(CurriculumConfig, "drop_forgotten")).set_value(False)
    test.number_input(key=key_of(RetainConfig, "weight")).set_value(0.25)
    test.selectbox(key=key_of(RetainConfig, "term")).set_value("kl")
    test.toggle(key=key_of(StoppingConfig, "extraction")).set_value(True)
    test.number_input(key="unlearn_Limits_max_steps").set_value(30)
    assert "Evaluating" not in texts(test)
    test.number_input(key=key_of(EvaluationDuringConfig, "every_steps")).set_value(10)
    test.number_input(key=key_of(EvaluationDuringConfig, "samples")).set_value(6)
    test.text_input(key=LEARNING_RATE).set_value("0.0002")
    test.number_input(key=key_of(UnlearnConfig, "seed")).set_value(11).run()
    shown = shown_config(sound(test))
    assert (shown.method, shown.retain.term, shown.curriculum.drop_forgotten) == ("satimp", "kl", False)
    assert shown.evaluation == EvaluationDuringConfig(every_steps=10, samples=6)
    assert "Evaluating 4 times takes" in texts(test)
    config = read_back(next(code.value for code in test.code if code.language == "bash"))
    # On the command line they are words still.
    assert parsed(METHODS["satimp"], config.parameters) == parsed(METHODS["satimp"], shown.parameters)
    assert config.model_copy(update={"parameters": shown.parameters}) == shown


def test_one_click_forgets_and_the_page_picks_up_the_result(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.selectbox(key=key_of(UnlearnConfig, "method")).set_value("ga").run()
    test.text_input(key=LEARNING_RATE).set_value("0.001").run()
    test.button(key="unlearn_launch").click().run()
    (run,) = own.store.list(kinds=("unlearn",), score_run=own.run)
    assert finish(own.store, run.id) is RunState.SUCCEEDED
    test.run()
    button(sound(test), "Result").click().run()
    assert "Before and after" in texts(sound(test))


def test_a_preset_queues_all_its_runs_with_shared_seeds(app: Open, own: Home, no_worker_left: None) -> None:  # noqa: ARG001
    test = opened(app, own)
    test.segmented_control(key="unlearn_preset").set_value("SGA against CGA").run()
    test.number_input(key="unlearn_seeds").set_value(2).run()
    assert "Estimated cost of 4 runs, one after the other" in texts(sound(test))
    test.button(key="unlearn_launch").click().run()
    runs = own.store.list(kinds=("unlearn",), score_run=own.run)
    launched = [read_config(run.directory, UnlearnConfig) for run in reversed(runs)]
    assert [(config.seed, config.label) for config in launched] == [
        (0, "GA"),
        (0, "GA + MRD"),
        (1, "GA"),
        (1, "GA + MRD"),
    ]
    (study,) = {config.study for config in launched}
    assert study is not None
    assert study.startswith("SGA against CGA")
    assert set(sound(test).query_params["unlearn"].split(",")) == {run.id for run in runs}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_the_runs_of_a_preset_differ_in_nothing_but_method_sampler_and_seed(preset: Any, finished: Home) -> None:
    base = config_for(finished.run, method=preset.methods[0])
    runs = configs(preset, base, [3, 4], "study")
    told_apart = {(run.method, run.curriculum.sampler, run.seed) for run in runs}
    assert len(told_apart) == len(runs) == 2 * len(preset.methods) * len(preset.samplers)
    for run in runs:
        alike = {"method": base.method, "seed": base.seed, "curriculum": base.curriculum}
        assert run.model_copy(update=alike) == base.model_copy(update={"study": "study"})


REFUSED: dict[str, tuple[Callable[[AppTest], Any], str]] = {
    "word for a rate": (
        lambda test: test.text_input(key=LEARNING_RATE).set_value("fast"),
        "optimiser.learning_rate = fast: ",
    ),
    "negative rate": (
        lambda test: test.text_input(key=LEARNING_RATE).set_value("-1"),
        "optimiser.learning_rate = -1.0: ",
    ),
    "no time": (
        lambda test: test.number_input(key="unlearn_Limits_max_seconds").set_value(0.0),
        "limits.max_seconds = 0.0: ",
    ),
    "no retain set": (
        lambda test: test.segmented_control(key="unlearn_retain_set").set_value("None"),
        "The method GradDiff needs a retain set",
    ),
    "unnamed retain set": (
        lambda test: test.segmented_control(key="unlearn_retain_set").set_value("File or folder"),
        "The retain set is not named yet.",
    ),
    "unnamed held-out set": (
        lambda test: test.selectbox(key=key_of(StoppingConfig, "source")).set_value("held-out"),
        "The held-out set is not named yet.",
    ),
    "unnamed reference": (
        lambda test: test.selectbox(key=key_of(StoppingConfig, "source")).set_value("reference"),
        "Thresholds from `reference` need `reference`.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_that_cannot_be_is_named(app: Open, own: Home, case: str) -> None:
    change, reason = REFUSED[case]
    test = opened(app, own)
    change(test).run()
    assert reason in texts(sound(test))
    assert "unlearn_launch" not in keys_of(test)


def test_a_limit_of_steps_takes_the_place_of_the_epochs(app: Open, own: Home) -> None:
    test = opened(app, own)
    assert (shown_config(test).limits.max_epochs, shown_config(test).limits.max_steps) == (20, None)
    test.number_input(key="unlearn_Limits_max_steps").set_value(30).run()
    assert (shown_config(test).limits.max_epochs, shown_config(test).limits.max_steps) == (None, 30)


def test_a_guard_without_a_retain_set_is_refused(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.selectbox(key=key_of(UnlearnConfig, "method")).set_value("ga")
    test.segmented_control(key="unlearn_retain_set").set_value("None").run()
    assert test.button(key="unlearn_launch")
    test.number_input(key="unlearn_Limits_min_retain_accuracy").set_value(0.5).run()
    assert "A utility guard watches the retain set: name one, or leave the guard out." in texts(sound(test))
    assert "unlearn_launch" not in keys_of(test)


def test_a_column_that_cannot_weigh_is_refused(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("column").run()
    test.selectbox(key=f"{key_of(CurriculumConfig, 'column')}_any").set_value("mean_log_prob").run()
    assert "are negative for 24 of 24 samples." in texts(sound(test))


def test_mrd_cannot_be_measured_anew_beside_an_adapter(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("mrd").run()
    test.number_input(key=key_of(CurriculumConfig, "recompute_epochs")).set_value(1)
    test.number_input(key=key_of(OptimiserConfig, "lora_rank")).set_value(4).run()
    assert "MRD cannot be measured anew while a LoRA adapter is trained" in texts(sound(test))


def test_a_retain_set_outside_the_allowed_folders_is_refused(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.segmented_control(key="unlearn_retain_set").set_value("File or folder").run()
    test.text_input(key="unlearn_retain_set_path").set_value(str(own.path.parent)).run()
    assert "lies outside the folders that this app may read" in texts(sound(test))


def test_a_saved_stratum_restricts_what_is_unlearned(app: Open, own: Home) -> None:
    whole = ForgetSet.load(ScoreFiles(own.run.directory).samples)
    path = save_stratum(whole, list(whole.frame["sample_id"])[:5], "five", own.path)
    test = opened(app, own)
    test.selectbox(key=key_of(UnlearnConfig, "stratum")).set_value("five")
    test.selectbox(key=key_of(CurriculumConfig, "sampler")).set_value("mrd").run()
    assert "of 5 samples." in texts(sound(test))
    assert shown_config(test).stratum == path


def test_every_setting_is_explained_in_its_own_words(app: Open, own: Home) -> None:
    test = opened(app, own)
    for key, config, field in (
        (key_of(OptimiserConfig, "batch_size"), OptimiserConfig, "batch_size"),
        (key_of(StoppingConfig, "accuracy"), StoppingConfig, "accuracy"),
        (key_of(UnlearnConfig, "checkpoint_steps"), UnlearnConfig, "checkpoint_steps"),
    ):
        assert test.number_input(key=key).help == help_of(config, field)


def test_a_queued_run_shows_its_place(app: Open, own: Home) -> None:
    run = queued(own)
    own.store.set_progress(run.id, {"message": "waiting: place 2", "place": 2})
    test = opened(app, own, run)
    assert "queued" in texts(test)
    assert test.get("progress")[0].proto.text == "Waiting for cpu: place 2 in the queue"
    assert "The charts begin with the first step." in texts(test)


def test_charts_grow_as_a_run_reports(app: Open, own: Home) -> None:
    run = queued(own)
    running(own, run, eta_seconds=120.0)
    report(own, run, range(1, 3))
    test = opened(app, own, run)
    assert test.get("progress")[0].proto.text == "Unlearning: 2 of about 8 updates, 2 min left"
    assert set(figures_of(test)) == {
        "Forget and retain loss",
        "Memorization",
        "Updates per sample",
        "Samples forgotten",
        "Updates by difficulty",
        "Shares of the draws: expected and so far",
    }
    assert updates_shown(test) == 2
    report(own, run, range(3, 6))
    test.run()
    assert updates_shown(sound(test)) == 5


@pytest.mark.parametrize("term", ["nll", "kl"])
def test_a_retain_term_stands_on_the_axis_of_nll_where_it_is_one(app: Open, own: Home, term: str) -> None:
    run = queued(own, method="graddiff", retain=DEMO.model_copy(update={"term": term}))
    running(own, run)
    report(own, run, range(1, 3))
    own.store.add_steps(run.id, [Metric(step, "retain_loss", 0.25) for step in (1, 2)], [])
    drawn = figures_of(opened(app, own, run))["Forget and retain loss"]["data"]
    terms = [trace for trace in drawn if "retain term" in trace["hovertemplate"]]
    assert len(terms) == (term == "nll")


def updates_shown(test: AppTest) -> int:
    """Return the updates that the chart of the samples counts."""
    subtitle = figures_of(test)["Updates per sample"]["layout"]["title"]["subtitle"]["text"]
    return int(subtitle.partition(" · ")[2].partition(" updates")[0])


def test_steps_that_a_resumed_run_takes_again_count_once(app: Open, own: Home) -> None:
    run = queued(own)
    running(own, run)
    report(own, run, range(1, 5))
    test = opened(app, own, run)
    own.store.forget_steps(run.id, after=2)
    report(own, run, range(3, 4), nll=2.0)
    test.run()
    assert updates_shown(sound(test)) == 3


def test_a_table_lies_beneath_each_chart(app: Open, own: Home, offered: dict[str, Any]) -> None:
    run = queued(own)
    running(own, run)
    report(own, run, range(1, 4))
    test = opened(app, own, run)
    assert not test.dataframe
    test.session_state["unlearn_updates_1_table"] = True
    test.session_state["unlearn_device"] = True
    test.run()
    table = pd.read_csv(io.StringIO(offered["unlearn_updates_1_csv"]()))
    assert list(table["sample_id"]) == list(sound(test).dataframe[0].value["sample_id"])
    assert table["updates"].sum() == 3
    assert {"Learning rate", "Memory"} <= set(figures_of(test))


def test_a_run_is_stopped_and_its_state_told(app: Open, own: Home) -> None:
    run = queued(own)
    running(own, run)
    test = opened(app, own, run)
    test.button(key=f"stop_{run.id}").click().run()
    assert own.store.get(run.id).state is RunState.CANCELLING
    assert "Stopping …" in texts(sound(test))


def test_a_cancelled_run_can_be_resumed(app: Open, own: Home, no_worker_left: None) -> None:  # noqa: ARG001
    run = queued(own)
    assert own.store.request_cancel(run.id) is RunState.CANCELLED
    test = opened(app, own, run)
    assert "Stopped; it can go on from its last checkpoint." in texts(test)
    test.button(key=f"resume_{run.id}").click().run()
    sound(test)
    assert own.store.get(run.id).attempt == 2


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.LOST])
def test_a_run_that_broke_down_shows_cause_and_way_out(app: Open, own: Home, state: RunState) -> None:
    run = queued(own)
    error = RunError("ValueError", "The <b>cause</b> is *this*.", "Do **that** next.", "Traceback: line 1")
    own.store.add_event(run.id, "warning", "*Mind* this.")
    ended(own.store, run, state, error)
    test = opened(app, own, run)
    shown = [text.value for text in test.text]
    assert "GA, seed 0 did not finish: The <b>cause</b> is *this*." in shown
    assert "→ Do **that** next." in shown
    assert "GA, seed 0: ` *Mind* this. `" in test.warning[0].value
    assert test.button(key=f"resume_{run.id}")
    assert not [code for code in test.code if code.value == "Traceback: line 1"]
    test.session_state["unlearn_log"] = True
    test.run()
    assert [code for code in sound(test).code if code.value == "Traceback: line 1"]
    assert "warning: *Mind* this." in texts(test)
    # The words of an exception may quote a sample.
    test.session_state["hide_texts"] = True
    test.run()
    assert "GA, seed 0 did not finish: ValueError (its words are left out)" in texts(sound(test))
    assert "<b>cause</b>" not in texts(test)
    assert not [code for code in test.code if code.value == "Traceback: line 1"]
    assert "warning: *Mind* this." in texts(test)


def test_a_live_run_that_ends_offers_its_result(app: Open, unlearned: Unlearned, own: Home) -> None:
    run = queued(own)
    running(own, run)
    test = opened(app, own, run)
    assert f"stop_{run.id}" in keys_of(test)
    own.store.finish(run.id, RunState.SUCCEEDED, summary=unlearned.uniform.summary)
    test.run()
    assert {f"result_{run.id}", f"stop_{run.id}"} & keys_of(sound(test)) == {f"result_{run.id}"}


def test_several_runs_lie_over_each_other_by_name(app: Open, unlearned: Unlearned) -> None:
    test = view(opened(app, unlearned, unlearned.uniform, unlearned.weighted), "Progress")
    drawn = figures_of(test)
    names = {trace["name"] for trace in drawn["Forget and retain loss"]["data"]}
    assert names == {"GA", "GA + MRD"}
    assert {trace["name"] for trace in drawn["Evaluations on the way"]["data"]} == {"GA + MRD"}
    bars = [drawn[f"Updates per sample: {name}, seed 0"] for name in ("GA", "GA + MRD")]
    assert bars[0]["layout"]["yaxis"]["range"] == bars[1]["layout"]["yaxis"]["range"]
    assert "from the whole pool" in texts(test)


def test_a_link_shows_its_runs_and_no_others(app: Open, unlearned: Unlearned) -> None:
    test = view(opened(app, unlearned, unlearned.weighted), "Progress")
    assert test.multiselect(key="unlearn_looked_at").value == [unlearned.weighted.id]
    assert keys_of(test) & {f"result_{unlearned.uniform.id}"} == set()
    strange = app(unlearned.path, "unlearning", run=unlearned.run.id, unlearn="nobody")
    assert strange.multiselect(key="unlearn_looked_at").value == [unlearned.uniform.id, unlearned.weighted.id]


@pytest.mark.parametrize("where", ["Progress", "Comparison"])
def test_who_got_the_gradient_is_shown_by_thirds_of_the_samples(
    where: str, app: Open, unlearned: Unlearned
) -> None:
    test = view(opened(app, unlearned, unlearned.uniform, unlearned.weighted), where)
    figure = figures_of(test)["Who got the gradient"]
    shares = {(trace["name"], trace["yaxis"]): sum(trace["y"]) for trace in figure["data"]}
    assert shares == pytest.approx({(name, axis): 1.0 for name in ("GA", "GA + MRD") for axis in ("y", "y2")})
    assert "The gradient was measured every 10 steps, from the first on." in texts(test)


def test_a_margin_is_said_where_ma_is_not_that_of_the_field(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.number_input(key=key_of(StoppingConfig, "margin")).set_value(-2.0).run()
    assert shown_config(sound(test)).stopping.margin == -2
    assert "leads all others by more than -2" in texts(test)
    run = queued(own, stopping=StoppingConfig(margin=-2, probe_steps=2, probe_samples=4))
    running(own, run)
    report(own, run, range(1, 4))
    test = view(opened(app, own, run), "Progress")
    assert "forget MA counts tokens whose logit leads all others by more than -2." in texts(test)


def test_runs_are_added_and_left_out_and_a_study_brings_all_its_own(app: Open, unlearned: Unlearned) -> None:
    test = opened(app, unlearned, unlearned.weighted)
    test.multiselect(key="unlearn_looked_at").set_value([unlearned.uniform.id]).run()
    assert sound(test).query_params["unlearn"] == unlearned.uniform.id
    test.selectbox(key="unlearn_study").set_value(STUDY).run()
    both = {unlearned.uniform.id, unlearned.weighted.id}
    assert set(sound(test).query_params["unlearn"].split(",")) == both


def test_a_result_says_what_was_forgotten_and_what_it_cost(app: Open, unlearned: Unlearned) -> None:
    test = opened(app, unlearned, unlearned.weighted)
    summary = unlearned.weighted.summary
    assert summary is not None
    shown = {metric.label: metric.value for metric in test.metric}
    assert shown["Forgotten at the end"] == f"{summary['forgotten_at_end']} of 24"
    assert shown["Updates"] == f"{summary['updates']}"
    before, after = summary["forget_nll_before"], summary["forget_nll"]
    assert shown["Forget NLL"] == f"{before:.2f} → {after:.2f}"
    assert "Every sample was found forgotten." in texts(test) + test.error[0].value
    assert f"MRD took {summary['mrd_forward_evaluations']} forward evaluations" in texts(test)
    assert f"Evaluating on the way, {summary['evaluations']} times, took" in texts(test)
    best = UnlearningSummary.model_validate(summary).best
    assert best is not None
    assert best.sentence in texts(test)
    loading = next(code.value for code in test.code if code.language == "python")
    assert str(UnlearningFiles(unlearned.weighted.directory).model) in loading


@pytest.mark.parametrize(
    ("accuracy", "errors", "sentence"),
    [
        (0.17, 1, "on the retain set MA went from 97.0% to 17.0%, NLL from 0.16 to 0.20 nats per token."),
        (0.95, 0, "**Every sample was found forgotten.** The retain set was kept: MA went from 97.0% to 95.0%"),
    ],
)
def test_a_model_that_lost_what_was_to_be_kept_is_no_success(
    app: Open, unlearned: Unlearned, own: Home, accuracy: float, errors: int, sentence: str
) -> None:
    run, summary = queued(own), unlearned.uniform.summary
    assert summary is not None
    for name in ("outcome.parquet", "answer_tokens.parquet"):
        (run.directory / name).write_bytes((unlearned.uniform.directory / name).read_bytes())
    retained = {"retain_accuracy_before": 0.97, "retain_accuracy": accuracy, "retain_nll_before": 0.16}
    changes = retained | {"retain_nll": 0.2, "stop_reason": "all-forgotten"}
    ended(own.store, run, RunState.SUCCEEDED, summary=summary | changes)
    test = opened(app, own, run)
    assert len(test.error) == errors
    assert sentence in texts(test) + "".join(error.value for error in test.error)


def test_what_the_run_warns_of_is_told(app: Open, unlearned: Unlearned, own: Home) -> None:
    run = queued(own)
    for path in (
        unlearned.uniform.directory / "outcome.parquet",
        unlearned.uniform.directory / "answer_tokens.parquet",
    ):
        (run.directory / path.name).write_bytes(path.read_bytes())
    summary = unlearned.uniform.summary
    assert summary is not None
    back = "3 of the 24 samples that were found forgotten are not so any more at the end."
    ended(own.store, run, RunState.SUCCEEDED, summary=summary | {"warnings": [back]})
    assert [warning.value for warning in opened(app, own, run).warning] == [back]


def test_a_sample_is_shown_before_and_after_and_the_next_is_one_button_away(
    app: Open, unlearned: Unlearned
) -> None:
    files = UnlearningFiles(unlearned.uniform.directory)
    table = unlearning.outcome(files, "mrd_answer_mean")
    first, second = table["sample_id"].iloc[:2]
    test = opened(app, unlearned, unlearned.uniform)
    assert "1 of 24 · MRD" in texts(test)
    assert list(token_table(test)["piece"]) == list(unlearning.answer_tokens(files, first)["piece"])
    test.button(key="next").click().run()
    assert sound(test).query_params["sample"] == second
    assert list(token_table(test)["piece"]) == list(unlearning.answer_tokens(files, second)["piece"])


def test_updates_are_drawn_against_any_measure_of_the_score_run(app: Open, unlearned: Unlearned) -> None:
    files = UnlearningFiles(unlearned.uniform.directory)
    table = difficulty.beside(unlearning.outcome(files, "mrd_answer_mean"), ScoredRun(unlearned.run.directory))
    test = opened(app, unlearned, unlearned.uniform)
    for name in ("mrd", "entropy"):
        test.selectbox(key="unlearn_against").set_value(name).run()
        forgotten, left, ring = updates_chart(sound(test))
        drawn = {
            row[0]: (x, y)
            for trace in (forgotten, left)
            for row, x, y in zip(trace["customdata"], *(numbers(trace[axis]) for axis in "xy"), strict=True)
        }
        assert drawn == {row.sample_id: (getattr(row, name), row.updates) for row in table.itertuples()}
        assert numbers(ring["x"]) == [table[name].iloc[0]]
    assert "Updates with Predictive entropy [nats], over the whole set" in texts(test)
    test.multiselect(key="outcome_measures").set_value(["entropy"]).run()
    shown = next(found for found in sound(test).dataframe if (found.key or "").startswith("outcome"))
    assert list(shown.proto.column_order)[-1] == "entropy"


def updates_chart(test: AppTest) -> list[dict[str, Any]]:
    """Return the traces of the chart of updates against a measure: forgotten, not forgotten, the selected one."""
    chart = next(chart for chart in test.get("plotly_chart") if "open: never forgotten" in chart.proto.spec)
    return list(json.loads(chart.proto.spec)["data"])


def token_table(test: AppTest) -> pd.DataFrame:
    return next(table.value for table in test.dataframe if "log_prob_after" in table.value)


def test_the_heat_map_escapes_and_shades_by_probability() -> None:
    tokens = pd.DataFrame(
        {"piece": ["<img src=x>", "b"], "log_prob_before": [0.0, np.log(0.5)], "log_prob_after": [-np.inf, 0.0]}
    )
    before, after = heat_map(tokens, "before"), heat_map(tokens, "after")
    assert "<img" not in before + after
    assert [shade(html) for html in (before, after)] == [[0.6, 0.3], [0.0, 0.6]]
    assert 'title="p 1 → 0"' in before


def shade(html: str) -> list[float]:
    """Return the opacity of each token."""
    return [float(part.partition(")")[0].rpartition(",")[2]) for part in html.split("rgba(")[1:]]


def test_hidden_texts_are_in_no_download(app: Open, unlearned: Unlearned, offered: dict[str, Any]) -> None:
    samples = ForgetSet.load(UnlearningFiles(unlearned.uniform.directory).samples).frame
    test = opened(app, unlearned, unlearned.uniform)
    assert {"unlearn_outcome", "download_unlearn_updates_against"} <= set(texts_in(offered, samples))
    test.toggle(key="hide_texts").set_value(True).run()
    assert texts_in(offered, samples) == []


def test_the_card_is_taken_along_whole_and_as_a_section(
    app: Open, unlearned: Unlearned, offered: dict[str, Any]
) -> None:
    opened(app, unlearned, unlearned.uniform)
    card, section = offered["unlearn_README"](), offered["unlearn_section"]()
    assert card.startswith("---\n")
    assert section.startswith("## Unlearned with ")
    assert all("How hard it was to forget" in text for text in (card, section))


def test_outcome_and_order_are_taken_along_whole(app: Open, unlearned: Unlearned, offered: dict[str, Any]) -> None:
    opened(app, unlearned, unlearned.uniform)
    files = UnlearningFiles(unlearned.uniform.directory)
    outcome = pd.read_csv(io.StringIO(offered["unlearn_outcome"]()))
    assert list(outcome["sample_id"]) == list(pd.read_parquet(files.outcome)["sample_id"])
    assert offered["unlearn_steps"]() == files.steps.read_bytes()
    order = [json.loads(line)["sample_id"] for line in offered["unlearn_curriculum"]().splitlines()]
    assert order == [sample for step in files.read_steps() for sample in step["forget"]]


def test_a_comparison_waits_for_two_finished_runs(app: Open, own: Home) -> None:
    run = queued(own)
    test = view(opened(app, own, run), "Comparison")
    assert "A comparison needs two finished runs." in texts(test)


def test_the_comparison_says_what_the_analysis_says(
    app: Open, unlearned: Unlearned, offered: dict[str, Any]
) -> None:
    test = view(opened(app, unlearned, unlearned.uniform, unlearned.weighted), "Comparison")
    table = unlearning.efficiency([run.summary for run in (unlearned.uniform, unlearned.weighted) if run.summary])
    shown = test.table[0].value
    assert list(shown["Setting"]) == ["GA", "GA + MRD"]
    assert list(shown["Updates"]) == [f"{updates:.0f}" for updates in table["updates"]]
    verdict = unlearning.against_uniform(table).iloc[0]
    assert f"**GA + MRD**: {verdict['verdict']}." in texts(test)
    taken = pd.read_csv(io.StringIO(offered["unlearn_runs_csv"]()))
    np.testing.assert_allclose(taken["flops_total"], table["flops_total"])
    assert "Updates against retain" in figures_of(test)
    equal = next(table.value for table in test.dataframe if "retain_nll" in table.value and "run" in table.value)
    assert list(equal["run"]) == ["GA, seed 0", "GA + MRD, seed 0"]


@pytest.fixture(scope="module")
def previewed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A preview of a few rows."""
    path = tmp_path_factory.mktemp("previewed")
    source = ForgetSetConfig(source=str(write_demo_rows(path / "rows.jsonl", 6)))
    return scored(path, ScoreConfig(forget_set=source, estimator=EstimatorConfig(preview=True, workers=1)))


def test_runs_on_a_preview_and_without_a_retain_set_are_shown_and_compared(app: Open, previewed: Home) -> None:
    orders = (CurriculumConfig(), CurriculumConfig(sampler="column", column="speed_and_spread"))
    settings = {
        "retain": RetainConfig(),
        "limits": Limits(max_steps=2),
        "stopping": StoppingConfig(),
        "answers": 1,
    }
    runs = [queued(previewed, curriculum=order, **settings) for order in orders]
    for run in runs:
        assert worker.run(run.directory, store=previewed.store) is RunState.SUCCEEDED
    test = opened(app, previewed, *runs)
    assert "These scores are a preview: speed + spread, not MRD." in texts(test)
    for name in ("Result", "Progress", "Comparison"):
        sound(view(test, name))
    assert any("not measured" in table.value.to_string() for table in test.table)


def test_a_recent_unlearning_run_opens_on_this_page(app: Open, unlearned: Unlearned) -> None:
    test = app(unlearned.path)
    test.session_state["opened"] = unlearned.weighted.id
    test.run()
    assert sound(test).title[0].value == "Unlearning"
    assert test.query_params["unlearn"] == unlearned.weighted.id


def test_a_run_is_deleted_after_a_question(app: Open, own: Home) -> None:
    run = queued(own)
    own.store.request_cancel(run.id)
    test = opened(app, own, run)
    test.session_state["unlearn_log"] = True
    test.run()
    test.button(key=f"delete_{run.id}").click().run()
    assert "This cannot be undone." in texts(test)
    # A dialog is a fragment, which runs alone only in a browser: here the page opens it once more.
    test.button(key=f"delete_{run.id}").click()
    test.button(key="really_delete").click().run()
    assert own.store.list(kinds=("unlearn",), score_run=own.run) == []
    assert test.button(key="unlearn_launch")


def test_another_score_run_brings_its_own_unlearning_runs(app: Open, unlearned: Unlearned) -> None:
    other = adopted_again(unlearned)
    test = opened(app, unlearned, unlearned.uniform)
    test.query_params["run"] = other.id
    test.run()
    assert test.button(key="unlearn_launch")
    assert "unlearn" not in sound(test).query_params


def adopted_again(home: Home) -> Run:
    """Copy the score run once more."""
    directory = home.path / "runs" / "again"
    directory.mkdir(parents=True)
    for path in home.run.directory.iterdir():
        if path.is_file():
            (directory / path.name).write_bytes(path.read_bytes())
    run = home.store.create("score", "again", "cpu", directory)
    return ended(home.store, run, RunState.SUCCEEDED, summary=home.run.summary)


def test_settings_survive_a_visit_to_another_page(app: Open, own: Home) -> None:
    test = opened(app, own)
    test.selectbox(key=key_of(UnlearnConfig, "method")).set_value("simnpo").run()
    test.number_input(key="unlearn_simnpo_gamma").set_value(0.5)
    test.text_input(key=LEARNING_RATE).set_value("0.0003").run()
    before = shown_config(sound(test))
    assert before.parameters["gamma"] == 0.5
    go(test, "start")
    assert shown_config(go(test, "unlearning")) == before
