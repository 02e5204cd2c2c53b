"""Whatever the documents name is there: files, headings, modules, functions; and no picture lies there unused."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from analysis import elsewhere
from analysis.characteristics.strata import CRITERIA
from cli.door import door
from tests.conftest import REPOSITORY

AT_THE_TOP = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS = [*AT_THE_TOP, *sorted((REPOSITORY / "docs").glob("*.md"))]
ROOMS = ("mrd_core", "analysis", "pages", "cli", "benchmarks", "tests")
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(rf"\b(?:{'|'.join(ROOMS)})(?:\.\w+)+")
PATH = re.compile(rf"(?<![\w/])(?:\.ci|docs|{'|'.join(ROOMS)})/[\w./-]*\w")
MODULE = re.compile(r"python3? -m ((?:\w+\.)*\w+)")
MOST_WORDS = 900
# A value with its interval.
FIGURE = re.compile(r"[+−]?\d*\.\d+ \[[^]]+\]")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and anchor ("" for none) of every link of a document that stays in the repository."""
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (document.parent / path).resolve() if path else document, anchor


def resolves(name: str) -> bool:
    """Tell whether a dotted name is a module, or something in one: `package.module.Class.attribute`."""
    module, *rest = name.split(".")
    thing: object = importlib.import_module(module)
    for part in rest:
        module = f"{module}.{part}"
        fields = getattr(thing, "model_fields", {}) | getattr(thing, "__annotations__", {})
        if hasattr(thing, part):
            thing = getattr(thing, part)
        elif part in fields:
            thing = fields[part]
        else:
            try:
                thing = importlib.import_module(module)
            except ModuleNotFoundError:
                return False
    return True


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    missing = [
        f"{path}#{anchor}"
        for path, anchor in links(document)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert missing == []


@each_document
def test_every_dotted_name_is_there(document: Path) -> None:
    names = {name for code in CODE.findall(document.read_text(encoding="utf-8")) for name in DOTTED.findall(code)}
    assert [name for name in sorted(names) if not resolves(name)] == []


@each_document
def test_every_path_and_every_module_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [path for path in PATH.findall(" ".join(CODE.findall(text))) if not (REPOSITORY / path).exists()] == []
    assert [name for name in MODULE.findall(text) if importlib.util.find_spec(name) is None] == []


def test_what_the_program_says_of_other_models_stands_in_the_findings() -> None:
    texts = [text for text in vars(elsewhere).values() if isinstance(text, str)]
    texts += [elsewhere.claim_in_figures(name) for name in elsewhere.CLAIMS]
    said = {figure for text in texts for figure in FIGURE.findall(text)}
    written = set(FIGURE.findall((REPOSITORY / "docs/findings.md").read_text(encoding="utf-8").replace("**", "")))
    assert len(said) > 20
    assert said <= written, sorted(said - written)
    assert set(elsewhere.CLAIMS) == {criterion.name for criterion in CRITERIA}


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_every_document_and_every_picture_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [REPOSITORY / "README.md"]
    while waiting:
        document = waiting.pop()
        new = {path for path, _ in links(document)} - reached
        reached |= new
        waiting += [path for path in new if path.suffix == ".md"]
    kept = {path for path in (REPOSITORY / "docs").rglob("*") if path.is_file()}
    assert kept - reached == set()


@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        ("mrd_core.scoring.draws.reliability", True),
        ("mrd_core.scoring.mrd.Estimator.unit", True),
        ("mrd_core.scoring.config.ScoreConfig.estimator", True),
        ("analysis.features.rare_words", True),
        ("mrd_core.scoring.draws.no_such_function", False),
        ("mrd_core.no_such_module.function", False),
    ],
)
def test_a_name_that_is_not_there_is_noticed(name: str, is_there: bool) -> None:
    assert resolves(name) is is_there


def commands(document: Path) -> Iterator[list[str]]:
    """Yield the words after `mrd-lens` of every command that a document shows, in blocks and in sentences."""
    text = re.sub(r"\\\n\s*", " ", document.read_text(encoding="utf-8"))
    for line in re.findall(r"mrd-lens ([^`\n|#]+)", text):
        yield shlex.split(line)


@each_document
def test_every_command_and_every_option_is_there(document: Path) -> None:
    for words in commands(document):
        command: click.Command = door
        # What stands behind is Streamlit's.
        rest = words[: words.index("--")] if "--" in words else list(words)
        while isinstance(command, click.Group) and rest and rest[0].islower():
            inner = command.get_command(click.Context(command), rest.pop(0))
            assert inner, words
            command = inner
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options | {"--help"}, words


def test_documents_show_commands() -> None:
    shown = [tuple(words) for document in DOCUMENTS for words in commands(document)]
    assert len(shown) > 10
    assert ("unlearn", "--help") in shown


def test_what_the_document_on_security_states_is_held_by_tests_that_exist() -> None:
    stated = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert len(stated) > 15
    assert {name for name in stated if f"def {name}(" not in sources} == set()
