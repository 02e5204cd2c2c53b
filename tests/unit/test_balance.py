"""Fair forget sets: balanced as brute force has it, groups whole, and files that read as the same samples."""

from __future__ import annotations

import io
import json
import os
import signal
import zipfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.audit import draw
from analysis.audit.balance import BALANCED, OBSERVED, STRATIFIED, Balance, balanced
from analysis.audit.candidates import Candidates
from analysis.audit.columns import Columns
from analysis.audit.config import BalanceConfig
from analysis.audit.draw import Problem, closest
from analysis.export.splits import splits_archive, write_splits
from cli.door import door
from mrd_core.errors import UserError
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from tests.support.scored_demo import ROWS, scored_demo

N = 60


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_demo(tmp_path_factory.getbasetemp())


def config(**changes: Any) -> BalanceConfig:
    return BalanceConfig(**{"pool": Path("pool"), "size": 10, "columns": ("mrd", "length")} | changes)


def pool(per_group: int = 1, given: int = 0, count: int = N, noise: float = 20) -> Candidates:
    """Samples whose MRD goes with their length, in groups of consecutive ones; the first so many are given."""
    random = np.random.default_rng(0)
    length = random.integers(5, 60, size=count).astype(np.float64)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(count)],
            "mrd": length + random.normal(scale=noise, size=count) + 10 * (np.arange(count) < given),
            "length": length,
            "other": random.normal(size=count),
        }
    )
    columns = Columns(
        frame, {name: name for name in frame if name != "sample_id"}, ("mrd", "length"), (), ("other",), None
    )
    return Candidates(columns, np.arange(count) < given, np.arange(count) // per_group, per_group > 1, {})


@pytest.mark.parametrize("sizes", [np.ones(12), np.repeat([1.0, 2, 3], 4)], ids=["alike", "uneven"])
def test_all_choices_are_tried_where_they_are_few_and_the_search_comes_as_close(
    sizes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = np.random.default_rng(1).normal(size=(12, 3)) * sizes[:, None]
    problem = Problem(sums, sizes, np.array([0.1, -0.2, 0.0]), 8, 4)
    choices = [list(each) for each in combinations(range(12), 4)]
    off = [
        ((sums[each].sum(axis=0) / sizes[each].sum() - problem.target) ** 2).sum()
        + (sizes[each].sum() / 8 - 1) ** 2
        for each in choices
    ]
    drawn = closest(problem, np.random.default_rng(0))
    assert (list(drawn.places), drawn.exact) == (choices[int(np.argmin(off))], True)
    assert drawn.distance == pytest.approx(np.sqrt(min(off)))
    monkeypatch.setattr(draw, "MOST_CHOICES", 0)
    searched = closest(problem, np.random.default_rng(0))
    assert not searched.exact
    assert searched.distance <= np.sqrt(np.quantile(off, 0.02))


def test_a_large_pool_is_searched_to_a_hundredth_and_a_seed_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "EXCHANGES", 500)
    candidates = pool(count=400)
    first, again, other = (balanced(candidates, config(size=40, sets=3, seed=seed)) for seed in (1, 1, 2))
    assert first.sets == again.sets
    assert first.table.equals(again.table)
    assert first.sets != other.sets
    rows = first.table[first.table["role"] == BALANCED]
    assert (rows["difference"].abs() < 0.01).all()
    assert (rows["difference"].abs() < rows["random_difference"]).all()
    assert rows["variance_ratio"].between(0.8, 1.25).all()
    drawn = [sample for each in first.sets for sample in each.sample_ids]
    assert (len(drawn), len(set(drawn))) == (120, 120)
    assert [each.name for each in first.sets] == ["1", "2", "3"]
    assert set(first.table["role"]) == {BALANCED, OBSERVED}


def test_figures_of_the_table_are_those_of_the_samples() -> None:
    candidates = pool(given=15)
    (fair,) = (balance := balanced(candidates, config())).sets
    frame = candidates.columns.frame
    given = frame[candidates.chosen]
    inside = frame[frame["sample_id"].isin(fair.sample_ids)]
    # Its own samples are not drawn.
    assert not set(fair.sample_ids) & set(given["sample_id"])
    for row in balance.table.to_dict("records"):
        name = row["column"]
        assert row["target"] == pytest.approx(given[name].mean())
        assert row["mean"] == pytest.approx(inside[name].mean())
        assert row["difference"] == pytest.approx((inside[name].mean() - given[name].mean()) / frame[name].std())
        assert row["variance_ratio"] == pytest.approx(inside[name].var() / given[name].var())
    # The given set is harder to be like than the pool: a random set is off by what was planted.
    mrd = balance.table.set_index("column").loc["mrd"]
    planted = (given["mrd"].mean() - frame[~candidates.chosen]["mrd"].mean()) / frame["mrd"].std()
    assert mrd["random_difference"] == pytest.approx(abs(planted), abs=0.1)
    assert abs(mrd["difference"]) < 0.1
    assert "Not balanced" not in balance.sentence


def test_strata_are_thirds_that_are_alike_in_the_rest() -> None:
    candidates = pool(count=300, noise=60)
    balance = balanced(candidates, config(design="strata", size=20, sets=2))
    assert [each.name for each in balance.sets] == ["hard-1", "hard-2", "middle-1", "middle-2", "easy-1", "easy-2"]
    cuts = candidates.columns.frame["mrd"].quantile([1 / 3, 2 / 3]).to_numpy()
    for each in balance.sets:
        values = candidates.columns.frame.set_index("sample_id").loc[list(each.sample_ids), "mrd"]
        third = ["hard", "middle", "easy"].index(each.name.split("-")[0])
        assert set(np.digitize(values, cuts)) == {third}
    by_column = dict(tuple(balance.table.groupby("column")))
    assert (by_column["length"]["difference"].abs() < 0.02).all()
    assert set(by_column["mrd"]["role"]) == {STRATIFIED}
    assert balance.sentence.startswith("Drawn: 6 forget sets of 20 samples. Largest standardised difference 0")


def test_sets_that_cannot_all_be_balanced_are_alike_and_it_is_said() -> None:
    balance = balanced(pool(count=300), config(design="strata", size=25, sets=2))
    off = balance.table[balance.table["column"] == "length"].set_index("set")["difference"]
    assert off["hard-1"] < -0.1
    assert off["hard-1"] == pytest.approx(off["hard-2"], abs=0.05)
    assert "Not balanced (above 0.1): hard-1 in length, hard-2 in length, easy-1 in length" in balance.sentence


@pytest.mark.parametrize(
    ("column", "names"),
    [("mrd", ["hard", "middle", "easy"]), ("median_log_odds", ["easy", "middle", "hard"]), ("other", None)],
)
def test_strata_are_called_by_the_end_at_which_their_column_has_the_hard_samples(
    column: str, names: list[str] | None
) -> None:
    candidates = pool()
    frame = candidates.columns.frame.rename(columns={} if column in ("mrd", "other") else {"other": column})
    columns = replace(
        candidates.columns, frame=frame, titles={name: name for name in frame if name != "sample_id"}
    )
    drawn = balanced(replace(candidates, columns=columns), config(design="strata", columns=(column,), size=5))
    means = [frame.set_index("sample_id").loc[list(each.sample_ids), column].mean() for each in drawn.sets]
    assert means == sorted(means)
    assert [each.name for each in drawn.sets] == (names or ["low", "middle", "high"])


@pytest.mark.parametrize(("size", "sets"), [(5, 2), (20, 1)])
def test_strata_may_be_drawn_to_the_last_sample(size: int, sets: int) -> None:
    drawn = balanced(pool(), config(design="strata", columns=("mrd",), size=size, sets=sets)).sets
    ids = [sample for each in drawn for sample in each.sample_ids]
    assert len(ids) == len(set(ids)) == 3 * size * sets


def test_strata_by_one_column_alone_are_drawn_by_chance() -> None:
    seeds = [balanced(pool(), config(design="strata", columns=("mrd",), size=5, seed=seed)) for seed in (0, 1)]
    assert seeds[0].sets[0] != seeds[1].sets[0]
    assert seeds[0].sentence == "Drawn: 3 forget sets of 5 samples."


@pytest.mark.parametrize("per_group", [2, 5])
def test_groups_stay_whole(per_group: int) -> None:
    candidates = pool(per_group)
    for each in balanced(candidates, config(sets=2)).sets:
        numbers = np.array([int(sample[1:]) // per_group for sample in each.sample_ids])
        assert (np.bincount(numbers)[np.unique(numbers)] == per_group).all()
        assert len(each.sample_ids) == 10


def test_groups_of_several_sizes_come_near_the_size_and_it_is_said() -> None:
    candidates = replace(pool(), groups=np.repeat(np.arange(12), [3, 7] * 6), grouped=True)
    balance = balanced(candidates, config(size=11))
    assert 9 <= len(balance.sets[0].sample_ids) <= 13
    assert len(balance.sets[0].sample_ids) == 11 or any("Groups differ in size" in note for note in balance.notes)


def test_samples_without_a_value_are_not_drawn_and_it_is_said() -> None:
    candidates = pool(2)
    candidates.columns.frame.loc[:3, "length"] = np.nan
    balance = balanced(candidates, config(size=40))
    assert not set(balance.sets[0].sample_ids) & {"s0", "s1", "s2", "s3"}
    assert any("4 samples lack a value" in note for note in balance.notes)


@pytest.mark.parametrize(
    ("changes", "per_group", "why"),
    [
        ({"size": 61}, 1, "takes 61 samples for 1 sets, and there are 60 to draw"),
        ({"size": 25, "sets": 3}, 1, "takes 75 samples for 3 sets, and there are 60 to draw"),
        (
            {"size": 21, "design": "strata"},
            1,
            "takes 21 samples for 1 sets, and there are 20 to draw from the stratum 'hard'",
        ),
        ({"size": 7}, 5, "is no multiple of 5, the samples of each group. Use 5 or 10, or"),
        ({"columns": ("nll",)}, 1, "is no numeric column of the run; it has 'mrd', 'length', 'other'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, Any], per_group: int, why: str) -> None:
    with pytest.raises(UserError, match=why):
        balanced(pool(per_group), config(**changes))


def test_a_set_of_a_run_that_cannot_be_compared_is_not_matched() -> None:
    with pytest.raises(UserError, match="No verdict: the runs differ in their σ"):
        balanced(replace(pool(given=10), obstacle="No verdict: the runs differ in their σ."), config())


def test_what_is_not_known_is_said_and_drawn_from_all_the_same() -> None:
    few = pool(given=10)
    accuracy = pd.Series(np.where(np.arange(len(few.chosen)) < 9, 0.2, 1.0))
    drawn = balanced(replace(few, accuracy=accuracy), config())
    assert any("The model does not know 9 of the 10 samples of the set" in note for note in drawn.notes)


@pytest.fixture
def drawn(scored: Path) -> tuple[pd.DataFrame, Balance]:
    """The samples of a run, and two sets of them."""
    samples = ForgetSet.load(ScoreFiles(scored).samples).frame
    ids = tuple(samples["sample_id"])
    balance = balanced(pool(), config(sets=2))
    places = {f"s{i}": sample for i, sample in enumerate(ids)}
    named = [replace(each, sample_ids=tuple(map(places.__getitem__, each.sample_ids))) for each in balance.sets]
    return samples, replace(balance, sets=tuple(named))


def test_files_read_as_the_same_samples_and_as_openunlearning_wants_them(
    drawn: tuple[pd.DataFrame, Balance], tmp_path: Path
) -> None:
    samples, balance = drawn
    written = write_splits(tmp_path / "out" / "fair", samples, balance, config(sets=2))
    with zipfile.ZipFile(io.BytesIO(splits_archive(samples, balance, config(sets=2)))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: (tmp_path / "out" / "fair" / name).read_bytes() for name in written
        }
    folder = tmp_path / "out" / "fair"
    assert {path.name for path in folder.iterdir()} == set(written)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fair"]
    assert folder.stat().st_mode & 0o777 == 0o700
    for each in balance.sets:
        forget, retain = (
            read(ForgetSetConfig(source=str(folder / f"{part}-{each.name}.jsonl"))).frame
            for part in ("forget", "retain")
        )
        inside = samples["sample_id"].isin(each.sample_ids)
        columns = ["sample_id", "prompt", "answer", "training_count"]
        pd.testing.assert_frame_equal(forget[columns], samples[inside][columns].reset_index(drop=True))
        pd.testing.assert_frame_equal(retain[columns], samples[~inside][columns].reset_index(drop=True))
        rows = [json.loads(line) for line in (folder / f"forget-{each.name}.jsonl").read_text().splitlines()]
        assert {"question", "answer"} <= set(rows[0])
    report = json.loads((folder / "balance.json").read_text())
    assert [each["samples"] for each in report["sets"]] == [list(each.sample_ids) for each in balance.sets]
    assert balance.sentence in (folder / "balance.md").read_text()


@pytest.mark.parametrize("prompts", ["none", "some"])
def test_plain_text_is_written_as_text_and_what_jsonl_cannot_carry_is_refused(
    drawn: tuple[pd.DataFrame, Balance], tmp_path: Path, prompts: str
) -> None:
    samples, balance = drawn
    plain = samples.assign(prompt="" if prompts == "none" else samples["prompt"].where(samples.index > 30, ""))
    if prompts == "some":
        with pytest.raises(UserError, match="would not read the same from JSON Lines"):
            write_splits(tmp_path / "fair", plain, balance, config())
        assert list(tmp_path.iterdir()) == []
        return
    write_splits(tmp_path / "fair", plain, balance, config())
    forget = read(ForgetSetConfig(source=str(tmp_path / "fair" / "forget-1.jsonl"))).frame
    assert set(forget["prompt"]) == {""}
    assert "text" in json.loads((tmp_path / "fair" / "forget-1.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize("obstacle", ["content", "file"])
def test_nothing_is_written_over_or_half(
    drawn: tuple[pd.DataFrame, Balance], tmp_path: Path, obstacle: str
) -> None:
    target = tmp_path / "fair"
    if obstacle == "content":
        target.mkdir()
        (target / "kept").write_text("kept")
    else:
        target.write_text("kept")
    with pytest.raises(UserError, match="cannot be a new folder"):
        write_splits(target, *drawn, config())
    assert ((target / "kept") if obstacle == "content" else target).read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_draw_left_behind_is_gone_after_the_next(
    drawn: tuple[pd.DataFrame, Balance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if not child:
        monkeypatch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        write_splits(tmp_path / "fair", *drawn, config())
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name != "fair"
    assert left.stat().st_mode & 0o077 == 0
    write_splits(tmp_path / "fair", *drawn, config())
    assert [path.name for path in tmp_path.iterdir()] == ["fair"]


def test_the_command_draws_writes_and_repeats_itself(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    words = ["balance", str(scored), "--size", "12", "--group", "4", "--seed", "3"]
    outcomes = [CliRunner().invoke(door, [*words, "--json", "--out", str(tmp_path / name)]) for name in "ab"]
    results = [json.loads(outcome.stdout) for outcome in outcomes]
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert results[0] == results[1]
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["balance.csv", "balance.json", "balance.md", "forget.jsonl", "retain.jsonl"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    forget, retain = (read(ForgetSetConfig(source=str(tmp_path / "a" / name))) for name in files[3:])
    assert (len(forget), len(retain)) == (12, ROWS - 12)
    assert {row["column"] for row in results[0]["columns"] if row["role"] == BALANCED} == {
        "mrd_answer_mean",
        "n_tokens",
    }
    # The set that was drawn can be audited, and matched again.
    given = str(tmp_path / "a" / "forget.jsonl")
    audit = CliRunner().invoke(door, ["audit", "set", str(scored), given, "--group", "4", "--json"])
    assert json.loads(audit.stdout)["verdict"] == "cannot tell"
    printed = CliRunner().invoke(door, [*words, "--like", given])
    assert (printed.exit_code, printed.output.startswith("Drawn: 1 forget set of 12 samples.")) == (0, True)
