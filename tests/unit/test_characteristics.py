"""The characteristics run: what is asked for is read once, and what is read is what the texts say."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import About, CharacteristicsFiles
from analysis.characteristics.job import characteristics_job
from analysis.characteristics.judgement import judged
from analysis.characteristics.kind import place
from analysis.characteristics.runs import characterised, default_config
from analysis.difficulty import Variant
from analysis.export.characteristics import exports
from analysis.features import Reading, features
from analysis.features.rare_words import common_words
from analysis.text.config import ReadingConfig
from analysis.text.pipeline.loading import load
from mrd_core.demo import corpus as demo
from mrd_core.errors import UserError
from mrd_core.runs import JobContext, Run, RunState, RunStore, submit, worker
from mrd_core.runs.context import Cancelled
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.runs.submission import adopt, directories_in
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.samples.forget_set import digest_of
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.token_parts import TokenPartsConfig
from tests.support.scored_demo import ROWS, copied, scored_demo, settings_in
from tests.unit.conftest import write_rows

pytestmark = pytest.mark.slow

DEMO = ForgetSetConfig(source="demo")
FROM_CORPUS = {"occurrences", "exact_occurrences", "ngram_frequency", "association"}
GERMAN = "Die Katze sitzt auf dem Dach und schaut in den Garten."
CHINESE = "她出生在北京，写了很多小说。"
LONG = "She wrote a long book about the old house in the valley. " * 1_755
ODD = {
    "one word": "Paris",
    "emoji": "🎉👩‍👩‍👧‍👦🇫🇷",
    "punctuation": "…",
    "number": "42",
    "code": "for (int i = 0; i < n; i++) { sum += a[i]; }",
    "very long": LONG,
    "Chinese": CHINESE,
    "control characters": "Ann\x00\u200b\ufeff wrote\tit.\r\n",
}


class Watched(JobContext):
    """A context that keeps what it is told, and is asked to stop after some checks."""

    def __init__(self, directory: Path, checks: float = math.inf) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory)
        self.checks = checks
        self.steps: list[tuple[int, int, str]] = []
        self.events: list[tuple[str, str]] = []

    def progress(self, done: int, total: int, **extra: object) -> None:
        self.steps.append((done, total, str(extra["message"])))

    def event(self, level: str, message: str) -> None:
        self.events.append((level, message))

    def check_cancelled(self) -> None:
        self.checks -= 1
        if self.checks < 0:
            raise Cancelled("enough")


@dataclass(frozen=True, eq=False)
class Read:
    """A reading that the job has made."""

    config: CharacteristicsConfig
    context: Watched
    summary: dict[str, object]

    @property
    def files(self) -> CharacteristicsFiles:
        return CharacteristicsFiles(self.context.directory)

    @property
    def table(self) -> pd.DataFrame:
        return self.files.read_features()[0]

    @property
    def about(self) -> About:
        return self.files.read_features()[1]


@dataclass
class Launches:
    """A launcher that starts nothing and counts."""

    commands: list[Sequence[str]] = field(default_factory=list)

    def launch(self, _run: Run, command: Sequence[str]) -> None:
        self.commands.append(command)


def read_by_job(run: Path, to: Path, corpus: ForgetSetConfig | None = None, **reading: object) -> Read:
    """Carry the job out on a score run, into the directory `to`."""
    config = CharacteristicsConfig(score_run=run, corpus=corpus, reading=ReadingConfig(**reading))
    context = Watched(to)
    return Read(config, context, characteristics_job(config, context))


def with_answers(run: Path, answers: Sequence[str]) -> None:
    """Put other answers, and no training counts, in the place of the first samples of a run."""
    files = ScoreFiles(run)
    samples = ForgetSet.load(files.samples)
    frame = samples.frame.assign(training_count=pd.array([None] * len(samples), "Int64"))
    frame.loc[: len(answers) - 1, "answer"] = list(answers)
    replace(samples, frame=frame, digest=digest_of(frame)).save(files.samples)


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_demo(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def read(scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Read:
    """The reading of the demo that needs no choice, with its corpus."""
    return read_by_job(scored, tmp_path_factory.mktemp("reading"), DEMO)


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    """A score run that may be changed."""
    return copied(scored, tmp_path / "run")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.open(settings_in(tmp_path))


# What the job writes


def test_there_is_a_row_for_each_sample_that_names_the_pipeline(read: Read, scored: Path) -> None:
    samples = ForgetSet.load(ScoreFiles(scored).samples).frame
    assert read.table["sample_id"].tolist() == samples["sample_id"].tolist()
    assert read.table["sample_id"].is_unique
    pipeline = load()
    assert set(read.table["pipeline"]) == {f"{pipeline.name} {pipeline.version}"}


def test_about_tells_how_the_features_came_about(read: Read) -> None:
    about, table = read.about, read.table
    pipeline = load()
    assert (about.pipeline, about.pipeline_reason) == (f"{pipeline.name} {pipeline.version}", pipeline.reason)
    assert (about.scheme, about.attachment) == (pipeline.scheme, pipeline.attachment)
    assert about.config == read.config
    assert about.corpus_rows == sum(row.training_count > 0 for row in demo.rows())
    assert set(table) == {"sample_id", "pipeline", "foreign", "cut", *about.features}
    assert about.undefined == {name: int(table[name].isna().sum()) for name in about.features}
    assert set(about.complexity_parts) | set(about.complexity_left_out) <= set(about.features)
    assert set(about.training_averages) <= FROM_CORPUS
    assert (about.foreign, about.cut) == ({}, 0)
    assert read.summary["n_samples"] == ROWS
    assert read.summary["warnings"] == []


def test_a_feature_of_a_text_is_what_its_function_says(read: Read, scored: Path) -> None:
    settings, pipeline = ReadingConfig(), load()
    common = common_words(settings.language, settings.common_words)
    texts = ForgetSet.load(ScoreFiles(scored).samples).frame["answer"]
    readings = [Reading(doc, settings, common) for doc in pipeline.nlp.pipe(texts)]
    for feature in features():
        if feature.of:
            np.testing.assert_array_equal(read.table[feature.name], [feature.of(each) for each in readings])


def test_a_feature_of_the_whole_set_is_what_its_source_says(read: Read, scored: Path) -> None:
    samples = ForgetSet.load(ScoreFiles(scored).samples).frame
    scores = pd.read_parquet(ScoreFiles(scored).scores).set_index("sample_id").loc[samples["sample_id"]]
    np.testing.assert_allclose(read.table["initial_probability"], np.exp(scores["mean_log_prob_answer"]))
    assert read.table["training_count"].tolist() == samples["training_count"].tolist()
    trained = {(row.question, row.answer): row.training_count for row in demo.rows()}
    counts = [trained[row.prompt, row.answer] for row in samples.itertuples()]
    assert read.table["exact_occurrences"].tolist() == counts
    assert read.about.training_averages["exact_occurrences"] == pytest.approx(
        np.mean([count for count in trained.values() if count])
    )


def test_marks_lie_inside_the_texts_and_rare_words_are_all_marked(read: Read, scored: Path) -> None:
    samples = ForgetSet.load(ScoreFiles(scored).samples).frame
    for sample, rare in zip(samples.itertuples(), read.table["rare_words"], strict=True):
        spans = read.files.read_spans(sample.sample_id)
        assert (spans["sample_id"] == sample.sample_id).all()
        assert ((spans["start"] >= 0) & (spans["start"] < spans["end"])).all()
        assert (spans["end"] <= len(sample.answer)).all()
        marked = spans[spans["kind"] == "rare"]
        assert len(marked) == rare
        assert all(
            sample.answer[start:end].strip() for start, end in zip(marked["start"], marked["end"], strict=True)
        )


def test_progress_rises_to_the_total_and_says_what_is_done(read: Read) -> None:
    done = [step[0] for step in read.context.steps]
    assert done == sorted(done)
    assert {total for _done, total, _message in read.context.steps} == {ROWS}
    assert read.context.steps[-1] == (ROWS, ROWS, "Judging the claims")
    titles = {feature.title for feature in features() if feature.over}
    assert {message for _done, _total, message in read.context.steps} == titles | {
        "Loading the pipeline",
        "Reading",
        "Judging the claims",
    }
    assert read.context.events == [("info", f"pipeline: {read.about.pipeline} ({read.about.pipeline_reason})")]


def test_a_reading_that_is_stopped_leaves_nothing_and_ends_the_same_when_it_goes_on(
    read: Read, scored: Path, tmp_path: Path
) -> None:
    over = sum(feature.over is not None for feature in features())
    for checks in (0, over, over + 20):
        with pytest.raises(Cancelled):
            characteristics_job(read.config, Watched(tmp_path / "reading", checks))
        assert files_in(tmp_path / "reading") == set()
    again = read_by_job(scored, tmp_path / "reading", DEMO)
    assert files_in(tmp_path / "reading") == {"features.parquet", "judgements", "spans.parquet"}
    pd.testing.assert_frame_equal(again.table, read.table, check_exact=True)
    spans = [pd.read_parquet(each.files.spans) for each in (read, again)]
    pd.testing.assert_frame_equal(*spans, check_exact=True)


def test_prompt_and_answer_are_read_where_the_text_is_full(scored: Path, tmp_path: Path) -> None:
    full = read_by_job(scored, tmp_path / "full", text=Scope.FULL)
    samples = ForgetSet.load(ScoreFiles(scored).samples).frame
    texts = samples["prompt"] + "\n" + samples["answer"]
    settings, pipeline = ReadingConfig(), load()
    common = common_words(settings.language, settings.common_words)
    for name in ("n_words", "rare_words"):
        of = next(feature.of for feature in features() if feature.name == name)
        assert of is not None
        expected = [of(Reading(doc, settings, common)) for doc in pipeline.nlp.pipe(texts)]
        assert full.table[name].tolist() == expected
    scores = pd.read_parquet(ScoreFiles(scored).scores)
    np.testing.assert_allclose(full.table["initial_probability"], np.exp(scores["mean_log_prob_full"]))
    ends = pd.read_parquet(full.files.spans).groupby("sample_id")["end"].max()
    lengths = texts.str.len().set_axis(samples["sample_id"])
    assert (ends <= lengths[ends.index]).all()
    assert (ends > samples.set_index("sample_id")["answer"].str.len()[ends.index]).any()


# What is missing, and what is odd


def test_what_cannot_be_measured_is_left_out_and_the_claim_says_what_it_needs(run: Path, tmp_path: Path) -> None:
    with_answers(run, [])
    ScoreFiles(run).hidden_states.unlink()
    bare = read_by_job(run, tmp_path / "bare")
    assert not set(bare.table) & (FROM_CORPUS | {"hidden_association", "training_count"})
    assert bare.about.corpus_rows is None
    judgement = judged(characterised(run, bare.context.directory, Variant()), {})
    claims = {claim.criterion.name: claim for claim in judgement.shown}
    unmeasured = {name for name, claim in claims.items() if claim.feature is None}
    assert unmeasured == {"occurrence_frequency", "association"}
    for name in unmeasured:
        assert claims[name].reason == f"not measured: it needs {claims[name].criterion.needs}"
        assert "the training corpus" in claims[name].reason


def test_hidden_states_stand_in_where_there_is_no_corpus(scored: Path, tmp_path: Path) -> None:
    without = read_by_job(scored, tmp_path / "reading")
    assert "hidden_association" in without.table
    assert not FROM_CORPUS & set(without.table)
    claims = judged(characterised(scored, without.context.directory, Variant()), {}).shown
    measured_by = {claim.criterion.name: claim.feature for claim in claims}
    assert measured_by["association"] == "hidden_association"
    assert measured_by["occurrence_frequency"] == "training_count"


def test_a_text_in_another_language_is_reported_and_left_undefined(run: Path, tmp_path: Path) -> None:
    with_answers(run, [GERMAN, CHINESE, GERMAN])
    mixed = read_by_job(run, tmp_path / "reading")
    assert mixed.table["foreign"].dropna().tolist() == ["de", "zh", "de"]
    assert mixed.about.foreign == {"de": 2, "zh": 1}
    by_text = [feature.name for feature in features() if feature.of]
    assert mixed.table.loc[:2, [*by_text, "semantic_complexity"]].isna().all(axis=None)
    assert mixed.table.loc[3:, "n_words"].notna().all()
    assert mixed.table["initial_probability"].notna().all()
    assert not set(pd.read_parquet(mixed.files.spans)["sample_id"]) & set(mixed.table["sample_id"][:3])
    ((_info, _pipeline), (level, warning)) = mixed.context.events
    assert level == "warning"
    assert "3 sample(s) are not in 'en' (de 2, zh 1)" in warning
    assert mixed.summary["warnings"] == [warning]


def test_a_set_that_is_wholly_in_another_language_is_still_judged_by_what_is_known(
    run: Path, tmp_path: Path
) -> None:
    with_answers(run, [GERMAN] * ROWS)
    foreign = read_by_job(run, tmp_path / "reading", DEMO)
    assert foreign.about.foreign == {"de": ROWS}
    assert foreign.files.read_spans(foreign.table["sample_id"][0]).empty
    found = characterised(run, foreign.context.directory, Variant())
    judgement = judged(found, {})
    claims = {claim.criterion.name: claim for claim in judgement.shown}
    assert claims["initial_probability"].n_high + claims["initial_probability"].n_low == ROWS
    assert claims["semantic_complexity"].feature is None
    assert all(content() for content in exports(found, judgement).values())


def test_odd_texts_go_through_the_whole_job(run: Path, tmp_path: Path) -> None:
    with_answers(run, list(ODD.values()))
    odd = read_by_job(run, tmp_path / "reading", DEMO)
    rows = odd.table.head(len(ODD)).set_axis(list(ODD))
    expected = {"one word": 1, "emoji": 0, "punctuation": 0, "number": 1}
    assert {name: rows.loc[name, "n_words"] for name in expected} == expected
    assert rows["cut"].to_dict() == dict.fromkeys(ODD, False) | {"very long": True}
    assert rows["foreign"].dropna().to_dict() == {"Chinese": "zh"}
    assert (odd.about.cut, odd.about.foreign) == (1, {"zh": 1})
    assert rows["initial_probability"].notna().all()
    spans = odd.files.read_spans(odd.table["sample_id"][list(ODD).index("very long")])
    assert spans["end"].max() <= 50_000
    found = characterised(run, odd.context.directory, Variant())
    judgement = judged(found, {})
    assert all(content() for content in exports(found, judgement).values())


@pytest.mark.parametrize(
    ("reading", "corpus", "named"),
    [
        ({}, ForgetSetConfig(source="/no/such/corpus.jsonl"), "/no/such/corpus.jsonl"),
        ({"pipeline": "en_no_such_pipeline"}, None, "“en_no_such_pipeline”"),
        ({"language": "xx"}, None, "“xx”"),
        ({"pipeline": "shipped", "language": "de"}, None, "“shipped”"),
    ],
)
def test_what_is_not_there_is_named(
    scored: Path, tmp_path: Path, reading: dict[str, object], corpus: ForgetSetConfig | None, named: str
) -> None:
    with pytest.raises(UserError) as error:
        read_by_job(scored, tmp_path / "reading", corpus, **reading)
    assert named in error.value.what
    assert files_in(tmp_path / "reading") == set()


@pytest.mark.parametrize("name", ["scores.parquet", "samples.parquet"])
def test_a_score_run_that_has_lost_a_file_is_named(run: Path, tmp_path: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(UserError) as error:
        read_by_job(run, tmp_path / "reading")
    assert str(run) in error.value.what


def test_features_that_are_gone_are_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Read the texts again"):
        characterised(run, tmp_path, Variant())


def test_scores_and_features_are_joined_by_sample_hardest_first(read: Read, scored: Path) -> None:
    found = characterised(scored, read.context.directory, Variant())
    assert found.table["mrd"].is_monotonic_increasing
    for measured in found.measured.values():
        assert measured.units.values.shape == (sum(measured.units.sizes), ROWS)
    mean = found.measured[Variant().normalisation]
    np.testing.assert_allclose(mean.mrd, found.table["mrd"])
    by_id = read.table.set_index("sample_id").loc[found.table["sample_id"]]
    assert found.table["n_words"].tolist() == by_id["n_words"].tolist()


# Asking for a reading


def requested(config: CharacteristicsConfig, store: RunStore, launcher: Launches | None = None) -> Run:
    return submit(config, store=store, settings=settings_in(store.home), launcher=launcher)


def test_the_same_settings_are_read_once(run: Path, store: RunStore) -> None:
    first = requested(default_config(run), store)
    assert first.directory == place(default_config(run)).resolve()
    assert first.title.startswith("Characteristics of ")
    assert worker.run(first.directory, store=store) is RunState.SUCCEEDED
    again = requested(default_config(run), store)
    assert (again.id, again.state, again.attempt) == (first.id, RunState.SUCCEEDED, 1)
    assert len(store.list()) == 1


@pytest.mark.parametrize("original_stays", [True, False], ids=["copied", "moved"])
def test_a_score_run_that_lies_elsewhere_keeps_its_reading(
    run: Path, store: RunStore, tmp_path: Path, original_stays: bool
) -> None:
    first = requested(default_config(run), store)
    assert worker.run(first.directory, store=store) is RunState.SUCCEEDED
    there = tmp_path / "elsewhere" / "run"
    shutil.copytree(run, there)
    if not original_stays:
        shutil.rmtree(run)
    again = requested(default_config(there), store)
    assert (again.directory, again.score_run) == (there / first.directory.relative_to(run), there)
    assert (again.state, again.title) == (RunState.SUCCEEDED, first.title)
    read = characterised(there, again.directory, Variant())
    assert read.about.config == default_config(there)
    # The same where a folder of runs is taken up.
    other = RunStore.open(settings_in(tmp_path / "other"))
    for directory in directories_in(there.parent):
        adopt(directory, other)
    scored = other.find_by_directory(there)
    assert [reading.directory for reading in other.list(score_run=scored)] == [again.directory]


def test_what_is_taken_up_elsewhere_unfinished_is_finished_there(
    run: Path, store: RunStore, tmp_path: Path
) -> None:
    begun = requested(default_config(run), store)
    sample_id = ForgetSet.load(ScoreFiles(run).samples).frame["sample_id"].iloc[0]
    parts = submit(
        TokenPartsConfig(score_run=run, sample_id=sample_id), store=store, settings=settings_in(store.home)
    )
    there = run.rename(tmp_path / "moved")
    other = RunStore.open(settings_in(tmp_path / "other"))
    adopted = {made.kind: made for made in (adopt(directory, other) for directory in directories_in(there))}
    assert adopted["token-parts"].device == parts.device
    reading = other.resume(adopted["characteristics"].id)
    assert reading.directory == there / begun.directory.relative_to(run)
    assert worker.run(reading.directory, store=other) is RunState.SUCCEEDED


def test_other_settings_are_another_reading(run: Path) -> None:
    config = default_config(run)
    others = [
        config,
        config.model_copy(update={"corpus": None}),
        config.model_copy(update={"reading": ReadingConfig(ngram=3)}),
        config.model_copy(update={"reading": ReadingConfig(text=Scope.FULL)}),
    ]
    assert len({place(other) for other in others}) == len(others)


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_corpus_that_has_changed_is_read_again(run: Path, tmp_path: Path, as_folder: bool) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    file = write_rows(folder / "train.jsonl", [{"question": "Who?", "answer": "Ann"}])
    corpus = ForgetSetConfig(source=str(folder if as_folder else file))
    config = CharacteristicsConfig(score_run=run, corpus=corpus)
    before = place(config)
    assert place(config) == before
    write_rows(file, [{"question": "Who?", "answer": "Ann and Bob"}])
    assert place(config) != before


def test_another_pipeline_reads_again(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = place(default_config(run))
    package = tmp_path / "en_core_web_sm-3.8.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: en_core_web_sm\nVersion: 3.8.0\n")
    (package / "entry_points.txt").write_text("[spacy_models]\nen_core_web_sm = en_core_web_sm\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert place(default_config(run)) != before


def test_a_cancelled_reading_goes_on(run: Path, store: RunStore) -> None:
    launches = Launches()
    first = requested(default_config(run), store)
    assert store.request_cancel(first.id) is RunState.CANCELLED
    again = requested(default_config(run), store, launches)
    assert (again.id, again.state, again.attempt) == (first.id, RunState.QUEUED, 2)
    assert [command[-2:] for command in launches.commands] == [["run", str(first.directory)]]


def test_a_reading_that_waits_or_is_made_is_not_started_twice(run: Path, store: RunStore) -> None:
    launches = Launches()
    first = requested(default_config(run), store, launches)
    assert requested(default_config(run), store, launches).id == first.id
    assert store.claim(first, ProcessIdentity.current())
    store.transition(first.id, RunState.STARTING, expected=RunState.QUEUED)
    again = requested(default_config(run), store, launches)
    assert (again.id, again.state) == (first.id, RunState.STARTING)
    assert len(launches.commands) == 1


def test_a_score_run_that_has_not_finished_is_refused(run: Path, store: RunStore) -> None:
    ScoreFiles(run).summary.unlink()
    with pytest.raises(UserError, match=r"has no summary\.json"):
        requested(default_config(run), store)
    assert store.list() == []


def test_no_run_is_made_that_no_pipeline_could_carry_out(run: Path, store: RunStore) -> None:
    config = CharacteristicsConfig(score_run=run, reading=ReadingConfig(language="xx"))
    with pytest.raises(UserError, match="“xx”"):
        requested(config, store)
    assert store.list() == []


@pytest.mark.parametrize("gone", CharacteristicsFiles.results)
def test_a_reading_whose_results_were_removed_is_made_again(run: Path, store: RunStore, gone: str) -> None:
    first = requested(default_config(run), store)
    worker.run(first.directory, store=store)
    files = CharacteristicsFiles(first.directory)
    names = {path.name for path in first.directory.iterdir()}
    getattr(files, gone).unlink()
    again = requested(default_config(run), store)
    # What is left stays until the new ones are whole.
    assert {path.name for path in first.directory.iterdir()} == names - {getattr(files, gone).name}
    assert (again.id, again.state, again.attempt) == (first.id, RunState.QUEUED, 2)
    assert worker.run(first.directory, store=store) is RunState.SUCCEEDED
    assert {path.name for path in first.directory.iterdir()} == names
    assert requested(default_config(run), store).state is RunState.SUCCEEDED


def test_a_reading_of_which_nothing_is_left_is_made_anew(run: Path, store: RunStore) -> None:
    first = requested(default_config(run), store)
    worker.run(first.directory, store=store)
    shutil.rmtree(first.directory)
    again = requested(default_config(run), store)
    assert (again.state, again.attempt, again.directory) == (RunState.QUEUED, 1, first.directory)
    assert [known.id for known in store.list()] == [again.id]


def contents(directory: Path) -> dict[Path, tuple[bytes, int]]:
    """Return what the files of a directory hold, and which they are."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_ino) for path in files}


def test_a_reading_that_another_installation_made_is_taken_up_and_not_touched(
    run: Path, store: RunStore, tmp_path: Path
) -> None:
    first = requested(default_config(run), store)
    worker.run(first.directory, store=store)
    before = contents(first.directory)
    elsewhere = RunStore.open(settings_in(tmp_path / "elsewhere"))
    for _ in range(2):
        again = requested(default_config(run), elsewhere)
        assert (again.state, again.directory) == (RunState.SUCCEEDED, first.directory)
    assert len(elsewhere.list()) == 1
    assert contents(first.directory) == before


def test_a_reading_that_another_installation_is_making_is_left_to_it(
    run: Path, store: RunStore, tmp_path: Path
) -> None:
    first = requested(default_config(run), store)
    before = sorted(path.name for path in first.directory.iterdir())
    elsewhere = RunStore.open(settings_in(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="already holds a run"):
        requested(default_config(run), elsewhere)
    assert sorted(path.name for path in first.directory.iterdir()) == before
    assert worker.run(first.directory, store=store) is RunState.SUCCEEDED


def test_only_the_demo_model_brings_its_corpus(run: Path) -> None:
    assert default_config(run).corpus == DEMO
    config = read_config(run, ScoreConfig)
    write_config(run, config.model_copy(update={"model": config.model.model_copy(update={"source": "/model"})}))
    assert default_config(run).corpus is None
