"""A release says of itself one version and one date, and how it is to be cited."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from mrd_core import __version__
from tests.conftest import REPOSITORY

# What the Citation File Format 1.2.0 requires of a file, and of each work that one refers to.
REQUIRED = {"cff-version", "message", "title", "authors"}
REQUIRED_OF_A_WORK = {"type", "title", "authors"}


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    return content


def test_the_changes_begin_with_this_version_and_the_citation_has_its_date(citation: dict[str, Any]) -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert releases[0] == (__version__, str(citation["date-released"]))
    assert citation["version"] == __version__
    assert releases == sorted(releases, reverse=True)
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_is_complete_and_names_the_paper(citation: dict[str, Any]) -> None:
    assert REQUIRED - citation.keys() == set()
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The MRD Lens authors"}]
    (paper,) = citation["references"]
    assert REQUIRED_OF_A_WORK - paper.keys() == set()
    assert paper["url"] == "https://arxiv.org/abs/2504.06658"
    assert [identifier["value"] for identifier in paper["identifiers"]] == ["arXiv:2504.06658"]
