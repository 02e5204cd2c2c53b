"""What the reading of texts runs on in this installation, and why."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import NamedTuple

from analysis.features import features
from analysis.text.language import Detector
from analysis.text.pipeline.loading import Pipeline, installed, load
from mrd_core.errors import UserError

PACKAGES = ("spacy", "lexicalrichness", "wordfreq", "datasketch", "lingua-language-detector")
LANGUAGE = "en"


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    value: str
    why: str


def findings() -> list[Finding]:
    """Return versions, the pipeline that would read English, features and language detection, with reasons."""
    by_text = sum(feature.of is not None for feature in features())
    return [
        Finding("python", platform.python_version(), platform.platform()),
        *(Finding(package, version(package), "") for package in PACKAGES),
        *_pipeline(),
        Finding(
            "installed pipelines", _installed(), "packages that spaCy can load; the shipped one is not a package"
        ),
        Finding("features", str(len(features())), f"{by_text} of a text by itself, the others of the whole set"),
        Finding("language detection", LANGUAGE, Detector(LANGUAGE).method),
    ]


def _pipeline() -> list[Finding]:
    """Load the pipeline as a run would, so that one which does not work is found here."""
    try:
        pipeline = load(language=LANGUAGE)
    except UserError as error:
        return [Finding("pipeline", "none", str(error))]
    return [
        Finding("pipeline", f"{pipeline.name} {pipeline.version}", pipeline.reason),
        Finding("labels", pipeline.scheme, "of the dependencies, from its parser"),
        Finding("attachment", _attachment(pipeline), "unlabelled / labelled, on the pipeline's own test part"),
    ]


def _attachment(pipeline: Pipeline) -> str:
    return " / ".join(f"{score:.1%}" for score in pipeline.attachment) if pipeline.attachment else "not stated"


def _installed() -> str:
    return ", ".join(f"{name} {number}" for name, number in installed().items()) or "none"
