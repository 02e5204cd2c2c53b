"""Small errors in the mathematical modules: made as promised, and noticed by the tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.support.mutants import LISTED, MODULES, listed, mutants, path_of, sample

SOURCE = '''
LIMIT = 3

class Rule:
    share: float = 0.5

    def holds(self, x: float = -1.0) -> bool:
        """Not changed: 7."""
        if not x:
            raise ValueError(f"{x} < 0: {1 + 1}")
        return x * 2 >= self.share and x != LIMIT
'''
MUTANTS = [
    "m: 3 → 4",
    "m.Rule: 0.5 → 0.75",
    "m.Rule.holds: -1.0 → +1.0",
    "m.Rule.holds: 1.0 → 1.5",
    "m.Rule.holds: not x → not not x",
    "m.Rule.holds: x * 2 >= self.share and x != LIMIT → x * 2 >= self.share or x != LIMIT",
    "m.Rule.holds: x * 2 >= self.share → x * 2 > self.share",
    "m.Rule.holds: x * 2 → x / 2",
    "m.Rule.holds: 2 → 3",
    "m.Rule.holds: x != LIMIT → x == LIMIT",
]


def test_every_operator_comparison_condition_and_number_is_changed_and_no_message() -> None:
    assert [mutant.name for mutant in mutants("m", SOURCE)] == MUTANTS


def test_a_mutant_has_its_one_error_and_can_be_run() -> None:
    (doubled,) = [mutant for mutant in mutants("m", SOURCE) if "x / 2" in mutant.name]
    names: dict[str, object] = {}
    exec(compile(doubled.tree(SOURCE), "m.py", "exec"), names)
    holds = names["Rule"]().holds  # type: ignore[operator]
    assert (holds(0.5), holds(1.0)) == (False, True)


def test_equal_changes_in_one_function_have_different_names() -> None:
    assert [mutant.name for mutant in mutants("m", "x = [1, 1]")] == ["m: 1 → 2", "m: 1 → 2 (2)"]


def test_the_sample_is_the_same_after_an_edit_elsewhere() -> None:
    before = sample(mutants("m", SOURCE), 4)
    after = sample(mutants("m", SOURCE.replace("LIMIT = 3", "LIMIT = int('3')")), 4)
    assert len({mutant.name for mutant in before} & {mutant.name for mutant in after}) >= 3


def test_modules_and_their_tests_are_there_and_what_is_listed_can_still_be_made() -> None:
    assert [file for files in MODULES.values() for file in files if not (REPOSITORY / file).is_file()] == []
    made = {mutant.name for name in MODULES for mutant in mutants(name, path_of(name).read_text(encoding="utf-8"))}
    assert listed() - made == set(), f"{LISTED.name} lists mutants of code that is no longer so"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("module", MODULES)
def test_an_error_in_a_mathematical_module_is_noticed_by_its_tests(module: str) -> None:
    command = [sys.executable, "-m", "tests.support.mutants", module]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
