"""Studies as files: which runs a table stands for, and where what is no good in it stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.characteristics.config import CharacteristicsConfig
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.experiments.kinds.durability import DurabilityConfig
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.studies.catalogue import identity
from mrd_core.studies.lines import line_of
from mrd_core.studies.product import product
from mrd_core.studies.rows import Links, Row, rows_of
from mrd_core.studies.study import read
from mrd_core.unlearning.config import UnlearnConfig
from tests.conftest import REPOSITORY

TEXT = """\
name = "trial"

[models]
base = "demo"

[forget_sets.demo]
source = "demo"
retain = "demo"
held_out = "demo"

[score]
estimator.preset = "paper"
estimator.draws = 50

[[unlearn]]
method = ["graddiff", "npo"]
curriculum.sampler = ["uniform", "mrd"]
seed = [0, 1, 2]
limits.max_steps = 20

[[unlearn]]
method = "npo"
curriculum.sampler = "uniform"
[unlearn.parameters]
beta = [0.05, 0.1]

[[evaluate]]
limit = 10

[[evaluate]]
suite = "wmdp"
data = "cais/wmdp"
of = ["original"]

[[experiment]]
kind = "validity"
methods = ["ga", "graddiff"]
samples = [6, 12]
"""


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., list[Row]]:
    """Return a function that reads the rows of a study, with changes."""

    def rows(*changes: str, text: str = TEXT) -> list[Row]:
        path = tmp_path / "trial.toml"
        path.write_text(text, encoding="utf-8")
        return rows_of(read(str(path), changes))

    return rows


def test_lists_make_the_product_and_scores_come_first(study: Callable[..., list[Row]]) -> None:
    rows = study()
    kinds = [row.kind for row in rows]
    assert kinds == ["score"] + ["unlearn"] * (2 * 2 * 3 + 2) + ["evaluate"] * (1 + 14 + 1) + ["validity"] * 2
    assert len({row.name for row in rows}) == len(rows)
    for number, row in enumerate(rows):
        assert all(rows.index(parent) < number for parent in row.parents)
    # One seed after the other: a study that is stopped leaves whole seeds.
    assert [row.name for row in rows[1:6]] == [
        "GradDiff, seed 0",
        "GradDiff + MRD, seed 0",
        "NPO, seed 0",
        "NPO + MRD, seed 0",
        "GradDiff, seed 1",
    ]
    assert rows[13].name == "NPO, seed 0 (parameters.beta 0.05)"
    assert rows[15].name == "Own files on the original"
    assert rows[29].name == "Own files on NPO, seed 0 (parameters.beta 0.1)"


def test_the_configurations_are_those_that_the_command_line_would_make(study: Callable[..., list[Row]]) -> None:
    rows = study()
    score, unlearn, experiment = (rows[number].config() for number in (0, 2, -1))
    assert isinstance(score, ScoreConfig)
    # The preset is the base, as on the command line, and the rest is laid over it.
    assert score.estimator == EstimatorConfig.paper(draws=50)
    assert isinstance(unlearn, UnlearnConfig)
    assert (unlearn.method, unlearn.curriculum.sampler, unlearn.seed) == ("graddiff", "mrd", 0)
    # A limit of steps stands alone.
    assert (unlearn.limits.max_steps, unlearn.limits.max_epochs) == (20, None)
    assert unlearn.retain.samples is not None
    assert unlearn.retain.samples.source == "demo"
    assert unlearn.model == score.model
    assert isinstance(experiment, ValidityConfig)
    # A setting that holds several takes its list as it is.
    assert (experiment.methods, experiment.samples) == (("ga", "graddiff"), 12)
    assert experiment.estimator == score.estimator


def test_runs_of_two_tables_that_would_be_called_alike_are_told_apart(study: Callable[..., list[Row]]) -> None:
    rows = study('unlearn.1={method="npo", limits={max_steps=9}}')
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert {"NPO, seed 0, unlearn[0]", "NPO, seed 0, unlearn[1]"} <= set(names)
    assert "Own files on NPO, seed 0, unlearn[1]" in names


def test_models_and_forget_sets_are_crossed_and_rows_say_which(study: Callable[..., list[Row]]) -> None:
    rows = study('models.other={source = "demo", template = "plain"}')
    assert len(rows) == 2 * len(study())
    assert [row.name for row in rows[:2]] == ["Scores: demo on base", "Scores: demo on other"]
    by_model = {row.score.name for row in rows if row.kind == "evaluate" and row.score}
    assert by_model == {"Scores: demo on base", "Scores: demo on other"}
    for row in rows:
        assert row.unlearned is None or row.unlearned.score is row.score


def test_a_list_of_lists_makes_the_product_of_what_holds_several() -> None:
    made = product({"methods": [["ga"], ["ga", "npo"]], "seed": [0, 1]}, ValidityConfig)
    assert [(each.settings["methods"], each.settings["seed"]) for each in made] == [
        (["ga"], 0),
        (["ga", "npo"], 0),
        (["ga"], 1),
        (["ga", "npo"], 1),
    ]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("nonsense=3", "nonsense = 3: There is no such setting"),
        ("models.base={source='demo', dvice='cpu'}", "line 4 models.base.dvice = cpu: There is no such setting"),
        ("forget_sets.demo.spilt=x", "line 6 forget_sets.demo.spilt = x: There is no such setting"),
        ("forget_sets.demo.expects.words=3", "line 6 forget_sets.demo.expects.words = 3"),
        ("score.estimator.draws=2", "line 13 score[0].estimator.draws = 2: Input should be greater"),
        ("unlearn.0.method=magic", "line 16 unlearn[0].method = magic: There is no such method"),
        ("unlearn.0.limits.max_stps=3", "line 15 unlearn[0].limits.max_stps = 3: There is no such setting"),
        ("unlearn.1.parameters.gamma=1", "line 21 unlearn[1]"),
        ("unlearn.1.parameters.beta=[]", "line 21 unlearn[1]: One of its lists is empty"),
        ("unlearn.1.parameters.beta=[0.1, 0.1]", "twice"),
        ("unlearn.1.score_run=x", "The study itself says what builds on what"),
        ("evaluate.1.of=['nobody']", "line 33 evaluate[1].of"),
        ("evaluate.1.suite=tofuu", "line 31 evaluate[1].suite = tofuu: Choose one of"),
        ("experiment.kind=x", "line 36 experiment[0].kind = x: There is no such experiment"),
        ("experiment.kind=['validity', 'durability']", "line 36 experiment[0].kind = ['validity', 'durability']"),
        ("evaluate.1.of=[['original']]", "line 33 evaluate[1].of"),
        ("score.estimator=paper", "score[0].estimator = paper: It has settings of its own: preset, "),
        ("unlearn.1.limits=5", "line 21 unlearn[1].limits = 5: It has settings of its own: "),
        ("unlearn.0.retain=demo", "line 15 unlearn[0].retain = demo: It has settings of its own: "),
        (
            "experiment.model.source=demo-retrained",
            "experiment[0].model.source: What it builds on says",
        ),
        ("experiment.forget_set.source=demo", "experiment[0].forget_set: What it builds on says which model"),
        ("evaluate.0.model.source=demo-retrained", "evaluate[0].model.source: What it builds on says which model"),
        ("evaluate.0.model.system=Hm.", "evaluate[0].model.system: What it builds on says which model"),
        ("experiment.methods=[]", "line 37 experiment[0].methods"),
    ],
)
def test_what_is_not_known_or_no_good_is_refused_with_its_place(
    study: Callable[..., list[Row]], change: str, place: str
) -> None:
    with pytest.raises(UserError) as refused:
        study(change)
    assert place in refused.value.cause
    assert "trial.toml" in refused.value.cause


@pytest.mark.parametrize(
    ("reading", "corpus"),
    [("", ("demo", "refuse")), ('corpus.source = "/texts.jsonl"\n', ("/texts.jsonl", "skip"))],
)
def test_a_reading_has_the_corpus_that_the_command_would_take(
    study: Callable[..., list[Row]], reading: str, corpus: tuple[str, str]
) -> None:
    row = next(row for row in study(text=f"{TEXT}[characteristics]\n{reading}") if row.kind == "characteristics")
    config = row.config()
    assert isinstance(config, CharacteristicsConfig)
    assert config.corpus is not None
    assert (config.corpus.source, config.corpus.invalid_rows) == corpus


def test_device_and_form_may_be_said_of_a_model_where_nothing_settles_them(
    study: Callable[..., list[Row]],
) -> None:
    rows = study("experiment.model.device=cpu", "evaluate.0.of=['original']", "evaluate.0.model.system=Hm.")
    evaluation = next(row.config() for row in rows if row.kind == "evaluate")
    assert isinstance(evaluation, EvaluateConfig)
    assert evaluation.model.system == "Hm."


def test_a_method_that_needs_a_retain_set_is_refused_without_one(study: Callable[..., list[Row]]) -> None:
    with pytest.raises(UserError, match="needs a retain set") as refused:
        study(text=TEXT.replace('retain = "demo"\n', ""))
    assert "unlearn[0]" in refused.value.cause


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("models.base", "is no setting"),
        ("=3", "is no setting"),
        ("unlearn.7.seed=3", "There are 2 such tables"),
        ("name.x=3", "would lie in a value"),
    ],
)
def test_a_change_that_is_none_is_refused(study: Callable[..., list[Row]], change: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        study(change)


def test_a_change_within_a_list_of_names_is_refused(study: Callable[..., list[Row]]) -> None:
    with pytest.raises(UserError, match="would lie in a value"):
        study("models.base=x", text='name = "trial"\nmodels = ["a"]\nforget_sets.demo = "demo"\n')


def test_changes_take_the_place_of_what_the_file_says(
    study: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    rows = study("unlearn.0.seed=[7]", "models.base=model", "unlearn.limits.max_steps=2")
    assert sum(row.kind == "unlearn" for row in rows) == 4 + 2
    config = rows[1].config()
    assert isinstance(config, UnlearnConfig)
    assert (config.seed, config.model.source) == (7, str(tmp_path / "model"))
    assert {row.config().model_dump()["limits"]["max_steps"] for row in rows if row.kind == "unlearn"} == {2}


def test_a_place_is_found_in_tables_however_they_are_written() -> None:
    text = '[a]\nb.c = 1\n[[d]]\nx = 2\n[[d]]\n[d.e]\n"y" = 3\n'
    assert [line_of(text, place) for place in (("a", "b", "c"), ("a", "b"), ("d", 0, "x"))] == [2, 1, 4]
    assert [line_of(text, place) for place in (("d", 1, "e", "y"), ("d", 1, "x"), ("f",))] == [7, 5, None]
    # The only table of its name may be numbered.
    assert line_of(text, ("a", 0, "b", "c")) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no-such-study", "There is no such file"), ("", "There is no such file"), (".", "There is no such file")],
)
def test_a_study_that_is_not_there_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read(name)


def test_a_file_that_is_no_toml_is_refused_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('name = "x"\nmodels = = 3', encoding="utf-8")
    with pytest.raises(UserError, match="line 2"):
        read(str(path))


def test_a_file_that_an_editor_of_windows_saved_is_read(study: Callable[..., list[Row]]) -> None:
    saved = study(text="\ufeff" + TEXT.replace("\n", "\r\n"))
    assert [(row.name, row.settings) for row in saved] == [(row.name, row.settings) for row in study()]


def test_the_example_of_the_document_is_a_study(study: Callable[..., list[Row]]) -> None:
    text = (REPOSITORY / "docs" / "studies.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.+?)```", text, re.DOTALL)
    kinds = Counter(row.kind for row in study(text=example))
    assert kinds == {"score": 1, "unlearn": 2 * 2 * 3 + 2, "evaluate": 15, "characteristics": 1, "validity": 1}
    # What it says of changes holds for it.
    assert sum(row.kind == "unlearn" for row in study("unlearn.seed=[3,4]", text=example)) == 2 * 2 * 2 + 2 * 2
    assert len(study("unlearn.0.seed=7", text=example)) < len(study(text=example))


@pytest.mark.parametrize(
    ("place", "value", "is_same"),
    [
        (("study",), "another", True),
        (("processes",), 2, True),
        (("checkpoint_steps",), 7, True),
        (("model", "date"), "2020-02-02", True),
        (("score_run",), "/another", True),
        (("seed",), 3, False),
        (("method",), "ga", False),
        (("model", "dtype"), "float64", False),
        (("curriculum", "sampler"), "mrd", False),
        (("limits", "max_steps"), 21, False),
        (("optimiser", "batch_size"), 8, False),
    ],
)
def test_two_runs_are_the_same_where_all_that_counts_is(
    study: Callable[..., list[Row]], place: tuple[str, ...], value: object, is_same: bool
) -> None:
    config = study()[1].config()
    changed = config.model_dump()
    *above, name = place
    table = changed
    for part in above:
        table = table[part]
    table[name] = value
    assert (identity(UnlearnConfig.model_validate(changed)) == identity(config)) is is_same


def test_an_experiment_on_unlearning_runs_builds_on_all_of_its_scores(study: Callable[..., list[Row]]) -> None:
    text = TEXT.replace('kind = "validity"\nmethods = ["ga", "graddiff"]', 'kind = "durability"\nseeds = 1')
    *before, first, second = study(text=text)
    unlearned = tuple(row for row in before if row.kind == "unlearn")
    assert first.attacked == second.attacked == unlearned
    assert first.parents == (before[0], *unlearned)
    scored = before[0].config()
    assert isinstance(scored, ScoreConfig)
    links = Links(Path("/scored"), scored, attacked=tuple(Path(f"/run-{i}") for i in range(len(unlearned))))
    config = first.config(links)
    assert isinstance(config, DurabilityConfig)
    assert config.runs == links.attacked
    assert (config.score_run, config.samples, config.retain) == (
        links.score_run,
        6,
        ForgetSetConfig(source="demo"),
    )


def test_an_experiment_on_unlearning_runs_is_refused_without_any(study: Callable[..., list[Row]]) -> None:
    text = TEXT.replace('kind = "validity"\nmethods = ["ga", "graddiff"]', 'kind = "durability"\nseeds = 1')
    with pytest.raises(UserError, match="unlearns nothing that it could be about"):
        study("unlearn=[]", text=text)
    with pytest.raises(UserError, match="The study itself says what builds on what"):
        study('experiment.runs=["/some/run"]', text=text)
