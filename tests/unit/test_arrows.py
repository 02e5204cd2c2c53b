"""mrd_core measures, analysis judges, pages show: imports run one way, and what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("mrd_core", "analysis", "pages", "cli", "benchmarks")
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}

# Libraries that take long to load.
SLOW = {"torch", "transformers", "peft", "streamlit", "datasets", "rouge_score", "spacy", "thinc"}
SLOW |= {"lexicalrichness", "wordfreq", "matplotlib"}

# Of no module.
VERSION = "mrd_core.__version__"
# What analysis may know of mrd_core: what it reads, and no model.
LIGHT = (
    "mrd_core.settings",
    "mrd_core.errors",
    "mrd_core.arrays",
    "mrd_core.samples",
    "mrd_core.runs",
    "mrd_core.demo.corpus",
    "mrd_core.demo.scale",
    "mrd_core.dossier.files",
    "analysis.characteristics.config",
    "mrd_core.model.config",
    "mrd_core.scoring.columns",
    "mrd_core.scoring.config",
    "mrd_core.scoring.files",
    "mrd_core.scoring.imported",
    "mrd_core.scoring.draws",
    "mrd_core.scoring.measures",
    "mrd_core.scoring.records",
    "mrd_core.unlearning.config",
    "mrd_core.unlearning.curves",
    "mrd_core.unlearning.damage",
    "mrd_core.unlearning.files",
    "mrd_core.unlearning.methods",
    "mrd_core.unlearning.records",
    "mrd_core.unlearning.sampling",
    "mrd_core.unlearning.stopping",
    "mrd_core.experiments.config",
    "mrd_core.experiments.experiment",
    "mrd_core.experiments.kinds",
    "mrd_core.experiments.files",
    "mrd_core.evaluation.config",
    "mrd_core.evaluation.files",
    "mrd_core.evaluation.sets",
    "mrd_core.evaluation.suites",
    "mrd_core.evaluation.metrics",
    "mrd_core.evaluation.aggregates",
    "mrd_core.evaluation.truth",
    "mrd_core.evaluation.privacy",
    "mrd_core.evaluation.soundness",
    "mrd_core.evaluation.interchange",
    "mrd_core.scoring.command",
    "mrd_core.unlearning.command",
    "mrd_core.evaluation.command",
    "mrd_core.experiments.command",
)


@dataclass(frozen=True)
class Rule:
    """What the files of a room may not import, `but` these; of mrd_core, `only` these where given."""

    forbidden: tuple[str, ...]
    only: tuple[str, ...] | None = None
    but: tuple[str, ...] = ()


RULES = {
    "mrd_core": Rule(("streamlit", "plotly", "analysis", "pages", "cli", "app")),
    "analysis": Rule(("streamlit", "torch", "transformers", "peft", "pages", "cli", "app", "benchmarks"), LIGHT),
    "pages": Rule(("torch", "transformers", "peft", "cli", "app", "benchmarks", "tests")),
    "cli": Rule(("streamlit", "transformers", "peft", "pages", "app", "benchmarks", "tests")),
    # The messages that sessions and server exchange are no page.
    "benchmarks": Rule(("streamlit", "pages", "app", "tests"), but=("streamlit.proto",)),
    "app": Rule(("torch", "transformers", "peft", "cli", "benchmarks", "tests")),
}


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of these packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imported(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, wherever it stands; `from a import b` gives a.b.

    Args:
        source: Python source.
        module: Its dotted name, which relative imports start from; a package's ends in `.__init__`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = [*above, node.module] if node.module else above
            yield from ((node.lineno, ".".join([*origin, alias.name])) for alias in node.names)


def wrong_arrows(source: str, module: str) -> list[str]:
    """Return every import of a module that its room forbids, as `module:line imports name`."""
    rule = RULES[module.split(".")[0]]
    return [
        f"{module}:{line} imports {name}"
        for line, name in imported(source, module)
        if (within(name, rule.forbidden) and not within(name, rule.but))
        or (rule.only is not None and within(name, ("mrd_core",)) and not within(name, (*rule.only, VERSION)))
    ]


def sources() -> list[Path]:
    """Return every source file of the product, relative to the repository."""
    files = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
    return [path.relative_to(REPOSITORY) for path in [*files, *REPOSITORY.glob("app.py")]]


def test_every_room_is_looked_at() -> None:
    assert {path.parts[0].removesuffix(".py") for path in sources()} == set(RULES)


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_run_one_way(path: Path) -> None:
    source = (REPOSITORY / path).read_text(encoding="utf-8")
    assert wrong_arrows(source, ".".join(path.with_suffix("").parts)) == []


# Packages of a room from the ground up: each imports those below its own floor, and none beside it.
FLOORS = {
    "mrd_core": (
        {"arrays", "errors"},
        {"settings"},
        {"demo"},
        {"samples", "runs"},
        {"model"},
        {"scoring"},
        {"evaluation"},
        {"unlearning"},
        {"experiments"},
        {"studies"},
        {"dossier"},
    ),
    "analysis": (
        {"statistics", "text", "redaction"},
        {"features", "difficulty", "elsewhere"},
        {"characteristics", "comparison", "contrast", "evidence", "scale", "unlearning"},
        {"lesson", "sets"},
        {"audit"},
        {"figures", "verdict", "glossary"},
        {"export"},
        {"report"},
    ),
}
Arrows = dict[str, set[str]]


def package_of(module: str) -> str:
    """Return the package that a dotted name lies in, as the floors name it: mrd_core.runs, pages.parts.compare."""
    depth = 3 if within(module, ("pages.parts",)) else 2
    return ".".join(module.split(".")[:depth])


@cache
def arrows(room: str) -> Arrows:
    """Return which packages of a room each of its packages imports."""
    modules = [".".join(path.with_suffix("").parts) for path in sources() if path.parts[0] == room]
    packages = {package_of(module) for module in modules}
    imports: Arrows = {package: set() for package in packages}
    for module in modules:
        source = (REPOSITORY / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        imports[package_of(module)] |= {package_of(name) for _, name in imported(source, module)} & packages
    return {package: wanted - {package} for package, wanted in imports.items()}


def is_allowed(package: str, wanted: str) -> bool:
    """Tell whether a package may import another one of its room."""
    room, name = package.split(".", 1)
    if room == "pages":
        own_part = {package, f"pages.parts.{name}"}
        return (wanted == "pages.shell" and package != wanted) or wanted in own_part
    height = {member: at for at, floor in enumerate(FLOORS[room]) for member in floor}
    return height[wanted.split(".")[1]] < height[name]


def circle(imports: Arrows) -> list[str]:
    """Return the packages that import one another in a circle; none where there is no circle."""
    left = dict(imports)
    while free := [package for package, wanted in left.items() if not wanted & left.keys()]:
        for package in free:
            del left[package]
    return sorted(left)


def packages_of_rooms() -> list[str]:
    """Return every package."""
    return [
        package
        for room in ("mrd_core", "analysis", "pages")
        for package in sorted(arrows(room))
        if not package.endswith("__init__")
    ]


@pytest.mark.parametrize("package", packages_of_rooms())
def test_packages_import_downwards(package: str) -> None:
    wanted = arrows(package.split(".")[0])[package]
    assert [name for name in sorted(wanted) if not is_allowed(package, name)] == []


@pytest.mark.parametrize("room", ["mrd_core", "analysis", "pages", "cli"])
def test_no_packages_import_one_another_in_a_circle(room: str) -> None:
    assert circle(arrows(room)) == []


def test_a_circle_is_found_and_so_is_an_arrow_upwards() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["a", "b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert not is_allowed("mrd_core.runs", "mrd_core.scoring")
    assert not is_allowed("analysis.evidence", "analysis.comparison")
    assert not is_allowed("pages.parts.compare", "pages.parts.evidence")
    assert not is_allowed("pages.shell", "pages.parts.evidence")
    assert not is_allowed("pages.compare", "pages.parts.evidence")
    assert is_allowed("pages.compare", "pages.parts.compare")
    assert is_allowed("pages.parts.compare", "pages.shell")
    assert is_allowed("mrd_core.experiments", "mrd_core.model")


def test_no_module_is_named_for_nothing() -> None:
    assert [path for path in sources() if {*path.parts[:-1], path.stem} & NAMELESS] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mrd_core.scoring.mrd", "import streamlit as st"),
        ("mrd_core.scoring.mrd", "import plotly.graph_objects as go"),
        ("mrd_core.scoring.mrd", "def late():\n    from analysis import figures"),
        ("mrd_core.scoring.mrd", "if True:\n    import pages.shell"),
        ("mrd_core.runs.store", "from ...pages import start"),
        ("analysis.figures.difficulty", "import torch"),
        ("analysis.figures.difficulty", "from streamlit import write"),
        ("analysis.figures.difficulty", "from mrd_core.model import loading"),
        ("analysis.figures.difficulty", "from mrd_core.scoring import plan"),
        ("analysis.figures.difficulty", "from mrd_core.scoring.drawing import draw"),
        ("analysis.figures.difficulty", "import mrd_core"),
        ("analysis.difficulty", "from .. import pages"),
        ("benchmarks.score", "import streamlit"),
        ("pages.start", "import torch"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str) -> None:
    assert len(wrong_arrows(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "mrd_core.scoring.mrd",
            "import torch\nfrom mrd_core.scoring.draws import Draws\nimport plotly_free, analysis_free",
        ),
        ("mrd_core.runs.__init__", "from .store import RunStore"),
        ("analysis.difficulty", "from mrd_core.samples.config import Scope\nfrom mrd_core.scoring import files"),
        ("analysis.difficulty", "from mrd_core.scoring import draws, files\nimport plotly"),
        ("pages.start", "import streamlit\nfrom analysis import figures\nfrom pages.shell import session"),
        ("app", "import streamlit"),
    ],
)
def test_a_right_arrow_is_let_through(module: str, source: str) -> None:
    assert wrong_arrows(source, module) == []


# What is looked at while nothing is computed: costs, rules, cards. Beside LIGHT, free of a model as well.
COSTS_AND_RULES = (
    "mrd_core.evaluation.overlap",
    "mrd_core.experiments.cost",
    "mrd_core.runs.worker",
    "mrd_core.scoring.cost",
    "mrd_core.studies.course",
    "mrd_core.studies.outcome",
    "mrd_core.studies.presets",
    "mrd_core.unlearning.card",
    "mrd_core.unlearning.cost",
    "mrd_core.unlearning.stopping",
)
ANALYSIS = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in (REPOSITORY / "analysis").rglob("[!_]*.py")
    # The pipeline's training script uses spaCy's own settings.
    if path.stem != "train"
)
FOR_PAGES = [*LIGHT, *COSTS_AND_RULES, "analysis", *ANALYSIS]
# Prints what is loaded after each import, a line a module: in one process, or each module as the first one, in a
# process that is forked from one that has loaded what all of them need.
TOGETHER = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *sys.modules, flush=True)
"""
APART = """
import importlib, os, sys
import numpy, pandas, plotly.graph_objects, pyarrow, pydantic, scipy.stats
for module in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
            print(module, *sys.modules, flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def loaded(probe: str) -> dict[str, set[str]]:
    """Return what is loaded once a module is, by module; those that could not be imported are missing."""
    command = [sys.executable, "-c", probe, *FOR_PAGES]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.splitlines()
    return {line.split()[0]: set(line.split()[1:]) for line in lines}


@pytest.mark.slow
def test_what_pages_import_loads_no_model_library_and_no_reader_of_texts() -> None:
    modules = loaded(TOGETHER)
    assert list(modules) == list(dict.fromkeys(FOR_PAGES))
    assert [(name, *sorted(SLOW & modules[name])) for name in FOR_PAGES if SLOW & modules[name]] == []
    assert "plotly" not in modules[COSTS_AND_RULES[-1]], "what comes before analysis draws no figures"


@pytest.mark.slow
@pytest.mark.long
def test_each_of_them_can_be_the_first_that_is_imported() -> None:
    modules = loaded(APART)
    assert set(FOR_PAGES) - set(modules) == set()
    assert [name for name in FOR_PAGES if SLOW & modules[name]] == []
