"""Is a forget set easier than it should be? Planted ones are, their mirror images are harder, most are neither."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy.stats import permutation_test

from analysis.audit.candidates import Candidates, beside, everything, named, selections, within
from analysis.audit.chance import random_sets
from analysis.audit.columns import Columns, groups_of
from analysis.audit.config import AuditConfig
from analysis.audit.ease import Audit, audited
from analysis.audit.effect import effect
from analysis.contrast import cliffs_delta
from analysis.difficulty import ScoredRun
from analysis.export.audit import audit_markdown, audit_table
from analysis.sets import unknown
from cli.door import door, main
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config, write_config
from mrd_core.samples import ForgetSet, save_stratum
from mrd_core.samples.forget_set import digest_of
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.draws import Units
from mrd_core.scoring.files import ScoreFiles
from tests.support.scored_demo import ROWS, copied, scored_demo
from tests.unit.conftest import write_rows

N, SET = 60, 20
CONFIG = AuditConfig(pool=Path("pool"), forget_set="set", draws=999)


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_demo(tmp_path_factory.getbasetemp())


def candidates(
    mrd: np.ndarray, size: int, per_group: int = 1, noise: float = 0.0, **others: np.ndarray
) -> Candidates:
    """The first `size` samples of so many, in groups of consecutive ones, as a forget set of them all."""
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(len(mrd))], "mrd_answer_mean": mrd, **others})
    draws = mrd + noise * np.random.default_rng(1).normal(size=(16, len(mrd)))
    columns = Columns(frame, {name: name for name in frame}, ("mrd_answer_mean", "n"), (), tuple(others), None)
    groups = np.arange(len(mrd)) // per_group
    units = {"mrd_answer_mean": (Units.of(draws),)}
    return Candidates(columns, np.arange(len(mrd)) < size, groups, per_group > 1, units)


def mrd_of(shift: float) -> np.ndarray:
    """MRD of samples of which the first ones are shifted by so many standard deviations."""
    values = 10 + np.random.default_rng(0).normal(size=N)
    values[:SET] += shift
    return values


@pytest.mark.parametrize(("shift", "verdict"), [(2.0, "easier"), (-2.0, "harder"), (0.0, "cannot tell")])
@pytest.mark.parametrize("per_group", [1, 2])
def test_a_planted_shift_is_told_with_its_sign_and_chance_is_not(
    shift: float, verdict: str, per_group: int
) -> None:
    mrd, length = mrd_of(shift), np.arange(N, dtype=np.float64) % 7
    audit = audited(candidates(mrd, SET, per_group, length=length), CONFIG)
    row = audit.rows[0]
    assert audit.verdict == verdict
    assert (audit.n_set, audit.n_pool) == (SET, N)
    assert row.difference.value == pytest.approx(mrd[:SET].mean() - mrd[SET:].mean())
    assert row.delta.value == pytest.approx(cliffs_delta(pd.Series(mrd[:SET]), pd.Series(mrd[SET:])))
    assert row.p_holm == pytest.approx(min(1, 2 * row.p))
    begin = "Cannot tell" if verdict == "cannot tell" else f"The forget set is {verdict} to unlearn than random"
    assert audit.sentence.startswith(begin)
    assert audit.others == ""
    share = {"easier": "fewer than 1 of", "harder": "more than 99 of", "cannot tell": f"{100 * row.above:.0f} of"}
    assert f"would be easier in {share[verdict]} 100 cases" in audit.sentence


def test_what_else_differs_is_named() -> None:
    length = np.where(np.arange(N) < SET, 20.0, 10.0) + np.arange(N) % 7
    audit = audited(candidates(mrd_of(0), SET, length=length), CONFIG)
    assert (audit.verdict, audit.others) == ("cannot tell", "It also differs from them in: length.")


@pytest.mark.parametrize(("size", "per_group"), [(9, 1), (N - 9, 1), (30, 10)])
def test_too_few_samples_or_groups_get_no_verdict_however_large_the_difference(size: int, per_group: int) -> None:
    audit = audited(candidates(np.where(np.arange(N) < size, 10.0, 1) + mrd_of(0), size, per_group), CONFIG)
    lacking = "4 groups in" if per_group > 1 else "10 samples with an MRD in"
    assert audit.sentence.startswith(
        f"Cannot tell whether the forget set is easier than it should be: a verdict needs {lacking} the set"
    )


def test_all_sets_of_a_small_pool_are_taken_and_give_scipys_exact_p() -> None:
    values = np.random.default_rng(2).normal(size=(11, 2))
    values[3, 1] = np.nan
    chosen = np.arange(11) < 4
    chance = random_sets(values, chosen, np.arange(11), 999, seed=0)
    first, second = values[chosen, 0], values[~chosen, 0]
    scipys = permutation_test((first, second), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf)
    assert (chance.exact, len(chance.drawn), chance.sizes) == (True, 330, (4, 4))
    assert chance.p[0] == pytest.approx(scipys.pvalue)
    assert chance.observed[0] == pytest.approx(first.mean() - second.mean())
    # By hand, with the sample that has no value in no mean.
    means = []
    for place in range(2):
        sets = [list(each) for each in combinations(range(11), 4)]
        inside = [np.nanmean(values[each, place]) for each in sets]
        outside = [np.nanmean(np.delete(values[:, place], each)) for each in sets]
        means.append(np.subtract(inside, outside))
    assert chance.above == pytest.approx(
        [(mean > own + 1e-12).mean() for mean, own in zip(means, chance.observed, strict=True)]
    )


def test_random_sets_approach_all_sets_and_a_seed_repeats_them() -> None:
    values, chosen = np.random.default_rng(3).normal(size=(20, 1)), np.arange(20) < 5
    exact = random_sets(values, chosen, np.arange(20), 20_000, seed=0)
    drawn, again = (random_sets(values, chosen, np.arange(20), 9_999, seed=4) for _ in range(2))
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.p == pytest.approx(exact.p, abs=0.02)
    assert np.array_equal(drawn.drawn, again.drawn)


def test_random_sets_keep_groups_whole() -> None:
    groups = np.repeat(np.arange(6), [1, 2, 3, 1, 2, 3])
    of_group = np.array([1.0, 2, 4, 8, 16, 32])
    chance = random_sets(of_group[groups][:, None], groups < 2, groups, 99, seed=0)
    # Fifteen sets of two groups, each with its own sum.
    sizes = np.bincount(groups)
    pairs = [list(pair) for pair in combinations(range(6), 2)]
    inside = [np.average(of_group[pair], weights=sizes[pair]) for pair in pairs]
    outside = [np.average(np.delete(of_group, pair), weights=np.delete(sizes, pair)) for pair in pairs]
    assert chance.drawn[:, 0] == pytest.approx(np.subtract(inside, outside))
    assert chance.sizes == (2, 6)


def test_a_column_that_the_set_lacks_has_no_p_and_counts_for_no_correction() -> None:
    absent = np.where(np.arange(N) < SET, np.nan, 1.0)
    audit = audited(candidates(mrd_of(2), SET, absent=absent), CONFIG)
    row = audit.rows[1]
    assert np.isnan([row.p, row.p_holm, row.above, row.difference.value, row.mean_set]).all()
    assert audit.rows[0].p_holm == audit.rows[0].p
    json.dumps(audit.frame.to_dict("records"))


def test_copies_within_a_group_say_nothing_new_and_noise_widens() -> None:
    values, chosen = mrd_of(1.0), np.arange(N) < SET
    alone = effect(values, chosen, np.arange(N))
    copies = effect(values.repeat(3), chosen.repeat(3), np.arange(N).repeat(3))
    assert copies.difference == pytest.approx(alone.difference)
    assert copies.delta == pytest.approx(alone.delta)
    taken_apart = effect(values.repeat(3), chosen.repeat(3), np.arange(3 * N))
    assert np.diff(taken_apart.difference[1:3]) < 0.7 * np.diff(alone.difference[1:3])
    noisy = candidates(values, SET, noise=4.0).units["mrd_answer_mean"]
    shaken = effect(np.abs(noisy[0].mean), chosen, np.arange(N), noisy)
    assert np.diff(shaken.difference[1:3]) > np.diff(alone.difference[1:3])
    # Of one group nothing is known of its spread.
    lone = effect(values, chosen, np.where(chosen, 0, np.arange(N)))
    assert lone.difference.value == pytest.approx(alone.difference.value)
    assert np.isnan([*lone.difference[1:3], *lone.delta[1:3]]).all()


def easiest(run: Path, count: int = SET) -> list[str]:
    scores = pd.read_parquet(ScoreFiles(run).scores).sort_values("mrd")
    return list(scores["sample_id"].tail(count))


def test_the_easiest_samples_of_a_run_are_easier_and_what_the_run_knows_is_compared(scored: Path) -> None:
    pool = ScoredRun(scored)
    audit = audited(within(pool, easiest(scored)), CONFIG)
    assert audit.verdict == "easier"
    assert audit.rows[0].delta.value == 1
    columns = [row.column for row in audit.rows]
    assert columns[:6] == ["mrd_answer_mean", "mrd_answer_sum", "speed", "spread", "curvature", "n_tokens"]
    assert "training_count" in columns
    assert audit.rows[5].n_set + audit.rows[5].n_rest == ROWS
    again = audited(within(pool, easiest(scored)), CONFIG)
    assert again == audit


def forgets(run: Path, ids: Collection[str]) -> None:
    """Have a run say that its model knows none of these samples."""
    files = ScoreFiles(run)
    measures = pd.read_parquet(files.measures)
    measures.loc[measures["sample_id"].isin(ids), "exact_memorization"] = 0.2
    measures.to_parquet(files.measures)


def test_a_set_of_samples_that_the_model_does_not_know_gets_no_verdict(second: Path) -> None:
    hardest = list(pd.read_parquet(ScoreFiles(second).scores).sort_values("mrd")["sample_id"].head(SET))
    assert audited(within(ScoredRun(second), hardest), CONFIG).verdict == "harder"
    forgets(second, hardest[:1])
    audit = audited(within(ScoredRun(second), [*hardest, *easiest(second, 20)]), CONFIG)
    assert (audit.verdict, audit.obstacle) == ("cannot tell", "")
    assert audit.notes[0].startswith(
        f"The model does not know 1 of the {SET + 20} samples of the set (MA below 0.5)"
    )
    forgets(second, hardest)
    audit = audited(within(ScoredRun(second), hardest), CONFIG)
    assert (audit.verdict, audit.others) == ("no verdict", "")
    assert audit.sentence.startswith(f"No verdict: the model does not know {SET} of the {SET} samples of the set")
    assert audit.frame[["p", "p_holm"]].isna().all(axis=None)
    said = audited(within(ScoredRun(second), easiest(second)), CONFIG).sentence
    assert f"does not know {SET} of the {ROWS - SET} others" in said
    assert f"{SET} of the {ROWS} samples" in unknown.caveat(everything(ScoredRun(second)).accuracies)


def test_a_set_that_is_not_known_is_found_beside_a_pool_that_did_not_look(
    scored: Path, second: Path, tmp_path: Path
) -> None:
    hardest = list(pd.read_parquet(ScoreFiles(second).scores).sort_values("mrd")["sample_id"].head(SET))
    for table in ("scores", "measures"):
        path = getattr(ScoreFiles(second), table)
        frame = pd.read_parquet(path)
        frame[frame["sample_id"].isin(hardest)].to_parquet(path)
    samples = ForgetSet.load(ScoreFiles(second).samples)
    samples.subset(samples.frame["sample_id"].isin(hardest)).save(ScoreFiles(second).samples)
    forgets(second, hardest)
    pool = copied(scored, tmp_path / "pool")
    ScoreFiles(pool).measures.unlink()
    audit = audited(beside(ScoredRun(pool), ScoredRun(second)), CONFIG)
    assert audit.sentence.startswith(
        f"No verdict: the model does not know {SET} of the {SET} samples of the set (MA"
    )


@pytest.mark.parametrize(
    ("ids", "why"),
    [((), "has none of the samples"), (None, "has all of the samples"), (("no such",), "has none of")],
)
def test_nothing_and_everything_are_no_part_of_a_pool(scored: Path, ids: tuple[str, ...] | None, why: str) -> None:
    pool = ScoredRun(scored)
    with pytest.raises(UserError, match=why):
        within(pool, list(pool.samples["sample_id"]) if ids is None else ids)


@pytest.fixture
def second(scored: Path, tmp_path: Path) -> Path:
    """A copy of the run that may be changed."""
    return copied(scored, tmp_path / "second")


def test_a_run_of_the_same_settings_can_be_the_set_and_samples_of_both_count_once(
    scored: Path, second: Path
) -> None:
    ids = dict.fromkeys(easiest(scored))
    for table in ("scores", "measures"):
        path = getattr(ScoreFiles(second), table)
        frame = pd.read_parquet(path)
        frame[frame["sample_id"].isin(ids)].to_parquet(path)
    samples = ForgetSet.load(ScoreFiles(second).samples)
    samples.subset(samples.frame["sample_id"].isin(ids)).save(ScoreFiles(second).samples)
    audit = audited(beside(ScoredRun(scored), ScoredRun(second)), CONFIG)
    one = audited(within(ScoredRun(scored), ids), CONFIG)
    assert (audit.verdict, audit.n_set, audit.n_pool, audit.caveats) == ("easier", SET, ROWS, ())
    assert audit.rows[0].difference.value == pytest.approx(one.rows[0].difference.value)
    assert audit.rows[0].above == one.rows[0].above


@pytest.mark.parametrize(
    ("change", "unlike", "caveats"),
    [
        ({"sigma": 2e-3}, "σ of the noise (0.002 and 0.001)", 0),
        ({"weights": "others"}, "weights, though their model lies in one place", 0),
        ({"dtype": "bfloat16", "weights": "others"}, "", 1),
    ],
)
def test_runs_that_cannot_be_compared_get_no_verdict(
    scored: Path, second: Path, change: dict[str, object], unlike: str, caveats: int
) -> None:
    files = ScoreFiles(second)
    files.plan.write_text(files.read_plan().model_copy(update=change).model_dump_json())
    make_other_samples(files)
    audit = audited(beside(ScoredRun(scored), ScoredRun(second)), CONFIG)
    assert (bool(audit.obstacle), len(audit.caveats), audit.n_pool) == (bool(unlike), caveats, 2 * ROWS)
    assert (audit.verdict == "no verdict") is bool(unlike)
    if unlike:
        assert audit.sentence.startswith(f"No verdict: the runs differ in their {unlike}, and MRD depends")
        assert not audit.frame["differs"].any()
        assert audit.frame[["p", "p_holm", "above"]].isna().all(axis=None)
        assert set(audit_table(audit)["p (Holm)"]) == {"–"}


@pytest.mark.parametrize("chosen", [{"normalisation": "sum"}, {"scope": "full"}])
def test_of_runs_that_were_scored_otherwise_only_what_is_alike_is_compared(
    scored: Path, second: Path, chosen: dict[str, str]
) -> None:
    # The same samples under other names: no measure differs, in whichever variant it was scored.
    config = read_config(second, ScoreConfig).model_dump()
    config["estimator"] |= chosen
    write_config(second, ScoreConfig.model_validate(config))
    files = ScoreFiles(second)
    make_other_samples(files)
    scores = pd.read_parquet(files.scores)
    scale = scores["n_tokens"]
    own = {name: scores[name] * scale for name in ("speed", "spread", "curvature")}
    full = {"n_tokens": scores["n_tokens_full"]} if "scope" in chosen else {}
    scores.assign(**own, **full).to_parquet(files.scores)
    both = beside(ScoredRun(scored), ScoredRun(second))
    assert not both.obstacle
    assert any("Speed, spread and curvature are left out" in caveat for caveat in both.caveats)
    audit = audited(both, CONFIG)
    assert {"speed", "spread", "curvature"}.isdisjoint(row.column for row in audit.rows)
    tokens = both.columns.frame["n_tokens"].to_numpy()
    assert list(tokens[:ROWS]) == list(tokens[ROWS:])
    alike = ("n_tokens", *both.columns.difficulty)
    assert [row.difference.value for row in audit.rows if row.column in alike] == [0] * 3
    # The noise of both runs' draws is in the interval.
    assert [len(both.units[name]) for name in both.columns.difficulty] == [2, 2]


def make_other_samples(files: ScoreFiles) -> None:
    """Give the samples of a score run ids that no other run has."""
    samples = ForgetSet.load(files.samples)
    frame = samples.frame.assign(sample_id="other-" + samples.frame["sample_id"])
    replace(samples, frame=frame, digest=digest_of(frame)).save(files.samples)
    for table in (files.scores, files.measures):
        old = pd.read_parquet(table)
        old.assign(sample_id="other-" + old["sample_id"]).to_parquet(table)
    for table in (files.draws, files.probes):
        rename_samples(table)


def rename_samples(path: Path) -> None:
    """Rename the samples of a Parquet file whose schema says what it holds."""
    table = pq.read_table(path)
    names = pa.array([f"other-{name}" for name in table["sample_id"].to_pylist()], table["sample_id"].type)
    pq.write_table(table.set_column(table.schema.get_field_index("sample_id"), "sample_id", names), path)


def file_of_ids(run: Path, folder: Path) -> str:
    path = folder / "ids.txt"
    # As an editor of Windows saves it.
    path.write_text("\n".join(easiest(run)) + "\n", encoding="utf-8-sig", newline="\r\n")
    return str(path)


def file_of_texts(run: Path, folder: Path) -> str:
    samples = ForgetSet.load(ScoreFiles(run).samples).frame.set_index("sample_id").loc[easiest(run)]
    records = samples.rename(columns={"prompt": "question"})[["question", "answer"]].to_dict("records")
    return str(write_rows(folder / "texts.jsonl", records))


def selection(run: Path, folder: Path) -> str:
    save_stratum(ForgetSet.load(ScoreFiles(run).samples), easiest(run), "easy ones", folder)
    return "easy ones"


@pytest.mark.parametrize("name", [file_of_ids, file_of_texts, selection])
def test_a_set_is_named_by_ids_by_texts_or_by_a_selection(
    scored: Path, tmp_path: Path, name: Callable[[Path, Path], str]
) -> None:
    chosen = named(ScoredRun(scored), name(scored, tmp_path), tmp_path, Path).chosen
    ids = pd.read_parquet(ScoreFiles(scored).scores)["sample_id"]
    assert set(ids[chosen]) == set(easiest(scored))


def test_rows_that_are_numbered_are_told_by_their_texts(second: Path, tmp_path: Path) -> None:
    samples = ForgetSet.load(ScoreFiles(second).samples)
    numbered = samples.frame.assign(sample_id=list(map(str, range(ROWS))))
    for table in ("scores", "measures", "draws", "probes"):
        path = getattr(ScoreFiles(second), table)
        names = dict(zip(samples.frame["sample_id"], numbered["sample_id"], strict=True))
        frame = pd.read_parquet(path)
        frame["sample_id"] = frame["sample_id"].map(names)
        frame.to_parquet(path)
    replace(samples, frame=numbered, digest=digest_of(numbered)).save(ScoreFiles(second).samples)
    last = numbered.tail(3).rename(columns={"prompt": "question"})[["question", "answer"]].to_dict("records")
    rows = [{"id": str(at)} | row for at, row in enumerate(last)]
    chosen = named(ScoredRun(second), str(write_rows(tmp_path / "rows.jsonl", rows)), tmp_path, Path).chosen
    assert np.flatnonzero(chosen).tolist() == [ROWS - 3, ROWS - 2, ROWS - 1]
    foreign = [{"id": "0", "question": "Who?", "answer": "Nobody."}]
    with pytest.raises(UserError, match="are none of the pool's"):
        named(ScoredRun(second), str(write_rows(tmp_path / "foreign.jsonl", foreign)), tmp_path, Path)


def test_runs_that_call_other_texts_alike_cannot_be_told_apart(scored: Path, second: Path) -> None:
    files = ScoreFiles(second)
    samples = ForgetSet.load(files.samples)
    turned = samples.frame.assign(sample_id=list(samples.frame["sample_id"])[::-1])
    replace(samples, frame=turned, digest=digest_of(turned)).save(files.samples)
    with pytest.raises(UserError, match="whose ids are those of other texts"):
        beside(ScoredRun(scored), ScoredRun(second))


def test_selections_of_other_samples_are_not_offered(scored: Path, tmp_path: Path) -> None:
    samples = ForgetSet.load(ScoreFiles(scored).samples)
    save_stratum(samples, easiest(scored), "some", tmp_path)
    save_stratum(samples, list(samples.frame["sample_id"]), "all", tmp_path)
    other = samples.frame.assign(sample_id="other-" + samples.frame["sample_id"])
    save_stratum(replace(samples, frame=other), list(other["sample_id"])[:3], "others", tmp_path)
    assert selections(ScoredRun(scored), tmp_path) == ["some"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"nobody.txt": "forget-000-0\nnobody\n"}, "Of its 2 samples 1 are none of the pool's, such as 'nobody'"),
        ({"empty.txt": "\n"}, "It holds no id"),
        (
            {"other.jsonl": '{"question": "Who?", "answer": "Nobody."}\n'},
            "Of its 1 samples 1 are none of the pool's",
        ),
        ({"folder/file": ""}, "is no score run, no file and no saved selection"),
        ({}, "is no file, no saved selection and no score run"),
    ],
)
def test_a_set_that_is_none_of_the_pool_is_refused(
    scored: Path, tmp_path: Path, content: dict[str, str], why: str
) -> None:
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    name = str(tmp_path / Path(next(iter(content), "missing.txt")).parts[0])

    def unknown(name: str) -> Path:
        raise UserError(f"run {name}", "There is no such run.", "")

    with pytest.raises(UserError, match=why) as error:
        named(ScoredRun(scored), name, tmp_path, unknown)
    assert Path(name).name in error.value.what


def test_the_pool_itself_is_no_set(scored: Path) -> None:
    with pytest.raises(UserError, match="is the pool itself"):
        named(ScoredRun(scored), str(scored), scored, Path)


def test_groups_are_blocks_columns_of_the_run_or_of_its_source(scored: Path, tmp_path: Path) -> None:
    run = copied(scored, tmp_path / "run")
    pool = ScoredRun(run)
    assert groups_of(pool, "20").value_counts().tolist() == [20, 20, 20]
    counts = groups_of(pool, "training_count")
    assert counts.nunique() == pool.samples["training_count"].nunique()
    rows = pool.samples.rename(columns={"sample_id": "id", "prompt": "question"}).drop(columns="split")
    rows["author"] = [None if place == 5 else f"author {place % 3}" for place in range(ROWS)]
    config = read_config(run, ScoreConfig)
    source = write_rows(tmp_path / "with-authors.jsonl", rows.to_dict("records"))
    changed = config.forget_set.model_copy(update={"source": str(source)})
    write_config(run, config.model_copy(update={"forget_set": changed}))
    authors = groups_of(ScoredRun(run), "author")
    # Whoever has no author is alone.
    assert authors.value_counts().tolist() == [20, 20, 19, 1]
    assert list(authors.index) == list(rows["id"])
    write_rows(source, rows.assign(answer="changed").to_dict("records"))
    with pytest.raises(UserError, match="the file has changed since it was scored"):
        groups_of(ScoredRun(run), "author")
    with pytest.raises(UserError, match="is none of the run's own, and its source has none either"):
        groups_of(ScoredRun(run), "publisher")


def test_a_set_with_a_part_of_a_group_is_refused(scored: Path) -> None:
    pool = ScoredRun(scored)
    ids = list(pool.samples["sample_id"])
    whole = audited(within(pool, ids[:20], "5"), CONFIG)
    assert whole.groups == (4, 8)
    assert (whole.draws, whole.exact) == (495, True)
    with pytest.raises(UserError, match=r"with 3 of its 5 samples only, and so are 0 others"):
        within(pool, ids[:23], "5")


def test_the_command_prints_a_table_or_json_and_writes_files(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    words = ["audit", "set", str(scored), file_of_ids(scored, tmp_path), "--draws", "999"]
    printed = CliRunner().invoke(door, [*words, "--out", str(tmp_path / "out")])
    assert (printed.exit_code, printed.output.splitlines()[0][:41]) == (
        0,
        "The forget set is easier to unlearn than ",
    )
    result = json.loads(CliRunner().invoke(door, [*words, "--json"]).stdout)
    assert (result["verdict"], result["random_sets"], result["n_set"]) == ("easier", 999, SET)
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == result
    assert result["sentence"] in (tmp_path / "out" / "audit.md").read_text()
    table = pd.read_csv(tmp_path / "out" / "audit.csv")
    assert list(table["column"]) == [row["column"] for row in result["rows"]]
    monkeypatch.setattr("sys.argv", ["mrd-lens", *words[:3], str(tmp_path / "missing.txt")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "no file, no saved selection and no score run" in capsys.readouterr().err


def test_an_audit_without_figures_can_be_written() -> None:
    audit: Audit = audited(candidates(mrd_of(0), SET, absent=np.where(np.arange(N) < SET, np.nan, 1.0)), CONFIG)
    assert "| absent | –, 1 | – | – | – | – |" in audit_markdown(audit, CONFIG)
