"""Which spaCy pipeline reads the texts, and why that one.

Only an installed package or the pipeline that ships with the project is ever loaded, never a path: a pipeline can
bring code that runs when it is loaded.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mrd_core.errors import UserError

if TYPE_CHECKING:
    from spacy.language import Language

Scheme = Literal["UD", "CLEAR"]

SHIPPED = Path(__file__).parent / "english"
SHIPPED_LANGUAGE = "en"
# Best first: accuracy grows with size.
SIZES = ("trf", "lg", "md", "sm")
TRANSFORMERS = ("spacy_curated_transformers", "spacy_transformers")
RUNS_TRANSFORMERS = "spacy-curated-transformers"
# The longest text that is parsed in one piece, in characters. The parser's memory grows with it.
LONGEST = 40_000
# No feature looks at entities, categories or a second opinion on where sentences end.
UNUSED = (
    *("ner", "entity_linker", "entity_ruler", "span_ruler", "spancat", "spancat_singlelabel"),
    *("textcat", "textcat_multilabel", "senter"),
)
# Labels that only one of the two annotation schemes has.
SCHEMES: dict[Scheme, frozenset[str]] = {"UD": frozenset({"obj", "case"}), "CLEAR": frozenset({"dobj", "prep"})}


@dataclass(frozen=True)
class Choice:
    """The pipeline that would read, before it is loaded.

    Attributes:
        name: Of the installed package, or what the shipped pipeline is called.
        version: Of that pipeline.
        language: ISO 639-1 code.
        reason: Why this one, for people.
        shipped: Whether it is the one that ships with the project.
    """

    name: str
    version: str
    language: str
    reason: str
    shipped: bool


@dataclass(frozen=True)
class Pipeline(Choice):
    """A chosen pipeline, loaded.

    Attributes:
        nlp: Tags parts of speech, lemmatises and parses; refuses texts of more than `LONGEST` characters.
        scheme: Whose dependency labels the parser gives: Universal Dependencies, or those of CLEAR (Choi & Palmer
            2012) as in spaCy's own English pipelines.
        attachment: Unlabelled and labelled attachment score on its test part, in [0, 1], where it states them.
    """

    nlp: Language
    scheme: Scheme
    attachment: tuple[float, float] | None


def choose(name: str = "auto", language: str = "en") -> Choice:
    """Choose a pipeline without loading it, nor spaCy.

    Args:
        name: `auto` takes the best installed one of the language, else the shipped one; `shipped`; or the name of
            an installed package.
        language: ISO 639-1 code.

    Raises:
        UserError: There is none for the language, it is not installed, or it reads another language.
    """
    if name == "auto":
        return _best(language)
    choice = _shipped("it was asked for") if name == "shipped" else _installed(name)
    if choice.language != language:
        raise UserError(
            f"Pipeline “{name}”",
            f"reads “{choice.language}”, and the language of the texts is set to “{language}”.",
            "Choose a pipeline of that language, or set the language to the pipeline's.",
        )
    return choice


def load(name: str = "auto", language: str = "en") -> Pipeline:
    """Load the pipeline that `choose` chooses, without what no feature needs.

    Raises:
        UserError: As `choose`; or it cannot be loaded, does not parse or tag, or labels dependencies in a scheme
            that the features do not know.
    """
    from spacy.util import load_model_from_package, load_model_from_path

    choice = choose(name, language)
    try:
        if choice.shipped:
            nlp = load_model_from_path(SHIPPED, exclude=UNUSED)
        else:
            nlp = load_model_from_package(choice.name, exclude=UNUSED)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(
            f"Pipeline “{choice.name}” {choice.version}",
            f"cannot be loaded by this spaCy: {error}",
            f"Install a version that fits with `python -m spacy download {choice.name}`, or choose `shipped`.",
        ) from error
    nlp.max_length = LONGEST
    scheme = _scheme(nlp, choice.name)
    # Whichever of the components gives the tags.
    if not nlp("A word.").has_annotation("POS"):
        raise _lacking(choice.name, "does not tag parts of speech")
    performance = nlp.meta.get("performance", {})
    stated = {"dep_uas", "dep_las"} <= performance.keys()
    attachment = (float(performance["dep_uas"]), float(performance["dep_las"])) if stated else None
    return Pipeline(**vars(choice), nlp=nlp, scheme=scheme, attachment=attachment)


def installed() -> dict[str, str]:
    """Return the versions of the installed spaCy pipelines by name; loads none."""
    return {name: _version(entry) for name, entry in sorted(_packages().items())}


def _packages() -> dict[str, EntryPoint]:
    """Return the packages that declare themselves as spaCy pipelines."""
    return {entry.name: entry for entry in entry_points(group="spacy_models")}


def _version(entry: EntryPoint) -> str:
    return entry.dist.version if entry.dist else ""


def _best(language: str) -> Choice:
    """Return the most accurate installed package of the language that can run here, else the shipped pipeline."""
    of_language = re.compile(rf"{re.escape(language)}_(core|dep)_\w+")
    candidates = sorted(filter(of_language.fullmatch, _packages()))
    ranks = {size: rank for rank, size in enumerate(SIZES)}
    candidates.sort(key=lambda name: ranks.get(name.rpartition("_")[2], len(SIZES)))
    idle = [name for name in candidates if _needs_transformers(name)]
    left_out = f"; {', '.join(idle)} is left out for want of {RUNS_TRANSFORMERS}" if idle else ""
    usable = [name for name in candidates if name not in idle]
    if usable:
        return _described(usable[0], f"the most accurate installed pipeline for “{language}”{left_out}")
    if language == SHIPPED_LANGUAGE:
        return _shipped(f"it ships with the project, and no other pipeline for English can be used{left_out}")
    raise UserError(
        f"Language “{language}”",
        "has no installed spaCy pipeline, and the one that ships with the project reads English.",
        f"Install one from https://spacy.io/models with `python -m spacy download`, by its name "
        f"({language}_core_…_sm or alike), or set another language.",
    )


def _needs_transformers(name: str) -> bool:
    """Return whether the pipeline is a transformer and what runs it is missing."""
    return name.endswith("_trf") and not any(map(find_spec, TRANSFORMERS))


def _shipped(reason: str) -> Choice:
    meta = json.loads((SHIPPED / "meta.json").read_text(encoding="utf-8"))
    return Choice(f"{meta['lang']}_{meta['name']}", meta["version"], meta["lang"], reason, shipped=True)


def _installed(name: str) -> Choice:
    if name not in _packages():
        raise UserError(
            f"Pipeline “{name}”",
            "is not an installed spaCy pipeline.",
            "Install it with `python -m spacy download`, or choose `auto` or `shipped`; a path is not taken.",
        )
    if _needs_transformers(name):
        raise UserError(
            f"Pipeline “{name}”",
            "is a transformer, and what runs it is not installed.",
            f"Install {RUNS_TRANSFORMERS}, or choose another pipeline.",
        )
    return _described(name, "it was asked for")


def _described(name: str, reason: str) -> Choice:
    return Choice(name, _version(_packages()[name]), name.partition("_")[0], reason, shipped=False)


def _scheme(nlp: Language, name: str) -> Scheme:
    """Return the annotation scheme of the parser's labels."""
    labels = frozenset(nlp.pipe_labels.get("parser", ()))
    if not labels:
        raise _lacking(name, "does not parse")
    for scheme, marks in SCHEMES.items():
        if marks <= labels:
            return scheme
    raise _lacking(name, "labels dependencies neither as Universal Dependencies nor as CLEAR does")


def _lacking(name: str, what: str) -> UserError:
    return UserError(
        f"Pipeline “{name}”",
        f"{what}, and the linguistic features are computed from that.",
        "Choose another pipeline; for English `shipped` will do.",
    )
