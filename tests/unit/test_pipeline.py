"""Which spaCy pipeline reads, why, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import spacy

from analysis.text.pipeline.loading import LONGEST, SHIPPED, choose, installed, load
from cli.doctor import findings
from mrd_core.errors import UserError
from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY

UD = ("nsubj", "obj", "case", "obl")
CLEAR = ("nsubj", "dobj", "prep", "pobj")
TIGER = ("sb", "oa", "mo", "nk")
INIT = """
from spacy.util import load_model_from_init_py

def load(**overrides):
    return load_model_from_init_py(__file__, **overrides)
"""


def declare(folder: Path, name: str, number: str = "3.8.0") -> Path:
    """Write what pip leaves of an installed pipeline of that name, and return its package."""
    metadata = folder / f"{name}-{number}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (metadata / "entry_points.txt").write_text(f"[spacy_models]\n{name} = {name}\n")
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(INIT)
    return package


def pack(folder: Path, name: str, labels: tuple[str, ...], tagged: bool = True) -> None:
    """Install an untrained pipeline with these dependency labels."""
    package = declare(folder, name)
    language, _, short = name.partition("_")
    nlp = spacy.blank(language)
    if tagged:
        nlp.add_pipe("morphologizer").add_label("POS=NOUN")  # type: ignore[attr-defined]
    if labels:
        parser = nlp.add_pipe("parser")
        for label in labels:
            parser.add_label(label)  # type: ignore[attr-defined]
    nlp.add_pipe("ner").add_label("PERSON")  # type: ignore[attr-defined]
    nlp.initialize()
    nlp.meta |= {"name": short, "version": "3.8.0"}
    data = package / f"{name}-3.8.0"
    nlp.to_disk(data)
    shutil.copy(data / "meta.json", package)


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make these, and nothing else, the installed packages."""

    def install(*names: str) -> Path:
        for name in names:
            declare(tmp_path, name)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        return tmp_path

    return install


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder whose packages count as installed beside the real ones."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_without_an_installed_one_the_shipped_pipeline_reads_english(only: Callable[..., Path]) -> None:
    only()
    choice = choose()
    assert choice.shipped
    assert choice.language == "en"
    assert "no other pipeline for English" in choice.reason
    assert choose("shipped").name == choice.name


@pytest.mark.parametrize(
    ("there", "best"),
    [
        (["en_core_web_sm"], "en_core_web_sm"),
        (["en_core_web_sm", "en_core_web_md"], "en_core_web_md"),
        (["en_core_web_md", "en_core_web_lg", "en_core_web_sm"], "en_core_web_lg"),
        (["en_core_web_trf", "en_core_web_sm"], "en_core_web_sm"),
        (["de_core_news_lg", "en_core_web_sm"], "en_core_web_sm"),
        (["en_ner_craft_lg", "en_core_web_sm"], "en_core_web_sm"),
    ],
)
def test_the_best_installed_pipeline_that_can_run_is_chosen(
    only: Callable[..., Path], there: list[str], best: str
) -> None:
    only(*there)
    choice = choose()
    assert (choice.name, choice.version, choice.shipped) == (best, "3.8.0", False)


def test_a_transformer_is_best_where_it_can_run(only: Callable[..., Path]) -> None:
    folder = only("en_core_web_trf", "en_core_web_lg")
    assert choose().name == "en_core_web_lg"
    assert "en_core_web_trf is left out for want of spacy-curated-transformers" in choose().reason
    with pytest.raises(UserError, match="curated-transformers"):
        choose("en_core_web_trf")
    (folder / "spacy_curated_transformers.py").touch()
    assert choose().name == "en_core_web_trf"
    assert choose("en_core_web_trf").reason == "it was asked for"


def test_another_language_is_read_by_its_own_pipeline_or_by_none(only: Callable[..., Path]) -> None:
    only("de_dep_news_sm", "de_core_news_md", "xx_ent_wiki_sm")
    assert choose(language="de").name == "de_core_news_md"
    with pytest.raises(UserError, match=r"“fr”.*spacy download"):
        choose(language="fr")


@pytest.mark.parametrize("name", ["os", "spacy", "en_core_web_none", str(SHIPPED), "../english", "blank:en", ""])
def test_only_installed_pipelines_have_a_name_that_is_taken(name: str) -> None:
    with pytest.raises(UserError, match="not an installed spaCy pipeline"):
        load(name)


def test_a_pipeline_of_another_language_is_refused(only: Callable[..., Path]) -> None:
    only("de_core_news_sm")
    with pytest.raises(UserError, match="reads “de”"):
        choose("de_core_news_sm", "en")
    with pytest.raises(UserError, match="reads “en”"):
        choose("shipped", "de")


def test_the_shipped_pipeline_parses_and_says_how_well() -> None:
    pipeline = load("shipped")
    assert pipeline.scheme == "UD"
    assert pipeline.attachment is not None
    assert pipeline.attachment >= (0.82, 0.78)
    doc = pipeline.nlp("The old woman read a letter.")
    assert [token.pos_ for token in doc] == ["DET", "ADJ", "NOUN", "VERB", "DET", "NOUN", "PUNCT"]
    lemmas = {token.dep_: token.lemma_ for token in doc}
    assert (lemmas["nsubj"], lemmas["ROOT"], lemmas["obj"]) == ("woman", "read", "letter")


def test_longer_texts_than_are_read_are_not_parsed() -> None:
    with pytest.raises(ValueError, match="exceeds maximum"):
        load("shipped").nlp("a " * LONGEST)


def test_an_installed_pipeline_is_loaded_without_what_no_feature_needs(packages: Path) -> None:
    pack(packages, "en_core_test_sm", CLEAR)
    pipeline = load("en_core_test_sm")
    assert (pipeline.scheme, pipeline.attachment, pipeline.version) == ("CLEAR", None, "3.8.0")
    assert pipeline.nlp.pipe_names == ["morphologizer", "parser"]


def test_a_pipeline_that_cannot_carry_the_features_is_refused(packages: Path) -> None:
    pack(packages, "en_core_unparsed_sm", ())
    pack(packages, "en_core_untagged_sm", UD, tagged=False)
    pack(packages, "en_core_tiger_sm", TIGER)
    declare(packages, "en_core_empty_sm")
    for name, why in {
        "en_core_unparsed_sm": "does not parse",
        "en_core_untagged_sm": "does not tag",
        "en_core_tiger_sm": "Universal Dependencies",
        "en_core_empty_sm": "cannot be loaded",
    }.items():
        with pytest.raises(UserError, match=why):
            load(name)


def test_choosing_loads_neither_spacy_nor_torch() -> None:
    code = (
        "import sys; from analysis.text.pipeline.loading import choose, installed; choose(); installed(); "
        "print({'torch', 'spacy', 'thinc'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_doctor_says_what_reads_and_why(packages: Path) -> None:
    declare(packages, "de_core_news_sm")
    report = {finding.what: finding for finding in findings(Settings.from_environment())}
    pipeline = load()
    assert report["spacy"].value == version("spacy")
    assert report["pipeline"].value == f"{pipeline.name} {pipeline.version}"
    assert report["pipeline"].why == pipeline.reason
    assert report["labels"].value == pipeline.scheme
    assert "de_core_news_sm 3.8.0" in report["installed pipelines"].value
    assert installed()["de_core_news_sm"] == "3.8.0"
    assert "lingua" in report["language detection"].why


def test_the_doctor_names_a_pipeline_that_is_chosen_and_does_not_load(packages: Path) -> None:
    declare(packages, "en_core_web_trf")
    (packages / "spacy_curated_transformers.py").touch()
    report = {finding.what: finding for finding in findings(Settings.from_environment())}
    assert report["pipeline"].value == "none"
    assert "en_core_web_trf" in report["pipeline"].why
