"""A stratum is saved by name and reads back as a forget set with the same ids, prompts and answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.samples import ForgetSet, read, save_stratum, saved_strata
from mrd_core.samples.config import ForgetSetConfig
from tests.support import tiny

WHOLE = tiny.forget_set(("Who?", "Ann"), ("Where?", "in a house"), ("When?", "late"))
DEMO = read(ForgetSetConfig(source="demo"))


@pytest.mark.parametrize(
    "whole",
    [
        DEMO,
        tiny.forget_set(("", "plain text"), ("", "more of it")),
        tiny.forget_set(("Who?", "Ann"), ("Where?", "there"), ("", "['a', 'b']")),
    ],
    ids=["demo", "text", "some prompts are blank"],
)
def test_a_stratum_reads_back_as_the_same_samples(whole: ForgetSet, tmp_path: Path) -> None:
    kept = list(whole.frame["sample_id"])[::-2]
    back = read(ForgetSetConfig(source=str(save_stratum(whole, kept, "hard ones", tmp_path))))
    columns = ["sample_id", "prompt", "answer"]
    expected = whole.frame[whole.frame["sample_id"].isin(kept)]
    assert back.frame[columns].to_numpy().tolist() == expected[columns].to_numpy().tolist()


def test_training_counts_and_splits_are_kept(tmp_path: Path) -> None:
    back = read(ForgetSetConfig(source=str(save_stratum(DEMO, DEMO.frame["sample_id"], "all", tmp_path))))
    assert list(back.frame["training_count"]) == list(DEMO.frame["training_count"])
    assert list(back.frame["split"]) == list(DEMO.frame["split"])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 61, "a\nb"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot name a file"):
        save_stratum(WHOLE, ["s0"], name, tmp_path)
    assert saved_strata(tmp_path) == {}


def test_a_taken_name_is_refused_and_the_file_left_alone(tmp_path: Path) -> None:
    before = save_stratum(WHOLE, ["s0"], "one", tmp_path).read_bytes()
    with pytest.raises(UserError, match="is taken"):
        save_stratum(WHOLE, ["s1"], "one", tmp_path)
    assert saved_strata(tmp_path)["one"].read_bytes() == before


def test_an_empty_stratum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample"):
        save_stratum(WHOLE, ["nobody"], "none", tmp_path)
