"""What tests of every kind share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def trial_data() -> Path:
    """Folder with real data sets and models (MRD_TRIAL_DATA); tests that need it are skipped without it."""
    folder = Path(os.environ.get("MRD_TRIAL_DATA", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no trial data in {folder}")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long is slow, too: `-m "not slow"` leaves both out."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
