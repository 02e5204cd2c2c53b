"""Would the tests notice? Small errors are put into the mathematical modules, one at a time, and their tests run.

python -m tests.support.mutants [MODULE …] [--most N]

A mutant changes one operator, comparison, condition or number of one module in memory; no file is touched.
A hash of each mutant's own name decides which are tried, so an edit elsewhere changes nothing. One that no test
notices has to stand in docs/mutations.md with the reason; otherwise the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import hashlib
import importlib.abc
import importlib.util
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = ROOT / "docs" / "mutations.md"
# Each module with the files that test it; those marked slow are left out.
MODULES = {
    "analysis.statistics.bootstrap": ("tests/unit/test_bootstrap.py",),
    "analysis.statistics.censored": ("tests/unit/test_evidence_statistics.py",),
    "analysis.statistics.flips": ("tests/unit/test_evidence_statistics.py",),
    "analysis.statistics.groups": ("tests/unit/test_statistics.py",),
    "analysis.statistics.regime": ("tests/unit/test_evidence_statistics.py",),
    "analysis.statistics.slope": ("tests/unit/test_evidence_statistics.py",),
    "mrd_core.evaluation.aggregates": (
        *("tests/unit/test_evaluation_truth.py", "tests/unit/test_comparison.py"),
        "tests/unit/test_evaluation_privacy.py",
    ),
    "mrd_core.evaluation.privacy": ("tests/unit/test_evaluation_privacy.py",),
    "mrd_core.evaluation.truth": ("tests/unit/test_evaluation_truth.py",),
    "mrd_core.model.likelihood": ("tests/unit/test_likelihood.py",),
    "mrd_core.model.perturbation": ("tests/unit/test_perturbation.py",),
    "mrd_core.scoring.draws": ("tests/unit/test_draws.py",),
    "mrd_core.scoring.pilot": ("tests/unit/test_pilot.py",),
    "mrd_core.unlearning.losses": ("tests/unit/test_losses.py",),
    "mrd_core.unlearning.sampling": ("tests/unit/test_sampling.py",),
    "mrd_core.unlearning.stopping": ("tests/unit/test_stopping.py",),
}
MOST = 8  # mutants of a module in one run
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
CONDITIONAL = (ast.If, ast.IfExp, ast.While)


@dataclass(frozen=True)
class Mutant:
    """One small error.

    Attributes:
        name: `module.function: before → after`, with a number where that occurs more than once.
        place: Which of the module's changeable nodes is changed, counted in the order of the source.
        way: In which of its ways.
    """

    name: str
    place: int
    way: int

    def tree(self, source: str) -> ast.Module:
        """Return the syntax tree of the module with the error in it."""
        tree = ast.parse(source)
        change([node for _, node in changeable(tree, "")][self.place], self.way)
        return ast.fix_missing_locations(tree)


def mutants(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of the source."""
    names: Counter[str] = Counter()
    made = []
    for place, (function, node) in enumerate(changeable(ast.parse(source), module)):
        before = _said(node)
        for way in range(ways(node)):
            changed = copy.deepcopy(node)
            change(changed, way)
            name = f"{function}: {before} → {_said(changed)}"
            names[name] += 1
            again = f" ({names[name]})" if names[name] > 1 else ""
            made.append(Mutant(name + again, place, way))
    return made


def changeable(node: ast.AST, place: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield what can be changed, with the dotted name of where it stands; no annotations and no messages."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.Raise, ast.JoinedStr)):
                continue
            inside = f"{place}.{child.name}" if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else place
            if ways(child):
                yield place, child
            yield from changeable(child, inside)


def ways(node: ast.AST) -> int:
    """Return in how many ways a node can be changed."""
    if isinstance(node, ast.Compare):
        return sum(type(operator) in SWAPPED for operator in node.ops)
    if isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)):
        return int(type(node.op) in SWAPPED)
    if isinstance(node, ast.UnaryOp):
        return int(isinstance(node.op, (ast.USub, ast.Not)))
    if isinstance(node, ast.Constant):
        return int(isinstance(node.value, (bool, int, float)))
    # A comparison or a negation is changed by itself.
    return int(isinstance(node, CONDITIONAL) and not isinstance(node.test, (ast.Compare, ast.UnaryOp)))


def change(node: ast.AST, way: int) -> None:
    """Change a node in place, in one of its ways."""
    if isinstance(node, ast.Compare):
        node.ops[way] = SWAPPED[type(node.ops[way])]()  # type: ignore[call-overload]
    elif isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)):
        node.op = SWAPPED[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.UnaryOp):
        # −x becomes +x, and `not x` becomes `not not x`, which is as true as x.
        node.operand = node.operand if isinstance(node.op, ast.USub) else ast.UnaryOp(ast.Not(), node.operand)
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)
    elif isinstance(node, CONDITIONAL):
        node.test = ast.UnaryOp(ast.Not(), node.test)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 1.5 if isinstance(value, float) and value else 1.0


def _said(node: ast.AST) -> str:
    """Return a node as source; of a statement its condition alone."""
    return f"if {ast.unparse(node.test)}" if isinstance(node, CONDITIONAL) else ast.unparse(node)


def sample(candidates: Sequence[Mutant], most: int) -> list[Mutant]:
    """Return at most so many mutants, the same ones as long as their own functions do not change."""
    return sorted(candidates, key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())[:most]


class _Loader(SourceFileLoader):
    """Loads a module from a syntax tree in the place of its source."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        return compile(self.tree, self.get_filename(fullname), "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, with an error in it."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:  # type: ignore[override]
        if fullname != self.name:
            return None
        loader = _Loader(fullname, str(self.path), self.tree)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def path_of(module: str) -> Path:
    """Return the file of a module, without importing it."""
    return ROOT / Path(*module.split(".")).with_suffix(".py")


def _tested(module: str, tree: ast.Module) -> None:
    """Run a module's tests on this tree, in a process of its own, and end it with pytest's exit status."""
    sys.meta_path.insert(0, _Finder(module, path_of(module), tree))
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "-m", "not slow and not long and not gpu"]
        status = pytest.main([*options, *(str(ROOT / file) for file in MODULES[module])])
    os._exit(int(status))


def noticed(module: str, tree: ast.Module, seconds: float) -> bool:
    """Tell whether a module's tests fail on this tree, or do not end in time.

    Raises:
        ValueError: pytest found no tests, or did not understand how it was called.
    """
    process = multiprocessing.get_context("fork").Process(target=_tested, args=(module, tree))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise ValueError(f"pytest ran no test of {module}: exit status {process.exitcode}")
    return process.exitcode != 0


def listed() -> set[str]:
    """Return the names of the mutants that docs/mutations.md knows to survive."""
    return set(re.findall(r"^\| `([^`]+→[^`]+)` \|", LISTED.read_text(encoding="utf-8"), re.MULTILINE))


def survivors(module: str, most: int = MOST) -> list[str]:
    """Try a sample of a module's mutants, print how each fared, and return those that no test noticed."""
    source = path_of(module).read_text(encoding="utf-8")
    begun = time.monotonic()
    if noticed(module, ast.parse(source), 600):
        raise SystemExit(f"The tests of {module} fail without a mutant, too: {' '.join(MODULES[module])}")
    limit = 20 + 5 * (time.monotonic() - begun)
    surviving = []
    for mutant in sample(mutants(module, source), most):
        is_noticed = noticed(module, mutant.tree(source), limit)
        print("noticed " if is_noticed else "SURVIVED", mutant.name, flush=True)
        surviving += [] if is_noticed else [mutant.name]
    return surviving


def main() -> None:
    """Try the mutants of the modules that are named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE")
    parser.add_argument("--most", type=int, default=MOST, help=f"mutants of each module [default: {MOST}]")
    arguments = parser.parse_args()
    # What every child would load is loaded once; nothing of the project, which a child loads with the error.
    for name in ("torch", "transformers", "scipy.stats", "pandas", "pydantic"):
        importlib.import_module(name)
    surviving = [name for module in arguments.modules for name in survivors(module, arguments.most)]
    unlisted = [name for name in surviving if name not in listed()]
    print(f"{len(surviving)} survived, {len(unlisted)} of them not in {LISTED.relative_to(ROOT)}")
    if unlisted:
        raise SystemExit("\n".join(["No test notices:", *unlisted]))


if __name__ == "__main__":
    main()
